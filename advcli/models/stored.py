"""What an HDF5 file stores, object by object: links are named, never followed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from advcli.errors import ModelError
from advcli.models.sniff import shown

MAX_OBJECTS = 200_000

Storage = Literal["plain", "soft link", "external link", "external storage", "virtual dataset"]


@dataclass(frozen=True)
class Stored:
    """One HDF5 object: its path, how it is kept, its shape, bytes declared and bytes on disk."""

    name: str
    storage: Storage
    shape: tuple[int, ...] = ()
    declared_bytes: int = 0
    stored_bytes: int = 0


def walk(path: Path, file: Any) -> tuple[tuple[Stored, ...], int | None]:
    """Every object of the file, links not followed, and the optimizer's step count."""
    import h5py

    stored: list[Stored] = []
    iterations: int | None = None
    seen: set[int] = set()
    pending = [("", file)]
    while pending:
        prefix, group = pending.pop()
        for name in group:
            here = f"{prefix}{name}"
            if len(stored) + len(seen) > MAX_OBJECTS:
                raise ModelError(
                    f"{shown(path)}: holds over {MAX_OBJECTS:,} objects", "no Keras model does"
                )
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                stored.append(Stored(here, "external link"))
                continue
            if isinstance(link, h5py.SoftLink):
                stored.append(Stored(here, "soft link"))
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                pending.append((f"{here}/", item))
            elif isinstance(item, h5py.Dataset):
                entry = _dataset(here, item)
                stored.append(entry)
                last = name.split(":")[0].rsplit("_", 1)
                counts = last[0] in ("iter", "iteration", "iterations")
                if counts and entry.storage == "plain" and item.size == 1:
                    iterations = _count(item)
                elif here == "optimizer/vars/0" and entry.storage == "plain" and item.shape == ():
                    iterations = _count(item)  # a .keras archive numbers its variables
    return tuple(stored), iterations


def _dataset(name: str, item: Any) -> Stored:
    if item.is_virtual:
        storage: Storage = "virtual dataset"
    elif item.external:
        storage = "external storage"
    else:
        storage = "plain"
    shape = tuple(int(n) for n in (item.shape or ()))
    declared = item.dtype.itemsize
    for length in shape:
        declared *= length
    return Stored(name, storage, shape, declared, int(item.id.get_storage_size()))


def _count(item: Any) -> int | None:
    if item.dtype.kind not in "iuf":
        return None
    value = float(item[()].reshape(-1)[0]) if item.shape else float(item[()])
    return int(value) if 0 <= value < 2**53 else None
