"""How a run goes, on standard error: a bar for a person, lines for a log, or nothing."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from advcli.cli.options import use_color

__all__ = ["Shown", "make_watcher"]

_PLAIN_SECONDS = 10.0


class Shown(ABC):
    """A watcher of a run that is also a context manager."""

    quiet = False

    @abstractmethod
    def begin(self, title: str, total: int) -> None: ...

    @abstractmethod
    def advance(self, done: float, standing: int | None) -> None: ...

    @abstractmethod
    def end(self) -> None: ...

    def note(self, text: str) -> None:
        if not self.quiet:
            from advcli.images.text import printable

            print(f"note: {printable(text)}", file=sys.stderr)

    @abstractmethod
    def close(self) -> None:
        """Leaves the screen as it should stay."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Silent(Shown):
    def begin(self, title: str, total: int) -> None:
        pass

    def advance(self, done: float, standing: int | None) -> None:
        pass

    def end(self) -> None:
        pass

    def close(self) -> None:
        pass


class Plain(Shown):
    """A line at the end of each pass, and every ten seconds within it."""

    def __init__(self) -> None:
        self._title, self._total, self._done = "", 0, 0.0
        self._standing: int | None = None
        self._began = self._spoke = 0.0

    def begin(self, title: str, total: int) -> None:
        self._title, self._total, self._done, self._standing = title, total, 0.0, None
        self._began = self._spoke = time.monotonic()

    def advance(self, done: float, standing: int | None) -> None:
        self._done, self._standing = done, standing
        if time.monotonic() - self._spoke > _PLAIN_SECONDS:
            self._say()

    def end(self) -> None:
        self._say()

    def close(self) -> None:
        sys.stderr.flush()

    def _say(self) -> None:
        self._spoke = time.monotonic()
        seconds = self._spoke - self._began
        robust = "" if self._standing is None else f", {self._standing} robust so far"
        left = ""
        if 1 <= self._done < self._total:  # before that it is mostly compiling
            left = f", about {seconds / self._done * (self._total - self._done):.0f} s left"
        print(
            f"{self._title}: {int(self._done)}/{self._total} images{robust}, {seconds:.1f} s{left}",
            file=sys.stderr,
        )


class Bar(Shown):
    """Rich's bar, with the robust count and the time left."""

    def __init__(self, color: bool) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(file=sys.stderr, no_color=not color, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[robust]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=False,
        )
        self._task: Any = None
        self._progress.start()

    def begin(self, title: str, total: int) -> None:
        self._task = self._progress.add_task(title, total=total, robust="")

    def advance(self, done: float, standing: int | None) -> None:
        robust = "" if standing is None else f"{standing} robust so far"
        self._progress.update(self._task, completed=done, robust=robust)

    def end(self) -> None:
        self._progress.update(self._task, refresh=True)

    def note(self, text: str) -> None:
        if not self.quiet:
            from rich.text import Text

            from advcli.images.text import printable

            self._progress.console.print(Text(f"note: {printable(text)}"), soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


def make_watcher(progress: str, color: str, *, quiet: bool) -> Shown:
    """auto: a bar on a terminal, lines in a log."""
    if progress == "auto":
        progress = "bar" if sys.stderr.isatty() else "plain"
    shown: Shown
    if quiet or progress == "none":
        shown = Silent()
    elif progress == "bar":
        shown = Bar(use_color(color, sys.stderr))
    else:
        shown = Plain()
    shown.quiet = quiet
    return shown
