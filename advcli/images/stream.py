"""An ImageFolder as a stream of decoded images that can be gone through again and again.

Threads decode a few images ahead of the consumer; nothing else of the pixels stays in memory but
a small cache of the first images. What every pass must agree on (which images a limit chose, what
each one showed, which failed) is remembered: about a hundred bytes an image.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Collection, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from advcli.images.decode import Exif, ImageReadError, Resample, Resize, decode
from advcli.images.folder import ImageFolder, ImageRef
from advcli.images.sample import WHOLE, Shard, hash_order, select

__all__ = ["ImageStream", "LoadedImage", "pixel_hash"]

_AHEAD_PER_THREAD = 4


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """A clean image, or why there is none.

    pixels: uint8 [h, w, c], read-only; sha256: `pixel_hash` of them; original_size: (height,
    width) of the file after rotation. All three are None where `error` says why.
    """

    ref: ImageRef
    pixels: NDArray[np.uint8] | None
    sha256: str | None
    error: str | None
    original_size: tuple[int, int] | None


def pixel_hash(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of uint8 pixels [h, w, c] in row order, and of their shape (hexadecimal)."""
    digest = hashlib.sha256("x".join(map(str, pixels.shape)).encode() + b"\n")
    digest.update(np.ascontiguousarray(pixels, dtype=np.uint8).data)
    return digest.hexdigest()


class ImageStream:
    """Every image of a folder at one shape, in one order: the folder's, or by hash with a limit.

    Of several shards a stream has its own: every n-th image of that order.

    With `limit`, an iteration ends when that many images have decoded; those that failed before
    are yielded too (with `error`), as without a limit. An image that shows something else in a
    later pass than in the first is an error there: its figures would belong to no one image.
    """

    def __init__(
        self,
        folder: ImageFolder,
        shape: tuple[int, int, int],
        *,
        limit: int | None = None,
        seed: int = 0,
        shard: Shard = WHOLE,
        resize: Resize = "stretch",
        resample: Resample = "bilinear",
        exif: Exif = "apply",
        threads: int | None = None,
        cache_bytes: int = 64 << 20,
    ) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self.folder = folder
        self.shape = shape
        self.shard = shard
        self.limit = None if limit is None else shard.share(limit)
        self.seed = seed
        self._resize: Resize = resize
        self._resample: Resample = resample
        self._exif: Exif = exif
        self._threads = threads or min(4, os.cpu_count() or 1)
        self._refs: tuple[ImageRef, ...] | None = None
        self._fixed = limit is None
        self._seen: dict[str, bytes | str] = {}  # digest of the pixels, or the error
        self._cache: dict[str, LoadedImage] = {}
        self._cache_room = cache_bytes

    @property
    def count(self) -> int:
        """How many images decode at most: what a progress bar counts to."""
        total = self.shard.share(len(self.folder.refs))
        return total if self.limit is None else min(total, self.limit)

    @property
    def replaces(self) -> bool:
        """Whether an image that cannot be read makes room for another."""
        return self.limit is not None and self.limit < self.shard.share(len(self.folder.refs))

    def __iter__(self) -> Generator[LoadedImage, None, None]:
        """All images; closing the iterator early stops the decoding too."""
        decoded = 0
        refs = self._order()
        images = self._loaded(refs, self.limit if not self._fixed else None)
        with closing(images):
            for taken, image in enumerate(images, start=1):
                decoded += image.error is None
                if not self._fixed and (decoded == self.limit or taken == len(refs)):
                    self._refs, self._fixed = refs[:taken], True
                yield image

    def subset(self, paths: Collection[str]) -> Generator[LoadedImage, None, None]:
        """Only the images with these paths, in the stream's order; no other is decoded.

        Paths that the stream does not hold are passed over; duplicates count once.
        """
        wanted = frozenset(paths)
        yield from self._loaded(tuple(ref for ref in self._order() if ref.path in wanted), None)

    def _order(self) -> tuple[ImageRef, ...]:
        if self._refs is None:
            self._refs = select(self.folder, self.limit, self.seed, self.shard)
        return self._refs

    def over(self, refs: Sequence[ImageRef]) -> ImageStream:
        """These images of the folder, made model-sized in the same way."""
        return ImageStream(
            replace(self.folder, refs=tuple(refs)),
            self.shape,
            resize=self._resize,
            resample=self._resample,
            exif=self._exif,
            threads=self._threads,
        )

    def blocks(self, size: int) -> Generator[ImageStream, None, None]:
        """The same images in the seeded order, `size` at a time: each block, and any number of
        the first, is a random sample. The last is smaller where the limit wants it."""
        refs = self.shard.of(hash_order(self.folder.root, self.folder.refs, self.seed))
        left, start = self.limit, 0
        while start < len(refs) and (left is None or left > 0):
            chosen = refs[start : start + (size if left is None else min(size, left))]
            start += len(chosen)
            block = self.over(chosen)
            yield block
            if left is not None:
                left -= block.decoded

    @property
    def decoded(self) -> int:
        """How many of the images seen so far could be read."""
        return sum(not isinstance(seen, str) for seen in self._seen.values())

    def _loaded(
        self, refs: tuple[ImageRef, ...], limit: int | None
    ) -> Generator[LoadedImage, None, None]:
        """`refs` decoded in order, until `limit` have succeeded; never decodes one more."""
        waiting: deque[Future[LoadedImage]] = deque()
        ahead = self._threads * _AHEAD_PER_THREAD
        left = iter(refs)
        missing = len(refs) if limit is None else limit
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="advcli-decode")
        try:
            while missing:
                while len(waiting) < min(ahead, missing):
                    ref = next(left, None)
                    if ref is None:
                        break
                    waiting.append(pool.submit(self._load, ref))
                if not waiting:
                    return
                image = self._remembered(waiting.popleft().result())
                missing -= limit is None or image.error is None
                yield image
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _load(self, ref: ImageRef) -> LoadedImage:
        """Runs in a thread."""
        known = self._cache.get(ref.path)
        if known is not None:
            return known
        failure = self._seen.get(ref.path)
        if isinstance(failure, str):
            return LoadedImage(ref, None, None, failure, None)
        try:
            decoded = decode(
                self.folder.file(ref),
                self.shape,
                resize=self._resize,
                resample=self._resample,
                exif=self._exif,
            )
        except ImageReadError as error:
            return LoadedImage(ref, None, None, error.reason, None)
        decoded.pixels.setflags(write=False)
        digest = pixel_hash(decoded.pixels)
        return LoadedImage(ref, decoded.pixels, digest, None, decoded.original_size)

    def _remembered(self, image: LoadedImage) -> LoadedImage:
        """Runs in the consumer's thread: notes what was seen, or holds it to what was seen."""
        path = image.ref.path
        if image.error is not None or image.sha256 is None or image.pixels is None:
            self._seen.setdefault(path, image.error or "")
            return image
        before = self._seen.setdefault(path, bytes.fromhex(image.sha256))
        if before != bytes.fromhex(image.sha256):
            changed = "the file changed while it was being evaluated"
            return LoadedImage(image.ref, None, None, changed, None)
        if path not in self._cache and self._cache_room > 0:
            # Stops for good at the first that does not fit: the cache holds the first images.
            self._cache_room -= image.pixels.nbytes
            if self._cache_room >= 0:
                self._cache[path] = image
        return image
