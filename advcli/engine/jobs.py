"""What goes into the engine, what comes out, and the ordered chain of jobs behind one image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import NamedTuple

import numpy as np

from advcli.threats.budget import Norm


@dataclass(frozen=True, slots=True)
class Subject:
    """One image to be attacked.

    `pixels`: uint8 [H, W, C], the clean image. `label`: the reference class. `target`: the class
    to be hit, None where any wrong one does. `sha256`: of the decoded pixels; the image's random
    numbers come from it. `eps`: the budgets still to be answered, ascending; empty for a
    minimum-norm attack. `start`: an image of the target class, uint8 [H, W, C], for a targeted
    attack that `wants_start`.
    """

    key: str
    pixels: np.ndarray
    label: int
    sha256: str
    eps: tuple[float, ...] = ()
    target: int | None = None
    start: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image at one eps (None: minimum-norm).

    `point` is the candidate as its file holds it: uint8 [H, W, C], or float32 in [0, 1] with
    `pixels="float"`. `prediction` is the model's own, as loaded, at exactly that point. `success`:
    the goal was met within the budget. `distance` has all four norms, in pixel space. `same_as`:
    fooled already at this smaller eps, so nothing was run (and `point` is that eps's).
    `stalled`: gradient steps at which the gradient was exactly zero; `nonfinite`: a NaN or an
    infinity was seen in this image's logits or gradients.
    """

    key: str
    eps: float | None
    success: bool
    prediction: int
    distance: dict[str, float]
    point: np.ndarray
    forwards: int
    gradients: int
    steps: int
    seed: int
    same_as: float | None = None
    stalled: int = 0
    nonfinite: bool = False


@dataclass(slots=True)
class EngineStats:
    """Seconds spent by one `Engine.run`, and how full the slots were."""

    seconds: float = 0.0  # wall clock, tracing excluded
    trace_seconds: float = 0.0  # first trace and compilation
    model_seconds: float = 0.0  # inside the compiled step and the confirmations
    row_steps: int = 0  # steps that a running row took
    slot_steps: int = 0  # steps × slots: what was computed
    forwards: int = 0
    gradients: int = 0

    def after(self, earlier: EngineStats) -> EngineStats:
        """The figures of a part of the run that came `earlier`, and of this one after it."""
        return EngineStats(*(a + b for a, b in zip(astuple(earlier), astuple(self), strict=True)))


def combined(parts: Iterable[EngineStats]) -> EngineStats:
    """The figures of lanes that worked side by side: counts added up, times as a clock saw them."""
    lanes = list(parts)
    return EngineStats(
        seconds=max(lane.seconds for lane in lanes),
        trace_seconds=sum(lane.trace_seconds for lane in lanes),
        model_seconds=sum(lane.model_seconds for lane in lanes) / len(lanes),
        row_steps=sum(lane.row_steps for lane in lanes),
        slot_steps=sum(lane.slot_steps for lane in lanes),
        forwards=sum(lane.forwards for lane in lanes),
        gradients=sum(lane.gradients for lane in lanes),
    )


@dataclass(slots=True)
class Attempt:
    """The answer of one job, or of a part of it: an image at one eps from one start.

    `found`: a success that ended the attack, not what its best try turned out to be.
    """

    success: bool
    found: bool
    prediction: int
    point: np.ndarray
    distance: dict[str, float]  # of `point`, in all norms
    score: float  # the margin reached: which failed attempt is worth keeping
    forwards: int
    gradients: int
    steps: int
    stalled: int
    nonfinite: bool


@dataclass(frozen=True, slots=True)
class Job:
    """A row's worth of work: `subject` at `eps`, start number `restart`."""

    subject: Subject
    eps: float | None
    restart: int
    index: int  # its place in the chain


