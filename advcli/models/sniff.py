"""What a file is, by its first bytes: the names of model files are wrong too often."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path
from typing import Literal

from advcli.errors import ModelError

Kind = Literal["h5", "keras"]

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HINT = "advcli audits Keras models saved as .h5 (or .keras): model.save('model.h5')"


def shown(text: object, limit: int = 200) -> str:
    """A name from outside as one printable line: control and direction characters escaped."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def sniff(path: Path) -> Kind:
    """`h5` or `keras`; raises `ModelError` with what else the file is."""
    try:
        if path.is_dir():
            raise _refusal(path, _directory(path))
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise _refusal(path, "is not a regular file")
        size = status.st_size
        with path.open("rb") as file:
            head = file.read(4096)
            if _is_hdf5(path, head, size):
                return "h5"
    except FileNotFoundError:
        raise ModelError(f"{shown(path)}: no such file", "check the path of the model") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(
            f"{shown(path)}: cannot be read ({reason})", "check its permissions"
        ) from error
    if size == 0:
        raise _refusal(path, "is empty", "the download or copy failed: fetch it again")
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    raise _refusal(path, *_other(head))


def _refusal(path: Path, reason: str, hint: str = _HINT) -> ModelError:
    return ModelError(f"{shown(path)}: {reason}", hint)


def _is_hdf5(path: Path, head: bytes, size: int) -> bool:
    """The signature may follow a user block of 512, 1024, 2048 … bytes."""
    if head.startswith(HDF5_SIGNATURE):
        return True
    if head.startswith((b"PK", b"<")):
        return False
    return any(head[offset : offset + 8] == HDF5_SIGNATURE for offset in (512, 1024, 2048))


def _directory(path: Path) -> str:
    if (path / "saved_model.pb").exists() or (path / "keras_metadata.pb").exists():
        return "is a TensorFlow SavedModel folder, not a Keras .h5 file"
    return "is a directory, not a model file"


def _zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        raise _refusal(
            path, "is a damaged or truncated zip file", "fetch or save it again"
        ) from None
    if "config.json" in names and "model.weights.h5" in names:
        return "keras"
    if any(name.endswith("data.pkl") for name in names):
        raise _refusal(path, "is a PyTorch file, not a Keras model")
    if any(name.endswith("saved_model.pb") for name in names):
        raise _refusal(path, "is a zipped TensorFlow SavedModel, not a Keras .h5 file")
    nested = sorted(name for name in names if name.lower().endswith((".h5", ".hdf5", ".keras")))
    if nested:
        raise _refusal(
            path, f"is a zip file that holds {shown(nested[0], 80)}", "unpack it and name that file"
        )
    raise _refusal(path, "is a zip file without a Keras model in it")


def _other(head: bytes) -> tuple[str, str]:
    """What a file with none of the known signatures is, and what to do about it."""
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the model itself", "fetch the real file: git lfs pull"
    if head[4:8] == b"TFL3":
        return "is a TensorFlow Lite model, not a Keras .h5 file", _HINT
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "is a Python pickle (PyTorch or joblib), not a Keras model", _HINT
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b":"):
        return "is an ONNX or other protobuf file, not a Keras .h5 file", _HINT
    if head.startswith(b"\x1f\x8b"):
        return "is gzip-compressed", "unpack it first: gunzip"
    if head.startswith(b"\x93NUMPY"):
        return "is a NumPy array, not a Keras model", _HINT
    text = _as_text(head)
    if text is None:
        return "is no HDF5 file (its first bytes are not the HDF5 signature)", _HINT
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<?xml")):
        return (
            "is a web page, not a model (a download link often answers with one)",
            "download the raw file",
        )
    if start.startswith("{") and "class_name" in start:
        return "is a model's architecture as JSON, without weights", _HINT
    return f"is a text file that begins with {shown(text.strip()[:40])!r}", _HINT


def _as_text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # the 4,096 bytes may end inside a character
            return None
        text = head[: error.start].decode("utf-8")
    return None if any(c < " " and c not in "\t\r\n\f\x1b" for c in text) else text
