"""TensorFlow functions that tf.keras saved as layers, where they only compute with tensors.

`x / 127.5` or `preprocess_input(x)` in a functional model became a `TFOpLambda` that names the
function. Keras 3 has no such layer, and the name may be that of any function, `io.write_file`
too. The harmless ones below are rebuilt; every other stays refused as code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from advcli.lazy import Tensor, tf
from advcli.models.rules import Config, layers_of, settings_of

__all__ = ["LAYER", "is_harmless", "layer_class", "rebuilt"]

LAYER = "TensorFunction"
_SLICE = "__operators__.getitem"
# The name of the first argument, which is the tensor
_FIRST: Mapping[str, str] = {
    **dict.fromkeys(
        ("math.truediv", "math.divide", "math.subtract", "math.add", "math.multiply"), "x"
    ),
    **dict.fromkeys(("math.maximum", "math.minimum", "math.square", "math.sqrt"), "x"),
    **dict.fromkeys(("math.abs", "math.negative", "__operators__.add", "cast"), "x"),
    **dict.fromkeys(("math.reduce_mean", "math.reduce_max"), "input_tensor"),
    "nn.bias_add": "value",
    "image.resize": "images",
    "image.rgb_to_grayscale": "images",
    "clip_by_value": "t",
    "concat": "values",
    _SLICE: "tensor",
}
# Those that Keras has as activations, so that a softmax at the end is seen to be one
_ACTIVATIONS = {
    "nn.softmax": "softmax",
    "nn.relu": "relu",
    "nn.relu6": "relu6",
    "nn.sigmoid": "sigmoid",
    "math.sigmoid": "sigmoid",
    "nn.tanh": "tanh",
    "math.tanh": "tanh",
    "nn.swish": "silu",
    "nn.silu": "silu",
    "nn.gelu": "gelu",
}
_USUAL = {"axis": -1, "approximate": False}  # what these do when they are not told
_SAVED = ("TFOpLambda", "SlicingOpLambda")


def is_harmless(layer: Config) -> bool:
    """Whether a layer's configuration names a function of the lists above."""
    function = settings_of(layer).get("function")
    return layer.get("class_name") in _SAVED and isinstance(function, str) and (
        function in _FIRST or function in _ACTIVATIONS
    )  # fmt: skip


def rebuilt(model: Config) -> bool:
    """Replaces a functional model's own layers of that kind; whether there were any."""
    inner = layers_of(model)
    both = (name for layer in inner for name in (settings_of(layer).get("name"), layer.get("name")))
    names = {name for name in both if isinstance(name, str)}
    return sum(is_harmless(layer) and _rebuild(layer, names) for layer in inner) > 0


def _rebuild(layer: Config, names: set[str]) -> bool:
    nodes, function = layer.get("inbound_nodes"), settings_of(layer)["function"]
    if not isinstance(nodes, list) or len(nodes) != 1 or not isinstance(nodes[0], list):
        return False
    node, many = nodes[0], bool(nodes[0]) and isinstance(nodes[0][0], list)
    heads = node if many else [node]
    if not all(isinstance(head, list) and len(head) in (3, 4) for head in heads):
        return False
    kwargs = heads[0][3] if len(heads[0]) == 4 else {}
    if not isinstance(kwargs, dict):
        return False
    tensors: list[list[Any]] = []
    settings: Config = {"name": settings_of(layer).get("name")}
    if many or heads[0][0] != "_CONSTANT_VALUE":
        tensors += [[*head[:3], {}] for head in heads]
    else:
        settings["constant"] = heads[0][2]
    given = {key: value for key, value in kwargs.items() if value is not None}
    # a tensor among the arguments is named by its layer
    others = [key for key, value in given.items() if _is_tensor(value, names)]
    if not set(others) <= {"y"}:  # a size or a slice that the image decides has no bound
        return False
    tensors += [[*given.pop(key)[:3], {}] for key in others]
    if function in _ACTIVATIONS:
        if any(_USUAL.get(key) != value for key, value in given.items()) or len(tensors) != 1:
            return False
        layer["class_name"] = "Activation"
        settings["activation"] = _ACTIVATIONS[function]
    else:
        layer["class_name"] = LAYER
        settings |= {"function": function, "arguments": given, "others": others}
    layer["config"] = settings
    layer["inbound_nodes"] = [tensors]
    for key in ("module", "registered_name"):
        layer.pop(key, None)
    return True


def _is_tensor(value: object, names: set[str]) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and value[0] in names
    )


@functools.cache
def layer_class() -> Any:
    """The Keras layer that computes one of the functions."""
    import keras

    class TensorFunction(keras.layers.Layer):  # type: ignore[misc]
        """`function(constant or first input, further inputs as `others`, **arguments)`."""

        def __init__(
            self,
            function: str,
            arguments: Config,
            others: list[str],
            constant: Any = None,
            **options: Any,
        ) -> None:
            super().__init__(**options)
            if function == "concat" and arguments.get("axis") == 0:
                raise ValueError(f"{self.name} puts images behind each other")
            self._run = _function(function, arguments)
            self._first = _FIRST[function]
            self._arguments = {} if function == _SLICE else arguments
            self._others, self._constant = others, constant

        def call(self, inputs: Any) -> Tensor:
            tensors = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
            rest = len(tensors) - len(self._others)
            first: Any = tensors[:rest] if self._first == "values" else (*tensors[:rest], None)[0]
            first = self._constant if first is None else first
            named = dict(zip(self._others, tensors[rest:], strict=True))
            return self._run(**{self._first: first}, **named, **self._arguments)

    return TensorFunction


def _function(name: str, arguments: Config) -> Callable[..., Tensor]:
    if name == _SLICE:
        spec = tuple(map(_part, arguments["slice_spec"]))
        return lambda tensor: tensor[spec]
    if name == "__operators__.add":
        return lambda x, y: tf.add(x, y)
    found: Any = tf
    for part in name.split("."):
        found = getattr(found, part)
    function: Callable[..., Tensor] = found
    return function


def _part(part: Any) -> Any:
    """One part of a slice as saved: a number, the ends of a range, a new axis, an ellipsis.

    That is an object of class `__ellipsis__`, or what Keras has made of it already.
    """
    if isinstance(part, dict) and "start" in part:
        return slice(part["start"], part.get("stop"), part.get("step"))
    if part is ... or (isinstance(part, dict) and part.get("class_name") == "__ellipsis__"):
        return ...
    if part is None or isinstance(part, int):
        return part
    raise ValueError(f"no part of a slice: {part!r}")
