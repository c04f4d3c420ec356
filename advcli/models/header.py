"""A model file's header: its configuration and what is stored, read without TensorFlow or Keras.

Nothing here allocates what the file declares: shapes are read, data is not.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcli.errors import ModelError
from advcli.models.quarantine import contents
from advcli.models.sniff import Kind, shown, sniff
from advcli.models.stored import MAX_CONFIG_BYTES, Contents, Stored

MAX_DEPTH = 60
MAX_LAYERS = 3000
MAX_VALUES = 500_000
"""A configuration of 1,000 layers has 100,000. In Python each takes 60 to 300 bytes."""
MAX_WEIGHT_FILE_BYTES = 16 * 2**30
_MAX_RATIO = 100
_BEFORE_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_FREE_BYTES = 2**20
"""Unpacked bytes may exceed packed ones by `_MAX_RATIO`, beyond a free megabyte."""

DAMAGED_ZIP = (
    *(OSError, RuntimeError, ValueError, LookupError, EOFError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)
"""What zipfile and its decompressors raise on damage."""


@dataclass(frozen=True)
class Header:
    """What a file says of its model, before anything is built.

    `config` is the model's configuration as saved; `stored` are the file's datasets and links;
    `iterations` is the optimizer's step count where it was saved, `loss` the training loss.
    """

    path: Path
    sha256: str
    kind: Kind
    keras_version: str | None
    backend: str | None
    config: dict[str, Any]
    stored: tuple[Stored, ...]
    iterations: int | None
    loss: str | None

    @property
    def weight_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every stored weight (the optimizer's left out), by its path in the file."""
        return {
            item.name: item.shape
            for item in self.stored
            if item.storage == "plain"
            and not item.name.startswith(("optimizer_weights/", "optimizer/"))
        }


def read_header(path: str | Path) -> Header:
    """Reads a Keras `.h5` or `.keras` file's header; raises `ModelError` with a one-line reason."""
    path = Path(path)
    kind = sniff(path)
    try:
        digest = file_sha256(path)
        return _read_h5(path, digest) if kind == "h5" else _read_keras(path, digest)
    except DAMAGED_ZIP as error:
        raise ModelError(
            f"{shown(path)}: is damaged ({shown(error, 120)})", "fetch or save it again"
        ) from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_h5(path: Path, digest: str) -> Header:
    found = contents(path, path)
    if found.config is None:
        raise ModelError(
            f"{shown(path)}: {found.without}",
            "save the whole model: model.save('model.h5'), not save_weights",
        )
    return Header(
        path=path,
        sha256=digest,
        kind="h5",
        keras_version=_text(found.keras_version),
        backend=_text(found.backend),
        config=_parse_config(path, found.config),
        stored=found.stored,
        iterations=found.iterations,
        loss=_loss(found.training),
    )


def _read_keras(path: Path, digest: str) -> Header:
    with zipfile.ZipFile(path) as archive:
        config = _parse_config(path, _member(path, archive, "config.json"))
        metadata: Any = {}
        if "metadata.json" in archive.namelist():
            metadata = json.loads(_member(path, archive, "metadata.json"))
        weights = _zipped_weights(path, archive)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    compiled = config.get("compile_config")
    return Header(
        path=path,
        sha256=digest,
        kind="keras",
        keras_version=_text(version),
        backend=None,
        config=config,
        stored=weights.stored,
        iterations=weights.iterations,
        loss=_loss(json.dumps(compiled)) if isinstance(compiled, dict) else None,
    )


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > min(MAX_CONFIG_BYTES, _FREE_BYTES + _MAX_RATIO * info.compress_size):
        raise ModelError(
            f"{shown(path)}: its {name} unpacks to {info.file_size:,} bytes",
            "no Keras model needs that much",
        )
    return archive.read(info)


