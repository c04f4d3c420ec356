"""What one image costs in memory while its gradient is computed, estimated from the layers."""

from __future__ import annotations

import math
from typing import Any

from advcli.models.folding import nodes_of

_BYTES = 4  # float32
_STATE = 16
"""Copies of the image that an attack holds: the clean one, its bounds, the best, its own state."""

_NO_VALUES = frozenset({"InputLayer", "Dropout", "Flatten", "Reshape", "SpatialDropout2D"})


def row_bytes(model: Any, shape: tuple[int, int, int]) -> int:
    """Bytes per image: every layer's output, as if all were kept, and an attack's own state.

    Of the 73 MB estimated for MobileNet a further row takes 23: a convolution, its normalisation
    and its activation share memory. That leaves room for what weights take once per graph (about
    ten times their size). Blind for what a layer computes within itself.
    """
    outputs = sum(
        math.prod(size or 1 for size in tuple(tensor.shape)[1:])
        for node in nodes_of(model)
        if type(node.operation).__name__ not in _NO_VALUES
        for tensor in node.output_tensors
    )
    return _BYTES * (outputs + _STATE * math.prod(shape))
