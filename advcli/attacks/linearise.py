"""Which boundary is nearest: of several linear functions, the one whose zero is closest.

One gradient per step and class, the nearest so far kept in the state.
"""

from __future__ import annotations

from typing import NamedTuple

from advcli.attacks.base import Row
from advcli.lazy import Tensor, tf
from advcli.threats.hyperplane import dual_norms, to_hyperplane
from advcli.threats.losses import Goal, lead_over, margin, ranked_rivals
from advcli.threats.space import Space, norms_of, select


class Nearest(NamedTuple):
    """A boundary taken for flat at some point x."""

    normal: Tensor  # [S, H, W, C], the gradient of its function
    value: Tensor  # [S], the function at x, > 0 beyond the boundary
    reach: Tensor  # [S], the distance from x to it; inf without a slope
    rival: Tensor  # int32 [S], the class on its other side


def blank(row: Row) -> Nearest:
    zero = tf.zeros_like(row.eps)
    return Nearest(tf.zeros_like(row.x0), zero, zero + float("inf"), tf.zeros_like(row.restart))


def compared(
    nearest: Nearest,
    x: Tensor,
    normal: Tensor,
    value: Tensor,
    rival: Tensor,
    first: Tensor,
    space: Space,
    box: bool = True,
) -> Nearest:
    """`nearest`, or this boundary where it is nearer or the `first` (bool [S]) at its point.

    Nearer on a way that stays in the box, or, without `box`, on one that may leave it.
    """
    if box:
        reach = norms_of(to_hyperplane(x, normal, -value, space.norm), space.norm)
    else:
        reach = tf.math.divide_no_nan(tf.abs(value), dual_norms(normal, space.norm))
    reach = tf.where(reach > 0.0, reach, float("inf"))
    better = first | (reach < nearest.reach)
    return Nearest(
        select(better, normal, nearest.normal),
        tf.where(better, value, nearest.value),
        tf.where(better, reach, nearest.reach),
        tf.where(better, rival, nearest.rival),
    )


def towards(z: Tensor, goal: Goal, rival: Tensor) -> Tensor:
    """The function of one boundary: rival against label; in a targeted run, the margin."""
    aimed = lead_over(z, rival, goal.label)
    return tf.where(goal.target < 0, aimed, margin(z, goal))


def rivals_of(z: Tensor, row: Row, known: Tensor, fresh: Tensor) -> Tensor:
    """int32 like `known` [S, N]: the likeliest wrong classes, ranked anew where `fresh`."""
    return tf.where(fresh[:, None], ranked_rivals(z, row.goal.label, int(known.shape[1])), known)


def count_of(z: Tensor, row: Row, most: int) -> Tensor:
    """int32 [S], how many rivals there are to look at: one in a targeted run."""
    return tf.where(row.goal.target < 0, min(most, int(z.shape[-1]) - 1), 1)


def least_step(space: Space, resolution: float) -> float:
    """The length of a step that may survive rounding: half a level everywhere, or one in all."""
    return resolution * (0.5 if space.norm == "linf" else 1.0)
