"""Robust accuracy over eps, against the rows of the same run and against counting by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advcli.audit.ledger import Ledger
from advcli.audit.phases import open_questions
from advcli.audit.plan import AuditConfig, draft_phases
from advcli.errors import UsageError

from .support import answer, clean, phase, summary_of

EPS = (0.1, 0.2, 0.4)


def found(curve: list[dict[str, Any]], attack: str) -> dict[float, float]:
    (points,) = [c["points"] for c in curve if c["attack"] == attack]
    assert [p["eps"] for p in points] == sorted({p["eps"] for p in points})
    assert points[0]["eps"] == 0
    return {point["eps"]: point["robust_accuracy"] for point in points}


def minimum(image: str, distance: float | None, attack: str = "cw") -> dict[str, Any]:
    return answer(
        image,
        0 if distance is None else 1,
        success=distance is not None,
        attack=attack,
        norm="l2",
        eps=None,
        distance=distance or 0.0,
    )


def test_each_image_falls_at_its_distance() -> None:
    lines = [clean(str(i), 0, 0) for i in range(4)] + [clean("wrong", 0, 1)]
    lines += [minimum(str(i), d) for i, d in enumerate((0.5, 1.0, 4.0, None))]
    curve = summary_of(lines, [phase("cw", "l2", (1.0,))], curve=True)["curve"]
    assert [(c["attack"], c["norm"], c["total"]) for c in curve] == [("cw", "l2", 5)]
    at = found(curve, "cw")
    assert at[0.0] == 0.8
    for eps, share in at.items():
        assert share == sum(d > eps * (1 + 1e-6) for d in (0.5, 1.0, 4.0, math.inf)) / 5
    assert at[1.0] == 0.4  # at its distance an image has fallen
    assert min(at.values()) == 0.2
    assert 20 <= len(at) <= 60


def test_a_budget_attack_speaks_of_its_budgets_alone() -> None:
    """What it found within one lies where it lies; the rows do not know of it, nor does a curve."""
    lines = [clean("a", 0, 0), answer("a", 1, success=True, norm="l2", eps=0.4, distance=0.05)]
    curve = summary_of(lines, [phase("pgd", "l2", EPS)], curve=True)["curve"]
    assert found(curve, "pgd") == {0.0: 1.0, 0.1: 1.0, 0.2: 1.0, 0.4: 0.0}


def test_without_the_flag_there_is_none() -> None:
    lines = [clean("a", 0, 0), minimum("a", 1.0)]
    assert summary_of(lines, [phase("cw", "l2", (1.0,))])["curve"] == []


def test_linf_on_the_grid_knows_whole_levels_only() -> None:
    lines = [clean(str(i), 0, 0) for i in range(9)]
    lines += [
        answer(str(i), 1, success=True, attack="hopskipjump", eps=None, distance=(i + 1) / 255)
        for i in range(9)
    ]
    asked = [phase("hopskipjump", "linf", (8 / 255,))]
    levels = [
        255 * eps for eps in found(summary_of(lines, asked, curve=True)["curve"], asked[0].spec)
    ]
    assert levels == pytest.approx([round(level) for level in levels])
    free = summary_of(lines, asked, curve=True, pixels="float")["curve"]
    assert any(abs(255 * eps - round(255 * eps)) > 0.1 for eps in found(free, asked[0].spec))


def test_one_far_image_does_not_swallow_the_others() -> None:
    lines = [clean(str(i), 0, 0) for i in range(100)]
    lines += [minimum(str(i), 50.0 if i == 0 else 0.5 + i / 100) for i in range(100)]
    at = found(summary_of(lines, [phase("cw", "l2", (1.0,))], curve=True)["curve"], "cw")
    assert sum(0.1 < share < 0.9 for share in at.values()) >= 15
    assert min(at.values()) == 0


distances = st.lists(st.one_of(st.none(), st.floats(0.01, 1.0)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(near=distances, data=st.data(), cascade=st.booleans())
def test_a_curve_says_what_the_rows_say(
    near: list[float | None], data: st.DataObject, cascade: bool
) -> None:
    """Wherever both speak: a sweep of a budget attack, then a minimum-norm attack over the rest."""
    phases = [
        phase("pgd", "l2", EPS, cascade=cascade),
        phase("cw", "l2", EPS, cascade=cascade),
    ]
    lines = [clean(str(i), 0, data.draw(st.sampled_from([0, 0, 0, 1]))) for i in range(len(near))]
    for line in lines[:]:
        if line["clean_prediction"] == 1:
            continue
        falls = data.draw(st.sampled_from([*EPS, math.inf]))
        lines += [
            answer(
                line["image"],
                int(eps >= falls),
                success=eps >= falls,
                norm="l2",
                eps=eps,
                distance=min(falls, eps),
            )
            for eps in EPS
        ]
        if not cascade or falls > EPS[0]:  # standing somewhere
            lines.append(minimum(line["image"], near[int(line["image"])]))
    summary = summary_of(lines, phases, curve=True)
    for row in summary["attacks"]:
        assert found(summary["curve"], row["attack"])[row["eps"]] == row["robust_accuracy"]
    for row in summary["worst_case"]:
        assert found(summary["curve"], "worst case")[row["eps"]] == row["robust_accuracy"]
    for curve in summary["curve"]:
        shares = [point["robust_accuracy"] for point in curve["points"]]
        assert shares == sorted(shares, reverse=True)
    if cascade:
        last = summary["attacks"][-3:]
        assert [r["robust_accuracy"] for r in last] == [
            r["robust_accuracy"] for r in summary["worst_case"]
        ]


def test_a_minimum_norm_attack_sees_what_stands_at_some_eps() -> None:
    """a fell at the larger budget alone, b at both, c at none."""
    phases = (
        phase("pgd", "l2", (1.0, 2.0), cascade=True),
        phase("cw", "l2", (1.0, 2.0), cascade=True),
        phase("pgd:steps=100", "l2", (1.0, 2.0), cascade=True),
    )
    lines = [clean(i, 0, 0) for i in "abc"]
    for image, falls in {"a": 2.0, "b": 1.0, "c": math.inf}.items():
        lines += [
            answer(
                image, int(eps >= falls), success=eps >= falls, norm="l2", eps=eps, distance=falls
            )
            for eps in (1.0, 2.0)
        ]
    ledger = Ledger.read(lines)
    todo, _ = open_questions(ledger, phases[1], phases, {*"abc"}, misclassified=False)
    assert todo == {"a": (), "c": ()}
    for line in (minimum("a", 1.5), minimum("c", 1.5)):
        ledger.add(line)
        lines.append(line)
    todo, _ = open_questions(ledger, phases[2], phases, {*"abc"}, misclassified=False)
    assert todo == {"a": (1.0,), "c": (1.0,)}  # both stand at 1, neither at 2
    lines.append(
        answer("a", 1, success=True, attack="pgd:steps=100", norm="l2", eps=1.0, distance=1.0)
    )
    lines.append(answer("c", 0, success=False, attack="pgd:steps=100", norm="l2", eps=1.0))
    rows = summary_of(lines, list(phases))["attacks"]
    assert [(r["attempted"], r["broken"], r["robust"]) for r in rows] == [
        (3, 1, 2),  # pgd at 1
        (3, 2, 1),
        (2, 0, 2),  # cw at 1: 1.5 is beyond
        (1, 1, 0),  # at 2: only c was left for it
        (2, 1, 1),
        (0, 0, 0),
    ]


def drafted(**more: Any) -> list[tuple[str, str]]:
    config = {"command": "evaluate", "model": "m", "images": "i", "curve": True} | more
    return [(p.spec, p.norm) for p in draft_phases(AuditConfig.model_validate(config))]


def test_a_curve_needs_distances() -> None:
    with pytest.raises(UsageError, match="needs distances") as caught:
        drafted(attacks=("pgd",))
    assert "-a fmn" in caught.value.hint
    with pytest.raises(UsageError, match="needs distances"):
        drafted(preset="quick")
    assert drafted(attacks=("pgd",), eps=(0.1, 0.2)) == [("pgd", "linf")]
    assert drafted(attacks=("cw",)) == [("cw", "l2")]


def test_beside_a_fitted_attack_it_is_that_of_the_images_that_both_judged() -> None:
    phases = (phase("pgd", "l2", (1.0,)), phase("universal", "l2", (1.0,)))
    lines = [clean(str(i), 0, 0) | {"sha256": f"{i * 2**28:08x}{'0' * 56}"} for i in range(16)]
    judged = {line["image"] for line in lines if phases[1].judges(line["sha256"])}
    fooled = set(sorted(judged)[:3]) | {line["image"] for line in lines} - judged
    for image in [line["image"] for line in lines]:
        options = {"success": image in fooled, "norm": "l2", "eps": 1.0, "distance": 1.0}
        lines.append(answer(image, int(image in fooled), **options))
        if image in judged:
            options |= {"success": False, "attack": "universal"}
            lines.append(answer(image, 0, **options))
    summary = summary_of(lines, phases, curve=True)
    assert 3 < len(judged) < 16
    (row,) = summary["worst_case"]
    assert row["robust_accuracy"] == pytest.approx(1 - 3 / len(judged))
    assert row["broken_by"] == {"pgd": 3, "universal": 0}
    assert found(summary["curve"], "worst case")[1.0] == row["robust_accuracy"]
    gated = summary_of(lines, phases, fail_under=("60",))  # pgd alone stands below it
    assert gated["gates"][0]["value"] == gated["attacks"][0]["robust_accuracy"]
