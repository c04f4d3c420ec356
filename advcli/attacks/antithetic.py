"""Gradients estimated from scores alone: pairs of probes on opposite sides of a point."""

from __future__ import annotations

from typing import Any, NamedTuple

from advcli.attacks.base import Oracle, Row
from advcli.attacks.search import drawn_in
from advcli.lazy import Tensor, tf
from advcli.threats.losses import Goal
from advcli.threats.space import Space


class Estimate(NamedTuple):
    """What `samples` queries told."""

    gradient: Tensor  # [S, H, W, C]
    mean: Tensor  # [S], the loss averaged over the probes


def pairs(samples: int) -> int:
    """How many pairs of probes `samples` queries have room for; two of them go elsewhere."""
    return (samples - 2) // 2


def estimate(
    row: Row,
    x: Tensor,
    trend: Tensor,
    noise: Tensor,
    radius: float,
    loss: Any,
    space: Space,
    oracle: Oracle,
) -> Estimate:
    """Ask x, the point of the ball farthest along `trend`, and x ± radius·noise [S, P, H, W, C].

    All of them lie within the ball, so that every query may succeed. The differences of two probes
    are taken as they were asked, cut short by ball and box: Σ (loss₊ − loss₋)·(x₊ − x₋).
    """
    # on the 8-bit grid a smaller probe would be rounded back to where it came from
    radius = max(radius, oracle.resolution)
    ahead, behind = (drawn_in(x[:, None] + side * noise, row, space) for side in (radius, -radius))
    leap = space.farthest(trend, row.x0, row.eps)
    z = oracle.scores(tf.concat([x[:, None], leap[:, None], ahead, behind], axis=1))
    width, classes = int(z.shape[1]), int(z.shape[2])
    goal = Goal(*(tf.repeat(part, width) for part in row.goal))
    losses = tf.reshape(loss(tf.reshape(z, [-1, classes]), goal), [-1, width])[:, 2:]
    up, down = tf.split(losses, 2, axis=1)
    gradient = tf.einsum("sp,sphwc->shwc", up - down, ahead - behind)
    gradient /= 4.0 * radius**2 * int(noise.shape[1])
    return Estimate(gradient, tf.reduce_mean(losses, axis=1))
