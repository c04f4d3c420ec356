"""Race: short ascents towards many classes, long ones towards those that came nearest.

Claims: AutoAttack's robust accuracy for a tenth of its gradients. Nearly every image that can be
fooled at all is fooled on the way to its nearest class, and a few steps show which one that is.
The `targets` likeliest wrong classes race in rounds: each is approached for two calls, the best
three for six, the best one for a fifth of `steps`. Then, with the step control of `apgd`, up to
three ascents go `steps` from a random start: towards all classes at once, and towards the best two.

All but the one towards all classes climb the lead of their class over the label. In the first three
rounds the first step goes where that lead, taken for linear, is largest in the whole ball; the
others fall from three quarters of eps to 0 along a cosine, and carry a quarter of the last movement
along. So on a linear model with no more rivals than `targets` the first round decides every image
(L2: in float).

A long ascent rarely gains what is missing where much is missing: the third round is skipped where
more is lacking than `hopeless` times the margin gained so far, the last where more than a
fifth of that is, and each of its ascents is given up where its pace would not carry it there.

In L1 short ascents predict little, so there is no L1 form; in L2 they miss some of what an ascent
at every class finds, so that the preset `audit` goes on with `apgd-t` there.

Misleads: where the gradient is noise there is nothing to choose by, and an image is given up after
the second round; some queries of `square` afterwards, as in the preset `audit`, see that.

Cost: at most 2·`targets` + 21 + 3.2·`steps` gradients per image and eps; 36
where it gives up early, on the sample models 50 to 170 on average where it fails.

After Croce & Hein, 2003.01690 (an ascent for each target), and Melamed et al., 2407.02240 (which
targets are worth one).
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.ascent import Ascent, Plan
from advcli.attacks.base import Attack, Halves, Oracle, Row, Step
from advcli.attacks.pace import Pace, unknown
from advcli.lazy import Tensor, tf
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal, lead_over, log_odds, margin, ranked_rivals
from advcli.threats.randomness import Random
from advcli.threats.space import Space, per_row, select

_MOMENTUM = 0.75
_LAST = 3  # the round of AutoAttack's own ascents
_NEAR = 0.2  # its share of `hopeless`: it costs ten times what the third round does


class Round(NamedTuple):
    """So many ascents of so many calls, where what is missing is at most `reach` of what was
    gained."""

    ascents: int
    calls: int
    reach: float


class State(NamedTuple):
    ascent: Ascent  # of the last round; before that only `x` and `before` are in use
    rivals: Tensor  # int32 [S, targets], from the likeliest
    order: Tensor  # int32 [S, targets], places in `rivals`, the most promising first
    lead: Tensor  # [S, targets], the largest lead of each rival in this round
    clean: Tensor  # [S], the margin of the clean image
    peak: Tensor  # [S], the largest margin
    heat: Tensor  # int32 [S], which round
    turn: Tensor  # int32 [S], which ascent of the round
    until: Tensor  # int32 [S], the ascents of the last round before this one are the row's
    call: Tensor  # int32 [S], which call of the ascent
    pace: Pace  # of an ascent of the last round


class Race(Attack):
    name: ClassVar[str] = "race"
    summary: ClassVar[str] = "short ascents at many classes, long ones at the nearest"
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    reference: ClassVar[str] = "after Croce & Hein, 2003.01690; Melamed et al., 2407.02240"

    targets: int = Field(9, ge=1, le=1000, description="likeliest wrong classes that take part")
    steps: int = Field(200, ge=10, le=100_000, description="calls of the three longest ascents")
    hopeless: float = Field(
        1.0, gt=0, description="long ascents only where less is missing, as a share of the gain"
    )

    def _rounds(self, space: Space) -> list[Round]:
        few = min(3, self.targets)
        return [
            Round(self.targets, 2, math.inf),
            Round(few, 6, math.inf),
            Round(1, math.ceil(0.2 * self.steps), self.hopeless),
            Round(
                1 + min(2, self.targets),
                Plan(self.steps, space.norm).length,
                _NEAR * self.hopeless,
            ),
        ]

    def length(self, space: Space) -> int:
        return sum(heat.ascents * heat.calls for heat in self._rounds(space))

    def cost(self, space: Space) -> tuple[int, int]:
        return self.length(space), self.length(space)

    def init(self, row: Row, space: Space, random: Random) -> State:
        zero, none = tf.zeros_like(row.eps), tf.zeros_like(row.restart)
        rivals = tf.zeros([tf.shape(row.eps)[0], self.targets], tf.int32)
        lead = tf.fill(tf.shape(rivals), float("-inf"))
        lowest = tf.fill(tf.shape(row.eps), float("-inf"))
        order = rivals + tf.range(self.targets)
        ascent = Plan(self.steps, space.norm).begin(row.x0)
        counts = (none, none, none, none)
        return State(ascent, rivals, order, lead, zero, lowest, *counts, unknown(zero))

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        last = tf.equal(state.heat, _LAST)
        every = last & tf.equal(state.turn, 0)  # towards all classes at once
        turn = tf.where(last & ~every, state.turn - 1, state.turn)
        place = tf.gather(state.order, turn, batch_dims=1)

        def rivals(z: Tensor) -> Tensor:
            ranked = ranked_rivals(z, row.goal.label, self.targets)
            return tf.where((k == 0)[:, None], ranked, state.rivals)

        def loss(z: Tensor, goal: Goal) -> Tensor:
            rival = tf.gather(rivals(z), place, batch_dims=1)
            lead = lead_over(z, rival, goal.label)
            lead = tf.where(every, log_odds(z, goal), lead)
            return tf.where(goal.target < 0, lead, margin(z, goal))

        value, g, z = oracle.gradient(state.ascent.x, loss)
        known = min(self.targets, int(z.shape[-1]) - 1)
        aimless = row.goal.target < 0
        runners = tf.where(aimless, known, 1)
        # where there is but one rival, it is all classes at once
        finalists = tf.where(aimless, known + (int(z.shape[-1]) > 2), 1)
        here = tf.equal(tf.range(self.targets), place[:, None])
        heats = self._rounds(space)
        calls = tf.gather(tf.constant([heat.calls for heat in heats]), state.heat)
        state = state._replace(
            ascent=self._ascended(row, state, value, g, calls, space),
            rivals=rivals(z),
            clean=tf.where(k == 0, margin(z, row.goal), state.clean),
            lead=tf.where(here, tf.maximum(state.lead, value[:, None]), state.lead),
            peak=tf.maximum(state.peak, margin(z, row.goal)),
            call=state.call + 1,
        )
        ended = state.call >= calls
        if not oracle.transfer:
            plan, call = Plan(self.steps, space.norm), tf.where(last, state.call - 1, -1)
            pace, behind = plan.course.follow(state.pace, call, state.ascent.peak)
            state, ended = state._replace(pace=pace), ended | behind
        following: Step = tf.cond(
            tf.reduce_any(ended),
            lambda: self._next(row, state, ended, runners, finalists, space),
            lambda: Step(state, tf.zeros_like(ended)),
        )
        return following

    def _ascended(
        self, row: Row, state: State, value: Tensor, g: Tensor, calls: Tensor, space: Space
    ) -> Ascent:
        """The next point; the first one of a short ascent is as far away as the ball allows."""
        old = state.ascent
        last = tf.equal(state.heat, _LAST)

        def hasty() -> Tensor:
            done = tf.cast(state.call, tf.float32) / tf.cast(calls, tf.float32)
            size = row.eps * 0.5 * (1.0 + tf.cos(math.pi * done))
            push = _MOMENTUM * per_row(size, g) * space.steepest(g, old.x)
            push += (1.0 - _MOMENTUM) * (old.x - old.before)
            x = space.project(old.x + push, row.x0, row.eps)
            first = tf.equal(state.call, 0)
            return tf.cond(
                tf.reduce_any(first),
                lambda: select(first, space.farthest(g, row.x0, row.eps), x),
                lambda: x,
            )

        x = tf.cond(tf.reduce_all(last), lambda: old.x, hasty)
        short = old._replace(x=x, before=old.x)

        def careful() -> Ascent:
            # to a short ascent this is a step that brings nothing: its best point stays
            call, loss = tf.where(last, state.call, 1), tf.where(last, value, float("-inf"))
            long = Plan(self.steps, space.norm).advance(old, call, loss, g, row, space)
            mixed = Ascent(*(select(last, a, b) for a, b in zip(long, short, strict=True)))
            # spared: the copies of what is the same in both
            return mixed._replace(before=long.before, best=long.best, slope=long.slope)

        moved: Ascent = tf.cond(tf.reduce_any(last), careful, lambda: short)
        return moved

    def _next(
        self,
        row: Row,
        state: State,
        ended: Tensor,
        runners: Tensor,
        finalists: Tensor,
        space: Space,
    ) -> Step:
        """Rows whose ascent `ended` begin the next one, or the next round, or are done."""
        heats = self._rounds(space)
        ascents = tf.gather(tf.constant([heat.ascents for heat in heats]), state.heat)
        ascents = tf.minimum(ascents, runners)
        turn = tf.where(ended, state.turn + 1, state.turn)
        over = ended & (turn >= tf.where(tf.equal(state.heat, _LAST), state.until, ascents))
        turn = tf.where(over, 0, turn)
        heat = tf.where(over, state.heat + 1, state.heat)
        until = tf.where(over, tf.minimum(heats[_LAST].ascents, finalists), state.until)
        # beyond the last round nothing is within reach
        reach = tf.gather(tf.constant([*(heat.reach for heat in heats), -math.inf]), heat)
        gained = tf.maximum(state.peak - state.clean, 0.0)
        # rivals that this round did not run keep their order, behind those that did
        known = tf.gather(state.lead, state.order, batch_dims=1)
        better = tf.argsort(known, axis=1, direction="DESCENDING", stable=True)
        ranked = tf.gather(state.order, better, batch_dims=1)
        done = over & ((heat > _LAST) | ((gained > 0.0) & (-state.peak > reach * gained)))
        last = heat >= _LAST
        start = tf.cond(
            tf.reduce_any(ended & last),
            lambda: select(last, self._start(row, turn, space), row.x0),
            lambda: row.x0,
        )
        ascent = state.ascent
        return Step(
            state._replace(
                ascent=ascent._replace(
                    x=select(ended, start, ascent.x), before=select(ended, start, ascent.before)
                ),
                order=tf.where(over[:, None], ranked, state.order),
                lead=tf.where(over[:, None], float("-inf"), state.lead),
                heat=tf.minimum(heat, _LAST),
                turn=turn,
                until=until,
                call=tf.where(ended, 0, state.call),
            ),
            done,
        )

    def _start(self, row: Row, turn: Tensor, space: Space) -> Tensor:
        """Where ascent `turn` of the last round sets out; its numbers are no step's."""
        return Plan(self.steps, space.norm).start(row, space, Random(row.key, -2 - turn))

    def divide(self, row: Row, state: State, space: Space) -> Halves:
        """In the last round: the ascent under way, and those after it."""
        turn = state.turn + 1
        start = self._start(row, turn, space)
        ascent = state.ascent._replace(x=start, before=start)
        return Halves(
            tf.equal(state.heat, _LAST) & (turn < state.until),
            state._replace(until=turn),
            state._replace(ascent=ascent, turn=turn, call=tf.zeros_like(turn)),
        )
