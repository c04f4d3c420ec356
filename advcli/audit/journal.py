"""The journal: results.jsonl, one line per image and attack and eps, appended as it is known.

A line is a fact once it ends in a newline. Whatever follows the last newline was torn by a crash
and is dropped; nothing before it is ever written again.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from advcli.errors import RunError

__all__ = ["Journal", "drop_torn_line", "dumps", "finite", "read_lines"]

_SYNC_SECONDS = 2.0  # what a power cut can cost; a crash of the process costs nothing


def finite(value: Any) -> Any:
    """`value` with every NaN and infinity in it replaced by None: JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON. ASCII only, so that a file name that is no Unicode survives the round trip."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


class Journal:
    """Appends lines; every line is handed to the system at once, to the disk every 2 seconds."""

    def __init__(self, path: Path) -> None:
        drop_torn_line(path)
        self._file = path.open("ab")
        self._synced = time.monotonic()

    def append(self, line: dict[str, Any]) -> None:
        self._file.write(dumps(line).encode() + b"\n")
        self._file.flush()
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        if not self._file.closed:
            self.sync()
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def drop_torn_line(path: Path) -> None:
    """Cuts off whatever follows the last newline; a missing file is left missing."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep:
            start = max(0, keep - 65536)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            file.truncate(keep)
            file.flush()
            os.fsync(file.fileno())


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The journal's lines in order; a torn last line is passed over.

    Raises RunError for a damaged line before it: nothing may be computed on top of that.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                return
            try:
                line = json.loads(raw)
                if not isinstance(line, dict) or "image" not in line or "attack" not in line:
                    raise ValueError("no journal line")
            except ValueError:
                raise RunError(
                    f"{path}: line {number} is damaged", "restore the file, or start a new run"
                ) from None
            yield line
