"""MI-FGSM: sign steps along an accumulated gradient, for examples that carry over to other models.

The gradient, divided by its mean size, is added to `decay` times what was accumulated; the sign of
the sum is the step, eps/`steps` long. The momentum keeps the path from following what is peculiar
to one network. It is meant to be crafted on a substitute (`--surrogate`); the options make the
example less peculiar still, and combine:

- `nesterov`: the gradient is taken where the momentum is about to lead (NI-FGSM);
- `input-diversity`: with this probability the network sees the image shrunk to `resize` to 1 of
  its size, at a random place on black (DI-FGSM; its authors: 0.5 to 0.7);
- `translation`: the gradient is smoothed by a Gaussian kernel of so many pixels (TI-FGSM; 15 on
  images of 299, far fewer on small ones);
- `scale`: the gradient is the mean over so many copies, each half as bright as the one before
  (SI-FGSM; 5; made for photographs, of little use on images with a black ground).

Without a substitute it looks at likely rivals first, as `pgd` does, and starts from the best point
found; as published: `scouts=0`.

Misleads: as a white-box attack it is weaker than `pgd`: ten steps, one start. What carries over to
the model from a substitute is an upper bound of its robustness, and a loose one.

Cost: `steps`·`scale` gradients per image and eps, and without a substitute `scouts` more and one;
fewer where it succeeds.

Dong et al., "Boosting adversarial attacks with momentum", 1710.06081. Lin et al., 1908.06281
(NI, SI); Xie et al., 1803.06978 (DI); Dong et al., 1904.02884 (TI).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from advcli.attacks.average import Mean, added, nothing
from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.scouting import Scouting, Scouts
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import LOSSES, LossName
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row, select

_SIGMAS = 3.0  # the kernel's edge, in standard deviations


class State(NamedTuple):
    x: Tensor  # the point whose gradient is taken
    momentum: Tensor
    mean: Mean | tuple[()]  # over the scaled copies
    scouts: Scouts | tuple[()]
    asks: Tensor  # int32 [S], points asked before the first step


class MIFGSM(Attack):
    name: ClassVar[str] = "mifgsm"
    summary: ClassVar[str] = "sign steps with momentum, for transfer (NI, DI, TI, SI)"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    reference: ClassVar[str] = "Dong et al., 1710.06081"

    steps: int = Field(10, ge=1, le=10_000, description="steps, each of eps/steps")
    decay: float = Field(1.0, ge=0, le=2, description="what is kept of the momentum")
    loss: LossName = Field("ce", description="what is ascended")
    nesterov: bool = Field(False, description="look ahead along the momentum")
    input_diversity: float = Field(0.0, ge=0, le=1, description="share of resized views")
    resize: float = Field(0.9, gt=0, le=1, description="their smallest size, as a share")
    translation: int = Field(0, ge=0, le=101, description="side of the smoothing kernel, odd")
    scale: int = Field(1, ge=1, le=20, description="copies, each half as bright")
    scouts: int = Field(
        9, ge=0, le=1000, description="rival classes looked at first; not on a surrogate"
    )

    @field_validator("translation")
    @classmethod
    def _has_a_middle(cls, side: int) -> int:
        if side and side % 2 == 0:
            raise ValueError("must be odd")
        return side

    def length(self, space: Space) -> int:
        return Scouting(self.scouts).length + self.steps * self.scale

    def cost(self, space: Space) -> tuple[int, int]:
        return self.length(space), self.length(space)

    def init(self, row: Row, space: Space, random: Random) -> State:
        mean = nothing(row.x0) if self.scale > 1 else ()
        scouting = Scouting(self.scouts)
        scouts = scouting.begin(row.x0) if self.scouts else ()
        asks = scouting.asks_at_least(row)
        return State(row.x0, tf.zeros_like(row.x0), mean, scouts, asks)

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        scouting = Scouting(0 if oracle.transfer else self.scouts)
        scouts, asks = state.scouts, state.asks
        if oracle.transfer:
            asks = tf.zeros_like(asks)
        looking = k < asks
        alpha = row.eps / self.steps
        copy = tf.where(looking, 0, k - asks) % self.scale
        resized = (random.uniform((), 1) < self.input_diversity) & ~looking

        def view(x: Tensor) -> Tensor:
            if self.nesterov:
                x += per_row(self.decay * alpha, x) * state.momentum
            if self.input_diversity > 0.0:
                x = select(resized, _shrunk(x, self.resize, random), x)
            return x * per_row(tf.pow(0.5, tf.cast(copy, tf.float32)), x)

        # where the model is shown the point itself
        plain = tf.equal(copy, 0) & ~resized
        if self.nesterov:
            plain &= k <= asks  # no momentum yet
        loss = LOSSES[self.loss]
        if isinstance(scouts, Scouts):
            loss = scouting.loss(row, scouts, k, loss)
        slope = oracle.gradient(state.x, loss, view, plain)

        g, mean = slope.gradient, state.mean
        if isinstance(mean, Mean):
            mean = added(mean, tf.equal(copy, 0), slope.loss, g, row.goal, self.loss)
            g = mean.total
        if self.translation:
            g = _smoothed(g, self.translation)
        size = tf.reduce_mean(tf.abs(g), axis=[1, 2, 3], keepdims=True)
        momentum = self.decay * state.momentum + tf.math.divide_no_nan(g, size)
        x = space.project(state.x + per_row(alpha, g) * tf.sign(momentum), row.x0, row.eps)
        moving = tf.equal(copy, self.scale - 1) & ~looking
        x, momentum = select(moving, x, state.x), select(moving, momentum, state.momentum)
        if isinstance(scouts, Scouts) and not oracle.transfer:
            asks = scouting.asks(row, int(slope.logits.shape[-1]))
            scouts, ahead = scouting.advance(row, scouts, k, state.x, slope, space)
            x = select(k < asks, ahead, x)
        return Step(State(x, momentum, mean, scouts, asks), k + 1 >= asks + self.steps * self.scale)

    def finish(self, row: Row, state: State, space: Space) -> Tensor:
        return state.x


def _smoothed(g: Tensor, side: int) -> Tensor:
    """Each channel convolved with a Gaussian kernel of `side` × `side`, the same size."""
    place = np.exp(-0.5 * np.linspace(-_SIGMAS, _SIGMAS, side) ** 2)
    kernel = np.outer(place, place) / place.sum() ** 2
    stacked = np.repeat(kernel[:, :, None, None], int(g.shape[-1]), axis=2).astype(np.float32)
    return tf.nn.depthwise_conv2d(g, tf.constant(stacked), [1, 1, 1, 1], "SAME")


def _shrunk(x: Tensor, least: float, random: Random) -> Tensor:
    """Each image at a random size of `least` to 1, at a random place on black.

    Bilinear sampling per row: the weight of pixel i in place p is max(0, 1 − |centre(p) − i|), an
    H × H and a W × W matrix, so that every row has a size and a place of its own.
    """
    share = least + (1.0 - least) * random.uniform((), 2)
    rows = _resampling(int(x.shape[1]), share, random.uniform((), 3))
    columns = _resampling(int(x.shape[2]), share, random.uniform((), 4))
    return tf.einsum("sip,sjq,spqc->sijc", rows, columns, x)


def _resampling(length: int, share: Tensor, place: Tensor) -> Tensor:
    """[S, length, length]: what each old pixel gives to each new one."""
    whole = tf.maximum(tf.round(share * length), 1.0)[:, None]
    offset = tf.floor(place[:, None] * (length - whole + 1.0))
    position = tf.range(length, dtype=tf.float32)[None, :] - offset
    centre = tf.clip_by_value((position + 0.5) * length / whole - 0.5, 0.0, length - 1.0)
    inside = tf.cast((position >= 0.0) & (position < whole), tf.float32)
    old = tf.range(length, dtype=tf.float32)[None, None, :]
    return inside[:, :, None] * tf.maximum(1.0 - tf.abs(centre[:, :, None] - old), 0.0)
