"""A corruption by its name: pixels in, pixels out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from advcli.threats.corruptions import KINDS, Constants, blur, digital, frost, noise, weather
from advcli.threats.corruptions.constants import CIFAR, IMAGENET
from advcli.threats.corruptions.signal import Array

__all__ = ["constants_for", "corrupt"]

_FUNCTIONS: dict[str, Callable[[Array, Any, np.random.Generator], Array]] = {
    kind: getattr(module, kind)
    for module in (noise, blur, weather, frost, digital)
    for kind in KINDS
    if hasattr(module, kind)
}
_SMALL = 32


def constants_for(height: int, width: int) -> Constants:
    """CIFAR-C's constants up to 32×32 pixels, ImageNet-C's above."""
    return "cifar" if max(height, width) <= _SMALL else "imagenet"


def corrupt(
    pixels: Array,
    kind: str,
    severity: int,
    random: np.random.Generator,
    constants: Constants | None = None,
) -> Array:
    """uint8 [H, W, C] -> uint8 of the same shape. `severity` is 1 to 5, `constants` None: by size.

    `random` is used up; the same state gives the same image. Colours follow the image: a gray one
    stays gray, and a fourth channel is left alone. Values are cut off to whole levels, as those of
    the published files are.
    """
    height, width, channels = pixels.shape
    constants = constants or constants_for(height, width)
    constant = (CIFAR if constants == "cifar" else IMAGENET)[kind][severity - 1]
    function = _FUNCTIONS[kind]
    if kind == "elastic_transform":
        scale = digital.elastic_scale(height, width, cifar=constants == "cifar")
        constant = tuple(scale * value for value in constant)
    elif kind == "frost" and constants == "cifar":
        function = frost.frost_small
    colors = pixels[:, :, :3] if channels == 4 else pixels
    made = function(colors.astype(np.float32) / np.float32(255), constant, random)
    levels = np.floor(np.clip(made, 0, 1) * 255 + 1e-3).astype(np.uint8)
    return np.dstack([levels, pixels[:, :, 3]]) if channels == 4 else levels
