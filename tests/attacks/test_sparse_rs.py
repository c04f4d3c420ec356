"""Sparse-RS and one-pixel: which pixels they change, how many, and to what."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advcli.attacks.base import Row
from advcli.attacks.one_pixel import OnePixel
from advcli.attacks.sparse_rs import _MOST, SparseRS, _other, _put, _spread
from advcli.engine.run import Engine
from advcli.threats.losses import Goal
from advcli.threats.randomness import Random
from advcli.threats.space import Space
from tests.attacks.test_contract import subjects_of
from tests.support.linear import LinearModel, exact_distance, images

SHAPE = (5, 7, 3)


def rows(count, eps):
    x0 = tf.constant(images(SHAPE, count) / np.float32(255))
    zero = tf.zeros([count], tf.int32)
    key = tf.constant(np.random.default_rng(0).integers(0, 2**32, (count, 2), np.uint32))
    row = Row(x0, Goal(zero, zero - 1), tf.fill([count], float(eps)), key, zero, x0)
    return row, Random(key, zero + 1)


class Recorder:
    """An oracle whose answers never rise, or always do; keeps what was asked."""

    resolution = 0.0

    def __init__(self, rising):
        self.asked, self.rising = [], rising

    def scores(self, x, used=None):
        self.asked.append(x.numpy())
        sign = 1.0 if self.rising else -1.0
        return tf.repeat([[0.0, sign * len(self.asked)]], len(x), axis=0)


@pytest.mark.parametrize("eps", [1, 4, 20])
@pytest.mark.parametrize("rising", [True, False])
def test_sparse_rs_asks_about_exactly_eps_changed_pixels(eps, rising):
    row, random = rows(50, eps)
    space, attack, oracle = Space("l0", SHAPE), SparseRS(steps=400), Recorder(rising)
    state = attack.init(row, space, random)
    for k in range(6):
        count = tf.fill([50], 80 * k)
        state, _ = attack.step(row, state, count, space, oracle, Random(row.key, count))
        asked = oracle.asked[-1]
        assert (space.distance(asked, row.x0).numpy() == eps).all()
        assert set(np.unique(asked[asked != row.x0.numpy()])) <= {0.0, 1.0}
        listed = np.sort(state.order.numpy(), axis=1)
        assert (listed == np.arange(35)).all()
        changed = (state.x.numpy() != row.x0.numpy()).any(axis=-1).reshape(50, -1)
        first = np.take_along_axis(changed, state.order.numpy()[:, :eps], axis=1)
        assert first.all()  # the list knows which pixels are changed
        if k:
            differs = (asked != oracle.asked[0 if not rising else -2]).any(axis=(1, 2, 3))
            assert differs.all()


def test_numbers_spread_are_different_and_cover_the_range():
    count = 4000
    _, random = rows(count, 1)
    for length, swaps in ((1, 1), (5, 3), (100, 64), (30, 7)):
        drawn = _spread(tf.fill([count], swaps), tf.fill([count], length), random, 0).numpy()
        assert drawn.shape == (count, _MOST)
        assert all(len(set(r)) == swaps for r in drawn[:200])
        assert (drawn[:, swaps:] == drawn[:, :1]).all()
        seen = np.bincount(drawn[:, :swaps].reshape(-1), minlength=length)
        assert len(seen) == length
        assert (np.abs(seen / (count * swaps / length) - 1) < 0.25).all()


def test_a_colour_is_never_the_clean_one():
    clean = tf.constant([[0.0, 0.0], [1.0, 0.0], [0.5, 1.0]])
    signs = tf.constant([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    assert _other(clean, signs).numpy().tolist() == [[1, 1], [1, 1], [0, 1]]


def test_put_writes_where_it_says():
    into = tf.reshape(tf.range(12), [2, 6])
    out = _put(into, tf.constant([[1, 1], [0, 5]]), tf.constant([[-1, -1], [-2, -3]]))
    assert out.numpy().tolist() == [[0, -1, 2, 3, 4, 5], [-2, 7, 8, 9, 10, -3]]


def within(model, clean, attack, eps):
    exact = np.array([exact_distance(model, image, "l0") for image in clean])
    engine = Engine(model, batch_size=64, pixels="float", seed=0)
    outcomes = list(engine.run(attack, "l0", subjects_of(model, clean, (eps,))))
    found = {o.key for o in outcomes if o.success}
    assert not found & {str(i) for i, d in enumerate(exact) if d > eps}
    must = {str(i) for i, d in enumerate(exact) if d <= eps}
    assert len(must) >= 6
    return len(found & must) / len(must), outcomes


@pytest.mark.parametrize("attack", [SparseRS(steps=300), OnePixel(population=128, generations=12)])
def test_one_pixel_is_found_where_one_is_enough(attack):
    """36 gray pixels, two colours each: no image that one pixel decides is missed."""
    model = LinearModel((6, 6, 1), 3, seed=5)
    clean = images((6, 6, 1), 120, seed=6, low=60, high=196)
    share, _ = within(model, clean, attack, 1.0)
    assert share == 1


def test_one_pixel_draws_at_most_eps_pixels_and_ends_where_all_candidates_agree():
    row, random = rows(20, 3)
    space, attack = Space("l0", SHAPE), OnePixel(population=16, pixels=5)
    state = attack.init(row, space, random)
    drawn = attack._drawn(row, state.genes, space)
    distance = space.distance(drawn, row.x0[:, None]).numpy()
    assert distance.max() == 3
    assert distance.mean() > 2.7  # two at one place count once
    model = LinearModel((6, 6, 1), 2, seed=5)
    clean = images((6, 6, 1), 24, seed=6)
    _, outcomes = within(model, clean, OnePixel(population=32, generations=200, pixels=1), 5.0)
    failed = [o for o in outcomes if not o.success]
    assert failed
    assert all(o.forwards % 32 == 1 for o in failed)  # whole generations, and the confirmation
    assert np.median([o.forwards for o in failed]) < 32 * 100


def test_two_genes_at_one_place_draw_the_first_ones_colour():
    row, _ = rows(1, 2)
    attack = OnePixel(population=8, pixels=2)
    genes = np.zeros((1, 8, 2, 5), np.float32)
    genes[..., 0, 2:], genes[..., 1, 2:] = 0.25, 0.75
    drawn = attack._drawn(row, tf.constant(genes), Space("l0", SHAPE)).numpy()
    assert (drawn[0, :, 0, 0] == 0.25).all()
    assert (drawn[0, :, 1:] == row.x0.numpy()[0, 1:]).all()
