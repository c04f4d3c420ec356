"""What `advcli inspect` says: the file, its safety, its ends, and the preprocessing it wants."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from advcli.audit.plan import AuditConfig
from advcli.audit.setup import (
    doubt,
    open_images,
    open_model,
    sample_of,
    scanned,
    stated_preprocessing,
)
from advcli.errors import UsageError
from advcli.images.folder import ImageFolder, check_classes
from advcli.models.sidecar import write_sidecar

if TYPE_CHECKING:
    from advcli.models.auto import PreprocessingChoice
    from advcli.models.loader import LoadedModel
    from advcli.models.preprocessing import Preprocessing

__all__ = ["inspect_model"]


def inspect_model(
    config: AuditConfig, *, with_images: bool, save_preprocess: bool = False
) -> dict[str, Any]:
    """Header, safety, input, head; with images also what speaks for each preprocessing.

    `save_preprocess` writes the one that was stated, or found, to the file beside the model.

    Raises ModelError for a file that is unsafe or cannot be loaded, UsageError where there is no
    one preprocessing to save.
    """
    if save_preprocess and not with_images and config.preprocess == "auto":
        raise UsageError(
            "--save-preprocess: there is nothing to choose by",
            "give IMAGES, or say it: --preprocess raw --save-preprocess",
        )
    header, runs = scanned(config, config.model)
    folder = open_images(config) if with_images else None

    from advcli.models import runtime

    runtime.prepare(config.device)
    loaded = open_model(config)
    facts: dict[str, Any] = {
        "model": {
            "path": str(header.path),
            "sha256": header.sha256,
            "format": header.kind,
            "keras_version": header.keras_version,
            "backend": header.backend,
            "optimizer_steps": header.iterations,
            "loss": header.loss,
            "parameters": sum(math.prod(shape) for shape in header.weight_shapes.values()),
            "layers": len(loaded.model.layers),
        },
        "safety": {"runs_code": list(runs)},
        "rules": list(loaded.rules),
        "input": {"shape": list(loaded.image.shape), "layout": loaded.image.layout},
        "head": {
            "ending": loaded.head.ending,
            "output": loaded.head.name,
            "classes": loaded.head.class_count,
        },
    }
    stated = None
    if config.preprocess != "auto" or not save_preprocess:  # what is replaced need not be right
        stated = stated_preprocessing(loaded, config.preprocess)
    if stated is not None:
        facts["stated"] = {"flag": stated.flag, "by": stated.evidence}
    if folder is not None:
        choice, facts["images"] = _with_images(config, loaded, folder)
        if stated is None:
            stated = _settled(choice) if save_preprocess else None
    if save_preprocess and stated is not None:
        facts["saved"] = str(write_sidecar(loaded.header, stated))
    return facts


def _settled(choice: PreprocessingChoice) -> Preprocessing:
    if choice.suspect or choice.at_chance:
        left = [c.preprocessing.flag for c in choice.candidates if not c.excluded_because]
        raise UsageError(
            "--save-preprocess: "
            + (f"the images leave several: {'; '.join(left)}" if choice.suspect
               else "with none is the model better than guessing"),
            "say which its training code used: --preprocess NAME --save-preprocess",
        )  # fmt: skip
    return choice.preprocessing


def _with_images(
    config: AuditConfig, loaded: LoadedModel, folder: ImageFolder
) -> tuple[PreprocessingChoice, dict[str, Any]]:
    from advcli.models import auto

    check_classes(folder, loaded.head.class_count)
    sample = sample_of(config, folder, loaded.image.shape, limited=True)
    choice = auto.choose_preprocessing(loaded, sample.pixels, sample.labels)
    return choice, {
        "root": str(folder.root),
        "count": len(folder.refs),
        "labels": folder.label_source,
        "classes": list(folder.class_names),
        "skipped": [{"file": entry.file, "reason": entry.reason} for entry in folder.skipped],
        "notes": list(folder.notes),
        "sampled": len(sample.pixels),
        "preprocessing": {
            "flag": choice.preprocessing.flag,
            "name": choice.preprocessing.name,
            "reason": choice.reason,
            "suspect": choice.suspect,
            "at_chance": choice.at_chance,
            "doubt": doubt(choice) if choice.suspect else None,
            "candidates": [
                {
                    "name": candidate.preprocessing.name,
                    "flag": candidate.preprocessing.flag,
                    "accuracy": candidate.accuracy,
                    "images": candidate.images,
                    "ci95": candidate.ci95,
                    "batchnorm_kl": candidate.batchnorm_kl,
                    "excluded_because": candidate.excluded_because,
                }
                for candidate in choice.candidates
            ],
        },
    }
