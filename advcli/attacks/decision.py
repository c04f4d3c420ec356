"""What the decision-based attacks share: a start, a search along a path, the estimate of a normal.

They ask `width` points per image at once and count those that a sequential attacker would have
asked. Leading axis S; Q is the width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from advcli.attacks.base import Row
from advcli.lazy import Tensor, tf
from advcli.threats.randomness import Random
from advcli.threats.space import Space, norms_of, per_row, select

START, BISECT = range(2)  # the phases that all of them begin with


def merge(mask: Tensor, new: Any, old: Any) -> Any:
    """The state (or anything nested) `new` in rows where `mask` [S] is true, else `old`."""
    return tf.nest.map_structure(lambda a, b: select(mask, a, b), new, old)


def by_phase(phase: Tensor, start: Any, others: dict[int, Any]) -> Any:
    """What belongs to each row's phase, int32 [S]: `start`, or the value of another phase."""
    for number, value in others.items():
        start = merge(tf.equal(phase, number), value, start)
    return start


# --- a start ---------------------------------------------------------------------------------


def start_points(row: Row, space: Space, random: Random, rounds: Tensor, width: int) -> Tensor:
    """Noise, two-level noise, plain colours and the inverse: what a black box can be sent.

    Targeted: the image of the target class comes first of all, in round 0 (`rounds` int32 [S]).
    Uses the streams 0 and 1.
    """
    channels = space.shape[-1]
    noise = random.uniform((width, *space.shape), 0)
    plain = tf.reshape(random.uniform((width, 1, 1, channels), 1), [-1, width, 1, 1, channels])
    kind = tf.reshape(tf.range(width) % 4, [1, width, 1, 1, 1])
    points = tf.where(kind == 1, tf.round(noise), noise)
    points = tf.where(kind == 2, tf.broadcast_to(plain, tf.shape(noise)), points)
    inverse = (1.0 - row.x0)[:, None] + 0.5 * (noise - 0.5)
    points = tf.clip_by_value(tf.where(kind == 3, inverse, points), 0.0, 1.0)
    aimed = (row.goal.target >= 0) & tf.equal(rounds, 0)
    given = aimed[:, None] & (tf.range(width) == 0)[None]
    return tf.where(given[:, :, None, None, None], row.start[:, None], points)


def until_first(met: Tensor) -> Tensor:
    """bool [S, Q]: the points asked by someone who stops at the first success."""
    return tf.equal(tf.cumsum(tf.cast(met, tf.int32), axis=1, exclusive=True), 0)


def start_asked(met: Tensor, rounds: Tensor, starts: Tensor | int) -> Tensor:
    """bool [S, Q]: which start points count, at most `starts` in all rounds."""
    width = int(met.shape[1])
    return until_first(met) & (tf.range(width)[None] < (starts - rounds * width)[:, None])


def after_start(state: Any, points: Tensor, met: Tensor, spent: Tensor) -> tuple[Any, Tensor]:
    """(the state, which rows are done): found, or the next round unless all starts are `spent`.

    `met`: of the points that count. The state has the fields `phase`, `x` and `rounds`.
    """
    found, point = first_of(points, met)
    new = state._replace(
        phase=tf.where(found, BISECT, START),
        x=select(found, point, state.x),
        rounds=tf.where(found, 0, state.rounds + 1),
    )
    return new, ~found & spent


def first_of(points: Tensor, met: Tensor) -> tuple[Tensor, Tensor]:
    """(whether there is a success, bool [S]; the first one's point, [S, H, W, C])."""
    first = tf.argmax(tf.cast(met, tf.int32), axis=1, output_type=tf.int32)
    return tf.reduce_any(met, axis=1), tf.gather(points, first, axis=1, batch_dims=1)


# --- a search along a path -------------------------------------------------------------------


class Bracket(NamedTuple):
    """A stretch of a path: adversarial at its end `met`, not (or not known) at its end `unmet`."""

    unmet: Tensor  # [S]
    met: Tensor  # [S]

    @property
    def width(self) -> Tensor:
        return tf.abs(self.met - self.unmet)

    def rungs(self, count: int) -> Tensor:
        """Places 1/count, 2/count, …, 1 of the way from `unmet` to `met`, [S, count]."""
        rung = tf.range(1, count + 1, dtype=tf.float32) / count
        return self.unmet[:, None] + (self.met - self.unmet)[:, None] * rung[None]

    def narrowed(self, answers: Tensor) -> Bracket:
        """What a binary search over the rungs leaves of it; answers bool [S, count]."""
        count = int(answers.shape[1])
        _, below, above = descend(answers)
        rung = (self.met - self.unmet) / count
        met = self.unmet + rung * tf.cast(above, tf.float32)
        return Bracket(
            self.unmet + rung * tf.cast(below, tf.float32),
            tf.where(tf.equal(above, count), self.met, met),
        )


