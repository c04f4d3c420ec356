"""The model and its figures as a CycloneDX 1.6 bill of materials (ECMA-424), with a model card.

The serial number comes from the hashes and the timestamp from the run, so that the same run gives
the same document.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from advcli.images.text import printable
from advcli.reports import figures

__all__ = ["render"]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:advcli:evidence")
_LIBRARIES = ("tensorflow", "keras", "numpy", "pillow")


def render(
    summary: Mapping[str, Any], sha256: Mapping[str, str], limitations: Sequence[str]
) -> str:
    """`sha256`: the run's files by name. `limitations`: sentences."""
    model, provenance = summary["model"], summary["provenance"]
    seen = "\n".join([model["sha256"], *(f"{name} {sha256[name]}" for name in sorted(sha256))])
    tools = [{"type": "application", "name": "advcli", "version": summary["advcli_version"]}]
    tools += [
        {"type": "library", "name": name, "version": provenance[name]}
        for name in _LIBRARIES
        if name in provenance
    ]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, seen)}",
        "version": 1,
        "metadata": {
            "timestamp": provenance["finished"],
            "tools": {"components": tools},
        },
        "components": [
            {
                "type": "machine-learning-model",
                "bom-ref": "model",
                "name": printable(PurePath(model["path"]).name),
                "hashes": [{"alg": "SHA-256", "content": model["sha256"]}],
                "modelCard": _card(summary, limitations),
                "properties": _properties(summary),
            },
            {
                "type": "data",
                "bom-ref": "images",
                "name": printable(PurePath(summary["images"]["root"]).name or "images"),
                "data": [
                    {
                        "type": "dataset",
                        "name": f"{summary['images']['evaluated']} images: see images.csv",
                    }
                ],
            },
        ],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _card(summary: Mapping[str, Any], limitations: Sequence[str]) -> dict[str, Any]:
    shape = "×".join(map(str, summary["model"]["input_shape"]))
    return {
        "modelParameters": {
            "task": "image classification",
            "datasets": [{"ref": "images"}],
            "inputs": [{"format": f"image, {shape} (height, width, channels)"}],
            "outputs": [{"format": f"scores of {len(summary['model']['classes'])} classes"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(summary))},
        "considerations": {"technicalLimitations": [printable(text) for text in limitations]},
    }


def _properties(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    facts = {
        "keras": summary["model"]["keras_version"],
        "preprocessing": summary["model"]["preprocessing"]["flag"],
        "pixels": summary["pixels"],
        "soundness": summary["soundness"]["verdict"],
        "verdict": summary["verdict"],
    }
    return [{"name": f"advcli:{key}", "value": printable(str(v))} for key, v in facts.items() if v]


def _metrics(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every figure with its slice and interval, unrounded; what is of no image is left out."""
    clean = summary["clean"]
    yield from _metric("accuracy", "unperturbed", clean["accuracy"], clean["ci95"])
    for row in summary["attacks"]:
        at = figures.budget(row["norm"], row["eps"])
        share, ci95 = row["robust_accuracy"], row["ci95"]
        yield from _metric("robust accuracy", f"{row['attack']}, {at}", share, ci95)
    for row in summary["worst_case"]:
        at = f"worst case, {figures.budget(row['norm'], row['eps'])}"
        yield from _metric("robust accuracy", at, row["robust_accuracy"], row["ci95"])
    for row in summary["natural"]:
        at = (
            row["kind"] if row["severity"] is None else f"{row['kind']}, severity {row['severity']}"
        )
        yield from _metric("accuracy", f"{row['attack']}: {at}", row["accuracy"], row["ci95"])
    for entry in summary["per_class"]:
        name = f"class {entry['class']}"
        yield from _metric("accuracy", f"{name}, unperturbed", entry["clean_accuracy"], None)
        for row in entry["worst_case"]:
            at = f"{name}, worst case, {figures.budget(row['norm'], row['eps'])}"
            yield from _metric("robust accuracy", at, row["robust_accuracy"], row.get("ci95"))


def _metric(
    kind: str, part: str, value: float | None, ci95: Sequence[float] | None
) -> Iterator[dict[str, Any]]:
    if value is None:
        return
    found: dict[str, Any] = {"type": kind, "value": str(value), "slice": printable(part)}
    if ci95 is not None:
        low, high = map(str, ci95)
        found["confidenceInterval"] = {"lowerBound": low, "upperBound": high}
    yield found
