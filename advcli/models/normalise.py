"""Old configurations rewritten so that Keras 3 builds them: a table of small rules.

Each rule knows one difference, changes the configuration in place of a copy, and says whether it
changed anything. Rules see every layer of every nested model; a rule that matches nothing is free.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """One normalisation: its name, the error it prevents, and the change (true if it changed)."""

    name: str
    prevents: str
    apply: Callable[[Config], bool]


def normalise(config: Config) -> tuple[Config, tuple[str, ...]]:
    """Returns the configuration as Keras 3 wants it, and the names of the rules that it needed."""
    config = copy.deepcopy(config)
    return config, tuple(rule.name for rule in RULES if rule.apply(config))


def layers_of(model: Config) -> list[Config]:
    """A model's direct layers; empty for a layer that is no model."""
    inner = model.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    if not isinstance(layers, list):
        return []
    return [layer for layer in layers if isinstance(layer, dict) and "class_name" in layer]


def every_layer(model: Config) -> Iterator[Config]:
    """Depth first, the model itself included, wrapped layers too."""
    yield model
    for layer in layers_of(model):
        yield from every_layer(layer)
    inner = model.get("config")
    wrapped = inner.get("layer") if isinstance(inner, dict) else None
    if isinstance(wrapped, dict) and "class_name" in wrapped:
        yield from every_layer(wrapped)


def _settings(layer: Config) -> Config:
    inner = layer.get("config")
    return inner if isinstance(inner, dict) else {}


def _each(change: Callable[[Config], bool]) -> Callable[[Config], bool]:
    """A rule over single layers, from a change to one layer."""

    def apply(config: Config) -> bool:
        # A sum, because `any` would stop at the first layer that changed.
        return sum(change(layer) for layer in list(every_layer(config))) > 0

    return apply


def _sequential_list(layer: Config) -> bool:
    if layer.get("class_name") != "Sequential" or not isinstance(layer.get("config"), list):
        return False
    layer["config"] = {"name": layer.get("name", "sequential"), "layers": layer["config"]}
    return True


_GROUPLESS = {"DepthwiseConv2D", "DepthwiseConv1D", "Conv2DTranspose", "Conv1DTranspose"}
_GROUPLESS |= {"Conv3DTranspose", "SeparableConv2D", "SeparableConv1D"}


def _groups(layer: Config) -> bool:
    settings = _settings(layer)
    if layer.get("class_name") not in _GROUPLESS or settings.get("groups") != 1:
        return False
    del settings["groups"]
    return True


def _single_ends(layer: Config) -> bool:
    settings, changed = _settings(layer), False
    for end in ("input_layers", "output_layers"):
        value = settings.get(end)
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
            settings[end] = value[0]
            changed = True
    return changed


def _initializer_dtype(layer: Config) -> bool:
    changed = False
    for key, value in _settings(layer).items():
        if key.endswith("_initializer") and isinstance(value, dict):
            inner = value.get("config")
            if isinstance(inner, dict) and "dtype" in inner:
                del inner["dtype"]
                changed = True
    return changed


def _shape_keys(layer: Config) -> list[Any] | None:
    """The input shape, batch axis included, that a layer's configuration states."""
    settings = _settings(layer)
    for key in ("batch_input_shape", "batch_shape"):
        shape = settings.get(key)
        if isinstance(shape, list):
            return shape
    return None


def _stated_input(layer: Config) -> tuple[list[Any], object] | None:
    """Shape and dtype of the first input that a layer, or the first of its layers, states."""
    shape = _shape_keys(layer)
    if shape is not None:
        return shape, _settings(layer).get("dtype", "float32")
    inner = layers_of(layer)
    return _stated_input(inner[0]) if inner else None


def _missing_input(layer: Config) -> bool:
    inner = layers_of(layer)
    if layer.get("class_name") != "Sequential" or not inner:
        return False
    first = inner[0]
    stated = _stated_input(first)
    if first.get("class_name") == "InputLayer" or stated is None:
        return False
    shape, dtype = stated
    name = f"{_settings(first).get('name', 'first')}_input"
    settings = {"batch_shape": shape, "dtype": dtype if isinstance(dtype, str) else "float32"}
    entry = {"class_name": "InputLayer", "config": {"name": name, **settings}}
    _settings(layer)["layers"].insert(0, entry)
    return True


