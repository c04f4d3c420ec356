"""The protocol of record against the presets: official AutoAttack beside `advcli evaluate`.

    python -m tests.benchmarks.standard --torch-python ../torch/bin/python \
        --authors ../authors/auto-attack

Same model, same images (those that the model classifies correctly), same L∞ budget. The official
side is the authors' code, in an interpreter that has torch, on the same weights as native
channels-last modules (`--net keras`: through Keras's torch backend, which is slower). Both sides
are processes of their own and take turns; their wall clock is the time of the whole process.
Attack seconds leave out start-up, the clean pass and, for advcli, tracing, which is reported
beside them. Plain Keras judges the images of one more run of each contender, with its first seed.

Round N has the seed --seed + N. The official run is long, so it has rounds of its own number.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks import clock, commandline
from tests.benchmarks.cases import Opened, find, open_case, say
from tests.benchmarks.table import grid, outside, page, publish
from tests.benchmarks.torch_side import TorchSide

MODELS = ("digits/cnn", "digits/robust", "signs/cnn")
OFFICIAL = "official AutoAttack"
HEADER = (
    *("contender", "robust", "by Keras", "attack s", "images/s", "first trace s", "process s"),
    *("forwards", "gradients", "attack ×", "process ×"),
)


@dataclass
class Side:
    """A contender's figures, one for each round; calls per image."""

    name: str
    robust: list[int] = field(default_factory=list)
    attack: list[float] = field(default_factory=list)
    trace: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)
    forwards: list[float] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)
    judged: int | None = None
    absent: str = ""


def compare(name: str, options: argparse.Namespace) -> tuple[str, list[Side]]:
    """All contenders on one model: a heading and their figures, the official side last."""
    case = find(name, options.nets, options.eps)
    opened = open_case(case, options.images, options.seed)
    sides = [Side(f"{preset}, {pixels}") for preset in options.preset for pixels in options.pixels]
    official = Side(OFFICIAL)
    with tempfile.TemporaryDirectory(prefix="advcli-benchmark-") as place:
        folder = Path(place)
        _write(opened, folder / "images")
        if not options.no_judge:
            for side in sides:
                say(f"{name}: {side.name}, judged")
                side.judged = opened.robust(_ours(opened, side, options, folder, 0, keep=True))
        for round_ in range(max(options.repetitions, options.official_repetitions)):
            if round_ < options.repetitions:
                for side in sides[round_ % len(sides) :] + sides[: round_ % len(sides)]:
                    say(f"{name}: {side.name}, round {round_ + 1}")
                    _ours(opened, side, options, folder, round_)
            if round_ < options.official_repetitions and not official.absent:
                say(f"{name}: {OFFICIAL}, round {round_ + 1}")
                _theirs(opened, official, options, folder, round_)
    levels = f"L∞ {case.eps:.4g} ({case.eps * 255:g}/255)"
    return f"**{name}**, {len(opened.labels)} images, {levels}", [*sides, official]


