"""Whether a network adds up branches, as every residual network does.

oneDNN computes a convolution, its bias and the sum with another branch in one operation, and
TensorFlow keeps the memory of that sum in the operation itself (`fuse_add_src_` in mkl_conv_ops.cc;
2.21 was seen to crash): two threads that run the same graph at once overwrite each other's, which
crashes or, worse, computes something else. Of such a network every thread has a graph of its own.
"""

from __future__ import annotations

from typing import Any

from advcli.models.folding import nodes_of

_HARMLESS = frozenset({"Concatenate", "Multiply", "Maximum", "Minimum", "Dot"})
# These compute with other layers, or with whatever a file says
_OPAQUE = frozenset({"Wrapper", "RNN", "Lambda", "TFSMLayer"})


def adds_branches(model: Any) -> bool:
    """True if a layer may add several values, or if it cannot be told."""
    nodes = list(nodes_of(model))
    return not nodes or _unknown(model) or any(_may_add(node) for node in nodes)


def _unknown(operation: Any) -> bool:
    """Whether it does something within itself that its inputs do not show."""
    kinds = type(operation).__mro__
    return not kinds[0].__module__.startswith("keras.") or any(
        kind.__name__ in _OPAQUE for kind in kinds
    )


def _may_add(node: Any) -> bool:
    several = len(node.input_tensors) > 1
    return _unknown(node.operation) or (several and type(node.operation).__name__ not in _HARMLESS)
