"""The slots: one compiled tick advances every job by some steps, whatever jobs they are.

The shape is fixed for a run, so is the trace. A row's result depends on nothing but the row, so
where a tick ends, which slot a job gets and what runs beside it change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from advcli.attacks.base import Attack, Halves, Row
from advcli.engine.judge import Judge, Record, empty_record
from advcli.engine.traced import Traced
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.grid import Grid, Pixels
from advcli.threats.losses import Goal
from advcli.threats.randomness import Random
from advcli.threats.space import Bounds, Space, select

IDLE, RUNNING, FOUND, ENDED = range(4)
# As many values as a vector register holds: exp, log and cos of what is left over are computed one
# by one, and differ in the last bit (of 9,000 values 17, 26 and 16 %)
ROWS = 8


class Carry(NamedTuple):
    """Everything that lives on the device between ticks; leading axis S."""

    row: Row
    bounds: Bounds
    state: Any
    record: Record
    k: Tensor  # int32 [S], steps taken
    status: Tensor  # int32 [S]
    held: Tensor  # bool [S], a success that is not confirmed does not end the row


class Ticked(NamedTuple):
    """What a tick returns."""

    carry: Carry
    points: Tensor  # uint8 or float32 [S, H, W, C], the candidates
    steps: Tensor  # int32, taken
    divisible: Tensor  # bool [S], rows that `halves` can cut


class Orders(NamedTuple):
    """What the host wants of a tick; NumPy on the host, leading axis S.

    On their way into the graph the fields from `pixels` on are cut down to the rows that are
    refilled, unless XLA compiles it: that wants every shape to stay.
    """

    refill: Any  # bool: start the job described by the other fields
    resume: Any  # bool: the success was not confirmed; go on
    drop: Any  # bool: nobody needs this row any more
    pixels: Any  # [S, H, W, C], uint8, or float32 as a user divides it with `pixels="float"`
    label: Any  # int32
    target: Any  # int32, −1 untargeted
    eps: Any  # float32
    key: Any  # uint32 [S, 2]
    restart: Any  # int32
    held: Any  # bool
    start: Any  # like `pixels` where the attack wants a start, else of size [S, 0, 0, 0]


def blank_orders(
    slots: int, shape: tuple[int, int, int], pixels: Pixels, wants_start: bool
) -> Orders:
    """Orders that change nothing, to be filled in place."""
    kind = np.uint8 if pixels == "uint8" else np.float32
    return Orders(
        refill=np.zeros(slots, np.bool_),
        resume=np.zeros(slots, np.bool_),
        drop=np.zeros(slots, np.bool_),
        pixels=np.zeros((slots, *shape), kind),
        label=np.zeros(slots, np.int32),
        target=np.full(slots, -1, np.int32),
        eps=np.zeros(slots, np.float32),
        key=np.zeros((slots, 2), np.uint32),
        restart=np.zeros(slots, np.int32),
        held=np.zeros(slots, np.bool_),
        start=np.zeros((slots, *(shape if wants_start else (0, 0, 0))), kind),
    )


class Slots:
    """An attack on a model in `slots` rows: `start()` once, then `tick()` until all is answered."""

    def __init__(
        self,
        logits: Callable[[Tensor], Tensor],
        attack: Attack,
        norm: Norm,
        shape: tuple[int, int, int],
        slots: int,
        pixels: Pixels,
        jit_compile: bool,
        *,
        transfer: bool = False,
    ) -> None:
        self._logits = logits
        self._attack = attack
        self._space = Space(norm, shape)
        self.grid = Grid(pixels, norm)
        self.slots = slots
        self.length = attack.length(self._space)
        self.minimum_norm = attack.kind == "minimum-norm"
        self.transfer = transfer  # `logits` are a surrogate's: success on it ends nothing
        self.agrees: dict[int, bool] = {}  # width -> whether it computes what the full one does
        self._jit = jit_compile
        self._advance = self._step
        if not jit_compile:
            # Inlined into the loop, oneDNN's rewrite of some gradients (max pooling's) is missed
            # at random, and the whole step takes a third longer.
            self._advance = tf.function(
                self._step, autograph=False, experimental_attributes={"_noinline": True}
            )
        self._idle: Carry | None = None
        self._compiled: Any = None
        self._gathered: Any = None
        self._halving: Any = None
        self._splicing: Any = None
        self._divides = not jit_compile and type(attack).divide is not Attack.divide
        self._finishes = type(attack).finish is not Attack.finish

    def start(self, orders: Orders) -> Carry:
        """Idle slots, and the tick compiled for them; `orders` change nothing."""
        if self._idle is None or len(self._idle.k) != len(orders.refill):
            begin = tf.function(self._new, jit_compile=True if self._jit else None, autograph=False)
            fresh = begin(Orders(*(tf.constant(part) for part in orders)))
            self._idle = fresh._replace(status=tf.zeros_like(fresh.status) + IDLE)
            if self._compiled is None:
                self._compile(self._idle, orders)
            self.tick(self._idle, orders, 0, 0, 0)
        return self._idle

    def resize(self, slots: int) -> None:
        """Another number of rows from the next `start` on; not under XLA."""
        self.slots, self._idle, self.agrees = slots, None, {}

    def _compile(self, carry: Carry, orders: Orders) -> None:
        """One trace for every width, unless XLA wants every shape to stay."""

        def spec(t: Tensor) -> Any:
            return tf.TensorSpec(t.shape if self._jit else [None, *t.shape[1:]], t.dtype)

        number = tf.TensorSpec([], tf.int32)
        rows, sent = tf.nest.map_structure(spec, (carry, self._sent(orders)))
        self._compiled = Traced(
            self._tick, rows, sent, number, number, number, jit_compile=self._jit or None
        )
        if not self._jit:
            self._gathered = Traced(
                lambda carry, kept: tf.nest.map_structure(lambda t: tf.gather(t, kept), carry),
                rows,
                tf.TensorSpec([None], tf.int32),
            )
            which = tf.TensorSpec([None], tf.bool)
            self._halving = Traced(self._halved, rows, which, which)
            self._splicing = Traced(_put, rows, rows, tf.TensorSpec([None], tf.int32))

    def tick(
        self, carry: Carry, orders: Orders, limit: int, patience: int, narrower: int
    ) -> Ticked:
        """See `_tick`; the numbers are the host's."""
        numbers = (tf.constant(number, tf.int32) for number in (limit, patience, narrower))
        ticked: Ticked = self._compiled(carry, self._sent(orders), *numbers)
        return ticked

    def _sent(self, orders: Orders) -> Orders:
        """The orders as tensors; see `Orders`."""
        every = slice(None) if self._jit else np.flatnonzero(orders.refill)
        rows = (tf.constant(part[every]) for part in orders[3:])
        return Orders(*(tf.constant(part) for part in orders[:3]), *rows)

    def rows(self, carry: Carry, kept: list[int]) -> Carry:
        """The carry of the rows `kept` alone; not under XLA."""
        gathered: Carry = self._gathered(carry, tf.constant(kept, tf.int32))
        return gathered

    def spliced(self, carry: Carry, more: Carry, places: list[int]) -> Carry:
        """The carry with the rows of `more` in the slots `places`; not under XLA."""
        spliced: Carry = self._splicing(carry, more, tf.constant(places, tf.int32))
        return spliced

    def halves(self, carry: Carry, first: list[bool], rest: list[bool]) -> tuple[Carry, np.ndarray]:
        """Some rows reduced to the `first` half of what they have left, some to the `rest`; and
        which rows can be cut then."""
        halved, possible = self._halving(carry, tf.constant(first), tf.constant(rest))
        return halved, possible.numpy()

    @property
    def multiple(self) -> int:
        """Numbers of rows that keep rows apart are multiples of this; 0: the width is fixed."""
        return 0 if self._jit else ROWS

    def _new(self, orders: Orders) -> Carry:
        x0 = self.grid.decode(orders.pixels)
        row = Row(
            x0=x0,
            goal=Goal(orders.label, orders.target),
            eps=orders.eps,
            key=orders.key,
            restart=orders.restart,
            start=self.grid.decode(orders.start) if self._attack.wants_start else x0,
        )
        zeros = tf.zeros_like(orders.label)
        bounds = self.grid.bounds(row.x0, row.eps, self._space)
        space = self._space.knowing(row.x0, row.eps, bounds)
        # −1: no step draws the numbers that init drew
        state = self._attack.init(row, space, Random(row.key, zeros - 1))
        record = empty_record(row.x0)
        return Carry(row, bounds, state, record, zeros, zeros + RUNNING, orders.held)

    def _tick(
        self, carry: Carry, orders: Orders, limit: Tensor, patience: Tensor, narrower: Tensor
    ) -> Ticked:
        """At most `limit` steps, ending early once `patience` slot-steps were wasted.

        A done row wastes its slot as long as there is something to refill it with. At the end of
        a run there is not: then `narrower` > 0 is the width that would do, and what is wasted is
        what lies beyond it, as soon as the running rows would fit.
        """
        carry = tf.cond(
            tf.reduce_any(orders.refill),
            lambda: self._refilled(orders, carry),
            lambda: carry,
        )
        status = tf.where(orders.resume, RUNNING, carry.status)
        status = tf.where(orders.drop, IDLE, status)
        record = carry.record._replace(
            found=carry.record.found & ~orders.resume,
            distance=tf.where(orders.resume, float("inf"), carry.record.distance),
            score=tf.where(orders.resume, float("-inf"), carry.record.score),
        )
        carry = carry._replace(status=status, record=record)

        def going(n: Tensor, idled: Tensor, carry: Carry) -> Tensor:
            running = tf.reduce_any(tf.equal(carry.status, RUNNING))
            return (n < limit) & running & (idled < patience)

        def advance(n: Tensor, idled: Tensor, carry: Carry) -> tuple[Tensor, Tensor, Carry]:
            carry = self._advance(carry)
            done = tf.reduce_sum(tf.cast(carry.status >= FOUND, tf.int32))
            running = tf.reduce_sum(tf.cast(tf.equal(carry.status, RUNNING), tf.int32))
            beyond = tf.where(running <= narrower, tf.shape(carry.status)[0] - narrower, 0)
            return n + 1, idled + tf.where(narrower > 0, beyond, done), carry

        zero = tf.constant(0)
        n, _, carry = tf.while_loop(going, advance, (zero, zero, carry))
        ended = tf.equal(carry.status, ENDED)
        if self.transfer:
            record = tf.cond(
                tf.reduce_any(ended), lambda: self._weighed(carry, ended), lambda: carry.record
            )
            carry, final = carry._replace(record=record), record.best
        else:
            final = tf.cond(
                tf.reduce_any(ended), lambda: self._candidates(carry), lambda: carry.record.best
            )
        if self.grid.pixels == "uint8":
            final = tf.cast(tf.round(final * 255.0), tf.uint8)
        return Ticked(carry, final, n, self._possible(carry))

    def _refilled(self, orders: Orders, old: Carry) -> Carry:
        new = self._new(orders)
        if self._jit:
            mixed: Carry = _mixed(orders.refill, new, old)
            return mixed
        filled: Carry = _put(old, new, tf.cast(tf.where(orders.refill)[:, 0], tf.int32))
        return filled

    def _step(self, carry: Carry) -> Carry:
        active = tf.equal(carry.status, RUNNING)
        row = carry.row
        space = self._space.knowing(row.x0, row.eps, carry.bounds)
        judge = Judge(
            self._logits,
            row,
            carry.bounds,
            active,
            carry.record,
            space,
            self.grid,
            self._attack.access,
            self.minimum_norm,
            transfer=self.transfer,
        )
        random = Random(row.key, carry.k)
        moved, done = self._attack.step(row, carry.state, carry.k, space, judge, random)
        # the state of any other row that rests is not needed again
        rests = ~active & (carry.held | (tf.equal(carry.status, ENDED) & self._finishes))
        state = tf.cond(
            tf.reduce_any(rests), lambda: _mixed(rests, carry.state, moved), lambda: moved
        )
        k = carry.k + tf.cast(active, tf.int32)
        status = carry.status
        if not self.minimum_norm:
            status = tf.where(active & judge.record.found, FOUND, status)
        # last, so that a row whose successes are never confirmed comes to its end
        status = tf.where(active & (done | (k >= self.length)), ENDED, status)
        return carry._replace(state=state, record=judge.record, k=k, status=status)

    def _halves(self, carry: Carry) -> Halves:
        halves = self._attack.divide(
            carry.row, carry.state, self._space.knowing(carry.row.x0, carry.row.eps, carry.bounds)
        )
        if halves is None:
            raise TypeError(f"'{self._attack.name}' has a `divide` that says nothing")
        return halves

    def _possible(self, carry: Carry) -> Tensor:
        if self._divides:
            return self._halves(carry).possible
        return tf.zeros_like(carry.status, tf.bool)

    def _halved(self, carry: Carry, first: Tensor, rest: Tensor) -> tuple[Carry, Tensor]:
        halves, record = self._halves(carry), carry.record
        state = _mixed(rest, halves.rest, _mixed(first, halves.first, carry.state))
        # what was spent before stays with the first half
        spent = {
            name: tf.where(rest, 0, getattr(record, name))
            for name in ("forwards", "gradients", "stalled")
        }
        carry = carry._replace(state=state, record=record._replace(**spent))
        return carry, self._possible(carry)

    def _candidates(self, carry: Carry) -> Tensor:
        """Per row: the best point asked about, or what `finish` proposes if nothing succeeded."""
        row = carry.row
        proposed = self._attack.finish(row, carry.state, self._space)
        if proposed is None:
            return carry.record.best
        proposed = self._space.project(proposed, row.x0, row.eps)
        proposed = self.grid.round(proposed, row.x0, row.eps)
        return select(carry.record.found, carry.record.best, proposed)

    def _weighed(self, carry: Carry, ended: Tensor) -> Record:
        """What `finish` proposes for rows that `ended`, beside the points that were asked about.

        Nothing more is known of a point than its margin on the surrogate, so that is asked too.
        """
        row, space = carry.row, self._space
        proposed = self._attack.finish(row, carry.state, space)
        if proposed is None:
            return carry.record
        judge = Judge(
            self._logits,
            row,
            carry.bounds,
            ended,
            carry.record,
            space,
            self.grid,
            "scores",
            self.minimum_norm,
            transfer=True,
        )
        judge.scores(space.project(proposed, row.x0, row.eps))
        return judge.record


def _mixed(mask: Tensor, new: Any, old: Any) -> Any:
    """Rows of `new` where `mask` [S] is true, else of `old`; any nest of tensors."""
    return tf.nest.map_structure(lambda a, b: select(mask, a, b), new, old)


def _put(old: Any, new: Any, places: Tensor) -> Any:
    """`old` with the rows of `new` at `places`; any nest of tensors."""

    def put(there: Tensor, fresh: Tensor) -> Tensor:
        # the bounds of a norm without bounds have no values to put
        empty = 0 in there.shape
        return there if empty else tf.tensor_scatter_nd_update(there, places[:, None], fresh)

    return tf.nest.map_structure(put, old, new)
