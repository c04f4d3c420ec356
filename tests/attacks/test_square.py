"""Square: the windows' sizes and places, what they are filled with, and how many queries count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from advcli.attacks.base import Row
from advcli.attacks.search import stage
from advcli.attacks.square import _HALVED_AFTER, Square, _bump, _sides, _window
from advcli.engine.run import Engine
from advcli.threats.losses import Goal
from advcli.threats.randomness import Random
from advcli.threats.space import Space
from tests.attacks.test_contract import subjects_of
from tests.support.linear import LinearModel, images

SHAPE = (5, 7, 3)


def rows(count, norm, low=100, high=156):
    """`count` rows with images that the box does not touch, and their random numbers."""
    x0 = tf.constant(images(SHAPE, count, low=low, high=high) / np.float32(255))
    zero = tf.zeros([count], tf.int32)
    eps = tf.fill([count], {"linf": 0.1, "l2": 0.5, "l1": 4.0}[norm])
    key = tf.constant(np.random.default_rng(0).integers(0, 2**32, (count, 2), np.uint32))
    return Row(x0, Goal(zero, zero - 1), eps, key, zero, x0), Random(key, zero + 1)


@pytest.mark.parametrize(
    ("query", "halved"),
    [(0, 0), (10, 0), (11, 1), (50, 1), (51, 2), (200, 2), (201, 3), (4001, 7), (8001, 9)],
)
def test_windows_halve_after_the_published_numbers_of_queries(query, halved):
    assert stage(tf.constant([query]), _HALVED_AFTER, 10_000).numpy().tolist() == [halved]


def test_a_rescaled_schedule_ends_as_a_run_of_ten_thousand_does():
    halved = stage(tf.range(1000), _HALVED_AFTER, 1000).numpy()
    published = stage(tf.range(10_000), _HALVED_AFTER, 10_000).numpy()
    assert (halved == published[::10]).all()


def test_window_sizes():
    assert _sides(Space("linf", (32, 32, 3)), 0.8) == [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]
    assert _sides(Space("l2", (32, 32, 3)), 0.8) == [29, 21, 15, 11, 7, 5, 5, 3, 3, 3]
    assert max(_sides(Space("linf", (5, 40, 1)), 1.0)) == 5
    assert set(_sides(Space("l1", (2, 2, 1)), 0.8)) == {2}


def test_windows_lie_anywhere_in_the_image():
    count = 600
    _, random = rows(count, "linf")
    down, across = _window(tf.fill([count], 3), Space("linf", SHAPE), random, 0)
    for inside, length in ((down.numpy(), 5), (across.numpy(), 7)):
        assert (inside.sum(axis=1) == 3).all()
        starts = np.bincount(inside.argmax(axis=1), minlength=length)
        assert (starts[: length - 2] > 0.6 * count / (length - 2)).all()
        assert (starts[length - 2 :] == 0).all()
        assert all("010" not in "".join(map(str, r.astype(int))) for r in inside)  # in one piece


@pytest.mark.parametrize("side", [1, 2, 5])
def test_linf_windows_are_set_to_the_ends_and_always_change_something(side):
    row, random = rows(500, "linf", 0, 256)
    space = Space("linf", SHAPE)
    attack = Square()
    x = attack.init(row, space, random).x
    for _ in range(3):  # a window of the same signs as last time would change nothing
        new = attack._coloured(row, x, [side] * 10, tf.zeros([500], tf.int32), space, random)
        changed = np.any(new.numpy() != x.numpy(), axis=-1)
        assert (changed.any(axis=(1, 2))).all()
        assert (changed.sum(axis=(1, 2)) <= side**2).all()
        low, high = (t.numpy() for t in space.bounds(row.x0, row.eps))
        at_the_ends = (new.numpy() == low) | (new.numpy() == high)
        assert at_the_ends.all()
        x = new


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_l2_and_l1_windows_take_the_budget_of_others(norm):
    row, random = rows(200, norm)
    space = Space(norm, SHAPE)
    attack = Square()
    x = attack.init(row, space, random).x
    assert space.distance(x, row.x0).numpy() == pytest.approx(row.eps.numpy(), rel=1e-3)
    new = attack._moved(row, x, [3] * 10, tf.zeros([200], tf.int32), space, random)
    assert space.distance(new, row.x0).numpy() == pytest.approx(row.eps.numpy(), rel=1e-3)
    delta, moved = (x - row.x0).numpy(), (new - row.x0).numpy()
    emptied = (np.abs(delta).max(axis=-1) > 1e-3) & (np.abs(moved).max(axis=-1) < 1e-6)
    if norm == "l2":
        down, across = _window(tf.fill([200], 3), space, random, 0)
        window = down.numpy()[:, :, None] & across.numpy()[:, None, :]
        assert not (emptied & window).any()
        assert (emptied.sum(axis=(1, 2)) <= 9).all()
        assert emptied.any(axis=(1, 2)).mean() > 0.8  # the two windows may be one
        same = ~(emptied | window)
        ratio = np.where(same[..., None], moved / delta, 1.0)
        assert np.allclose(ratio, ratio.max(axis=(1, 2, 3), keepdims=True), rtol=0.35)


def test_bumps_are_the_published_ones():
    """Rings of 1 + 1/4 + … (L2) or 1 + 1/16 + … (L1), counted by hand for side 3."""
    for norm, step in (("l2", 1 / 4), ("l1", 1 / 16)):
        upper = np.array([[step, 1 + step, step]])
        lower = -np.array([[step, step, step], [step, 1 + step, step]])
        order = 2 if norm == "l2" else 1
        parts = [p / (np.abs(p) ** order).sum() ** (1 / order) for p in (upper, lower)]
        expected = np.concatenate(parts) / 2 ** (1 / order)
        assert np.allclose(_bump(3, norm), expected, atol=1e-6)


@pytest.mark.parametrize("norm", Square.norms)
def test_one_query_a_step_and_none_after_the_last(norm):
    model = LinearModel(SHAPE, 3)
    clean = images(SHAPE, 8)
    tiny = {"linf": 1 / 255, "l2": 1 / 255, "l1": 1 / 255}[norm]
    subjects = subjects_of(model, clean, (tiny,))
    engine = Engine(model, batch_size=8, pixels="uint8", seed=0)
    failed = [o for o in engine.run(Square(steps=37), norm, subjects) if not o.success]
    assert len(failed) >= 4
    assert {(o.forwards, o.gradients) for o in failed} == {(38, 0)}  # and the confirmation


def test_windows_of_single_pixels_decide_a_gray_linear_model():
    """Every value of a gray image is flipped in turn: nothing within eps is missed."""
    from tests.support.linear import exact_distance

    model = LinearModel((6, 6, 1), 2, seed=5)
    clean = images((6, 6, 1), 40, seed=6)
    exact = np.array([exact_distance(model, image, "linf") for image in clean])
    eps = float(np.median(exact))
    engine = Engine(model, batch_size=40, pixels="float", seed=0)
    subjects = subjects_of(model, clean, (eps,))
    found = {o.key for o in engine.run(Square(steps=1500), "linf", subjects) if o.success}
    assert found >= {str(i) for i, d in enumerate(exact) if d <= 0.99 * eps}
    assert not found & {str(i) for i, d in enumerate(exact) if d > eps}
    assert math.isclose(len(found), 20, abs_tol=2)
