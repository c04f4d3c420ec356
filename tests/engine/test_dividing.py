"""At the end of a run rows share what they have left with idle slots, which changes no result."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from advcli.attacks.base import Attack
from advcli.attacks.race import Race
from advcli.attacks.registry import parse_spec
from advcli.engine.jobs import Attempt, Chain, Subject
from advcli.engine.lane import Lane
from advcli.engine.run import Engine
from advcli.engine.slots import Slots
from tests.support.digits import robust_digits
from tests.support.linear import Confirmed

# every image that stands after the third round goes on to all three ascents of the last
SPEC = "race:steps=60,hopeless=1000"


@pytest.fixture(scope="module")
def robust():
    return robust_digits(13)


class Coarse:
    """A model that confirms on rounded logits: what looked like a success may be refused."""

    def __init__(self, model, quantum):
        self._model, self._quantum = model, quantum

    def __getattr__(self, name):
        return getattr(self._model, name)

    def confirm(self, x):
        logits = np.round(self._model.confirm(x).logits / self._quantum) * self._quantum
        return Confirmed(logits.argmax(axis=-1), logits)


def run(robust, pixels, eps, lanes=1, *, quantum=0.0):
    model, images = robust
    engine = Engine(
        Coarse(model, quantum) if quantum else model,
        batch_size=32,
        pixels=pixels,
        seed=0,
        lanes=lanes,
    )
    labels = model.confirm(images / np.float32(255)).prediction
    subjects = [
        Subject(str(i), image, int(label), f"content {i}", eps)
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    return {
        (o.key, o.eps): (dataclasses.replace(o, point=None), o.point.tobytes())
        for o in engine.run(parse_spec(SPEC, "linf").attack, "linf", subjects)
    }


@pytest.mark.parametrize(
    ("pixels", "eps", "lanes"),
    [("uint8", (0.13, 0.17), 2), ("float", (0.16,), 1)],
)
def test_dividing_saves_steps_and_changes_nothing(monkeypatch, robust, pixels, eps, lanes):
    divided = []
    halves = Slots.halves
    monkeypatch.setattr(Slots, "halves", lambda *a, **k: divided.append(1) or halves(*a, **k))
    found = run(robust, pixels, eps, lanes)
    assert divided
    longest = max(outcome.gradients for outcome, _ in found.values())
    assert longest > 2 * 60  # beyond its first ascent
    assert len({outcome.success for outcome, _ in found.values()}) == 2
    monkeypatch.setattr(Race, "divide", Attack.divide)
    assert run(robust, pixels, eps, lanes) == found


def test_neither_where_a_success_is_not_confirmed(monkeypatch, robust):
    again = []
    leave = Lane._leave
    monkeypatch.setattr(Lane, "_leave", lambda *a: again.append(len(a) == 3) or leave(*a))
    found = run(robust, "uint8", (0.13,), quantum=1.0)
    assert any(again)  # a whole job
    monkeypatch.setattr(Race, "divide", Attack.divide)
    assert run(robust, "uint8", (0.13,), quantum=1.0) == found


def attempt(score, *, found=False, success=False):
    return Attempt(
        success=success,
        found=found,
        prediction=int(100 * score),
        point=np.zeros((2, 2, 1), np.uint8),
        distance={},
        score=score,
        forwards=11,
        gradients=10,
        steps=10,
        stalled=1,
        nonfinite=score == -3.0,
    )


def divided_chain():
    subject = Subject("a", np.zeros((2, 2, 1), np.uint8), 0, "hash", (0.1,))
    chain = Chain(subject, 1, "linf", 0)
    job = chain.launch()
    assert [chain.divide(job.index), chain.divide(job.index)] == [1, 2]
    return chain


def test_the_first_part_that_succeeds_answers_and_the_ones_before_it_are_waited_for():
    chain = divided_chain()
    assert chain.settle(0, attempt(2.0, found=True, success=True), 2) == []
    assert chain.settle(0, attempt(1.0, found=True, success=True), 1) == []
    (answer,) = chain.settle(0, attempt(-3.0), 0)
    assert chain.finished
    assert (answer.success, answer.prediction, answer.nonfinite) == (True, 100, True)
    # each part's end was confirmed; a row that does them in turn is confirmed once
    assert (answer.forwards, answer.gradients, answer.steps, answer.stalled) == (21, 20, 20, 2)


def test_where_no_part_succeeds_the_best_try_of_all_stands():
    chain = divided_chain()
    assert chain.settle(0, attempt(-0.5), 1) == []
    assert chain.settle(0, attempt(-1.0), 2) == []
    (answer,) = chain.settle(0, attempt(-0.5), 0)
    assert (answer.success, answer.prediction, answer.forwards) == (False, -50, 31)
