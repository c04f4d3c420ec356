"""Digital: exposure, contrast, colour, warp, resolution, compression.

x is float32 [H, W, C] in [0, 1]; C is 1 or 3.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from advcli.threats.corruptions.signal import Array, affine, bilinear, gaussian, luma

__all__ = [
    "brightness",
    "contrast",
    "elastic_transform",
    "jpeg_compression",
    "pixelate",
    "saturate",
]

_SIDE = 224  # the images that the elastic constants are in pixels of; CIFAR-C's: 32


def brightness(x: Array, more: float, random: np.random.Generator) -> Array:
    """Added to HSV's value; hue and saturation stay."""
    value = x.max(axis=2, keepdims=True)
    raised = np.clip(value + np.float32(more), 0, 1)
    made: Array = np.where(value > 0, x * raised / np.maximum(value, 1e-9), raised)
    return made


def saturate(x: Array, color: tuple[float, float], random: np.random.Generator) -> Array:
    """HSV's saturation times a factor plus an addend; a gray image stays gray.

    What has no hue counts as red, so an addend darkens a gray image a little.
    """
    factor, addend = color
    if x.shape[2] == 1:
        return luma(saturate(np.repeat(x, 3, axis=2), color, random))
    value = x.max(axis=2, keepdims=True)
    below = value - x
    saturation = below.max(axis=2, keepdims=True) / np.maximum(value, 1e-9)
    wanted = np.clip(saturation * np.float32(factor) + np.float32(addend), 0, 1)
    red = value * np.array([0, 1, 1], np.float32) * wanted
    made: Array = value - np.where(
        saturation > 0, below * wanted / np.maximum(saturation, 1e-9), red
    )
    return made


def contrast(x: Array, left: float, random: np.random.Generator) -> Array:
    """Drawn towards the mean of each channel."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    made: Array = (x - mean) * np.float32(left) + mean
    return made


def elastic_transform(
    x: Array, warp: tuple[float, float, float], random: np.random.Generator
) -> Array:
    """An affine shear of three points, then a smooth random displacement of every pixel."""
    strength, smoothness, shift = warp
    height, width = x.shape[:2]
    middle = np.array([width // 2, height // 2], np.float64)
    arm = min(height, width) // 3
    points = middle + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + random.uniform(-shift, shift, points.shape)
    basis = np.column_stack([moved, np.ones(3)])
    if abs(np.linalg.det(basis)) > 1e-9:  # three points on a line span no map
        x = affine(x, np.linalg.solve(basis, points).T, "mirror")
    if strength == 0:
        return x
    draws = random.uniform(-1, 1, (2, height, width))
    right, down = (
        strength * gaussian(field, smoothness, border="mirror-edge", truncate=3) for field in draws
    )
    rows, columns = np.indices((height, width), np.float64)
    return bilinear(x, rows + down, columns + right, "mirror-edge")


def elastic_scale(height: int, width: int, *, cifar: bool) -> float:
    """By how much the constants, which are in pixels, are larger for an image of this size."""
    return min(height, width) / (32 if cifar else _SIDE)


def pixelate(x: Array, share: float, random: np.random.Generator) -> Array:
    """Down to a share of the resolution and up again, both by averaging boxes."""
    image = _image(x)
    small = max(1, int(image.width * share)), max(1, int(image.height * share))
    box = Image.Resampling.BOX
    return _array(image.resize(small, box).resize(image.size, box))


def jpeg_compression(x: Array, quality: int, random: np.random.Generator) -> Array:
    data = io.BytesIO()
    _image(x).save(data, "JPEG", quality=quality)
    with Image.open(data, formats=["JPEG"]) as image:
        return _array(image)


def _image(x: Array) -> Image.Image:
    levels = np.rint(x * 255).astype(np.uint8)
    return Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)


def _array(image: Image.Image) -> Array:
    levels = np.asarray(image, np.float32)
    return (levels[:, :, None] if levels.ndim == 2 else levels) / np.float32(255)
