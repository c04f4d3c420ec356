"""Two-dimensional signal work in NumPy: blurs, zoom, warps, colour. Arrays are float [H, W(, C)].

Kernels and borders are those of the libraries that the published corruptions were made with, so
that the same constants mean the same strength.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Array",
    "Border",
    "affine",
    "bilinear",
    "box_blur",
    "correlate",
    "gaussian",
    "luma",
    "motion",
    "tint",
    "zoom",
]

Array = NDArray[Any]
Border = Literal["black", "mirror", "mirror-edge"]

# ITU-R BT.601, as OpenCV and Pillow weigh red, green and blue
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# np.pad's names: `mirror` leaves the border pixel single, `mirror-edge` doubles it
_PADS = {"mirror": "reflect", "mirror-edge": "symmetric", "edge": "edge"}


def _pad(x: Array, rows: int, columns: int, border: str) -> Array:
    widths = [(rows, rows), (columns, columns), *[(0, 0)] * (x.ndim - 2)]
    padded: Array = np.pad(x, widths, mode=_PADS[border])  # type: ignore[call-overload]
    return padded


def gaussian(
    x: Array, sigma: float, *, border: Literal["edge", "mirror-edge"] = "edge", truncate: float = 4
) -> Array:
    """Gaussian blur with a standard deviation in pixels; the kernel ends at truncate · sigma."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return x
    steps = np.arange(radius + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    kernel /= 2 * kernel.sum() - kernel[0]
    weights = kernel.astype(x.dtype)
    for axis in (0, 1):
        size = x.shape[axis]
        padded = _pad(x, *((radius, 0) if axis == 0 else (0, radius)), border)
        moved = np.moveaxis(padded, axis, 0)
        total = weights[0] * moved[radius : radius + size]
        for i in range(1, radius + 1):
            near, far = moved[radius - i :][:size], moved[radius + i :][:size]
            total += weights[i] * (near + far)
        x = np.moveaxis(total, 0, axis)
    return x


def correlate(x: Array, kernel: Array) -> Array:
    """Σ kernel · neighbourhood, the border mirrored; kernel [odd, odd]."""
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    height, width = x.shape[:2]
    padded = _pad(x, rows, columns, "mirror")
    total = np.zeros_like(x)
    for i, j in zip(*np.nonzero(kernel), strict=True):
        total += x.dtype.type(kernel[i, j]) * padded[i : i + height, j : j + width]
    return total


def box_blur(x: Array) -> Array:
    """The mean of each 3×3 neighbourhood."""
    return correlate(x, np.full((3, 3), 1 / 9))


def motion(x: Array, radius: float, sigma: float, degrees: float) -> Array:
    """Motion blur: half a Gaussian laid along a line, as ImageMagick's MotionBlurImage does.

    2 · radius + 1 samples, nearest neighbour, the border repeated.
    """
    reach = 2 * math.ceil(radius) + 1
    steps = np.arange(reach)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = math.radians(degrees)
    down = np.ceil(steps * math.sin(angle) - 0.5).astype(int)
    right = np.ceil(steps * math.cos(angle) - 0.5).astype(int)
    height, width = x.shape[:2]
    padded = _pad(x, reach, reach, "edge")
    total = np.zeros_like(x)
    for weight, i, j in zip(weights, down + reach, right + reach, strict=True):
        total += x.dtype.type(weight) * padded[i : i + height, j : j + width]
    return total


def zoom(x: Array, factor: float) -> Array:
    """The middle of the picture, enlarged to its own size; bilinear from corner to corner."""
    for axis in (0, 1):
        size = x.shape[axis]
        cut = math.ceil(size / factor)
        start = (size - cut) // 2
        full = round(cut * factor)
        trim = (full - size) // 2
        scale = (cut - 1) / (full - 1) if full > 1 else 0.0
        at = start + np.arange(trim, trim + size) * scale
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, start + cut - 1)
        share = (at - low).astype(x.dtype).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def _mirror(index: Array, size: int) -> Array:
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * size - 2)
    made: Array = np.minimum(folded, 2 * size - 2 - folded)
    return made


def _mirror_edge(index: Array, size: int) -> Array:
    folded = index % (2 * size)
    made: Array = np.minimum(folded, 2 * size - 1 - folded)
    return made


_FOLDS: dict[str, Callable[[Array, int], Array]] = {
    "mirror": _mirror,
    "mirror-edge": _mirror_edge,
}


def bilinear(x: Array, rows: Array, columns: Array, border: Border) -> Array:
    """x [H, W, C] at real-valued places, rows and columns [H', W'] in pixels -> [H', W', C]."""
    height, width = x.shape[:2]
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down = (rows - top).astype(x.dtype)[..., None]
    right = (columns - left).astype(x.dtype)[..., None]
    total = np.zeros((*rows.shape, x.shape[2]), x.dtype)
    for i, vertical in ((top, 1 - down), (top + 1, down)):
        for j, horizontal in ((left, 1 - right), (left + 1, right)):
            weight = vertical * horizontal
            if border == "black":
                inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
                weight = weight * inside[..., None]
                place = i.clip(0, height - 1), j.clip(0, width - 1)
            else:
                place = _FOLDS[border](i, height), _FOLDS[border](j, width)
            total += weight * x[place]
    return total


def affine(x: Array, matrix: Array, border: Border) -> Array:
    """`matrix` [2, 3] maps (column, row, 1) of the result to a place (column, row) in x."""
    rows, columns = np.indices(x.shape[:2], np.float64)
    from_columns = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2]
    from_rows = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2]
    return bilinear(x, from_rows, from_columns, border)


def luma(x: Array) -> Array:
    """Brightness of [H, W, C] as [H, W, 1]; a gray image is its own."""
    return x if x.shape[2] == 1 else (x @ _LUMA.astype(x.dtype))[..., None]


def tint(color: tuple[float, float, float], channels: int) -> Array:
    """A colour of levels 0 to 255 as [C] in [0, 1]; its brightness where the image is gray."""
    values = np.array(color, np.float32) / 255
    return values if channels == 3 else np.array([values @ _LUMA])
