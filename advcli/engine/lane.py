"""A lane: one thread's share of a run, with slots of its own that it ticks and refills.

Two half-batches side by side use two cores better than one batch split operation by operation:
nobody waits for the other half of every small operation, and what the host does for one lane
overlaps with what the other computes. An image's siblings stay in its lane, and a row's result
depends on nothing but the row, so who gets which image changes nothing. At the end of a run
rows go from one lane to another, so that none is without work and few batches have empty places.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator
from itertools import count
from typing import Protocol

import numpy as np

from advcli.attacks.base import Attack
from advcli.engine.feed import Feed, Handover
from advcli.engine.jobs import Attempt, Chain, EngineStats, Outcome, Seat
from advcli.engine.narrowing import (
    divided,
    halved,
    joined,
    narrowed,
    narrower,
    surplus,
    try_width,
    without,
)
from advcli.engine.slots import ENDED, FOUND, Slots, Ticked, blank_orders
from advcli.engine.table import Table
from advcli.engine.verdict import Confirming, Try, judged
from advcli.threats.budget import Norm
from advcli.threats.grid import Pixels, from_bytes
from advcli.threats.randomness import row_key

# How long a tick may keep Python from seeing Ctrl-C or moving the progress bar
_TICK_SECONDS = 0.3
# At the end, how long a lane without work may have to wait for a share of another's
_LAST_TICKS_SECONDS = 0.1
# A first guess at what a return to the host costs beyond the steps
_HOST_SECONDS = 2e-3
# Answers are confirmed so many at once, or when the first of them has waited so long
_TOGETHER, _WAIT_SECONDS = 32, 2.0


class Model(Confirming, Protocol):
    """What a lane needs of a classifier."""

    @property
    def input_shape(self) -> tuple[int, int, int]: ...
    @property
    def class_count(self) -> int: ...


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
        self._numbers = count(number, feed.lanes)  # no two lanes have a chain of one number
        self._again: deque[Seat] = deque()
        self._handed: deque[Handover] = deque()  # rows of other lanes
        self._tries: list[Try] = []  # not confirmed yet
        self._tried = 0.0  # when the first of them was
        self._step_seconds = 0.0
        self._tick_seconds = _HOST_SECONDS
        self.under_way = 0.0  # images' worth of work done by the jobs that are still seated

    def begin(self) -> None:
        """Trace and compile what is not yet; no step is taken."""
        began = time.perf_counter()
        orders = blank_orders(
            self._slots.slots,
            self._classifier.input_shape,
            self._pixels,
            self._attack.wants_start,
        )
        self._table = Table.idle(self._slots.start(orders), orders)
        self.stats.trace_seconds = time.perf_counter() - began

    def ticks(self) -> Generator[list[Outcome], None, None]:
        """What is known after each tick."""
        stats = self.stats
        began = time.perf_counter()
        while (filled := self._fill()) or self._tries or (filled := self._take_in(idle=True)):
            if filled:
                self._round()
            outcomes = self._confirm(self._due(idle=not filled))
            stats.seconds = time.perf_counter() - began
            self.under_way, left = self._work()
            self._feed.holds(self._number, left)
            yield outcomes
            began = time.perf_counter() - stats.seconds

    def _work(self) -> tuple[float, float]:
        """What is done of what is under way, and what is left of it, in images' worth of steps."""
        seated = [(seat, float(self._table.k[slot])) for slot, seat in self._table.seated()]
        tried = [(tried.seat, float(self._slots.length)) for tried in self._tries]
        shares = [
            (seat.job.index + steps / self._slots.length) / seat.chain.length
            for seat, steps in seated + tried
            if not seat.part
        ]
        return sum(shares), len(shares) - sum(shares)

    def _round(self) -> None:
        """A tick, before and after which the host does what only it can."""
        slots, last, trial = self._slots, not self._more(), list[int]()
        self._take_in()
        if last:
            self._hand_over()
            self._table, trial = divided(self._table, slots)
            if not trial:
                self._table, trial = narrowed(self._table, slots)
            spare = self._table.width - sum(1 for _ in self._table.seated())
            self._feed.offers(self._number, 0 if self._table.divisible.any() else spare)
        seconds = _LAST_TICKS_SECONDS if last and not self._feed.alone else _TICK_SECONDS
        limit = int(seconds / self._step_seconds) if self._step_seconds else 1
        limit = 1 if trial else max(1, min(limit, 10_000))
        narrow = narrower(self._table, slots) if last else 0
        table = self._table
        began = time.perf_counter()
        ticked = slots.tick(
            table.carry, table.orders, limit, self._patience(last and not narrow), narrow
        )
        steps = int(ticked.steps)
        spent = time.perf_counter() - began
        self.stats.model_seconds += spent
        self.stats.slot_steps += steps * table.width
        self._learn(spent, steps)
        if trial:
            try_width(table, ticked.carry, trial, slots)
        table.obeyed()
        table.carry = ticked.carry
        self._collect(ticked)

    def _hand_over(self) -> None:
        """Half of the images to a lane without work, or a few that fill up another's batch."""
        table, slots, feed = self._table, self._slots, self._feed
        staying = {tried.seat.number for tried in self._tries}
        given, lane = None, feed.idle_lane()
        if lane is not None:
            given = halved(table, slots, staying)
        elif rows := surplus(table, slots):
            lane = feed.claim(self._number, rows)
            given = None if lane is None else without(rows, table, slots, staying)
        if given is not None and lane is not None:
            numbers = {seat.number for _, seat in given.seated()}
            feed.hand(lane, Handover(given, {n: self._open.pop(n) for n in numbers}))

    def _take_in(self, *, idle: bool = False) -> bool:
        """Rows that other lanes have handed over, as far as there are slots for them.

        An `idle` lane waits for some; False: no lane has anything left.
        """
        self._handed += self._feed.handed(self._number, idle=idle and not self._handed)
        busy = sum(1 for _ in self._table.seated())
        while self._handed and busy + self._handed[0].table.width <= self._slots.slots:
            rows, chains = self._handed.popleft()
            busy += rows.width
            self._table = joined(self._table, rows, self._slots)
            self._open.update(chains)
        return busy > 0

    def _learn(self, spent: float, steps: int) -> None:
        """What a step takes, and what a tick takes beyond its steps: a row is put into its slot by
        a copy of all of them."""
        if steps:
            least = spent / steps
            slower = 1.02 * self._step_seconds or least
            self._step_seconds = min(least, slower)
            self._tick_seconds += 0.2 * (spent - steps * self._step_seconds - self._tick_seconds)

    def _patience(self, forever: bool) -> int:
        """How many slot-steps may be wasted before it pays to come back to the host.

        As many as the way there and back would take up anyway. Timing decides it, so it may differ
        between runs; where a tick ends changes no result.
        """
        if forever:
            return int(np.iinfo(np.int32).max)
        steps = self._tick_seconds / self._step_seconds if self._step_seconds else 0.0
        return 1 + int(min(steps, 4.0) * self._table.width)

    # --- the queue ---------------------------------------------------------------------------

    def _more(self) -> bool:
        return (
            bool(self._ready or self._again)
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
        for slot, seated in enumerate(self._table.seats):
            if seated is not None:
                continue
            seat = self._again.popleft() if self._again else self._launched()
            if seat is None:
                break
            self._seat(slot, seat)
        return any(seat is not None for seat in self._table.seats)

    def _launched(self) -> Seat | None:
        found = self._next()
        return found and Seat(*found, found[1].launch())

    def _seat(self, slot: int, seat: Seat) -> None:
        table, job, subject = self._table, seat.job, seat.job.subject
        table.seats[slot], table.refused[slot], table.k[slot] = seat, 0, 0
        orders = table.orders
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
        orders.held[slot] = seat.alone

    # --- the answers -------------------------------------------------------------------------

    def _collect(self, ticked: Ticked) -> None:
        """Rows that are done leave their slots, and wait for a batch of them to be confirmed."""
        carry, table = ticked.carry, self._table
        status, table.k = carry.status.numpy(), carry.k.numpy().copy()
        seated = np.array([seat is not None for seat in table.seats])
        table.divisible = ticked.divisible.numpy() & seated
        done = [(slot, seat) for slot, seat in table.seated() if status[slot] in (FOUND, ENDED)]
        if not done:
            return
        points = ticked.points.numpy()
        names = ("found", "score", "forwards", "gradients", "stalled", "nonfinite")
        record = {name: getattr(carry.record, name).numpy() for name in names}
        for slot, seat in done:
            if table.seats[slot] is None:
                continue  # a part before it has succeeded
            tried = Try(
                seat=seat,
                slot=slot,
                point=points[slot].copy(),
                ended=bool(status[slot] == ENDED),
                steps=int(table.k[slot]) - seat.since,
                confirmations=table.refused[slot] + 1,
                **{name: values[slot].item() for name, values in record.items()},
            )
            if not self._tries:
                self._tried = time.perf_counter()
            self._tries.append(tried)
            if seat.alone:
                continue  # it keeps its slot
            table.free(slot)
            if tried.found:  # what its job has left is not needed, or done anew
                self._leave(seat.number, seat.job.index, seat.part)

    def _leave(self, number: int, index: int | None = None, part: int = -1) -> None:
        """Nobody needs what is under way of chain `number`: all, or job `index` beyond `part`."""

        def left(seat: Seat) -> bool:
            return seat.number == number and index in (None, seat.job.index) and seat.part > part

        for slot, seat in list(self._table.seated()):
            if left(seat):
                self._table.free(slot)
        self._tries = [tried for tried in self._tries if not left(tried.seat)]

    def _due(self, *, idle: bool) -> int:
        """How many answers to confirm now: whole batches, or all where something waits for one."""
        if not self._tries:
            return 0
        waiting = idle or any(tried.seat.alone for tried in self._tries)
        if self._feed.exhausted():
            waiting |= any(tried.seat.chain.length > 1 for tried in self._tries)
        if waiting or time.perf_counter() - self._tried > _WAIT_SECONDS:
            return len(self._tries)
        return len(self._tries) // _TOGETHER * _TOGETHER

    def _confirm(self, count: int) -> list[Outcome]:
        if not count:
            return []
        began = time.perf_counter()
        tries, self._tries, self._tried = self._tries[:count], self._tries[count:], began
        answers = judged(
            self._classifier,
            tries,
            self._norm,
            minimum_norm=self._slots.minimum_norm,
            transfer=self._slots.transfer,
        )
        self.stats.model_seconds += time.perf_counter() - began
        outcomes: list[Outcome] = []
        for tried, (attempt, refused) in zip(tries, answers, strict=True):
            seat = tried.seat
            if seat.number not in self._open or any(seat.job is other.job for other in self._again):
                continue
            if seat.alone and refused and not tried.ended:
                self._table.refused[tried.slot] += 1
                self._table.orders.resume[tried.slot] = True
            elif (
                not seat.alone
                and refused
                and (seat.chain.undivide(seat.job.index) or not tried.ended)
            ):
                # what follows depends on the success, and other parts have gone on without it
                self._leave(seat.number, seat.job.index)
                self._again.append(Seat(seat.number, seat.chain, seat.job, alone=True))
            else:
                if seat.alone:
                    self._table.free(tried.slot)
                outcomes += self._settle(seat, attempt)
        return outcomes

    def _settle(self, seat: Seat, attempt: Attempt) -> list[Outcome]:
        stats, number, chain = self.stats, seat.number, seat.chain
        outcomes = chain.settle(seat.job.index, attempt, seat.part)
        for outcome in outcomes:
            stats.forwards += outcome.forwards
            stats.gradients += outcome.gradients
            stats.row_steps += outcome.steps
        if chain.finished:
            del self._open[number]
            self._leave(number)  # what ran ahead of its order
        elif chain.in_order:
            self._ready.append((number, chain))
        return outcomes
