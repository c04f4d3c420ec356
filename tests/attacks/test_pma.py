"""PMA ascends the margin between probabilities, in whatever scale the logits come."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advcli.attacks.pma import PMA, probability_margin
from advcli.threats.losses import Goal
from tests.attacks.test_contract import attack, subjects_of, typical
from tests.support.linear import LinearModel, images


def slope_of(z, label, target):
    z = tf.constant(z, tf.float32)
    goal = Goal(tf.constant(label), tf.constant(target))
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = probability_margin(z, goal)
    return value.numpy(), tape.gradient(value, z).numpy()


def published(z, label, target):
    """∇(p_a − p_b) in float64, divided by its largest value."""
    z = z.astype(np.float64)
    p = np.exp(z - z.max())
    p /= p.sum()
    known = label if target < 0 else target
    other = int(np.argmax(np.where(np.arange(len(z)) == known, -np.inf, z)))
    a, b = (other, known) if target < 0 else (known, other)
    unit = np.eye(len(z))
    g = p[a] * (unit[a] - p) - p[b] * (unit[b] - p)
    return p[a] - p[b], g / np.abs(g).max()


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("aimed", [False, True])
def test_the_gradient_is_that_of_the_probabilities(classes, aimed):
    random = np.random.default_rng(classes)
    z = random.normal(size=(40, classes)) * random.choice([0.1, 1, 5], (40, 1))
    label = random.integers(0, classes, 40).astype(np.int32)
    target = (label + 1) % classes if aimed else np.full(40, -1)
    value, g = slope_of(z, label, target.astype(np.int32))
    for i in range(40):
        margin, direction = published(z[i], label[i], target[i])
        assert value[i] == pytest.approx(margin, abs=1e-5)
        assert np.allclose(g[i], direction, atol=2e-4)


@pytest.mark.parametrize("scale", [60.0, 6000.0])
def test_a_saturated_softmax_leaves_a_gradient(scale):
    """p_y = 1 and every other probability 0 in float32: what is left is rival against label."""
    z = scale * np.array([[8.0, 5.0, 1.0], [5.0, 8.0, 1.0]])
    _, g = slope_of(z, np.array([0, 0], np.int32), np.array([-1, -1], np.int32))
    assert np.allclose(g, [[-1, 1, 0], [-1, 1, 0]], atol=1e-6)


def test_two_halves_each_fall_from_twice_eps_to_nothing():
    share = PMA(steps=100)._share(tf.range(100)).numpy()
    assert share[0] == share[50] == pytest.approx(2.0)
    assert share[25] == share[75] == pytest.approx(1.0, abs=1e-6)
    assert max(share[49], share[99]) < 0.003
    assert (np.diff(share[:50]) < 0).all()


def test_the_scale_of_the_logits_does_not_stop_it():
    found = []
    for scale in (1.0, 1000.0):
        model = LinearModel((6, 6, 1), 10, seed=31, scale=scale)
        clean = images(model.input_shape, 40, seed=32)
        exact, eps = typical(model, clean, "linf")
        outcomes = attack(
            *(model, "pma", "linf", subjects_of(model, clean, (eps,))),
            spec="pma:steps=40,scouts=0",
            pixels="float",
            batch=40,
        )
        found.append({o.key for o in outcomes if o.success})
        assert {o.gradients for o in outcomes if not o.success} == {80}
    near = {str(i) for i, d in enumerate(exact) if d <= 0.98 * eps}
    assert len(found[1] & near) >= 0.8 * len(near)  # the ascent alone, no look around
    assert len(found[0] & near) >= 0.8 * len(near)
