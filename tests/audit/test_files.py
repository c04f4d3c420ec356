"""What the table says, the files show: every attack, its PNGs read by plain Pillow and Keras."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from advcli.attacks.base import Attack
from advcli.attacks.registry import NAMES, attack_class
from advcli.audit.journal import read_lines
from advcli.audit.plan import AuditConfig
from advcli.audit.run import execute
from tests.attacks.expectations import EXPECTED

from .support import SAMPLES, Watcher

EPS = {"linf": (0.1, 0.2), "l2": (1.0, 2.5), "l1": (8.0, 20.0), "l0": (8.0, 30.0)}
SEARCHES = [name for name in NAMES if issubclass(attack_class(name), Attack)]
SHARE = 7  # attacks in one run: a model is opened once for all of them


def groups() -> list[tuple[str, tuple[str, ...]]]:
    """(norm, attacks in the first norm that each of them has)."""
    per_norm: dict[str, list[str]] = {}
    for name in SEARCHES:
        per_norm.setdefault(attack_class(name).norms[0], []).append(name)
    return [
        (norm, tuple(names[start : start + SHARE]))
        for norm, names in per_norm.items()
        for start in range(0, len(names), SHARE)
    ]


@pytest.mark.parametrize(("norm", "names"), groups())
def test_success_in_files_is_success_in_the_table(
    norm: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    import keras

    specs = tuple(EXPECTED[name].tiny or EXPECTED[name].fast or name for name in names)
    config = AuditConfig(
        command="attack",
        model=str(SAMPLES / "cnn.h5"),
        images=str(SAMPLES / "images"),
        attacks=specs,
        norm=norm,
        eps=EPS[norm],
        preprocess="unit",
        limit=6,
        batch_size=8,
    )
    summary = execute(config, Watcher(), out=tmp_path / "run").summary
    lines = list(read_lines(tmp_path / "run/results.jsonl"))
    labels = {line["image"]: line["label"] for line in lines if line["attack"] == "clean"}
    attacked = [line for line in lines if line["attack"] != "clean"]
    points = np.stack([pixels(tmp_path / "run" / line["file"]) for line in attacked])
    model = keras.models.load_model(SAMPLES / "cnn.h5", compile=False)
    predictions = model.predict(points / np.float32(255), verbose=0).argmax(axis=1)
    broken: Counter[tuple[str, float]] = Counter()
    for line, point, prediction in zip(attacked, points, predictions, strict=True):
        origin = pixels(tmp_path / f"run/images/clean/{line['image']}.png")
        fooled = prediction != labels[line["image"]]
        assert fooled == line["success"], line
        assert prediction == line["adversarial_prediction"]
        away = distance(point, origin, norm)
        assert away == pytest.approx(line["distance"][norm])
        for eps in EPS[norm] if line["eps"] is None else (line["eps"],):
            inside = away <= eps * (1 + 1e-6)
            assert inside or line["eps"] is None
            broken[line["attack"], eps] += fooled and inside
    assert len(summary["attacks"]) == len(names) * 2
    for row in summary["attacks"]:
        found = broken[row["attack"], row["eps"]]
        assert row["broken"] == found
        assert row["robust"] == row["attempted"] - found
        assert row["success_rate"] == found / row["attempted"]
        assert row["robust_accuracy"] == row["robust"] / row["total"]
    assert sum(broken.values()) > 0


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        assert image.mode == "L"
        return np.asarray(image)[..., None]


def distance(a: Any, b: Any, norm: str) -> float:
    delta = np.abs(a.astype(np.float64) - b) / 255
    if norm == "l0":
        return float(np.count_nonzero(delta.any(axis=-1)))
    return float({"linf": delta.max(), "l2": np.sqrt((delta**2).sum()), "l1": delta.sum()}[norm])