def descend(met: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Binary search over the rungs 1…Q, Q a power of two (rung Q is adversarial, rung 0 is not).

    Returns the rungs visited (bool [S, Q]), and the last ones below and above (int32 [S]).
    """
    count = int(met.shape[1])
    low = tf.zeros_like(met[:, 0], tf.int32)
    high = low + count
    path = tf.zeros_like(met)
    for _ in range(levels(count)):
        middle = (low + high) // 2
        path = path | tf.one_hot(middle - 1, count, on_value=True, off_value=False, dtype=tf.bool)
        hit = tf.gather(met, middle - 1, axis=1, batch_dims=1)
        low, high = tf.where(hit, low, middle), tf.where(hit, middle, high)
    return path, low, high


def levels(count: int) -> int:
    """Questions that a binary search over `count` rungs asks; count is a power of two."""
    return count.bit_length() - 1


def between(row: Row, far: Tensor, share: Tensor, space: Space) -> Tensor:
    """Points at `share` [S, Q] of the way (Linf: of the distance) from x0 to `far`."""
    x0, delta = row.x0[:, None], (far - row.x0)[:, None]
    if space.norm == "linf":
        reach = share * norms_of(delta[:, 0], "linf")[:, None]
        limit = reach[:, :, None, None, None]
        return x0 + tf.maximum(tf.minimum(delta, limit), -limit)
    return x0 + share[:, :, None, None, None] * delta


def on_circle(row: Row, x: Tensor, across: Tensor, angle: Tensor) -> Tensor:
    """Points of the circle over the line from x0 to `x`, seen from x0 at `angle` [S, Q].

    In the plane of that line and the unit directions `across` [S, 1 or Q, H, W, C], orthogonal to
    it; clipped to the box. Angle 0 is x, a right angle is x0.
    """
    delta = (x - row.x0)[:, None]
    diameter = norms_of(delta[:, 0], "l2")[:, None]
    cosine, sine = tf.cos(angle), tf.sin(angle)
    along = per_row(cosine * cosine, delta) * delta
    sideways = per_row(diameter * cosine * sine, across) * across
    return tf.clip_by_value(row.x0[:, None] + along + sideways, 0.0, 1.0)


# --- the estimate of a normal ----------------------------------------------------------------


class Estimate(NamedTuple):
    """Sums over the probes of a running estimate, each displaced by u and answered f = ±1."""

    asked: Tensor  # int32 [S]
    sum_u: Tensor  # Σ u, [S, H, W, C]
    sum_fu: Tensor  # Σ f·u
    sum_f: Tensor  # Σ f, [S]

    def plus(self, u: Tensor, met: Tensor, wanted: Tensor) -> Estimate:
        """With the probes u [S, Q, H, W, C], but for those beyond `wanted` int32 [S] in all."""
        width = int(met.shape[1])
        left = tf.clip_by_value(wanted - self.asked, 0, width)
        counted = tf.cast(tf.range(width)[None] < left[:, None], tf.float32)
        answer = tf.where(met, 1.0, -1.0) * counted
        return Estimate(
            asked=self.asked + left,
            sum_u=self.sum_u + tf.einsum("sq,sqhwc->shwc", counted, u),
            sum_fu=self.sum_fu + tf.einsum("sq,sqhwc->shwc", answer, u),
            sum_f=self.sum_f + tf.reduce_sum(answer, axis=1),
        )

    def normal(self) -> Tensor:
        """Σ(f − mean f)·u; where every answer was the same, ±Σu (as in HopSkipJump's code)."""
        count = tf.maximum(tf.cast(self.asked, tf.float32), 1.0)
        mean = self.sum_f / count
        v = self.sum_fu - per_row(mean, self.sum_u) * self.sum_u
        one_sided = tf.abs(mean) > 1.0 - 0.5 / count
        return select(one_sided, per_row(tf.sign(mean), v) * self.sum_u, v)


def no_estimate(row: Row) -> Estimate:
    blank = tf.zeros_like(row.x0)
    return Estimate(tf.zeros_like(row.restart), blank, blank, tf.zeros_like(row.eps))
