"""Contrast: the smallest loss of contrast that fools.

The image is drawn towards middle gray, x ← (1 − c) · x + c / 2, in equal steps of c from 0 to 1,
and the first step that is misclassified is the answer. The severity is c: 0 is the image itself, 1
nothing but gray, which every model gets wrong for all classes but one.

Misleads: a severity between two steps is not seen. Cost: `steps` + 1 forwards at most.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from advcli.attacks.natural import NaturalAttack, Question


class Contrast(NaturalAttack):
    name: ClassVar[str] = "contrast"
    summary: ClassVar[str] = "the smallest loss of contrast that fools"
    reference: ClassVar[str] = (
        "Rauber et al. 2017, arXiv:1707.04131 (Foolbox: LinearSearchContrastReductionAttack)"
    )

    steps: int = Field(100, ge=1, le=10_000, description="losses of contrast that are tried")

    def questions(self) -> tuple[Question, ...]:
        return (Question("contrast", None, self.steps + 1),)

    def make(
        self, pixels: np.ndarray, question: Question, place: int, random: np.random.Generator
    ) -> np.ndarray:
        lost = self.strength(pixels.shape, place)
        return np.rint((1 - lost) * pixels + lost * 127.5).astype(np.uint8)

    def strength(self, shape: tuple[int, ...], place: int) -> float:
        """The share of the contrast that is lost."""
        return place / self.steps
