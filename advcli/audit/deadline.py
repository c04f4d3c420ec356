"""`--time-budget`: images in random blocks, until the time is up."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from advcli.audit.meter import Watcher
from advcli.errors import UsageError

__all__ = ["BLOCK", "Deadline", "TimeIsUpError", "parse_duration", "shown_duration"]

BLOCK = 64
"""Images that go through everything together: what the end of the time costs at most."""

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


class TimeIsUpError(Exception):
    """The deadline passed in the middle of a block."""


def parse_duration(text: str) -> float:
    """`90s`, `10m`, `1h30m` in seconds; a bare number could be any of them. Raises UsageError."""
    found = _DURATION.fullmatch(text.strip().lower().replace(" ", ""))
    parts = [] if found is None else [float(part or 0) for part in found.groups()]
    seconds = sum(part * unit for part, unit in zip(parts, _UNITS.values(), strict=False))
    if not seconds:
        raise UsageError(
            f"--time-budget {text}: is no length of time", "write 90s, 10m or 1h30m, over zero"
        )
    return seconds


def shown_duration(seconds: float) -> str:
    """`1h30m`, `10m`, `90s`: as it would be given."""
    minutes, rest = divmod(seconds, 60)
    if rest or not minutes:
        return f"{seconds:g}s"
    hours, minutes = divmod(int(minutes), 60)
    return "".join(f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m")) if n)


class Deadline:
    """A Watcher that passes everything on, and raises TimeIsUpError once `seconds` are over.

    `clock` is asked when it is made and at every step of the way.
    """

    def __init__(
        self, watcher: Watcher, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._watcher = watcher
        self._clock = clock
        self._end = clock() + seconds

    def begin(self, title: str, total: int) -> None:
        self._check()
        self._watcher.begin(title, total)

    def advance(self, done: float, standing: int | None) -> None:
        self._check()
        self._watcher.advance(done, standing)

    def end(self) -> None:
        self._watcher.end()

    def note(self, text: str) -> None:
        self._watcher.note(text)

    def _check(self) -> None:
        if self._clock() > self._end:
            raise TimeIsUpError
