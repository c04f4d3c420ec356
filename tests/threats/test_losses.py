"""Losses against their definitions in float64, and against the underflow that they avoid."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advcli.threats.losses import Goal, cross_entropy, dlr, log_odds, margin, ranked_rivals

Z = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32) * 3
Y = np.random.default_rng(1).integers(0, 6, 50).astype(np.int32)
T = ((Y + 1 + np.random.default_rng(2).integers(0, 5, 50)) % 6).astype(np.int32)
FREE, AIMED = Goal(tf.constant(Y), tf.fill([50], -1)), Goal(tf.constant(Y), tf.constant(T))


def without(z, index):
    z = z.astype(np.float64).copy()
    z[np.arange(len(z)), index] = -np.inf
    return z


def pick(z, index):
    return z[np.arange(len(z)), index].astype(np.float64)


def test_margin_is_positive_exactly_where_the_goal_is_met():
    np.testing.assert_array_equal(margin(Z, FREE).numpy() > 0, Z.argmax(axis=1) != Y)
    np.testing.assert_array_equal(margin(Z, AIMED).numpy() > 0, Z.argmax(axis=1) == T)
    np.testing.assert_allclose(margin(Z, FREE), without(Z, Y).max(axis=1) - pick(Z, Y), rtol=1e-5)


def test_cross_entropy_is_a_monotone_function_of_the_log_odds():
    ce = cross_entropy(Z, FREE).numpy()
    np.testing.assert_allclose(ce, np.log1p(np.exp(log_odds(Z, FREE).numpy())), rtol=1e-3)
    aimed = cross_entropy(Z, AIMED).numpy()
    np.testing.assert_allclose(aimed, -np.log1p(np.exp(-log_odds(Z, AIMED).numpy())), rtol=1e-3)


@pytest.mark.parametrize("goal", [FREE, AIMED], ids=["untargeted", "targeted"])
def test_log_odds_has_the_direction_of_cross_entropy(goal):
    z = tf.constant(Z)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        plain, stable = cross_entropy(z, goal), log_odds(z, goal)
    a, b = tape.gradient(plain, z).numpy(), tape.gradient(stable, z).numpy()
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_log_odds_survives_what_makes_cross_entropy_vanish():
    z = tf.constant([[300.0, 0.0, -10.0]])
    goal = Goal(tf.constant([0]), tf.constant([-1]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        plain, stable = cross_entropy(z, goal), log_odds(z, goal)
    assert not tape.gradient(plain, z).numpy().any()
    np.testing.assert_allclose(tape.gradient(stable, z), [[-1.0, 1.0, 4.5e-5]], rtol=0.02)


def test_dlr_is_the_published_ratio():
    ranked = -np.sort(-Z.astype(np.float64), axis=1)
    untargeted = (without(Z, Y).max(axis=1) - pick(Z, Y)) / (ranked[:, 0] - ranked[:, 2])
    np.testing.assert_allclose(dlr(Z, FREE), untargeted, rtol=1e-4)
    spread = ranked[:, 0] - 0.5 * (ranked[:, 2] + ranked[:, 3])
    np.testing.assert_allclose(dlr(Z, AIMED), (pick(Z, T) - pick(Z, Y)) / spread, rtol=1e-3)
    np.testing.assert_allclose(dlr(60 * Z, FREE), dlr(Z, FREE), rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_dlr_falls_back_to_the_margin_where_it_is_not_defined(classes):
    z = Z[:, :classes]
    goal = Goal(tf.constant(Y % classes), tf.constant((Y + 1) % classes))
    np.testing.assert_array_equal(dlr(z, goal), margin(z, goal))


def test_rivals_are_ranked_without_the_label():
    ranked = ranked_rivals(tf.constant(Z), tf.constant(Y), 7).numpy()
    for row, z, label in zip(ranked, Z, Y, strict=True):
        expected = [c for c in np.argsort(-z) if c != label]
        assert list(row[:5]) == expected
        assert list(row[5:]) == expected[-1:] * 2
