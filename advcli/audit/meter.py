"""How far a phase is: images finished, and who is robust so far at its largest eps."""

from __future__ import annotations

from typing import Protocol

from advcli.audit.ledger import Ledger
from advcli.audit.plan import Phase
from advcli.threats.budget import same_eps

__all__ = ["Meter", "Watcher"]


class Watcher(Protocol):
    """Who is told how a run goes; the command line shows it."""

    def begin(self, title: str, total: int) -> None:
        """A pass over `total` images begins."""

    def advance(self, done: float, standing: int | None) -> None:
        """`done` images' worth of it is finished; `standing` of the correct ones are robust yet."""

    def end(self) -> None:
        """The pass is over."""

    def note(self, text: str) -> None:
        """A remark for the user."""


class Meter:
    """Counts a phase's images for a watcher. `todo`: image -> the budgets it is run at."""

    def __init__(
        self,
        watcher: Watcher,
        ledger: Ledger,
        phase: Phase,
        phases: tuple[Phase, ...],
        todo: dict[str, tuple[float, ...]],
    ) -> None:
        largest = phase.rows[-1]
        self._watcher = watcher
        self._todo = todo
        self._attacked = {
            image
            for image, clean in ledger.evaluated()
            if clean.attacked and phase.judges(clean.sha256)
        }
        broken = ledger.before(phases, phase, largest)
        broken |= {
            image
            for image, answer in ledger.of(phase, largest).items()
            if answer.broken_at(largest, minimum=phase.minimum)
        }
        self._broken = broken & self._attacked
        self.done = 0

    def answered(self, image: str, eps: float | None, *, fooled: bool) -> None:
        if fooled and image in self._attacked:
            self._broken.add(image)
        asked = self._todo[image]
        if eps is None or not asked or same_eps(eps, asked[-1]):
            self.done += 1
            self.under_way(0.0)

    def under_way(self, images: float) -> None:
        """`images`: how much the unfinished ones have behind them, in images' worth of steps."""
        self._watcher.advance(self.done + images, len(self._attacked) - len(self._broken))
