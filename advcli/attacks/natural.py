"""What a natural threat is: changes of an image that nobody chose against the model.

No norm, no gradient, no slots: an attack of this kind lists questions about an image (a kind of
corruption at a severity; the worst of a grid), and makes the pictures that answer each. The model
is asked about them in order, and the first one that it gets wrong is the answer. Nothing here
sees the model.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from advcli.attacks.base import Settings
from advcli.threats.budget import Norm
from advcli.threats.space import Space

__all__ = ["NaturalAttack", "Question"]


class Question(NamedTuple):
    """Is the model right about all of the `pictures` that are made of one image?

    `severity` where a kind has several; None where the pictures are a search of their own.
    """

    kind: str
    severity: int | None
    pictures: int

    @property
    def name(self) -> str:
        return self.kind if self.severity is None else f"{self.kind}-{self.severity}"


class NaturalAttack(Settings):
    """A threat without a norm; a subclass is final."""

    kind: ClassVar = "natural"
    access: ClassVar = "none"
    norms: ClassVar[tuple[Norm, ...]] = ()
    targetable: ClassVar[bool] = False

    @abstractmethod
    def questions(self) -> tuple[Question, ...]:
        """What is asked about every image, whatever its size."""

    @abstractmethod
    def make(
        self, pixels: np.ndarray, question: Question, place: int, random: np.random.Generator
    ) -> np.ndarray:
        """Picture number `place` of a question: uint8 [H, W, C] -> uint8 [H, W, C]. Pure.

        `random` is the image's own, the same for every severity and place.
        """

    def strength(self, shape: tuple[int, ...], place: int) -> Any:
        """What picture `place` of a search does, for the journal: a number or a list of them."""
        return None

    def cost(self, space: Space) -> tuple[int, int]:
        return sum(question.pictures for question in self.questions()), 0
