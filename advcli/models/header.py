"""A model file's header: its configuration and what is stored, read without TensorFlow or Keras.

Nothing here allocates what the file declares: shapes are read, data is not.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcli.errors import ModelError
from advcli.models.sniff import Kind, shown, sniff
from advcli.models.stored import Stored, walk

MAX_CONFIG_BYTES = 64 * 2**20
MAX_DEPTH = 60
MAX_WEIGHT_FILE_BYTES = 16 * 2**30


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
            if item.storage == "plain" and not item.name.startswith("optimizer_weights/")
        }


def read_header(path: str | Path) -> Header:
    """Reads a Keras `.h5` or `.keras` file's header; raises `ModelError` with a one-line reason."""
    path = Path(path)
    kind = sniff(path)
    try:
        digest = file_sha256(path)
        return _read_h5(path, digest) if kind == "h5" else _read_keras(path, digest)
    except OSError as error:
        raise ModelError(f"{shown(path)}: {_h5_reason(error)}", "fetch or save it again") from error
    except (RuntimeError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        # h5py and zipfile report damage inside a file with any of these.
        raise ModelError(
            f"{shown(path)}: is damaged ({shown(error, 120)})", "fetch or save it again"
        ) from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _h5_reason(error: OSError) -> str:
    text = str(error)
    if "truncated" in text:
        return "is truncated: the end of the HDF5 file is missing"
    return f"is a damaged HDF5 file ({shown(text, 120)})"


def _read_h5(path: Path, digest: str) -> Header:
    import h5py

    with h5py.File(path, "r") as file:
        stored, iterations = walk(path, file)
        attributes = file.attrs
        raw = attributes.get("model_config")
        if raw is None:
            raise ModelError(
                f"{shown(path)}: {_without_config(file)}",
                "save the whole model: model.save('model.h5'), not save_weights",
            )
        group = file.get("model_weights", getlink=False) if "model_weights" in file else file
        version = _text(attributes.get("keras_version", group.attrs.get("keras_version")))
        backend = _text(attributes.get("backend", group.attrs.get("backend")))
        return Header(
            path=path,
            sha256=digest,
            kind="h5",
            keras_version=version,
            backend=backend,
            config=_parse_config(path, raw),
            stored=stored,
            iterations=iterations,
            loss=_loss(attributes.get("training_config")),
        )


def _without_config(file: Any) -> str:
    if "layer_names" in file.attrs:
        return "holds weights only, no model to put them in"
    if "model_weights" in file:
        return "holds weights but no model_config, so there is no model to put them in"
    if "layers" in file or "_layer_checkpoint_dependencies" in file:
        return "holds weights only (a .weights.h5 file), no model to put them in"
    return "is an HDF5 file, but holds no Keras model"


def _read_keras(path: Path, digest: str) -> Header:
    with zipfile.ZipFile(path) as archive:
        config_info = archive.getinfo("config.json")
        if config_info.file_size > MAX_CONFIG_BYTES:
            raise _oversized(path, config_info.file_size)
        config = _parse_config(path, archive.read(config_info))
        metadata: Any = {}
        if "metadata.json" in archive.namelist():
            info = archive.getinfo("metadata.json")
            if info.file_size <= MAX_CONFIG_BYTES:
                metadata = json.loads(archive.read(info))
        stored, iterations = _zipped_weights(path, archive)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    compiled = config.get("compile_config")
    return Header(
        path=path,
        sha256=digest,
        kind="keras",
        keras_version=_text(version),
        backend=None,
        config=config,
        stored=stored,
        iterations=iterations,
        loss=_loss(json.dumps(compiled)) if isinstance(compiled, dict) else None,
    )


def _zipped_weights(path: Path, archive: zipfile.ZipFile) -> tuple[tuple[Stored, ...], int | None]:
    """Walks the HDF5 file inside a `.keras` archive, unpacked to disk for the moment."""
    import h5py

    info = archive.getinfo("model.weights.h5")
    if info.file_size > MAX_WEIGHT_FILE_BYTES or info.file_size > 1000 * info.compress_size + 2**20:
        raise ModelError(
            f"{shown(path)}: its weights unpack to {info.file_size:,} bytes",
            "this is no sane model file",
        )
    with tempfile.TemporaryFile(prefix="advcli-") as unpacked, archive.open(info) as source:
        while block := source.read(2**20):
            unpacked.write(block)
        unpacked.seek(0)
        with h5py.File(unpacked, "r") as file:
            return walk(path, file)


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
    _check_depth(path, config)
    return config


def _oversized(path: Path, size: int) -> ModelError:
    return ModelError(
        f"{shown(path)}: its configuration takes {size:,} bytes", "no Keras model needs that much"
    )


def _check_depth(path: Path, config: object) -> None:
    """Keras and the rules of this package recurse: a bound here keeps them off Python's own."""
    level: list[object] = [config]
    depth = 0
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
                below.extend(v for v in item.values() if isinstance(v, (dict, list)))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, (dict, list)))
        level = below


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
    return shown(loss, 60) if isinstance(loss, str) else None
