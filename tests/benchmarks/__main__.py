"""All benchmarks, one after the other, each in a process of its own; one Markdown report.

    python -m tests.benchmarks --torch-python ../torch/bin/python \
        --authors ../authors/auto-attack --peers-python ../bench/bin/python --out report.md
    python -m tests.benchmarks --quick        # a few minutes, to see that everything runs

Nothing else should run on the machine meanwhile. Without torch's interpreter and the authors' code
those columns stay empty; without the peers' libraries (`pip install -e '.[bench]'`) their rows say
so. What failed is named at the end, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.cases import NETS, ROOT, say
from tests.benchmarks.table import publish


@dataclass(frozen=True)
class Part:
    """One benchmark: what to type, in full and in a hurry, and which of the options it takes."""

    title: str
    module: str
    full: str = ""
    quick: str = ""
    takes: tuple[str, ...] = ()


_RESNETS = "--model resnet/plain resnet/robust"
PARTS: dict[str, Part] = {
    "steps": Part(
        "A gradient step",
        "steps",
        quick="--batch 64 --kind gradient --repetitions 3 --seconds 0.3",
        takes=("torch-python", "nets"),
    ),
    "overhead": Part(
        "What the engine adds",
        "overhead",
        quick="--model digits/cnn --repetitions 1 --fills 1 --steps 10 --seconds 0.3",
        takes=("nets",),
    ),
    "pgd-digits": Part(
        "PGD-40 on the digits", "pgd", quick="--images 32 --repetitions 1 --brief", takes=("nets",)
    ),
    "pgd-resnet": Part(
        "PGD-40 on ResNet-20",
        "pgd",
        full=f"{_RESNETS} --images 128 --repetitions 3 --brief",
        quick="--model resnet/random --images 16 --steps 10 --repetitions 1 --brief",
        takes=("nets",),
    ),
    "scaling": Part(
        "Growth and start-up",
        "scaling",
        quick="--counts 100 400 --sides 28 64 --images 16 --starts 1 --command evaluate",
    ),
    "standard": Part(
        "The protocol of record",
        "standard",
        quick="--model digits/cnn --preset autoattack --pixels float --images 8 --repetitions 1 "
        "--no-judge --glance 20",
        takes=("torch-python", "authors", "nets"),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all; returns how many failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--quick", action="store_true", help="small counts: does it run?")
    add("--only", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    add("--torch-python", help="an interpreter with torch and Keras")
    add("--peers-python", default=sys.executable, help="one with Foolbox, ART and CleverHans")
    add("--authors", type=Path, help="fra31/auto-attack")
    add("--nets", type=Path, default=NETS, help="where resnet/… lie, and are trained into")
    add("--out", type=Path)
    options = parser.parse_args(arguments)
    given = {name.replace("_", "-"): value for name, value in vars(options).items()}
    command = shlex.join(["python", "-m", "tests.benchmarks", *arguments])
    sections, failed = [f"# Benchmarks\n\n`{command}`"], []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            part = PARTS[name]
            out = Path(folder) / f"{name}.md"
            typed = shlex.split(part.quick if options.quick else part.full)
            for option in part.takes:
                if given[option]:
                    value = given[option]
                    whole = value.resolve() if isinstance(value, Path) else value
                    typed += [f"--{option}", str(whole)]
            python = options.peers_python if part.module == "pgd" else sys.executable
            say(f"{name}: python -m tests.benchmarks.{part.module} {shlex.join(typed)}")
            began = time.perf_counter()
            finished = subprocess.run(
                [python, "-m", f"tests.benchmarks.{part.module}", *typed, "--out", out],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                check=False,
            )
            say(f"{name}: {time.perf_counter() - began:.0f} s")
            if finished.returncode:
                failed.append(name)
            text = out.read_text(encoding="utf-8").strip() if out.is_file() else "Failed."
            sections.append(f"## {part.title}\n\n{text}")
            if options.out is not None:  # what is known so far
                options.out.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    publish("\n\n".join(sections), options.out)
    if failed:
        say(f"failed: {', '.join(failed)}")
    return min(len(failed), 1)


if __name__ == "__main__":
    sys.exit(main())
