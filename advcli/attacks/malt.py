"""MALT: targeted Auto-PGD at the classes that look nearest, not at those that look likeliest.

At the clean image, one gradient for each of the `ranked` likeliest wrong classes estimates how far
away its boundary is: (z_y − z_j)/‖∇(z_y − z_j)‖, in the dual norm. The `targets` nearest are then
aimed at, one after the other, with `apgd-t`'s ascent of the targeted difference of logits ratio.
Any wrong class on the way counts. The authors report AutoAttack's figures at a fifth of its cost.

A class whose gradient is zero cannot be ranked and comes last. Where a target class is asked for,
it is the only one.

Misleads: where gradients are masked, the ranking is as meaningless as the ascent.

Cost: at most `ranked` + `targets`·(`steps` + 1) gradients per image, eps and restart; fewer where
it succeeds, and with fewer classes.

Melamed, Yehudai & Shamir, "MALT powers up adversarial attacks", 2407.02240.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.ascent import Ascent, Plan, aimed_dlr
from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal, lead_over, ranked_rivals
from advcli.threats.randomness import Random
from advcli.threats.space import Space, norms_of, select

_DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}
_FAR = 1e30


class State(NamedTuple):
    ascent: Ascent
    rivals: Tensor  # int32 [S, ranked], from the likeliest
    distances: Tensor  # float32 [S, ranked], as they look from the clean image


class MALT(Attack):
    name: ClassVar[str] = "malt"
    summary: ClassVar[str] = "apgd at the wrong classes that look nearest"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    reference: ClassVar[str] = "Melamed, Yehudai & Shamir, 2407.02240"

    steps: int = Field(100, ge=1, le=100_000, description="iterations of each ascent")
    targets: int = Field(9, ge=1, le=1000, description="wrong classes aimed at, nearest first")
    ranked: int = Field(100, ge=1, le=1000, description="likeliest wrong classes that are ranked")
    restarts: int = Field(1, ge=1, le=10_000, description="repetitions, tried in order")

    def length(self, space: Space) -> int:
        return self.ranked + min(self.targets, self.ranked) * Plan(self.steps, space.norm).length

    def cost(self, space: Space) -> tuple[int, int]:
        return self.length(space) * self.restarts, self.length(space) * self.restarts

    def init(self, row: Row, space: Space, random: Random) -> State:
        rows = tf.shape(row.eps)[0]
        return State(
            Plan(self.steps, space.norm).begin(row.x0),
            tf.zeros([rows, self.ranked], tf.int32),
            tf.fill([rows, self.ranked], _FAR),
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        plan = Plan(self.steps, space.norm)
        aimed = row.goal.target >= 0

        def looks(classes: int) -> Tensor:
            """int32 [S], the gradients at the clean image: one a class, or a mere look at it."""
            return tf.where(aimed, 1, min(self.ranked, classes - 1))

        def loss(z: Tensor, goal: Goal) -> Tensor:
            after = k - looks(int(z.shape[-1]))
            rival = tf.gather(
                self._rivals(row, z, state, k), tf.minimum(k, self.ranked - 1), batch_dims=1
            )
            lead = lead_over(z, rival, goal.label)
            target = self._target(row, state, after // plan.length)
            return tf.where(after < 0, lead, aimed_dlr(z, goal, target))

        value, g, z = oracle.gradient(state.ascent.x, loss)
        classes = int(z.shape[-1])
        after = k - looks(classes)
        n = after % plan.length
        ranking = after < 0
        slope = norms_of(g, _DUAL[space.norm])
        distance = tf.where(slope > 0.0, -value / tf.maximum(slope, 1e-30), _FAR)
        here = ranking[:, None] & tf.equal(tf.range(self.ranked)[None, :], k[:, None])
        distances = tf.where(here, distance[:, None], state.distances)

        ascent = plan.advance(state.ascent, n, value, g, row, space)
        ascent = Ascent(*(select(ranking, a, b) for a, b in zip(state.ascent, ascent, strict=True)))
        starting = tf.equal(after, -1) | (~ranking & tf.equal(n, plan.length - 1))
        x = tf.cond(
            tf.reduce_any(starting),
            lambda: select(starting, plan.start(row, space, random), ascent.x),
            lambda: ascent.x,
        )
        many = tf.where(aimed, 1, min(self.targets, self.ranked, classes - 1))
        rivals = self._rivals(row, z, state, k)
        return Step(State(ascent._replace(x=x), rivals, distances), after + 1 >= many * plan.length)

    def _rivals(self, row: Row, z: Tensor, state: State, k: Tensor) -> Tensor:
        ranked = ranked_rivals(z, row.goal.label, self.ranked)
        return tf.where((k == 0)[:, None], ranked, state.rivals)

    def _target(self, row: Row, state: State, number: Tensor) -> Tensor:
        """The class with the `number`-th smallest distance."""
        many = min(self.targets, self.ranked)
        nearest = tf.math.top_k(-state.distances, k=many).indices
        place = tf.gather(nearest, tf.clip_by_value(number, 0, many - 1), batch_dims=1)
        rival = tf.gather(state.rivals, place, batch_dims=1)
        return tf.where(row.goal.target < 0, rival, row.goal.target)
