"""The engine's own rules: it alone judges, it confirms, it counts, and it refills."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from advcli.attacks.base import Attack, Step
from advcli.attacks.registry import parse_spec
from advcli.engine.jobs import Attempt, Chain, Subject
from advcli.engine.run import Engine, auto_batch_size, rounded_batch, row_count
from tests.support.linear import Confirmed, LinearModel, images


class State(NamedTuple):
    x: object


class Liar(Attack):
    """Asks about a point far outside the ball, and proposes one as its last word."""

    name: ClassVar[str] = "liar"
    summary: ClassVar[str] = ""
    kind: ClassVar = "budget"
    access: ClassVar = "gradient"
    norms: ClassVar = ("linf", "l2")
    reference: ClassVar[str] = ""

    def length(self, space):
        return 3

    def cost(self, space):
        return 3, 0

    def init(self, row, space, random):
        return State(row.x0)

    def step(self, row, state, k, space, oracle, random):
        far = tf.where(row.x0 > 0.5, 0.0, 1.0)
        oracle.scores(far)
        return Step(State(far), tf.zeros_like(k, tf.bool))

    def finish(self, row, state, space):
        return state.x


class Peeker(Liar):
    """Declares that it sees decisions only, and asks for a gradient."""

    name: ClassVar[str] = "peeker"
    access: ClassVar = "decision"

    def step(self, row, state, k, space, oracle, random):
        oracle.gradient(state.x, lambda z, goal: z[:, 0])
        return Step(state, tf.zeros_like(k, tf.bool))


def subjects_of(model, pixels, eps=(0.05,)):
    labels = model.confirm(pixels / 255.0).prediction
    return [
        Subject(str(i), image, int(label), f"content {i}", eps)
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True))
    ]


@pytest.fixture
def model():
    return LinearModel((6, 6, 1), 3)


@pytest.fixture
def clean(model):
    return images(model.input_shape, 20)


@pytest.mark.parametrize("pixels", ["uint8", "float"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 1 / 255), ("l2", 0.05)])
def test_an_attack_cannot_misreport(model, clean, pixels, norm, eps):
    engine = Engine(model, batch_size=8, pixels=pixels, seed=0)
    outcomes = list(engine.run(Liar(), norm, subjects_of(model, clean, (eps,))))
    assert len(outcomes) == 20
    for outcome in outcomes:
        assert outcome.distance[norm] <= eps * (1 + 1e-6)
        label = model.confirm(clean[int(outcome.key)][None] / 255.0).prediction[0]
        assert outcome.success == (outcome.prediction != label)
    assert not all(o.success for o in outcomes)


def test_access_is_enforced(model, clean):
    engine = Engine(model, batch_size=8, pixels="uint8", seed=0)
    with pytest.raises(TypeError, match="decision"):
        list(engine.run(Peeker(), "linf", subjects_of(model, clean)))


class Stubborn(LinearModel):
    """As loaded, it withstands: every confirmation says that the label was kept."""

    def confirm(self, x):
        answer = super().confirm(x)
        return Confirmed(np.zeros_like(answer.prediction), np.tile([1.0, 0.0, 0.0], (len(x), 1)))


def test_an_unconfirmed_success_is_no_success_and_the_attack_goes_on(clean):
    honest, model = LinearModel((6, 6, 1), 3), Stubborn((6, 6, 1), 3)
    zeros = [i for i, p in enumerate(honest.confirm(clean / 255.0).prediction) if p == 0]
    subjects = [Subject(str(i), clean[i], 0, f"content {i}", (0.3,)) for i in zeros]
    attack = parse_spec("pgd:steps=12", "linf").attack
    fooled = list(
        Engine(honest, batch_size=8, pixels="uint8", seed=0).run(attack, "linf", subjects)
    )
    assert all(o.success for o in fooled)
    outcomes = list(
        Engine(model, batch_size=8, pixels="uint8", seed=0).run(attack, "linf", subjects)
    )
    assert not any(o.success for o in outcomes)
    assert all(o.steps >= 12 for o in outcomes)  # it did not stop at the first claim
    assert all(o.forwards > o.gradients + 1 for o in outcomes)  # refused confirmations are counted


def test_early_stop_and_refill_save_steps(model):
    clean = images(model.input_shape, 64)
    engine = Engine(model, batch_size=8, pixels="uint8", seed=0)
    outcomes = list(engine.run(parse_spec("pgd").attack, "linf", subjects_of(model, clean, (0.5,))))
    assert all(o.success for o in outcomes)
    assert engine.stats.row_steps == sum(o.steps for o in outcomes)
    assert engine.stats.slot_steps < 64 * 40 / 4
    assert engine.stats.row_steps / engine.stats.slot_steps > 0.5


def test_memory_holds_only_what_is_in_the_slots(model):
    """Images are pulled from the stream as slots fall free, not all at once; 32 answers wait to be
    confirmed together."""
    clean = images(model.input_shape, 200)
    pulled = []

    def stream():
        for subject in subjects_of(model, clean, (0.5,)):
            pulled.append(subject.key)
            yield subject

    engine = Engine(model, batch_size=8, pixels="uint8", seed=0)
    known = 0
    for _ in engine.run(parse_spec("pgd").attack, "linf", stream()):
        known += 1
        assert len(pulled) - known <= 16 + 32
    assert known == 200


def test_zero_gradients_and_nans_are_reported(clean):
    class Flat(LinearModel):
        def logits(self, x):
            return tf.stop_gradient(super().logits(x))

    class Broken(LinearModel):
        def logits(self, x):
            z = super().logits(x)
            return tf.where(tf.reduce_mean(x, axis=[1, 2, 3])[:, None] > -1.0, np.nan, z)

    for kind, expected in ((Flat, (40, False)), (Broken, (None, True))):
        model = kind((6, 6, 1), 3)
        engine = Engine(model, batch_size=8, pixels="uint8", seed=0)
        attack = parse_spec("pgd").attack
        outcomes = list(engine.run(attack, "linf", subjects_of(model, clean, (1 / 255,))))
        robust = [o for o in outcomes if not o.success]
        assert robust
        for outcome in robust:
            assert outcome.nonfinite == expected[1]
            if expected[0] is not None:
                assert outcome.stalled == expected[0]


class Broken(LinearModel):
    """Finite as compiled; as loaded its answer to anything but a clean image is not a number."""

    def confirm(self, x):
        answer = super().confirm(x)
        clean = np.abs(np.asarray(x, np.float64) - 0.5).max(axis=(1, 2, 3)) < 0.5
        z = np.where(clean[:, None], answer.logits, np.float32("nan"))
        return Confirmed(z.argmax(axis=1), z)


def test_what_is_not_a_number_fools_nobody(clean):
    model = Broken((6, 6, 1), 3, seed=2)
    subjects = [replace(s, label=2) for s in subjects_of(model, clean, (1.0,))]
    engine = Engine(model, batch_size=8, pixels="uint8", seed=0)
    # its last word, which no step asked about, is 0 or 1 everywhere
    outcomes = list(engine.run(Liar(), "linf", subjects))
    assert {o.success for o in outcomes} == {False}
    assert {o.nonfinite for o in outcomes} == {True}


def test_the_same_seed_repeats_and_another_does_not(model, clean):
    def points(seed):
        engine = Engine(model, batch_size=8, pixels="uint8", seed=seed)
        attack = parse_spec("noise:repeats=2").attack
        return [o.point.tobytes() for o in engine.run(attack, "linf", subjects_of(model, clean))]

    assert points(1) == points(1)
    assert points(1) != points(2)


@pytest.mark.parametrize(("asked", "compiled"), [(1, 1), (2, 8), (7, 8), (8, 8), (100, 104)])
def test_batches_are_brought_to_shapes_that_keep_rows_apart(asked, compiled):
    assert rounded_batch(asked) == compiled


@pytest.mark.parametrize(
    ("batch", "width", "rows"),
    [
        (128, 1, 128),
        (1, 1, 1),
        (128, 8, 16),
        (128, 32, 8),
        (120, 32, 1),
        (200, 8, 24),
        (64, 400, 1),
    ],
)
def test_rows_of_several_points_each_are_counted_likewise(batch, width, rows):
    assert row_count(batch, width) == rows


def test_automatic_batches_shrink_with_the_image(monkeypatch):
    monkeypatch.setattr("advcli.engine.run.side_by_side", lambda: 1)
    monkeypatch.setattr("advcli.engine.run.cores", lambda: 1)
    sizes = [auto_batch_size((side, side, 3)) for side in (28, 64, 128, 224, 512)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 64
    assert sizes[-1] >= 8


def attempt(success, score=0.0, steps=1):
    return Attempt(
        success=success,
        found=success,
        prediction=0,
        point=np.zeros((2, 2, 1), np.uint8),
        distance={},
        score=score,
        forwards=steps,
        gradients=steps,
        steps=steps,
        stalled=0,
        nonfinite=False,
    )


def chain(eps, restarts):
    subject = Subject("a", np.zeros((2, 2, 1), np.uint8), 0, "hash", eps)
    return Chain(subject, restarts, "linf", 0)


def test_a_chain_answers_in_order_whatever_came_back_first():
    jobs = chain((0.1, 0.2), 3)
    for _ in range(6):
        jobs.launch()
    assert jobs.settle(4, attempt(True)) == []  # ahead of its order: kept back
    assert jobs.settle(1, attempt(False, 5.0, 10)) == []
    assert jobs.settle(0, attempt(False, 1.0, 10)) == []
    first = jobs.settle(2, attempt(False, 2.0, 10))
    assert [(o.eps, o.success, o.steps) for o in first] == [(0.1, False, 30)]
    second = jobs.settle(3, attempt(False, 0.0, 10))
    assert [(o.eps, o.success, o.steps) for o in second] == [(0.2, True, 11)]
    assert jobs.finished


def test_a_success_answers_every_larger_budget():
    jobs = chain((0.1, 0.2, 0.4), 2)
    jobs.launch()
    outcomes = jobs.settle(0, attempt(True, steps=3))
    assert [(o.eps, o.success, o.steps, o.same_as) for o in outcomes] == [
        (0.1, True, 3, None),
        (0.2, True, 0, 0.1),
        (0.4, True, 0, 0.1),
    ]
    assert jobs.finished
    assert not jobs.waiting


def test_progress_counts_the_work_of_unfinished_images(model, clean):
    seen = []
    engine = Engine(model, batch_size=8, pixels="uint8", seed=0)
    attack = parse_spec("random-search:steps=3000").attack
    subjects = subjects_of(model, clean[:8], (1 / 255,))
    done = 0
    for outcome in engine.run(attack, "linf", subjects, progress=seen.append):
        done += outcome.success is not None
    assert done == 8
    assert all(0 <= share <= 8 for share in seen)
    assert max(seen) > 0
    assert seen[-1] == 0  # nothing is seated any more
