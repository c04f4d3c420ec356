"""Images: any bytes behind any format's head, and small real images damaged."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from advcli.errors import ImagesError
from advcli.images.decode import ImageReadError, Resample, Resize, decode
from tests.fuzz.mutations import byte_edits, damaged
from tests.fuzz.parts import Finding, Part

_HEADS = (
    *(b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*"),
    *(b"RIFF\x10\0\0\0WEBPVP8 ", b"P6 2 2 255\n", b"P3 2 2 255\n", b"Pf 2 2 1.0\n", b"qoif"),
    *(b"\0\0\1\0\1\0", b"\x01\xda\x01\x01", b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0\x1cftypavif"),
)
_MARKS = (b"IHDR", b"IDAT", b"\xff\xc0", b"\xff\xc4", b"\xff\xda", b"Exif", b"VP8", b"\0\0\1\1")
_RESIZES, _FILTERS = get_args(Resize), get_args(Resample)


@cache
def seeds() -> tuple[bytes, ...]:
    """A 16 by 16 image in every format and kind."""
    colour = (np.indices((16, 16)).sum(0)[..., None] * (3, 7, 11) % 256).astype(np.uint8)
    grey = Image.fromarray(colour[:, :, 0])
    image = Image.fromarray(colour)
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = ["PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "ICO", "SGI", "QOI", "TGA", "JPEG2000"]
    return (
        *(_encoded(image, name) for name in plain),
        _encoded(image, "JPEG", exif=exif),
        _encoded(image.convert("CMYK"), "JPEG"),
        _encoded(grey, "JPEG", progressive=True),
        _encoded(image, "TIFF", compression="tiff_lzw", exif=exif),
        _encoded(image, "TIFF", compression="jpeg"),
        _encoded(image.copy(), "TIFF", save_all=True, append_images=[image.rotate(90)]),
        _encoded(image.copy(), "PNG", save_all=True, append_images=[image.rotate(90)]),
        _encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG"),
        _encoded(image.quantize(32), "PNG", transparency=3),
        _encoded(image.convert("RGBA"), "WEBP", lossless=True),
        _encoded(grey.convert("1"), "PNG"),
    )


def _encoded(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def read(case: bytes, folder: Path) -> None:
    """The first byte chooses channels and resizing; the rest is the file."""
    channels = (1, 3, 4)[case[0] % 3]
    resize = _RESIZES[case[0] // 3 % len(_RESIZES)]
    resample = _FILTERS[case[0] // 9 % len(_FILTERS)]
    path = folder / "a.tga"  # the one extension that any bytes may pass for
    path.write_bytes(case[1:])
    try:
        decoded = decode(path, (5, 6, channels), resize=resize, resample=resample)
    except ImageReadError as error:
        raise ImagesError(error.reason, "costs one image") from None
    if decoded.pixels.shape != (5, 6, channels) or decoded.pixels.dtype != np.uint8:
        raise Finding(f"decoded to {decoded.pixels.shape} {decoded.pixels.dtype}")


_settings = st.integers(0, 35).map(lambda n: bytes([n]))
_damaged = st.builds(
    lambda n, edits: damaged(seeds()[n], edits, _MARKS),
    st.integers(0, len(seeds()) - 1),
    byte_edits,
)
_any = st.builds(bytes.__add__, st.sampled_from(_HEADS), st.binary(max_size=300))
PART = Part(
    "images", st.builds(bytes.__add__, _settings, st.one_of(_damaged, _damaged, _any)), read
)
