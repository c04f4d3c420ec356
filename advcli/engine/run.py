"""The engine: any attack over a stream of images, in a fixed number of slots that are refilled."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, Protocol

import numpy as np

from advcli.attacks.base import Attack
from advcli.engine.jobs import Attempt, Chain, EngineStats, Job, Outcome, Subject
from advcli.engine.judge import NOISE
from advcli.engine.slots import ENDED, FOUND, Carry, Orders, Slots, blank_orders
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm, whole_levels
from advcli.threats.grid import Pixels, from_bytes, to_bytes
from advcli.threats.randomness import row_key
from advcli.threats.space import Space, distances

# How long a tick may keep Python from seeing Ctrl-C or moving the progress bar
_TICK_SECONDS = 0.3
# A first guess at what a return to the host costs
_HOST_SECONDS = 2e-3
# Points asked beyond an unconfirmed minimum, the last one 1.8 times as far
_OUTWARDS = 14


class Model(Protocol):
    """What the engine needs of a classifier; `advcli.models.classifier.Classifier` is one."""

    @property
    def input_shape(self) -> tuple[int, int, int]: ...
    @property
    def class_count(self) -> int: ...
    @property
    def jit_compile(self) -> bool | None: ...
    def logits(self, x: Tensor) -> Tensor: ...
    def confirm(self, x: np.ndarray) -> Any: ...


def rounded_batch(batch_size: int) -> int:
    """The compiled number of rows: `batch_size`, brought up to a multiple of 8 unless it is 1.

    With odd sizes the last rows of a matrix product go through another kernel, and an image's
    result would depend on its place in the batch.
    """
    return batch_size if batch_size == 1 else -(-batch_size // 8) * 8


def auto_batch_size(input_shape: tuple[int, int, int], device: str = "cpu") -> int:
    """A batch that keeps the cores busy within modest memory."""
    values = int(np.prod(input_shape))
    rows = max(8, min(64, 2**21 // max(values, 1)))
    return rounded_batch(rows * 8 if device.startswith("gpu") else rows)


class Engine:
    """Runs attacks on one classifier; every run has one compiled shape.

    `seed` and an image's content decide its random numbers; order, subset and the other images
    do not change its outcome.
    """

    def __init__(self, classifier: Model, *, batch_size: int, pixels: Pixels, seed: int) -> None:
        self.classifier = classifier
        self.batch_size = rounded_batch(batch_size)
        self.pixels: Pixels = pixels
        self.seed = seed
        self.stats = EngineStats()
        self._compiled: dict[tuple[str, Norm], Slots] = {}

    def predict(self, pixels: np.ndarray) -> Any:
        """The model as loaded on uint8 [N, H, W, C]: `.prediction` [N], `.logits` [N, K]."""
        return self.classifier.confirm(from_bytes(pixels))

    def run(
        self,
        attack: Attack,
        norm: Norm,
        subjects: Iterable[Subject],
        *,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Outcome]:
        """Outcomes as they are known: per subject one for each eps, or one (minimum-norm).

        `progress` is called after every tick with how many images' worth of steps the jobs in the
        slots have behind them.
        """
        self.stats = EngineStats()
        run = _Run(self, attack, norm, subjects)
        for outcomes in run.ticks():
            yield from outcomes
            if progress is not None:
                progress(run.under_way())

    def slots_for(self, attack: Attack, norm: Norm) -> Slots:
        """The compiled tick for `attack` in `norm`: traced once, kept for the engine's life."""
        key = (attack.spec, norm)
        if key not in self._compiled:
            shape = self.classifier.input_shape
            width = attack.width(Space(norm, shape))
            self._compiled[key] = Slots(
                self.classifier.logits,
                attack,
                norm,
                shape,
                max(1, self.batch_size // width),
                self.pixels,
                bool(self.classifier.jit_compile),
            )
        return self._compiled[key]


class _Run:
    """One call of `Engine.run`: the queue, and who sits in which slot."""

    def __init__(
        self, engine: Engine, attack: Attack, norm: Norm, subjects: Iterable[Subject]
    ) -> None:
        self._engine = engine
        self._attack = attack
        self._norm = norm
        self._source = iter(subjects)
        self._exhausted = False
        self._ready: deque[tuple[int, Chain]] = deque()  # their next job is the one needed
        self._open: dict[int, Chain] = {}
        self._numbers = count()
        self._slots = engine.slots_for(attack, norm)
        self._jobs: list[tuple[int, Chain, Job] | None] = [None] * self._slots.slots
        self._confirmations = [0] * self._slots.slots
        self._orders = blank_orders(
            self._slots.slots, engine.classifier.input_shape, engine.pixels, attack.wants_start
        )
        self._step_seconds = 0.0
        self._host_seconds = _HOST_SECONDS
        self._k = np.zeros(self._slots.slots, np.int32)

    def ticks(self) -> Iterator[list[Outcome]]:
        stats, slots = self._engine.stats, self._slots
        began = time.perf_counter()
        carry = slots.start(_tensors(self._orders))
        # no step is taken: this traces and compiles
        carry, _, _ = self._tick(carry, 0, 0, 0)
        stats.trace_seconds = time.perf_counter() - began
        stats.model_seconds = 0.0
        began = time.perf_counter()
        while self._fill():
            limit = int(_TICK_SECONDS / self._step_seconds) if self._step_seconds else 1
            carry = self._narrowed(carry)
            carry, points, steps = self._tick(
                carry, max(1, min(limit, 10_000)), self._patience(), self._narrower()
            )
            ended = time.perf_counter()
            stats.slot_steps += steps * len(self._jobs)
            self._clear()
            outcomes = self._collect(carry, points)
            now = time.perf_counter()
            self._host_seconds += 0.2 * (now - ended - self._host_seconds)
            stats.seconds = now - began
            yield outcomes
            began = time.perf_counter() - stats.seconds

    def under_way(self) -> float:
        """Images' worth of work done by the jobs that are still seated."""
        return sum(
            (job.index + float(self._k[slot]) / self._slots.length) / chain.length
            for slot, seated in enumerate(self._jobs)
            if seated is not None
            for _, chain, job in (seated,)
        )

    def _tick(
        self, carry: Carry, limit: int, patience: int, narrower: int
    ) -> tuple[Carry, Tensor, int]:
        began = time.perf_counter()
        carry, points, taken = self._slots.tick(
            carry, _tensors(self._orders), limit, patience, narrower
        )
        steps = int(taken)
        spent = time.perf_counter() - began
        self._engine.stats.model_seconds += spent
        if steps:
            self._step_seconds = spent / steps
        return carry, points, steps

    def _patience(self) -> int:
        """How many slot-steps may be wasted before it pays to come back to the host.

        As many as the host would take up anyway. Timing decides it, so it may differ between
        runs; where a tick ends changes no result.
        """
        if not self._more() and not self._narrower():
            return int(np.iinfo(np.int32).max)
        steps = self._host_seconds / self._step_seconds if self._step_seconds else 0.0
        return 1 + int(min(steps, 4.0) * len(self._jobs))

    # --- fewer slots at the end --------------------------------------------------------------

    def _narrower(self) -> int:
        """The width to come down to once the rest of the run fits into it; 0: none."""
        if self._more():
            return 0
        width = self._slots.narrower(len(self._jobs))
        return 0 if width is None or self._slots.agrees.get(width) is False else width

    def _narrowed(self, carry: Carry) -> Carry:
        """The carry without the slots that nothing is left for, as far as that changes no bit."""
        while width := self._narrower():
            busy = [slot for slot, seated in enumerate(self._jobs) if seated is not None]
            if len(busy) > width:
                break
            idle = [slot for slot, seated in enumerate(self._jobs) if seated is None]
            kept = (busy + idle)[:width]
            narrow = _rows(carry, kept)
            orders = Orders(*(part[kept] for part in self._orders))
            if width not in self._slots.agrees:
                self._slots.agrees[width] = self._same_bits(carry, narrow, orders, kept)
                continue
            carry, self._orders = narrow, orders
            self._jobs = [self._jobs[slot] for slot in kept]
            self._confirmations = [self._confirmations[slot] for slot in kept]
            self._k = self._k[kept]
        return carry

    def _same_bits(self, carry: Carry, narrow: Carry, orders: Orders, kept: list[int]) -> bool:
        """Whether two steps of the narrow batch are, bit for bit, those of the full one.

        Another batch size may go through another kernel, which adds in another order. That does
        not depend on the data, so two steps of real rows show it. Nothing of them is kept.
        """
        limit, forever = 2, int(np.iinfo(np.int32).max)
        wide, _, _ = self._slots.tick(carry, _tensors(self._orders), limit, forever, 0)
        slim, _, _ = self._slots.tick(narrow, _tensors(orders), limit, forever, 0)
        pairs = zip(tf.nest.flatten(_rows(wide, kept)), tf.nest.flatten(slim), strict=True)
        return all(bool(tf.reduce_all(tf.equal(a, b))) for a, b in pairs)

    # --- the queue ---------------------------------------------------------------------------

    def _more(self) -> bool:
        return (
            bool(self._ready)
            or not self._exhausted
            or any(chain.waiting for chain in self._open.values())
        )

    def _next(self) -> tuple[int, Chain] | None:
        """Whose job comes next: a needed one, a new image, or one ahead of its order."""
        while self._ready:
            number, chain = self._ready.popleft()
            if chain.in_order:
                return number, chain
        if not self._exhausted:
            for subject in self._source:
                siblings = self._attack.siblings(self._engine.classifier.class_count)
                chain = Chain(subject, siblings, self._norm, self._engine.seed)
                number = next(self._numbers)
                self._open[number] = chain
                return number, chain
            self._exhausted = True
        for number, chain in self._open.items():
            if chain.waiting:
                return number, chain
        return None

    def _fill(self) -> bool:
        """Seat jobs in the empty slots; False when nothing is left to run."""
        for slot, seated in enumerate(self._jobs):
            if seated is not None:
                continue
            found = self._next()
            if found is None:
                break
            number, chain = found
            job = chain.launch()
            self._jobs[slot] = (number, chain, job)
            self._seat(slot, job)
        return any(seated is not None for seated in self._jobs)

    def _seat(self, slot: int, job: Job) -> None:
        orders, subject = self._orders, job.subject
        self._confirmations[slot] = 0
        orders.refill[slot] = True
        orders.drop[slot] = False
        convert = np.asarray if self._engine.pixels == "uint8" else from_bytes
        orders.pixels[slot] = convert(subject.pixels)
        if self._attack.wants_start:
            orders.start[slot] = convert(subject.pixels if subject.start is None else subject.start)
        orders.label[slot] = subject.label
        orders.target[slot] = -1 if subject.target is None else subject.target
        orders.eps[slot] = self._inner_eps(job.eps)
        orders.key[slot] = row_key(
            self._engine.seed, subject.sha256, self._attack.name, job.restart
        )
        orders.restart[slot] = job.restart

    def _inner_eps(self, eps: float | None) -> float:
        """The ball that the graph works in: float32 noise must not carry a point outside."""
        if eps is None:
            return float("inf")
        if self._engine.pixels == "float":
            return eps if self._norm == "l0" else max(eps * (1.0 - 1e-5) - 1.2e-7, 0.0)
        # on the grid the budget is a whole number of levels, and rounding sees to the others
        return whole_levels(eps) / 255 if self._norm == "linf" else eps

    def _clear(self) -> None:
        for flag in (self._orders.refill, self._orders.resume, self._orders.drop):
            flag[:] = False

    # --- the answers -------------------------------------------------------------------------

    def _collect(self, carry: Carry, points: Tensor) -> list[Outcome]:
        status, self._k = carry.status.numpy(), carry.k.numpy()
        done = [
            slot
            for slot, seated in enumerate(self._jobs)
            if seated is not None and status[slot] in (FOUND, ENDED)
        ]
        if not done:
            return []
        candidates = points.numpy()[done]
        record = {
            name: getattr(carry.record, name).numpy()
            for name in ("found", "score", "forwards", "gradients", "stalled", "nonfinite")
        }
        began = time.perf_counter()
        as_float = from_bytes(candidates) if candidates.dtype == np.uint8 else candidates
        confirmed = self._engine.classifier.confirm(as_float)
        self._engine.stats.model_seconds += time.perf_counter() - began
        outcomes: list[Outcome] = []
        for place, slot in enumerate(done):
            seated = self._jobs[slot]
            if seated is None:
                continue
            number, chain, job = seated
            self._confirmations[slot] += 1
            prediction = int(confirmed.prediction[place])
            point = candidates[place]
            success, clear = self._verdict(job, prediction, confirmed.logits[place])
            success = success and self._within(job, point)
            if status[slot] == FOUND and not (success and clear):
                self._orders.resume[slot] = True  # unconfirmed: the attack goes on
                continue
            if self._slots.minimum_norm and record["found"][slot] and not (success and clear):
                success, prediction, point = self._outwards(slot, job, point, prediction)
            self._jobs[slot] = None
            self._orders.drop[slot] = True
            score = float(record["score"][slot])
            attempt = Attempt(
                success=success,
                prediction=prediction,
                point=point,
                score=score if np.isfinite(score) else -1e30,
                forwards=int(record["forwards"][slot]) + self._confirmations[slot],
                gradients=int(record["gradients"][slot]),
                steps=int(self._k[slot]),
                stalled=int(record["stalled"][slot]),
                nonfinite=bool(record["nonfinite"][slot]),
            )
            outcomes += self._settle(number, chain, job, attempt)
        return outcomes

    def _settle(self, number: int, chain: Chain, job: Job, attempt: Attempt) -> list[Outcome]:
        stats = self._engine.stats
        outcomes = chain.settle(job.index, attempt)
        for outcome in outcomes:
            stats.forwards += outcome.forwards
            stats.gradients += outcome.gradients
            stats.row_steps += outcome.steps
        if chain.finished:
            del self._open[number]
            for slot, seated in enumerate(self._jobs):
                if seated is not None and seated[0] == number:  # ran ahead of its order
                    self._jobs[slot] = None
                    self._orders.drop[slot] = True
        elif chain.in_order:
            self._ready.append((number, chain))
        return outcomes

    def _verdict(self, job: Job, prediction: int, logits: np.ndarray) -> tuple[bool, bool]:
        """(the goal is met, and by more than float32 noise) on the model as loaded."""
        subject = job.subject
        wanted = subject.label if subject.target is None else subject.target
        success = prediction != wanted if subject.target is None else prediction == wanted
        others = np.delete(logits, wanted)
        gap = abs(float(others.max()) - float(logits[wanted]))
        return success, gap > 0.5 * NOISE * float(np.abs(logits).max())

    def _outwards(
        self, slot: int, job: Job, point: np.ndarray, prediction: int
    ) -> tuple[bool, int, np.ndarray]:
        """The closest adversarial point was not confirmed: the first one behind it that is.

        It lies on the boundary by construction, where the model as loaded and as compiled may
        differ in their last bits; a little farther out along the same line they do not.
        """
        origin = from_bytes(job.subject.pixels)
        x = from_bytes(point) if point.dtype == np.uint8 else point
        stretch = 1.0 + 1e-4 * 2.0 ** np.arange(_OUTWARDS)
        ladder = np.clip(origin + stretch[:, None, None, None] * (x - origin), 0.0, 1.0)
        ladder = ladder.astype(np.float32)
        if point.dtype == np.uint8:
            levels = to_bytes(ladder)
            ladder = from_bytes(levels)
        else:
            levels = ladder
        confirmed = self._engine.classifier.confirm(ladder)
        for rung in range(_OUTWARDS):
            self._confirmations[slot] += 1
            found = int(confirmed.prediction[rung])
            success, clear = self._verdict(job, found, confirmed.logits[rung])
            if success and clear:
                return True, found, levels[rung]
        return False, prediction, point

    def _within(self, job: Job, point: np.ndarray) -> bool:
        if job.eps is None:
            return True
        pixels = job.subject.pixels
        origin = pixels if point.dtype == np.uint8 else from_bytes(pixels)
        return distances(point, origin)[self._norm] <= job.eps * (1.0 + 1e-6)


def _rows(carry: Carry, kept: list[int]) -> Carry:
    rows: Carry = tf.nest.map_structure(lambda part: tf.gather(part, kept), carry)
    return rows


def _tensors(orders: Orders) -> Orders:
    return Orders(*(tf.constant(part) for part in orders))
