"""The gradient of a dense layer with respect to its input, with the same bits in a batch of eight.

With fewer than 16 rows TensorFlow multiplies matrices by another kernel, which adds in another
order. On the samples and a ResNet-20 no other operation does that, and at the end of a run, when
few images are left, it alone would keep the batch at 16.
"""

from __future__ import annotations

from typing import Any

from advcli.lazy import Tensor, tf

_ROWS = 16


def gradient(op: Any, grad: Tensor) -> list[Tensor]:
    """What is to be registered as the gradient of `MatMul`."""
    a, b = op.inputs
    turned_a, turned_b = op.get_attr("transpose_a"), op.get_attr("transpose_b")
    if turned_a:
        towards_a = tf.matmul(b, grad, transpose_a=turned_b, transpose_b=True)
    else:
        rows = tf.shape(grad)[0]
        filled = tf.pad(grad, [[0, tf.maximum(_ROWS - rows, 0)], [0, 0]])
        towards_a = tf.matmul(filled, b, transpose_b=not turned_b)[:rows]
        towards_a.set_shape(a.shape)
    if turned_b:
        towards_b = tf.matmul(grad, a, transpose_a=True, transpose_b=turned_a)
    else:
        towards_b = tf.matmul(a, grad, transpose_a=not turned_a)
    return [towards_a, towards_b]
