"""Blur: the smallest Gaussian blur that fools.

Claims how much of the fine detail the model needs: the standard deviations are tried upwards in
equal steps from none at all, and the first one that is misclassified is the answer. No monotony is
assumed. The severity is the standard deviation in pixels, so it compares images of one size only.

Misleads: a severity between two steps is not seen. Cost: `steps` + 1 forwards at most.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from advcli.attacks.natural import NaturalAttack, Question


class Blur(NaturalAttack):
    name: ClassVar[str] = "blur"
    summary: ClassVar[str] = "the smallest Gaussian blur that fools"
    reference: ClassVar[str] = "Rauber et al. 2017, arXiv:1707.04131 (Foolbox: GaussianBlurAttack)"

    most: float = Field(
        0.25, gt=0, le=2, description="largest standard deviation, as a share of the shorter side"
    )
    steps: int = Field(50, ge=1, le=10_000, description="blurs that are tried")

    def questions(self) -> tuple[Question, ...]:
        return (Question("gaussian_blur", None, self.steps + 1),)

    def make(
        self, pixels: np.ndarray, question: Question, place: int, random: np.random.Generator
    ) -> np.ndarray:
        from advcli.threats.corruptions.signal import gaussian

        sigma = self.strength(pixels.shape, place)
        return np.rint(gaussian(pixels.astype(np.float32), sigma)).astype(np.uint8)

    def strength(self, shape: tuple[int, ...], place: int) -> float:
        """The standard deviation in pixels."""
        return self.most * min(shape[:2]) * place / self.steps
