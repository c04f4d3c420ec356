"""`--soundness full`: does anything break what the run left standing?

For each norm a sample of images that withstood everything at its largest budget is attacked once
more, by what would succeed if the run's attacks were too weak or blind: twice the steps, the
largest budget there is, no gradient, a loss that large logits cannot blind, values between the
8-bit levels. The sample is small enough that all of it takes about a tenth of the run's own model
calls, but never fewer than 16 images; it is the same for any order, batch or resume point.

Sources: Carlini et al., 1902.06705, section 4; pralab/IndicatorsOfAttackFailure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from advcli.attacks.base import Attack
from advcli.attacks.registry import parse_spec
from advcli.audit.ledger import Ledger
from advcli.audit.meter import Watcher
from advcli.audit.plan import Phase, budgets
from advcli.audit.summary import robust_set
from advcli.engine.jobs import Subject
from advcli.engine.run import Engine
from advcli.images.stream import ImageStream
from advcli.threats.budget import Norm, format_eps
from advcli.threats.grid import Pixels
from advcli.threats.space import Space

__all__ = ["planned", "probe"]

_SHARE = 0.1  # of the run's model calls
_LEAST, _MOST = 16, 64  # images
_QUERIES = 1000
_NO_GRADIENT: dict[Norm, str] = {
    "linf": f"square:steps={_QUERIES}",
    "l2": f"square:steps={_QUERIES}",
    "l1": f"square:steps={_QUERIES}",
    "l0": f"sparse-rs:steps={_QUERIES}",
}


class _Probe(NamedTuple):
    """`attack` at `eps`; `expected`: whether it should fool every image, or none."""

    check: str
    attack: Attack
    eps: float
    what: str
    advice: str
    pixels: Pixels
    expected: bool = False


def probe(
    engine: Engine,
    stream: ImageStream,
    ledger: Ledger,
    phases: Sequence[Phase],
    watcher: Watcher,
) -> list[dict[str, Any]]:
    """What came of each norm's and kind of probe, for `probed.judged`."""
    plans = []
    for norm, asked, own in _norms(phases):
        standing = {eps: robust_set(ledger, phases, norm, eps).standing for eps in asked}
        eps = max((eps for eps in asked if standing[eps]), default=None)
        if eps is None:
            continue  # everything was broken: the figure cannot be too high
        probes = list(_probes(own, norm, eps, engine))
        size = _size(*_measured(probes, norm, ledger, own, engine))
        images = sorted(standing[eps], key=lambda image: str(ledger.clean[image].sha256))[:size]
        plans.append((norm, eps, probes, images))
    found = []
    watcher.begin("soundness", sum(len(images) * len(probes) for _, _, probes, images in plans))
    done = 0
    for norm, eps, probes, images in plans:
        subjects = list(_subjects(stream, ledger, images))
        for asked_by in probes:
            fooled = _fooled(engine, asked_by, norm, subjects)
            found.append(_counts(asked_by, fooled, len(subjects), norm, eps))
            done += len(subjects)
            watcher.advance(done, None)
    watcher.end()
    return found


def _norms(phases: Sequence[Phase]) -> Iterator[tuple[Norm, list[float], list[Phase]]]:
    """(norm, its budgets from the smallest, its attacks) of those that search for each image."""
    searches = [phase for phase in phases if isinstance(phase.attack, Attack)]
    for norm in dict.fromkeys(norm for norm, _ in budgets(searches)):
        asked = sorted(eps for other, eps in budgets(searches) if other == norm)
        yield norm, asked, [phase for phase in searches if phase.norm == norm]


def _probes(own: Sequence[Phase], norm: Norm, eps: float, engine: Engine) -> Iterator[_Probe]:
    """What speaks for itself in this norm, the run's own last attack with a gradient first."""
    space = Space(norm, engine.classifier.input_shape)
    followers = [phase.attack for phase in own if phase.attack.access == "gradient"]
    last = followers[-1] if followers else None
    if isinstance(last, Attack):
        steps = getattr(last, "steps", None)
        if steps is not None:
            longer = last.model_copy(update={"steps": 2 * steps})
            yield _Probe(
                "more steps",
                longer,
                eps,
                f"{longer.spec} in place of steps={steps}",
                f"the figure is too high: -a {longer.spec}, or --preset autoattack",
                engine.pixels,
            )
        widest = _diameter(norm, engine.classifier.input_shape)
        yield _Probe(
            "largest budget",
            last,
            widest,
            f"{last.spec} at {norm} {format_eps(widest)}, where any image may become any other,",
            "the attack does not work on this model: try -a square, or another loss",
            engine.pixels,
            expected=True,
        )
    if _NO_GRADIENT[norm]:
        blind = _attack(_NO_GRADIENT[norm], norm)
        yield _Probe(
            "no gradient",
            blind,
            eps,
            blind.spec,
            f"gradients are masked: -a {blind.spec.partition(':')[0]} -a hopskipjump",
            engine.pixels,
        )
    entropy_alone = followers and all(getattr(f, "loss", None) == "ce" for f in followers)
    if entropy_alone and norm != "l0":
        scaled = _attack("apgd:loss=dlr", norm)
        yield _Probe(
            "scale-free loss",
            scaled,
            eps,
            scaled.spec,
            f"cross-entropy misses them: -a {scaled.spec}, or --preset audit",
            engine.pixels,
        )
    if isinstance(last, Attack) and engine.pixels == "uint8" and space.norm != "l0":
        yield _Probe("8-bit grid", last, eps, f"{last.spec} without the 8-bit grid", "", "float")


