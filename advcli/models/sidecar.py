"""`MODEL.advcli.toml`: what is known of a model file, kept beside it.

Two keys: `preprocess`, as after `--preprocess`, and `sha256` of the model that it was found for.
"""

from __future__ import annotations

import os
import stat
import tempfile
import tomllib
from pathlib import Path

from advcli.errors import UsageError
from advcli.models.header import Header
from advcli.models.preprocessing import Preprocessing, parse
from advcli.models.sniff import shown

__all__ = ["read_sidecar", "sidecar_path", "write_sidecar"]

_KEYS = ("preprocess", "sha256")
_MOST_BYTES = 2**11  # tomllib takes memory with the square of a key's length
_AGAIN = "write it again: advcli inspect MODEL IMAGES --save-preprocess"


def sidecar_path(model: Path) -> Path:
    """`m.h5` -> `m.h5.advcli.toml`."""
    return model.with_name(f"{model.name}.advcli.toml")


def read_sidecar(header: Header, channels: int) -> Preprocessing | None:
    """The preprocessing beside the model, None where there is no such file.

    Raises `UsageError` where it is not understood, or was written for another model.
    """
    path = sidecar_path(header.path)
    where = shown(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise UsageError(f"{where}: is no file", "delete it")
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(
            f"{where}: cannot be read ({error.strerror})", "mend its permissions, or delete it"
        ) from error
    try:
        if len(raw) > _MOST_BYTES:
            raise ValueError("it is too long")
        values = tomllib.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: is no TOML ({shown(error, 120)})", _AGAIN) from error
    unknown = sorted(set(values) - set(_KEYS))
    if unknown:
        raise UsageError(f"{where}: unknown key {shown(unknown[0], 60)!r}", f"keys: {_KEYS}")
    text, sha256 = values.get("preprocess"), values.get("sha256", header.sha256)
    if not isinstance(text, str) or text.strip() == "auto":
        raise UsageError(f'{where}: has no preprocess = "…"', _AGAIN)
    if sha256 != header.sha256:
        raise UsageError(
            f"{where}: was written for another model file than the one beside it",
            f"{_AGAIN}; or say it: --preprocess",
        )
    try:
        found = parse(text, channels)
        found.check(channels)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", error.hint) from error
    return found.because(f"{shown(path.name)} beside the model")


def write_sidecar(header: Header, preprocessing: Preprocessing) -> Path:
    """Writes the file whole or not at all, over an earlier one; returns its path."""
    path = sidecar_path(header.path)
    text = (
        "# read by advcli where --preprocess is not given\n"
        f'preprocess = "{preprocessing.flag}"\n'
        f'sha256 = "{header.sha256}"\n'
    )
    draft: str | None = None
    try:
        # a new file under a name that nobody could have foreseen, and linked elsewhere
        handle, draft = tempfile.mkstemp(prefix=".advcli-", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except OSError as error:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
        raise UsageError(
            f"{shown(path)}: cannot be written ({error.strerror})",
            f"give the flag each time: --preprocess {preprocessing.flag}",
        ) from error
    return path