@dataclass(slots=True)
class Chain:
    """All jobs of one image in their order: eps ascending, restarts within it.

    The first success in that order answers its eps and every larger one; what ran ahead of the
    order in an idle slot is dropped uncounted. With `transfer` all jobs of an eps are crafted on a
    surrogate, and of their points the one with the highest margin there is judged, once.
    """

    subject: Subject
    restarts: int
    norm: Norm
    seed: int
    transfer: bool = False
    launched: int = 0
    _settled: int = 0
    _parts: dict[int, list[Attempt | None]] = field(default_factory=dict)
    _ahead: dict[int, Attempt] = field(default_factory=dict)
    _tried: list[Attempt] = field(default_factory=list)

    @property
    def _budgets(self) -> Sequence[float | None]:
        return self.subject.eps or (None,)

    @property
    def length(self) -> int:
        return len(self._budgets) * self.restarts

    @property
    def finished(self) -> bool:
        return self._settled >= self.length

    @property
    def waiting(self) -> bool:
        """Whether a job is left that has not been launched."""
        return not self.finished and self.launched < self.length

    @property
    def in_order(self) -> bool:
        """Whether the next job to launch is the one whose answer is needed next."""
        return self.waiting and self.launched == self._settled

    def launch(self) -> Job:
        """The next job, in order."""
        index = self.launched
        self.launched += 1
        return Job(
            self.subject, self._budgets[index // self.restarts], index % self.restarts, index
        )

    def divide(self, index: int) -> int:
        """What job `index` has left is done in one more part, the last; returns its number."""
        parts = self._parts.setdefault(index, [None])
        parts.append(None)
        return len(parts) - 1

    def undivide(self, index: int) -> bool:
        """Forgets all parts of job `index`; whether there were any."""
        return self._parts.pop(index, None) is not None

    def settle(self, index: int, attempt: Attempt, part: int = 0) -> list[Outcome]:
        """Take the answer of job `index`, or of its `part`; returns the outcomes now known."""
        if index in self._parts:
            self._parts[index][part] = attempt
            whole = _joined(self._parts[index])
            if whole is None:
                return []
            attempt = whole
        self._ahead[index] = attempt
        known: list[Outcome] = []
        while not self.finished and self._settled in self._ahead:
            attempt = self._ahead.pop(self._settled)
            self._tried.append(attempt)
            place, restart = divmod(self._settled, self.restarts)
            self._settled += 1
            last = restart == self.restarts - 1
            if last and (self.transfer or not attempt.success):
                attempt = max(self._tried, key=lambda tried: tried.score)
            if last or (attempt.success and not self.transfer):
                known.append(self._outcome(self._budgets[place], attempt))
                if attempt.success:
                    known += self._repeats(place, attempt)
                    self._settled = self.length
                self._tried = []
        return known

    def _outcome(self, eps: float | None, answer: Attempt) -> Outcome:
        unasked = len(self._tried) - 1 if self.transfer else 0  # each came with a confirmation
        return Outcome(
            key=self.subject.key,
            eps=eps,
            success=answer.success,
            prediction=answer.prediction,
            distance=answer.distance,
            point=answer.point,
            forwards=sum(tried.forwards for tried in self._tried) - unasked,
            gradients=sum(tried.gradients for tried in self._tried),
            steps=sum(tried.steps for tried in self._tried),
            seed=self.seed,
            stalled=sum(tried.stalled for tried in self._tried),
            nonfinite=any(tried.nonfinite for tried in self._tried),
        )

    def _repeats(self, place: int, answer: Attempt) -> list[Outcome]:
        if place + 1 == len(self._budgets):
            return []
        first = self._outcome(self._budgets[place], answer)
        return [
            Outcome(
                key=first.key,
                eps=eps,
                success=True,
                prediction=first.prediction,
                distance=first.distance,
                point=first.point,
                forwards=0,
                gradients=0,
                steps=0,
                seed=self.seed,
                same_as=first.eps,
            )
            for eps in self._budgets[place + 1 :]
        ]


class Seat(NamedTuple):
    """Whose work a slot does: `part` of `job`, begun when the row had taken `since` steps.

    `alone`: a success of the job was refused; it is done by one row from beginning to end, which
    goes on where that happens again.
    """

    number: int  # of the chain
    chain: Chain
    job: Job
    part: int = 0
    since: int = 0
    alone: bool = False


def _joined(parts: Sequence[Attempt | None]) -> Attempt | None:
    """What one row would have answered that did all `parts` in turn; None: not known yet."""
    tried: list[Attempt] = []
    for part in parts:
        if part is None:
            return None
        tried.append(part)
        if part.found:
            break
    best = tried[-1] if tried[-1].found else max(tried, key=lambda part: part.score)
    return replace(
        best,
        forwards=sum(part.forwards for part in tried) - (len(tried) - 1),  # confirmed once
        gradients=sum(part.gradients for part in tried),
        steps=sum(part.steps for part in tried),
        stalled=sum(part.stalled for part in tried),
        nonfinite=any(part.nonfinite for part in tried),
    )