def _attack(spec: str, norm: Norm) -> Attack:
    attack = parse_spec(spec, norm).attack
    if not isinstance(attack, Attack):
        raise TypeError(spec)
    return attack


def _diameter(norm: Norm, shape: tuple[int, int, int]) -> float:
    """The distance between black and white."""
    height, width, channels = shape
    values = height * width * channels
    return {
        "linf": 1.0,
        "l2": math.sqrt(values),
        "l1": float(values),
        "l0": float(height * width),
    }[norm]


def planned(
    phases: Sequence[Phase], images: int, engine: Engine
) -> Iterator[tuple[Norm, float, int, tuple[int, int]]]:
    """(norm, eps, images, (forwards, gradients)) at most, where a run has so many images.

    What the run's own attacks will cost per image is not known yet: the probes that are none of
    them bound the sample.
    """
    for norm, budget, own in _norms(phases):
        space = Space(norm, engine.classifier.input_shape)
        probes = list(_probes(own, norm, budget[-1], engine))
        names = {phase.attack.name for phase in own}
        others = [p.attack.cost(space) for p in probes if p.attack.name not in names]
        asked = [(images * len(phase.questions), phase.attack.cost(space)) for phase in own]
        spent = sum(questions * _weight(*cost) for questions, cost in asked)
        size = min(images, _size(sum(_weight(*cost) for cost in others), spent))
        costs = [asked_by.attack.cost(space) for asked_by in probes]
        forwards, gradients = (size * sum(calls) for calls in zip(*costs, strict=True))
        yield norm, budget[-1], size, (forwards, gradients)


def _weight(forwards: float, gradients: float) -> float:
    """The way back costs twice the way there."""
    return forwards + 2 * gradients


def _size(each: float, spent: float) -> int:
    """Images for which the probes, at `each`, take a tenth of what the run in this norm has."""
    return max(_LEAST, min(_MOST, round(_SHARE * spent / max(1.0, each))))


def _measured(
    probes: Sequence[_Probe], norm: Norm, ledger: Ledger, own: Sequence[Phase], engine: Engine
) -> tuple[float, float]:
    """(what the probes of an image will cost, what the run's own attacks did cost): of those it
    is known per image."""
    space = Space(norm, engine.classifier.input_shape)
    spent, each = 0.0, 0.0
    measured: dict[str, float] = {}
    for phase in own:
        for eps in phase.questions:
            forwards, gradients, images = ledger.calls(phase, eps)
            spent += _weight(forwards, gradients)
            measured[phase.attack.name] = _weight(forwards, gradients) / max(1, images)
    for asked_by in probes:
        once = measured.get(asked_by.attack.name, _weight(*asked_by.attack.cost(space)))
        each += 2 * once if asked_by.check == "more steps" else once
    return each, spent


def _subjects(stream: ImageStream, ledger: Ledger, images: Sequence[str]) -> Iterator[Subject]:
    for image in stream.subset(images):
        clean = ledger.clean[image.ref.path]
        if image.pixels is not None and clean.sha256 is not None and clean.label is not None:
            yield Subject(image.ref.path, image.pixels, clean.label, clean.sha256)


def _fooled(engine: Engine, asked_by: _Probe, norm: Norm, subjects: Sequence[Subject]) -> int:
    if engine.pixels != asked_by.pixels:
        engine = Engine(
            engine.classifier,
            batch_size=engine.batch_size,
            pixels=asked_by.pixels,
            seed=engine.seed,
            lanes=engine.lanes,
        )
    minimum = asked_by.attack.kind == "minimum-norm"
    budget = () if minimum else (asked_by.eps,)
    asked = (replace(subject, eps=budget) for subject in subjects)
    return sum(
        outcome.success and outcome.distance[norm] <= asked_by.eps * (1 + 1e-6)
        for outcome in engine.run(asked_by.attack, norm, asked)
    )


def _counts(asked_by: _Probe, fooled: int, total: int, norm: Norm, eps: float) -> dict[str, Any]:
    return {
        "check": asked_by.check,
        "norm": norm,
        "eps": eps,
        "what": asked_by.what,
        "advice": asked_by.advice,
        "expected": asked_by.expected,
        "wrong": total - fooled if asked_by.expected else fooled,
        "total": total,
    }
