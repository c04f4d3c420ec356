"""The L∞ form of C&W: a wall at distance tau that closes in. `cw.py` holds its settings.

Minimises max(κ − margin, 0) + Σ max(|x − x0| − tau, 0) with Adam. A success within tau lowers
tau, and the next round starts from the closest point found.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from advcli.attacks.base import Oracle, Row, Step
from advcli.attacks.linearise import Nearest, blank, compared, count_of, rivals_of, towards
from advcli.lazy import Tensor, tf
from advcli.threats.losses import Goal, margin
from advcli.threats.space import Space, norms_of, per_row, select

SCOUTS = 9
_SHRINK = 0.9
_WITHIN = 0.1  # of the way that tau came down: a round need not come nearer
_FINE = 0.005  # where the distances of the last success and the last failure agree, it ends
_PACE = 0.3  # Adam's step, of the way that tau came down
_BETA1, _BETA2 = 0.9, 0.999  # Adam's defaults


class Settings(Protocol):
    @property
    def steps(self) -> int: ...
    @property
    def searches(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def confidence(self) -> float: ...


class State(NamedTuple):
    x: Tensor  # the point to be asked next
    m: Tensor  # Adam's moments
    v: Tensor
    t: Tensor  # int32 [S], step within the round
    tau: Tensor  # float32 [S]
    low: Tensor  # the largest tau that failed
    best: Tensor  # the closest success
    high: Tensor  # its distance; 1 while there is none
    found: Tensor  # bool [S]
    aimed: Tensor  # bool [S], the round ascends towards the nearest boundary alone
    rivals: Tensor  # int32 [S, SCOUTS], from the likeliest
    nearest: Nearest  # of their boundaries at the clean image


def length(settings: Settings) -> int:
    return settings.steps * settings.searches + SCOUTS


def init(row: Row) -> State:
    counter = tf.zeros_like(row.restart)
    one = tf.ones_like(row.eps)
    return State(
        x=row.x0,
        m=tf.zeros_like(row.x0),
        v=tf.zeros_like(row.x0),
        t=counter,
        tau=one,
        low=0.0 * one,
        best=row.x0,
        high=one,
        found=tf.zeros_like(one, tf.bool),
        aimed=tf.ones_like(one, tf.bool),
        rivals=tf.zeros([tf.shape(row.eps)[0], SCOUTS], tf.int32),
        nearest=blank(row),
    )


def step(
    settings: Settings, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle
) -> Step:
    turn = tf.minimum(k, SCOUTS - 1)

    def loss(z: Tensor, goal: Goal) -> Tensor:
        rivals = rivals_of(z, row, state.rivals, k == 0)
        rival = tf.gather(rivals, turn, batch_dims=1)
        scouting = k < count_of(z, row, SCOUTS)
        aim = tf.where(scouting, rival, state.nearest.rival)
        return tf.where(scouting | state.aimed, towards(z, goal, aim), margin(z, goal))

    value, g, z = oracle.gradient(state.x, loss)
    rivals = rivals_of(z, row, state.rivals, k == 0)
    scouting = k < count_of(z, row, SCOUTS)
    rival = tf.gather(rivals, turn, batch_dims=1)
    nearest = tf.cond(
        tf.reduce_any(scouting),
        lambda: compared(state.nearest, state.x, g, value, rival, k == 0, space),
        lambda: state.nearest,
    )
    kept = Nearest(*(select(scouting, a, b) for a, b in zip(nearest, state.nearest, strict=True)))
    moved = _descended(settings, row, state, margin(z, row.goal), g, oracle)
    old = state._replace(rivals=rivals, nearest=kept)
    new = moved.state._replace(rivals=rivals, nearest=kept)
    mixed = tf.nest.map_structure(lambda a, b: select(scouting, a, b), old, new)
    return Step(mixed, moved.done & ~scouting)


def _descended(
    settings: Settings, row: Row, state: State, reached: Tensor, g: Tensor, oracle: Oracle
) -> Step:
    """One step of Adam on the objective, and what a success or the end of a round changes."""
    asked = oracle.rounded(state.x)
    away = norms_of(asked - row.x0, "linf")
    met = reached > settings.confidence
    nearer = met & ((away < state.high) | ~state.found)
    best = select(nearer, asked, state.best)
    high = tf.where(nearer, away, state.high)
    found = state.found | met
    inside = met & (away <= state.tau + _WITHIN * tf.maximum(state.high - state.tau, 0.0))
    inside &= nearer | ~state.found

    delta = state.x - row.x0
    # differs from the authors: the gradient is scaled to a mean of 1, so that one weight of the
    # margin serves every network (theirs: c doubled from 1e-5 until it does)
    size = tf.reduce_mean(tf.abs(g), axis=[1, 2, 3])
    pull = tf.math.divide_no_nan(g, per_row(size, g)) * per_row(tf.cast(~met, tf.float32), g)
    beyond = tf.abs(delta) > per_row(state.tau, delta)
    wall = tf.cast(beyond, tf.float32) * tf.sign(delta)
    slope = wall - pull
    t = state.t + 1
    m = _BETA1 * state.m + (1.0 - _BETA1) * slope
    v = _BETA2 * state.v + (1.0 - _BETA2) * tf.square(slope)
    moment = tf.cast(t, tf.float32)
    m_hat = m / per_row(1.0 - tf.pow(_BETA1, moment), m)
    v_hat = v / per_row(1.0 - tf.pow(_BETA2, moment), v)
    rate = tf.where(
        state.found,
        tf.minimum(settings.learning_rate, _PACE * (state.high - state.tau)),
        settings.learning_rate,
    )
    x = state.x - per_row(rate, m_hat) * m_hat / (tf.sqrt(v_hat) + 1e-8)
    x = tf.clip_by_value(x, 0.0, 1.0)

    most = tf.where(state.found, max(1, settings.steps // 5), settings.steps)
    failed = ~inside & (t >= most)
    over = inside | failed
    low = tf.where(failed & state.found, tf.maximum(state.low, state.tau), state.low)
    # by a tenth, or half the way to what failed; on the grid by a level at least
    tau = tf.maximum(_SHRINK * high, 0.5 * (low + high))
    tau = tf.minimum(tau, high - oracle.resolution)
    least = tf.maximum(_FINE * high, 1.01 * oracle.resolution)
    settled = found & (high - low <= least)
    lost = failed & ~found & ~state.aimed
    zeros = tf.zeros_like(m)
    new = state._replace(
        x=select(over, best, x),
        m=select(over, zeros, m),
        v=select(over, zeros, v),
        t=tf.where(over, 0, t),
        tau=tf.where(over & found, tau, state.tau),
        low=low,
        best=best,
        high=high,
        found=found,
        aimed=state.aimed & ~over,
    )
    return Step(new, over & (settled | lost))
