"""Pictures of a run as a page holds them: original, perturbation magnified, adversarial."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

from advcli.reports import figures
from advcli.threats.budget import format_eps

if TYPE_CHECKING:
    from advcli.audit.gallery import Picture

__all__ = ["Shot", "shots"]

_MOST = 12  # on a page, of attacks and of natural threats each
_SIDE = 160  # pixels of the longer side, as large as the page shows them; the rest is weight
_TOLERANCE = 1 + 1e-6


class Said(NamedTuple):
    """The model's answer, and how sure it was in words."""

    name: str
    sure: str


@dataclass(frozen=True)
class Shot:
    """One image under one attack. The pictures are `data:` addresses of `width` × `height`;
    `factor` is by how much the perturbation is magnified, None where nothing changed."""

    name: str
    threat: str
    outcome: str
    status: str
    label: str
    before: Said
    after: Said
    change: str
    factor: str
    clean: str
    difference: str
    adversarial: str
    width: int
    height: int


def shots(summary: dict[str, Any], gallery: Sequence[Picture]) -> list[Shot]:
    """One per image: the smallest budget that broke it, else the last attack that was tried.

    Where a run has several norms the images take turns, and so with natural threats.
    """
    found: list[Picture] = []
    for natural in (False, True):
        own = [picture for picture in gallery if ("kind" in picture.facts) == natural]
        images = list(dict.fromkeys(picture.facts["image"] for picture in own))
        group = "attack" if natural else "norm"
        for turn, image in enumerate(images[:_MOST]):
            mine = [picture for picture in own if picture.facts["image"] == image]
            groups = list(dict.fromkeys(picture.facts[group] for picture in mine))
            turned = groups[turn % len(groups) :] + groups[: turn % len(groups)]
            telling = [_telling([p for p in mine if p.facts[group] == g]) for g in turned]
            # what broke it within a budget says more than what lies beyond all of them
            told = [picture for picture in telling if not _beyond(picture.facts, summary)]
            found.append((told or telling)[0])
    return [_shot(picture, summary) for picture in found]


def _telling(pictures: Sequence[Picture]) -> Picture:
    """The one that says most; `pictures` are of one image and norm, in the order of the attacks."""
    broken = [picture for picture in pictures if picture.facts["success"]]
    # a search without a budget stands at the distance that it found
    sizes = [p.facts["eps"] or _distance(p.facts) or math.inf for p in broken]
    return broken[sizes.index(min(sizes))] if broken else pictures[-1]


def _distance(facts: dict[str, Any]) -> float | None:
    measured = facts["distance"]
    norm = facts["norm"] or "linf"
    found: float | None = None if measured is None else measured[norm]
    return found


def _shot(picture: Picture, summary: dict[str, Any]) -> Shot:
    facts, names = picture.facts, summary["model"]["classes"]
    adversarial, label = facts["adversarial_prediction"], facts["label"]
    height, width = picture.clean.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    difference, factor = _difference(picture.clean, picture.adversarial)
    outcome, status = _outcome(facts, summary)
    return Shot(
        name=facts["image"],
        threat=_threat(facts),
        outcome=outcome,
        status=status,
        label=_name(label, names),
        before=_answer(facts["clean_prediction"], facts["clean_confidence"], names),
        after=_answer(adversarial, facts["adversarial_confidence"], names),
        change=_change(facts),
        factor="" if factor is None else f"{factor:.3g}",
        clean=_address(picture.clean, size),
        difference=_address(difference, size, Image.Resampling.NEAREST),
        adversarial=_address(picture.adversarial, size),
        width=size[0],
        height=size[1],
    )


def _threat(facts: dict[str, Any]) -> str:
    if "kind" in facts:
        name = facts["attack"].partition(":")[0]
        kind = "" if facts["kind"] == name else f" {facts['kind']}"
        severity = "" if facts["severity"] is None else f", severity {facts['severity']}"
        return f"{name}{kind}{severity}"
    at = f" {facts['norm']}" if facts["norm"] else ""
    eps = "" if facts["eps"] is None else f" {format_eps(facts['eps'])}"
    return f"{facts['attack']},{at}{eps}" if at or eps else str(facts["attack"])


def _outcome(facts: dict[str, Any], summary: dict[str, Any]) -> tuple[str, str]:
    """What became of the image, and the verdict that it is coloured as."""
    prediction = facts["adversarial_prediction"]
    lost = prediction is not None and prediction != facts["label"]
    if lost and _beyond(facts, summary):
        return "fooled, but beyond every eps", "note"
    if figures.target(summary) is not None and lost:
        return "target hit" if facts["success"] else "label lost, target missed", "fail"
    return ("fooled", "fail") if lost else ("withstood", "pass")


def _beyond(facts: dict[str, Any], summary: dict[str, Any]) -> bool:
    """Whether a smallest perturbation lies beyond every budget that was asked about."""
    rows = (row for row in summary["attacks"] if row["norm"] == facts["norm"])
    largest = max((row["eps"] for row in rows if row["eps"] is not None), default=math.inf)
    smallest = facts["norm"] is not None and facts["eps"] is None
    return smallest and (_distance(facts) or 0) > largest * _TOLERANCE


def _answer(prediction: int | None, confidence: float | None, names: Sequence[str]) -> Said:
    return Said(_name(prediction, names), figures.percent(confidence))


def _name(index: int | None, names: Sequence[str]) -> str:
    if index is None:
        return "no answer"
    return names[index] if index < len(names) else str(index)


def _change(facts: dict[str, Any]) -> str:
    """How far the two pictures are apart."""
    measured = facts["distance"]
    if measured is None:
        return ""
    norms = ("linf", "l2") if facts["norm"] in (None, "linf", "l2") else (facts["norm"], "linf")
    return ", ".join(f"{norm} {figures.distance(measured[norm], norm)}" for norm in norms)


def _difference(clean: np.ndarray, adversarial: np.ndarray) -> tuple[np.ndarray, float | None]:
    """128 + factor × change, so that the largest change fills the range; alpha is not drawn."""
    channels = min(clean.shape[2], 3)
    change = adversarial[..., :channels].astype(np.int16) - clean[..., :channels]
    largest = int(np.abs(change).max())
    if largest == 0:
        return np.full_like(clean[..., :channels], 128), None
    factor = 127 / largest
    return np.rint(128 + factor * change).astype(np.uint8), factor


def _address(
    pixels: np.ndarray,
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.BOX,
) -> str:
    """A picture as a `data:` address."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if image.size != size:
        image = image.resize(size, resample)
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    encoded = base64.b64encode(data.getvalue()).decode()
    return Markup("data:image/png;base64,") + encoded
