"""What each attack costs per image: measured on the sample digits, for `advcli attacks NAME`.

    python -m tests.benchmarks.costs                  # every attack that is not measured yet
    python -m tests.benchmarks.costs pgd fgsm         # these, anew

Writes `advcli/attacks/costs.json`: per attack, norm and model the forwards and gradients per
attacked image, and for a budget the share of images fooled there, at the default options. Counts
of calls do not depend on the machine, but for images at a kink of the network.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from advcli.engine.run import Engine

ROOT = Path(__file__).parents[2]
FILE = ROOT / "advcli" / "attacks" / "costs.json"
SAMPLES = "sample_models/digits"
MODELS = {"plain": f"{SAMPLES}/cnn.h5", "robust": f"{SAMPLES}/robust.h5"}
EPS = {"linf": 0.15, "l2": 1.5, "l1": 10.0, "l0": 10.0}
IMAGES = 10


@cache
def engine(label: str) -> Engine:
    """One a model, as an audit would have it."""
    from advcli.engine.run import Engine, auto_batch_size
    from advcli.models import classifier, loader, preprocessing, runtime

    runtime.prepare("cpu")
    model = classifier.build(loader.load(ROOT / MODELS[label]), preprocessing.parse("unit", 1))
    return Engine(model, batch_size=auto_batch_size(model.input_shape), pixels="uint8", seed=0)


@cache
def chosen() -> list[tuple[Path, np.ndarray, int]]:
    """Images that both models get right: file, uint8 [H, W, C], label."""
    from advcli.images.writer import read_back

    known = []
    for file in sorted((ROOT / SAMPLES / "images").glob("*/*.png"))[::17]:
        pixels, label = read_back(file).reshape(28, 28, 1), int(file.parent.name)
        if all(engine(m).predict(pixels[None]).prediction[0] == label for m in MODELS):
            known.append((file, pixels, label))
    return known[:IMAGES]


def measure(name: str, norm: str, label: str) -> dict[str, Any]:
    """Forwards, gradients and share fooled of an attack, per attacked image, on a model."""
    from advcli.attacks.registry import attack_class, parse_spec
    from advcli.engine.jobs import Subject

    eps = (EPS[norm],) if attack_class(name).kind == "budget" else ()
    subjects = [
        Subject(file.name, pixels, label, hashlib.sha256(pixels).hexdigest(), eps)
        for file, pixels, label in chosen()
    ]
    outcomes = list(engine(label).run(parse_spec(name, norm).attack, norm, subjects))
    return {
        "forwards": round(fmean(o.forwards for o in outcomes), 1),
        "gradients": round(fmean(o.gradients for o in outcomes), 1),
        "fooled": round(fmean(o.success for o in outcomes), 3) if eps else None,
    }


def main(asked: Sequence[str]) -> None:
    """Measures and stores; what is known after each attack in a norm is on disk."""
    from advcli.attacks.registry import NAMES, attack_class

    stored = json.loads(FILE.read_text()) if FILE.exists() else {"attacks": {}}
    known = {name: found for name, found in stored["attacks"].items() if name in NAMES}
    for name in asked or NAMES:
        cls = attack_class(name)
        for norm in cls.norms:
            entry = known.setdefault(name, {}).setdefault(norm, {})
            if entry and not asked:
                continue
            entry["eps"] = EPS[norm] if cls.kind == "budget" else None
            for label in MODELS:
                entry[label] = measure(name, norm, label)
                print(name, norm, label, entry[label], file=sys.stderr, flush=True)
            _store(known)


def _store(known: dict[str, Any]) -> None:
    ordered = {name: known[name] for name in sorted(known)}
    stored = {"models": MODELS, "images": IMAGES, "attacks": ordered}
    FILE.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
