"""Spatial: the worst of a grid of rotations and shifts.

A network that has seen upright, centred pictures can lose a third of its accuracy to a turn of a
few degrees that nobody would notice, and no Lp ball contains it. Every point of the grid is tried,
the mildest first, and the first one that is misclassified is the answer; gradients hardly help
here, since the loss over angles and shifts has many local maxima. An image that the model gets
wrong unmoved counts as wrong.

Misleads: what moves out of the picture is lost and black comes in (`fill=mirror` reflects
instead), so large moves of objects at the rim are no fair question.

Cost: 775 forwards per image at most (31 rotations × 5 × 5 shifts), fewer where it is fooled.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import product
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from advcli.attacks.natural import NaturalAttack, Question

_KIND = "rotation+shift"


class Spatial(NaturalAttack):
    name: ClassVar[str] = "spatial"
    summary: ClassVar[str] = "the worst of rotations and shifts"
    reference: ClassVar[str] = (
        "Engstrom et al. 2019, arXiv:1712.02779; github.com/MadryLab/adversarial_spatial"
    )

    rotation: float = Field(30.0, ge=0, le=180, description="degrees to either side, at most")
    shift: float = Field(
        0.1, ge=0, le=0.5, description="share of the height and of the width, at most"
    )
    rotations: int = Field(31, ge=1, le=721, description="rotations in the grid")
    shifts: int = Field(5, ge=1, le=101, description="shifts in the grid, in each direction")
    fill: Literal["black", "mirror"] = Field("black", description="what comes in at the rim")

    def questions(self) -> tuple[Question, ...]:
        return (Question(_KIND, None, len(self._grid())),)

    def _grid(self) -> tuple[tuple[float, float, float], ...]:
        return _grid(self.rotation, self.shift, self.rotations, self.shifts)

    def make(
        self, pixels: np.ndarray, question: Question, place: int, random: np.random.Generator
    ) -> np.ndarray:
        from advcli.threats.corruptions.signal import affine

        height, width = pixels.shape[:2]
        degrees, down, right = self.strength(pixels.shape, place)
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        from_x, from_y = -middle_x - right, -middle_y - down
        matrix = np.array(
            [
                [cosine, -sine, cosine * from_x - sine * from_y + middle_x],
                [sine, cosine, sine * from_x + cosine * from_y + middle_y],
            ]
        )
        moved = affine(pixels.astype(np.float64), np.round(matrix, 9), self.fill)
        return np.rint(moved).astype(np.uint8)

    def strength(self, shape: tuple[int, ...], place: int) -> list[float]:
        """[degrees counter-clockwise, pixels down, pixels to the right]"""
        degrees, down, right = self._grid()[place]
        return [degrees, down * shape[0], right * shape[1]]


@cache
def _grid(
    rotation: float, shift: float, rotations: int, shifts: int
) -> tuple[tuple[float, float, float], ...]:
    """(degrees, share down, share right), the mildest first; the image as it is comes first."""
    turns = np.linspace(-rotation, rotation, rotations) if rotations > 1 else np.zeros(1)
    moves = np.linspace(-shift, shift, shifts) if shifts > 1 else np.zeros(1)
    points = {(0.0, 0.0, 0.0)} | {
        (float(a), float(b), float(c)) for a, b, c in product(turns, moves, moves)
    }

    def size(point: tuple[float, float, float]) -> tuple[float, ...]:
        parts = (point[0] / (rotation or 1), point[1] / (shift or 1), point[2] / (shift or 1))
        return (round(sum(part**2 for part in parts), 9), *point)

    return tuple(sorted(points, key=size))
