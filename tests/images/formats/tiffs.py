"""TIFF, in the kinds that scanners, microscopes and phones write."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import crafted
from .base import (
    ALPHA,
    COLOUR,
    DIVIDED,
    DROPPED,
    GREY,
    HEIGHT,
    HIGH,
    INDICES,
    INK,
    PALETTE,
    TURNS,
    WIDTH,
    Case,
    content,
    frames,
    image,
    indexed,
    levels,
    pillow,
    wide,
)
from .photographs import oriented, upright


def tiff(pixels: NDArray[Any], photometric: int, *, big: bool = False, **more: Any) -> bytes:
    """One strip, uncompressed."""
    height, width, samples = pixels.shape
    bits = [pixels.dtype.itemsize * 8] * samples
    tags: Any = crafted.tiff_tags(width, height, bits, photometric)
    tags |= {int(tag.removeprefix("t")): value for tag, value in more.items()}
    return crafted.tiff(tags, [pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()], big=big)


def tiled_tiff() -> bytes:
    tags: Any = crafted.tiff_tags(WIDTH, HEIGHT, [8, 8, 8], 2) | {322: 16, 323: 16}
    del tags[278]
    tile = np.zeros((16, 16, 3), np.uint8)
    tile[:HEIGHT, :WIDTH] = COLOUR
    return crafted.tiff(tags, [tile.tobytes()])


def tiff_of_12_bits() -> bytes:
    """Two values in three bytes, each row from a whole byte on."""
    bits = (twelve()[:, :, :, None] >> np.arange(11, -1, -1)) & 1
    rows = np.packbits(bits.reshape(HEIGHT, -1).astype(np.uint8), axis=1)
    return crafted.tiff(crafted.tiff_tags(WIDTH, HEIGHT, [12], 1), [rows.tobytes()])


def twelve() -> NDArray[np.int64]:
    count = HEIGHT * WIDTH
    return (np.arange(count) * 4095 // (count - 1)).reshape(HEIGHT, WIDTH, 1)


def tiff_of_planes() -> bytes:
    tags: Any = crafted.tiff_tags(WIDTH, HEIGHT, [8, 8, 8], 2) | {284: 2}
    return crafted.tiff(tags, [plane.tobytes() for plane in COLOUR.transpose(2, 0, 1)])


TIFFS = (
    Case("TIFF", "a.tif", content(tiff(COLOUR, 2)), COLOUR),
    Case(
        "TIFF, alpha",
        "a.tif",
        content(tiff(ALPHA, 2, t338=2)),
        ALPHA,
        note=DROPPED,
    ),
    Case("TIFF, white is zero", "a.tif", content(tiff(255 - GREY, 0)), GREY),
    Case(
        "TIFF, grey of 16 bits",
        "a.tif",
        content(tiff(wide(1), 1)),
        levels(wide(1)),
        note=DIVIDED,
    ),
    Case(
        "TIFF, colour of 16 bits",
        "a.tif",
        content(tiff(wide(3), 2)),
        levels(wide(3)),
        1,
        note=HIGH,
    ),
    Case("TIFF, several pages", "a.tiff", frames("TIFF"), COLOUR, note="the first page"),
    Case("TIFF, tiled", "a.tif", content(tiled_tiff()), COLOUR),
    Case("TIFF, LZW", "a.tif", pillow(COLOUR, "TIFF", compression="tiff_lzw"), COLOUR),
    Case(
        "TIFF, Deflate", "a.tif", pillow(COLOUR, "TIFF", compression="tiff_adobe_deflate"), COLOUR
    ),
    Case("TIFF, PackBits", "a.tif", pillow(COLOUR, "TIFF", compression="packbits"), COLOUR),
    Case(
        "TIFF, fax (Group 4)",
        "a.tif",
        lambda path, _: (
            image(indexed(1) * 255).convert("1").save(path, "TIFF", compression="group4")
        ),
        indexed(1) * 255,
    ),
    Case(
        "TIFF, CMYK",
        "a.tif",
        content(tiff(np.concatenate([255 - COLOUR, np.zeros_like(GREY)], axis=2), 5)),
        COLOUR,
        note=INK,
    ),
    Case("TIFF, BigTIFF", "a.tif", content(tiff(COLOUR, 2, big=True)), COLOUR),
    Case(
        "TIFF, EXIF orientation 1 to 8",
        "a.tif",
        oriented("TIFF"),
        upright,
        variants=TURNS,
        note="turned upright, with --exif ignore too: Pillow always does",
    ),
    Case(
        "TIFF, floating point",
        "a.tif",
        lambda path, _: Image.fromarray(GREY[:, :, 0].astype(np.float32)).save(path),
        refused="32-bit pixels (mode F) have no range",
    ),
    Case(
        "TIFF, integers of 32 bits",
        "a.tif",
        lambda path, _: Image.fromarray(GREY[:, :, 0].astype(np.int32)).save(path),
        refused="32-bit pixels (mode I) have no range",
    ),
    Case(
        "TIFF, grey of 12 bits",
        "a.tif",
        content(tiff_of_12_bits()),
        np.round(twelve() / 4095 * 255).astype(np.uint8),
        note="divided by 4095/255 and rounded",
    ),
    Case(
        "TIFF, 16 bits, white is zero",
        "a.tif",
        content(tiff(65535 - wide(1), 0)),
        levels(wide(1)),
        note=DIVIDED,
    ),
    Case(
        "TIFF, grey and alpha",
        "a.tif",
        content(tiff(ALPHA[:, :, [0, 3]], 1, t338=2)),
        ALPHA[:, :, [0, 0, 0, 3]],
        note=DROPPED,
    ),
    Case(
        "TIFF, palette",
        "a.tif",
        lambda path, _: image(PALETTE[INDICES[:, :, 0]]).quantize(16).save(path, "TIFF"),
        PALETTE[INDICES[:, :, 0]],
    ),
    Case("TIFF, colours in planes", "a.tif", content(tiff_of_planes()), COLOUR),
    Case(
        "TIFF, JPEG inside",
        "a.tif",
        pillow(COLOUR, "TIFF", compression="jpeg", quality=100),
        COLOUR,
        24,
    ),
)
