"""Taking time: turns within one run, and whole processes with their peak memory.

No TensorFlow here: a child's peak memory is at least what its parent held when it was started.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass
class Times:
    """One contender's seconds: the first call by itself, then one for each round."""

    first: float
    rounds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.rounds)

    def over(self, base: Times) -> float:
        """How many times slower than `base`: the median of the ratios within a round."""
        return median(a / b for a, b in zip(self.rounds, base.rounds, strict=True))


def in_turns(
    contenders: Mapping[str, Callable[[], float | None]], repetitions: int
) -> dict[str, Times]:
    """Everybody once, unmeasured, then `repetitions` rounds; who begins a round changes.

    A contender that takes its own time returns it; otherwise its call is timed.
    """

    def timed(run: Callable[[], float | None]) -> float:
        began = time.perf_counter()
        own = run()
        return time.perf_counter() - began if own is None else own

    found = {name: Times(timed(run)) for name, run in contenders.items()}
    order = list(contenders)
    for repetition in range(repetitions):
        turn = repetition % len(order)
        for name in order[turn:] + order[:turn]:
            found[name].rounds.append(timed(contenders[name]))
    return found


@dataclass(frozen=True)
class Finished:
    """A process that has ended: wall-clock seconds from start to end, peak memory in MiB."""

    seconds: float
    peak: float
    code: int
    output: str

    def checked(self, allowed: Sequence[int] = (0,)) -> Finished:
        """Itself, or SystemExit with what it wrote."""
        if self.code not in allowed:
            raise SystemExit(f"exit {self.code}:\n{self.output[-3000:]}")
        return self


def process(
    command: Sequence[str | Path],
    *,
    given: str = "",
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Runs a command to its end, in the repository; `output` is what it printed."""
    with (
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
        tempfile.TemporaryFile("w+") as inputs,
    ):
        inputs.write(given)
        inputs.seek(0)
        began = time.perf_counter()
        child = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})},
            stdin=inputs,
            stdout=output,
            stderr=errors,
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        text = output.read()
        unit = 2**20 if sys.platform == "darwin" else 2**10
        if child.returncode:
            text += errors.read()
        return Finished(seconds, usage.ru_maxrss / unit, child.returncode, text)


def advcli(*arguments: Any, allowed: Sequence[int] = (0,)) -> Finished:
    """`advcli …` in a process of its own, by this interpreter."""
    return process([sys.executable, "-m", "advcli", *map(str, arguments)]).checked(allowed)
