"""A run's answers in memory: what the journal says, reduced to what figures and phases need.

About a hundred bytes per image and per answer; pixels and paths of files stay on disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from advcli.audit.natural import NaturalAnswer, answer_of
from advcli.audit.plan import Phase
from advcli.errors import RunError
from advcli.images.text import printable
from advcli.threats.budget import same_eps

__all__ = ["Answer", "Clean", "Ledger"]

_TOLERANCE = 1 + 1e-6
_Key = tuple[str, str | None, float | None]
_NaturalKey = tuple[str, str, int | None]


class Clean(NamedTuple):
    """One image's clean line. `sha256` is None where the file could not be read, `prediction`
    where the model's output was not finite; `error` says why."""

    sha256: str | None
    label: int | None
    prediction: int | None
    target: int | None
    error: str | None

    @property
    def correct(self) -> bool:
        return self.prediction is not None and self.prediction == self.label

    @property
    def attacked(self) -> bool:
        """Whether it enters the figures of an attack: correct, and not already at its target."""
        return self.correct and self.label != self.target


class Answer(NamedTuple):
    """One attack line. `success`: the attack's goal was met. `lost`: the label was not kept (the
    same, unless the attack is targeted). `distance` is in the phase's norm.

    `prediction` is the model's own at the point that was found. `stalled`: the gradient was exactly
    zero in more than half of the gradient steps.
    """

    success: bool
    lost: bool
    distance: float
    stalled: bool = False
    nonfinite: bool = False
    error: bool = False
    forwards: int = 0
    gradients: int = 0
    prediction: int | None = None

    def broken_at(self, eps: float | None, *, minimum: bool) -> bool:
        """Whether the image counts as fooled at `eps` (None: a threat without a norm)."""
        if self.error:
            return False
        if minimum and eps is not None:
            return self.success and self.distance <= eps * _TOLERANCE
        return self.lost


@dataclass
class Ledger:
    """`clean`: image -> its clean line, in the journal's order. `answers`: (attack, norm, eps) ->
    image -> answer, eps None for minimum-norm attacks. `natural`: (attack, kind, severity) ->
    image -> answer."""

    clean: dict[str, Clean] = field(default_factory=dict)
    answers: dict[_Key, dict[str, Answer]] = field(default_factory=dict)
    natural: dict[_NaturalKey, dict[str, NaturalAnswer]] = field(default_factory=dict)

    @classmethod
    def read(cls, lines: Iterable[dict[str, Any]]) -> Ledger:
        ledger = cls()
        for line in lines:
            ledger.add(line)
        return ledger

    def add(self, line: dict[str, Any]) -> None:
        """Take one journal line; a second line about the same thing changes nothing."""
        image = line["image"]
        if line["attack"] == "clean":
            self.clean.setdefault(
                image,
                Clean(
                    line["sha256"],
                    line["label"],
                    line["clean_prediction"],
                    line.get("target"),
                    line["error"],
                ),
            )
            return
        if "kind" in line:
            asked = line["attack"], line["kind"], line["severity"]
            self.natural.setdefault(asked, {}).setdefault(image, answer_of(line))
            return
        if image not in self.clean:
            raise RunError(
                f"the journal has an answer for {printable(image, 60)}, but not the clean image",
                "restore results.jsonl, or start a new run",
            )
        key = self._key(line["attack"], line["norm"], line["eps"])
        answers = self.answers.setdefault(key, {})
        if image in answers:
            return
        measured = line["distance"] and line["norm"]
        distance = line["distance"][line["norm"]] if measured else None
        clean, success = self.clean[image], bool(line["success"])
        answer = Answer(
            success=success,
            lost=success if clean.target is None else line["adversarial_prediction"] != clean.label,
            distance=math.inf if distance is None else distance,
            stalled=2 * line.get("stalled", 0) > line["gradients"],
            nonfinite=bool(line.get("nonfinite", False)),
            error=line["error"] is not None,
            forwards=line["forwards"],
            gradients=line["gradients"],
            prediction=line["adversarial_prediction"],
        )
        answers[image] = answer
        if key[2] is not None:
            self._lift(key, image)

    def _lift(self, key: _Key, image: str) -> None:
        """Fooled at one eps is fooled at every larger one, whichever was asked first."""
        asked = sorted(
            (known for known in self.answers if known[:2] == key[:2] and known[2] is not None),
            key=lambda known: known[2] or 0.0,
        )
        fooled: Answer | None = None
        for known in asked:
            answer = self.answers[known].get(image)
            if answer is None or answer.error:
                continue
            if answer.success:
                fooled = fooled or answer
            elif fooled is not None:
                self.answers[known][image] = answer._replace(
                    success=True,
                    lost=fooled.lost,
                    distance=fooled.distance,
                    prediction=fooled.prediction,
                )

    def _key(self, attack: str, norm: str | None, eps: float | None) -> _Key:
        if eps is not None:
            for known in self.answers:
                if known[:2] == (attack, norm) and known[2] is not None and same_eps(known[2], eps):
                    return known
        return attack, norm, eps

    def of(self, phase: Phase, eps: float | None) -> dict[str, Answer]:
        """The answers that speak about `phase` at `eps`."""
        return self.answers.get(self._key(*phase.key, None if phase.minimum else eps), {})

    def calls(self, phase: Phase, eps: float | None) -> tuple[int, int, int]:
        """(forwards, gradients, images) of `phase` at `eps`: what its attacked images cost, and
        how many they are; at every eps the whole search of a minimum-norm attack."""
        spent = [a for i, a in self.of(phase, eps).items() if self.clean[i].attacked]
        return sum(a.forwards for a in spent), sum(a.gradients for a in spent), len(spent)

    def evaluated(self) -> Iterator[tuple[str, Clean]]:
        """Images that could be read, in the journal's order."""
        return ((image, clean) for image, clean in self.clean.items() if clean.sha256 is not None)

    def before(self, phases: Iterable[Phase], phase: Phase, eps: float | None) -> set[str]:
        """Images that the earlier phases of `phase`'s cascade broke at `eps` in its norm."""
        broken: set[str] = set()
        if not phase.cascade:
            return broken
        for earlier in phases:
            if earlier.key == phase.key:
                break
            if earlier.cascade and earlier.norm == phase.norm:
                broken.update(
                    image
                    for image, answer in self.of(earlier, eps).items()
                    if answer.broken_at(eps, minimum=earlier.minimum)
                )
        return broken

    def restricted(self, images: Iterable[str] | None) -> Ledger:
        """Only these images; None: all."""
        if images is None:
            return self
        wanted = set(images)
        return Ledger(
            {i: c for i, c in self.clean.items() if i in wanted},
            {
                key: {i: a for i, a in found.items() if i in wanted}
                for key, found in self.answers.items()
            },
            {
                key: {i: a for i, a in found.items() if i in wanted}
                for key, found in self.natural.items()
            },
        )
