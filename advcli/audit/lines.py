"""The journal's lines: one shape for clean images, one for attacks."""

from __future__ import annotations

from typing import Any

from advcli.audit.plan import Phase
from advcli.engine.jobs import Outcome
from advcli.images.stream import LoadedImage

__all__ = ["Line", "blank_line", "clean_line", "failed_line", "outcome_line"]

Line = dict[str, Any]


def clean_line(
    image: LoadedImage, label: int | None, prediction: int | None, error: str | None
) -> Line:
    """An unperturbed image; `sha256` is null where the file could not be read."""
    return {
        "image": image.ref.path,
        "attack": "clean",
        "sha256": image.sha256,
        "label": label,
        "clean_prediction": prediction,
        "error": error,
    }


def outcome_line(phase: Phase, outcome: Outcome) -> Line:
    """What became of an image; `file` and its hash are filled in where one is written."""
    return _line(phase, outcome.key, outcome.eps) | {
        "success": outcome.success,
        "adversarial_prediction": outcome.prediction,
        "distance": outcome.distance,
        "forwards": outcome.forwards,
        "gradients": outcome.gradients,
        "steps": outcome.steps,
        "seed": outcome.seed,
        "stalled": outcome.stalled,
        "nonfinite": outcome.nonfinite,
    }


def failed_line(phase: Phase, image: str, eps: float | None, seed: int, reason: str) -> Line:
    """An image whose attack ended in an error."""
    return _line(phase, image, eps) | {"seed": seed, "error": reason}


def _line(phase: Phase, image: str, eps: float | None) -> Line:
    return blank_line(image, phase.spec, phase.norm, eps)


def blank_line(image: str, attack: str, norm: str | None, eps: float | None) -> Line:
    """What every line of a threat has, before anything is known of the image."""
    return {
        "image": image,
        "attack": attack,
        "norm": norm,
        "eps": eps,
        "success": False,
        "adversarial_prediction": None,
        "distance": None,
        "forwards": 0,
        "gradients": 0,
        "steps": 0,
        "seed": 0,
        "file": None,
        "file_sha256": None,
        "error": None,
        "stalled": 0,
        "nonfinite": False,
    }
