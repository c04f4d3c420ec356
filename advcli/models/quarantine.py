"""What a stranger's HDF5 file holds, read by a child process, and a copy that is safe to open.

libhdf5 is C: one of 300 damaged files makes it crash, write where it must not, or turn forever. So
only a child with a limit of time and memory opens the file as it came. The loader opens what the
child wrote of it: a new file of plain datasets and attributes, of the library's own structure. The
child imports h5py but neither TensorFlow nor Keras, and takes 0.15 s to start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from advcli.errors import ModelError
from advcli.models.sniff import shown
from advcli.models.stored import Contents, Stored, read_contents, rewrite

__all__ = ["clean_copy", "contents"]

_SECONDS = 8
_ROOM = 2 * 2**30
_START = (
    "import json, sys; paths, *asked = json.load(sys.stdin); sys.path[:0] = paths; "
    "from advcli.models.quarantine import serve; sys.stdout.write(serve(*asked))"
)
_AGAIN = "fetch or save it again"


def contents(path: Path, named: Path) -> Contents:
    """What the HDF5 file at `path` says of itself; a refusal speaks of it as `named`."""
    found = _ask(named, _SECONDS, _ROOM, "contents", str(path))
    stored = tuple(Stored(**{**item, "shape": tuple(item["shape"])}) for item in found["stored"])
    return Contents(**{**found, "stored": stored})


def clean_copy(source: Path, target: Path, config: str | None, size: int, named: Path) -> None:
    """Writes `source`'s weights (the optimizer's left out) and attributes to a new file `target`.

    `config` replaces the attribute model_config; `size` is what all datasets declare, in bytes, and
    sets the time and memory allowed.
    """
    asked = ("rewrite", str(source), str(target), config)
    _ask(named, _SECONDS + size // 2**24, _ROOM + 3 * size, *asked)


def _ask(named: Path, seconds: int, room: int, *task: str | None) -> Any:
    code, answer = run_child(seconds, room, *task)
    found: Any = None
    if code == 0:
        with suppress(ValueError):
            found = json.loads(answer)
    if not isinstance(found, dict):
        if code in (-24, -9):  # SIGXCPU, and SIGKILL from our own clock or the kernel's memory
            reason = f"the HDF5 library needs over {seconds} s, or too much memory, to read it"
        else:
            reason = "the HDF5 library crashes on it"
        raise ModelError(f"{shown(named)}: is a damaged HDF5 file ({reason})", _AGAIN)
    if "refused" in found:
        raise ModelError(f"{shown(named)}: {found['refused']}", found["hint"])
    return found["done"]


def run_child(seconds: int, room: int, *task: str | None) -> tuple[int, bytes]:
    """Exit code (minus the signal that ended it) and answer of a child that does `task`."""
    package = str(Path(__file__).resolve().parents[2])
    asked = json.dumps([[package, *sys.path], seconds, room, *task])
    # Without site and the environment, which only cost time; one thread, as nothing is computed.
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    ) as child:
        try:
            answer, _ = child.communicate(asked.encode(), timeout=_clock(seconds))
        except BaseException as error:
            child.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            answer = b""
        return child.wait(), answer


def _clock(seconds: int) -> float:
    """Seconds of real time that a task of so many seconds of computing may take."""
    return 60 + 10 * seconds


def serve(seconds: int, room: int, task: str, *arguments: Any) -> str:
    """The child's side: does the task within its limits, and answers in JSON."""
    with suppress(ImportError):  # Windows has no such limits: there the parent's clock has to do
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return answered(task, *arguments)


def answered(task: str, *arguments: Any) -> str:
    """The task's result, or why it has none, in JSON."""
    try:
        if task == "rewrite":
            rewrite(*arguments)
            return json.dumps({"done": True})
        return json.dumps({"done": asdict(read_contents(*arguments))})
    except ModelError as error:
        return json.dumps({"refused": error.message, "hint": error.hint})
    except MemoryError:
        refused = "is a damaged HDF5 file (it takes too much memory to read)"
    except OSError as error:
        refused = _reason(error)
    except Exception as error:  # noqa: BLE001 - h5py has no list of what it raises on damage
        refused = f"is damaged ({shown(error, 120) or type(error).__name__})"
    return json.dumps({"refused": refused, "hint": _AGAIN})


def _reason(error: OSError) -> str:
    text = str(error)
    if "truncated" in text:
        return "is truncated: the end of the HDF5 file is missing"
    return f"is a damaged HDF5 file ({shown(text, 120)})"
