"""SimBA: its basis, the order of it, and how far its steps lead."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advcli.attacks.simba import SimBA, _rings
from advcli.engine.run import Engine
from advcli.threats.space import Space
from tests.attacks.test_contract import subjects_of
from tests.support.linear import LinearModel, exact_distance, images

SHAPE = (5, 7, 3)


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_the_basis_is_orthonormal(basis):
    space = Space("l2", SHAPE)
    vectors = SimBA(basis=basis)._vector(tf.range(space.size), space).numpy()
    vectors = vectors.reshape(space.size, -1)
    assert np.allclose(vectors @ vectors.T, np.eye(space.size), atol=1e-5)


def test_low_frequencies_come_first():
    space = Space("l2", (16, 32, 3))
    rings = _rings(space).reshape(space.shape)
    assert (rings[:2, :4] == 0).all()
    assert (rings[2:].min(), rings[:, 4:].min()) == (1, 1)
    assert (np.diff(rings, axis=0) >= 0).all()
    assert (np.diff(rings, axis=1) >= 0).all()
    flat = SimBA(basis="dct")._vector(tf.constant([0, 1, 2]), space).numpy()
    assert [np.ptp(v.sum(axis=-1)) < 1e-6 for v in flat] == [True] * 3  # the three means


def test_every_step_kept_adds_its_length_and_no_vector_comes_twice_before_all_came():
    """A linear model takes one step of every vector, so the distance counts the steps."""
    model = LinearModel((4, 4, 1), 2, seed=1)
    clean = images((4, 4, 1), 8, low=120, high=136)
    for queries in (2, 9, 16):
        engine = Engine(model, batch_size=8, pixels="float", seed=0)
        attack = SimBA(steps=queries, step_length=0.001)
        outcomes = list(engine.run(attack, "l2", subjects_of(model, clean, (1.0,))))
        failed = [o for o in outcomes if not o.success]
        assert len(failed) >= 6
        for o in failed:
            kept = (o.distance["l2"] / 0.001) ** 2
            # one query for the clean image; a vector takes one query or two
            assert (queries - 1) // 2 - 1 <= round(kept) <= queries - 1
            assert o.distance["l0"] == round(kept)
            assert o.forwards == queries + 1  # and the confirmation


def test_all_values_tried_in_linf_decide_a_linear_model():
    model = LinearModel(SHAPE, 2, seed=5)
    clean = images(SHAPE, 40, seed=6)
    exact = np.array([exact_distance(model, image, "linf") for image in clean])
    eps = float(np.median(exact))
    engine = Engine(model, batch_size=40, pixels="float", seed=0)
    attack = SimBA(steps=2 * 105 + 1, step_length=1.0)
    outcomes = engine.run(attack, "linf", subjects_of(model, clean, (eps,)))
    found = {o.key for o in outcomes if o.success}
    assert found >= {str(i) for i, d in enumerate(exact) if d <= 0.99 * eps}
    assert not found & {str(i) for i, d in enumerate(exact) if d > eps}
