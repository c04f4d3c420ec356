"""PGD against PGD: advcli beside Foolbox, ART, CleverHans and plain compiled loops, in one process.

    python -m tests.benchmarks.pgd                    # pip install -e '.[bench]' for the libraries
    python -m tests.benchmarks.pgd --repetitions 9 --out pgd.md

Same images (those that the model classifies correctly), same eps, same number of steps, random
start, one process, one set of TensorFlow settings. Contenders take turns, and the turn order
rotates; the first call of each (tracing, compilation) is reported beside the median and is not in
it. Ratios are medians of the ratios within a round. One judge for all: `model.predict` of the
model as Keras loads it, at the images that the contender returned.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.table import Report, Row, markdown, outside

DIGITS = Path(__file__).parents[2] / "sample_models" / "digits"
GROUPS = ("advcli", "plain loop", "CleverHans", "Foolbox", "ART")


def compare(
    model: Path,
    *,
    count: int = 256,
    repetitions: int = 5,
    eps: float = 0.15,
    steps: int = 40,
    seed: int = 0,
    groups: Sequence[str] = GROUPS,
    note: Callable[[str], None] = lambda _: None,
) -> Report:
    """Every contender of `groups` on `model` (an .h5 of the digits), interleaved."""
    from advcli.models.runtime import prepare

    prepare("auto")
    import tensorflow as tf

    from tests.benchmarks.contenders import CONTENDERS, Answer

    judge, problem = _open(model, count, eps, steps, seed)
    rows = [Row(c.name, c.settings, c.absence()) for c in CONTENDERS if c.name in groups]
    taking_part: list[tuple[Row, Callable[[], Answer]]] = []
    entries = [c for c in CONTENDERS if c.name in groups]
    for contender, row in zip(entries, rows, strict=True):
        if row.absent:
            continue
        note(f"{model.name}: {row.name}, {row.settings}: first call")
        # Deterministic kernels refuse TensorFlow's random numbers without a seed. Once, and outside
        # the clock: seeding empties TensorFlow's caches, and the next call of every compiled
        # function is optimised again.
        tf.keras.utils.set_random_seed(seed)
        began = time.perf_counter()
        run = contender.prepare(problem)
        run()
        row.first = time.perf_counter() - began
        taking_part.append((row, run))
    for repetition in range(repetitions):
        turn = repetition % len(taking_part)
        for row, run in taking_part[turn:] + taking_part[:turn]:
            began = time.perf_counter()
            answer = run()
            row.seconds.append(time.perf_counter() - began)
            row.answer = answer
        note(f"{model.name}: round {repetition + 1} of {repetitions}")
    for row, _ in taking_part:
        prediction = judge.predict(row.answer.images, verbose=0).argmax(axis=1)
        row.robust = int((prediction == problem.labels).sum())
        images = row.answer.images
        # a library may clip with float32 noise; half a level of a file's grid is a breach
        close = np.abs(images - problem.x).max() <= eps + 1e-5
        row.breach = not (close and images.min() >= 0 and images.max() <= 1)
    path = {False: "graph", True: "XLA"}.get(bool(problem.classifier.jit_compile), "graph")
    return Report(model.name, len(problem.labels), path, rows)


def _open(model: Path, count: int, eps: float, steps: int, seed: int) -> tuple[Any, Any]:
    import keras

    from advcli.engine.run import auto_batch_size
    from advcli.images.writer import read_back
    from advcli.models import classifier as classifiers
    from advcli.models import loader, preprocessing, runtime
    from advcli.models.gradient import check_gradient
    from tests.benchmarks.contenders import Problem

    files = sorted((DIGITS / "images").glob("*/*.png"))
    pixels = np.stack([read_back(file).reshape(28, 28, 1) for file in files])
    labels = np.array([int(file.parent.name) for file in files])
    judge = keras.models.load_model(model, compile=False)
    scaled = pixels.astype(np.float32) / np.float32(255)
    right = np.flatnonzero(judge.predict(scaled, verbose=0).argmax(axis=1) == labels)
    chosen = np.sort(np.random.default_rng(seed).permutation(right)[:count])
    pixels, labels, scaled = pixels[chosen], labels[chosen], scaled[chosen]
    # for everybody but advcli, which finds its own way past the softmax
    logits_model = keras.models.load_model(model, compile=False)
    logits_model.layers[-1].activation = keras.activations.linear
    z = logits_model(scaled[:8])
    if not np.allclose(keras.ops.softmax(z), judge(scaled[:8]), atol=1e-5):
        raise RuntimeError(f"{model}: does not end in a softmax layer")
    classifier = classifiers.build(loader.load(model), preprocessing.parse("unit", 1))
    device = runtime.describe_device()
    batch = auto_batch_size(classifier.input_shape, device)
    check_gradient(classifier, scaled[:8], labels[:8], batch)
    problem = Problem(classifier, logits_model, pixels, labels, eps, steps, seed, device)
    return judge, problem


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pgd", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--model", nargs="+", default=["cnn", "robust"], help="of sample_models/digits")
    add("--images", type=int, default=256)
    add("--repetitions", type=int, default=5)
    add("--eps", type=float, default=0.15)
    add("--steps", type=int, default=40)
    add("--seed", type=int, default=0)
    add("--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="NAME")
    add("--out", type=Path, help="write the Markdown here too")
    options = parser.parse_args(arguments)
    command = shlex.join(["python", "-m", "tests.benchmarks.pgd", *arguments])
    reports = [
        compare(
            DIGITS / f"{name}.h5",
            count=options.images,
            repetitions=options.repetitions,
            eps=options.eps,
            steps=options.steps,
            seed=options.seed,
            groups=options.only,
            note=lambda text: print(text, file=sys.stderr, flush=True),
        )
        for name in options.model
    ]
    facts = {
        "command": f"`{command}`",
        "attack": f"PGD-{options.steps}, L∞ {options.eps:g}, random start",
        "repetitions": f"{options.repetitions}, interleaved",
        "seed": str(options.seed),
        **outside(),
    }
    text = markdown(reports, facts)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
