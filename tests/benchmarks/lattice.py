"""What the 8-bit grid costs minimum-norm attacks: found on it, or rounded to it afterwards.

    python -m tests.benchmarks.lattice --model digits/cnn signs/cnn --images 64 --out lattice.md

Every attack runs twice on the same images: in floating point, and as shipped, where every point
that it asks about is one that a file can hold. The first run's images are then rounded plainly, to
the nearest level. Per attack: the median distance in floating point; for plain rounding and for
advcli the share of the float run's successes that are still successes as files, and the median
distance over that of the float run. An image that is no success counts as infinitely far.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = Path(__file__).parents[2] / "sample_models"
HEADER = (
    "attack",
    "norm",
    "float median",
    "plain: survive",
    "× median",
    "advcli: survive",
    "× median",
)


@dataclass(frozen=True)
class Line:
    """One attack in one norm: distances per image, inf where there was no success."""

    name: str
    norm: str
    exact: np.ndarray  # in floating point
    plain: np.ndarray  # of those images, rounded to the nearest level
    ours: np.ndarray  # found on the grid

    @staticmethod
    def survival(files: np.ndarray, exact: np.ndarray) -> float:
        """The share of the float successes that are successes as files."""
        found = np.isfinite(exact)
        return float(np.isfinite(files[found]).mean()) if found.any() else 0.0

    def cells(self) -> list[str]:
        middle = float(np.median(self.exact))
        return [
            self.name,
            self.norm,
            f"{middle:.5g}",
            *(
                cell
                for files in (self.plain, self.ours)
                for cell in (
                    f"{self.survival(files, self.exact):.1%}",
                    f"{np.median(files) / middle:.4f}",
                )
            ),
        ]


def measure(model: Any, pixels: np.ndarray, labels: np.ndarray, spec: str, norm: str) -> Line:
    """`model` is what the engine takes; pixels uint8 [N, H, W, C], all classified as `labels`."""
    from advcli.attacks.registry import parse_spec
    from advcli.engine.jobs import Subject
    from advcli.engine.run import Engine
    from advcli.threats.space import distances

    asked = parse_spec(spec, norm)
    subjects = [
        Subject(str(i), image, int(label), hashlib.sha256(image.tobytes()).hexdigest())
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True))
    ]
    runs = {}
    for kind in ("float", "uint8"):
        engine = Engine(model, batch_size=min(64, len(pixels)), pixels=kind, seed=0)
        outcomes = engine.run(asked.attack, norm, subjects)
        runs[kind] = sorted(outcomes, key=lambda outcome: int(outcome.key))
    files = np.rint(np.stack([o.point for o in runs["float"]]) * 255).astype(np.uint8)
    wrong = model.confirm(files.astype(np.float32) / np.float32(255)).prediction != labels
    return Line(
        spec,
        norm,
        *(
            np.array([o.distance[norm] if o.success else np.inf for o in runs["float"]]),
            np.array(
                [
                    distances(file, image)[norm] if adversarial else np.inf
                    for file, image, adversarial in zip(files, pixels, wrong, strict=True)
                ]
            ),
            np.array([o.distance[norm] if o.success else np.inf for o in runs["uint8"]]),
        ),
    )


def markdown(name: str, images: int, lines: Iterable[Line]) -> str:
    """One model's table."""
    return "\n".join(
        [
            f"**{name}**, {images} images",
            "",
            "| " + " | ".join(HEADER) + " |",
            "|---|---|" + "---:|" * (len(HEADER) - 2),
            *("| " + " | ".join(line.cells()) + " |" for line in lines),
            "",
        ]
    )


def problem(name: str, count: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """(the model, pixels, labels) of images that the model classifies correctly."""
    from advcli.images.writer import read_back
    from advcli.models import classifier, loader, preprocessing

    folder = SAMPLES / name.partition("/")[0] / "images"
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = sorted(folder.glob("*/*.png"))
    loaded = loader.load(SAMPLES / f"{name}.h5")
    channels = loaded.image.shape[2]
    scaling = "raw" if name.startswith("signs") else "unit"
    model = classifier.build(loaded, preprocessing.parse(scaling, channels))
    model.jit_compile = False
    pixels = np.stack([read_back(file).reshape(loaded.image.shape) for file in files])
    labels = np.array([names.index(file.parent.name) for file in files])
    right = np.flatnonzero(model.confirm(pixels / np.float32(255)).prediction == labels)
    chosen = np.sort(np.random.default_rng(0).permutation(right)[:count])
    return model, pixels[chosen], labels[chosen]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    from advcli.attacks.registry import NAMES, attack_class
    from tests.attacks.expectations import EXPECTED

    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lattice", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    known = [name for name in NAMES if EXPECTED.get(name) and EXPECTED[name].bounds]
    add = parser.add_argument
    add("--model", nargs="+", default=["digits/cnn", "digits/robust", "signs/cnn"])
    add("--attack", nargs="+", default=known, metavar="SPEC", help="minimum-norm ones; all")
    add("--images", type=int, default=64)
    add("--out", type=Path, help="write the Markdown here too")
    options = parser.parse_args(arguments)
    text = f"`{shlex.join(['python', '-m', 'tests.benchmarks.lattice', *arguments])}`\n\n"
    for name in options.model:
        model, pixels, labels = problem(name, options.images)
        lines = []
        for spec in options.attack:
            for norm in attack_class(spec.partition(":")[0]).norms:
                print(f"{name}: {spec}, {norm}", file=sys.stderr, flush=True)
                lines.append(measure(model, pixels, labels, spec, norm))
        text += markdown(name, len(labels), lines) + "\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
