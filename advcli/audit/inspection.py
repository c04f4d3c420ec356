"""What `advcli inspect` says: the file, its safety, its ends, and the preprocessing it wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from advcli.audit.plan import AuditConfig
from advcli.audit.setup import doubt, sample_of
from advcli.images.folder import ImageFolder, check_classes, open_folder
from advcli.models.header import read_header
from advcli.models.safety import scan

__all__ = ["inspect_model", "open_images"]


def open_images(config: AuditConfig) -> ImageFolder:
    """The folder of images, no pixels read."""
    return open_folder(
        Path(config.images),
        classes=Path(config.classes) if config.classes else None,
        labels=Path(config.labels) if config.labels else None,
    )


def inspect_model(config: AuditConfig, *, with_images: bool) -> dict[str, Any]:
    """Header, safety, input, head; with images also what speaks for each preprocessing.

    Raises ModelError for a file that is unsafe or cannot be loaded.
    """
    header = read_header(config.model)
    runs = scan(header, allow_unsafe=config.allow_unsafe_model)
    folder = open_images(config) if with_images else None

    from advcli.models import loader, runtime

    runtime.prepare(config.device)
    loaded = loader.load(config.model, output=config.output, allow_unsafe=config.allow_unsafe_model)
    facts: dict[str, Any] = {
        "model": {
            "path": str(header.path),
            "sha256": header.sha256,
            "format": header.kind,
            "keras_version": header.keras_version,
            "backend": header.backend,
            "optimizer_steps": header.iterations,
            "loss": header.loss,
            "parameters": sum(_size(shape) for shape in header.weight_shapes.values()),
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
    if folder is not None:
        facts["images"] = _with_images(config, loaded, folder)
    return facts


def _with_images(config: AuditConfig, loaded: Any, folder: ImageFolder) -> dict[str, Any]:
    from advcli.models import auto

    check_classes(folder, loaded.head.class_count)
    sample = sample_of(config, folder, loaded.image.shape, limited=True)
    choice = auto.choose_preprocessing(loaded, sample.pixels, sample.labels)
    return {
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
                    "ci95": candidate.ci95,
                    "batchnorm_kl": candidate.batchnorm_kl,
                    "excluded_because": candidate.excluded_because,
                }
                for candidate in choice.candidates
            ],
        },
    }


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
