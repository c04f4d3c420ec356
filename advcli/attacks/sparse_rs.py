"""Sparse-RS: random search over which few pixels to change, and to what.

Claims: the strongest score-based attack in L0 (a pixel counts once, however many of its channels
change). It holds exactly eps pixels, each at a corner of the colour cube, and at every query gives
some of them back for as many others with colours drawn at random; what raises the margin of the
goal is kept. The share that is exchanged falls from `alpha-init`/2 to `alpha-init`/20 of eps, as
in a run of 10,000 queries.

Differs from the authors' code in that every image exchanges pixels of its own, that a drawn colour
is never the one that the pixel has in the clean image (it would be wasted: half of all draws on
black and white images), and that at most 64 pixels are exchanged at once.

Misleads: in few queries it says little, and changed pixels are seen at once.

Cost: `steps` forwards per image, eps and restart, the start included; fewer where it succeeds.

Croce et al., "Sparse-RS: a versatile framework for query-efficient sparse black-box adversarial
attacks", 2006.12834, algorithms 1 and 2.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.search import progress, stage
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.randomness import Random
from advcli.threats.space import Space, blend, select

_SMALLER_AFTER = (0, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_DIVISORS = (1.0, 2.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0)
_MOST = 64


class State(NamedTuple):
    x: Tensor
    score: Tensor
    order: Tensor  # int32 [S, H·W], all pixels in random order: the first eps are the changed ones


class SparseRS(Attack):
    name: ClassVar[str] = "sparse-rs"
    summary: ClassVar[str] = "score-based random search over which pixels to change"
    kind: ClassVar = "budget"
    access: ClassVar = "scores"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    reference: ClassVar[str] = "Croce et al., 2006.12834"

    steps: int = Field(5000, ge=1, le=1_000_000, description="queries")
    alpha_init: float = Field(0.3, gt=0, le=1, description="share of the pixels exchanged, at most")
    restarts: int = Field(1, ge=1, le=10_000, description="independent searches, in order")

    def length(self, space: Space) -> int:
        return self.steps

    def cost(self, space: Space) -> tuple[int, int]:
        return self.steps * self.restarts, 0

    def init(self, row: Row, space: Space, random: Random) -> State:
        pixels = space.shape[0] * space.shape[1]
        order = tf.argsort(random.uniform((pixels,), 0), axis=1)
        rank = tf.reshape(tf.argsort(order, axis=1), [-1, *space.shape[:2], 1])
        changed = rank < _count(row, pixels)[:, None, None, None]
        x = blend(changed, _other(row.x0, random.signs(space.shape, 1)), row.x0)
        return State(x, tf.fill(tf.shape(row.eps), float("-inf")), order)

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        pixels, channels = space.shape[0] * space.shape[1], space.shape[2]
        many = _count(row, pixels)
        share = tf.gather(tf.constant(_DIVISORS), stage(k, _SMALLER_AFTER, self.steps))
        swaps = tf.cast(tf.floor(self.alpha_init / share * tf.cast(many, tf.float32)), tf.int32)
        swaps = tf.clip_by_value(swaps, 1, tf.minimum(_MOST, pixels - many))
        # places in `order`: of pixels to give back, and of pixels to take in their stead
        out = _spread(swaps, many, random, 0)
        into = many[:, None] + _spread(swaps, pixels - many, random, 2)
        old, new = (tf.gather(state.order, place, axis=1, batch_dims=1) for place in (out, into))

        clean = tf.reshape(row.x0, [-1, pixels, channels])
        before, behind = (tf.gather(clean, at, axis=1, batch_dims=1) for at in (old, new))
        colours = _repeated(_other(behind, random.signs((_MOST, channels), 4)), swaps)
        x = tf.reshape(state.x, [-1, pixels, channels])
        x = _put(x, tf.concat([old, new], axis=1), tf.concat([before, colours], axis=1))
        first = k == 0
        x = select(first, state.x, tf.reshape(x, tf.shape(state.x)))
        score = progress(oracle.scores(x), row.goal)
        better = score > state.score
        order = tf.cond(
            tf.reduce_any(better & ~first),
            lambda: _put(
                state.order, tf.concat([out, into], axis=1), tf.concat([new, old], axis=1)
            ),
            lambda: state.order,
        )
        state = State(
            x=select(better, x, state.x),
            score=tf.where(better, score, state.score),
            order=select(better & ~first, order, state.order),
        )
        return Step(state, tf.zeros_like(first))


def _count(row: Row, pixels: int) -> Tensor:
    """int32 [S], how many pixels are changed: eps, or all but the one needed to exchange."""
    return tf.clip_by_value(tf.cast(tf.floor(row.eps + 1e-3), tf.int32), 1, max(1, pixels - 1))


def _other(clean: Tensor, signs: Tensor) -> Tensor:
    """The corner of the colour cube with these signs, or the opposite one if it is `clean`."""
    same = tf.reduce_all(tf.equal(clean, tf.maximum(signs, 0.0)), axis=-1, keepdims=True)
    return tf.cast((signs > 0) ^ same, tf.float32)


def _spread(swaps: Tensor, length: Tensor, random: Random, stream: int) -> Tensor:
    """`swaps` [S] different numbers below `length` [S], int32 [S, _MOST] with repetitions behind.

    One from each of `swaps` equal parts, all turned by the same random number: as good as a random
    subset in a list whose own order is random.
    """
    part = tf.range(_MOST)[None]
    start = part * length[:, None] // swaps[:, None]
    end = (part + 1) * length[:, None] // swaps[:, None]
    drawn = start + random.integers(tf.maximum(end - start, 1), (_MOST,), stream)
    turned = (drawn + random.integers(length, (), stream + 1)[:, None]) % length[:, None]
    return _repeated(turned, swaps)


def _repeated(values: Tensor, swaps: Tensor) -> Tensor:
    """The first `swaps` [S] of values [S, _MOST, …], then the first one over and over."""
    index = tf.where(tf.range(_MOST)[None] < swaps[:, None], tf.range(_MOST)[None], 0)
    return tf.gather(values, index, axis=1, batch_dims=1)


def _put(into: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """`into` [S, N, …] with `values` [S, M, …] at `places` [S, M]; equal places, equal values."""
    rows = tf.repeat(tf.range(tf.shape(places)[0])[:, None], places.shape[1], axis=1)
    return tf.tensor_scatter_nd_update(into, tf.stack([rows, places], axis=-1), values)