def _write(opened: Opened, folder: Path) -> None:
    """The images as PNG files in class folders, and the classes' names."""
    names = opened.bench.folder.class_names or tuple(map(str, range(opened.classifier.class_count)))
    for number, (pixels, label) in enumerate(zip(opened.pixels, opened.labels, strict=True)):
        place = folder / names[label] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.squeeze()).save(place)
    (folder.parent / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _ours(
    opened: Opened,
    side: Side,
    options: argparse.Namespace,
    folder: Path,
    round_: int,
    *,
    keep: bool = False,
) -> np.ndarray:
    """One `advcli evaluate`; its figures unless `keep`, then its images instead."""
    preset, _, pixels = side.name.rpartition(", ")
    case = opened.case
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out = Path(place) / "run"
        asked = [
            *("evaluate", case.model, folder / "images", "--classes", folder / "classes.txt"),
            *("--preset", preset, "--norm", "linf", "--eps", repr(case.eps)),
            *("--preprocess", case.preprocess, "--pixels", pixels, "--seed", options.seed + round_),
            *("--format", "json", "--progress", "none", "--allow-chance", "--out", out),
        ]
        finished = clock.advcli(*asked, *(["--save-images"] if keep else []))
        lines = [json.loads(line) for line in (out / "results.jsonl").open(encoding="utf-8")]
        lines = [line for line in lines if line["attack"] != "clean"]
        if keep:
            return _images(opened, out, lines)
        timings = json.loads((out / "run.json").read_text(encoding="utf-8"))["timings"].values()
    summary = json.loads(finished.output)
    count = len(opened.labels)
    side.robust.append(round(summary["worst_case"][0]["robust_accuracy"] * count))
    side.attack.append(sum(timing["seconds"] for timing in timings))
    side.trace.append(sum(timing["trace_seconds"] for timing in timings))
    side.process.append(finished.seconds)
    side.forwards.append(sum(line["forwards"] or 0 for line in lines) / count)
    side.gradients.append(sum(line["gradients"] or 0 for line in lines) / count)
    return opened.x


def _images(opened: Opened, out: Path, lines: Sequence[dict[str, Any]]) -> np.ndarray:
    """What the run wrote for each image: the one that fooled the model, else the clean one."""
    images = opened.x
    for line in lines:
        if line["success"]:
            file, number = out / line["file"], int(Path(line["image"]).stem)
            found = np.load(file) if file.suffix == ".npy" else _read(file)
            images[number] = found.reshape(images[number].shape)
    return images


def _read(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image, np.float32) / np.float32(255)


def _theirs(
    opened: Opened, side: Side, options: argparse.Namespace, folder: Path, round_: int
) -> None:
    if not (options.torch_python and (options.authors / "autoattack").is_dir()):
        side.absent = "needs --torch-python and --authors"
        return
    try:
        with TorchSide(options.torch_python) as torch:
            facts = torch.open(opened, folder / "problem.npz", options.net)
            answer = torch.ask(
                "autoattack",
                eps=opened.case.eps,
                seed=options.seed + round_,
                authors=str(options.authors.resolve()),
                out=str(folder / "official.npy"),
                queries=options.glance,
            )
    except RuntimeError as error:
        side.absent = str(error).strip().splitlines()[-1]
        return
    side.name = f"{OFFICIAL} {answer['release']}, {facts['net']} {facts['torch']}"
    robust, count = opened.robust(np.load(folder / "official.npy")), len(opened.labels)
    side.robust.append(robust)
    side.judged = robust if side.judged is None else side.judged
    side.attack.append(answer["seconds"])
    side.process.append(torch.lifetime)
    side.forwards.append(answer["forwards"] / count)
    side.gradients.append(answer["gradients"] / count)


def _row(side: Side, official: Side, count: int) -> list[str]:
    if not side.attack:
        return [side.name, side.absent or "not run", *["–"] * (len(HEADER) - 2)]
    shares = [robust / count for robust in side.robust]
    spread = f" ({min(shares):.1%}–{max(shares):.1%})" if min(shares) < max(shares) else ""

    def faster(ours: Sequence[float], theirs: Sequence[float]) -> str:
        return f"{median(theirs) / median(ours):.1f}" if theirs else "–"

    return [
        side.name,
        f"{median(shares):.1%}{spread}",
        "–" if side.judged is None else f"{side.judged / count:.1%}",
        f"{median(side.attack):.2f}",
        f"{count / median(side.attack):.1f}",
        f"{median(side.trace):.1f}" if side.trace else "–",
        f"{median(side.process):.1f}",
        f"{median(side.forwards):.0f}",
        f"{median(side.gradients):.0f}",
        faster(side.attack, official.attack),
        faster(side.process, official.process),
    ]


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = commandline.parser("standard", __doc__)
    add = made.add_argument
    add("--model", nargs="+", default=list(MODELS), help="see tests/benchmarks/cases.py")
    add("--preset", nargs="+", default=["autoattack", "audit"])
    add("--pixels", nargs="+", choices=("uint8", "float"), default=["float", "uint8"])
    add("--images", type=int, default=128)
    add("--eps", type=float, help="instead of the case's own")
    add("--repetitions", type=int, default=3, help="of advcli")
    add("--official-repetitions", type=int, default=1)
    add("--torch-python", help="an interpreter with torch and Keras")
    add("--authors", type=Path, default=Path("authors/auto-attack"), help="fra31/auto-attack")
    add("--net", choices=("native", "keras"), default="native", help="the official side's model")
    add("--no-judge", action="store_true", help="spare the run of each whose images are judged")
    add("--glance", type=int, default=0, help="official side cut down to N queries: no figures")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    sections = []
    for name in options.model:
        heading, sides = compare(name, options)
        count = int(heading.split(", ")[1].split()[0])
        sections += [heading, grid(HEADER, [_row(side, sides[-1], count) for side in sides])]
    repetitions = (
        f"{options.repetitions} of advcli, {options.official_repetitions} of the official "
        "composition, in turns; medians; each round's seed is one more"
    )
    facts = {
        **commandline.facts("standard", arguments, options, repetitions),
        **outside(),
    }
    note = (
        "Robust: what the contender reports, the range over its seeds in brackets; by Keras: "
        "`model.predict` at the images of the first seed, those outside the budget not counted as "
        "fooled. Attack s: without start-up, clean pass and tracing. Process s: the whole process. "
        "Forwards (those of gradients included) and gradients: per image. ×: how many times as "
        "long the official composition took."
    )
    if options.glance:
        note += " **The official side was cut short: no figures.**"
    publish(page(facts, *sections, note), options.out)


if __name__ == "__main__":
    main()
