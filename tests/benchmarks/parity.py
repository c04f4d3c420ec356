"""Parity: is each attack as strong as its reference, at as many model calls?

    python -m tests.benchmarks.parity --attack apgd --model digits/cnn --images 128 \
        --torch-python ../torch/bin/python --authors ../authors \
        --out tests/benchmarks/PARITY.md

The same .h5 file, the same images (those that the model classifies correctly), the same eps. Each
reference runs in the interpreter that has it: the peers of TensorFlow in `--tf-python`, torch's in
`--torch-python`, where Keras loads the file with its torch backend. Code that is on no package
index is looked for below `--authors`, a folder per repository with a file COMMIT inside.
One judge for both sides: Keras on TensorFlow, at the images that came back.

A budget attack holds if its robust accuracy, the mean over the seeds, is at most 0.5 points or one
image above the reference's; a minimum-norm attack if its median distance is at most 2 % above.

To add a reference: `tests/benchmarks/references/__init__.py` says how.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.references import Reference, references

SAMPLES = Path(__file__).parents[2] / "sample_models"
# where the robust accuracy is neither all nor nothing
BUDGETS: dict[tuple[str, str], float] = {
    ("digits/cnn", "linf"): 0.06,
    ("digits/cnn", "l2"): 0.8,
    ("digits/cnn", "l1"): 6.0,
    ("digits/cnn", "l0"): 5,
    ("digits/robust", "linf"): 0.15,
    ("digits/robust", "l2"): 1.5,
    ("digits/robust", "l1"): 8.0,
    ("digits/robust", "l0"): 5,
    ("signs/cnn", "linf"): 2 / 255,
    ("signs/cnn", "l2"): 0.3,
    ("signs/cnn", "l1"): 6.0,
    ("signs/cnn", "l0"): 5,
}


@dataclass
class Side:
    """What one side returned, a figure per seed."""

    robust: list[float] = field(default_factory=list)  # shares still classified correctly
    medians: list[float] = field(default_factory=list)  # of the distance; inf if most failed
    calls: list[float] = field(default_factory=list)  # per image


@dataclass
class Row:
    """One line of the table."""

    model: str
    reference: Reference
    eps: float
    most: int  # model calls that advcli's attack may take
    images: int
    ours: Side = field(default_factory=Side)
    theirs: Side = field(default_factory=Side)
    version: str = ""
    absent: str = ""

    def holds(self) -> bool:
        """Whether advcli is as strong as the reference."""
        if np.isinf(self.eps):
            return bool(np.mean(self.ours.medians) <= 1.02 * np.mean(self.theirs.medians))
        allowed = max(0.005, 1 / self.images) + 1e-9
        return bool(np.mean(self.ours.robust) <= np.mean(self.theirs.robust) + allowed)


@dataclass
class Problem:
    """Images that the model classifies correctly."""

    name: str
    path: Path
    classifier: Any
    judge: Any  # Keras, as loaded
    scale: float
    pixels: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray
    targets: np.ndarray
    starts: np.ndarray  # uint8, an image of each target class


def compare(options: argparse.Namespace, chosen: Sequence[tuple[int, Reference]]) -> list[Row]:
    """Every chosen reference beside advcli, on every model asked for."""
    rows: list[Row] = []
    for name in options.model or sorted({m for _, r in chosen for m in r.models}):
        here = [(n, r) for n, r in chosen if name in r.models or options.model]
        problem = _open(name, options.images)
        for environment in ("tf", "torch"):
            part = [(n, r) for n, r in here if r.environment == environment]
            if not part:
                continue
            made = [_ours(problem, r, options) for _, r in part]
            _theirs(problem, environment, [n for n, _ in part], made, options)
            rows += made
    return rows


def _open(name: str, count: int) -> Problem:
    import keras

    from advcli.images.writer import read_back
    from advcli.models import classifier as classifiers
    from advcli.models import loader, preprocessing
    from advcli.models.gradient import check_gradient

    family, _, model = name.partition("/")
    path = SAMPLES / family / f"{model}.h5"
    classifier = classifiers.build(
        loader.load(path), preprocessing.parse("raw" if family == "signs" else "unit", 1)
    )
    files = sorted((SAMPLES / family / "images").glob("*/*.png"))
    classes = sorted({file.parent.name for file in files})
    pixels = np.stack([read_back(file).reshape(classifier.input_shape) for file in files])
    labels = np.array([classes.index(file.parent.name) for file in files])
    judge = keras.models.load_model(path, compile=False)
    scale = 255.0 if family == "signs" else 1.0
    right = np.flatnonzero(_predict(judge, scale, pixels.astype(np.float32) / 255) == labels)
    picked = np.sort(np.random.default_rng(0).permutation(right)[:count])
    targets = (labels[picked] + 1) % len(classes)
    starts = np.stack([pixels[right][np.argmax(labels[right] == t)] for t in targets])
    pixels, labels = pixels[picked], labels[picked]
    check_gradient(classifier, pixels[:8].astype(np.float32) / 255, labels[:8], 64)
    return Problem(name, path, classifier, judge, scale, pixels, labels, targets, starts)


def _predict(judge: Any, scale: float, images: np.ndarray) -> np.ndarray:
    return np.asarray(judge.predict(images * np.float32(scale), verbose=0)).argmax(axis=1)


def _ours(problem: Problem, reference: Reference, options: argparse.Namespace) -> Row:
    """advcli's side, on float pixels as the references have them."""
    from advcli.attacks.registry import parse_spec
    from advcli.engine.jobs import Subject
    from advcli.engine.run import Engine, auto_batch_size
    from advcli.threats.space import Space

    attack = parse_spec(options.ours or reference.ours, reference.norm).attack
    budget = attack.kind == "budget"
    eps = options.eps or BUDGETS[problem.name, reference.norm] if budget else float("inf")
    shape = problem.classifier.input_shape
    most = max(attack.cost(Space(reference.norm, shape)))
    row = Row(problem.name, reference, eps, most, len(problem.pixels))
    for seed in range(options.seeds):
        _note(f"{problem.name}: advcli {attack.spec} {reference.norm}, seed {seed}")
        engine = Engine(
            problem.classifier, batch_size=auto_batch_size(shape), pixels="float", seed=seed
        )
        subjects = [
            Subject(
                str(i),
                image,
                int(label),
                hashlib.sha256(image).hexdigest(),
                (eps,) if budget else (),
                int(problem.targets[i]) if reference.targeted else None,
                problem.starts[i] if reference.targeted else None,
            )
            for i, (image, label) in enumerate(zip(problem.pixels, problem.labels, strict=True))
        ]
        images = np.empty(problem.pixels.shape, np.float32)
        calls = 0
        for outcome in engine.run(attack, reference.norm, subjects):
            images[int(outcome.key)] = outcome.point
            calls += outcome.forwards
        _judge(problem, reference, eps, images, row.ours)
        row.ours.calls.append(calls / len(images))
    return row


