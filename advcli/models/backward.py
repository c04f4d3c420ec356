"""Gradients with respect to an image, on CPUs by operations of our own where those are better."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from advcli.lazy import Tensor, tf
from advcli.models import convolution, dense

_OWN = {"Conv2D": convolution.gradient, "MatMul": dense.gradient}
_NAMES = {operation: f"Advcli{operation}" for operation in _OWN}
_registered = False


def own_gradients() -> AbstractContextManager[Any]:
    """A context in which operations are built that have our gradients.

    Only inside a graph that is computed on a CPU.
    """
    if tf.executing_eagerly() or tf.config.list_logical_devices("GPU"):
        return nullcontext()
    _register()
    context: AbstractContextManager[Any] = tf.compat.v1.get_default_graph().gradient_override_map(
        _NAMES
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
    for operation, name in _NAMES.items():
        tf.RegisterGradient(name)(_OWN[operation])
    _registered = True
