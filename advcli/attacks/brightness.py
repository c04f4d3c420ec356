"""Brightness: the smallest change of brightness that fools.

The same number of levels is added to every value (or taken away), and what leaves the range is cut
off. The changes are tried from the smallest, the brighter one before the darker one of a size, and
the first that is misclassified is the answer: at `step=1` no smaller one exists in 8 bits. The
severity is the change as a share of the range; the journal's has its sign.

Misleads: says nothing about shadows, which darken a part. Cost: 511 forwards at most at `step=1`.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from advcli.attacks.natural import NaturalAttack, Question


class Brightness(NaturalAttack):
    name: ClassVar[str] = "brightness"
    summary: ClassVar[str] = "the smallest change of brightness that fools"
    reference: ClassVar[str] = "Pei et al. 2017, arXiv:1712.01785 (VeriVis: brightness)"

    most: int = Field(255, ge=1, le=255, description="largest change, in 8-bit levels")
    step: int = Field(1, ge=1, le=255, description="levels between two changes that are tried")

    def questions(self) -> tuple[Question, ...]:
        return (Question("brightness", None, 1 + 2 * (self.most // self.step)),)

    def make(
        self, pixels: np.ndarray, question: Question, place: int, random: np.random.Generator
    ) -> np.ndarray:
        moved = pixels.astype(np.int16) + self._levels(place)
        return np.clip(moved, 0, 255).astype(np.uint8)

    def _levels(self, place: int) -> int:
        size = (place + 1) // 2 * self.step
        return size if place % 2 else -size

    def strength(self, shape: tuple[int, ...], place: int) -> float:
        """The change, from −1 (all black) to 1 (all white)."""
        return self._levels(place) / 255
