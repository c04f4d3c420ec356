"""Attacks crafted on a surrogate: the whole schedule there, one judgement by the model itself."""

from __future__ import annotations

import numpy as np
import pytest

from advcli.attacks.registry import parse_spec
from advcli.engine.jobs import Attempt, Chain, Subject
from advcli.engine.run import Engine
from tests.support.linear import Confirmed, LinearModel, images

SHAPE = (6, 6, 1)


class Counting(LinearModel):
    """Counts the images that it is asked about; its own gradient is never needed."""

    asked = 0

    def logits(self, x):
        raise AssertionError("a transfer attack never sees the model's logits")

    def confirm(self, x) -> Confirmed:
        self.asked += len(x)
        return super().confirm(x)


def near(model: LinearModel) -> LinearModel:
    """Another model of the same task: alike, not the same."""
    other = LinearModel(SHAPE, model.class_count)
    noise = np.random.default_rng(5).normal(size=model.W.shape)
    other.W = (model.W + 0.5 * np.abs(model.W).mean() * noise).astype(np.float32)
    other.b = (-0.5 * other.W.sum(axis=0)).astype(np.float32)
    return other


def crafted(model, surrogate, clean, labels, spec, norm="linf", eps=(6 / 255,), pixels="uint8"):
    subjects = [
        Subject(str(i), image, int(label), f"content {i}", eps)
        for i, (image, label) in enumerate(zip(clean, labels, strict=True))
    ]
    engine = Engine(model, batch_size=16, pixels=pixels, seed=0, surrogate=surrogate)
    return sorted(
        engine.run(parse_spec(spec, norm).attack, norm, subjects), key=lambda o: int(o.key)
    )


@pytest.fixture(scope="module")
def task():
    model = LinearModel(SHAPE, 3)
    clean = images(SHAPE, 40, low=60, high=196)
    return model, clean, model.confirm(clean / 255.0).prediction


@pytest.mark.parametrize("pixels", ["uint8", "float"])
def test_the_whole_schedule_is_run_and_the_model_judges_once(task, pixels):
    model, clean, labels = task
    judge = Counting(SHAPE, 3)
    surrogate = near(model)
    outcomes = crafted(judge, surrogate, clean, labels, "pgd:steps=12", pixels=pixels)
    assert judge.asked == len(clean)
    assert {o.steps for o in outcomes} == {12}
    # 12 on the way, the last step's end, and the judgement
    assert {(o.forwards, o.gradients) for o in outcomes} == {(14, 12)}
    for outcome, label in zip(outcomes, labels, strict=True):
        point = outcome.point / 255.0 if pixels == "uint8" else outcome.point
        assert outcome.prediction == model.confirm(point[None]).prediction[0]
        assert outcome.success == (outcome.prediction != label)
    # the last step of a linear model's ascent is a corner: stronger than a first crossing
    fooled = np.mean([o.success for o in outcomes])
    stopped = crafted(surrogate, None, clean, labels, "pgd:steps=12", pixels=pixels)
    points = np.array([o.point for o in stopped], np.float64) / (255 if pixels == "uint8" else 1)
    early = np.mean(model.confirm(points).prediction != labels)
    assert 0.2 < fooled < 1
    assert fooled > early


def test_a_surrogate_that_is_the_model_loses_nothing(task):
    model, clean, labels = task
    direct = crafted(model, None, clean, labels, "pgd")
    transferred = crafted(model, model, clean, labels, "pgd")
    assert sum(o.success for o in transferred) >= sum(o.success for o in direct) - 1
    assert any(not o.success for o in direct)


def test_a_sweep_and_a_minimum_are_judged_at_every_budget_and_once(task):
    model, clean, labels = task
    outcomes = crafted(
        model, near(model), clean, labels, "pgd:steps=5", eps=(2 / 255, 6 / 255, 0.2)
    )
    per_image = {o.key: [] for o in outcomes}
    for outcome in sorted(outcomes, key=lambda o: o.eps):
        per_image[outcome.key].append(outcome)
    for found in per_image.values():
        verdicts = [o.success for o in found]
        assert verdicts == sorted(verdicts)  # fooled at one, fooled at every larger
        assert all(o.same_as is not None for o in found if verdicts[0] and o is not found[0])
    assert len({tuple(o.success for o in found) for found in per_image.values()}) > 2
    judge = Counting(SHAPE, 3)
    nearest = crafted(
        judge, near(model), clean, labels, "cw:steps=40,searches=3", norm="l2", eps=()
    )
    assert judge.asked == len(clean)
    # the surrogate's boundary is not the model's: some of its nearest points carry over
    assert 0 < sum(o.success for o in nearest) < len(clean)


def attempt(success: bool, score: float) -> Attempt:
    return Attempt(
        success=success,
        found=success,
        prediction=int(success),
        point=np.zeros((2, 2, 1), np.uint8),
        distance=dict.fromkeys(("linf", "l2", "l1", "l0"), 0.0),
        score=score,
        forwards=5,
        gradients=4,
        steps=4,
        stalled=0,
        nonfinite=False,
    )


def test_of_several_starts_the_strongest_on_the_surrogate_is_judged():
    subject = Subject("a", np.zeros((2, 2, 1), np.uint8), 0, "hash", (0.1, 0.2))
    jobs = Chain(subject, 3, "linf", 0, transfer=True)
    for _ in range(6):
        jobs.launch()
    assert jobs.settle(0, attempt(True, 1.0)) == []  # would have fooled the model: nobody knows
    assert jobs.settle(2, attempt(True, 2.0)) == []
    (first,) = jobs.settle(1, attempt(False, 3.0))
    assert (first.eps, first.success, first.forwards, first.gradients) == (0.1, False, 13, 12)
    for index, score in ((3, 2.0), (4, 9.0), (5, 1.0)):
        last = jobs.settle(index, attempt(score > 5, score))
    assert [(o.eps, o.success) for o in last] == [(0.2, True)]
    assert jobs.finished
