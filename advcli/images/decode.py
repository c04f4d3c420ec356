"""One image file -> the clean image: uint8 pixels [h, w, c] at the model's input size.

The file is decoded by Pillow as Keras's `load_img` does it (same conversions, so alpha is dropped
and a palette expanded alike, of several frames the first), with two differences: EXIF rotation is
applied, and grey of 16 bits is divided by 257 and rounded where Keras would clip it to white. Of
16-bit colour Pillow itself keeps the high byte, at most one level away.

What a file is called does not matter, only what it holds, and only formats of photo folders are
tried: some others that Pillow knows would run a program (EPS) or fetch a second file.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from advcli.images.foreign import HEAD, RAW, foreign
from advcli.images.text import printable

__all__ = ["Decoded", "Exif", "ImageReadError", "Resample", "Resize", "decode"]

Resize = Literal["stretch", "crop", "pad"]
Resample = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Exif = Literal["apply", "ignore"]

MAX_PIXELS = 89_478_485  # above it Pillow warns of a decompression bomb; 360 MB decoded
_LARGE_PIXELS = 16_000_000  # larger images are decoded one at a time, so that threads stay cheap

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "GIF": "GifImagePlugin",
    "WEBP": "WebPImagePlugin",
    "BMP": "BmpImagePlugin",
    "DIB": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
    "AVIF": "AvifImagePlugin",  # Pillow >= 11.3
    "JPEG2000": "Jpeg2KImagePlugin",
    "ICO": "IcoImagePlugin",
    "QOI": "QoiImagePlugin",
    "SGI": "SgiImagePlugin",
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# An icon's own picture is only known while it is opened, where Pillow would do no more than warn.
_OF_PILLOW = re.compile(r"PIL\.")
_BOMB = Image.DecompressionBombWarning
_FILTERED = [("error", None, _BOMB, _OF_PILLOW, 0), ("ignore", None, Warning, _OF_PILLOW, 0)]
# Pillow logs what is wrong with a TIFF; without any handler Python would print it on stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())
_one_large_image = threading.Lock()


class ImageReadError(Exception):
    """Why one file shows no image, in one printable line; costs that image, nothing else."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Decoded:
    """The clean image, uint8 [h, w, c], and the file's own (height, width) after rotation."""

    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]


def decode(
    path: Path | str,
    shape: tuple[int, int, int],
    *,
    resize: Resize = "stretch",
    resample: Resample = "bilinear",
    exif: Exif = "apply",
) -> Decoded:
    """The image in `path` as uint8 [h, w, c] for `shape` = (h, w, c), c in {1, 3, 4}.

    resize: "stretch" to the target; "crop" the centre to its aspect ratio first (as `load_img`
    with keep_aspect_ratio); "pad" with black (transparent black where c = 4), centred.
    exif="ignore" leaves the stored orientation, except for TIFF, which Pillow always turns.

    Raises ImageReadError for everything that a file can be but an image, ValueError for settings.
    """
    if shape[2] not in _MODES or min(shape) < 1:
        raise ValueError(f"an image has 1, 3 or 4 channels and at least one pixel, not {shape}")
    if resize not in ("stretch", "crop", "pad") or resample not in _FILTERS:
        raise ValueError(f"unknown resize {resize!r} or resample {resample!r}")
    with _reasons(), _regular_file(path) as file:
        image = _opened(file, os.fspath(path))
        large = image.width * image.height > _LARGE_PIXELS
        with _one_large_image if large else nullcontext():
            image.load()
            turn = _turn(image) if exif == "apply" else None
            image = _converted(image, _MODES[shape[2]])
            if turn is not None:
                image = image.transpose(turn)
            size = (image.height, image.width)
            image = _resized(image, shape, resize, resample)
            return Decoded(np.array(image, dtype=np.uint8).reshape(shape), size)


@contextmanager
def _reasons() -> Iterator[None]:
    """Turns whatever Pillow raises on a broken file into an ImageReadError."""
    _silence_pillow()
    try:
        yield
    except ImageReadError:
        raise
    except UnidentifiedImageError as error:
        raise ImageReadError(
            "no image in a format that advcli reads (or its header is damaged)"
        ) from error
    except (Image.DecompressionBombError, _BOMB) as error:
        raise ImageReadError(
            f"more than the {MAX_PIXELS:,} pixels allowed (a decompression bomb?)"
        ) from error
    except MemoryError as error:
        raise ImageReadError("does not fit into memory") from error
    except Exception as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageReadError(f"cannot be decoded: {printable(str(text), 160)}") from error