def _inner_input_shape(layer: Config) -> bool:
    settings = _settings(layer)
    if layer.get("class_name") == "InputLayer" or layers_of(layer):
        return False
    return settings.pop("batch_input_shape", None) is not None


def _random_size(layer: Config) -> bool:
    if layer.get("class_name") not in ("RandomHeight", "RandomWidth"):
        return False
    # Identity at inference; replaced rather than removed, so that no connection has to be mended.
    layer["class_name"] = "Activation"
    layer["config"] = {"name": _settings(layer).get("name"), "activation": "linear"}
    return True


def _batchnorm_name(layer: Config) -> bool:
    if layer.get("class_name") not in (
        "BatchNormalizationV1",
        "BatchNormalizationV2",
        "SyncBatchNormalization",
    ):
        return False
    layer["class_name"] = "BatchNormalization"
    return True


def _axis_list(layer: Config) -> bool:
    axis = _settings(layer).get("axis")
    if layer.get("class_name") != "BatchNormalization" or not isinstance(axis, list):
        return False
    if len(axis) != 1:
        return False
    layer["config"]["axis"] = axis[0]
    return True


def _policy(layer: Config) -> bool:
    settings = _settings(layer)
    dtype = settings.get("dtype")
    if not isinstance(dtype, dict) or dtype.get("class_name") != "Policy":
        return False
    inner = dtype.get("config")
    settings["dtype"] = inner.get("name", "float32") if isinstance(inner, dict) else "float32"
    return True


def _fixed_batch(layer: Config) -> bool:
    shape = _shape_keys(layer)
    if not shape or shape[0] is None:
        return False
    shape[0] = None
    return True


def _fixed_batches(config: Config) -> bool:
    # A stateful network keeps one state for each row, so its batch size is part of it.
    if any(_settings(layer).get("stateful") for layer in every_layer(config)):
        return False
    return _each(_fixed_batch)(config)


def _byte_input(layer: Config) -> bool:
    settings = _settings(layer)
    shape = _shape_keys(layer)
    if layer.get("class_name") != "InputLayer" or shape is None or len(shape) < 4:
        return False
    if settings.get("dtype") not in ("uint8", "int32", "int64"):
        return False
    settings["dtype"] = "float32"
    return True


RULES: tuple[Rule, ...] = (
    Rule(
        "sequential-list",
        "TypeError: pop expected at most 1 argument, got 2",
        _each(_sequential_list),
    ),
    Rule(
        "batchnorm-name",
        "Unknown layer: 'BatchNormalizationV1'",
        _each(_batchnorm_name),
    ),
    Rule(
        "depthwise-groups",
        "Unrecognized keyword arguments passed to DepthwiseConv2D: {'groups': 1}",
        _each(_groups),
    ),
    Rule(
        "single-input-output",
        "a nested model 'received 2 input tensors'",
        _each(_single_ends),
    ),
    Rule(
        "initializer-dtype",
        "GlorotUniform.__init__() got an unexpected keyword argument 'dtype'",
        _each(_initializer_dtype),
    ),
    Rule(
        "missing-input-layer",
        "Kernel shape must have the same length as input",
        _each(_missing_input),
    ),
    Rule(
        "inner-input-shape",
        "warnings about `input_shape`, and input shapes stated inside a network",
        _each(_inner_input_shape),
    ),
    Rule(
        "random-height-width",
        "Unknown layer: 'RandomHeight'",
        _each(_random_size),
    ),
    Rule(
        "batchnorm-axis-list",
        "a BatchNormalization axis given as [3]",
        _each(_axis_list),
    ),
    Rule("dtype-policy", "Unknown dtype policy: 'Policy'", _each(_policy)),
    Rule(
        "fixed-batch-size",
        "a batch size in the file that no other batch fits",
        _fixed_batches,
    ),
    Rule(
        "byte-input",
        "an integer input, whose gradient would be zero everywhere",
        _each(_byte_input),
    ),
)
