"""Projections against SciPy's optimum, directions and samples against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from advcli.threats.budget import NORMS
from advcli.threats.randomness import Random, row_key
from advcli.threats.space import Space, distances, norms_of

SHAPE = (3, 4, 2)


def cloud(seed: int, rows: int = 8):
    random = np.random.default_rng(seed)
    x0 = random.random((rows, *SHAPE)).astype(np.float32)
    x0[0], x0[1] = 0.0, 1.0  # corners of the box
    x = x0 + random.normal(size=x0.shape).astype(np.float32) * random.choice([0.01, 0.3, 2.0])
    eps = random.uniform(0.05, 1.5, rows).astype(np.float32)
    return x0, x.astype(np.float32), eps


def projected(norm, x, x0, eps):
    return tf.function(Space(norm, SHAPE).project)(x, x0, eps).numpy()


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_projection_is_inside_and_leaves_inner_points_alone(norm, seed):
    x0, x, eps = cloud(seed)
    eps = np.ceil(eps * 4) if norm == "l0" else eps
    y = projected(norm, x, x0, eps)
    assert y.min() >= 0
    assert y.max() <= 1
    for point, origin, budget in zip(y, x0, eps, strict=True):
        assert distances(point, origin)[norm] <= budget * (1 + 2e-6) + 2e-7
    again = projected(norm, y, x0, eps * (1 if norm == "l0" else 1.0001))
    np.testing.assert_allclose(again, y, atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("seed", range(4))
def test_projection_is_the_nearest_point_of_ball_and_box(norm, seed):
    x0, x, eps = cloud(seed, rows=4)
    y = projected(norm, x, x0, eps)
    for i in range(len(x)):
        low, high = -x0[i].ravel(), 1 - x0[i].ravel()
        start, goal = y[i].ravel() - x0[i].ravel(), x[i].ravel() - x0[i].ravel()
        if norm == "l2":
            found = minimize(
                lambda d, goal=goal: ((d - goal) ** 2).sum(),
                start,
                jac=lambda d, goal=goal: 2 * (d - goal),
                bounds=list(zip(low, high, strict=True)),
                constraints={
                    "type": "ineq",
                    "fun": lambda d, e=eps[i]: e**2 - (d**2).sum(),
                    "jac": lambda d: -2 * d,
                },
                method="SLSQP",
                options={"ftol": 1e-12, "maxiter": 500},
            )
        else:  # d = p − n with p, n ≥ 0, so that the constraint is linear
            k = len(goal)
            found = minimize(
                lambda v, goal=goal, k=k: ((v[:k] - v[k:] - goal) ** 2).sum(),
                np.concatenate([np.maximum(start, 0), np.maximum(-start, 0)]),
                jac=lambda v, goal=goal, k=k: np.concatenate(
                    [2 * (v[:k] - v[k:] - goal), -2 * (v[:k] - v[k:] - goal)]
                ),
                bounds=[(0, h) for h in high] + [(0, -v) for v in low],
                constraints={"type": "ineq", "fun": lambda v, e=eps[i]: e - v.sum()},
                method="SLSQP",
                options={"ftol": 1e-12, "maxiter": 500},
            )
        mine = ((start - goal) ** 2).sum()
        assert mine <= found.fun * (1 + 1e-3) + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_l0_projection_keeps_the_pixels_that_matter_most(seed):
    x0, x, _ = cloud(seed)
    count = np.array([1, 2, 3, 4, 5, 6, 11, 12], np.float32)
    y = projected("l0", x, x0, count)
    clipped = np.clip(x, 0, 1)
    gain = ((x - x0) ** 2 - (x - clipped) ** 2).sum(axis=-1).reshape(len(x), -1)
    for i, kept in enumerate(count.astype(int)):
        changed = (y[i] != x0[i]).any(axis=-1).ravel()
        assert changed.sum() <= kept
        best = np.sort(gain[i])[::-1][:kept].sum()
        assert gain[i][changed].sum() == pytest.approx(best, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_steepest_has_unit_norm_and_the_dual_norm_as_slope(norm):
    random = np.random.default_rng(0)
    g = random.normal(size=(5, *SHAPE)).astype(np.float32)
    x = np.full_like(g, 0.5)
    step = Space(norm, SHAPE).steepest(tf.constant(g), tf.constant(x)).numpy()
    np.testing.assert_allclose(norms_of(tf.constant(step), norm), 1.0, rtol=1e-5)
    slope = (g * step).sum(axis=(1, 2, 3))
    dual = {
        "linf": np.abs(g).sum(axis=(1, 2, 3)),
        "l2": np.sqrt((g**2).sum(axis=(1, 2, 3))),
        "l1": np.abs(g).max(axis=(1, 2, 3)),
    }[norm]
    np.testing.assert_allclose(slope, dual, rtol=1e-5)


def test_tiny_gradients_keep_their_direction():
    g = np.full((1, *SHAPE), 1e-30, np.float32)
    step = Space("l2", SHAPE).steepest(tf.constant(g), tf.constant(g)).numpy()
    np.testing.assert_allclose((step**2).sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_samples_fill_the_ball(norm):
    rows = 400
    key = np.array([row_key("sample", i) for i in range(rows)], np.uint32)
    eps = 3.0 if norm == "l0" else 0.7
    random = Random(tf.constant(key), tf.zeros([rows], tf.int32))
    delta = Space(norm, SHAPE).sample(random, tf.fill([rows], eps)).numpy()
    length = norms_of(tf.constant(delta), norm).numpy()
    assert length.max() <= eps * (1 + 1e-5)
    assert abs(delta.mean()) < 0.02
    if norm in ("l2", "l1"):  # uniform in the volume: P(‖δ‖ ≤ r·eps) = r^d
        d = np.prod(SHAPE)
        assert np.mean(length <= eps * 0.5 ** (1 / d)) == pytest.approx(0.5, abs=0.08)
    if norm == "linf":
        assert np.mean(np.abs(delta) <= 0.35) == pytest.approx(0.5, abs=0.03)
    if norm == "l0":
        assert set(length) == {3.0}


def test_byte_distances_are_exact():
    a = np.zeros((2, 2, 3), np.uint8)
    b = a.copy()
    b[0, 0] = [8, 0, 3]
    b[1, 1, 2] = 1
    assert distances(b, a) == {
        "linf": 8 / 255,
        "l2": np.sqrt(64 + 9 + 1) / 255,
        "l1": 12 / 255,
        "l0": 2.0,
    }


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_farthest_is_where_a_linear_function_is_largest(norm, seed):
    """Against SciPy's linear programming where the ball is a polytope, and KKT in L2."""
    random = np.random.default_rng(seed)
    x0 = random.random((4, *SHAPE)).astype(np.float32)
    g = random.normal(size=x0.shape).astype(np.float32)
    eps = np.full(4, {"linf": 0.3, "l2": 0.8, "l1": 1.3, "l0": 3.0}[norm], np.float32)
    y = tf.function(Space(norm, SHAPE).farthest)(tf.constant(g), tf.constant(x0), eps).numpy()
    assert y.min() >= 0
    assert y.max() <= 1
    for i in range(4):
        assert distances(y[i], x0[i])[norm] <= eps[i] * (1 + 2e-6)
        gain = float((g[i] * (y[i] - x0[i])).sum())
        w, room = np.abs(g[i]).astype(np.float64), np.where(g[i] > 0, 1 - x0[i], x0[i])
        if norm == "linf":
            best = (w * np.minimum(eps[i], room)).sum()
        elif norm == "l1":
            found = linprog(
                -w.ravel(),
                A_ub=np.ones((1, w.size)),
                b_ub=[eps[i]],
                bounds=[(0, r) for r in room.ravel()],
            )
            best = -found.fun
        elif norm == "l0":
            best = np.sort((w * room).sum(axis=-1).ravel())[::-1][:3].sum()
        else:
            low, high = 0.0, 1e3
            for _ in range(100):
                middle = 0.5 * (low + high)
                short = np.linalg.norm(np.minimum(middle * w, room)) <= eps[i]
                low, high = (middle, high) if short else (low, middle)
            best = (w * np.minimum(low * w, room)).sum()
        assert gain == pytest.approx(best, rel=2e-3)
