"""BMP, PPM and the rest, and names that lie."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import crafted
from .base import (
    ALPHA,
    COLOUR,
    DIVIDED,
    DROPPED,
    GREY,
    HEIGHT,
    INDICES,
    PALETTE,
    WIDTH,
    Case,
    Pixels,
    content,
    encoded,
    indexed,
    levels,
    pillow,
    wide,
)
from .photographs import JPEG


def bitmap_rows(packed: NDArray[np.uint8]) -> bytes:
    """Rows, the last first, each to a multiple of four bytes."""
    rows = packed.reshape(len(packed), -1)[::-1]
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()


def five_bits(colour: Pixels) -> NDArray[np.uint16]:
    high = (colour >> 3).astype(np.uint16)
    return high[:, :, 0] << 10 | high[:, :, 1] << 5 | high[:, :, 2]


def from_five_bits(colour: Pixels) -> Pixels:
    return ((colour >> 3).astype(np.uint16) * 255 // 31).astype(np.uint8)


def plain_ppm(kind: bytes, maximum: int, values: NDArray[Any]) -> bytes:
    body = b"\n".join(b" ".join(b"%d" % v for v in row.reshape(-1)) for row in values)
    depth = b"" if kind == b"P1" else b"%d\n" % maximum
    return kind + b"\n# a comment\n%d %d\n" % (WIDTH, HEIGHT) + depth + body + b"\n"


def raw_ppm(kind: bytes, maximum: int, data: bytes) -> bytes:
    depth = b"" if kind == b"P4" else b"%d\n" % maximum
    return kind + b"\n%d %d\n" % (WIDTH, HEIGHT) + depth + data


def icon(picture: bytes, width: int, height: int) -> bytes:
    entry = struct.pack("<BBBBHHII", width, height, 0, 0, 1, 32, len(picture), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + picture


OTHERS = (
    Case(
        "BMP, 1 bit",
        "a.bmp",
        content(
            crafted.bmp(
                WIDTH,
                HEIGHT,
                1,
                bitmap_rows(np.packbits(indexed(1)[:, :, 0], axis=1)),
                palette=PALETTE[:2],
            )
        ),
        PALETTE[indexed(1)[:, :, 0]],
    ),
    Case(
        "BMP, 4 bits",
        "a.bmp",
        content(
            crafted.bmp(
                WIDTH,
                HEIGHT,
                4,
                bitmap_rows(INDICES[:, ::2, 0] << 4 | INDICES[:, 1::2, 0]),
                palette=PALETTE[:16],
            )
        ),
        PALETTE[INDICES[:, :, 0]],
    ),
    Case(
        "BMP, 8 bits",
        "a.bmp",
        content(crafted.bmp(WIDTH, HEIGHT, 8, bitmap_rows(INDICES), palette=PALETTE)),
        PALETTE[INDICES[:, :, 0]],
    ),
    Case(
        "BMP, 8 bits, run lengths",
        "a.bmp",
        content(
            crafted.bmp(
                WIDTH,
                HEIGHT,
                8,
                crafted.rle8(INDICES[:, :, 0] // 5),
                compression=1,
                palette=PALETTE,
            )
        ),
        PALETTE[INDICES[:, :, 0] // 5],
    ),
    Case(
        "BMP, 16 bits",
        "a.bmp",
        content(
            crafted.bmp(
                WIDTH, HEIGHT, 16, bitmap_rows(five_bits(COLOUR).view(np.uint8).reshape(HEIGHT, -1))
            )
        ),
        from_five_bits(COLOUR),
    ),
    Case(
        "BMP, 24 bits",
        "a.bmp",
        content(crafted.bmp(WIDTH, HEIGHT, 24, bitmap_rows(COLOUR[:, :, ::-1]))),
        COLOUR,
    ),
    Case(
        "BMP, the first row first",
        "a.bmp",
        content(crafted.bmp(WIDTH, -HEIGHT, 24, bitmap_rows(COLOUR[::-1, :, ::-1]))),
        COLOUR,
    ),
    Case("BMP, 32 bits", "a.bmp", pillow(ALPHA, "BMP"), COLOUR, note="the fourth byte ignored"),
    Case("PBM, plain", "a.pbm", content(plain_ppm(b"P1", 1, 1 - indexed(1))), indexed(1) * 255),
    Case("PGM, plain", "a.pgm", content(plain_ppm(b"P2", 255, GREY)), GREY),
    Case("PPM, plain", "a.ppm", content(plain_ppm(b"P3", 255, COLOUR)), COLOUR),
    Case(
        "PBM, raw",
        "a.pbm",
        content(raw_ppm(b"P4", 1, np.packbits(1 - indexed(1)[:, :, 0], axis=1).tobytes())),
        indexed(1) * 255,
    ),
    Case("PGM, raw", "a.pgm", content(raw_ppm(b"P5", 255, GREY.tobytes())), GREY),
    Case("PPM, raw", "a.ppm", content(raw_ppm(b"P6", 255, COLOUR.tobytes())), COLOUR),
    Case(
        "PGM of 16 bits, raw and plain",
        "a.pgm",
        lambda path, plain: (
            path.write_bytes(
                plain_ppm(b"P2", 65535, wide(1))
                if plain
                else raw_ppm(b"P5", 65535, wide(1).astype(">u2").tobytes())
            )
            and None
        ),
        levels(wide(1)),
        variants=(0, 1),
        note=DIVIDED,
    ),
    Case(
        "PPM of 16 bits, raw",
        "a.ppm",
        content(raw_ppm(b"P6", 65535, wide(3).astype(">u2").tobytes())),
        levels(wide(3)),
        1,
    ),
    Case(
        "TGA",
        "a.tga",
        pillow(COLOUR, "TGA"),
        COLOUR,
        note="by its extension alone: it has no signature",
    ),
    Case(
        "TGA, run lengths, alpha",
        "a.tga",
        pillow(ALPHA, "TGA", compression="tga_rle"),
        ALPHA,
        note=DROPPED,
    ),
    Case(
        "ICO",
        "a.ico",
        content(icon(encoded(ALPHA, "PNG"), WIDTH, HEIGHT)),
        ALPHA,
        note="its largest picture; alpha dropped, not blended",
    ),
    Case(
        "PGM of 10 bits",
        "a.pgm",
        content(raw_ppm(b"P5", 1023, (wide(1) >> 6).astype(">u2").tobytes())),
        np.round((wide(1) >> 6) / 1023 * 255).astype(np.uint8),
        1,
    ),
    Case("QOI", "a.qoi", pillow(COLOUR, "QOI"), COLOUR),
    Case("SGI", "a.sgi", pillow(COLOUR, "SGI"), COLOUR),
    Case("a JPEG called .png", "a.png", content(JPEG), COLOUR, 4, note="the content counts"),
    Case("a JPEG without an extension", "a", content(JPEG), COLOUR, 4, note="the content counts"),
)
