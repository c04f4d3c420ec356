"""Convolution and batch normalisation as one operation, in the engine's graphs alone.

In use, a normalisation multiplies each channel and adds to it, which the convolution (or dense
layer) before it can do on the way: its weights are multiplied once, and what is left is a bias. On
a ResNet-20 that takes a fifth off the gradient. The model stays as it was loaded, and so does the
one that confirms a success: only while a graph is traced do the folded layers do something else.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from advcli.lazy import Tensor, tf

Array = np.ndarray[Any, Any]

_KERNELS = {
    "Conv2D": "kernel",
    "Dense": "kernel",
    "DepthwiseConv2D": "kernel",
    "SeparableConv2D": "pointwise_kernel",
}


@dataclass(frozen=True)
class Folding:
    """`weights`: those that change, by the `id` of their Keras variable. `biases`: what is left of
    each normalisation, float32 [channels]."""

    weights: dict[int, Array]
    biases: tuple[tuple[Any, Array], ...]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within it, the folded normalisations add their bias and do nothing else."""
        try:
            for layer, bias in self.biases:
                object.__setattr__(layer, "call", _adding(bias))
            yield
        finally:
            for layer, _ in self.biases:
                layer.__dict__.pop("call", None)


def fold(model: Any) -> Folding:
    """All that can be folded in a Keras model and the models nested in it."""
    weights: dict[int, Array] = {}
    biases = []
    for source, normalisation in _pairs(model):
        mean, variance = (
            v.numpy().astype(np.float64)
            for v in (normalisation.moving_mean, normalisation.moving_variance)
        )
        factor = 1.0 / np.sqrt(variance + normalisation.epsilon)
        if normalisation.scale:
            factor *= normalisation.gamma.numpy()
        bias = -mean * factor
        if normalisation.center:
            bias += normalisation.beta.numpy()
        kernel = getattr(source, _KERNELS[type(source).__name__])
        spread = factor
        if type(source).__name__ == "DepthwiseConv2D":  # [h, w, channels, multiplier]
            spread = factor.reshape(kernel.shape[2:])
        weights[id(kernel)] = (kernel.numpy() * spread).astype(np.float32)
        if source.use_bias:
            weights[id(source.bias)] = np.zeros_like(source.bias.numpy())
            bias += source.bias.numpy() * factor
        biases.append((normalisation, bias.astype(np.float32)))
    return Folding(weights, tuple(biases))


def _adding(bias: Array) -> Any:
    def call(inputs: Tensor, training: object = None, mask: object = None) -> Tensor:
        return tf.nn.bias_add(inputs, tf.constant(bias))

    return call


def _pairs(model: Any) -> Iterator[tuple[Any, Any]]:
    """(a linear layer, the normalisation that alone reads its output), each used once."""
    graphs, nodes = list(graphs_of(model)), list(nodes_of(model))
    uses = Counter(id(node.operation) for node in nodes)
    readers = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    readers.update(id(tensor) for graph in graphs for tensor in tf.nest.flatten(graph.outputs))
    for node in nodes:
        layer, read = node.operation, node.input_tensors
        if type(layer).__name__ != "BatchNormalization" or len(read) != 1:
            continue
        source = read[0]._keras_history.operation
        if (
            type(source).__name__ in _KERNELS
            and type(source).__module__.startswith("keras.")
            and type(layer).__module__.startswith("keras.")
            and uses[id(source)] == uses[id(layer)] == readers[id(read[0])] == 1
            and getattr(source.activation, "__name__", "") == "linear"
            and not getattr(source, "lora_enabled", False)
            and getattr(source, "quantization_mode", None) is None
            and source.compute_dtype == layer.compute_dtype == "float32"
            and getattr(source, "data_format", "channels_last") == "channels_last"
            and layer.axis in (-1, len(read[0].shape) - 1)
        ):
            yield source, layer


def graphs_of(model: Any) -> Iterator[Any]:
    """The model's graph and those nested in it, each once. A layer that was part of other graphs
    while the file was loaded still knows their nodes, so layers are not asked."""
    waiting, seen = [model], set()
    while waiting:
        graph = waiting.pop()
        graph = getattr(graph, "_functional", None) or graph
        if hasattr(graph, "_nodes_by_depth") and id(graph) not in seen:
            seen.add(id(graph))
            yield graph
            waiting += graph.layers


def nodes_of(model: Any) -> Iterator[Any]:
    """Every use of a layer in those graphs; none where the model has no graph."""
    for graph in graphs_of(model):
        for same_depth in graph._nodes_by_depth.values():
            yield from same_depth
