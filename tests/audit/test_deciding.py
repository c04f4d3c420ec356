"""Gates by their intervals (`--confident`)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advcli.audit.deciding import decide, share_figure
from advcli.audit.gates import judge, parse_gate
from advcli.audit.statistics import wilson

from .support import answer, clean, phase, summary_of


def summary(robust: dict[float, int], total: int, **config: Any) -> dict[str, Any]:
    """A run in which so many images stand at each eps."""
    lines = [clean(str(i), 0, 0) for i in range(total)]
    for eps, count in robust.items():
        lines += [
            answer(str(i), int(i >= count), success=i >= count, eps=eps) for i in range(total)
        ]
    return summary_of(lines, [phase(eps=tuple(robust))], **config)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 120), st.integers(1, 120), st.integers(0, 100))
def test_a_verdict_needs_the_whole_interval(robust: int, total: int, percent: int) -> None:
    robust = min(robust, total)
    low, high = wilson(robust, total) or (0, 0)
    asked = {"fail_under": (f"{percent}",)}
    (sure,) = summary({0.1: robust}, total, confident=True, **asked)["gates"]
    (plain,) = summary({0.1: robust}, total, **asked)["gates"]
    threshold = percent / 100
    expected = "pass" if low >= threshold else "fail" if high < threshold else "inconclusive"
    assert sure["verdict"] == expected
    assert plain["verdict"] == ("pass" if robust / total >= threshold else "fail")
    for key in ("value", "ci95", "images_needed", "threshold"):
        assert sure[key] == plain[key]
    if expected != "inconclusive":
        assert sure["images_needed"] is sure["doubt"] is None
    elif robust / total != threshold:
        assert sure["images_needed"] > 0
        assert sure["doubt"] == "interval"
        more = total + sure["images_needed"]
        low, high = wilson(robust / total * more, more) or (0, 1)
        assert low >= threshold or high < threshold


def test_the_summary_ends_as_its_gates_do() -> None:
    asked = {"fail_under": ("40",), "confident": True}
    for robust, verdict, code in ((95, "pass", 0), (82, "inconclusive", 3), (60, "fail", 1)):
        found = summary({0.1: robust}, 200, **asked)
        assert (found["verdict"], found["exit_code"]) == (verdict, code)
        forgiven = summary({0.1: robust}, 200, exit_zero=True, **asked)
        assert forgiven["exit_code"] == (0 if code == 1 else code)


def test_among_several_rows_the_one_that_decides() -> None:
    (gate,) = summary({0.1: 150, 0.2: 95}, 200, fail_under=("40",), confident=True)["gates"]
    assert (gate["verdict"], gate["where"]) == ("pass", "worst case linf 51/255")
    (gate,) = summary({0.1: 95, 0.2: 82}, 200, fail_under=("40",), confident=True)["gates"]
    assert (gate["verdict"], gate["value"]) == ("inconclusive", 0.41)
    assert gate["images_needed"] == 9220 - 200
    (gate,) = summary({0.1: 82, 0.2: 60}, 200, fail_under=("40",), confident=True)["gates"]
    assert (gate["verdict"], gate["value"]) == ("fail", 0.3)
    # one row below is enough to fail, so the fewest that would show it
    (gate,) = summary({0.1: 82, 0.2: 78}, 200, fail_under=("40",), confident=True)["gates"]
    assert gate["value"] == 0.39
    assert gate["images_needed"] == pytest.approx(9220 - 200, abs=2)
    for eps, robust in ((0.1, 81), (0.1, 78)):
        (gate,) = summary({eps: robust, 0.2: 70}, 200, fail_under=("40",), confident=True)["gates"]
        assert gate["images_needed"] < 500


def test_the_row_without_a_verdict_is_shown_though_another_is_lower() -> None:
    figures = [
        found
        for name, count, total in (("many", 4500, 10_000), ("few", 46, 100))
        if (found := share_figure(name, count / total, wilson(count, total), total, total))
    ]
    for confident, where, verdict in ((True, "few", "inconclusive"), (False, "many", "pass")):
        gate = decide(figures, 0.4, confident=confident, suspect=False, errors=False)
        assert (gate["where"], gate["verdict"]) == (where, verdict)


def test_at_the_threshold_no_number_of_images_settles_it() -> None:
    (gate,) = summary({0.1: 80}, 200, fail_under=("40",), confident=True)["gates"]
    assert (gate["verdict"], gate["images_needed"], gate["doubt"]) == (
        *("inconclusive", None, "interval"),
    )


def test_suspect_and_errors_keep_their_rules() -> None:
    found = summary({0.1: 190}, 200)
    found["soundness"]["verdict"] = "suspect"

    def gate(percent: int) -> dict[str, Any]:
        judged = judge([parse_gate(f"{percent}")], found, exit_zero=False, confident=True)
        return judged["gates"][0]

    assert (gate(40)["verdict"], gate(40)["doubt"]) == ("inconclusive", "suspect")
    assert (gate(99)["verdict"], gate(99)["doubt"]) == ("fail", None)
    assert gate(94)["doubt"] == "interval"
    found["clean"]["errors"] = 1
    assert (gate(99)["verdict"], gate(99)["doubt"]) == ("inconclusive", "errors")
    assert gate(94)["images_needed"] is None


def test_images_that_a_fitted_attack_learned_from_count_as_needed_too() -> None:
    found = summary({0.1: 82}, 200)
    for row in (*found["attacks"], *found["worst_case"]):
        row["total"] = 100  # half of the images judged
    (gate,) = judge([parse_gate("40")], found, exit_zero=False, confident=True)["gates"]
    assert gate["images_needed"] == 2 * (9220 - 100)


def test_a_scope_of_a_class_counts_that_class() -> None:
    lines = [clean(str(i), i % 2, i % 2) for i in range(100)]
    lines += [answer(str(i), i % 2, success=False) for i in range(100)]
    found = summary_of(lines, [phase()], fail_under=("class:c0=95",), confident=True)
    (gate,) = found["gates"]
    assert (gate["verdict"], gate["where"]) == ("inconclusive", "class c0 linf 0.1")
    low, _ = wilson(50 + gate["images_needed"], 50 + gate["images_needed"]) or (0, 0)
    before, _ = wilson(49 + gate["images_needed"], 49 + gate["images_needed"]) or (0, 0)
    assert before < 0.95 <= low


def test_nothing_measured_is_no_verdict() -> None:
    found = summary_of([clean("a", None, None, sha256=None, error="gone")], [phase()])
    (gate,) = judge([parse_gate("clean=1")], found, exit_zero=False)["gates"]
    assert (gate["verdict"], gate["doubt"], gate["value"]) == ("inconclusive", "no images", None)
