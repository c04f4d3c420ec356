"""`--dry-run`: the plan's figures, and that nothing is run or written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from advcli.attacks.registry import parse_spec
from advcli.cli import exits
from advcli.reports.plan import duration
from advcli.threats.space import Space

from .support import SAMPLES

ASKED = [
    *("evaluate", str(SAMPLES / "robust.h5"), str(SAMPLES / "images"), "--preprocess", "unit"),
    *("-a", "pgd:steps=7", "-a", "fmn:steps=5", "-a", "corruption", "--eps", "0.1,0.2"),
    *("--limit", "30", "--batch-size", "16", "--dry-run", "--fail-under", "99", "-q"),
]


def test_the_plan_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert exits.run([*ASKED, "--out", str(out), "--format", "json"]) == 0
    assert not out.exists()
    plan = json.loads(capsys.readouterr().out)
    space = Space("linf", (28, 28, 1))
    jobs = {job["attack"]: job for job in plan["jobs"]}
    for spec, questions in (("pgd:steps=7", 2), ("fmn:steps=5", 1)):  # one search for all eps
        forwards, gradients = parse_spec(spec, None).attack.cost(space)
        assert jobs[spec]["forwards_at_most"] == 30 * questions * forwards
        assert jobs[spec]["gradients_at_most"] == 30 * questions * gradients
        seconds = jobs[spec]["seconds_at_most"] * plan["step"]["batch_size"]
        assert seconds >= 30 * gradients * plan["step"]["gradient_seconds"] > 0
    assert jobs["corruption"]["forwards_at_most"] == 30 * 19 * 5
    parts = sum(job["seconds_at_most"] for job in plan["jobs"])
    assert plan["total"]["seconds_at_most"] > parts
    assert exits.run([*ASKED, "--format", "csv"]) == 2
    assert "soundness" not in jobs
    assert exits.run([*ASKED, "--soundness", "full", "--format", "json"]) == 0
    full = json.loads(capsys.readouterr().out)
    *before, probes = full["jobs"]
    assert [job["attack"] for job in before] == [job["attack"] for job in plan["jobs"]]
    assert (probes["attack"], probes["norm"], probes["eps"]) == ("soundness", "linf", [0.2])
    assert probes["images"] == 16
    assert probes["seconds_at_most"] > 0
    for calls in ("forwards_at_most", "gradients_at_most"):
        assert full["total"][calls] == plan["total"][calls] + probes[calls]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "–"), (0.2, "<1 s"), (45, "45 s"), (119, "119 s"), (150, "2.5 min"), (8000, "2.2 h")],
)
def test_durations_as_people_say_them(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown
