"""Targeted Auto-PGD: one ascent for each of the likeliest wrong classes; AutoAttack's second.

An untargeted ascent stays with the class that it meets first. This one takes the `targets` next
best classes of the clean image, and for each of them in turn ascends the targeted difference of
logits ratio (z_t − z_y)/(z_1 − ½(z_3 + z_4)), which does not depend on the logits' scale; with
fewer than four classes, the margin. Any wrong class on the way counts. The ascent is `apgd`'s.

Where a target class is asked for, it is the only one.

Misleads: where the nearest class is not among the `targets`.

Cost: `targets`·(`steps` + 2) gradients per image, eps and restart; fewer where it succeeds. With
`give-up`, as in the preset `autoattack`, about half of them where it fails (L1: most).

Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2003.01690. L1: "Mind the box", 2103.01208.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.ascent import Ascent, Plan, aimed_dlr
from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.pace import Pace, unknown
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal, ranked_rivals
from advcli.threats.randomness import Random
from advcli.threats.space import Space, select


class State(NamedTuple):
    ascent: Ascent  # at first `x` is the clean image, and `before` the random start
    target: Tensor  # int32 [S]
    pace: Pace | tuple[()]


class APGDT(Attack):
    name: ClassVar[str] = "apgd-t"
    summary: ClassVar[str] = "apgd at each of the likeliest wrong classes (AutoAttack)"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    reference: ClassVar[str] = "Croce & Hein, 2003.01690"

    steps: int = Field(100, ge=1, le=100_000, description="iterations of each ascent")
    targets: int = Field(9, ge=1, le=1000, description="wrong classes aimed at, likeliest first")
    restarts: int = Field(1, ge=1, le=10_000, description="random starts for each target")
    give_up: bool = Field(False, description="end an ascent whose pace would not carry it there")

    def siblings(self, classes: int) -> int:
        return min(self.targets, max(1, classes - 1)) * self.restarts

    def length(self, space: Space) -> int:
        return 1 + Plan(self.steps, space.norm).length

    def cost(self, space: Space) -> tuple[int, int]:
        calls = self.length(space) * self.targets * self.restarts
        return calls, calls

    def init(self, row: Row, space: Space, random: Random) -> State:
        plan = Plan(self.steps, space.norm)
        ascent = plan.begin(row.x0)._replace(before=plan.start(row, space, random))
        pace = unknown(row.eps) if self.give_up else ()
        return State(ascent, tf.zeros_like(row.restart), pace)

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        plan = Plan(self.steps, space.norm)
        number = row.restart // self.restarts  # which of the targets

        def target(z: Tensor) -> Tensor:
            ranked = ranked_rivals(z, row.goal.label, self.targets)
            ranked = tf.gather(ranked, number, batch_dims=1)
            aim = tf.where(row.goal.target < 0, ranked, row.goal.target)
            return tf.where(k == 0, aim, state.target)

        def loss(z: Tensor, goal: Goal) -> Tensor:
            return aimed_dlr(z, goal, target(z))

        value, g, z = oracle.gradient(state.ascent.x, loss)
        moved = plan.advance(state.ascent, k - 1, value, g, row, space)
        started = state.ascent._replace(x=state.ascent.before)
        first = k == 0
        ascent = Ascent(*(select(first, a, b) for a, b in zip(started, moved, strict=True)))
        over = (k >= plan.length) | ((row.goal.target >= 0) & (number > 0))
        pace = state.pace
        if isinstance(pace, Pace) and not oracle.transfer:
            pace, behind = plan.course.follow(pace, k - 1 - plan.last, ascent.peak)
            over |= behind
        return Step(State(ascent, target(z), pace), over)
