"""Random numbers belong to the row, and look like what they claim to be."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from scipy import stats

from advcli.threats.randomness import Random, row_key


def keys(count: int) -> np.ndarray:
    return np.array([row_key("seed", i, "attack") for i in range(count)], np.uint32)


def draws(key, k, kind, shape=(40, 25), **options):
    random = Random(tf.constant(key), tf.constant(k, tf.int32))
    return getattr(random, kind)(shape, **options).numpy()


def test_a_row_draws_the_same_wherever_it_stands():
    key = keys(32)
    k = np.arange(32)
    order = np.random.default_rng(0).permutation(32)
    for kind in ("uniform", "signs", "normal"):
        together = draws(key, k, kind)
        np.testing.assert_array_equal(draws(key[order], k[order], kind), together[order])
        np.testing.assert_array_equal(draws(key[8:16], k[8:16], kind), together[8:16])


def test_uniform_and_normal_pass_kolmogorov_smirnov():
    key, k = keys(16), np.zeros(16)
    assert stats.kstest(draws(key, k, "uniform").ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(draws(key, k, "normal").ravel(), "norm").pvalue > 1e-3


def test_rows_steps_and_streams_are_independent():
    key = keys(2)
    base = draws(key[:1], [0], "uniform").ravel()
    others = [
        draws(key[1:], [0], "uniform"),
        draws(key[:1], [1], "uniform"),
        draws(key[:1], [0], "uniform", stream=1),
    ]
    for other in others:
        assert abs(np.corrcoef(base, other.ravel())[0, 1]) < 0.12
        assert (base != other.ravel()).mean() > 0.999


def test_neighbouring_numbers_are_uncorrelated():
    values = draws(keys(64), np.zeros(64), "uniform")
    assert abs(np.corrcoef(values[..., :-1].ravel(), values[..., 1:].ravel())[0, 1]) < 0.01
    assert stats.chisquare(np.histogram(values, bins=256)[0]).pvalue > 1e-3


def test_integers_cover_their_range():
    random = Random(tf.constant(keys(8)), tf.zeros([8], tf.int32))
    drawn = random.integers(7, (500,)).numpy()
    assert set(drawn.ravel()) == set(range(7))
    assert stats.chisquare(np.bincount(drawn.ravel())).pvalue > 1e-3


def test_keys_depend_on_every_part():
    assert len({row_key(s, i, a) for s in range(5) for i in "xyz" for a in ("p", "q")}) == 30
    assert row_key("a", "bc") != row_key("ab", "c")
