"""Formats that photographs come in: JPEG, PNG, GIF, WebP, AVIF, JPEG 2000."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

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
    OTHER,
    PALETTE,
    TURNS,
    UPRIGHT,
    WIDTH,
    Case,
    Make,
    Pixels,
    content,
    encoded,
    frames,
    image,
    indexed,
    levels,
    patched,
    pillow,
    wide,
)


def oriented(format: str, **options: Any) -> Make:
    def make(path: Path, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image(COLOUR).save(path, format, exif=exif, **options)

    return make


def upright(orientation: int) -> Pixels:
    """What a viewer shows of COLOUR stored under an EXIF orientation (table in EXIF 2.3, 4.6.4)."""
    rows = COLOUR[::-1] if orientation in (3, 4, 7, 8) else COLOUR
    if orientation in (5, 6, 7, 8):  # the stored rows are the picture's columns
        rows = COLOUR.transpose(1, 0, 2)
        rows = rows[:, ::-1] if orientation in (6, 7) else rows
        return rows[::-1] if orientation in (7, 8) else rows
    return rows[:, ::-1] if orientation in (2, 3) else rows


def palette_png(transparency: bytes = b"") -> bytes:
    extra = crafted.chunk(b"PLTE", PALETTE[:16].tobytes())
    extra += crafted.chunk(b"tRNS", transparency) if transparency else b""
    return crafted.png(INDICES, 4, 3, extra=extra)


def gif(indices: Pixels, **options: Any) -> Make:
    picture = Image.fromarray(indices[:, :, 0]).convert("P")
    picture.putpalette(PALETTE.tobytes())
    return lambda path, _: picture.save(path, "GIF", **options)


def cmyk_jpeg(path: Path, _: int) -> None:
    ink = np.concatenate([255 - COLOUR, np.full_like(GREY, BLACK)], axis=2)
    Image.frombytes("CMYK", (WIDTH, HEIGHT), ink.tobytes()).save(path, "JPEG", quality=100)


def ycck_jpeg(path: Path, _: int) -> None:
    """A CMYK file whose Adobe marker says YCCK; Pillow stores ink inverted, as Photoshop does."""
    coloured = np.asarray(image(255 - COLOUR).convert("YCbCr"))
    stored = np.concatenate([coloured, np.full_like(GREY, 255 - BLACK)], axis=2)
    ink = Image.frombytes("CMYK", (WIDTH, HEIGHT), (255 - stored).tobytes())
    data = io.BytesIO()
    ink.save(data, "JPEG", quality=100)
    path.write_bytes(patched(data.getvalue(), data.getvalue().index(b"Adobe") + 11, b"\2"))


BLACK = 64
INKED = np.round(COLOUR * ((255 - BLACK) / 255)).astype(np.uint8)
AVIF = "" if features.check("avif") else "this Pillow reads no AVIF"
JPEG2000 = "" if features.check("jpg_2000") else "this Pillow reads no JPEG 2000"
JPEG = encoded(COLOUR, "JPEG", quality=100, subsampling=0)

PHOTOGRAPHS = (
    Case("JPEG", "a.jpg", content(JPEG), COLOUR, 4),
    Case(
        "JPEG, progressive",
        "a.jpeg",
        pillow(COLOUR, "JPEG", quality=100, subsampling=0, progressive=True),
        COLOUR,
        4,
    ),
    Case("JPEG, grey", "a.jpg", pillow(GREY, "JPEG", quality=100), GREY, 2),
    Case(
        "JPEG, CMYK (Adobe's, inverted)",
        "a.jpg",
        cmyk_jpeg,
        INKED,
        4,
        note=INK,
    ),
    Case(
        "JPEG, YCCK (Adobe's, inverted)",
        "a.jpg",
        ycck_jpeg,
        INKED,
        5,
        note=INK,
    ),
    Case(
        "JPEG, EXIF orientation 1 to 8",
        "a.jpg",
        oriented("JPEG", quality=100, subsampling=0),
        upright,
        5,
        variants=TURNS,
        note=UPRIGHT,
    ),
    Case(
        "the same with --exif ignore",
        "a.jpg",
        oriented("JPEG", quality=100, subsampling=0),
        COLOUR,
        4,
        variants=TURNS,
        exif="ignore",
        note="as stored",
    ),
    Case(
        "JPEG of several pictures (MPO)",
        "a.jpg",
        frames("MPO", quality=100, subsampling=0),
        COLOUR,
        4,
        note="the first",
    ),
    Case("PNG, grey of 1 bit", "a.png", content(crafted.png(indexed(1), 1, 0)), indexed(1) * 255),
    Case("PNG, grey of 2 bits", "a.png", content(crafted.png(indexed(2), 2, 0)), indexed(2) * 85),
    Case("PNG, grey of 4 bits", "a.png", content(crafted.png(indexed(4), 4, 0)), indexed(4) * 17),
    Case("PNG, grey of 8 bits", "a.png", content(crafted.png(GREY, 8, 0)), GREY),
    Case(
        "PNG, grey of 16 bits",
        "a.png",
        content(crafted.png(wide(1), 16, 0)),
        levels(wide(1)),
        note=DIVIDED,
    ),
    Case(
        "PNG, grey and alpha",
        "a.png",
        content(crafted.png(ALPHA[:, :, [0, 3]], 8, 4)),
        ALPHA[:, :, [0, 0, 0, 3]],
        note=DROPPED,
    ),
    Case(
        "PNG, grey and alpha of 16 bits",
        "a.png",
        content(crafted.png(wide(2), 16, 4)),
        levels(wide(2))[:, :, [0, 0, 0, 1]],
        1,
        note=HIGH,
    ),
    Case("PNG, colour", "a.png", content(crafted.png(COLOUR, 8, 2)), COLOUR),
    Case(
        "PNG, colour of 16 bits",
        "a.png",
        content(crafted.png(wide(3), 16, 2)),
        levels(wide(3)),
        1,
        note=HIGH,
    ),
    Case(
        "PNG, colour and alpha",
        "a.png",
        content(crafted.png(ALPHA, 8, 6)),
        ALPHA,
        note=DROPPED,
    ),
    Case(
        "PNG, colour and alpha of 16 bits",
        "a.png",
        content(crafted.png(wide(4), 16, 6)),
        levels(wide(4)),
        1,
        note=HIGH,
    ),
    Case("PNG, palette", "a.png", content(palette_png()), PALETTE[INDICES[:, :, 0]]),
    Case(
        "PNG, palette with transparency",
        "a.png",
        content(palette_png(bytes(range(0, 256, 16)))),
        np.concatenate([PALETTE[INDICES[:, :, 0]], INDICES * 16], axis=2),
        note=DROPPED,
    ),
    Case(
        "PNG, one transparent colour",
        "a.png",
        content(
            crafted.png(
                COLOUR, 8, 2, extra=crafted.chunk(b"tRNS", struct.pack(">HHH", *COLOUR[0, 0]))
            )
        ),
        np.concatenate(
            [
                COLOUR,
                np.where((COLOUR[0, 0] == COLOUR).all(2, keepdims=True), 0, 255).astype(np.uint8),
            ],
            axis=2,
        ),
    ),
    Case("PNG, interlaced", "a.png", content(crafted.png(COLOUR, 8, 2, interlaced=True)), COLOUR),
    Case(
        "PNG, EXIF orientation 1 to 8",
        "a.png",
        oriented("PNG"),
        upright,
        variants=TURNS,
        note=UPRIGHT,
    ),
    Case("APNG", "a.png", frames("PNG"), COLOUR, note="the first frame"),
    Case("GIF", "a.gif", gif(INDICES), PALETTE[INDICES[:, :, 0]]),
    Case("GIF, interlaced", "a.gif", gif(INDICES, interlace=1), PALETTE[INDICES[:, :, 0]]),
    Case(
        "GIF, transparent",
        "a.gif",
        gif(INDICES, transparency=3),
        np.concatenate(
            [PALETTE[INDICES[:, :, 0]], np.where(INDICES == 3, 0, 255).astype(np.uint8)], axis=2
        ),
        note=DROPPED,
    ),
    Case(
        "GIF, animated",
        "a.gif",
        gif(INDICES, save_all=True, append_images=[image(OTHER)]),
        PALETTE[INDICES[:, :, 0]],
        note="the first frame",
    ),
    Case("WebP, lossless", "a.webp", pillow(COLOUR, "WEBP", lossless=True), COLOUR),
    Case(
        "WebP, lossless, alpha",
        "a.webp",
        pillow(ALPHA, "WEBP", lossless=True, exact=True),
        ALPHA,
        note=DROPPED,
    ),
    Case(
        "WebP, lossy",
        "a.webp",
        pillow(COLOUR, "WEBP", quality=100),
        COLOUR,
        24,
        note="colour at half the resolution",
    ),
    Case(
        "WebP, EXIF orientation 1 to 8",
        "a.webp",
        oriented("WEBP", lossless=True),
        upright,
        variants=TURNS,
        note=UPRIGHT,
    ),
    Case("WebP, animated", "a.webp", frames("WEBP", lossless=True), COLOUR, note="the first frame"),
    Case(
        "AVIF",
        "a.avif",
        pillow(COLOUR, "AVIF", quality=100, subsampling="4:4:4"),
        COLOUR,
        4,
        note="Pillow 11.3 or later",
        skip=AVIF,
    ),
    Case(
        "AVIF, alpha",
        "a.avif",
        pillow(ALPHA, "AVIF", quality=100, subsampling="4:4:4"),
        ALPHA,
        6,
        note=DROPPED,
        skip=AVIF,
    ),
    Case("JPEG 2000", "a.jp2", pillow(COLOUR, "JPEG2000"), COLOUR, skip=JPEG2000),
    Case(
        "JPEG 2000, the code stream alone",
        "a.j2k",
        pillow(COLOUR, "JPEG2000", no_jp2=True),
        COLOUR,
        skip=JPEG2000,
    ),
)
