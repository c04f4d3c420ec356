"""How `advcli` grows: with the number of images, with their size, and from a standing start.

    python -m tests.benchmarks.scaling

Real processes over made-up PNG files in a temporary folder, with a small untrained network whose
own predictions are the labels. Time should be a line in the number of images, and peak memory flat.
Memory is the process's peak resident set as the operating system has it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks import clock, commandline
from tests.benchmarks.cases import say
from tests.benchmarks.nets import noise
from tests.benchmarks.table import grid, outside, page, publish

SIDE = 64
COUNTS = (250, 1000, 4000, 16000)
SIDES = (28, 32, 64, 96, 128, 224)
# as short as the attacks may be: what grows with the images is what is looked at
COMMANDS = {
    "evaluate": ("evaluate", "-a", "pgd:steps=5", "--eps", "4/255"),
    "attack": ("attack", "-a", "fgsm", "--eps", "4/255"),
}
_SETTINGS = ("--preprocess", "unit", "--progress", "none", "--format", "json", "--exit-zero")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = commandline.parser("scaling", __doc__)
    add = made.add_argument
    add("--counts", nargs="*", type=int, default=list(COUNTS))
    add("--sides", nargs="*", type=int, default=list(SIDES))
    add("--command", nargs="+", choices=tuple(COMMANDS), default=list(COMMANDS))
    add("--images", type=int, default=256, help="of each size")
    add("--repetitions", type=int, default=1, help="of everything but start-up")
    add("--starts", type=int, default=5, help="repetitions of start-up")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    sections: list[str] = []
    with tempfile.TemporaryDirectory(prefix="advcli-benchmark-") as place:
        folder = Path(place)
        if options.starts:
            sections += _start_up(folder, options.starts, options.seed)
        if options.counts:
            sections += _numbers(folder, options)
        if options.sides:
            sections += _sizes(folder, options)
    repetitions = f"{options.repetitions}, start-up {options.starts}; medians"
    facts = {
        **commandline.facts("scaling", arguments, options, repetitions),
        **outside(),  # last: it imports TensorFlow, and children would count that as theirs
    }
    publish(page(facts, *sections), options.out)


def _start_up(folder: Path, repetitions: int, seed: int) -> list[str]:
    """From the command line to the last line of output."""
    model, images = _network(folder, 28), noise(folder / "one", 28, 1, seed)
    started = {
        "`python -c pass`": ["-c", "pass"],
        "`advcli --help`": ["-m", "advcli", "--help"],
        "`advcli attacks`": ["-m", "advcli", "attacks"],
        "`python -c 'import tensorflow'`": ["-c", "import tensorflow"],
        "`advcli evaluate`, FGSM, one image": [
            *("-m", "advcli", "evaluate", model, images, "-a", "fgsm", *_SETTINGS)
        ],
    }
    say("start-up")
    runs: dict[str, list[clock.Finished]] = {name: [] for name in started}
    for _ in range(repetitions):
        for name, arguments in started.items():
            runs[name].append(clock.process([sys.executable, *arguments]).checked())
    rows = [
        [
            name,
            f"{median(run.seconds for run in found):.2f}",
            f"{min(run.seconds for run in found):.2f}–{max(run.seconds for run in found):.2f}",
            f"{median(run.peak for run in found):.0f}",
        ]
        for name, found in runs.items()
    ]
    return ["**Start-up**", grid(("command", "seconds", "range", "peak MiB"), rows)]


def _numbers(folder: Path, options: argparse.Namespace) -> list[str]:
    """Time a line, memory flat: every command at every number of images."""
    model = _network(folder, SIDE)
    sections = []
    for name in options.command:
        rows: list[list[str]] = []
        before: tuple[int, float] | None = None
        base = 0.0
        for count in sorted(options.counts):
            say(f"{name}, {count} images of {SIDE}×{SIDE}")
            images = noise(folder / f"{SIDE}-{count}", SIDE, count, options.seed)
            found = _run(name, model, images, folder, options.repetitions)
            seconds = median(run.seconds for run in found)
            peak = median(run.peak for run in found)
            base = peak if count <= 1000 else base or peak
            each = "–" if before is None else (seconds - before[1]) / (count - before[0])
            rows.append(
                [
                    str(count),
                    f"{seconds:.1f}",
                    each if isinstance(each, str) else f"{1e3 * each:.2f}",
                    f"{peak:.0f}",
                    f"{peak / base:.3f}",
                ]
            )
            before = count, seconds
        typed = " ".join(COMMANDS[name])
        sections += [
            f"**Number of images**: `advcli {typed}`, {SIDE}×{SIDE} pixels",
            grid(("images", "seconds", "ms for each further one", "peak MiB", "÷ 1,000"), rows),
        ]
    return sections


def _sizes(folder: Path, options: argparse.Namespace) -> list[str]:
    """Every size of image, with a network that takes it."""
    rows = []
    for side in options.sides:
        say(f"{options.images} images of {side}×{side}")
        model = _network(folder, side)
        images = noise(folder / f"size-{side}", side, options.images, options.seed)
        found = _run("evaluate", model, images, folder, options.repetitions)
        seconds = median(run.seconds for run in found)
        peak = median(run.peak for run in found)
        per_pixel = 1e9 * seconds / (options.images * side * side)
        rows.append([f"{side}×{side}", f"{seconds:.1f}", f"{per_pixel:.0f}", f"{peak:.0f}"])
    typed = " ".join(COMMANDS["evaluate"])
    return [
        f"**Image size**: `advcli {typed}`, {options.images} images, whole process",
        grid(("size", "seconds", "ns a pixel", "peak MiB"), rows),
    ]


def _run(
    name: str, model: Path, images: Path, folder: Path, repetitions: int
) -> list[clock.Finished]:
    found = []
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            where: list[Any] = ["--out", Path(place) / "run"] if name == "attack" else []
            verb, *rest = COMMANDS[name]
            found.append(clock.advcli(verb, model, images, *rest, *_SETTINGS, *where))
    return found


def _network(folder: Path, side: int) -> Path:
    file = folder / f"small-{side}.h5"
    if not file.is_file():
        made = [sys.executable, "-m", "tests.benchmarks.nets", f"small:{side}", file]
        clock.process(made).checked()
    return file


if __name__ == "__main__":
    main()
