"""The gradient of a dense layer: TensorFlow's own, and the same bits for eight rows as for more."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import tensorflow as tf

from advcli.models.backward import gradient_of, own_gradients


@pytest.mark.parametrize("turned_a", [False, True])
@pytest.mark.parametrize("turned_b", [False, True])
@pytest.mark.parametrize("rows", [1, 8, 16, 40])
def test_it_is_tensorflows_own_but_for_rounding(turned_a, turned_b, rows):
    random = np.random.default_rng(0)
    a = tf.constant(random.normal(size=(7, rows) if turned_a else (rows, 7)).astype(np.float32))
    b = tf.constant(random.normal(size=(5, 7) if turned_b else (7, 5)).astype(np.float32))
    found = []
    for context in (own_gradients, nullcontext):

        def slopes(a, b, context=context):
            with context():
                y = tf.sin(tf.matmul(a, b, transpose_a=turned_a, transpose_b=turned_b))
            total = tf.reduce_sum(y * y * y)
            return gradient_of(total, a), gradient_of(total, b)

        compiled = tf.function(slopes, autograph=False).get_concrete_function(a, b)
        padded = any(op.type in ("Pad", "PadV2") for op in compiled.graph.get_operations())
        assert padded == (context is own_gradients and not turned_a)
        found.append([part.numpy() for part in compiled(a, b)])
    for own, usual in zip(*found, strict=True):
        np.testing.assert_allclose(own, usual, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("features", [48, 64, 432, 1568])
@pytest.mark.parametrize("classes", [10, 48])
def test_eight_rows_have_the_bits_that_more_rows_have(features, classes):
    random = np.random.default_rng(0)
    w = tf.constant(random.normal(size=(features, classes)).astype(np.float32))
    x = random.normal(size=(128, features)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, features], tf.float32)], autograph=False)
    def slope(x):
        with own_gradients():
            y = tf.sin(x @ w)
        return gradient_of(tf.reduce_sum(y), x)

    whole = slope(x).numpy()
    for rows in (8, 16, 24, 64):
        np.testing.assert_array_equal(slope(x[:rows]).numpy(), whole[:rows])
