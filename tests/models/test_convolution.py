"""The faster gradient of a first convolution is the gradient."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import tensorflow as tf

from advcli.models.backward import gradient_of, own_gradients


def slopes(shape, kernel, *, stride=1, padding="SAME", dilation=1, groups=1):
    """(gradient with the faster way allowed, TensorFlow's own, names of the operations used)."""
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(size=(3, *shape)).astype(np.float32))
    channels, features = kernel[2], kernel[3]
    w = random.normal(size=(*kernel[:2], channels // groups, features)).astype(np.float32)
    found = []
    for context in (own_gradients, nullcontext):

        def slope(x, context=context):
            with context():
                y = tf.nn.conv2d(x, tf.constant(w), stride, padding, dilations=dilation)
            return gradient_of(tf.reduce_sum(tf.sin(y)), x)

        compiled = tf.function(slope, autograph=False).get_concrete_function(x)
        kinds = {op.type for op in compiled.graph.get_operations()}
        found.append((compiled(x).numpy(), "Conv2DBackpropInput" in kinds))
    (fast, fast_usual), (own, own_usual) = found
    assert own_usual
    return fast, own, not fast_usual


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("shape", [(9, 9, 1), (6, 11, 1), (8, 7, 3)])
@pytest.mark.parametrize("size", [(3, 3), (5, 5), (2, 4), (1, 1)])
def test_it_is_tensorflows_own_but_for_rounding(shape, size, padding):
    fast, own, used = slopes(shape, (*size, shape[2], 16 * shape[2]), padding=padding)
    assert used
    np.testing.assert_allclose(fast, own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel": (3, 3, 3, 32)},  # too few features for it to pay
        {"kernel": (3, 3, 3, 64), "stride": 2},
        {"kernel": (3, 3, 3, 64), "dilation": 2},
        {"kernel": (7, 7, 3, 64)},
        {"kernel": (3, 3, 3, 96), "groups": 3},
    ],
)
def test_elsewhere_nothing_is_changed(settings):
    fast, own, used = slopes((12, 12, 3), **settings)
    assert not used
    np.testing.assert_array_equal(fast, own)
