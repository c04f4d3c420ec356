"""Square: random search with square windows, the score-based attack of record.

Claims: with a few thousand queries and no gradient it comes near the best white-box attacks in
Linf, so where it beats them, their gradients were masked. Each query changes one square window of
the best point so far, and is kept if the margin of the goal rises.

Linf: starts from vertical stripes at ±eps; a window is set to ±eps, one sign per channel. L2 and
L1: starts from a mosaic of two-sided bumps; a window gets the budget of another one, which is
emptied, in the shape of what it had plus a new bump. The windows shrink: their share of the image
is `p-init`, halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 queries.

The defaults are AutoAttack's. Differs from its code in that every image draws windows of its own,
that they reach the last row and column, that a window which would change nothing is drawn with
the opposite signs, and that images need not be square (the windows are).

Misleads: in few queries it says little; the L2 and L1 forms, whose windows are 3 x 3 at least,
stay farther from the optimum than the Linf one.

Cost: `steps` forwards per image, eps and restart, the start included; fewer where it succeeds. With
`give-up`, as in the preset `autoattack`, a tenth to a third of them where it fails.

Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random
search", 1912.00049, algorithms 1-3; the L1 form: Croce & Hein, "Mind the box", 2103.01208.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.pace import Course, Pace, unknown
from advcli.attacks.search import progress, stage
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import log_odds_slack
from advcli.threats.randomness import Random
from advcli.threats.space import Space, norms_of, per_row, select

_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_TILES = 5
_BEYOND = 2.0  # farther than any ball in the box: its projection is ±eps


class State(NamedTuple):
    x: Tensor  # the best point so far
    score: Tensor
    pace: Pace | tuple[()]


class Square(Attack):
    name: ClassVar[str] = "square"
    summary: ClassVar[str] = "score-based random search with shrinking square windows"
    kind: ClassVar = "budget"
    access: ClassVar = "scores"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    reference: ClassVar[str] = "Andriushchenko et al., 1912.00049"

    steps: int = Field(5000, ge=1, le=1_000_000, description="queries")
    p_init: float = Field(0.8, gt=0, le=1, description="share of the image in the first windows")
    rescale_schedule: bool = Field(
        False, description="halve the windows as in a run of 10,000 queries, whatever `steps` is"
    )
    restarts: int = Field(1, ge=1, le=10_000, description="independent searches, in order")
    give_up: bool = Field(False, description="end a search whose pace would not carry it there")

    def length(self, space: Space) -> int:
        return self.steps

    def cost(self, space: Space) -> tuple[int, int]:
        return self.steps * self.restarts, 0

    def init(self, row: Row, space: Space, random: Random) -> State:
        if space.norm == "linf":
            stripes = random.signs((1, space.shape[1], space.shape[2]))
            x = space.project(row.x0 + _BEYOND * stripes, row.x0, row.eps)
        else:
            x = _spread(row.x0, _mosaic(space, random), row.eps, space)
        score = tf.fill(tf.shape(row.eps), float("-inf"))
        return State(x, score, unknown(row.eps) if self.give_up else ())

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        sides = _sides(space, self.p_init)
        # window number 1 is asked at k = 1, after the start
        halved = stage(k - 1, _HALVED_AFTER, self.steps if self.rescale_schedule else 10_000)
        propose = self._coloured if space.norm == "linf" else self._moved
        proposal = propose(row, state.x, sides, halved, space, random)
        first = tf.equal(k, 0)
        x = tf.cond(
            tf.reduce_any(first), lambda: select(first, state.x, proposal), lambda: proposal
        )
        z = oracle.scores(x)
        score = progress(z, row.goal)
        better = score > state.score
        best = tf.where(better, score, state.score)
        pace, over = state.pace, tf.zeros_like(better)
        if isinstance(pace, Pace) and not oracle.transfer:
            reached = best + log_odds_slack(row.goal, int(z.shape[-1]))
            pace, over = Course(self.steps, self.steps // 16).follow(pace, k, reached)
        return Step(State(select(better, x, state.x), best, pace), over)

    def _coloured(
        self, row: Row, x: Tensor, sides: list[int], halved: Tensor, space: Space, random: Random
    ) -> Tensor:
        """Linf: one window at ±eps."""
        side = tf.gather(tf.constant(sides), halved)
        rows, columns = _window(side, space, random, 0)
        signs = random.signs((1, space.shape[2]), 2)
        # the window of one colour after another, as an outer product: in four dimensions the same
        # multiplication takes six times as long
        width = int(np.prod(space.shape[1:]))
        across = tf.reshape(tf.cast(columns, tf.float32)[:, :, None] * signs, [-1, 1, width])
        push = _BEYOND * tf.cast(rows, tf.float32)[:, :, None] * across
        push = tf.reshape(push, [-1, *space.shape])
        coloured = space.project(x + push, row.x0, row.eps)
        same = ~tf.reduce_any(tf.not_equal(coloured, x), axis=[1, 2, 3])
        return tf.cond(
            tf.reduce_any(same),
            lambda: select(same, space.project(x - push, row.x0, row.eps), coloured),
            lambda: coloured,
        )

    def _moved(
        self, row: Row, x: Tensor, sides: list[int], halved: Tensor, space: Space, random: Random
    ) -> Tensor:
        """L2, L1: the budget of the second window, and what is left, goes to the first."""
        l2, channels = space.norm == "l2", space.shape[2]
        side = tf.gather(tf.constant(sides), halved)
        (rows, columns), (rows2, columns2) = (_window(side, space, random, n) for n in (0, 2))
        first = (rows[:, :, None] & columns[:, None, :])[..., None]
        second = (rows2[:, :, None] & columns2[:, None, :])[..., None]
        delta = x - row.x0

        def size(t: Tensor) -> Tensor:
            """Per channel [S, 1, 1, C]: the square of the L2 norm, or the L1 norm."""
            return tf.reduce_sum(tf.square(t) if l2 else tf.abs(t), axis=[1, 2], keepdims=True)

        def root(t: Tensor) -> Tensor:
            return tf.sqrt(t) if l2 else t

        held = delta * tf.cast(first, tf.float32)
        whole = tf.square(row.eps) if l2 else row.eps
        spare = tf.maximum(whole - tf.reduce_sum(size(delta), axis=[1, 2, 3]), 0.0)
        either = tf.cast(first | second, tf.float32)
        room = size(delta * either) + per_row(spare, delta) / channels
        if not l2:
            room *= channels  # as the authors: the projection brings it back
        bump = _bumps(sides, halved, rows, columns, random.signs((), 4) > 0, space.norm)
        new = bump * random.signs((1, 1, channels), 5)
        new += held * tf.math.reciprocal_no_nan(root(size(held)))
        new *= root(room * tf.math.reciprocal_no_nan(size(new)))
        # `new` is 0 outside the first window
        return _spread(row.x0, new + delta * (1.0 - either), row.eps, space)


def _sides(space: Space, p_init: float) -> list[int]:
    """The windows' side at each stage of the schedule."""
    height, width, _ = space.shape
    sides = []
    for times in range(len(_HALVED_AFTER) + 1):
        side = round(math.sqrt(p_init / 2**times * height * width))
        if space.norm != "linf":
            side = max(side, 3) | 1
        sides.append(min(max(side, 1), height, width))
    return sides


