"""What is refused, each with its reason: other kinds of files, bombs, damage, and no files."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from . import crafted
from .base import COLOUR, GREY, Case, content, encoded, patched
from .others import icon
from .photographs import JPEG, JPEG2000
from .tiffs import tiff


def gigapixel_gif(side: int = 60_000) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\0;"


def gigapixel_webp(side: int = 16_383) -> bytes:
    body = b"\x2f" + struct.pack("<I", (side - 1) | (side - 1) << 14) + bytes(20)
    data = b"VP8L" + struct.pack("<I", len(body)) + body + b"\0"
    return b"RIFF" + struct.pack("<I", len(data) + 4) + b"WEBP" + data


def gigapixel_jpeg(side: int = 65_500) -> bytes:
    raw = bytearray(encoded(COLOUR, "JPEG"))
    at = raw.index(b"\xff\xc0") + 5
    raw[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(raw)


def gigapixel_jp2(side: int = 60_000) -> bytes:
    data = encoded(COLOUR, "JPEG2000")
    return patched(data, data.index(b"ihdr") + 4, struct.pack(">II", side, side))


def raw_photo() -> bytes:
    """What a DNG begins with: a thumbnail, and where the photo itself is."""
    return tiff(COLOUR, 2, t254=1, t330=8)


def zipped() -> bytes:
    import zipfile

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.png", encoded(COLOUR, "PNG"))
    return data.getvalue()


def forbidden(path: Path, _: int) -> None:
    path.write_bytes(encoded(COLOUR, "PNG"))
    path.chmod(0)


def heic(path: Path, brand: int) -> None:
    kind = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")[brand]
    path.write_bytes(
        crafted.box(b"ftyp", kind + b"\0\0\0\0mif1heic") + crafted.box(b"meta", bytes(64))
    )


SVG = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
ROOT = "root may read everything" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
BOMB = "decompression bomb"
WHOLE = encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), "PNG")
CONVERT = "convert it to PNG or JPEG"
NO_PIXELS = crafted.chunk(b"IDAT", zlib.compress(b""))

REFUSED = (
    Case(
        "HEIC",
        "a.heic",
        heic,
        refused=f"a HEIC image, which advcli does not read: {CONVERT}",
        lister="HEIC",
    ),
    Case(
        "HEIC called .jpg",
        "a.jpg",
        heic,
        refused="a HEIC image, which advcli does not read",
        note="as some telephones name it",
        variants=range(5),
    ),
    Case(
        "JPEG XL",
        "a.jxl",
        content(b"\xff\x0a" + bytes(20)),
        refused="a JPEG XL image, which advcli does not read",
        lister="JPEG XL",
    ),
    Case(
        "a camera's raw file (DNG, NEF, ARW)",
        "a.dng",
        content(raw_photo()),
        refused="a camera's raw file: develop it",
        note="Pillow would read its thumbnail",
    ),
    Case(
        "a camera's raw file (CR2)",
        "a.cr2",
        content(patched(bytes(tiff(COLOUR, 2)), 8, b"CR\x02\0")),
        refused="a camera's raw file: develop it",
    ),
    Case(
        "a camera's raw file (CR3)",
        "a.cr3",
        content(crafted.box(b"ftyp", b"crx \0\0\0\1crx isom")),
        refused="a camera's raw file: develop it",
        lister="raw",
    ),
    Case("SVG", "a.svg", content(SVG), refused="SVG", lister="SVG"),
    Case("PDF", "a.pdf", content(b"%PDF-1.7\n"), refused="a PDF document", lister="PDF"),
    Case(
        "PostScript called .png",
        "a.png",
        content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        refused="a PostScript program",
        note="never run",
    ),
    Case(
        "Photoshop",
        "a.psd",
        content(b"8BPS\0\1" + bytes(30)),
        refused="a Photoshop file",
        lister="Photoshop",
    ),
    Case(
        "a zip of images",
        "a.zip",
        content(zipped()),
        refused="an archive: unpack it",
        lister="archive",
    ),
    Case(
        "a web page called .jpg",
        "a.jpg",
        content(b"\n<!DOCTYPE html><html><title>404"),
        refused="a web page: was the download refused?",
    ),
    Case(
        "a Git LFS pointer",
        "a.png",
        content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        refused="run git lfs pull",
    ),
    Case(
        "text",
        "a.txt",
        content(b"hello, world\n"),
        refused="no image in a format that advcli reads",
        lister="not an image that advcli reads (.txt)",
    ),
    Case(
        "PNG of 50,000 × 50,000",
        "a.png",
        content(crafted.png_header(50_000, 50_000) + NO_PIXELS),
        refused=BOMB,
    ),
    Case(
        "PNG of 12,000 × 12,000",
        "a.png",
        content(crafted.png_header(12_000, 12_000) + NO_PIXELS),
        refused=BOMB,
        note="89,478,485 pixels are read at most",
    ),
    Case(
        "PNG with 90 MB of text",
        "a.png",
        content(
            crafted.png_header(1, 1)
            + crafted.chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(90_000_000)))
        ),
        refused="too large",
    ),
    Case("GIF of 60,000 × 60,000", "a.gif", content(gigapixel_gif()), refused=BOMB),
    Case("JPEG of 65,500 × 65,500", "a.jpg", content(gigapixel_jpeg()), refused=BOMB),
    Case("WebP of 16,383 × 16,383", "a.webp", content(gigapixel_webp()), refused=BOMB),
    Case(
        "TIFF of 60,000 × 60,000",
        "a.tif",
        content(crafted.tiff(crafted.tiff_tags(60_000, 60_000, [8, 8, 8], 2), [bytes(9)])),
        refused=BOMB,
    ),
    Case(
        "BMP of 60,000 × 60,000",
        "a.bmp",
        content(crafted.bmp(60_000, 60_000, 24, bytes(99))),
        refused=BOMB,
    ),
    Case(
        "PPM of 60,000 × 60,000",
        "a.ppm",
        content(b"P6 60000 60000 255\n" + bytes(99)),
        refused=BOMB,
    ),
    Case(
        "JPEG 2000 of 60,000 × 60,000",
        "a.jp2",
        content(gigapixel_jp2() if not JPEG2000 else b""),
        refused=BOMB,
        skip=JPEG2000,
    ),
    Case(
        "ICO of 16 × 16 that holds 12,000 × 12,000",
        "a.ico",
        content(
            icon(
                crafted.png_header(12_000, 12_000) + NO_PIXELS,
                16,
                16,
            )
        ),
        refused=BOMB,
    ),
    Case("a PNG cut off", "a.png", content(WHOLE[:500]), refused="truncated"),
    Case("a JPEG cut off", "a.jpg", content(JPEG[: 3 * len(JPEG) // 4]), refused="truncated"),
    Case("a GIF cut off", "a.gif", content(encoded(GREY, "GIF")[:-30]), refused="truncated"),
    Case(
        "a TIFF cut off",
        "a.tif",
        content(patched(tiff(COLOUR, 2), 2, b"*\0")[:200]),
        refused="no image in a format",
    ),
    Case(
        "a WebP cut off",
        "a.webp",
        content(encoded(COLOUR, "WEBP")[:60]),
        refused="cannot be decoded",
    ),
    Case(
        "a PNG of no width",
        "a.png",
        content(crafted.png_header(0, 5) + NO_PIXELS),
        refused="no image in a format",
    ),
    Case("an empty file", "a.png", content(b""), refused="an empty file (0 bytes)"),
    Case(
        "a file without permission to read it",
        "a.png",
        forbidden,
        refused="cannot be opened: Permission denied",
        skip=ROOT,
    ),
    Case(
        "a folder called .png",
        "a.png",
        lambda path, _: path.mkdir(),
        refused="not a regular file",
        lister="folder",
    ),
    Case(
        "a pipe",
        "a.png",
        lambda path, _: os.mkfifo(path),
        refused="not a regular file",
        lister="not a regular file",
    ),
    Case(
        "a symbolic link to itself",
        "a.png",
        lambda path, _: path.symlink_to(path.name),
        refused="symbolic link",
        lister="a broken symbolic link",
    ),
    Case(
        "a symbolic link to nothing",
        "a.png",
        lambda path, _: path.symlink_to("gone"),
        refused="No such file",
        lister="a broken symbolic link",
    ),
)
