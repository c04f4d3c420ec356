"""The oracle that attacks ask, and the only judge of success.

Every point that an attack asks about is rounded to the grid, measured and judged on the spot, so
the forward pass of a gradient is the judgement too, and an attack cannot misreport.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from advcli.attacks.base import Access, LossFunction, Row, Slope, View
from advcli.lazy import Tensor, tf
from advcli.models.backward import gradient_of
from advcli.threats.grid import Grid
from advcli.threats.losses import Goal, margin
from advcli.threats.space import Bounds, Space, select

# A margin below this share of the largest logit is float32 noise: another batch shape could undo it
NOISE = 1e-5
_RANK: dict[Access, int] = {"none": 0, "decision": 0, "scores": 1, "gradient": 2}


class Record(NamedTuple):
    """What is known about each row so far; leading axis S."""

    best: Tensor  # float32 [S, H, W, C], on the grid: the closest adversarial, or the best try
    score: Tensor  # float32 [S], the margin of `best`
    distance: Tensor  # float32 [S], of the closest adversarial; inf while there is none
    found: Tensor  # bool [S]
    forwards: Tensor  # int32 [S]
    gradients: Tensor  # int32 [S]
    stalled: Tensor  # int32 [S], gradients that were exactly zero
    nonfinite: Tensor  # bool [S]


def empty_record(x0: Tensor) -> Record:
    """Nothing asked yet: the clean image stands as the best try."""
    rows = tf.shape(x0)[:1]
    zeros = tf.zeros(rows, tf.int32)
    return Record(
        best=x0,
        score=tf.fill(rows, float("-inf")),
        distance=tf.fill(rows, float("inf")),
        found=tf.zeros(rows, tf.bool),
        forwards=zeros,
        gradients=zeros,
        stalled=zeros,
        nonfinite=tf.zeros(rows, tf.bool),
    )


class Judge:
    """One step's oracle over all rows: see `advcli.attacks.base.Oracle` for the attack's side."""

    def __init__(
        self,
        logits: Callable[[Tensor], Tensor],
        row: Row,
        bounds: Bounds,
        active: Tensor,
        record: Record,
        space: Space,
        grid: Grid,
        access: Access,
        minimum_norm: bool,
        *,
        transfer: bool = False,
    ) -> None:
        self._logits = logits
        self._row = row
        self._bounds = bounds
        self._active = active
        self._space = space
        self._grid = grid
        self._access = access
        self._minimum_norm = minimum_norm
        # of a surrogate's points the one with the highest margin carries over best
        self._strongest = transfer and not minimum_norm
        # rounding cannot leave the ball there, so nothing has to be measured
        self._always_inside = grid.pixels == "uint8" and space.norm == "linf" and not minimum_norm
        self.record = record
        self.transfer = transfer
        self.resolution = 1.0 / 255.0 if grid.pixels == "uint8" else 0.0

    def scores(self, x: Tensor, used: Any = None) -> Tensor:
        self._allow("scores")
        return self._ask(x, used)[0]

    def decide(self, x: Tensor, used: Any = None) -> Tensor:
        return self._ask(x, used)[1]

    def gradient(
        self, x: Tensor, loss: LossFunction, view: View | None = None, plain: Tensor | None = None
    ) -> Slope:
        self._allow("gradient")
        point = self.rounded(x)
        z = self._logits(point if view is None else view(point))
        value = loss(z, self._row.goal)
        g = gradient_of(tf.reduce_sum(value), point)
        size = tf.reduce_sum(tf.abs(g), axis=[1, 2, 3])  # of every value, NaN and infinity shown
        finite, zero = tf.math.is_finite(size), tf.equal(size, 0.0)
        g = tf.cond(tf.reduce_all(finite), lambda: g, lambda: select(finite, g, tf.zeros_like(g)))
        one = tf.cast(self._active, tf.int32)
        plain = tf.ones_like(zero) if plain is None else plain
        self._take(point[:, None], z[:, None], plain[:, None])
        self.record = self.record._replace(
            forwards=self.record.forwards + tf.where(plain, 0, one),  # the others are counted
            gradients=self.record.gradients + one,
            stalled=self.record.stalled + one * tf.cast(zero, tf.int32),
            nonfinite=self.record.nonfinite | (self._active & ~finite),
        )
        return Slope(value, g, z)

    def rounded(self, x: Tensor) -> Tensor:
        """The point of the grid that is asked about in place of `x`, inside the box."""
        if self._grid.pixels == "uint8" and self._space.norm == "linf" and len(x.shape) == 4:
            return self._grid.snap(x, self._bounds)
        shape = self._space.shape
        width = 1 if len(x.shape) == 4 else int(x.shape[1])
        x0, eps = self._row.x0, self._row.eps
        if width > 1 or len(x.shape) == 5:
            x0 = tf.repeat(x0, width, axis=0)
            eps = tf.repeat(eps, width)
        flat = tf.clip_by_value(tf.reshape(x, [-1, *shape]), 0.0, 1.0)
        return tf.reshape(self._grid.round(flat, x0, eps), tf.shape(x))

    def _allow(self, wanted: Access) -> None:
        if _RANK[self._access] < _RANK[wanted]:
            raise TypeError(f"an attack declared '{self._access}' may not ask for '{wanted}'")

    def _ask(self, x: Tensor, used: Any) -> tuple[Tensor, Tensor]:
        """(logits, whether the goal is met) of every query; takes note of those used."""
        many = len(x.shape) == 5
        queries = x if many else x[:, None]
        width = int(queries.shape[1])
        points = tf.reshape(self.rounded(queries), [-1, *self._space.shape])
        z = self._logits(points)
        z = tf.reshape(z, [-1, width, int(z.shape[-1])])
        met = self._met(z)
        mask = used(met if many else met[:, 0]) if callable(used) else used
        mask = tf.ones_like(met) if mask is None else (mask if many else mask[:, None])
        self._take(tf.reshape(points, [-1, width, *self._space.shape]), z, mask)
        return (z, met) if many else (z[:, 0], met[:, 0])

    def _margins(self, z: Tensor) -> Tensor:
        width = int(z.shape[1])
        goal = Goal(*(tf.repeat(part[:, None], width, axis=1) for part in self._row.goal))
        return margin(z, goal)

    def _met(self, z: Tensor) -> Tensor:
        return self._margins(z) > NOISE * tf.reduce_max(tf.abs(z), axis=-1)

    def _take(self, points: Tensor, z: Tensor, used: Tensor) -> None:
        """Judge points [S, Q, H, W, C] with logits [S, Q, K] where `used` [S, Q]."""
        old = self.record
        used = used & self._active[:, None]
        finite = tf.reduce_all(tf.math.is_finite(z), axis=-1)
        reached = tf.where(finite, self._margins(z), float("-inf"))
        if self._always_inside:
            away = tf.zeros_like(reached)
        else:
            away = self._space.distance(points, self._row.x0[:, None])
        met = used & finite & self._met(z)
        allowed = used & finite
        if not self._minimum_norm and not self._always_inside:
            inside = away <= self._row.eps[:, None] * (1.0 + 1e-5) + 1e-7
            met, allowed = met & inside, allowed & inside
        if self._strongest:
            met = tf.zeros_like(met)
        any_met = tf.reduce_any(met, axis=1)
        if int(points.shape[1]) == 1:  # the common case, spared a search and a copy
            point, score, far = points[:, 0], reached[:, 0], away[:, 0]
        else:  # among the points of this step: the closest success, else the highest margin
            nearest = tf.argmin(tf.where(met, away, float("inf")), axis=1, output_type=tf.int32)
            best = tf.where(allowed, reached, float("-inf"))
            highest = tf.argmax(best, axis=1, output_type=tf.int32)
            index = tf.where(any_met, nearest, highest)
            point, score, far = (
                tf.gather(value, index, axis=1, batch_dims=1) for value in (points, reached, away)
            )
        success = any_met & (~old.found | (far < old.distance))
        nearer = ~any_met & ~old.found & tf.reduce_any(allowed, axis=1) & (score > old.score)
        better = success | nearer
        self.record = old._replace(
            best=select(better, point, old.best),
            score=tf.where(better, score, old.score),
            distance=tf.where(success, far, old.distance),
            found=old.found | any_met,
            forwards=old.forwards + tf.reduce_sum(tf.cast(used, tf.int32), axis=1),
            nonfinite=old.nonfinite | tf.reduce_any(used & ~finite, axis=1),
        )
