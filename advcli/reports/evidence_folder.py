"""A folder of files that is there as a whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from advcli.errors import NoVerdictError, UsageError
from advcli.images.text import printable
from advcli.images.writer import write_bytes

__all__ = ["check_folder", "write_folder"]


def check_folder(folder: Path) -> None:
    """Raises UsageError for what is neither new nor an empty folder."""
    shown = printable(str(folder))
    try:
        if not os.path.lexists(folder):
            return
        if not folder.is_dir():
            raise UsageError(f"--evidence {shown}: is a file", "give a new or an empty folder")
        if any(folder.iterdir()):
            raise UsageError(
                f"--evidence {shown}: is not empty, and evidence is never mixed with other files",
                "give a new or an empty folder",
            )
    except (OSError, ValueError) as error:
        raise _unwritable(shown, error) from error


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files beside `folder` and renames them into place together.

    Raises UsageError where nothing can be written there, NoVerdictError where writing fails; then
    nothing is left.
    """
    check_folder(folder)
    target = Path(os.path.realpath(folder))
    temporary = target.parent / f".advcli-{secrets.token_hex(8)}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        raise _unwritable(printable(str(folder)), error) from error
    try:
        for name, data in files.items():
            write_bytes(temporary / name, data)
        if target.is_dir():
            target.rmdir()
        temporary.rename(target)
    except OSError as error:
        raise NoVerdictError(
            f"--evidence {printable(str(folder))}: cannot be written: {error.strerror or error}",
            "make room, or give another folder",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unwritable(shown: str, error: Exception) -> UsageError:
    reason = getattr(error, "strerror", None) or error
    return UsageError(
        f"--evidence {shown}: cannot be written: {reason}", "choose a folder that you may write to"
    )
