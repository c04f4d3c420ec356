"""The gradient of a first convolution with respect to the image, faster on CPUs.

Convolutions turn few colour channels into many features, and oneDNN computes that step backwards
at a fraction of the speed of its other convolutions: its kernels work on blocks of 8 or 16
channels, of which 1 or 3 are used. The same sum as one matrix product and k·k shifted additions
takes a third to a half of the time (28×28×1 to 16 or 32 features, and 32×32×3 to 64, 3×3 kernels).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from advcli.lazy import Tensor, tf

_NAME = "AdvcliFirstConvolution"
_WIDER = 16  # features per channel from which it pays (measured; at 5 it costs time)
_LARGEST_KERNEL = 5
_registered = False


def fast_first_convolution() -> AbstractContextManager[Any]:
    """A context in which convolutions are built that have this gradient where it pays.

    Only inside a graph that is computed on a CPU; the values are those of TensorFlow's own gradient
    but for the order of additions.
    """
    if tf.executing_eagerly() or tf.config.list_logical_devices("GPU"):
        return nullcontext()
    _register()
    context: AbstractContextManager[Any] = tf.compat.v1.get_default_graph().gradient_override_map(
        {"Conv2D": _NAME}
    )
    return context


def gradient_of(total: Tensor, x: Tensor) -> Tensor:
    """The gradient of a scalar, zero where nothing connects the two; inside a graph.

    Not by a tape: that knows nothing of gradients that a graph overrides.
    """
    zero = tf.UnconnectedGradients.ZERO
    found: Tensor = tf.gradients(total, x, unconnected_gradients=zero)[0]
    return found


def _register() -> None:
    global _registered
    if _registered:
        return
    tf.RegisterGradient(_NAME)(_gradient)
    _registered = True


def _gradient(op: Any, grad: Tensor) -> list[Tensor]:
    image, kernel = op.inputs
    settings = {
        "strides": op.get_attr("strides"),
        "padding": op.get_attr("padding").decode(),
        "explicit_paddings": op.get_attr("explicit_paddings"),
        "data_format": op.get_attr("data_format").decode(),
        "dilations": op.get_attr("dilations"),
    }
    if _pays(image, kernel, settings):
        towards_image = _towards_image(image, kernel, grad, settings["padding"] == "SAME")
    else:
        towards_image = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(image), filter=kernel, out_backprop=grad, **settings
        )
    towards_kernel = tf.raw_ops.Conv2DBackpropFilter(
        input=image, filter_sizes=tf.shape(kernel), out_backprop=grad, **settings
    )
    return [towards_image, towards_kernel]


def _pays(image: Tensor, kernel: Tensor, settings: dict[str, Any]) -> bool:
    known = image.shape[1:].is_fully_defined() and kernel.shape.is_fully_defined()
    if not known or len(image.shape) != 4 or settings["data_format"] != "NHWC":
        return False
    height, width, channels, features = kernel.shape
    plain = set(settings["strides"]) == {1} and set(settings["dilations"]) == {1}
    return bool(
        plain
        and settings["padding"] in {"SAME", "VALID"}
        and channels == image.shape[3]  # no groups
        and features >= _WIDER * channels
        and max(height, width) <= _LARGEST_KERNEL
    )


def _towards_image(image: Tensor, kernel: Tensor, grad: Tensor, same: bool) -> Tensor:
    """Every output spreads kernel·grad over its window; the windows overlap and are added up."""
    rows, columns, channels, features = kernel.shape
    height, width = image.shape[1], image.shape[2]
    spread = tf.reshape(tf.transpose(kernel, [3, 0, 1, 2]), [features, rows * columns * channels])
    windows = tf.reshape(grad, [-1, features]) @ spread
    windows = tf.reshape(windows, [-1, *grad.shape[1:3], rows * columns * channels])
    # where the first window begins: SAME pads (k − 1)//2 before
    top, left = (((k - 1) // 2 if same else 0) for k in (rows, columns))
    before = [rows - 1 - top, columns - 1 - left]
    after = [
        height + rows - 1 - grad.shape[1] - before[0],
        width + columns - 1 - grad.shape[2] - before[1],
    ]
    windows = tf.pad(windows, [[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]])
    parts = []
    for i in range(rows):
        for j in range(columns):
            y, x, first = rows - 1 - i, columns - 1 - j, (i * columns + j) * channels
            parts.append(windows[:, y : y + height, x : x + width, first : first + channels])
    return tf.add_n(parts)
