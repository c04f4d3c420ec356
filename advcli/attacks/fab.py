"""FAB: the fast adaptive boundary attack, towards whichever class boundary is nearest.

Claims: good minimum distances in few gradients, and no step length to choose. Each iteration
linearises the boundaries between the label and the likeliest other classes, takes the nearest (by
the dual norm, as if there were no box), projects both the image and the current point onto it,
exactly and within the box, steps a little beyond (1.05), and mixes the two with a weight of at most
0.1 for the image, which pulls the search towards the closest part of the boundary. A point that
meets the goal goes back a tenth of the way.

Differs from the authors' code: of more than `classes` + 1 classes only the likeliest at the current
point are linearised (theirs: all); at the end the last tenth of the way to the closest point is
bisected, as in the paper; and restarts begin half as far away as the closest point found. Choosing
the boundary that is nearest within the box was tried: in L1 it ended farther away.

Targeted runs follow the one boundary between the target and whichever other class leads.

Misleads: as the number of classes grows it costs more than `fab-t` and finds less; where the
gradient is masked.

Cost: per iteration and restart `classes` gradients, and one more after a success.

Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack",
1907.02044.
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
from advcli.attacks.linearise import Nearest, blank, compared, count_of, rivals_of, towards
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal, margin
from advcli.threats.randomness import Random
from advcli.threats.space import Space, select


class State(NamedTuple):
    x: Tensor  # the point that is being linearised
    back: Tensor  # bool [S], it comes from a backward step
    run: Tensor  # int32 [S], which restart; `restarts` stands for the final search
    t: Tensor  # int32 [S], iteration within the run, or round of the final search
    rivals: Tensor  # int32 [S, classes], from the likeliest at x
    j: Tensor  # int32 [S], the rival whose turn it is
    nearest: Nearest  # of the boundaries at x so far
    near: Near
    between: Bracket


class FAB(Attack):
    name: ClassVar[str] = "fab"
    summary: ClassVar[str] = "minimum distance by projections onto the nearest boundary"
    kind: ClassVar = "minimum-norm"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    reference: ClassVar[str] = "Croce & Hein, 1907.02044"

    iterations: int = Field(100, ge=1, le=100_000, description="projections per restart")
    classes: int = Field(9, ge=1, le=1000, description="likeliest wrong classes linearised")
    restarts: int = Field(1, ge=1, le=1000, description="searches, the first from x0")

    def siblings(self, classes: int) -> int:
        return 1  # a chain of jobs would end at the first success, not at the closest

    def length(self, space: Space) -> int:
        return (self.iterations * (self.classes + 1) + 1) * self.restarts + ROUNDS

    def cost(self, space: Space) -> tuple[int, int]:
        return self.length(space), self.length(space)

    def init(self, row: Row, space: Space, random: Random) -> State:
        counter = tf.zeros_like(row.restart)
        zero = tf.zeros_like(row.eps)
        return State(
            x=row.x0,
            back=tf.zeros_like(zero, tf.bool),
            run=counter,
            t=counter,
            rivals=tf.zeros([tf.shape(row.eps)[0], self.classes], tf.int32),
            j=counter,
            nearest=blank(row),
            near=none_yet(row),
            between=bracket(row),
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        first = tf.equal(state.j, 0)

        def loss(z: Tensor, goal: Goal) -> Tensor:
            rivals = rivals_of(z, row, state.rivals, first)
            return towards(z, goal, tf.gather(rivals, state.j, batch_dims=1))

        value, g, z = oracle.gradient(state.x, loss)
        rivals = rivals_of(z, row, state.rivals, first)
        met = margin(z, row.goal) > 0.0
        searching = state.run < self.restarts
        near = nearer(state.near, row, state.x, met & searching, space, oracle)
        over = searching & first & (state.t >= self.iterations)
        back = searching & ~over & first & met & ~state.back
        rival = tf.gather(rivals, state.j, batch_dims=1)
        nearest = compared(state.nearest, state.x, g, value, rival, first, space, box=False)
        ended = searching & ~over & ~back & (state.j + 1 >= count_of(z, row, self.classes))
        moved = tf.cond(
            tf.reduce_any(ended),
            lambda: towards_boundary(
                row, state.x, nearest.normal, nearest.value, space, oracle.resolution
            ),
            lambda: state.x,
        )
        t = state.t + tf.cast(ended | ~searching, tf.int32)
        x = select(back, backward(row, state.x), select(ended, moved, state.x))
        new = state._replace(
            x=x,
            rivals=rivals,
            nearest=nearest,
            near=near,
            back=back | (state.back & ~ended),
            j=tf.where(back | ended | over | ~searching, 0, state.j + 1),
            t=t,
            between=halved(state.between, met, ~searching),
        )
        return self._next_run(row, new, searching, over, space, random)

    def _next_run(
        self,
        row: Row,
        state: State,
        searching: Tensor,
        over: Tensor,
        space: Space,
        random: Random,
    ) -> Step:
        """Rows at the end of a run start the next, or the final search."""
        run = state.run + tf.cast(over, tf.int32)
        x = state.x
        if self.restarts > 1:
            x = tf.cond(
                tf.reduce_any(over),
                lambda: select(over, random_start(row, state.near, space, random), x),
                lambda: x,
            )
        final = run >= self.restarts
        x = select(final, middle(row, state.near, state.between), x)
        found = state.near.distance < float("inf")
        done = final & (~found | (~searching & (state.t >= ROUNDS)))
        back = state.back & ~over
        t = tf.where(over, 0, state.t)
        return Step(state._replace(x=x, run=run, t=t, back=back), done)
