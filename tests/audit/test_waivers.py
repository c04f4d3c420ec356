"""A gate whose failure is accepted until a date: what counts, and what is said."""

import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advcli.audit import waivers
from advcli.audit.gates import gates_of, judge
from advcli.audit.plan import AuditConfig
from advcli.audit.summary import summarise

from .support import Ledger, answer, clean, phase, run_of

LAST = datetime.date(2027, 3, 31)
AFTER = LAST + datetime.timedelta(days=1)
ACCEPT = {"until": "2027-03-31", "reason": "retraining, ticket 123"}


def lines(robust: int) -> list[dict[str, Any]]:
    return [
        *(clean(str(i), 0, 0) for i in range(10)),
        *(answer(str(i), int(i >= robust), success=i >= robust) for i in range(10)),
    ]


def judged(
    robust: int, gates: list[dict[str, Any]], day: datetime.date | str | None, **config: Any
) -> dict[str, Any]:
    run = run_of([phase()], gates=gates, **config)
    return summarise(run | {"judged_on": day and str(day)}, Ledger.read(lines(robust)))


def outcome(found: dict[str, Any]) -> tuple[str, int, list[tuple[str, str | None]]]:
    rows = [(g["verdict"], g["waiver"] and g["waiver"]["state"]) for g in found["gates"]]
    return found["verdict"], found["exit_code"], rows


@pytest.mark.parametrize(
    ("robust", "day", "expected"),
    [
        (3, LAST, ("pass", 0, [("fail", "accepted")])),
        (3, AFTER, ("fail", 1, [("fail", "expired")])),
        (4, LAST, ("pass", 0, [("pass", "unneeded")])),
        (4, AFTER, ("pass", 0, [("pass", "expired")])),
    ],
)
def test_a_failure_is_accepted_up_to_the_last_day(
    robust: int, day: datetime.date, expected: object
) -> None:
    found = judged(robust, [{"gate": "40", "accept": ACCEPT}], day)
    assert outcome(found) == expected
    row = found["gates"][0]
    assert row["waiver"] == ACCEPT | {"state": expected[2][0][1]}
    assert (row["gate"], row["threshold"], row["value"]) == ("40", 0.4, robust / 10)


def test_a_waiver_is_its_own_gates() -> None:
    both = [{"gate": "40", "accept": ACCEPT}, {"gate": "35"}]
    assert outcome(judged(3, both, LAST))[:2] == ("fail", 1)
    assert outcome(judged(3, both, LAST, exit_zero=True))[:2] == ("fail", 0)
    floor = [{"gate": "40", "accept": ACCEPT}, {"gate": "30"}]
    assert outcome(judged(3, floor, LAST)) == ("pass", 0, [("fail", "accepted"), ("pass", None)])


def test_gates_of_the_file_are_in_addition_to_the_options() -> None:
    found = judged(3, [{"gate": "30"}], LAST, fail_under=("clean=90", "40"))
    assert [(g["gate"], g["verdict"]) for g in found["gates"]] == [
        ("clean=90", "pass"),
        ("40", "fail"),
        ("30", "pass"),
    ]
    assert found["exit_code"] == 1


def test_a_missing_verdict_is_not_accepted() -> None:
    """Neither suspect figures that would pass nor errors on images; a failure on them is."""
    gates = gates_of((), [{"gate": "40", "accept": ACCEPT}])
    for robust, expected in (
        (4, ("inconclusive", 3, [("inconclusive", "undecided")])),
        (3, ("pass", 0, [("fail", "accepted")])),
    ):
        found = judged(robust, [], LAST)
        found["soundness"]["verdict"] = "suspect"
        assert outcome(found | judge(gates, found, exit_zero=False, day=LAST)) == expected
    found = judged(3, [], LAST)
    found["attacks"][0]["errors"] = 1
    assert outcome(found | judge(gates, found, exit_zero=True, day=LAST))[:2] == ("inconclusive", 3)


@given(
    st.lists(st.tuples(st.integers(0, 100), st.none() | st.integers(-2, 2)), min_size=1),
    st.integers(0, 10),
)
def test_only_failures_without_a_waiver_in_force_count(
    asked: list[tuple[int, int | None]], robust: int
) -> None:
    gates = [
        {"gate": str(percent)}
        if days is None
        else {
            "gate": str(percent),
            "accept": ACCEPT | {"until": str(LAST + datetime.timedelta(days=days))},
        }
        for percent, days in asked
    ]
    counted = any(10 * robust < percent and (days is None or days < 0) for percent, days in asked)
    assert judged(robust, gates, LAST)["exit_code"] == int(counted)


def test_the_stored_date_decides_and_not_today(monkeypatch: pytest.MonkeyPatch) -> None:
    gates = [{"gate": "40", "accept": ACCEPT}]
    monkeypatch.setattr(waivers, "today", lambda: AFTER)
    assert judged(3, gates, LAST)["exit_code"] == 0
    assert judged(3, gates, None)["exit_code"] == 1  # a run.json without one
    monkeypatch.setattr(waivers, "today", lambda: LAST)
    assert judged(3, gates, AFTER)["exit_code"] == 1
    assert judged(3, gates, None)["exit_code"] == 0


def test_run_json_keeps_gates_and_waivers() -> None:
    config = AuditConfig.model_validate(
        {"command": "evaluate", "model": "m", "images": "i"}
        | {"gates": [{"gate": "40", "accept": {"until": LAST, "reason": "x"}}, {"gate": "30"}]}
    )
    stored = json.loads(json.dumps(config.model_dump(mode="json")))
    assert AuditConfig.model_validate(stored) == config
    assert stored["gates"][0]["accept"] == {"until": "2027-03-31", "reason": "x"}
