"""What the first BatchNormalization of a model sees, against what it saw in training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from advcli.lazy import Tensor

Array = np.ndarray[Any, Any]


def first_batchnorm(model: Any) -> Any:
    """The first BatchNormalization layer in data order, nested models opened, or None."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            inner = first_batchnorm(layer)
            if inner is not None:
                return inner
        elif type(layer).__name__ == "BatchNormalization":
            return layer
    return None


@contextlib.contextmanager
def entering(layer: Any) -> Iterator[list[Tensor]]:
    """While open, every call of the layer adds its input to the list."""
    seen: list[Tensor] = []
    if layer is None:
        yield seen
        return
    original = layer.call

    def call(inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(inputs)
        return original(inputs, *args, **kwargs)

    # Past Keras's own __setattr__, which keeps an account of what a layer owns.
    object.__setattr__(layer, "call", call)
    try:
        yield seen
    finally:
        object.__delattr__(layer, "call")


def divergence(entered: Array, layer: Any) -> float:
    """Mean over channels of KL(batch's normal distribution ‖ the moving statistics').

    **Arguments**
    - `entered`: what the layer was given, float32 [B, …] with the layer's axis among them.
    """
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
    values = np.moveaxis(entered.astype(np.float64), axis, -1)
    values = values.reshape(-1, values.shape[-1])
    mean, variance = values.mean(axis=0), values.var(axis=0) + layer.epsilon
    expected = np.asarray(layer.moving_mean.numpy(), np.float64)
    spread = np.asarray(layer.moving_variance.numpy(), np.float64) + layer.epsilon
    kl = 0.5 * (np.log(spread / variance) + (variance + (mean - expected) ** 2) / spread - 1)
    return float(kl.mean())
