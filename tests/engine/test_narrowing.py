"""Towards the end of a run the batch is narrowed, where that changes no bit, and only there."""

from __future__ import annotations

import pytest
import tensorflow as tf

from advcli.attacks.registry import parse_spec
from advcli.engine.jobs import Subject
from advcli.engine.run import Engine
from advcli.engine.slots import Slots
from advcli.threats.space import Space
from tests.support.linear import LinearModel, images


class MindsTheBatch(LinearModel):
    """Its logits depend on how many rows there are, as another kernel's rounding would."""

    def logits(self, x):
        return super().logits(x) + 1e-4 * tf.cast(tf.shape(x)[0], tf.float32) * x[:, 0, 0]


def run(model, clean, spec, norm, eps):
    attack = parse_spec(spec, norm).attack
    batch = 64 if attack.width(Space(norm, model.input_shape)) == 1 else 512  # 16 rows of 32 points
    engine = Engine(model, batch_size=batch, pixels="uint8", seed=0)
    labels = model.confirm(clean / 255.0).prediction
    subjects = [
        Subject(str(i), image, int(label), f"content {i}", eps)
        for i, (image, label) in enumerate(zip(clean, labels, strict=True))
    ]
    found = {
        o.key: (o.success, o.point.tobytes(), o.steps, o.forwards)
        for o in engine.run(attack, norm, subjects)
    }
    return found, engine.stats.slot_steps, engine.slots_for(attack, norm).agrees


@pytest.mark.parametrize(
    ("spec", "norm", "eps"),
    [
        ("pgd", "linf", (0.06,)),
        ("pgd:restarts=2", "l2", (0.3,)),
        ("random-search:steps=60", "linf", (0.06,)),
        ("hopskipjump:iterations=2", "l2", ()),
    ],
)
def test_narrowing_saves_slots_and_changes_nothing(monkeypatch, spec, norm, eps):
    model = LinearModel((6, 6, 1), 3, seed=2)
    clean = images(model.input_shape, 81, seed=3)
    found, steps, agrees = run(model, clean, spec, norm, eps)
    monkeypatch.setattr(Slots, "multiple", 0)
    wide, wide_steps, _ = run(model, clean, spec, norm, eps)
    assert found == wide
    assert agrees
    # on a processor whose kernels differ between these widths there is nothing to save
    assert steps < wide_steps or not any(agrees.values())


def test_a_model_whose_answer_depends_on_the_width_is_never_narrowed(monkeypatch):
    model = MindsTheBatch((6, 6, 1), 3, seed=2)
    clean = images(model.input_shape, 81, seed=3)
    found, _, agrees = run(model, clean, "pgd", "linf", (0.06,))
    assert list(agrees.values()) == [False, False]  # it is not asked for ever
    monkeypatch.setattr(Slots, "multiple", 0)
    assert run(model, clean, "pgd", "linf", (0.06,))[0] == found


@pytest.mark.parametrize(("spec", "norm"), [("pgd", "linf"), ("hopskipjump:iterations=2", "l2")])
def test_widths_are_those_that_keep_rows_apart(spec, norm):
    model = LinearModel((6, 6, 1), 3, seed=2)
    clean = images(model.input_shape, 81, seed=3)
    eps = (0.06,) if norm == "linf" else ()
    _, _, agrees = run(model, clean, spec, norm, eps)
    assert agrees
    assert all(rows % 8 == 0 for rows in agrees)
