"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advcli.models.runtime import cores
from tests.benchmarks.cases import NETS


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m tests.benchmarks.NAME`, with the options that all have."""
    made = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--nets", type=Path, default=NETS, help="where resnet/… lie, or are made")
    made.add_argument("--out", type=Path, help="write the Markdown here too")
    return made


def facts(name: str, arguments: Sequence[str], options: Any, repetitions: str) -> dict[str, str]:
    """What stands above every table, but for versions and device."""
    command = shlex.join(["python", "-m", f"tests.benchmarks.{name}", *arguments])
    return {"command": f"`{command}`", "repetitions": repetitions, "seed": str(options.seed)}


def one_at_a_time() -> None:
    """Operations are split among all cores, as others expect of TensorFlow; before it is imported.

    By default advcli gives its threads a share of the cores each.
    """
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(cores()))