def _window(side: Tensor, space: Space, random: Random, stream: int) -> tuple[Tensor, Tensor]:
    """Rows (bool [S, H]) and columns (bool [S, W]) of a square anywhere in the image."""
    found = []
    for axis in (0, 1):
        length = space.shape[axis]
        start = random.integers(length - side + 1, (), 10 + stream + axis)[:, None]
        place = tf.range(length)[None]
        found.append((place >= start) & (place < start + side[:, None]))
    return found[0], found[1]


def _spread(x0: Tensor, delta: Tensor, eps: Tensor, space: Space) -> Tensor:
    """The perturbation brought to the length eps, in the box."""
    length = tf.maximum(norms_of(delta, space.norm), 1e-12)
    if space.norm == "l2":
        return tf.clip_by_value(x0 + delta * per_row(eps / length, delta), 0.0, 1.0)
    # L1: what is too long is projected, which empties its small values
    return space.project(x0 + delta * per_row(tf.maximum(eps / length, 1.0), delta), x0, eps)


# --- bumps -----------------------------------------------------------------------------------


def _bump(side: int, norm: Norm) -> np.ndarray:
    """Two hills, the upper one positive and the lower one negative, of unit norm; [side, side]."""
    power, steepness = (2, 2) if norm == "l2" else (1, 4)
    hills = []
    for height, sign in ((side // 2, 1.0), (side - side // 2, -1.0)):
        ring = np.maximum(
            np.abs(np.arange(height) - height // 2)[:, None],
            np.abs(np.arange(side) - side // 2)[None],
        )
        rings = max(height // 2, side // 2) + 1
        steps = 1.0 / np.arange(1.0, rings + 1) ** steepness
        hill = np.cumsum(steps[::-1])[::-1][ring]  # Σ of the steps from one's own ring outwards
        hills.append(sign * hill / max((hill**power).sum(), 1e-12) ** (1 / power))
    both = np.concatenate(hills)
    return np.asarray(both / (np.abs(both) ** power).sum() ** (1 / power), np.float32)


def _bumps(
    sides: list[int], halved: Tensor, rows: Tensor, columns: Tensor, turned: Tensor, norm: Norm
) -> Tensor:
    """A bump in each row's window, 0 elsewhere: [S, H, W, 1]. One look-up, no shape per row."""
    most = max(sides) + 1  # the last row and column of every entry are the 0 outside
    table = np.zeros((len(sides), most, most), np.float32)
    for entry, side in zip(table, sides, strict=True):
        entry[:side, :side] = _bump(side, norm)

    def place(inside: Tensor) -> Tensor:
        return tf.where(inside, tf.cumsum(tf.cast(inside, tf.int32), axis=1) - 1, most - 1)

    down = tf.where(turned, 1, most)[:, None]
    across = tf.where(turned, most, 1)[:, None]
    index = (place(rows) * down)[:, :, None] + (place(columns) * across)[:, None, :]
    index += halved[:, None, None] * most**2
    return tf.gather(tf.constant(table.reshape(-1)), index)[..., None]


def _mosaic(space: Space, random: Random) -> Tensor:
    """Bumps side by side, each turned and signed at random (signs per channel): [S, H, W, C]."""
    height, width, channels = space.shape
    side = max(1, min(height, width) // _TILES)
    bump = _bump(side, space.norm)
    down, across = height // side, width // side
    canvas = np.zeros((2, height, width, 1), np.float32)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    tile = np.tile(np.stack([bump, bump.T]), (1, down, across))[..., None]
    canvas[:, top : top + down * side, left : left + across * side] = tile

    def enlarged(tiles: Tensor) -> Tensor:
        """[S, down, across, …] -> [S, H, W, …]; the margin's values do not matter."""
        rows = np.clip((np.arange(height) - top) // side, 0, down - 1)
        columns = np.clip((np.arange(width) - left) // side, 0, across - 1)
        return tf.gather(tf.gather(tiles, rows, axis=1), columns, axis=2)

    turned = enlarged(random.signs((down, across, 1), 1)) > 0
    return tf.where(turned, canvas[1], canvas[0]) * enlarged(
        random.signs((down, across, channels), 2)
    )
