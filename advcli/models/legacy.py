"""What Keras 3 computes otherwise or stores otherwise than the version that saved a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from advcli.errors import ModelError
from advcli.lazy import Tensor, tf
from advcli.models.rules import Config, every_layer, layers_of, settings_of
from advcli.models.tensor_functions import LAYER, layer_class

__all__ = ["Turn", "add_bias_by_channel", "objects", "turn_weights", "turns_of"]

Weights = list[np.ndarray[Any, Any]]


def keras2_hard_sigmoid(x: Tensor) -> Tensor:
    """clip(0.2·x + 0.5, 0, 1); Keras 3's has a slope of 1/6."""
    return tf.clip_by_value(0.2 * x + 0.5, 0.0, 1.0)


def objects() -> dict[str, Any]:
    """Names that rules put into a configuration, and what they stand for."""
    return {"keras2_hard_sigmoid": keras2_hard_sigmoid, LAYER: layer_class()}


class Turn(NamedTuple):
    """One layer's weights, brought into the order of Keras 3: the rule, the layer's name, how."""

    rule: str
    layer: str
    apply: Callable[[Weights], Weights]


def turns_of(where: str, config: Config, keras_version: int, backend: str | None) -> list[Turn]:
    """What the weights of a normalised configuration need, as Keras 2 loaded such files.

    Keras 1 kept the kernels of channels-first layers as [filters, channels, rows, columns], and an
    LSTM's or a GRU's gates apart; Theano turns a kernel around before it slides it.

    Raises `ModelError` where a model inside the model would need it.
    """
    turns: list[Turn] = []
    for layer in layers_of(config):
        for inner in every_layer(layer):
            found = _turns(inner, keras_version, backend)
            if found and inner is not layer:
                raise ModelError(
                    f"{where}: the weights of a model inside it are in the order of Keras "
                    f"{keras_version} with {backend or 'unknown backend'}",
                    "load it in the Keras that saved it, and save it from Keras 2 with TensorFlow",
                )
            turns += found
    return turns


def _turns(layer: Config, keras_version: int, backend: str | None) -> list[Turn]:
    kind, settings = layer.get("class_name"), settings_of(layer)
    name = str(settings.get("name"))
    turns = []
    if keras_version < 2:
        first = settings.get("data_format") == "channels_first"
        order = _OLD_ORDERS.get((str(kind), first))
        if order is not None:
            turns.append(Turn("keras1-kernel-order", name, _transposed(order)))
        if kind == "Conv1D":
            turns.append(Turn("keras1-kernel-order", name, _conv1d(settings.get("filters"))))
        if kind in _GATES:
            turns.append(Turn("keras1-gates", name, _gates_joined(_GATES[str(kind)])))
    if backend == "theano" and kind in ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose"):
        turns.append(Turn("theano-kernel", name, _turned_around))
    return turns


# (class, channels first) -> the axes of the stored kernel in today's order
_OLD_ORDERS = {
    ("Conv2D", True): (2, 3, 1, 0),
    ("Conv3D", True): (2, 3, 4, 1, 0),
    ("Conv2DTranspose", False): (0, 1, 3, 2),
    ("Conv2DTranspose", True): (2, 3, 0, 1),
}
# Keras 1 saved i, c, f, o of an LSTM and z, r, h of a GRU; each a kernel, a recurrent one, a bias
_GATES = {"LSTM": (0, 2, 1, 3), "GRU": (0, 1, 2)}


def _transposed(order: tuple[int, ...]) -> Callable[[Weights], Weights]:
    return lambda weights: [weights[0].transpose(order), *weights[1:]]


def _conv1d(filters: object) -> Callable[[Weights], Weights]:
    """[length, 1, channels, filters], or before 1.2 [filters, channels, length, 1]."""

    def apply(weights: Weights) -> Weights:
        kernel = weights[0]
        if kernel.shape[1] != 1 or kernel.shape[3] != filters:
            kernel = kernel.transpose(2, 3, 1, 0)
        return [kernel[:, 0], *weights[1:]]

    return apply


def _gates_joined(order: tuple[int, ...]) -> Callable[[Weights], Weights]:
    def apply(weights: Weights) -> Weights:
        if len(weights) != 3 * len(order):
            return weights
        return [
            np.concatenate([weights[3 * gate + part] for gate in order], axis=-1)
            for part in range(3)
        ]

    return apply


def _turned_around(weights: Weights) -> Weights:
    kernel = weights[0]
    spatial = tuple(range(kernel.ndim - 2))
    return [np.flip(kernel, spatial), *weights[1:]]


def turn_weights(path: Path, turns: list[Turn]) -> None:
    """Rewrites the weights of the `turns`' layers in an HDF5 file of our own making.

    Raises ValueError or KeyError where a layer's weights are not what its class has.
    """
    if not turns:
        return
    import h5py

    with h5py.File(path, "r+") as file:
        weights = file["model_weights"]
        for turn in turns:
            group = weights[turn.layer]
            names = list(group.attrs["weight_names"])
            if not names:
                continue
            changed = turn.apply([group[name][()] for name in names])
            for name in names:
                del group[name]
            for name, values in zip(names, changed, strict=False):
                group[name] = np.ascontiguousarray(values)
            group.attrs["weight_names"] = names[: len(changed)]


def add_bias_by_channel(model: Any) -> bool:
    """Mends channels-first convolutions as wide as they have filters; whether there were any.

    Keras 3's `ops.add` takes whatever is as long as the last axis for a bias of that axis, and so
    adds theirs along the width. What it trained that way itself is right that way.
    """
    found = False
    for layer in getattr(model, "layers", ()):
        found |= add_bias_by_channel(layer)
        if (
            getattr(layer, "data_format", None) == "channels_first"
            and getattr(layer, "use_bias", False)
            and getattr(layer, "bias", None) is not None
            and layer.bias.shape[0] > 1
            and any(
                tensor.shape[-1] in (None, layer.bias.shape[0])
                for node in layer._inbound_nodes
                for tensor in node.output_tensors
            )
        ):
            layer.activation = _after_bias(layer, layer.activation)
            layer.use_bias = False
            found = True
    return found


def _after_bias(layer: Any, activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def apply(x: Tensor) -> Tensor:
        bias = tf.cast(layer.bias, x.dtype)
        return activation(tf.add(x, tf.reshape(bias, (-1, *[1] * (len(x.shape) - 2)))))

    return apply
