"""Old configurations rewritten so that Keras 3 builds them: a table of small rules.

Each rule knows one difference, changes the configuration in place of a copy, and says whether it
changed anything. Rules see every layer of every nested model; a rule that matches nothing is free.
"""

from __future__ import annotations

import copy
from typing import Any

from advcli.models.keras1 import KERAS1_RULES
from advcli.models.rules import Config, Rule, each, every_layer, layers_of, settings_of
from advcli.models.tensor_functions import rebuilt


def normalise(config: Config, keras_version: str | None = None) -> tuple[Config, tuple[str, ...]]:
    """Returns the configuration as Keras 3 wants it, and the names of the rules that it needed.

    `keras_version`: of the Keras that saved it; None: the file does not say, as before 1.1.
    """
    config, major = copy.deepcopy(config), major_version(keras_version)
    return config, tuple(
        rule.name for rule in RULES if not 0 < rule.before <= major and rule.apply(config)
    )


def major_version(keras_version: str | None) -> int:
    """1, 2 or 3."""
    digits = (keras_version or "1").split(".")[0]
    return int(digits) if digits.isdecimal() and len(digits) < 4 else 1


def _sequential_list(layer: Config) -> bool:
    if layer.get("class_name") != "Sequential" or not isinstance(layer.get("config"), list):
        return False
    layer["config"] = {"name": layer.get("name", "sequential"), "layers": layer["config"]}
    return True


_GROUPLESS = {"DepthwiseConv2D", "DepthwiseConv1D", "Conv2DTranspose", "Conv1DTranspose"}
_GROUPLESS |= {"Conv3DTranspose", "SeparableConv2D", "SeparableConv1D"}


def _groups(layer: Config) -> bool:
    settings = settings_of(layer)
    if layer.get("class_name") not in _GROUPLESS or settings.get("groups") != 1:
        return False
    del settings["groups"]
    return True


def _single_ends(layer: Config) -> bool:
    settings, changed = settings_of(layer), False
    for end in ("input_layers", "output_layers"):
        value = settings.get(end)
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
            settings[end] = value[0]
            changed = True
    return changed


def _initializer_dtype(layer: Config) -> bool:
    changed = False
    for key, value in settings_of(layer).items():
        if key.endswith("_initializer") and isinstance(value, dict):
            inner = value.get("config")
            if isinstance(inner, dict) and "dtype" in inner:
                del inner["dtype"]
                changed = True
    return changed


def _shape_keys(layer: Config) -> list[Any] | None:
    """The input shape, batch axis included, that a layer's configuration states."""
    settings = settings_of(layer)
    for key in ("batch_input_shape", "batch_shape"):
        shape = settings.get(key)
        if isinstance(shape, list):
            return shape
    return None


def _stated_input(layer: Config) -> tuple[list[Any], object] | None:
    """Shape and dtype of the first input that a layer, or the first of its layers, states."""
    shape = _shape_keys(layer)
    if shape is not None:
        return shape, settings_of(layer).get("dtype", "float32")
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
    name = f"{settings_of(first).get('name', 'first')}_input"
    settings = {"batch_shape": shape, "dtype": dtype if isinstance(dtype, str) else "float32"}
    entry = {"class_name": "InputLayer", "config": {"name": name, **settings}}
    settings_of(layer)["layers"].insert(0, entry)
    return True


def _inner_input_shape(layer: Config) -> bool:
    settings = settings_of(layer)
    if layer.get("class_name") == "InputLayer" or layers_of(layer):
        return False
    return settings.pop("batch_input_shape", None) is not None


def _random_size(layer: Config) -> bool:
    if layer.get("class_name") not in ("RandomHeight", "RandomWidth"):
        return False
    # Identity at inference; replaced rather than removed, so that no connection has to be mended.
    layer["class_name"] = "Activation"
    layer["config"] = {"name": settings_of(layer).get("name"), "activation": "linear"}
    return True


def _fixed_dropout(layer: Config) -> bool:
    if layer.get("class_name") != "FixedDropout":
        return False
    # The package `efficientnet` gave the noise another shape; there is none at inference.
    layer["class_name"] = "Dropout"
    settings = settings_of(layer)
    layer["config"] = {"name": settings.get("name"), "rate": settings.get("rate", 0.0)}
    return True


def _inner_training(config: Config) -> bool:
    """Keras would compile a model within a model, whatever it is told about the outer one."""
    found = False
    pending: list[Any] = [value for key, value in config.items() if key != "compile_config"]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            found |= item.pop("compile_config", None) is not None
            pending.extend(item.values())
    return found


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
    axis = settings_of(layer).get("axis")
    if layer.get("class_name") != "BatchNormalization" or not isinstance(axis, list):
        return False
    if len(axis) != 1:
        return False
    layer["config"]["axis"] = axis[0]
    return True


def _policy(layer: Config) -> bool:
    settings = settings_of(layer)
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
    if any(settings_of(layer).get("stateful") for layer in every_layer(config)):
        return False
    return each(_fixed_batch)(config)


def _byte_input(layer: Config) -> bool:
    settings = settings_of(layer)
    shape = _shape_keys(layer)
    if layer.get("class_name") != "InputLayer" or shape is None or len(shape) < 4:
        return False
    if settings.get("dtype") not in ("uint8", "int32", "int64"):
        return False
    settings["dtype"] = "float32"
    return True


def _hard_sigmoid(layer: Config) -> bool:
    settings = settings_of(layer)
    keys = [
        key for key in ("activation", "recurrent_activation") if settings.get(key) == "hard_sigmoid"
    ]
    for key in keys:
        settings[key] = "keras2_hard_sigmoid"
    return bool(keys)


