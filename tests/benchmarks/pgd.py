"""PGD against PGD: advcli beside Foolbox, ART, CleverHans and plain compiled loops, in one process.

    python -m tests.benchmarks.pgd                    # pip install -e '.[bench]' for the libraries
    python -m tests.benchmarks.pgd --repetitions 9 --out pgd.md
    python -m tests.benchmarks.pgd --model resnet/plain resnet/robust --images 128 --brief

Same images (those that the model classifies correctly), same eps, same number of steps, random
start, one process, one set of TensorFlow settings. Contenders take turns, and the turn order
rotates; the first call of each (tracing, compilation) is reported beside the median and is not in
it. Ratios are medians of the ratios within a round. One judge for all: `model.predict` of the
model as Keras loads it, at the images that the contender returned.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from tests.benchmarks import commandline
from tests.benchmarks.cases import Case, find, logits_model, open_case, say
from tests.benchmarks.table import Report, Row, markdown, outside, publish

GROUPS = ("advcli", "plain loop", "CleverHans", "Foolbox", "ART")
# of the story that the README tells, where the plain net falls
_EPS = {"digits/cnn": 0.15, "digits/robust": 0.15}


def compare(
    case: Case,
    *,
    count: int = 256,
    repetitions: int = 5,
    steps: int = 40,
    seed: int = 0,
    groups: Sequence[str] = GROUPS,
    brief: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Report:
    """Every contender of `groups` on a case, interleaved; `brief`: of each the first settings."""
    opened = open_case(case, count, seed)
    import tensorflow as tf

    from tests.benchmarks.contenders import CONTENDERS, Answer, Problem

    problem = Problem(opened, logits_model(opened), steps, seed)
    entries = [c for c in CONTENDERS if c.name in groups and (c.main or not brief)]
    rows = [Row(c.name, c.settings, c.absence()) for c in entries]
    taking_part: list[tuple[Row, Callable[[], Answer]]] = []
    for contender, row in zip(entries, rows, strict=True):
        if row.absent:
            continue
        note(f"{case.name}: {row.name}, {row.settings}: first call")
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
        note(f"{case.name}: round {repetition + 1} of {repetitions}")
    for row, _ in taking_part:
        images = row.answer.images
        row.robust = int((opened.predict(images) == opened.labels).sum())
        # a library may clip with float32 noise; half a level of a file's grid is a breach
        close = np.abs(images - opened.x).max() <= case.eps + 1e-5
        row.breach = not (close and images.min() >= 0 and images.max() <= 1)
    path = "XLA" if opened.classifier.jit_compile else "graph"
    return Report(f"{case.name}, L∞ {case.eps:.4g}", len(opened.labels), path, rows)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = commandline.parser("pgd", __doc__)
    add = made.add_argument
    add("--model", nargs="+", default=["digits/cnn", "digits/robust"], help="see cases.py")
    add("--images", type=int, default=256)
    add("--repetitions", type=int, default=5)
    add("--eps", type=float, help="instead of the case's own; digits: 0.15")
    add("--steps", type=int, default=40)
    add("--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="NAME")
    add("--brief", action="store_true", help="each library with one setting")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    commandline.one_at_a_time()
    reports = [
        compare(
            find(name, options.nets, options.eps or _EPS.get(name)),
            count=options.images,
            repetitions=options.repetitions,
            steps=options.steps,
            seed=options.seed,
            groups=options.only,
            brief=options.brief,
            note=say,
        )
        for name in options.model
    ]
    facts = {
        **commandline.facts("pgd", arguments, options, f"{options.repetitions}, interleaved"),
        "attack": f"PGD-{options.steps}, random start",
        **outside(),
    }
    publish(markdown(reports, facts), options.out)


if __name__ == "__main__":
    main()
