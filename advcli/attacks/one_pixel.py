"""One pixel: differential evolution over the place and colour of a few pixels.

Claims: many images of an undefended network change class when a single pixel does. A candidate is
a list of pixels, each a place and a colour; in every generation candidate i is challenged by
a + (b − c)/2 of three others drawn at random, and yields if the challenger lowers the probability
of the label (or raises the target's). eps is the number of pixels: 1, 3 and 5 in the paper.

Differs from the paper where a challenger leaves its range: its place wraps around the image, and
its colour stops at black or white, the strongest changes there are. The search ends before its
last generation where all candidates have become one image.

Misleads: beyond a handful of pixels evolution is slow; `sparse-rs` needs far fewer queries.

Cost: `population`·(`generations` + 1) forwards per image, eps and restart; fewer where it
succeeds. A generation is asked together, and all of it counts.

Su et al., "One pixel attack for fooling deep neural networks", 1710.08864.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal, log_odds
from advcli.threats.randomness import Random
from advcli.threats.space import Space

_DIFFERENTIAL = 0.5  # the paper's F
_MEAN, _DEVIATION = 128 / 255, 127 / 255  # of the first colours


class State(NamedTuple):
    genes: Tensor  # [S, Q, P, 2 + C]: row and column as shares of the image, and the colour
    score: Tensor  # [S, Q], the log-odds of the goal


class OnePixel(Attack):
    name: ClassVar[str] = "one-pixel"
    summary: ClassVar[str] = "differential evolution of a few pixels' places and colours"
    kind: ClassVar = "budget"
    access: ClassVar = "scores"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    reference: ClassVar[str] = "Su et al., 1710.08864"

    population: int = Field(400, ge=8, le=4096, multiple_of=8, description="candidates")
    generations: int = Field(100, ge=0, le=10_000, description="challenges to every candidate")
    pixels: int = Field(5, ge=1, le=100, description="most pixels changed, however large eps is")
    restarts: int = Field(1, ge=1, le=10_000, description="independent searches, in order")

    def length(self, space: Space) -> int:
        return self.generations + 1

    def width(self, space: Space) -> int:
        return self.population

    def cost(self, space: Space) -> tuple[int, int]:
        return self.population * (self.generations + 1) * self.restarts, 0

    def init(self, row: Row, space: Space, random: Random) -> State:
        shape = (self.population, self.pixels)
        places = random.uniform((*shape, 2), 0)
        colours = _MEAN + _DEVIATION * random.normal((*shape, space.shape[2]), 1)
        genes = tf.concat([places, tf.clip_by_value(colours, 0.0, 1.0)], axis=-1)
        return State(genes, tf.fill([tf.shape(places)[0], self.population], float("-inf")))

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        first = (k == 0)[:, None, None, None]
        genes = tf.where(first, state.genes, self._challengers(state.genes, random))
        z = oracle.scores(self._drawn(row, genes, space))
        classes = int(z.shape[-1])
        goal = Goal(*(tf.repeat(part, self.population) for part in row.goal))
        score = tf.reshape(log_odds(tf.reshape(z, [-1, classes]), goal), [-1, self.population])
        better = score > state.score
        genes = tf.where(better[:, :, None, None], genes, state.genes)
        state = State(genes, tf.where(better, score, state.score))
        return Step(state, (k > 0) & _one_image(genes, self._used(row), space))

    def _used(self, row: Row) -> Tensor:
        """bool [S, P]: the genes that eps has room for."""
        return tf.range(self.pixels, dtype=tf.float32)[None] < tf.floor(row.eps + 1e-3)[:, None]

    def _challengers(self, genes: Tensor, random: Random) -> Tensor:
        many = self.population
        # never the candidate itself
        others = random.integers(many - 1, (3, many), 0) + 1 + tf.range(many)
        a, b, c = (tf.gather(genes, others[:, n] % many, axis=1, batch_dims=1) for n in range(3))
        challenger = a + _DIFFERENTIAL * (b - c)
        places, colours = challenger[..., :2], challenger[..., 2:]
        return tf.concat(
            [tf.math.floormod(places, 1.0), tf.clip_by_value(colours, 0.0, 1.0)], axis=-1
        )

    def _drawn(self, row: Row, genes: Tensor, space: Space) -> Tensor:
        """The candidates as images, [S, Q, H, W, C]."""
        height, width, channels = space.shape
        size = tf.constant([height, width], tf.float32)
        at = tf.minimum(tf.cast(genes[..., :2] * size, tf.int32), [height - 1, width - 1])
        place = at[..., 0] * width + at[..., 1]
        # of two pixels at one place the first counts, and a pixel beyond eps repeats the first
        twin = tf.argmax(tf.cast(place[..., :, None] == place[..., None, :], tf.int32), axis=-1)
        twin = tf.where(self._used(row)[:, None], twin, 0)
        place = tf.gather(place, twin, axis=2, batch_dims=2)
        colours = tf.gather(genes[..., 2:], twin, axis=2, batch_dims=2)
        blank = tf.repeat(row.x0[:, None], self.population, axis=1)
        canvas = tf.reshape(blank, [-1, height * width, channels])
        place = tf.reshape(place, [-1, self.pixels])
        rows = tf.repeat(tf.range(tf.shape(place)[0])[:, None], self.pixels, axis=1)
        canvas = tf.tensor_scatter_nd_update(
            canvas, tf.stack([rows, place], -1), tf.reshape(colours, [-1, self.pixels, channels])
        )
        return tf.reshape(canvas, tf.shape(blank))


def _one_image(genes: Tensor, used: Tensor, space: Space) -> Tensor:
    """bool [S], whether all candidates agree to less than a pixel and a level."""
    unit = tf.constant([*space.shape[:2], *([255] * space.shape[2])], tf.float32)
    extent = (tf.reduce_max(genes, axis=1) - tf.reduce_min(genes, axis=1)) * unit
    return tf.reduce_all((extent < 1.0) | ~used[..., None], axis=[1, 2])
