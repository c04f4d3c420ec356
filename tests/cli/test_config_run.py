"""A run that a configuration file asked for: its gates and waivers, and going on with it."""

from __future__ import annotations

import datetime
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from advcli.audit import waivers
from advcli.cli import exits

from .support import SAMPLES

RUN = f"""\
model = "{SAMPLES}/cnn.h5"
images = "{SAMPLES}/images"
attack = "fgsm"
limit = 16
preprocess = "unit"
out = "run"
quiet = true
"""
GATE = """\
[[gates]]
scope = "fgsm"
fail-under = 100
accept = { until = 2027-03-31, reason = "ticket 123" }
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the test run's own handlers stay
    for name in [name for name in os.environ if name.startswith("ADVCLI_")]:
        monkeypatch.delenv(name)


def advcli(toml: str | None, *arguments: str) -> int:
    if toml is not None:
        Path("advcli.toml").write_text(toml)
    return exits.run(list(arguments))


def kept(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("run", name).read_text())
    return found


def asked() -> list[float]:
    return [row["eps"] for row in kept("summary.json")["attacks"]]


def test_from_the_first_run_to_an_expired_waiver(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    toml = f"{RUN}eps = 0.1\nseed = 3\n{GATE}"
    monkeypatch.setattr(waivers, "today", lambda: datetime.date(2027, 3, 31))
    assert advcli(toml, "evaluate", "--eps", "0.15", "--seed", "0") == 0
    assert "failure waived until 2027-03-31: ticket 123" in capsys.readouterr().out
    (gate,) = kept("summary.json")["gates"]
    assert (gate["gate"], gate["verdict"]) == ("fgsm=100", "fail")
    assert gate["waiver"]["state"] == "accepted"
    run = kept("run.json")
    assert run["judged_on"] == "2027-03-31"
    assert (run["config_file"]["path"], run["config_file"]["options"]["eps"]) == (
        "advcli.toml",
        0.1,
    )
    journal = Path("run/results.jsonl").read_bytes()

    monkeypatch.setattr(waivers, "today", lambda: datetime.date(2027, 4, 1))
    assert advcli(None, "verify", "run") == 0  # by the date that was used, not today's
    assert advcli(None, "report", "run") == 0
    assert "waived until 2027-03-31" in capsys.readouterr().out
    # The file says another eps and seed than the run, and did so when it began: they stay
    assert advcli(None, "evaluate", "--resume") == 1
    assert "its waiver expired after 2027-03-31: ticket 123" in capsys.readouterr().out
    assert kept("run.json")["judged_on"] == "2027-04-01"
    assert (asked(), Path("run/results.jsonl").read_bytes()) == ([0.15], journal)
    changed = toml.replace("eps = 0.1\n", "eps = 0.2\n").replace("100", "0")
    assert advcli(changed, "evaluate", "--resume") == 0
    assert asked() == [0.15, 0.2]
    assert [gate["gate"] for gate in kept("summary.json")["gates"]] == ["fgsm=0"]


def test_a_gate_of_the_file_on_a_class_that_is_not_there(capsys: Any) -> None:
    toml = f"{RUN}[[gates]]\nscope = 'class:cow'\nfail-under = 40\n"
    assert advcli(toml, "evaluate") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "advcli.toml: gates[1] class:cow=40: there is no class 'cow'" in err
    assert not Path("run").exists()
