"""Attacks that contradict one another, on journals made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from advcli.audit.contradictions import contradictions
from advcli.audit.ledger import Ledger

from .support import answer, clean, phase


def found(
    phases: list[Any], wins: dict[str, set[int]], images: int, gradients: int = 40
) -> dict[str, str]:
    """`wins`: attack -> the images that it fools; in a cascade later attacks see the others."""
    lines = [clean(f"{i}.png", 0, 0) for i in range(images)]
    standing = set(range(images))
    for one in phases:
        for i in sorted(standing if one.cascade else range(images)):
            won = i in wins[one.spec]
            lines.append(
                answer(
                    f"{i}.png",
                    1 if won else 0,
                    success=won,
                    attack=one.spec,
                    eps=None if one.minimum else 0.1,
                    gradients=gradients if one.attack.access == "gradient" else 0,
                )
            )
        if one.cascade:
            standing -= wins[one.spec]
    return dict(contradictions(Ledger.read(lines), phases))


@pytest.mark.parametrize(
    ("square", "pgd", "said"),
    [
        (8, 0, True),  # 8 against 0: p = 0.008
        (7, 0, False),  # p = 0.016
        (20, 4, True),  # p = 0.0015
        (20, 8, False),  # p = 0.036
        (4, 20, False),  # the stronger attack is the stronger one
    ],
)
def test_a_black_box_that_wins_by_more_than_chance(square: int, pgd: int, said: bool) -> None:
    wins = {"square": set(range(square)), "pgd": set(range(50, 50 + pgd))}
    seen = found([phase("pgd"), phase("square")], wins, images=100)
    assert ("black box" in seen) == said
    if said:
        assert f"fooled {square} images" in seen["black box"]
        assert f"the other way round: {pgd}" in seen["black box"]


@pytest.mark.parametrize("spec", ["fgsm", "pgd:steps=10"])
def test_a_few_gradient_steps_are_no_search(spec: str) -> None:
    wins = {"square": set(range(30)), spec: set()}
    assert found([phase(spec), phase("square")], wins, images=40) == {}


def test_a_search_that_gave_up_early_did_not_fool() -> None:
    """With two classes `race` gives up after eight gradients, just where they lead nowhere."""
    cascade = [phase("race", cascade=True), phase("square", cascade=True)]
    wins = {"race": set(), "square": set(range(5))}
    assert "black box" in found(cascade, wins, images=74, gradients=8)


@pytest.mark.parametrize(
    ("images", "left", "said"), [(10, 3, True), (10, 2, False), (1000, 3, True), (1600, 3, False)]
)
def test_what_a_cascade_left_for_its_black_box(images: int, left: int, said: bool) -> None:
    """AutoAttack's own rule: Square at its end should have nothing left to do."""
    cascade = [phase("apgd", cascade=True), phase("square", cascade=True)]
    wins = {"apgd": set(), "square": set(range(left))}
    assert ("black box" in found(cascade, wins, images)) == said


def test_a_search_for_the_nearest_counts_at_the_budget() -> None:
    """`fmn` found something, but farther away than eps: to the black box it lost."""
    lines = []
    for i in range(20):
        lines += [
            clean(f"{i}.png", 0, 0),
            answer(
                f"{i}.png", 1, success=True, attack="fmn", eps=None, distance=0.2, gradients=100
            ),
            answer(f"{i}.png", 1, success=True, attack="square", gradients=0),
        ]
    phases = [phase("fmn"), phase("square")]
    assert "black box" in dict(contradictions(Ledger.read(lines), phases))
    near = [line | ({"distance": {"linf": 0.05}} if "norm" in line else {}) for line in lines]
    assert not dict(contradictions(Ledger.read(near), phases))


@pytest.mark.parametrize(("more", "said"), [(13, True), (9, False)])
def test_cross_entropy_that_is_blinded(more: int, said: bool) -> None:
    """Honest models: a margin fools a few per cent more. Blinded ones: far more."""
    wins = {"apgd": set(range(20)), "apgd:loss=dlr": set(range(20 + more))}
    seen = found([phase("apgd"), phase("apgd:loss=dlr")], wins, images=100)
    assert ("loss" in seen) == said


def test_only_images_that_both_were_asked_about_count() -> None:
    """The black box saw others than the gradient: nothing can be said."""
    lines = [clean(f"{i}.png", 0, 0) for i in range(40)]
    lines += [answer(f"{i}.png", 0, success=False, gradients=40) for i in range(20)]
    lines += [
        answer(f"{i}.png", 1, success=True, attack="square", gradients=0) for i in range(20, 40)
    ]
    assert not dict(contradictions(Ledger.read(lines), [phase("pgd"), phase("square")]))
