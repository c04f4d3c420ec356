"""The cosine transform against SciPy's, and the choice of low frequencies."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import tensorflow as tf

from advcli.threats.dct import dct2, idct2, lowest


@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (3, 8, 8, 1), (2, 4, 6, 9, 2), (1, 1, 3, 1)])
def test_both_ways_as_scipy(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    wanted = scipy.fft.dctn(x.astype(np.float64), axes=(-3, -2), norm="ortho")
    got = dct2(tf.constant(x)).numpy()
    assert np.abs(got - wanted).max() < 1e-5
    assert np.abs(idct2(tf.constant(wanted.astype(np.float32))).numpy() - x).max() < 1e-5


def test_lowest_frequencies_come_first_on_any_shape():
    assert lowest(4, 4, 1.0).all()
    assert lowest(4, 4, 0.0).sum() == 1
    assert lowest(4, 4, 0.0)[0, 0]
    half = lowest(6, 10, 0.5)
    assert half.sum() == 30
    # what is kept has nothing of lower frequency left out: a staircase
    assert all(np.all(row[:-1] >= row[1:]) for row in half)
    assert all(np.all(column[:-1] >= column[1:]) for column in half.T)
    assert half[0, :5].all()
    assert half[:3, 0].all()
