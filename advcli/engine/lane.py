"""A lane: one thread's share of a run, with slots of its own that it ticks and refills.

Two half-batches side by side use two cores better than one batch split operation by operation:
nobody waits for the other half of every small operation, and what the host does for one lane
overlaps with what the other computes. An image's siblings stay in its lane, and a row's result
depends on nothing but the row, so who gets which image changes nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np

from advcli.attacks.base import Attack
from advcli.engine.feed import Feed
from advcli.engine.jobs import Attempt, Chain, EngineStats, Job, Outcome
from advcli.engine.slots import ENDED, FOUND, Carry, Orders, Slots, blank_orders
from advcli.engine.verdict import Confirming, measured, outwards, verdict
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.grid import Pixels, from_bytes
from advcli.threats.randomness import row_key

# How long a tick may keep Python from seeing Ctrl-C or moving the progress bar
_TICK_SECONDS = 0.3
# A first guess at what a return to the host costs
_HOST_SECONDS = 2e-3


class Model(Confirming, Protocol):
    """What a lane needs of a classifier."""

    @property
    def input_shape(self) -> tuple[int, int, int]: ...
    @property
    def class_count(self) -> int: ...


class Seat(NamedTuple):
    """Whose work a slot does: `part` of `job`, begun when the row had taken `since` steps.

    `alone`: the job is not to be divided (again).
    """

    number: int  # of the chain
    chain: Chain
    job: Job
    part: int = 0
    since: int = 0
    alone: bool = False


class Lane:
    """Who sits in which slot, and who is next: `begin()`, then `ticks()` until the feed ends."""

    def __init__(
        self,
        number: int,
        classifier: Model,
        slots: Slots,
        attack: Attack,
        norm: Norm,
        pixels: Pixels,
        seed: int,
        feed: Feed,
    ) -> None:
        self.stats = EngineStats()
        self._number = number
        self._classifier = classifier
        self._slots = slots
        self._attack = attack
        self._norm = norm
        self._pixels: Pixels = pixels
        self._seed = seed
        self._feed = feed
        self._ready: deque[tuple[int, Chain]] = deque()  # their next job is the one needed
        self._open: dict[int, Chain] = {}
        self._numbers = count()
        self._jobs: list[Seat | None] = [None] * self._slots.slots
        self._confirmations = [0] * self._slots.slots
        self._orders = blank_orders(slots.slots, classifier.input_shape, pixels, attack.wants_start)
        self._step_seconds = 0.0
        self._host_seconds = _HOST_SECONDS
        self._k = np.zeros(self._slots.slots, np.int32)
        self.under_way = 0.0  # images' worth of work done by the jobs that are still seated

    def begin(self) -> None:
        """Trace and compile what is not yet; no step is taken."""
        began = time.perf_counter()
        self._carry = self._slots.start(self._orders)
        self.stats.trace_seconds = time.perf_counter() - began

    def ticks(self) -> Generator[list[Outcome], None, None]:
        """What is known after each tick."""
        stats, carry = self.stats, self._carry
        began = time.perf_counter()
        while self._fill():
            limit = int(_TICK_SECONDS / self._step_seconds) if self._step_seconds else 1
            before, trial = self._divided(carry)
            if not trial:
                before, trial = self._narrowed(before)
            limit = 1 if trial else max(1, min(limit, 10_000))
            carry, points, steps = self._tick(before, limit, self._patience(), self._narrower())
            if trial:
                self._slots.agrees[len(trial)] = self._same_bits(before, carry, trial)
            ended = time.perf_counter()
            stats.slot_steps += steps * len(self._jobs)
            self._clear()
            outcomes = self._collect(carry, points)
            now = time.perf_counter()
            self._host_seconds += 0.2 * (now - ended - self._host_seconds)
            stats.seconds = now - began
            self.under_way = self._seated_work()
            yield outcomes
            began = time.perf_counter() - stats.seconds

    def _seated_work(self) -> float:
        return sum(
            (seat.job.index + float(self._k[slot]) / self._slots.length) / seat.chain.length
            for slot, seat in enumerate(self._jobs)
            if seat is not None and not seat.part
        )

    def _tick(
        self, carry: Carry, limit: int, patience: int, narrower: int
    ) -> tuple[Carry, Tensor, int]:
        began = time.perf_counter()
        carry, points, taken = self._slots.tick(carry, self._orders, limit, patience, narrower)
        steps = int(taken)
        spent = time.perf_counter() - began
        self.stats.model_seconds += spent
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

    # --- another number of slots at the end ---------------------------------------------------

    def _divided(self, carry: Carry) -> tuple[Carry, list[int]]:
        """The carry in which rows share what they have left with rows that nobody needs.

        A few rows cost nearly what two dozen do, and the last of them would be long on its way.
        Where a width is not known yet: the carry as it is, and the slots to be tried.
        """
        slots = self._slots
        while slots.multiple and not self._more():
            divisible = slots.divisible(carry)
            if divisible is None:
                break
            seated = {slot: seat for slot, seat in enumerate(self._jobs) if seat is not None}
            busy = list(seated)
            shared = [
                slot
                for slot, seat in seated.items()
                if divisible[slot] and not seat.alone and not self._orders.refill[slot]
            ]
            width = -(-(len(busy) + len(shared)) // slots.multiple) * slots.multiple
            while slots.agrees.get(width) is False:
                width += slots.multiple
            width = min(width, slots.slots)
            shared = shared[: width - len(busy)]
            if not shared:
                break
            blank = busy[:1] * (width - len(busy) - len(shared))
            kept = busy + shared + blank
            if width < slots.slots and width not in slots.agrees:
                return carry, kept
            carry = slots.halves(
                slots.rows(carry, kept),
                first=[slot in shared for slot in busy] + [False] * (width - len(busy)),
                rest=[len(busy) <= place < width - len(blank) for place in range(width)],
            )
            seats = [self._jobs[slot] for slot in kept]
            self._keep(kept)
            for place in range(len(busy), width):
                seat = seats[place]
                self._confirmations[place] = 0
                if place < width - len(blank) and seat is not None:
                    part = seat.chain.divide(seat.job.index)
                    self._jobs[place] = seat._replace(part=part, since=int(self._k[place]))
                else:
                    self._jobs[place] = None
                    self._orders.resume[place], self._orders.drop[place] = False, True
        return carry, []

    def _narrower(self) -> int:
        """The largest width worth coming down to once the rest of the run fits into it; 0: none.

        What it saves is bounded by the steps that the seated jobs have left. It has to be worth a
        step, and twice the one that shows whether the width computes the same bits.
        """
        multiple, width, agrees = self._slots.multiple, len(self._jobs), self._slots.agrees
        # a copy: the lanes share what they know of widths
        if not multiple or sum(not same for same in list(agrees.values())) > 1 or self._more():
            return 0
        seated = [slot for slot, job in enumerate(self._jobs) if job is not None]
        left = self._slots.length - min((int(self._k[slot]) for slot in seated), default=0)
        for narrow in range((width - 1) // multiple * multiple, 0, -multiple):
            price = width if agrees.get(narrow) else width + 2 * narrow
            if agrees.get(narrow) is not False and (width - narrow) * left > price:
                return narrow
        return 0

    def _narrowed(self, carry: Carry) -> tuple[Carry, list[int]]:
        """The carry without the slots that nothing is left for, as far as that changes no bit.

        Where that is not known yet: the carry as it is, and the slots that would stay, to be tried.
        """
        while limit := self._narrower():
            busy = [slot for slot, seated in enumerate(self._jobs) if seated is not None]
            width = max(1, -(-len(busy) // self._slots.multiple)) * self._slots.multiple
            while self._slots.agrees.get(width) is False:
                width += self._slots.multiple
            if width > limit:
                break
            idle = [slot for slot, seated in enumerate(self._jobs) if seated is None]
            kept = (busy + idle)[:width]
            if width not in self._slots.agrees:
                return carry, kept
            carry = self._slots.rows(carry, kept)
            self._keep(kept)
        return carry, []

    def _keep(self, kept: list[int]) -> None:
        """Everything known of the slots, for the slots `kept` alone."""
        self._orders = self._orders_of(kept)
        self._jobs = [self._jobs[slot] for slot in kept]
        self._confirmations = [self._confirmations[slot] for slot in kept]
        self._k = self._k[kept]

    def _orders_of(self, kept: list[int]) -> Orders:
        return Orders(*(part[kept] for part in self._orders))

    def _same_bits(self, before: Carry, after: Carry, kept: list[int]) -> bool:
        """Whether the slots `kept` alone come, bit for bit, from `before` to `after` in a step.

        Another batch size may go through another kernel, which adds in another order. That does
        not depend on the data, so one step of real rows shows it.
        """
        forever = int(np.iinfo(np.int32).max)
        slim, _, _ = self._slots.tick(
            self._slots.rows(before, kept), self._orders_of(kept), 1, forever, 0
        )
        pairs = zip(
            tf.nest.flatten(self._slots.rows(after, kept)), tf.nest.flatten(slim), strict=True
        )
        return all(bool(tf.reduce_all(tf.equal(a, b))) for a, b in pairs)

    # --- the queue ---------------------------------------------------------------------------

    def _more(self) -> bool:
        return (
            bool(self._ready)
            or not self._feed.exhausted()
            or any(chain.waiting for chain in self._open.values())
        )

    def _next(self) -> tuple[int, Chain] | None:
        """Whose job comes next: a needed one, a new image, or one ahead of its order."""
        while self._ready:
            number, chain = self._ready.popleft()
            if chain.in_order:
                return number, chain
        subject = self._feed.take(self._number, idle=not self._open)
        if subject is not None:
            siblings = self._attack.siblings(self._classifier.class_count)
            chain = Chain(subject, siblings, self._norm, self._seed, self._slots.transfer)
            number = next(self._numbers)
            self._open[number] = chain
            return number, chain
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
            self._jobs[slot] = Seat(number, chain, job)
            self._seat(slot, job)
        return any(seated is not None for seated in self._jobs)

    def _seat(self, slot: int, job: Job) -> None:
        orders, subject = self._orders, job.subject
        self._confirmations[slot] = 0
        self._k[slot] = 0
        orders.refill[slot] = True
        orders.drop[slot] = False
        convert = np.asarray if self._pixels == "uint8" else from_bytes
        orders.pixels[slot] = convert(subject.pixels)
        if self._attack.wants_start:
            orders.start[slot] = convert(subject.pixels if subject.start is None else subject.start)
        orders.label[slot] = subject.label
        orders.target[slot] = -1 if subject.target is None else subject.target
        orders.eps[slot] = self._slots.grid.inner(job.eps)
        orders.key[slot] = row_key(self._seed, subject.sha256, self._attack.name, job.restart)
        orders.restart[slot] = job.restart

    def _clear(self) -> None:
        for flag in (self._orders.refill, self._orders.resume, self._orders.drop):
            flag[:] = False

    # --- the answers -------------------------------------------------------------------------

    def _collect(self, carry: Carry, points: Tensor) -> list[Outcome]:
        status, self._k = carry.status.numpy(), carry.k.numpy().copy()
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
        confirmed = self._classifier.confirm(as_float)
        self.stats.model_seconds += time.perf_counter() - began
        outcomes: list[Outcome] = []
        for place, slot in enumerate(done):
            seated = self._jobs[slot]
            if seated is None:
                continue
            job = seated.job
            self._confirmations[slot] += 1
            prediction = int(confirmed.prediction[place])
            point = candidates[place]
            success, clear = verdict(job, prediction, confirmed.logits[place])
            distance = measured(job, point)
            if job.eps is not None:
                success = success and distance[self._norm] <= job.eps * (1.0 + 1e-6)
            unconfirmed = not (success and clear) and not self._slots.transfer
            refuted = bool(record["found"][slot]) and unconfirmed
            if refuted and seated.chain.undivide(job.index):
                self._begin_again(slot, seated)
                continue
            if status[slot] == FOUND and unconfirmed:
                self._orders.resume[slot] = True  # unconfirmed: the attack goes on
                continue
            if self._slots.minimum_norm and refuted:
                success, prediction, point, asked = outwards(
                    self._classifier, job, point, prediction
                )
                self._confirmations[slot] += asked
                distance = measured(job, point)
            self._jobs[slot] = None
            self._orders.drop[slot] = True
            score = float(record["score"][slot])
            attempt = Attempt(
                success=success,
                found=bool(record["found"][slot]) and not unconfirmed and not self._slots.transfer,
                prediction=prediction,
                point=point,
                distance=distance,
                score=score if np.isfinite(score) else -1e30,
                forwards=int(record["forwards"][slot]) + self._confirmations[slot],
                gradients=int(record["gradients"][slot]),
                steps=int(self._k[slot]) - seated.since,
                stalled=int(record["stalled"][slot]),
                nonfinite=bool(record["nonfinite"][slot])
                or not np.isfinite(confirmed.logits[place]).all(),
            )
            outcomes += self._settle(seated, attempt)
        return outcomes

    def _begin_again(self, slot: int, seat: Seat) -> None:
        """Does the whole job anew in `slot`: what follows a success that was not confirmed depends
        on it, and other parts of the job have gone on without."""
        for other, seated in enumerate(self._jobs):
            if seated is not None and seated.job is seat.job:
                self._jobs[other] = None
                self._orders.drop[other] = True
        self._jobs[slot] = Seat(seat.number, seat.chain, seat.job, alone=True)
        self._seat(slot, seat.job)

    def _settle(self, seat: Seat, attempt: Attempt) -> list[Outcome]:
        stats, number, chain = self.stats, seat.number, seat.chain
        outcomes = chain.settle(seat.job.index, attempt, seat.part)
        for outcome in outcomes:
            stats.forwards += outcome.forwards
            stats.gradients += outcome.gradients
            stats.row_steps += outcome.steps
        if chain.finished:
            del self._open[number]
            self._feed.finished(self._number)
            for slot, seated in enumerate(self._jobs):
                if seated is not None and seated.number == number:  # ran ahead of its order
                    self._jobs[slot] = None
                    self._orders.drop[slot] = True
        elif chain.in_order:
            self._ready.append((number, chain))
        return outcomes