def _zipped_weights(path: Path, archive: zipfile.ZipFile) -> Contents:
    """What the HDF5 file inside a `.keras` archive holds, unpacked to disk for the moment."""
    with tempfile.TemporaryDirectory(prefix="advcli-") as folder:
        unpacked = Path(folder) / "model.weights.h5"
        unpack_weights(path, archive, unpacked)
        found = contents(unpacked, path)
    # The scan holds what is declared against the unpacked file, which itself may be a bomb.
    declared = sum(item.declared_bytes for item in found.stored)
    packed = archive.getinfo("model.weights.h5").compress_size
    if declared > _FREE_BYTES + _MAX_RATIO * packed:
        raise ModelError(
            f"{shown(path)}: its weights declare {declared:,} bytes and store {packed:,}",
            "the file is damaged, or made to exhaust memory",
        )
    return found


def unpack_weights(path: Path, archive: zipfile.ZipFile, target: Path) -> None:
    """Writes the weights of a `.keras` archive to a file; refuses absurd sizes."""
    info = archive.getinfo("model.weights.h5")
    if info.file_size > min(MAX_WEIGHT_FILE_BYTES, _FREE_BYTES + _MAX_RATIO * info.compress_size):
        raise ModelError(
            f"{shown(path)}: its weights unpack to {info.file_size:,} bytes",
            "this is no sane model file",
        )
    with archive.open(info) as source, target.open("wb") as unpacked:
        shutil.copyfileobj(source, unpacked, 2**20)


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return shown(value, 40) if isinstance(value, str) else None


def _parse_config(path: Path, raw: object) -> dict[str, Any]:
    """The configuration as a dictionary with a class name, of bounded size and depth."""
    if not isinstance(raw, (str, bytes)):
        raise ModelError(
            f"{shown(path)}: its model_config is {type(raw).__name__}, not JSON text",
            "save the model again with Keras",
        )
    if len(raw) > MAX_CONFIG_BYTES:
        raise _oversized(path, len(raw))
    if isinstance(raw, bytes):
        values = sum(raw.count(mark) for mark in (b"[", b"{", b","))
    else:
        values = sum(raw.count(mark) for mark in "[{,")
    if values > MAX_VALUES:
        raise ModelError(
            f"{shown(path)}: its configuration holds over {MAX_VALUES:,} values",
            "no Keras model needs that much",
        )
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else shown(error, 80)
        raise ModelError(
            f"{shown(path)}: its model_config is not valid JSON ({reason})",
            "the file is damaged: fetch or save it again",
        ) from None
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise ModelError(
            f"{shown(path)}: its model_config names no model class",
            "save the model again with Keras",
        )
    _check_extent(path, config)
    return config


def _oversized(path: Path, size: int) -> ModelError:
    return ModelError(
        f"{shown(path)}: its configuration takes {size:,} bytes", "no Keras model needs that much"
    )


def _check_extent(path: Path, config: object) -> None:
    """Keras and the rules of this package recurse: a bound here keeps them off Python's own."""
    level: list[object] = [config]
    depth = layers = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ModelError(
                f"{shown(path)}: its configuration is nested over {MAX_DEPTH} levels deep",
                "no Keras model needs that much",
            )
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                lists = (item.get(key) for key in ("layers", "config"))  # Keras 1: a bare list
                layers += sum(len(found) for found in lists if isinstance(found, list))
                below.extend(v for v in item.values() if isinstance(v, (dict, list)))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, (dict, list)))
        level = below
    if layers > MAX_LAYERS:
        raise ModelError(
            f"{shown(path)}: its configuration has {layers:,} layers",
            "no image classifier has that many",
        )


def _loss(raw: object) -> str | None:
    """The training loss's name, lower case with underscores, where the file says it."""
    if not isinstance(raw, (str, bytes)) or len(raw) > MAX_CONFIG_BYTES:
        return None
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    loss = config.get("loss") if isinstance(config, dict) else None
    while isinstance(loss, (dict, list)) and len(loss) > 0:
        if isinstance(loss, list):
            loss = loss[0]
            continue
        inner = loss.get("config")
        name = inner.get("name") if isinstance(inner, dict) else inner
        loss = name if isinstance(name, str) else loss.get("class_name")
    # a loss may be saved as its class: SquaredHinge
    return _BEFORE_CAPITAL.sub("_", shown(loss, 60)).lower() if isinstance(loss, str) else None
