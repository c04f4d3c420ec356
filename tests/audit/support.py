"""Journals and runs made by hand, and a run of the real thing that tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from advcli.audit.directory import RunDirectory
from advcli.audit.ledger import Ledger
from advcli.audit.plan import AuditConfig, Phase
from advcli.audit.summary import summarise

SAMPLES = Path(__file__).parents[2] / "sample_models" / "digits"


def clean(image: str, label: int | None, prediction: int | None, **more: Any) -> dict[str, Any]:
    line = {
        "image": image,
        "attack": "clean",
        "sha256": f"hash of {image}",
        "label": label,
        "clean_prediction": prediction,
        "error": None,
    }
    return line | more


def answer(
    image: str,
    prediction: int | None,
    *,
    success: bool,
    attack: str = "pgd",
    norm: str = "linf",
    eps: float | None = 0.1,
    distance: float | None = 0.1,
    **more: Any,
) -> dict[str, Any]:
    line = {
        "image": image,
        "attack": attack,
        "norm": norm,
        "eps": eps,
        "success": success,
        "adversarial_prediction": prediction,
        "distance": None
        if distance is None
        else dict.fromkeys(("linf", "l2", "l1", "l0"), distance),
        "forwards": 3,
        "gradients": 2,
        "steps": 2,
        "seed": 0,
        "file": None,
        "error": None,
        "stalled": 0,
        "nonfinite": False,
    }
    return line | more


def phase(
    spec: str = "pgd", norm: str = "linf", eps: tuple[float, ...] = (0.1,), **more: Any
) -> Any:
    stored = {"attack": spec, "norm": norm, "eps": list(eps), "cascade": False} | more
    return Phase.from_dict(stored)


def run_of(phases: list[Any], classes: int = 3, **config: Any) -> dict[str, Any]:
    """A run.json with these phases."""
    settings = AuditConfig(command="evaluate", model="m.h5", images="i", **config)
    return {
        "config": settings.model_dump(mode="json"),
        "identity": {},
        "model": {
            "path": "m.h5",
            "sha256": "ab" * 32,
            "classes": [f"c{i}" for i in range(classes)],
            "preprocessing": {"flag": "unit"},
        },
        "images": {
            "root": "i",
            "count": 0,
            "labels": "folder",
            "skipped": [],
            "resized": None,
            "selected": None,
            "complete": True,
        },
        "phases": [p.as_dict() for p in phases],
        "findings": [],
        "engine": {"device": "cpu", "compiled": "graph", "batch_size": 8},
        "timings": {},
        "provenance": {},
    }


def summary_of(
    lines: list[dict[str, Any]], phases: list[Any], selected: list[str] | None = None, **config: Any
) -> dict[str, Any]:
    run = run_of(phases, **config)
    run["images"]["selected"] = selected
    return summarise(run, Ledger.read(lines))


def finished(
    root: Path,
    lines: list[dict[str, Any]],
    phases: list[Any],
    *,
    identity: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """A run directory as a finished run leaves it, of lines that were made by hand."""
    made = run_of(phases, **config)
    made["model"] |= {"input_shape": [8, 8, 1]}
    made["identity"] = {
        "classes": made["model"]["classes"],
        "labels": "folder",
        "preprocess": [1.0, [0.0], [1.0], "rgb"],
        "pixels": "uint8",
        "resize": "stretch",
        "resample": "bilinear",
        "exif": "apply",
        "targeted": config.get("targeted"),
        "surrogate": None,
        "surrogate_preprocess": None,
    } | (identity or {})
    made["images"]["labels"] = made["identity"]["labels"]
    made["provenance"] = {"advcli": "0.1.0", "finished": "2026-01-01T00:00:00+00:00"}
    made |= run or {}
    directory = RunDirectory(root)
    root.mkdir(parents=True)
    directory.write_run(made)
    with directory.journal() as journal:
        for line in lines:
            journal.append(line)
    directory.write_summary(summarise(made, directory.ledger()))
    return root


class Watcher:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.steps: list[tuple[int, int | None]] = []
        self.notes: list[str] = []

    def begin(self, title: str, total: int) -> None:
        self.titles.append(title)

    def advance(self, done: int, standing: int | None) -> None:
        self.steps.append((done, standing))

    def end(self) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)
