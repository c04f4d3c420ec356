"""The figures, from run.json and the journal alone: a resumed run and a new report agree."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import advcli
from advcli.audit import gates as gating
from advcli.audit import soundness
from advcli.audit.curve import curves
from advcli.audit.ledger import Answer, Clean, Ledger
from advcli.audit.natural import NaturalPhase, natural_means, natural_rows
from advcli.audit.plan import Phase, budgets
from advcli.audit.probed import findings_of
from advcli.audit.statistics import median_distance, proportion, wilson
from advcli.threats.budget import Norm, same_eps

__all__ = ["SCHEMA_VERSION", "Standing", "answers_at", "missing", "robust_set", "summarise"]

SCHEMA_VERSION = 1
_FITTED = (
    *("folder", "given", "images", "seed", "share"),
    *("steps", "forwards", "gradients", "seconds", "fooled"),
)


@dataclass(frozen=True)
class Standing:
    """The counts of one phase at one eps; `total` are the images that its figure is a share of."""

    attempted: int
    broken: int
    errors: int
    hits: int
    total: int

    @property
    def robust(self) -> int:
        return self.attempted - self.broken - self.errors


def summarise(
    run: dict[str, Any], ledger: Ledger, baseline: dict[str, Any] | None = None
) -> dict[str, Any]:
    """summary.json for what `run` (run.json) asked and `ledger` (the journal) answered.

    `baseline`: the comparison with an earlier run (`regression.section`).
    """
    phases = [Phase.from_dict(stored) for stored in run["phases"]]
    ledger = ledger.restricted(run["images"]["selected"])
    evaluated = dict(ledger.evaluated())
    findings = [
        *run["findings"],
        *soundness.unreadable(
            ledger, run["model"]["classes"], run["images"].get("per_class") or {}
        ),
        *soundness.from_journal(ledger, phases, transfer=bool(run.get("surrogate"))),
        *findings_of(run, ledger, phases),
        *soundness.from_fits(run.get("fitted", ())),
    ]
    threats = [NaturalPhase.from_dict(stored) for stored in run.get("natural", ())]
    natural = list(natural_rows(ledger, threats))
    correct = sum(clean.correct for clean in evaluated.values())
    seconds = sum(timing["seconds"] for timing in run["timings"].values())
    summary: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "advcli_version": advcli.__version__,
        "verdict": "none",
        "exit_code": 0,
        "model": run["model"],
        "images": _images(run, ledger, len(evaluated)),
        "pixels": run["config"]["pixels"],
        "clean": {
            "accuracy": proportion(correct, len(evaluated)),
            "correct": correct,
            "total": len(evaluated),
            "ci95": wilson(correct, len(evaluated)),
            "errors": sum(clean.error is not None for clean in evaluated.values()),
        },
        "attacks": [
            row
            for phase, stored in zip(phases, run["phases"], strict=True)
            for row in _rows(run, ledger, phases, phase, stored["options"])
        ],
        "worst_case": [],
        "curve": _curve(run, ledger, phases),
        "natural": natural,
        "natural_means": natural_means(natural, run["model"].get("input_shape")),
        "per_class": [],
        "confusion": [],
        "baseline": baseline,
        "soundness": {
            "verdict": soundness.verdict(findings, off=run["config"].get("soundness") == "off"),
            "findings": findings,
        },
        "gates": [],
        "engine": {
            **run["engine"],
            "seconds": seconds,
            "model_seconds": sum(t["model_seconds"] for t in run["timings"].values()),
        },
        "provenance": run["provenance"],
    }
    asked = budgets(phases) if run["config"]["targeted"] is None else []
    robust = {budget: robust_set(ledger, phases, *budget) for budget in asked}
    summary["worst_case"] = [
        _worst_case(ledger, phases, norm, eps, standing) for (norm, eps), standing in robust.items()
    ]
    summary["per_class"] = list(_per_class(run["model"]["classes"], evaluated, robust))
    summary["confusion"] = [
        _confusion(None, None, evaluated, {i: clean.prediction for i, clean in evaluated.items()}),
        *(
            _confusion(norm, eps, evaluated, _predictions(ledger, phases, norm, eps, found.judged))
            for (norm, eps), found in robust.items()
        ),
    ]
    gates = gating.gates_of(run["config"]["fail_under"], run["config"].get("gates", ()))
    day = run.get("judged_on")
    summary |= gating.judge(
        gates,
        summary,
        exit_zero=run["config"]["exit_zero"],
        day=datetime.date.fromisoformat(day) if day else None,
        confident=run["config"].get("confident", False),
        max_drop=run["config"].get("max_drop"),
    )
    return summary


def _curve(run: dict[str, Any], ledger: Ledger, phases: Sequence[Phase]) -> list[dict[str, Any]]:
    if not run["config"].get("curve"):
        return []
    return curves(
        ledger,
        phases,
        whole_levels=run["config"]["pixels"] == "uint8",
        worst_case=run["config"]["targeted"] is None,
    )


def _images(run: dict[str, Any], ledger: Ledger, evaluated: int) -> dict[str, Any]:
    stored = run["images"]
    unread = [
        {"file": image, "reason": clean.error}
        for image, clean in ledger.clean.items()
        if clean.sha256 is None
    ]
    return {
        "root": stored["root"],
        "count": stored["count"],
        "evaluated": evaluated,
        "skipped": [*stored["skipped"], *unread],
        "labels": stored["labels"],
        "resized": stored["resized"],
        "shard": stored.get("shard"),
        "time_budget": stored.get("time_budget"),
    }


def count(ledger: Ledger, phases: Sequence[Phase], phase: Phase, eps: float | None) -> Standing:
    """What `phase` did at `eps` to the images that it was to see."""
    before = ledger.before(phases, phase, eps)
    answers = ledger.of(phase, eps)
    attempted = broken = errors = hits = total = 0
    for image, clean in ledger.evaluated():
        if clean.target is not None and clean.target == clean.label:
            continue
        if not phase.judges(clean.sha256):
            continue
        total += 1
        answer = answers.get(image)
        if not clean.attacked or image in before or answer is None:
            continue
        attempted += 1
        fooled = answer.broken_at(eps, minimum=phase.minimum)
        broken += fooled
        errors += answer.error
        within = not phase.minimum or fooled
        hits += answer.success and within and not answer.error
    return Standing(attempted, broken, errors, hits, total)


def _rows(
    run: dict[str, Any],
    ledger: Ledger,
    phases: Sequence[Phase],
    phase: Phase,
    options: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    timing = run["timings"].get(f"{phase.spec} {phase.norm}", {"seconds": 0.0, "images": 0})
    for eps in phase.rows:
        standing = count(ledger, phases, phase, eps)
        answers = ledger.of(phase, eps)
        before = ledger.before(phases, phase, eps)
        forwards, gradients, images = ledger.calls(phase, eps)
        yield {
            "attack": phase.spec,
            "options": options,
            "norm": phase.norm,
            "eps": eps,
            "robust_accuracy": proportion(standing.robust, standing.total),
            "success_rate": proportion(standing.hits, standing.attempted),
            "robust": standing.robust,
            "broken": standing.broken,
            "errors": standing.errors,
            "attempted": standing.attempted,
            "total": standing.total,
            "ci95": wilson(standing.robust, standing.total),
            "median_distance": median_distance(
                answers[image].distance if answers[image].success else math.inf
                for image, clean in ledger.evaluated()
                if clean.attacked and image in answers and image not in before
            ),
            "forwards": forwards,
            "gradients": gradients,
            "forwards_per_image": proportion(forwards, images),
            "gradients_per_image": proportion(gradients, images),
            "seconds": timing["seconds"],
            "images_per_second": timing["images"] / timing["seconds"]
            if timing["seconds"]
            else None,
            "fitted": _fitted(run, phase, eps),
        }


def _fitted(run: dict[str, Any], phase: Phase, eps: float | None) -> dict[str, Any] | None:
    """What a fitted attack learned from and what that cost; None of the others."""
    for record in run.get("fitted", ()):
        if (record["attack"], record["norm"]) != phase.key:
            continue
        if record["eps"] == eps or (
            eps is not None and record["eps"] is not None and same_eps(record["eps"], eps)
        ):
            return {key: record.get(key) for key in _FITTED}
    return None


def answers_at(
    ledger: Ledger, phases: Sequence[Phase], norm: str, eps: float
) -> Iterator[tuple[Phase, dict[str, Answer]]]:
    """Everything that speaks about (norm, eps), minimum-norm searches asked elsewhere included."""
    for phase in phases:
        if phase.norm == norm and (phase.minimum or any(same_eps(eps, e) for e in phase.eps)):
            yield phase, ledger.of(phase, eps)


class Robust(NamedTuple):
    """The images that every attack at a budget left standing, among those that all were to see.

    Where a fitted attack is one of them, those are the images that it did not learn from.
    """

    standing: set[str]
    judged: set[str]


def robust_set(ledger: Ledger, phases: Sequence[Phase], norm: str, eps: float) -> Robust:
    """The worst case at (norm, eps), image by image."""
    at = list(answers_at(ledger, phases, norm, eps))
    judged = {
        image
        for image, clean in ledger.evaluated()
        if all(phase.judges(clean.sha256) for phase, _ in at)
    }
    standing = {image for image in judged if ledger.clean[image].correct}
    for phase, answers in at:
        standing.difference_update(
            image
            for image, answer in answers.items()
            if answer.error or answer.broken_at(eps, minimum=phase.minimum)
        )
    return Robust(standing, judged)


def _worst_case(
    ledger: Ledger, phases: Sequence[Phase], norm: str, eps: float, robust: Robust
) -> dict[str, Any]:
    broken_by: Counter[str] = Counter()
    for phase, answers in answers_at(ledger, phases, norm, eps):
        broken_by[phase.spec] += sum(
            answer.broken_at(eps, minimum=phase.minimum) and ledger.clean[image].attacked
            for image, answer in answers.items()
            if image in robust.judged
        )
    return {
        "norm": norm,
        "eps": eps,
        "robust_accuracy": proportion(len(robust.standing), len(robust.judged)),
        "ci95": wilson(len(robust.standing), len(robust.judged)),
        "total": len(robust.judged),
        "broken_by": dict(broken_by),
    }


def _per_class(
    names: Sequence[str],
    evaluated: dict[str, Clean],
    robust: Mapping[tuple[Norm, float], Robust],
) -> Iterator[dict[str, Any]]:
    members: dict[int, list[str]] = {}
    for image, clean in evaluated.items():
        if clean.label is not None:
            members.setdefault(clean.label, []).append(image)
    for label in sorted(members):
        images = members[label]
        yield {
            "class": names[label] if label < len(names) else str(label),
            "total": len(images),
            "clean_accuracy": proportion(sum(evaluated[i].correct for i in images), len(images)),
            "worst_case": [
                {"norm": norm, "eps": eps} | _share_of(images, found)
                for (norm, eps), found in robust.items()
            ],
        }


def _share_of(images: Sequence[str], robust: Robust) -> dict[str, Any]:
    standing = sum(image in robust.standing for image in images)
    judged = sum(image in robust.judged for image in images)
    return {
        "robust_accuracy": proportion(standing, judged),
        "ci95": wilson(standing, judged),
        "total": judged,
    }


def _predictions(
    ledger: Ledger, phases: Sequence[Phase], norm: str, eps: float, judged: Collection[str]
) -> dict[str, int | None]:
    """What the model takes each image for in the worst case at a budget.

    That is its answer to the first attack, in their order, that broke the image; of an image that
    none broke the answer unperturbed, or None where one of them ended in an error.
    """
    found: dict[str, int | None] = {}
    failed: set[str] = set()
    for phase, answers in answers_at(ledger, phases, norm, eps):
        for image, answer in answers.items():
            if answer.error:
                failed.add(image)
            elif answer.broken_at(eps, minimum=phase.minimum) and ledger.clean[image].attacked:
                found.setdefault(image, answer.prediction)
    unbroken = {i: None if i in failed else ledger.clean[i].prediction for i in judged}
    return unbroken | {image: p for image, p in found.items() if image in unbroken}


def _confusion(
    norm: str | None,
    eps: float | None,
    evaluated: Mapping[str, Clean],
    predictions: Mapping[str, int | None],
) -> dict[str, Any]:
    """`counts`: [label, prediction, images] of every pair that there is; prediction None: none."""
    pairs = Counter((evaluated[image].label, found) for image, found in predictions.items())
    ordered = sorted(pairs.items(), key=lambda item: [-1 if i is None else i for i in item[0]])
    return {"norm": norm, "eps": eps, "counts": [[*pair, count] for pair, count in ordered]}


def missing(ledger: Ledger, phases: Sequence[Phase]) -> int:
    """Answers still to be given before the figures are those of a finished run."""
    count = 0
    for phase in phases:
        for eps in phase.rows:
            answered = ledger.of(phase, eps).keys() | ledger.before(phases, phase, eps)
            count += sum(
                clean.attacked and phase.judges(clean.sha256) and image not in answered
                for image, clean in ledger.evaluated()
            )
    return count
