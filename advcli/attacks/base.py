"""What an attack is: frozen settings and three pure functions over rows.

An attack never judges itself, never sees a file and never loops: the engine calls `step` on all
rows at once, hands every point that it asks the model about to the judge, and decides when a row
is done. Nothing here needs TensorFlow until `init` or `step` runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from advcli.lazy import Tensor
from advcli.threats.budget import Norm
from advcli.threats.losses import Goal
from advcli.threats.randomness import Random
from advcli.threats.space import Space

Access = Literal["none", "decision", "scores", "gradient"]
Kind = Literal["budget", "minimum-norm", "natural"]
LossFunction = Any  # (logits [S, K], Goal) -> [S], ascended
View = Callable[[Tensor], Tensor]  # [S, H, W, C] -> the same shape, differentiable


class Row(NamedTuple):
    """One job per row; the leading axis S is the number of slots."""

    x0: Tensor  # float32 [S, H, W, C], the clean image
    goal: Goal  # int32 [S] each
    eps: Tensor  # float32 [S]; inf for minimum-norm attacks
    key: Tensor  # uint32 [S, 2]: seed, image, attack and restart
    restart: Tensor  # int32 [S], which of the siblings: 0 … siblings − 1
    start: Tensor  # float32 [S, H, W, C]: an image of the target class for `wants_start`, else x0


class Slope(NamedTuple):
    """What a gradient query answers."""

    loss: Tensor  # [S]
    gradient: Tensor  # [S, H, W, C]
    logits: Tensor  # [S, K]


class Oracle(Protocol):
    """The only door to the model. It rounds every point to the grid, counts, and judges.

    `x` is [S, H, W, C], or [S, Q, H, W, C] to ask Q points per row at once. `used` marks the
    queries that count, bool of the same leading shape, or a function of the answers: what a
    sequential attacker would not have asked is computed but neither counted nor judged.
    """

    resolution: float  # the distance between two values of the grid; 0 where there is none
    transfer: bool  # what is asked is a surrogate, and success on it ends nothing

    def scores(self, x: Tensor, used: Any = None) -> Tensor:
        """Logits, float32 [S(, Q), K]."""

    def decide(self, x: Tensor, used: Any = None) -> Tensor:
        """Whether the goal is met, bool [S(, Q)]: all that a decision-based attack may see."""

    def gradient(
        self, x: Tensor, loss: LossFunction, view: View | None = None, plain: Tensor | None = None
    ) -> Slope:
        """At the rounded point, its gradient passed straight through.

        With a `view` the model is shown view(x) instead (resized, say, or scaled), which counts,
        and judged are only the rows in `plain` (bool [S]), at which it shows x itself.
        """

    def rounded(self, x: Tensor) -> Tensor:
        """The points that were really asked, where an attack needs to know them."""


class Step(NamedTuple):
    """What a step returns: the new state, and which rows have nothing left to try (bool [S])."""

    state: Any
    done: Tensor


class Halves(NamedTuple):
    """Work that rows have left, cut in two that do not need one another."""

    possible: Tensor  # bool [S], whether there is anything to cut
    first: Any  # the state of what comes first in the row's order; `done` at its end
    rest: Any  # the state of what follows


class Settings(BaseModel, ABC):
    """What every attack states of itself; each field is an option `name:field=value` with its help
    and range. The module's docstring is what `advcli attacks NAME` prints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    summary: ClassVar[str]
    kind: ClassVar[Kind]
    access: ClassVar[Access]
    norms: ClassVar[tuple[Norm, ...]]
    targetable: ClassVar[bool] = True
    wants_start: ClassVar[bool] = False  # whether its targeted form starts from another image
    reference: ClassVar[str]

    @property
    def spec(self) -> str:
        """The canonical name: the attack, and the options that differ from their defaults."""
        fields = type(self).model_fields
        changed = [
            f"{key.replace('_', '-')}={_plain(value)}"
            for key, value in sorted(self.model_dump().items())
            if value != fields[key].default
        ]
        return self.name + (":" + ",".join(changed) if changed else "")

    @abstractmethod
    def cost(self, space: Space) -> tuple[int, int]:
        """(forwards, gradients) per image and eps at most, restarts included, confirmations not."""


class Attack(Settings):
    """An attack on one image at a time; a subclass is final."""

    def siblings(self, classes: int) -> int:
        """Jobs per image and eps on a model of `classes` (`Row.restart` tells them apart).

        They are tried in order until one succeeds: restarts, or the targets of a targeted search.
        """
        return int(getattr(self, "restarts", 1))

    def width(self, space: Space) -> int:
        """Q: how many points a step asks about per row, so that Q rows fill one slot."""
        return 1

    @abstractmethod
    def length(self, space: Space) -> int:
        """The most steps that a job takes."""

    @abstractmethod
    def init(self, row: Row, space: Space, random: Random) -> Any:
        """The state before the first step: a NamedTuple of tensors, leading axis S. No model."""

    @abstractmethod
    def step(
        self, row: Row, state: Any, k: Tensor, space: Space, oracle: Oracle, random: Random
    ) -> Step:
        """One step of every row; k int32 [S] is the row's own count. Pure."""

    def divide(self, row: Row, state: Any, space: Space) -> Halves | None:
        """Two states whose rows, side by side, do to the bit what each row would in turn; None:
        nothing can be cut. Asked at the end of a run, where slots stand empty."""
        return None

    def finish(self, row: Row, state: Any, space: Space) -> Tensor | None:
        """A last candidate that no step asked about, or None: the best point asked stands."""
        return None


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # every digit: a spec is read back, and has to mean the same
    return str(value).removesuffix(".0")