def _theirs(
    problem: Problem,
    environment: str,
    numbers: Sequence[int],
    rows: Sequence[Row],
    options: argparse.Namespace,
) -> None:
    """All references of one environment on one model, in one process of their interpreter."""
    python = {"tf": options.tf_python, "torch": options.torch_python}[environment]
    if python is None:
        for row in rows:
            row.absent = f"no --{environment}-python"
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runs = [
            (row, {"reference": number, "seed": seed, "eps": row.eps})
            for row, number in zip(rows, numbers, strict=True)
            for seed in range(options.seeds)
        ]
        request = {
            "model": str(problem.path.resolve()),
            "authors": str(options.authors.resolve()),
            "runs": [run for _, run in runs],
        }
        (folder / "request.json").write_text(json.dumps(request))
        np.savez(
            folder / "problem.npz",
            pixels=problem.pixels,
            labels=problem.labels.astype(np.int64),
            targets=problem.targets.astype(np.int64),
            starts=problem.starts,
        )
        _note(f"{problem.name}: {len(runs)} runs in {python}")
        backend = {"tf": "tensorflow", "torch": "torch"}[environment]
        finished = subprocess.run(
            [python, "-m", "tests.benchmarks.parity_worker", str(folder)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"},
            check=False,
        )
        for number, (row, _) in enumerate(runs):
            answer = folder / f"{number}.npz"
            if not answer.is_file():
                failure = folder / f"{number}.txt"
                text = failure.read_text() if failure.is_file() else f"exit {finished.returncode}"
                _note(text)
                row.absent = text.strip().splitlines()[-1][:120]
                continue
            found = np.load(answer)
            _judge(problem, row.reference, row.eps, found["images"], row.theirs)
            row.theirs.calls.append(float(found["calls"]))
            row.version = str(found["version"])


def _judge(
    problem: Problem, reference: Reference, eps: float, images: np.ndarray, side: Side
) -> None:
    """Success: misled (or the target hit), inside the box and the ball."""
    clean = problem.pixels.astype(np.float32) / np.float32(255)
    delta = np.abs(images.astype(np.float64) - clean)
    distance = {
        "linf": delta.max(axis=(1, 2, 3)),
        "l2": np.sqrt((delta**2).sum(axis=(1, 2, 3))),
        "l1": delta.sum(axis=(1, 2, 3)),
        "l0": (delta > 1e-6).any(axis=-1).sum(axis=(1, 2)).astype(np.float64),
    }[reference.norm]
    prediction = _predict(problem.judge, problem.scale, images)
    fooled = prediction == problem.targets if reference.targeted else prediction != problem.labels
    inside = (images >= -1e-6).all(axis=(1, 2, 3)) & (images <= 1 + 1e-6).all(axis=(1, 2, 3))
    fooled &= inside & (distance <= eps * (1 + 1e-4) + 1e-6)
    side.robust.append(float(1 - fooled.mean()))
    side.medians.append(float(np.median(np.where(fooled, distance, np.inf))))


HEADER = (
    *("attack", "norm", "model", "eps", "reference", "images × seeds", "calls"),
    *("robust accuracy", "median distance", "as strong"),
)
_NAMED_BY = 5  # cells of a row that say what was compared
_EXPLAINED = (
    "advcli / reference, each the mean over the seeds, the range in brackets. Calls: forward "
    "passes of the model per image; advcli's stop at the first success, so what it may take "
    "at most stands behind it. As strong: robust accuracy at most 0.5 points or one image "
    "higher, or the median distance at most 2 % larger."
)


def markdown(rows: Sequence[str]) -> str:
    """Rows as one table, and how to read it."""
    head = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    return "\n".join([*head, *rows, "", _EXPLAINED])


def merged(text: str, rows: Sequence[str]) -> str:
    """`text` with its table brought up to date: new rows take the place of older ones."""
    before, head, rest = text.partition("| " + " | ".join(HEADER))
    table, _, after = rest.partition(_EXPLAINED)
    old = [line for line in table.splitlines() if line.startswith("| `")]
    known = {_what(row): row for row in (*old, *rows)}
    new = markdown([known[what] for what in sorted(known)])
    return f"{before}{new}{after}" if head else f"{text}{new}\n"


def _what(row: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in row.split("|")[1 : _NAMED_BY + 1])


def _line(row: Row) -> str:
    minimum = bool(np.isinf(row.eps))
    verdict = row.absent or ("yes" if row.holds() else "**no**")
    cells = [
        f"`{row.reference.ours}`",
        row.reference.norm,
        row.model,
        "–" if minimum else f"{row.eps:g}",
        f"{row.reference.name} {row.version}".strip(),
        f"{row.images} × {len(row.ours.robust)}",
        f"{_mean(row.ours.calls, '.0f')} of {row.most} / {_mean(row.theirs.calls, '.0f')}",
        f"{_mean(row.ours.robust, '.1%', True)} / {_mean(row.theirs.robust, '.1%', True)}",
        f"{_mean(row.ours.medians, '.4g')} / {_mean(row.theirs.medians, '.4g')}"
        if minimum
        else "–",
        verdict,
    ]
    return "| " + " | ".join(cells) + " |"


def _mean(values: Sequence[float], form: str, spread: bool = False) -> str:
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return "?"
    text = format(np.mean(known), form)
    if spread and min(known) != max(known):
        text += f" ({format(min(known), form)}–{format(max(known), form)})"
    return text


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.parity", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--attack", nargs="+", help="of advcli; all without it")
    add("--norm", nargs="+", choices=("linf", "l2", "l1", "l0"))
    add("--reference", help="only those whose name contains this")
    add("--model", nargs="+", help="digits/cnn, digits/robust, signs/cnn")
    add("--images", type=int, default=128)
    add("--seeds", type=int, default=3)
    add("--eps", type=float, help="instead of the model's own budget")
    add("--ours", help="another advcli spec, while working on an attack")
    add("--tf-python", default=sys.executable, help="has Foolbox, ART, CleverHans")
    add("--torch-python", help="has torch and Keras")
    add("--authors", type=Path, default=Path("authors"), help="folder of repositories")
    add("--out", type=Path, help="bring the table in this Markdown file up to date")
    options = parser.parse_args(arguments)

    from advcli.models.runtime import prepare

    prepare("auto")
    chosen = [
        (number, reference)
        for number, reference in enumerate(references())
        if (not options.attack or reference.attack in options.attack)
        and (not options.norm or reference.norm in options.norm)
        and (options.reference or "").lower() in reference.name.lower()
    ]
    if not chosen:
        parser.error("no such reference")
    rows = [_line(row) for row in compare(options, chosen)]
    print(f"`{shlex.join(['python', '-m', 'tests.benchmarks.parity', *arguments])}`\n")
    print(markdown(rows))
    if options.out is not None:
        text = options.out.read_text(encoding="utf-8") if options.out.is_file() else ""
        options.out.write_text(merged(text, rows), encoding="utf-8")


if __name__ == "__main__":
    main()
