"""The images that targeted attacks start from, where an attack wants one of the target class.

A target's is the same for every image, shard and limit: of the folder in a seeded order, the first
that the model puts into the class. run.json keeps it, so that a run that goes on, and a replay,
start from there too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from advcli.errors import RunError
from advcli.images.stream import ImageStream
from advcli.images.text import printable

__all__ = ["Starts"]

_MOST = 1024  # images that the model is asked about; beyond that, attacks look for a start alone
_ROWS = 64

Predict = Callable[[np.ndarray], Any]


class Starts:
    """`stream`: all images of the folder. `known` is run.json's record, target -> `{file, sha256}`
    or None where there is no such image; what is found is added to it."""

    def __init__(self, stream: ImageStream, predict: Predict, known: dict[str, Any]) -> None:
        self._whole = stream
        self._predict = predict
        self._known = known
        self._pixels: dict[int, np.ndarray | None] = {}

    @cached_property
    def _stream(self) -> ImageStream:
        """The images that are looked through; ordered only where a start is wanted at all."""
        whole = self._whole
        refs = sorted(whole.folder.refs, key=lambda ref: _place(whole.seed, ref.path))
        return whole.over(refs[:_MOST])

    def of(self, target: int | None) -> np.ndarray | None:
        """uint8 [H, W, C]; None without a target, or where no image is there.

        Raises RunError where the image that the run began with is gone or another one.
        """
        if target is None:
            return None
        if target not in self._pixels:
            stored = self._known.get(str(target), False)
            self._pixels[target] = self._found(target) if stored is False else self._kept(stored)
        return self._pixels[target]

    def _found(self, target: int) -> np.ndarray | None:
        self._known[str(target)] = None
        with closing(iter(self._stream)) as images:
            while batch := list(islice(images, _ROWS)):
                readable = [(image, image.pixels) for image in batch if image.pixels is not None]
                if not readable:
                    continue
                answer = self._predict(np.stack([pixels for _, pixels in readable]))
                for (image, pixels), prediction in zip(readable, answer.prediction, strict=True):
                    if int(prediction) == target:
                        start = {"file": image.ref.path, "sha256": image.sha256}
                        self._known[str(target)] = start
                        return pixels
        return None

    def _kept(self, stored: dict[str, str] | None) -> np.ndarray | None:
        if stored is None:
            return None
        found = next(iter(self._stream.subset({stored["file"]})), None)
        if found is None or found.sha256 != stored["sha256"]:
            raise RunError(
                f"{printable(stored['file'], 60)}: targeted attacks of this run start from this "
                "image, and it is gone or another one now",
                "restore it, or give another --out",
            )
        return found.pixels


def _place(seed: int, path: str) -> bytes:
    return hashlib.sha256(b"%d\0%s" % (seed, path.encode("utf-8", "surrogateescape"))).digest()
