"""What each attack costs per image: measured on the sample digits, for `advcli attacks NAME`.

    python -m tests.benchmarks.costs                  # every attack that is not measured yet
    python -m tests.benchmarks.costs pgd fgsm         # these, anew

Writes `advcli/attacks/costs.json`: per attack, norm and model the forwards and gradients per
attacked image, and for a budget the share of images fooled there, at the default options. Counts
of calls do not depend on the machine, but for images at a kink of the network.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILE = ROOT / "advcli" / "attacks" / "costs.json"
SAMPLES = "sample_models/digits"
MODELS = {"plain": f"{SAMPLES}/cnn.h5", "robust": f"{SAMPLES}/robust.h5"}
EPS = {"linf": 0.15, "l2": 1.5, "l1": 10.0, "l0": 10.0}
IMAGES = 10


class _Quiet:
    def begin(self, title: str, total: int) -> None:
        print(f"{title}: {total} images", file=sys.stderr)

    def advance(self, done: float, standing: int | None) -> None:
        pass

    def end(self) -> None:
        pass

    def note(self, text: str) -> None:
        pass


def measure(name: str, norm: str, label: str) -> dict[str, Any]:
    """Forwards, gradients and share fooled of an attack, per attacked image, on a model."""
    from advcli.audit.plan import AuditConfig
    from advcli.audit.run import execute

    config = AuditConfig(
        command="evaluate",
        model=str(ROOT / MODELS[label]),
        images=str(ROOT / SAMPLES / "images"),
        attacks=(name,),
        norm=norm,
        eps=(EPS[norm],),
        preprocess="unit",
        limit=IMAGES,
    )
    (row,) = execute(config, _Quiet()).summary["attacks"]
    return {
        "forwards": round(row["forwards_per_image"], 1),
        "gradients": round(row["gradients_per_image"], 1),
        "fooled": round(row["success_rate"], 3),
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
                if cls.kind != "budget":
                    entry[label]["fooled"] = None
            _store(known)


def _store(known: dict[str, Any]) -> None:
    ordered = {name: known[name] for name in sorted(known)}
    stored = {"models": MODELS, "images": IMAGES, "attacks": ordered}
    FILE.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
