"""Rounding to 8 bits: on the grid, in the ball, and no smaller than it must be."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from advcli.threats.budget import NORMS
from advcli.threats.grid import Grid, decode, from_bytes, to_bytes
from advcli.threats.space import Space, distances

SHAPE = (5, 6, 3)


def rounded(norm, x, x0, eps):
    return tf.function(Grid("uint8", norm).round)(x, x0, eps).numpy()


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.floats(0.2, 40))
@example(seed=0, size=0.99999)  # a hair below a level
def test_rounded_points_are_levels_inside_the_ball(norm, seed, size):
    random = np.random.default_rng(seed)
    clean = random.integers(0, 256, (6, *SHAPE)).astype(np.uint8)
    x0 = decode(tf.constant(clean))
    eps = {"linf": size, "l2": size * 9, "l1": size * 60, "l0": 255 * np.ceil(size / 2)}[norm] / 255
    eps = np.full(6, eps, np.float32)
    noise = tf.constant(random.normal(size=x0.shape).astype(np.float32))
    x = Space(norm, SHAPE).project(x0 + noise, x0, eps * (1 - 1e-5))
    inner = np.full(6, Grid("uint8", norm).inner(float(eps[0])), np.float32)  # as the engine does
    y = rounded(norm, x, x0, inner)
    levels = to_bytes(y)
    np.testing.assert_array_equal(y, decode(tf.constant(levels)).numpy())
    for point, origin, budget in zip(levels, clean, eps, strict=True):
        exact = float(budget) * (1 + 1e-6)
        assert distances(point, origin)[norm] <= exact
    if norm in ("l2", "l1") and size > 2:  # the norm is kept, not given away
        before = Space(norm, SHAPE).distance(x, x0).numpy()
        after = np.array([distances(p, o)[norm] for p, o in zip(levels, clean, strict=True)])
        assert (after >= 0.93 * before).all()


def test_a_fractional_linf_budget_is_never_rounded_up():
    x0 = tf.fill([1, *SHAPE], np.float32(100 * np.float32(1 / 255)))
    y = rounded("linf", x0 + 7.65 / 255, x0, np.array([7.65 / 255], np.float32))
    assert set(to_bytes(y).ravel()) == {107}
    unbounded = rounded("linf", x0 + 7.65 / 255, x0, np.array([np.inf], np.float32))
    assert set(to_bytes(unbounded).ravel()) == {108}


def test_levels_survive_the_way_to_the_file_and_back():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_bytes(from_bytes(levels)), levels)
    np.testing.assert_array_equal(to_bytes(decode(tf.constant(levels)).numpy()), levels)


def test_float_pixels_are_left_alone():
    x = tf.constant([[[[0.1234567]]]])
    assert Grid("float", "l2").round(x, x * 0, tf.constant([1.0])) is x


def test_values_a_hair_below_a_level_do_not_add_up_to_more_than_the_budget():
    x0 = tf.zeros([1, 60, 60, 1])
    near = tf.fill([1, 60, 60, 1], np.float32(0.9995 / 255))
    eps = np.array([3600 * 0.9995 / 255], np.float32)
    y = rounded("l1", x0 + near, x0, eps)
    assert to_bytes(y).sum() <= 3598
    one = np.zeros((1, 60, 60, 1), np.float32)
    one[0, 3, 3] = 7.99935 / 255
    y = rounded("l2", tf.constant(one), x0, np.array([7.99935 / 255], np.float32))
    assert to_bytes(y).max() == 7


def test_a_whole_budget_is_kept_whole():
    x0 = tf.zeros([1, 4, 4, 1])
    one = np.zeros((1, 4, 4, 1), np.float32)
    one[0, 1, 1] = 0.4  # 102 levels
    for norm in ("l1", "l2"):
        assert to_bytes(rounded(norm, tf.constant(one), x0, np.array([0.4], "f"))).max() == 102
