"""One gradient step of the model: advcli's path beside a plain `tf.function` and PyTorch.

    python -m tests.benchmarks.steps --torch-python ../torch/bin/python

The same step for all: forward, cross-entropy's gradient at the images, one sign step, clipped to
the box. advcli's path is the classifier that its attacks are given, weights as constants and batch
normalisation folded, compiled as an audit does; the plain step is Keras under a `GradientTape`;
PyTorch has the same weights in channels-last modules. They take turns, PyTorch in a process of its
own that waits meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks import commandline
from tests.benchmarks.cases import Opened, find, logits_model, open_case, say
from tests.benchmarks.clock import Times, in_turns
from tests.benchmarks.table import grid, outside, page, publish
from tests.benchmarks.torch_side import TorchSide

OURS, PLAIN, TORCH = "advcli", "`tf.function`", "PyTorch, channels-last"
HEADER = ("what", "ms", "range", "images/s", "first call s", "advcli ÷ it")
_PAUSE = 0.2  # seconds in which threads of the one before stop spinning


def plain_step(opened: Opened, kind: str) -> Callable[[Any, Any], Any]:
    """What a user compiles: Keras under a `GradientTape`; images float32 in [0, 1], labels."""
    import tensorflow as tf

    model = logits_model(opened)

    def step(x: Any, y: Any) -> Any:
        if kind == "forward":
            return model(x, training=False)
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = model(x, training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)
        return _moved(x, tape.gradient(loss, x))

    return tf.function(step, autograph=False)


def our_step(opened: Opened, kind: str) -> Callable[[Any, Any], Any]:
    """The model as the engine has it, differentiated and compiled as the engine does it.

    `kind`: a "forward" pass, a "gradient" step, or the gradient alone, "bare".
    """
    import tensorflow as tf

    from advcli.models.backward import gradient_of

    logits = opened.classifier.logits

    def step(x: Any, y: Any) -> Any:
        z = logits(x)
        if kind == "forward":
            return z
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)
        slope = gradient_of(tf.reduce_sum(loss), x)
        return slope if kind == "bare" else _moved(x, slope)

    return tf.function(step, autograph=False, jit_compile=bool(opened.classifier.jit_compile))


def _moved(x: Any, slope: Any) -> Any:
    import tensorflow as tf

    return tf.clip_by_value(x + 1e-3 * tf.sign(slope), 0.0, 1.0)


def compare(
    opened: Opened, kind: str, batch: int, *, repetitions: int, seconds: float, torch: Any = None
) -> dict[str, Times]:
    """Seconds a step at `batch` images; each turn takes about `seconds`."""
    import numpy as np
    import tensorflow as tf

    rows = np.arange(batch) % len(opened.labels)
    x, y = tf.constant(opened.x[rows]), tf.constant(opened.labels[rows])
    functions = {OURS: our_step(opened, kind), PLAIN: plain_step(opened, kind)}

    def times(step: Callable[[Any, Any], Any], count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            answer = step(x, y)
        answer.numpy()
        return (time.perf_counter() - began) / count

    once = {name: times(step, 1) for name, step in functions.items()}  # tracing
    count = max(2, int(seconds / min(times(step, 2) for step in functions.values())))

    def turn(step: Callable[[Any, Any], Any]) -> Callable[[], float]:
        def run() -> float:
            time.sleep(_PAUSE)
            step(x, y)
            return times(step, count)

        return run

    contenders = {name: turn(step) for name, step in functions.items()}
    if torch is not None:
        request = {"batch": batch, "kind": kind}
        once[TORCH] = torch.ask("step", count=1, **request)["seconds"]

        def theirs() -> float:
            time.sleep(_PAUSE)
            torch.ask("step", count=1, **request)
            return float(torch.ask("step", count=count, **request)["seconds"])

        contenders[TORCH] = theirs
    found = in_turns(contenders, repetitions)
    for name, first in once.items():
        found[name].first = first
    return found


def _row(name: str, times: Times, base: Times, batch: int) -> list[str]:
    return [
        name,
        f"{1e3 * times.median:.2f}",
        f"{1e3 * min(times.rounds):.2f}–{1e3 * max(times.rounds):.2f}",
        f"{batch / times.median:.0f}",
        f"{times.first:.2f}",
        f"{base.over(times):.3f}",
    ]


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = commandline.parser("steps", __doc__)
    add = made.add_argument
    add("--model", nargs="+", default=["resnet/random", "digits/cnn"], help="see cases.py")
    add("--batch", nargs="+", type=int, default=[64, 128])
    add("--kind", nargs="+", choices=("gradient", "forward"), default=["gradient", "forward"])
    add("--repetitions", type=int, default=9)
    add("--seconds", type=float, default=1.0, help="of one turn, about")
    add("--torch-python", help="an interpreter with torch and Keras")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    commandline.one_at_a_time()
    sections, torch, facts = [], None, {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.torch_python:
            torch = stack.enter_context(TorchSide(options.torch_python))
        for name in options.model:
            opened = open_case(find(name, options.nets), max(options.batch), options.seed)
            if torch is not None:
                answer = torch.open(opened, folder / "problem.npz")
                facts = {"PyTorch": f"{answer['torch']}, {answer['threads']} threads"}
            for kind in options.kind:
                for batch in options.batch:
                    say(f"{name}: {kind}, batch {batch}")
                    found = compare(
                        opened,
                        kind,
                        batch,
                        repetitions=options.repetitions,
                        seconds=options.seconds,
                        torch=torch,
                    )
                    rows = [_row(who, times, found[OURS], batch) for who, times in found.items()]
                    path = "XLA" if opened.classifier.jit_compile else "graph"
                    heading = f"**{name}**, {kind}, batch {batch}, advcli compiled as {path}"
                    sections += [heading, grid(HEADER, rows)]
    repetitions = f"{options.repetitions} turns of about {options.seconds:g} s each"
    facts = {
        **commandline.facts("steps", arguments, options, repetitions),
        **outside(),
        **facts,
    }
    note = (
        "ms: of one call, the median of the turns. advcli ÷ it: the median of the ratios within a "
        "round, below 1 means that advcli is faster. First call: with tracing."
    )
    publish(page(facts, *sections, note), options.out)


if __name__ == "__main__":
    main()
