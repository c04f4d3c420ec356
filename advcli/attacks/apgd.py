"""Auto-PGD: gradient ascent that sets its own step length; the first attack of AutoAttack.

From a random point on the ball's surface, each step is 2·eps long at first, carries a quarter of
the last movement along, and is projected. At fixed checkpoints the step is halved, and the ascent
goes back to the best point so far, if the loss rose in too few of the steps or not at all. In L1
the ball is 3, 2, then 1 × eps wide over 30, 30 and 40 % of the steps, and each step moves the
values with the largest gradients, fewer as the best point becomes sparser.

`loss=ce` is the cross-entropy in its log-odds form: a strictly rising function of it, so that
every comparison and every direction is the published one's, without its underflow. `loss=dlr` is
the difference of logits ratio, which does not depend on the logits' scale.

An ascent climbs towards one class and stays with it, though another may be nearer. So the first
run of an image looks at the likeliest rivals (`scouts`) and starts from the best point found;
`scouts=0` is the protocol of record, which the preset `autoattack` runs. `apgd-t` aims at each
rival in turn. `eot=20` averages the gradient over as many passes, for models that answer at random.

Misleads: networks that shatter their gradients look robust; use it with a black-box attack.

Cost: `steps`·`eot` gradients and a few more per image, eps and restart; fewer where it succeeds.
With `give-up`, as in the preset `autoattack`, about half of them where it fails (L1: most).

Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2003.01690. L1: "Mind the box", 2103.01208.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.ascent import Ascent, Plan
from advcli.attacks.average import Mean, added, nothing
from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.attacks.pace import Pace, unknown
from advcli.attacks.scouting import Scouting, Scouts
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import LOSSES, LossName, log_odds_slack
from advcli.threats.randomness import Random
from advcli.threats.space import Space, select


class State(NamedTuple):
    ascent: Ascent
    scouts: Scouts | tuple[()]
    mean: Mean | tuple[()]
    pace: Pace | tuple[()]


class APGD(Attack):
    name: ClassVar[str] = "apgd"
    summary: ClassVar[str] = "gradient ascent that sets its own step length (AutoAttack)"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    reference: ClassVar[str] = "Croce & Hein, 2003.01690"

    steps: int = Field(100, ge=1, le=100_000, description="iterations of the ascent")
    restarts: int = Field(1, ge=1, le=10_000, description="random starts, tried in order")
    loss: LossName = Field("ce", description="what is ascended")
    eot: int = Field(1, ge=1, le=10_000, description="passes that a gradient is averaged over")
    scouts: int = Field(9, ge=0, le=1000, description="rival classes looked at first")
    give_up: bool = Field(False, description="end an ascent whose pace would not carry it there")

    def length(self, space: Space) -> int:
        return Scouting(self.scouts).length + Plan(self.steps, space.norm).length * self.eot

    def cost(self, space: Space) -> tuple[int, int]:
        return self.length(space) * self.restarts, self.length(space) * self.restarts

    def init(self, row: Row, space: Space, random: Random) -> State:
        plan = Plan(self.steps, space.norm)
        x = plan.start(row, space, random)
        return State(
            plan.begin(x),
            Scouting(self.scouts).begin(x) if self.scouts else (),
            nothing(x) if self.eot > 1 else (),
            unknown(row.eps) if self.give_up else (),
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        plan, scouting = Plan(self.steps, space.norm), Scouting(self.scouts)
        x = state.ascent.x
        scouts = state.scouts
        loss = LOSSES[self.loss]
        if isinstance(scouts, Scouts):
            loss = scouting.loss(row, scouts, k, loss)
        slope = oracle.gradient(x, loss)
        asks = scouting.asks(row, int(slope.logits.shape[-1]))
        n = k - asks

        g, mean = slope.gradient, state.mean
        if isinstance(mean, Mean):
            mean = added(mean, n % self.eot == 0, slope.loss, g, row.goal, self.loss)
            g = mean.total
        ascent = plan.advance(state.ascent, n // self.eot, slope.loss, g, row, space)
        # all passes of one gradient are asked at the same point
        kept = (n + 1) % self.eot != 0
        ascent = Ascent(*(select(kept, a, b) for a, b in zip(state.ascent, ascent, strict=True)))
        if isinstance(scouts, Scouts):
            scouts, ahead = scouting.advance(row, scouts, k, x, slope, space)
            ascent = ascent._replace(x=select(n < 0, ahead, ascent.x))
        done = n + 1 >= plan.length * self.eot
        pace = state.pace
        if isinstance(pace, Pace) and not oracle.transfer:
            call = tf.where(kept, -1, n // self.eot - plan.last)
            reached = ascent.peak
            if self.loss == "ce":
                reached += log_odds_slack(row.goal, int(slope.logits.shape[-1]))
            pace, behind = plan.course.follow(pace, call, reached)
            done |= behind
        return Step(State(ascent, scouts, mean, pace), done)
