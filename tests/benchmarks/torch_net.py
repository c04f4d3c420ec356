"""A Keras model as a PyTorch user would have it: the same weights in channels-last modules.

Keras's own torch backend transposes around every convolution, so measuring against that would
flatter advcli. Only `torch_worker` imports this, in an interpreter that has torch and Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"linear": lambda x: x, "relu": functional.relu}


class Twin(torch.nn.Module):
    """[N, C, H, W] in [0, 1] -> logits; `formula` is the preprocessing's scale, mean, std, order.

    Raises NotImplementedError for a layer that it has no counterpart of.
    """

    def __init__(self, model: Any, formula: dict[str, Any]) -> None:
        super().__init__()
        graph = getattr(model, "_functional", None) or model
        nodes = graph._nodes_by_depth
        self._input = id(graph.inputs[0])
        self._output = id(graph.outputs[0])
        self._last = graph.outputs[0]._keras_history.operation
        self._steps = [
            (self._counterpart(node), [id(t) for t in node.input_tensors], id(node.outputs[0]))
            for depth in sorted(nodes, reverse=True)
            for node in nodes[depth]
            if not node.is_input
        ]
        self._flipped = formula["channels"] == "bgr"
        self._scale = formula["scale"]
        self._mean, self._std = (
            torch.tensor(formula[key], dtype=torch.float32).reshape(1, -1, 1, 1)
            for key in ("mean", "std")
        )
        self._plain = self._scale == 1 and not any(formula["mean"]) and set(formula["std"]) == {1}

    def forward(self, x: Any) -> Any:
        if self._flipped:
            x = x.flip(1)
        if not self._plain:
            x = (x * self._scale - self._mean.to(x.device)) / self._std.to(x.device)
        known = {self._input: x.contiguous(memory_format=torch.channels_last)}
        for run, inputs, output in self._steps:
            known[output] = run(*(known[number] for number in inputs))
        return known[self._output]

    def _counterpart(self, node: Any) -> Callable[..., Any]:
        layer = node.operation
        kind = type(layer).__name__
        shape = tuple(node.input_tensors[0].shape)
        activation = _activation(layer, ending=layer is self._last)
        if kind == "Conv2D":
            pad = _padding(layer, shape, layer.kernel_size, layer.dilation_rate)
            if pad[0] == pad[1] and pad[2] == pad[3]:
                even = self._convolution(layer, (pad[2], pad[0]))
                return lambda x: activation(even(x))
            module = self._convolution(layer, (0, 0))
            return lambda x: activation(module(functional.pad(x, pad)))
        if kind == "Dense":
            dense = self._added(torch.nn.Linear(layer.kernel.shape[0], layer.units, layer.use_bias))
            _set(dense.weight, layer.kernel, (1, 0))
            if layer.use_bias:
                _set(dense.bias, layer.bias)
            return lambda x: activation(dense(x))
        if kind == "BatchNormalization":
            return self._normalisation(layer)
        if kind in ("MaxPooling2D", "AveragePooling2D"):
            if layer.padding == "same" and any(_padding(layer, shape, layer.pool_size, (1, 1))):
                raise NotImplementedError(f"{kind} with padding")
            pool = functional.max_pool2d if kind == "MaxPooling2D" else functional.avg_pool2d
            return lambda x: pool(x, layer.pool_size, layer.strides)
        simple: dict[str, Callable[..., Any]] = {
            "ReLU": functional.relu,
            "Activation": activation,
            "Add": lambda *parts: sum(parts[1:], parts[0]),
            "GlobalAveragePooling2D": lambda x: x.mean((2, 3)),
            "Flatten": lambda x: x.permute(0, 2, 3, 1).flatten(1),
            "Dropout": lambda x: x,
        }
        if kind == "Rescaling":
            scale, offset = float(layer.scale), float(layer.offset)
            return lambda x: x * scale + offset
        if kind not in simple or (kind == "ReLU" and layer.max_value is not None):
            raise NotImplementedError(kind)
        return simple[kind]

    def _added(self, module: Any) -> Any:
        self.add_module(f"layer{len(self._modules)}", module)
        return module

    def _convolution(self, layer: Any, padding: tuple[int, int]) -> Any:
        height, width, inputs, outputs = layer.kernel.shape
        module = torch.nn.Conv2d(
            inputs * layer.groups,
            outputs,
            (height, width),
            layer.strides,
            padding,
            dilation=layer.dilation_rate,
            groups=layer.groups,
            bias=layer.use_bias,
        )
        _set(module.weight, layer.kernel, (3, 2, 0, 1))
        if layer.use_bias:
            _set(module.bias, layer.bias)
        return self._added(module.to(memory_format=torch.channels_last))

    def _normalisation(self, layer: Any) -> Any:
        module = torch.nn.BatchNorm2d(layer.moving_mean.shape[0], layer.epsilon)
        _set(module.running_mean, layer.moving_mean)
        _set(module.running_var, layer.moving_variance)
        if layer.scale:
            _set(module.weight, layer.gamma)
        if layer.center:
            _set(module.bias, layer.beta)
        return self._added(module)


def _set(place: Any, variable: Any, order: tuple[int, ...] | None = None) -> None:
    """A weight, its axes in another order where one is given."""
    value = variable.numpy()
    with torch.no_grad():
        place.copy_(torch.tensor(value if order is None else value.transpose(order)))


def _activation(layer: Any, *, ending: bool) -> Callable[[Any], Any]:
    name = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if name == "softmax" and ending:
        return _ACTIVATIONS["linear"]
    if name not in _ACTIVATIONS:
        raise NotImplementedError(f"the activation {name}")
    return _ACTIVATIONS[name]


def _padding(layer: Any, shape: Any, sizes: Any, dilations: Any) -> tuple[int, ...]:
    """(left, right, top, bottom), as Keras pads for "same"."""
    if layer.padding == "valid":
        return (0, 0, 0, 0)
    found: list[int] = []
    for length, size, stride, dilation in zip(
        shape[1:3], sizes, layer.strides, dilations, strict=True
    ):
        total = max((-(-length // stride) - 1) * stride + (size - 1) * dilation + 1 - length, 0)
        found = [total // 2, total - total // 2, *found]
    return tuple(found)
