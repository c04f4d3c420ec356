"""Common corruptions: 19 kinds in 5 severities (Hendrycks & Dietterich, arXiv:1903.12261).

The constants are the published ones, the code is not: everything is NumPy and Pillow, and frost
is drawn where the original lays photographs over the image. `apply.corrupt` makes them.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["BENCHMARK", "GROUPS", "KINDS", "SEVERITIES", "Constants"]

Constants = Literal["imagenet", "cifar"]
SEVERITIES = (1, 2, 3, 4, 5)
# the fifteen of the benchmark, then the four that it keeps for tuning
GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
KINDS = tuple(kind for group in GROUPS.values() for kind in group)
BENCHMARK = tuple(kind for kind in KINDS if kind not in GROUPS["extra"])