@contextmanager
def _regular_file(path: Path | str) -> Iterator[BinaryIO]:
    """The open file; a folder, a pipe or a device is refused without waiting for it."""
    # Non-blocking: opening a pipe that nobody writes to would hang.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageReadError(f"cannot be opened: {reason}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageReadError("not a regular file")
        if status.st_size == 0:
            raise ImageReadError("an empty file (0 bytes)")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _opened(file: BinaryIO, name: str) -> Image.Image:
    """The image, its header read and its size within bounds, its pixels not yet decoded."""
    head = file.read(HEAD)
    formats = list(_formats())
    what = foreign(head)
    if name.lower().endswith(".tga") and not what:  # no signature: any bytes may pass for it
        formats.append(_tga())
    try:
        image = Image.open(file, formats=formats)
    except UnidentifiedImageError:
        if what is None:
            raise
        raise ImageReadError(what) from None
    if image.format == "TIFF" and (what or _holds_a_thumbnail(image)):
        raise ImageReadError(what or RAW)
    if image.width * image.height > MAX_PIXELS:
        raise ImageReadError(
            f"{image.width}x{image.height} pixels are more than the {MAX_PIXELS:,} allowed "
            "(a decompression bomb?)"
        )
    return image


def _holds_a_thumbnail(image: Image.Image) -> bool:
    """Whether a TIFF is a camera's raw file (DNG, NEF, ARW): what Pillow reads is the preview."""
    tags = getattr(image, "tag_v2", {})
    reduced = tags.get(254, 0)  # NewSubfileType
    has_others = 330 in tags  # SubIFDs
    return 50706 in tags or (isinstance(reduced, int) and bool(reduced & 1) and has_others)


@cache
def _formats() -> tuple[str, ...]:
    """The formats of `_PLUGINS` that this Pillow has, their readers imported."""
    found = []
    for name, module in _PLUGINS.items():
        try:
            importlib.import_module(f"PIL.{module}")
        except ImportError:
            continue
        if name in Image.OPEN:
            found.append(name)
    return tuple(found)


@cache
def _tga() -> str:
    importlib.import_module("PIL.TgaImagePlugin")
    return "TGA"


def _silence_pillow() -> None:
    """Keeps Pillow's remarks on odd files (a corrupt tag, a large size) off the terminal.

    Filters for all of the process, since catch_warnings is not safe in threads; put in front
    again each time because test runners and notebooks restore the filters that they knew.
    """
    if list(warnings.filters[: len(_FILTERED)]) != _FILTERED:
        warnings.filterwarnings("ignore", module=_OF_PILLOW.pattern)
        warnings.filterwarnings("error", category=_BOMB, module=_OF_PILLOW.pattern)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What the EXIF (or XMP) orientation asks for; a corrupt one asks for nothing."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 -- broken metadata must not cost sound pixels
        return None


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """8 bits a channel in `mode`."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image = Image.fromarray(_eight_bits(image))
    elif image.mode in ("I", "F"):
        raise ImageReadError(f"32-bit pixels (mode {image.mode}) have no range to scale by")
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Grey of 16 bits (in a TIFF also of 12) to 8, rounded; Pillow leaves white as zero to us."""
    tags = getattr(image, "tag_v2", {})
    highest = 4095 if tags.get(258) == (12,) else 65535  # BitsPerSample
    wide = np.asarray(image).astype(np.int64)
    if tags.get(262) == 0:  # PhotometricInterpretation
        wide = highest - wide
    return ((wide * 255 + highest // 2) // highest).astype(np.uint8)


def _resized(
    image: Image.Image, shape: tuple[int, int, int], resize: Resize, resample: Resample
) -> Image.Image:
    target = (shape[1], shape[0])
    filtered = _FILTERS[resample]
    if image.size == target:
        return image
    if resize == "stretch":
        return image.resize(target, filtered)
    if resize == "crop":
        return image.resize(target, filtered, box=_centre(image.size, target))
    scale = min(target[0] / image.width, target[1] / image.height)
    inner = (
        min(target[0], max(1, round(image.width * scale))),
        min(target[1], max(1, round(image.height * scale))),
    )
    canvas = Image.new(image.mode, target)
    at = ((target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2)
    canvas.paste(image.resize(inner, filtered), at)
    return canvas


def _centre(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """The centre of the target's aspect ratio, in whole pixels, as Keras cuts it."""
    width, height = size
    crop_width = max(1, min(width, height * target[0] // target[1]))
    crop_height = max(1, min(height, width * target[1] // target[0]))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height
