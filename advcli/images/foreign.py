"""What a file is that is no image to advcli: a reason that says what to do beats "unknown"."""

from __future__ import annotations

__all__ = ["HEAD", "RAW", "foreign"]

HEAD = 64  # bytes of a file that are looked at

_CONVERT = "which advcli does not read: convert it to PNG or JPEG"
_HEIC = f"a HEIC image, {_CONVERT}"
RAW = "a camera's raw file: develop it into PNG, TIFF or JPEG"

# Where a mark stands, the mark, and what it says.
_MARKS = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the image itself: run git lfs pull"),
    *((4, b"ftyp" + kind, _HEIC) for kind in (b"hei", b"hev", b"mif1", b"msf1")),
    *((0, mark, f"a JPEG XL image, {_CONVERT}") for mark in (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    (0, b"8BPS", f"a Photoshop file, {_CONVERT}"),
    (0, b"%PDF", f"a PDF document, {_CONVERT}"),
    (0, b"%!PS", f"a PostScript program, {_CONVERT}"),
    (4, b"ftypcrx", RAW),
    (8, b"CR\x02", RAW),
    *((0, mark, RAW) for mark in (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")),
    *((0, mark, "an archive: unpack it") for mark in (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf")),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (a model?)"),
    (0, b"\x93NUMPY", f"a NumPy array, {_CONVERT}"),
)
_TEXTS = (
    (b"<svg", f"an SVG drawing, {_CONVERT}"),
    (b"<!doctype html", "a web page: was the download refused?"),
    (b"<html", "a web page: was the download refused?"),
    (b"<?xml", f"XML (an SVG drawing?), {_CONVERT}"),
)


def foreign(head: bytes) -> str | None:
    """What a file that begins with `head` (HEAD bytes, or all of it) is; None if unknown."""
    for at, mark, what in _MARKS:
        if head[at:].startswith(mark):
            return what
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((what for mark, what in _TEXTS if text.startswith(mark)), None)
