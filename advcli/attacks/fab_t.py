"""FAB-T: the boundary of one likely class after the other, and the closest point of all.

Claims: the minimum-norm attack of AutoAttack: good distances in few gradients, and no step length
to choose. Per target the boundary between the label and that class is taken for flat; the image
and the current point are both projected onto it, exactly and within the box, stepped a little
beyond (1.05), and mixed with a weight of at most 0.1 for the image, which pulls the search
towards the closest part of the boundary. A point that meets the goal goes back a tenth of the way.

The targets are the `targets` likeliest wrong classes at the clean image. AutoAttack stops at the
first one within eps; here all of them are searched and the closest point stands, so that one run
gives the robust accuracy at every eps. Two more differences: at the end the last tenth of the way
to the closest point is bisected, as in the paper (the authors' code leaves it out); and random
restarts begin half as far away as the closest point found (the authors: half of eps).

Targeted runs have one target, and its boundary with whichever other class leads.

Misleads: where the gradient is masked, and on networks so curved that a plane says little.

Cost: `iterations` gradients and as many forwards again per target and restart. With `patience=20`,
as in the preset `autoattack`, about a quarter of them; the distances are 1 to 4 % larger.

Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack",
1907.02044; Croce & Hein, "Reliable evaluation of adversarial robustness", 2003.01690.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.fab_steps import (
    ROUNDS,
    Bracket,
    Near,
    backward,
    bracket,
    halved,
    middle,
    nearer,
    none_yet,
    random_start,
    towards_boundary,
)
from advcli.attacks.linearise import count_of, rivals_of, towards
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal, margin
from advcli.threats.randomness import Random
from advcli.threats.space import Space, select


class State(NamedTuple):
    x: Tensor  # the point to be linearised next
    run: Tensor  # int32 [S], every target once, then every target again from a random start
    t: Tensor  # int32 [S], iteration within the run, or round of the final search
    idle: Tensor  # int32 [S], iterations without a closer point; −1: the run met no goal yet
    rivals: Tensor  # int32 [S, targets], from the likeliest
    near: Near
    between: Bracket


class FABT(Attack):
    name: ClassVar[str] = "fab-t"
    summary: ClassVar[str] = "minimum distance by projections onto likely classes' boundaries"
    kind: ClassVar = "minimum-norm"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    reference: ClassVar[str] = "Croce & Hein, 1907.02044"

    iterations: int = Field(100, ge=1, le=100_000, description="gradients per target and restart")
    targets: int = Field(9, ge=1, le=1000, description="likeliest wrong classes searched")
    restarts: int = Field(1, ge=1, le=1000, description="searches per target, the first from x0")
    patience: int = Field(
        0,
        ge=0,
        description="end a search after so many iterations without a closer point; 0: never",
    )

    def siblings(self, classes: int) -> int:
        return 1  # a chain of jobs would end at the first success, not at the closest

    def length(self, space: Space) -> int:
        return self.iterations * self.targets * self.restarts + ROUNDS // 2

    def cost(self, space: Space) -> tuple[int, int]:
        return 2 * self.length(space), self.length(space)

    def init(self, row: Row, space: Space, random: Random) -> State:
        counter = tf.zeros_like(row.restart)
        rivals = tf.zeros([tf.shape(row.eps)[0], self.targets], tf.int32)
        return State(row.x0, counter, counter, counter - 1, rivals, none_yet(row), bracket(row))

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        def loss(z: Tensor, goal: Goal) -> Tensor:
            rivals = rivals_of(z, row, state.rivals, k == 0)
            many = count_of(z, row, self.targets)
            return towards(z, goal, tf.gather(rivals, state.run % many, batch_dims=1))

        value, g, z = oracle.gradient(state.x, loss)
        rivals = rivals_of(z, row, state.rivals, k == 0)
        runs = count_of(z, row, self.targets) * self.restarts
        searching = state.run < runs
        met = margin(z, row.goal) > 0.0
        near = nearer(state.near, row, state.x, met & searching, space, oracle)
        between = halved(state.between, met, ~searching)

        ever_met = met | (state.idle >= 0)
        x = towards_boundary(row, state.x, g, value, space, oracle.resolution)
        x = select(searching, x, middle(row, near, between))
        met = margin(oracle.scores(x), row.goal) > 0.0
        near = nearer(near, row, x, met & searching, space, oracle)
        between = halved(between, met, ~searching)

        t = state.t + 1
        idle = tf.where(met | ever_met, state.idle + 1, -1)
        idle = tf.where(near.distance < state.near.distance, 0, idle)
        tired = idle >= (self.patience or self.iterations)
        ended = searching & ((t >= self.iterations) | tired)
        run = state.run + tf.cast(ended, tf.int32)
        x = select(met, backward(row, x), x)
        x = tf.cond(
            tf.reduce_any(ended),
            lambda: select(ended, self._start(row, run, near, runs, space, random), x),
            lambda: x,
        )
        final = run >= runs
        x = select(final, middle(row, near, between), x)
        found = near.distance < float("inf")
        done = final & (~found | (~searching & (2 * t >= ROUNDS)))
        t, idle = tf.where(ended, 0, t), tf.where(ended, -1, idle)
        return Step(State(x, run, t, idle, rivals, near, between), done)

    def _start(
        self, row: Row, run: Tensor, near: Near, runs: Tensor, space: Space, random: Random
    ) -> Tensor:
        if self.restarts == 1:
            return row.x0
        anew = run >= runs // self.restarts
        return select(anew, random_start(row, near, space, random), row.x0)
