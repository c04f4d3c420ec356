"""Which images a limited run takes: the first by a hash of seed, path and content.

So the sample of `--limit 100` holds that of `--limit 50`, does not depend on names alone (a folder
sorted by difficulty), and an image that cannot be read is replaced by the next in this order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from advcli.images.folder import ImageFolder, ImageRef

__all__ = ["WHOLE", "Shard", "hash_order", "select"]

_THREADS = 4
T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Number `number` of `parts`, from 1: every so many-th image, each in one part."""

    number: int
    parts: int

    def of(self, items: tuple[T, ...]) -> tuple[T, ...]:
        """This part of them."""
        return items[self.number - 1 :: self.parts]

    def share(self, total: int) -> int:
        """How many of `total` are in this part."""
        return len(range(self.number - 1, total, self.parts))


WHOLE = Shard(1, 1)


def select(
    folder: ImageFolder, limit: int | None, seed: int, shard: Shard = WHOLE
) -> tuple[ImageRef, ...]:
    """The images in the order in which a run takes them until it has `limit` that decode.

    Without a limit: the folder's own order. With one: by hash, all of them, so that the caller
    can pass over those that do not decode. A shard is dealt by hash in any case, so that it is the
    same part with and without a limit or a time budget. Where a hash decides, every file is read
    once (4 at a time, piecewise).
    """
    if limit is None and shard is WHOLE:
        return folder.refs
    dealt = shard.of(hash_order(folder.root, folder.refs, seed))
    if limit is not None:
        return dealt
    here = frozenset(dealt)
    return tuple(ref for ref in folder.refs if ref in here)


def hash_order(root: Path, refs: Iterable[ImageRef], seed: int) -> tuple[ImageRef, ...]:
    """`refs` in the seeded order; a file that cannot be read takes its place by its path alone."""
    refs = tuple(refs)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="advcli-hash") as pool:
        try:
            keys = list(pool.map(lambda ref: _key(root, ref, seed), refs, chunksize=1))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    order = sorted(range(len(refs)), key=lambda i: (keys[i], refs[i].path))
    return tuple(refs[i] for i in order)


def _key(root: Path, ref: ImageRef, seed: int) -> bytes:
    path = ref.path.encode("utf-8", "surrogateescape")
    return hashlib.sha256(b"%d\0%s\0%s" % (seed, path, _content(root / ref.path))).digest()


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, ValueError):
        return b"unreadable"
