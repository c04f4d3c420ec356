"""What the engine adds: time of a run ÷ (model calls × time of one bare compiled call).

    python -m tests.benchmarks.overhead

The bare call is the compiled gradient (or forward pass) of the same model at the engine's batch,
made by as many threads at once as the engine has lanes; it takes turns with the runs, and what the
calls of a run would take at its pace is what the run is divided by. Runs:

    nothing fooled    PGD at a budget of nothing: every row goes through its whole schedule
    case's budget     PGD where rows end early and are refilled
    a preset          its whole cascade at the case's budget

Images are repeated until the slots are filled several times over.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from tests.benchmarks import commandline
from tests.benchmarks.cases import Opened, find, open_case, say
from tests.benchmarks.steps import our_step
from tests.benchmarks.table import grid, outside, page, publish

HEADER = (
    *("run", "images", "fooled", "seconds", "images/s", "first trace s", "forwards", "gradients"),
    *("slots in use", "bare calls s", "overhead"),
)
_NOTHING = 1e-4  # a budget that no 8-bit image can use


@dataclass
class Run:
    """Attacks as a cascade over `subjects`: what the last round did, and each round's seconds."""

    name: str
    specs: Sequence[str]
    subjects: Sequence[Any]
    fooled: int = 0
    trace: float = 0.0
    forwards: int = 0
    gradients: int = 0
    in_use: float = 0.0
    seconds: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)

    def perform(self, engine: Any) -> float:
        """One round; returns the seconds of it, those of tracing taken off."""
        from advcli.attacks.registry import parse_spec

        standing = list(self.subjects)
        parts = []
        began = time.perf_counter()
        for spec in self.specs:
            outcomes = engine.run(parse_spec(spec, "linf").attack, "linf", standing)
            fooled = {outcome.key for outcome in outcomes if outcome.success}
            standing = [subject for subject in standing if subject.key not in fooled]
            parts.append(engine.stats)
        seconds = time.perf_counter() - began
        trace = sum(part.trace_seconds for part in parts)
        self.trace = max(self.trace, trace)  # the first round's
        self.fooled = len(self.subjects) - len(standing)
        self.forwards = sum(part.forwards for part in parts)
        self.gradients = sum(part.gradients for part in parts)
        slots = sum(part.slot_steps for part in parts)
        self.in_use = sum(part.row_steps for part in parts) / max(slots, 1)
        return seconds - trace


class Bare:
    """A compiled call by as many threads as the engine has lanes, and nothing else."""

    def __init__(self, opened: Opened, engine: Any, kind: str, seconds: float) -> None:
        import tensorflow as tf

        self._lanes, self._batch = engine.lanes, engine.batch_size
        # each thread's own, as in the engine where that has to be
        self._steps = [our_step(opened, kind) for _ in range(self._lanes)]
        rows = np.arange(self._batch) % len(opened.labels)
        self._x, self._y = tf.constant(opened.x[rows]), tf.constant(opened.labels[rows])
        for step in self._steps:
            step(self._x, self._y)  # traced, one after the other
        self._count = max(2, int(seconds / self._calls(2)))

    def seconds_a_row(self) -> float:
        """Mean wall clock that one image's call takes."""
        return self._calls(self._count) / (self._lanes * self._batch)

    def _calls(self, count: int) -> float:
        """Seconds of one of `count` rounds in which every thread makes one call."""

        def work(step: Callable[[Any, Any], Any]) -> None:
            for _ in range(count):
                step(self._x, self._y).numpy()

        threads = [threading.Thread(target=work, args=(step,)) for step in self._steps]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (time.perf_counter() - began) / count


def measure(opened: Opened, options: argparse.Namespace) -> list[Run]:
    """All runs, each between two measurements of the bare calls."""
    engine = opened.engine("uint8", options.seed)
    room = engine.batch_size * engine.lanes
    nothing = _repeated(opened.subjects(_NOTHING), options.fills * room)
    budget = _repeated(opened.subjects(), 4 * options.fills * room)
    audited = _repeated(opened.subjects(), options.audited)
    spec = f"pgd:steps={options.steps}"
    runs = [
        Run("PGD, nothing fooled", [spec], nothing),
        Run("PGD, case's budget", [spec], budget),
        *(Run(f"preset {name}", _specs(name), audited) for name in options.preset),
    ]
    calls = {kind: Bare(opened, engine, kind, options.seconds) for kind in ("bare", "forward")}

    def paces() -> dict[str, float]:
        return {kind: call.seconds_a_row() for kind, call in calls.items()}

    for run in runs:
        say(f"{opened.case.name}: {run.name}, first call")
        run.perform(engine)
    for round_ in range(options.repetitions):
        say(f"{opened.case.name}: round {round_ + 1} of {options.repetitions}")
        before = paces()
        for run in runs:
            run.seconds.append(run.perform(engine))
            after = paces()
            gradient, forward = ((before[kind] + after[kind]) / 2 for kind in calls)
            run.bare.append(gradient * run.gradients + forward * (run.forwards - run.gradients))
            before = after
    return runs


def _specs(preset: str) -> list[str]:
    from advcli.audit.presets import preset_specs

    return preset_specs(preset, "linf")[0]


def _repeated(subjects: Sequence[Any], count: int) -> list[Any]:
    """The subjects over and over, each time under another key."""
    return [dataclasses.replace(subjects[n % len(subjects)], key=str(n)) for n in range(count)]


def row(run: Run) -> list[str]:
    """Its line in the table."""
    count = len(run.subjects)
    ratio = median(run_ / bare for run_, bare in zip(run.seconds, run.bare, strict=True))
    return [
        run.name,
        str(count),
        f"{run.fooled / count:.1%}",
        f"{median(run.seconds):.2f}",
        f"{count / median(run.seconds):.1f}",
        f"{run.trace:.1f}",
        f"{run.forwards / count:.1f}",
        f"{run.gradients / count:.1f}",
        f"{run.in_use:.0%}",
        f"{median(run.bare):.2f}",
        f"{ratio:.3f}",
    ]


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = commandline.parser("overhead", __doc__)
    add = made.add_argument
    add("--model", nargs="+", default=["digits/cnn", "digits/robust", "resnet/random"])
    add("--preset", nargs="*", default=[], help="their cascades too")
    add("--steps", type=int, default=40)
    add("--images", type=int, default=256, help="different ones; repeated to fill the slots")
    add("--audited", type=int, default=512, help="images of a preset's run, by repetition")
    add("--fills", type=int, default=2, help="how often the slots are filled; at the budget ×4")
    add("--seconds", type=float, default=1.0, help="of bare calls, each time")
    add("--repetitions", type=int, default=3)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    sections = []
    for name in options.model:
        opened = open_case(find(name, options.nets), options.images, options.seed)
        runs = measure(opened, options)
        engine = opened.engine("uint8", options.seed)
        heading = f"**{name}**, {engine.lanes} lanes of {engine.batch_size} images"
        sections += [heading, grid(HEADER, [row(run) for run in runs])]
    repetitions = f"{options.repetitions}, in turns with the bare calls; medians"
    facts = {
        **commandline.facts("overhead", arguments, options, repetitions),
        **outside(),
    }
    note = (
        "Seconds: of a run, tracing excluded, confirmations of successes included. Forwards (those "
        "of gradients included) and gradients: per image. Slots in use: share of computed rows "
        "that somebody needed. Bare calls: what as many bare calls at full batches take. "
        "Overhead: seconds ÷ bare calls, the median of the rounds."
    )
    publish(page(facts, *sections, note), options.out)


if __name__ == "__main__":
    main()
