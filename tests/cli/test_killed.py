"""A run killed at random moments and resumed is the run that was never killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from advcli.audit.journal import read_lines

from ..audit.test_run import figures
from .support import PYTHON, SAMPLES, environment

ASKED = [
    *("evaluate", str(SAMPLES / "robust.h5"), str(SAMPLES / "images"), "--preprocess", "unit"),
    *("-a", "pgd:steps=10", "-a", "fmn:steps=20", "--eps", "26/255,38/255"),
    *("--limit", "120", "--batch-size", "8", "--format", "json", "-q"),
]
LINES = 120 * 4  # clean, two budgets, one minimum-norm line, but for clean mistakes


def start(out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PYTHON, "-m", "advcli", *ASKED, "--out", str(out), "--resume"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def count(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.mark.slow  # one kill: test_exit_codes.py
@pytest.mark.parametrize("kills", [3, 20])
def test_killed_and_resumed(kills: int, tmp_path: Path) -> None:
    dice = random.Random(kills)
    journal = tmp_path / "killed" / "results.jsonl"
    moments = sorted(dice.sample(range(1, LINES - 30), kills))
    for moment in moments:
        before = journal.read_bytes() if journal.exists() else b""
        process = start(tmp_path / "killed")
        while count(journal) < moment and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
        # what was finished stays as it is, but for a torn last line
        assert journal.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    summaries = []
    for name in ("killed", "whole"):
        process = start(tmp_path / name)
        out, err = process.communicate(timeout=170)
        assert process.returncode == 0, err
        summaries.append(json.loads(out))
    killed, whole = summaries
    assert figures(killed) == figures(whole)
    asked = [
        (line["image"], line["attack"], line.get("norm"), line.get("eps"))
        for line in read_lines(journal)
    ]
    assert len(asked) == len(set(asked)) == count(tmp_path / "whole" / "results.jsonl")
