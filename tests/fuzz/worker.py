"""One child process of a long run: draws cases of one part, runs each, says what came of it.

Lines on standard output: "start", then "end <JSON>". The case under way lies in the file `current`,
so that the parent still has it when this process dies. libhdf5 runs in forks of this process, which
cost a twentieth of a new interpreter, under the same limits.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from advcli.models import quarantine
from tests.fuzz.parts import Part, outcome

SECONDS = 10
BYTES = 2 * 10**9


def main(part_name: str, first_seed: int, cases: int, scratch: Path) -> None:
    part: Part = importlib.import_module(f"tests.fuzz.{part_name}").PART
    if part_name == "loads":
        from advcli.models import runtime

        runtime.prepare("cpu")
    else:
        quarantine.run_child = forked
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    streams = []
    for number, name in ((1, "printed"), (2, "noise")):
        streams.append(os.open(scratch / name, os.O_RDWR | os.O_CREAT | os.O_APPEND))
        os.dup2(streams[-1], number)

    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @seed(first_seed)
    @given(part.cases)
    def each(case: bytes) -> None:
        (scratch / "current").write_bytes(case)
        replies.write("start\n")
        replies.write(f"end {json.dumps(_one(part, case, scratch, streams[0]))}\n")

    each()


def _one(part: Part, case: bytes, scratch: Path, printed: int) -> dict[str, Any]:
    folder = scratch / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts anew
    before = sum(os.times()[:4])
    found: dict[str, Any] = {}
    try:
        found["outcome"] = outcome(part, case, folder)
    except Exception as error:  # noqa: BLE001 - every one of them is a finding
        found["outcome"] = "finding"
        found["trace"] = traceback.format_exc()
        found["kind"] = _kind(error)
    found["seconds"] = sum(os.times()[:4]) - before
    found["bytes"] = peak_bytes(os.getpid())
    said = os.pread(printed, 2000, 0).decode(errors="replace")
    if said:  # standard output is for results alone; libtiff and others print remarks on the other
        found |= {"outcome": "finding", "kind": "prints", "trace": said}
        os.ftruncate(printed, 0)
    if found["seconds"] > SECONDS:
        found |= {"outcome": "finding", "kind": f"takes over {SECONDS} s"}
    if found["bytes"] > BYTES:
        found |= {"outcome": "finding", "kind": "takes over 2 GB"}
    if found["outcome"] == "finding":
        found["case"] = case.hex()
    return found


def _kind(error: Exception) -> str:
    """The error and the last line of this project that it passed: equal for equal findings."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "advcli/" in f.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__} {where}"


def peak_bytes(process: int) -> int:
    """The most memory that a process has held since its peak was last reset."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def forked(seconds: int, room: int, *task: str | None) -> tuple[int, bytes]:
    """`quarantine.run_child` by a fork of this process."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        with contextlib.suppress(BaseException), os.fdopen(writing, "wb") as answer:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
            resource.setrlimit(resource.RLIMIT_AS, (room, room))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.dup2(os.open(os.devnull, os.O_RDWR), 2)
            answer.write(quarantine.answered(*task).encode())
            answer.flush()
            os._exit(0)
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), said


def finding_name(part: str, case: bytes) -> str:
    """A file name for a case worth keeping."""
    return f"{part}-{hashlib.sha256(case).hexdigest()[:12]}"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
