"""Common corruptions: noise, blur, weather and digital damage, 19 kinds in 5 severities.

Says how the model takes what happens to pictures anyway. Nobody searches for a bad case, so the
figures say nothing about an adversary; and a model that is robust within an eps may be worse here
than an undefended one, in fog and low contrast above all. Every image counts, those that the model
gets wrong unperturbed too. The mean corruption accuracy is the mean over the kinds of their mean
over the severities, as in ImageNet-C; its mean is over the fifteen kinds of the benchmark where
all of those were run (the four others are there to tune on). It is not divided by AlexNet's.

The constants are ImageNet-C's, or CIFAR-C's for images up to 32×32 (`constants` says otherwise:
at 48 or 64 pixels ImageNet-C's are very strong). The random part of a corruption is drawn from the
seed and the image alone, and is the same at all severities. Frost is drawn, not photographed;
images are not compressed again, as the published files were (JPEG, quality 85).

Cost: one forward per image, kind and severity (95), and the making of it: 0 to 60 ms at 224×224.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from advcli.attacks.natural import NaturalAttack, Question
from advcli.threats.corruptions import BENCHMARK, GROUPS, KINDS, SEVERITIES

_SETS = {"all": KINDS, "benchmark": BENCHMARK, **GROUPS, **{kind: (kind,) for kind in KINDS}}


class Corruption(NaturalAttack):
    name: ClassVar[str] = "corruption"
    summary: ClassVar[str] = "noise, blur, weather, digital damage (ImageNet-C, CIFAR-C)"
    reference: ClassVar[str] = (
        "Hendrycks & Dietterich 2019, arXiv:1903.12261; github.com/hendrycks/robustness"
    )

    kinds: str = Field(
        "all",
        description="all, benchmark (the fifteen), noise, blur, weather, digital, extra, or kinds "
        "by name, joined by +: snow+fog",
    )
    severity: int = Field(0, ge=0, le=5, description="one severity; 0: all five")
    constants: Literal["auto", "imagenet", "cifar"] = Field(
        "auto", description="auto: cifar up to 32×32 pixels, imagenet above"
    )

    @field_validator("kinds")
    @classmethod
    def _known(cls, value: str) -> str:
        names = [name.strip().lower().replace("-", "_") for name in value.split("+")]
        unknown = [name for name in names if name not in _SETS]
        if unknown:
            known = {"wrong": unknown[0], "sets": ", ".join(_SETS)}
            raise PydanticCustomError("kinds", "'{wrong}' is none of {sets}", known)
        return "+".join(names)

    def questions(self) -> tuple[Question, ...]:
        asked = {kind for name in self.kinds.split("+") for kind in _SETS[name]}
        severities = (self.severity,) if self.severity else SEVERITIES
        return tuple(
            Question(kind, severity, 1)
            for kind in KINDS
            if kind in asked
            for severity in severities
        )

    def make(
        self, pixels: np.ndarray, question: Question, place: int, random: np.random.Generator
    ) -> np.ndarray:
        from advcli.threats.corruptions.apply import corrupt

        chosen = None if self.constants == "auto" else self.constants
        return corrupt(pixels, question.kind, question.severity or 1, random, chosen)