def _thresholded(layer: Config) -> bool:
    if layer.get("class_name") != "ThresholdedReLU":
        return False
    settings = settings_of(layer)
    layer["class_name"] = "ReLU"
    layer["config"] = {"name": settings.get("name"), "threshold": settings.get("theta", 1.0)}
    return True


def _spatial_dropout(layer: Config) -> bool:
    if layer.get("class_name") not in ("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"):
        return False
    settings = settings_of(layer)
    found = [key for key in ("trainable", "noise_shape") if key in settings]
    for key in found:
        del settings[key]
    return bool(found)


def _separable(layer: Config) -> bool:
    if layer.get("class_name") not in ("SeparableConv1D", "SeparableConv2D", "DepthwiseConv2D"):
        return False
    keys = [f"kernel_{part}" for part in ("initializer", "regularizer", "constraint")]
    found = [key for key in keys if key in settings_of(layer)]
    for key in found:
        del settings_of(layer)[key]
    return bool(found)


def _time_major(layer: Config) -> bool:
    settings = settings_of(layer)
    if settings.get("time_major") is not False:
        return False
    del settings["time_major"]
    return True


def _reset_after(layer: Config) -> bool:
    settings = settings_of(layer)
    if layer.get("class_name") != "GRU" or "reset_after" in settings:
        return False
    settings["reset_after"] = False
    return True


def _wrapped(layer: Config) -> bool:
    changed = False
    for key in ("layer", "backward_layer"):
        inner = settings_of(layer).get(key)
        if isinstance(inner, dict) and "class_name" in inner and "module" not in inner:
            inner["module"] = "keras.layers"
            changed = True
    return changed


_REBUILDS = 400
"""Layers that Keras may build again, one by one, before the rule steps in: 20 by 20, say."""


def _long_sequential(layer: Config) -> bool:
    inner, settings = layers_of(layer), settings_of(layer)
    if layer.get("class_name") != "Sequential" or len(inner) < 2:
        return False
    if len(inner) * sum(1 for _ in every_layer(layer)) <= _REBUILDS:
        return False
    first = inner[0]
    shape, dtype = _shape_keys(first), settings_of(first).get("dtype", "float32")
    if first.get("class_name") != "InputLayer" or dtype != "float32":
        return False
    if shape is None or None in shape[1:]:
        return False
    # Keras builds a Sequential anew after each layer, unless neither an InputLayer nor a model
    # that comes first tells it the shape of the input.
    if layers_of(inner[1]):
        first["class_name"], first["config"] = "Identity", {"name": settings_of(first).get("name")}
    else:
        settings["layers"].remove(first)
    settings["build_input_shape"] = shape
    return True


RULES: tuple[Rule, ...] = (
    Rule(
        "sequential-list",
        "TypeError: pop expected at most 1 argument, got 2",
        each(_sequential_list),
    ),
    *KERAS1_RULES,
    Rule(
        "batchnorm-name",
        "Unknown layer: 'BatchNormalizationV1'",
        each(_batchnorm_name),
    ),
    Rule(
        "depthwise-groups",
        "Unrecognized keyword arguments passed to DepthwiseConv2D: {'groups': 1}",
        each(_groups),
    ),
    Rule(
        "single-input-output",
        "a nested model 'received 2 input tensors'",
        each(_single_ends),
    ),
    Rule(
        "initializer-dtype",
        "GlorotUniform.__init__() got an unexpected keyword argument 'dtype'",
        each(_initializer_dtype),
    ),
    Rule(
        "missing-input-layer",
        "Kernel shape must have the same length as input",
        each(_missing_input),
    ),
    Rule(
        "inner-input-shape",
        "warnings about `input_shape`, and input shapes stated inside a network",
        each(_inner_input_shape),
    ),
    Rule(
        "random-height-width",
        "Unknown layer: 'RandomHeight'",
        each(_random_size),
    ),
    Rule("inner-training", "code of the training of a model within a model", _inner_training),
    Rule("fixed-dropout", "Unknown layer: 'FixedDropout'", each(_fixed_dropout)),
    Rule(
        "batchnorm-axis-list",
        "a BatchNormalization axis given as [3]",
        each(_axis_list),
    ),
    Rule("dtype-policy", "Unknown dtype policy: 'Policy'", each(_policy)),
    Rule(
        "fixed-batch-size",
        "a batch size in the file that no other batch fits",
        _fixed_batches,
    ),
    Rule(
        "byte-input",
        "an integer input, whose gradient would be zero everywhere",
        each(_byte_input),
    ),
    Rule(
        "hard-sigmoid",
        "a slope of 1/6 where the model was trained with 0.2",
        each(_hard_sigmoid),
        before=3,
    ),
    Rule("thresholded-relu", "Could not locate class 'ThresholdedReLU'", each(_thresholded)),
    Rule(
        "spatial-dropout-trainable",
        "SpatialDropout2D.__init__() got an unexpected keyword argument 'trainable'",
        each(_spatial_dropout),
    ),
    Rule(
        "separable-kernel",
        "Unrecognized keyword arguments passed to SeparableConv2D: {'kernel_initializer'}",
        each(_separable),
    ),
    Rule(
        "time-major",
        "Unrecognized keyword arguments passed to LSTM: {'time_major': False}",
        each(_time_major),
    ),
    Rule(
        "gru-reset-after",
        "a GRU whose bias has the shape of another variant",
        each(_reset_after),
        before=3,
    ),
    Rule("wrapped-layer", "Could not locate class 'SimpleRNN'", each(_wrapped)),
    Rule("tensor-functions", "Unknown layer: 'TFOpLambda'", each(rebuilt)),
    Rule("long-sequential", "seconds or minutes of building", each(_long_sequential)),
)
