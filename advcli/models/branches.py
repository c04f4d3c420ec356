"""Whether a network adds up branches, as every residual network does.

oneDNN computes a convolution, its bias and the sum with another branch in one operation, and
TensorFlow 2.18 to 2.21 keep the memory of that sum in the operation itself (`fuse_add_src_` in
mkl_conv_ops.cc): two threads that run the same graph at once overwrite each other's, which crashes
or, worse, computes something else. Such a network is only ever run by one thread.
"""

from __future__ import annotations

from typing import Any

from advcli.models.folding import graphs_of

_HARMLESS = frozenset({"Concatenate", "Multiply", "Maximum", "Minimum", "Dot"})


def adds_branches(model: Any) -> bool:
    """True if a layer reads several values and may add them, or if it cannot be told."""
    graphs = list(graphs_of(model))
    return not graphs or any(
        _may_add(node)
        for graph in graphs
        for nodes in graph._nodes_by_depth.values()
        for node in nodes
    )


def _may_add(node: Any) -> bool:
    kind = type(node.operation)
    if not kind.__module__.startswith("keras."):  # whatever it does within itself
        return True
    return len(node.input_tensors) > 1 and kind.__name__ not in _HARMLESS
