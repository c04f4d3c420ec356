"""SurFree's directions and its budget of queries."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from advcli.attacks.surfree import SurFree
from advcli.threats.dct import dct2, lowest
from advcli.threats.randomness import Random
from advcli.threats.space import Space
from tests.attacks.test_decision import row_of

SHAPE = (8, 10, 3)


def flat(x):
    return np.asarray(x).reshape(*x.shape[:-3], -1)


def test_directions_are_new_and_of_low_frequency():
    attack, space = SurFree(memory=20), Space("l2", SHAPE)
    random = np.random.default_rng(0)
    row = row_of(random.random((2, *SHAPE), np.float32))
    state = attack.init(row, space, Random(row.key, row.restart))
    x = row.x0 + tf.constant(random.normal(size=row.x0.shape).astype(np.float32))
    state = state._replace(x=x, tried=tf.ones_like(state.tried))
    key = tf.constant([[1, 2], [3, 4]], tf.uint32)
    drawn = []
    for k in range(4):
        new = attack._directions(row, state, space, Random(key, row.restart + k))
        drawn.append(flat(new))
        # the second row found a way at its second direction: the others were never tried
        state = attack._remembered(state, new, tf.constant([3, 1]))
    every = np.concatenate(drawn, axis=1)
    assert np.allclose(every[0] @ every[0].T, np.eye(16), atol=1e-4)
    away = flat((x - row.x0).numpy())
    assert np.abs(np.einsum("sqd,sd->sq", every, away)).max() < 1e-3
    assert state.tried.numpy().tolist() == [17, 9]
    past = flat(state.past.numpy())
    assert np.allclose(past[1, 1:9], every[1][[0, 1, 4, 5, 8, 9, 12, 13]], atol=1e-6)
    assert not past[1, 9:].any()


def test_the_oldest_directions_are_forgotten_but_for_the_very_first():
    attack, space = SurFree(memory=6), Space("l2", SHAPE)
    row = row_of(np.full((1, *SHAPE), 0.5, np.float32))
    state = attack.init(row, space, Random(row.key, row.restart))
    mark = tf.constant(np.arange(40, dtype=np.float32).reshape(10, 4, 1, 1, 1))
    mark = tf.broadcast_to(mark, [10, 4, *SHAPE])
    state = state._replace(tried=tf.ones_like(state.tried), past=state.past - 1.0)
    for k in range(3):
        state = attack._remembered(state, mark[k : k + 1], tf.constant([3]))
    kept = state.past.numpy()[0, :, 0, 0, 0]
    assert kept[0] == -1
    assert sorted(kept[1:]) == [7, 8, 9, 10, 11]


def test_first_directions_lie_in_the_low_frequencies():
    attack, space = SurFree(frequencies=0.25), Space("l2", SHAPE)
    row = row_of(np.random.default_rng(1).random((1, *SHAPE), np.float32))
    state = attack.init(row, space, Random(row.key, row.restart))
    directions = attack._directions(row, state, space, Random(row.key, row.restart))
    energy = tf.square(dct2(directions)).numpy()[0].sum(axis=-1)
    kept = lowest(8, 10, 0.25)
    assert kept.sum() == 20
    assert np.allclose(energy.sum(axis=(1, 2)), 1, atol=1e-4)
    assert energy[:, ~kept].max() < 1e-10
