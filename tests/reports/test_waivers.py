"""Every format shows a waiver with its reason and its date, whatever the reason says."""

import csv
import datetime
import io
import json
from typing import Any
from xml.etree import ElementTree

import pytest

from advcli.audit.drop import GATE
from advcli.audit.summary import summarise
from advcli.reports import figures, files, terminal

from ..audit.support import Ledger, answer, clean, phase, run_of

HOSTILE = "=1+1|\x1b[31m<b>`x`\n@team ]]> [red]"
STATES = {  # state -> (day, gate)
    "accepted": ("2027-03-31", "40"),
    "expired": ("2027-04-01", "40"),
    "unneeded": ("2027-03-31", "20"),
}
SAID = {
    "accepted": "failure waived until 2027-03-31",
    "expired": "its waiver expired after 2027-03-31",
    "unneeded": "its waiver until 2027-03-31 is no longer needed",
}


def summary(state: str, reason: str = "ticket 123") -> dict[str, Any]:
    day, gate = STATES[state]
    waiver = {"until": datetime.date(2027, 3, 31), "reason": reason}
    lines = [clean(str(i), 0, 0) for i in range(10)]
    lines += [answer(str(i), int(i >= 3), success=i >= 3) for i in range(10)]
    run = run_of([phase()], gates=[{"gate": gate, "accept": waiver}])
    return summarise(run | {"judged_on": day}, Ledger.read(lines))


def rendered(found: dict[str, Any], name: str) -> str:
    return terminal.render(found) if name == "table" else files.render(found, name)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", ["table", "markdown", "csv", "junit"])
def test_reason_and_date_are_shown(name: str, state: str) -> None:
    text = rendered(summary(state), name).replace("\\", "")
    assert f"{SAID[state]}: ticket 123" in text


def test_the_headline_does_not_say_that_every_gate_holds() -> None:
    found = summary("accepted")
    for name in ("table", "markdown"):
        assert "every gate holds, but for 1 whose failure is waived" in rendered(found, name)
        assert "waived" not in rendered(summary("unneeded"), name)
        assert "not robust enough" in rendered(summary("expired"), name)


def test_json_has_the_waiver_as_it_is() -> None:
    (gate,) = json.loads(files.render(summary("accepted"), "json"))["gates"]
    assert gate["verdict"] == "fail"
    assert gate["waiver"] == {"reason": "ticket 123", "until": "2027-03-31", "state": "accepted"}


def test_junit_skips_what_is_waived_and_nothing_else() -> None:
    for state, kind in (
        ("accepted", "skipped"),
        ("expired", "failure"),
        ("unneeded", "system-out"),
    ):
        suite = ElementTree.fromstring(files.render(summary(state), "junit"))[0]
        (case,) = suite.iter("testcase")
        assert [child.tag for child in case] == [kind]
        for counted in ("skipped", "failure"):
            name = "skipped" if counted == "skipped" else "failures"
            assert suite.get(name) == str(int(counted == kind))
        message = case[0].get("message") or case[0].text
        assert "30.0 %" in str(message)
        assert "ticket 123" in str(message)


def test_sarif_suppresses_what_is_waived_and_nothing_else() -> None:
    (result,) = json.loads(files.render(summary("accepted"), "sarif"))["runs"][0]["results"]
    assert result["level"] == "error"
    (suppression,) = result["suppressions"]
    assert (suppression["kind"], suppression["status"]) == ("external", "accepted")
    assert suppression["justification"] == "failure waived until 2027-03-31: ticket 123"
    run = json.loads(files.render(summary("expired"), "sarif"))["runs"][0]
    (result,) = run["results"]
    assert result["suppressions"] == []
    assert "expired after 2027-03-31: ticket 123" in result["message"]["text"]
    assert json.loads(files.render(summary("unneeded"), "sarif"))["runs"][0]["results"] == []


def test_github_is_told_of_a_waived_failure_and_not_alarmed() -> None:
    for state, level in (("accepted", "notice"), ("expired", "error")):
        note, *more = files.render(summary(state), "github").splitlines()
        assert [line.partition(" title=advcli::PASS")[0] for line in more] == ["::notice"] * (
            level == "notice"
        )
        assert note.startswith(f"::{level} title=")
        assert note.endswith(f"{SAID[state]}: ticket 123")
        assert ("fail, waived" in note.replace("%2C", ",")) == (state == "accepted")


def without_verdict() -> dict[str, Any]:
    """A run whose only gate is waived, and that was stopped."""
    found = {"check": "unfinished", "verdict": "suspect", "detail": "stopped halfway"}
    ended = summary("accepted") | {"verdict": "inconclusive", "exit_code": 3}
    return ended | {"soundness": {"verdict": "suspect", "findings": [found]}}


def test_junit_is_not_green_without_a_verdict() -> None:
    suite = ElementTree.fromstring(files.render(without_verdict(), "junit"))[0]
    assert (suite.get("skipped"), suite.get("errors")) == ("1", "1")
    (error,) = suite.iter("error")
    assert error.get("message") == "stopped halfway"


def test_a_waived_failure_is_not_why_a_run_failed() -> None:
    found = summary("accepted")
    drop = {"gate": GATE, "verdict": "fail", "threshold": 0.0, "value": -0.1}
    found |= {"verdict": "fail", "gates": [*found["gates"], drop]}
    assert figures.verdict(found) == "FAIL: the model got worse"


def test_a_hostile_reason_stays_text() -> None:
    found = summary("accepted", HOSTILE)
    for name in ("table", "markdown", "csv", "junit", "sarif"):
        text = rendered(found, name)
        assert "\x1b" not in text
        assert r"x1b" in text
    (result,) = json.loads(rendered(found, "sarif"))["runs"][0]["results"]
    assert r"\x1b[31m" in result["suppressions"][0]["justification"]
    rows = list(csv.DictReader(io.StringIO(rendered(found, "csv"))))
    assert rows[-1]["waiver"].startswith("failure waived until 2027-03-31: =1")
    assert "<b>" not in rendered(found, "markdown")
    (line,) = (x for x in rendered(found, "markdown").splitlines() if "waived until" in x)
    assert line.count(" | ") == 3
    assert "[red]" in rendered(found, "table")
