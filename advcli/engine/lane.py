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
from typing import Protocol

import numpy as np

from advcli.attacks.base import Attack
from advcli.engine.feed import Feed
from advcli.engine.jobs import Attempt, Chain, EngineStats, Outcome, Seat
from advcli.engine.slots import ENDED, FOUND, Carry, Orders, Slots, Ticked, blank_orders
from advcli.engine.verdict import Confirming, Try, judged
from advcli.lazy import tf
from advcli.threats.budget import Norm
from advcli.threats.grid import Pixels, from_bytes
from advcli.threats.randomness import row_key

# How long a tick may keep Python from seeing Ctrl-C or moving the progress bar
_TICK_SECONDS = 0.3
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
        self._numbers = count()
        self._jobs: list[Seat | None] = [None] * self._slots.slots
        self._refused = [0] * self._slots.slots  # successes
        self._divisible = np.zeros(0, np.bool_)
        self._again: deque[Seat] = deque()
        self._tries: list[Try] = []  # not confirmed yet
        self._tried = 0.0  # when the first of them was
        self._orders = blank_orders(slots.slots, classifier.input_shape, pixels, attack.wants_start)
        self._step_seconds = 0.0
        self._tick_seconds = _HOST_SECONDS
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
        while (filled := self._fill()) or self._tries:
            if filled:
                carry = self._round(carry)
            outcomes = self._confirm(self._due(idle=not filled))
            stats.seconds = time.perf_counter() - began
            self.under_way, left = self._work()
            self._feed.holds(self._number, left)
            yield outcomes
            began = time.perf_counter() - stats.seconds

    def _work(self) -> tuple[float, float]:
        """What is done of what is under way, and what is left of it, in images' worth of steps."""
        seated = [(seat, float(self._k[slot])) for slot, seat in enumerate(self._jobs) if seat]
        tried = [(tried.seat, float(self._slots.length)) for tried in self._tries]
        shares = [
            (seat.job.index + steps / self._slots.length) / seat.chain.length
            for seat, steps in seated + tried
            if not seat.part
        ]
        return sum(shares), len(shares) - sum(shares)

    def _round(self, carry: Carry) -> Carry:
        """A tick, before and after which the host does what only it can."""
        limit = int(_TICK_SECONDS / self._step_seconds) if self._step_seconds else 1
        carry, trial = self._divided(carry)
        if not trial:
            carry, trial = self._narrowed(carry)
        limit = 1 if trial else max(1, min(limit, 10_000))
        began = time.perf_counter()
        ticked = self._slots.tick(carry, self._orders, limit, self._patience(), self._narrower())
        steps = int(ticked.steps)
        spent = time.perf_counter() - began
        self.stats.model_seconds += spent
        self.stats.slot_steps += steps * len(self._jobs)
        self._learn(spent, steps)
        if trial:
            self._slots.agrees[len(trial)] = self._same_bits(carry, ticked.carry, trial)
        self._clear()
        self._collect(ticked)
        return ticked.carry

    def _learn(self, spent: float, steps: int) -> None:
        """What a step takes, and what a tick takes beyond its steps: a row is put into its slot by
        a copy of all of them."""
        if steps:
            least = spent / steps
            slower = 1.02 * self._step_seconds or least
            self._step_seconds = min(least, slower)
            self._tick_seconds += 0.2 * (spent - steps * self._step_seconds - self._tick_seconds)

    def _patience(self) -> int:
        """How many slot-steps may be wasted before it pays to come back to the host.

        As many as the way there and back would take up anyway. Timing decides it, so it may differ
        between runs; where a tick ends changes no result.
        """
        if not self._more() and not self._narrower():
            return int(np.iinfo(np.int32).max)
        steps = self._tick_seconds / self._step_seconds if self._step_seconds else 0.0
        return 1 + int(min(steps, 4.0) * len(self._jobs))

    # --- another number of slots at the end ---------------------------------------------------

    def _divided(self, carry: Carry) -> tuple[Carry, list[int]]:
        """The carry in which rows share what they have left with rows that nobody needs.

        A few rows cost nearly what two dozen do, and the last of them would be long on its way.
        Where a width is not known yet: the carry as it is, and the slots to be tried.
        """
        slots = self._slots
        while slots.multiple and self._divisible.size and not self._more():
            seated = {slot: seat for slot, seat in enumerate(self._jobs) if seat is not None}
            busy = list(seated)
            shared = [
                slot
                for slot, seat in seated.items()
                if self._divisible[slot] and not seat.alone and not self._orders.refill[slot]
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
            carry, divisible = slots.halves(
                slots.rows(carry, kept),
                first=[slot in shared for slot in busy] + [False] * (width - len(busy)),
                rest=[len(busy) <= place < width - len(blank) for place in range(width)],
            )
            seats = [self._jobs[slot] for slot in kept]
            self._keep(kept)
            self._divisible = divisible
            for place in range(len(busy), width):
                seat = seats[place]
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
        self._refused = [self._refused[slot] for slot in kept]
        self._k = self._k[kept]
        self._divisible = self._divisible[kept] if self._divisible.size else self._divisible

    def _orders_of(self, kept: list[int]) -> Orders:
        return Orders(*(part[kept] for part in self._orders))

    def _same_bits(self, before: Carry, after: Carry, kept: list[int]) -> bool:
        """Whether the slots `kept` alone come, bit for bit, from `before` to `after` in a step.

        Another batch size may go through another kernel, which adds in another order. That does
        not depend on the data, so one step of real rows shows it.
        """
        forever = int(np.iinfo(np.int32).max)
        slim = self._slots.tick(
            self._slots.rows(before, kept), self._orders_of(kept), 1, forever, 0
        )
        pairs = zip(
            tf.nest.flatten(self._slots.rows(after, kept)),
            tf.nest.flatten(slim.carry),
            strict=True,
        )
        return all(bool(tf.reduce_all(tf.equal(a, b))) for a, b in pairs)

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
        for slot, seated in enumerate(self._jobs):
            if seated is not None:
                continue
            seat = self._again.popleft() if self._again else self._launched()
            if seat is None:
                break
            self._jobs[slot] = seat
            self._seat(slot, seat)
        return any(seated is not None for seated in self._jobs)

    def _launched(self) -> Seat | None:
        found = self._next()
        return found and Seat(*found, found[1].launch())

    def _seat(self, slot: int, seat: Seat) -> None:
        orders, job, subject = self._orders, seat.job, seat.job.subject
        self._refused[slot] = 0
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
        orders.held[slot] = seat.alone

    def _clear(self) -> None:
        for flag in (self._orders.refill, self._orders.resume, self._orders.drop):
            flag[:] = False

    def _free(self, slot: int) -> None:
        self._jobs[slot] = None
        self._orders.drop[slot] = True

    # --- the answers -------------------------------------------------------------------------

    def _collect(self, ticked: Ticked) -> None:
        """Rows that are done leave their slots, and wait for a batch of them to be confirmed."""
        carry = ticked.carry
        status, self._k = carry.status.numpy(), carry.k.numpy().copy()
        self._divisible = ticked.divisible.numpy()
        done = [
            (slot, seat)
            for slot, seat in enumerate(self._jobs)
            if seat is not None and status[slot] in (FOUND, ENDED)
        ]
        if not done:
            return
        points = ticked.points.numpy()
        names = ("found", "score", "forwards", "gradients", "stalled", "nonfinite")
        record = {name: getattr(carry.record, name).numpy() for name in names}
        for slot, seat in done:
            if self._jobs[slot] is None:
                continue  # a part before it has succeeded
            tried = Try(
                seat=seat,
                slot=slot,
                point=points[slot].copy(),
                ended=bool(status[slot] == ENDED),
                steps=int(self._k[slot]) - seat.since,
                confirmations=self._refused[slot] + 1,
                **{name: values[slot].item() for name, values in record.items()},
            )
            if not self._tries:
                self._tried = time.perf_counter()
            self._tries.append(tried)
            if seat.alone:
                continue  # it keeps its slot
            self._free(slot)
            if tried.found:  # what its job has left is not needed, or done anew
                self._leave(seat.number, seat.job.index, seat.part)

    def _leave(self, number: int, index: int | None = None, part: int = -1) -> None:
        """Nobody needs what is under way of chain `number`: all, or job `index` beyond `part`."""

        def left(seat: Seat) -> bool:
            return seat.number == number and index in (None, seat.job.index) and seat.part > part

        for slot, seat in enumerate(self._jobs):
            if seat is not None and left(seat):
                self._free(slot)
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
                self._refused[tried.slot] += 1
                self._orders.resume[tried.slot] = True
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
                    self._free(tried.slot)
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
