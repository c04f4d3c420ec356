"""Image files made by hand: what Pillow reads but does not write, and headers that lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

# First row, first column, row step, column step of Adam7's seven passes.
_ADAM7 = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, its checksum right."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def png_header(
    width: int, height: int, depth: int = 8, kind: int = 2, interlaced: bool = False
) -> bytes:
    """Signature and IHDR; kind: 0 grey, 2 colour, 3 palette, 4 grey + alpha, 6 colour + alpha."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)


def png(
    values: NDArray[np.uint8] | NDArray[np.uint16],
    depth: int,
    kind: int,
    *,
    extra: bytes = b"",
    interlaced: bool = False,
) -> bytes:
    """A PNG of integer `values` [h, w, samples] below 2**depth; `extra`: chunks before the data."""
    height, width = values.shape[:2]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    data = b"".join(
        b"\0" + _packed(row, depth)
        for top, left, down, right in passes
        for row in values[top::down, left::right]
        if row.size
    )
    head = png_header(width, height, depth, kind, interlaced)
    return head + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _packed(row: NDArray[np.uint8] | NDArray[np.uint16], depth: int) -> bytes:
    """Samples of `depth` bits, the first in the highest bits, to whole bytes."""
    if depth >= 8:
        return row.astype(">u2" if depth == 16 else "u1").tobytes()
    bits = (row.reshape(-1, 1) >> np.arange(depth - 1, -1, -1, dtype=np.uint8)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()


def tiff(
    tags: Mapping[int, int | Sequence[int]], blocks: Sequence[bytes], *, big: bool = False
) -> bytes:
    """A TIFF of one page: `tags` (LONG), and blocks of pixels: tiles where tag 322 is given.

    big: with the 64-bit offsets of BigTIFF.
    """
    offsets, counts = (324, 325) if 322 in tags else (273, 279)
    word, header = ("Q", 16) if big else ("I", 8)
    data = bytearray(header)
    places = []
    for block in blocks:
        places.append(len(data))
        data += block
    entries = []
    every = {**tags, offsets: places, counts: [len(block) for block in blocks]}
    for tag, value in sorted(every.items()):
        values = [value] if isinstance(value, int) else list(value)
        packed = struct.pack(f"<{len(values)}I", *values)
        room = struct.calcsize(word)
        if len(packed) > room:
            at = len(data)
            data += packed
            packed = struct.pack(f"<{word}", at)
        entries.append(struct.pack(f"<HH{word}", tag, 4, len(values)) + packed.ljust(room, b"\0"))
    start = len(data)
    data += struct.pack("<Q" if big else "<H", len(entries)) + b"".join(entries)
    data += bytes(struct.calcsize(word))
    first = struct.pack("<HHHQ", 43, 8, 0, start) if big else struct.pack("<HI", 42, start)
    data[:header] = b"II" + first
    return bytes(data)


def tiff_tags(width: int, height: int, bits: Sequence[int], photometric: int) -> dict[int, object]:
    """The tags that every uncompressed TIFF has."""
    return {
        256: width,
        257: height,
        258: list(bits),
        259: 1,
        262: photometric,
        277: len(bits),
        278: height,
        284: 1,
    }


def bmp(
    width: int,
    height: int,
    bits: int,
    pixels: bytes,
    *,
    compression: int = 0,
    palette: NDArray[np.uint8] | None = None,
) -> bytes:
    """A Windows bitmap; a negative height: the first row comes first. palette: uint8 [n, 3]."""
    colours = b""
    if palette is not None:
        colours = np.pad(palette[:, ::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
    start = 14 + 40 + len(colours)
    count = len(colours) // 4
    info = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 0, 0, count, 0
    )
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + colours + pixels


def rle8(indices: NDArray[np.uint8]) -> bytes:
    """Rows (the last first) of a BMP's run-length code: runs, and each row's end."""
    data = b""
    for row in indices[::-1]:
        ends = np.flatnonzero(np.diff(row)) + 1
        for run in np.split(row, ends):
            data += bytes([len(run), run[0]])
        data += b"\0\0"
    return data + b"\0\1"


def box(kind: bytes, data: bytes) -> bytes:
    """A box of the ISO media format (HEIC, AVIF, JPEG 2000)."""
    return struct.pack(">I", len(data) + 8) + kind + data
