"""What every case is made of: a picture, ways to write it, and what must come out."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Make = Callable[[Path, int], None]
HEIGHT, WIDTH = 10, 14


def _ramps() -> Pixels:
    """Smooth, so that lossy formats stay close, and different under every turn."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([18 * x + y, 24 * y + x, 250 - 9 * (x + y)], axis=2).astype(np.uint8)


def luma(colour: Pixels) -> Pixels:
    """Pillow's grey of a colour: ITU-R 601 in 16-bit fixed point, rounded; [h, w, 1]."""
    weighted = colour.astype(np.int64) @ np.array([19595, 38470, 7471])
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[:, :, None]


COLOUR = _ramps()
GREY = COLOUR[:, :, :1]
ALPHA = np.concatenate([COLOUR, COLOUR[::-1, :, 1:2]], axis=2)
OTHER = 255 - COLOUR
PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
INDICES = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) * 7 % 16).astype(np.uint8)


@dataclass(frozen=True)
class Case:
    """`shown`: uint8 [h, w, 1|3|4] as stored, `within` levels; or `refused`: a part of the reason.

    `variants` go to `make` and, where it is a function, to `shown`. `lister` is the reason where
    a folder's listing already leaves the file out, and `skip` says why a case cannot be tried.
    """

    title: str
    file: str
    make: Make
    shown: Pixels | Callable[[int], Pixels] | None = None
    within: int = 0
    refused: str = ""
    note: str = ""
    variants: Sequence[int] = (0,)
    exif: Literal["apply", "ignore"] = "apply"
    lister: str = ""
    skip: str = ""

    def expected(self, variant: int) -> Pixels:
        picture = self.shown(variant) if callable(self.shown) else self.shown
        if picture is None:
            raise ValueError(f"{self.title} shows nothing")
        return picture


def image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def pillow(pixels: Pixels, format: str, **options: Any) -> Make:
    """As Pillow writes it."""
    return lambda path, _: image(pixels).save(path, format, **options)


def content(data: bytes) -> Make:
    return lambda path, _: path.write_bytes(data) and None


def encoded(pixels: Pixels, format: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image(pixels).save(data, format, **options)
    return data.getvalue()


def frames(format: str, **options: Any) -> Make:
    """COLOUR, then something else."""
    return pillow(COLOUR, format, save_all=True, append_images=[image(OTHER)], **options)


def indexed(bits: int) -> Pixels:
    """Values below 2**bits [h, w, 1] that use all of them."""
    return (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) % 2**bits).astype(np.uint8)


def wide(samples: int) -> NDArray[np.uint16]:
    """16-bit values [h, w, samples] whose rounding matters."""
    count = HEIGHT * WIDTH * samples
    return (np.arange(count) * 65535 // (count - 1)).reshape(HEIGHT, WIDTH, samples).astype("u2")


def levels(values: NDArray[np.uint16]) -> Pixels:
    return np.round(values / 257).astype(np.uint8)


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


INK = "ink to light without a colour profile"
DROPPED = "alpha dropped, not blended"
FIRST = "the first"
HIGH = "the high byte"
DIVIDED = "divided by 257 and rounded"
UPRIGHT = "turned upright"
TURNS = range(1, 9)
