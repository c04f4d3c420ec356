"""Against SciPy's linear and quadratic programs, and against what the definition demands."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import linprog, minimize

from advcli.threats.hyperplane import dual_norms, to_hyperplane

SHAPE = (3, 4, 2)
SIZE = 24
NORMS = ["linf", "l2", "l1"]


def problems(count, seed=0, *, low=0.0, high=1.0, share=0.5, ends=0.0):
    """(x, normal, gap): `share` of what the box could give at most, towards either side."""
    random = np.random.default_rng(seed)
    x = random.uniform(low, high, (count, *SHAPE)).astype(np.float32)
    x = np.where(random.uniform(size=x.shape) < ends, np.round(x), x).astype(np.float32)
    w = random.normal(size=x.shape).astype(np.float32)
    w[:, 0, 0] = 0.0  # values that the model ignores
    side = random.choice([-1.0, 1.0], count)
    up = np.where(side[:, None, None, None] * w > 0, 1.0 - x, x)
    most = (np.abs(w) * up).sum(axis=(1, 2, 3))
    return x, w, (side * share * most).astype(np.float32)


def moved(x, w, gap, norm):
    d = to_hyperplane(tf.constant(x), tf.constant(w), tf.constant(gap), norm).numpy()
    return d.astype(np.float64)


def length(d, norm):
    flat = np.abs(d).reshape(len(d), -1)
    return {"linf": flat.max(1), "l2": np.sqrt((flat**2).sum(1)), "l1": flat.sum(1)}[norm]


def smallest(x, w, gap, norm):
    """The optimum of one problem by SciPy."""
    x, w = x.reshape(-1).astype(np.float64), w.reshape(-1).astype(np.float64)
    if norm == "l2":
        found = minimize(
            lambda d: d @ d,
            gap * w / (w @ w),
            jac=lambda d: 2 * d,
            bounds=list(zip(-x, 1 - x, strict=True)),
            constraints={"type": "eq", "fun": lambda d: w @ d - gap, "jac": lambda d: w},
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-14},
        )
        assert found.success
        return np.sqrt(found.fun)
    eye = np.eye(SIZE)
    if norm == "linf":  # d, t: |d| ≤ t
        cost = np.r_[np.zeros(SIZE), 1.0]
        sides = np.block([[eye, -np.ones((SIZE, 1))], [-eye, -np.ones((SIZE, 1))]])
        extra = [(0, None)]
    else:  # d, a: |d| ≤ a
        cost = np.r_[np.zeros(SIZE), np.ones(SIZE)]
        sides = np.block([[eye, -eye], [-eye, -eye]])
        extra = [(0, None)] * SIZE
    found = linprog(
        cost,
        A_ub=sides,
        b_ub=np.zeros(len(sides)),
        A_eq=np.r_[w, np.zeros(len(extra))][None],
        b_eq=[gap],
        bounds=list(zip(-x, 1 - x, strict=True)) + extra,
    )
    assert found.success
    return found.fun


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("ends", [0.0, 0.6])
def test_on_the_hyperplane_in_the_box_and_as_near_as_scipy_finds(norm, share, ends):
    x, w, gap = problems(12, share=share, ends=ends)
    d = moved(x, w, gap, norm)
    assert (w * d).sum(axis=(1, 2, 3)) == pytest.approx(gap, rel=1e-5)
    assert (x + d).min() >= -1e-6
    assert (x + d).max() <= 1 + 1e-6
    assert (d[:, 0, 0] == 0).all()
    best = [smallest(*problem, norm) for problem in zip(x, w, gap, strict=True)]
    assert length(d, norm) == pytest.approx(best, rel=2e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_far_from_the_box_it_is_the_gap_over_the_dual_norm(norm):
    x, w, _ = problems(20, low=0.45, high=0.55)
    gap = np.linspace(-0.1, 0.1, 20).astype(np.float32)
    d = moved(x, w, gap, norm)
    dual = dual_norms(tf.constant(w), norm).numpy()
    assert length(d, norm) == pytest.approx(np.abs(gap) / dual, rel=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_out_of_reach_it_is_the_corner(norm):
    x, w, gap = problems(10, share=1.5)
    d = moved(x, w, gap, norm)
    wanted = (np.sign(w) * np.sign(gap)[:, None, None, None] > 0).astype(float)
    assert np.allclose((x + d)[w != 0], wanted[w != 0], atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_no_gap_or_no_slope_moves_nothing_and_scale_does_not_matter(norm):
    x, w, gap = problems(8, share=0.3)
    assert not moved(x, w, 0 * gap, norm).any()
    assert not moved(x, 0 * w, gap, norm).any()
    plain = moved(x, w, gap, norm)
    for scale in (np.float32(1e-15), np.float32(1e15)):
        scaled = moved(x, w * scale, gap * scale, norm)
        assert scaled == pytest.approx(plain, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_row_does_not_depend_on_the_others(norm):
    x, w, gap = problems(16, ends=0.5)
    together = moved(x, w, gap, norm)
    assert (moved(x[5:6], w[5:6], gap[5:6], norm)[0] == together[5]).all()


@pytest.mark.parametrize("norm", NORMS)
def test_as_exact_at_the_size_of_a_photograph(norm):
    random = np.random.default_rng(3)
    x = random.uniform(0, 1, (2, 96, 96, 3)).astype(np.float32)
    w = (random.normal(size=x.shape) ** 3).astype(np.float32)
    gap = np.array([40.0, -900.0], np.float32)
    d = moved(x, w, gap, norm)
    assert (w * d).sum(axis=(1, 2, 3)) == pytest.approx(gap, rel=1e-4)
    assert ((x + d) >= -1e-6).all()
    assert ((x + d) <= 1 + 1e-6).all()
