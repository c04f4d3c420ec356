"""What the minimum-norm attacks with gradients share: a look around, a path, and a last approach.

A published path climbs the margin of whichever rival leads, and that need not be the class that is
nearest. So the first calls of an untargeted attack are spent on one likely rival each: where the
model is taken for flat, the nearest point of the box beyond that rival's boundary has a closed
form, which is asked about. On a linear model with up to `scouts` rivals one of these points is the
optimum. The path itself begins at the clean image: beginning at the closest of them was tried, and
on undefended networks it ended farther away.

A path whose steps are large against the distance ends near the boundary, not on it. So the last
`settle` calls go from the closest point known towards the nearest one that its gradient promises:
all the way, then half of it where that was no success, and on from there where it was. In L0 they
take back one pixel after the other: the one whose return costs least margin first, while the other
changed pixels make up for it; where that falls short, once more from there, then the next one.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from advcli.attacks.base import Attack, Oracle, Row, Step
from advcli.lazy import Tensor, tf
from advcli.threats.hyperplane import dual_norms, to_hyperplane
from advcli.threats.losses import LOSSES, Goal, LossName, lead_over, margin, ranked_rivals
from advcli.threats.randomness import Random
from advcli.threats.space import Space, blend, per_row, select

# A point counts as adversarial by this share of the largest logit: twice float32's noise.
# A jump aims at twice that, and a little beyond, for the models are not quite flat.
_CLEAR, _BEYOND = 2e-5, 5e-4
_SHARE = 4  # scouts, and the last approach, take one step in so many at most


class Answer(NamedTuple):
    """What a path sees of one call; leading axis S."""

    x: Tensor  # the path's point; its rounding to the grid was asked about
    margin: Tensor  # there; > 0 where the goal is met
    gradient: Tensor  # of the path's loss
    met: Tensor  # bool, the goal is met by more than float32 noise
    distance: Tensor  # of what was asked about
    found: Tensor  # bool, the path has met the goal, here or before
    reach: Tensor  # the distance of the closest adversarial point known, else inf
    t: Tensor  # float32, the path's calls before this one
    done: Tensor  # float32, the share of the path that lies behind, from 0


class State(NamedTuple):
    x: Tensor  # the point to be asked next
    best: Tensor  # the closest adversarial point, x0 while there is none
    reach: Tensor
    rivals: Tensor  # int32 [S, scouts], from the likeliest
    aim: Tensor  # where the last approach leads; L0: the gradient at the closest point
    stride: Tensor  # how much of the way it goes at once; L0: the margin at the closest point
    tries: Tensor  # int32, L0: how often it failed since the closest point was found
    found: Tensor  # bool, the path has met the goal
    path: Any


class Nearest(Attack):
    """A minimum-norm attack along a path; a subclass says where the path goes."""

    kind: ClassVar = "minimum-norm"
    access: ClassVar = "gradient"
    climbs: ClassVar[LossName] = "margin"

    steps: int = Field(100, ge=2, le=100_000, description="gradient steps, scouts included")
    scouts: int = Field(9, ge=0, le=1000, description="rival classes looked at first")
    settle: int = Field(10, ge=0, le=1000, description="last steps, straight to the boundary")

    @abstractmethod
    def begin(self, row: Row, space: Space) -> Any:
        """The path's own state: a NamedTuple of tensors, leading axis S."""

    @abstractmethod
    def onward(self, row: Row, path: Any, answer: Answer, space: Space) -> tuple[Tensor, Any]:
        """(the point to be asked next, the path's state) after a call."""

    def length(self, space: Space) -> int:
        return self.steps

    def cost(self, space: Space) -> tuple[int, int]:
        return self.steps, self.steps

    def init(self, row: Row, space: Space, random: Random) -> State:
        rows = tf.shape(row.eps)[0]
        return State(
            x=row.x0,
            best=row.x0,
            reach=tf.fill([rows], float("inf")),
            rivals=tf.zeros([rows, max(1, self.scouts)], tf.int32),
            aim=row.x0,
            stride=tf.ones([rows]),
            tries=tf.zeros([rows], tf.int32),
            found=tf.zeros([rows], tf.bool),
            path=self.begin(row, space),
        )

    def step(
        self, row: Row, state: State, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        def loss(z: Tensor, goal: Goal) -> Tensor:
            rivals = self._rivals(row, z, state, k)
            rival = tf.gather(rivals, tf.minimum(k, rivals.shape[1] - 1), batch_dims=1)
            aimed = lead_over(z, rival, goal.label)
            own = tf.where(settling, margin(z, goal), LOSSES[self.climbs](z, goal))
            return tf.where(k < self._scouts(row, z), aimed, own)

        last = self.steps - self._settle()
        settling = (k >= last) & (state.reach < float("inf"))
        value, g, z = oracle.gradient(state.x, loss)
        asked = oracle.rounded(state.x)
        noise = _CLEAR * tf.reduce_max(tf.abs(z), axis=-1)
        reached = margin(z, row.goal)
        distance = space.distance(asked, row.x0)
        closer = (reached > noise) & (distance < state.reach)
        reach = tf.where(closer, distance, state.reach)
        best = select(closer, asked, state.best)

        scouts = self._scouts(row, z)
        lead = tf.where(scouts > 0, scouts + 1, 0)  # the last jump is asked about too
        leading = k < lead
        met = reached > noise
        found = ~leading & (met | state.found)
        t = tf.cast(tf.maximum(k - lead, 0), tf.float32)
        answer = Answer(
            x=state.x,
            margin=reached,
            gradient=_some_slope(g, space, random),
            met=met,
            distance=distance,
            found=found,
            reach=reach,
            t=t,
            done=tf.minimum(t / tf.cast(last - lead, tf.float32), 1.0),
        )
        x, path = self.onward(row, state.path, answer, space)

        def guided() -> tuple[Tensor, Tensor, Tensor, Tensor]:
            """What is asked next outside of the path, and how the approach stands."""
            gap = 2.0 * noise - value - tf.reduce_sum(g * (row.x0 - asked), axis=[1, 2, 3])
            if space.norm != "l0":  # its corners lie on the grid
                rounding = 0.5 * oracle.resolution * dual_norms(g, space.norm)
                gap += tf.where(k < scouts, rounding, 0.0)
            flat = flat_nearest(row.x0, g, gap * (1.0 + _BEYOND), space)
            anew = settling & (closer | tf.equal(k, last)) | (closer & (k >= last))
            tries = tf.where(settling & ~anew, state.tries + 1, 0)
            if space.norm == "l0":
                aim = select(anew, g, state.aim)
                stride = tf.where(anew, value, state.stride)
                thinner = _thinned(row.x0, best, aim, 2.0 * noise - stride, tries // 2, space)
                mended = _pushed(asked, row.x0, g, 2.0 * noise - value)
                ahead = select(tries % 2 == 1, mended, thinner)
            else:
                aim = select(anew, flat, state.aim)
                stride = tf.where(closer, tf.minimum(2.0 * state.stride, 1.0), 0.5 * state.stride)
                stride = tf.where(settling & (k > last), stride, 1.0)
                ahead = best + per_row(stride, x) * (aim - best)
            ahead = select(k >= last, ahead, best)
            ahead = select(leading, select(k < scouts, flat, row.x0), ahead)
            return ahead, aim, stride, tries

        off_path = leading
        if self._settle():  # it begins with a call at the closest point, for its gradient
            off_path |= (k + 1 >= last) & (reach < float("inf"))
        other, aim, stride, tries = tf.cond(
            tf.reduce_any(off_path), guided, lambda: (x, state.aim, state.stride, state.tries)
        )
        x = select(off_path, other, x)
        path = tf.nest.map_structure(lambda a, b: select(off_path, a, b), state.path, path)
        rivals = self._rivals(row, z, state, k)
        return Step(
            State(x, best, reach, rivals, aim, stride, tries, found, path), tf.zeros_like(leading)
        )

    def _settle(self) -> int:
        return min(self.settle, self.steps // _SHARE)

    def _scouts(self, row: Row, z: Tensor) -> Tensor:
        """int32 [S], how many of its steps a row scouts for."""
        many = min(self.scouts, self.steps // _SHARE, int(z.shape[-1]) - 1)
        return tf.where(row.goal.target < 0, many, 0)

    def _rivals(self, row: Row, z: Tensor, state: State, k: Tensor) -> Tensor:
        """The rivals as the clean image ranks them."""
        ranked = ranked_rivals(z, row.goal.label, int(state.rivals.shape[1]))
        return tf.where((k == 0)[:, None], ranked, state.rivals)


def flat_nearest(x0: Tensor, g: Tensor, gap: Tensor, space: Space) -> Tensor:
    """The point of the box nearest to x0 where a linear function with gradient `g` has grown by
    `gap` [S]; L0 sends the fewest pixels, those with the most to gain, to their corner of the box.
    """
    if space.norm != "l0":
        return tf.clip_by_value(x0 + to_hyperplane(x0, g, gap, space.norm), 0.0, 1.0)
    return space.farthest(g, x0, fewest_pixels(x0, g, gap, space))


def fewest_pixels(x0: Tensor, g: Tensor, gap: Tensor, space: Space) -> Tensor:
    """float32 [S], how many pixels have to go to their corner of the box to gain `gap`."""
    gain = tf.reduce_sum(tf.abs(g) * tf.abs(tf.cast(g > 0.0, tf.float32) - x0), axis=-1)
    pixels = space.shape[0] * space.shape[1]
    ranked = tf.sort(tf.reshape(gain, [-1, pixels]), axis=1, direction="DESCENDING")
    short = tf.cumsum(ranked, axis=1) < gap[:, None]
    return tf.minimum(1.0 + tf.reduce_sum(tf.cast(short, tf.float32), axis=1), float(pixels))


def _thinned(x0: Tensor, x: Tensor, g: Tensor, short: Tensor, rank: Tensor, space: Space) -> Tensor:
    """`x` without one changed pixel, the `rank`-th [S] by what its return costs of the function
    with gradient `g`; the other changed pixels make up for that and for `short` [S].
    """
    pixels = space.shape[0] * space.shape[1]
    delta = x - x0
    changed = tf.reduce_any(tf.not_equal(delta, 0.0), axis=-1)
    worth = tf.where(changed, tf.reduce_sum(g * delta, axis=-1), float("inf"))
    order = tf.argsort(tf.reshape(worth, [-1, pixels]), axis=1, stable=True)
    many = tf.reduce_sum(tf.cast(changed, tf.int32), axis=[1, 2])
    chosen = tf.gather(order, tf.minimum(rank, tf.maximum(many - 1, 0)), axis=1, batch_dims=1)
    gone = tf.reshape(tf.one_hot(chosen, pixels), [-1, space.shape[0], space.shape[1], 1])
    left = blend(gone > 0.0, x0, x)
    return _pushed(left, x0, g, short + tf.reduce_sum(g * (x - left), axis=[1, 2, 3]))


def _pushed(x: Tensor, x0: Tensor, g: Tensor, short: Tensor) -> Tensor:
    """`x` with its changed pixels moved so far that a function with gradient `g` grows by `short`.

    And by half as much again: in L0 that costs nothing.
    """
    changed = tf.reduce_any(tf.not_equal(x, x0), axis=-1, keepdims=True)
    gap = tf.maximum(1.5 * short, 0.0)
    moved = x + to_hyperplane(x, g * tf.cast(changed, tf.float32), gap, "l2")
    return tf.clip_by_value(moved, 0.0, 1.0)


def _some_slope(g: Tensor, space: Space, random: Random) -> Tensor:
    """`g`, or a random direction for a row where the model has no slope at all."""
    flat = tf.reduce_all(tf.equal(g, 0.0), axis=[1, 2, 3])
    return tf.cond(
        tf.reduce_any(flat), lambda: select(flat, random.normal(space.shape), g), lambda: g
    )
