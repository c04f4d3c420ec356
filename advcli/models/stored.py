"""What an HDF5 file stores, object by object: links are named, never followed.

Only `quarantine`'s child process calls these functions on a file that somebody else made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from advcli.errors import ModelError

MAX_OBJECTS = 40_000
MAX_NAMES = 2**25
MAX_CONFIG_BYTES = 16 * 2**20

Storage = Literal["plain", "soft link", "external link", "external storage", "virtual dataset"]


@dataclass(frozen=True)
class Stored:
    """One HDF5 object: its path, how it is kept, its shape, bytes declared and bytes on disk."""

    name: str
    storage: Storage
    shape: tuple[int, ...] = ()
    declared_bytes: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True)
class Contents:
    """A file's objects, and the attributes that Keras writes (None where there is none).

    `iterations` is the optimizer's step count; `without` says what a file without a configuration
    holds instead.
    """

    stored: tuple[Stored, ...]
    iterations: int | None
    config: str | None = None
    keras_version: str | None = None
    backend: str | None = None
    training: str | None = None
    without: str = ""


def read_contents(path: str) -> Contents:
    """Every object of the file at `path`, and its attributes; no weight is read."""
    import h5py

    with h5py.File(path, "r") as file:
        stored, iterations = _walk(file)
        here = file.attrs
        if "model_config" not in here:
            return Contents(stored, iterations, without=_without_config(file))
        config = _text(here["model_config"])
        if config is None:
            kind = type(here["model_config"]).__name__
            raise ModelError(
                f"its model_config is {kind}, not JSON text", "save the model again with Keras"
            )
        weights = file.get("model_weights", getlink=True)
        inner = file["model_weights"].attrs if isinstance(weights, h5py.HardLink) else here
        return Contents(
            stored,
            iterations,
            config=config,
            keras_version=_text(here.get("keras_version", inner.get("keras_version"))),
            backend=_text(here.get("backend", inner.get("backend"))),
            training=_text(here.get("training_config")),
        )


def rewrite(source: str, target: str, config: str | None) -> None:
    """Copies datasets, groups and attributes to a new file, values alone; no link, no filter."""
    import h5py

    # The newest format: an older one bounds the attributes of an object to 64 KiB.
    with h5py.File(source, "r") as old, h5py.File(target, "w", libver="latest") as new:
        _copy_attributes(old, new)
        if config is not None:
            new.attrs.create("model_config", config, dtype=h5py.string_dtype())
        placed: dict[int, str] = {}
        for name, item in _objects(old):
            if item is None or name.split("/")[0] in ("optimizer_weights", "optimizer"):
                continue
            address = h5py.h5o.get_info(item.id).addr
            if address in placed:
                if isinstance(item, h5py.Dataset):
                    new[name] = new[placed[address]]
                continue
            placed[address] = name
            if isinstance(item, h5py.Group):
                _copy_attributes(item, new.require_group(name))
            elif isinstance(item, h5py.Dataset) and item.dtype.kind in "iufbS":
                _copy_attributes(item, new.create_dataset(name, data=item[()]))


def _copy_attributes(old: Any, new: Any) -> None:
    for name in old.attrs:
        if name in ("model_config", "training_config"):
            continue
        value = old.attrs[name]
        if isinstance(value, (str, bytes)) or getattr(value, "dtype", None) is not None:
            new.attrs[name] = value


def _objects(file: Any) -> Iterator[tuple[str, Any]]:
    """(path, object), parents before children; the object is None where a link leads to it.

    An object of several names comes under each, but a group is entered once.
    """
    import h5py

    entered: set[int] = set()
    pending = [("", file)]
    while pending:
        prefix, group = pending.pop()
        for name in group:
            here = f"{prefix}{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                yield here, None
                continue
            item = group[name]
            yield here, item
            if isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address not in entered:
                    entered.add(address)
                    pending.append((f"{here}/", item))


def _walk(file: Any) -> tuple[tuple[Stored, ...], int | None]:
    """Every dataset and link of the file, links not followed, and the optimizer's step count."""
    import h5py

    stored: list[Stored] = []
    iterations: int | None = None
    seen: set[int] = set()
    count = names = 0
    for here, item in _objects(file):
        count, names = count + 1, names + len(here)
        if count > MAX_OBJECTS or names > MAX_NAMES:
            raise ModelError(
                f"holds {count:,} objects or more, their paths of {names:,} characters",
                "no Keras model holds so many",
            )
        if item is None:
            prefix, _, name = here.rpartition("/")
            link = file[prefix or "/"].get(name, getlink=True)
            external = isinstance(link, h5py.ExternalLink)
            stored.append(Stored(here, "external link" if external else "soft link"))
            continue
        address = h5py.h5o.get_info(item.id).addr
        if address in seen or not isinstance(item, h5py.Dataset):
            continue
        seen.add(address)
        entry = _dataset(here, item)
        stored.append(entry)
        last = here.rpartition("/")[2].split(":")[0].rsplit("_", 1)
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


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and len(value) > MAX_CONFIG_BYTES:
        raise ModelError(
            f"its configuration takes {len(value):,} bytes", "no Keras model needs that much"
        )
    return value if isinstance(value, str) else None


def _without_config(file: Any) -> str:
    if "layer_names" in file.attrs:
        return "holds weights only, no model to put them in"
    if "model_weights" in file:
        return "holds weights but no model_config, so there is no model to put them in"
    if "layers" in file or "_layer_checkpoint_dependencies" in file:
        return "holds weights only (a .weights.h5 file), no model to put them in"
    return "is an HDF5 file, but holds no Keras model"
