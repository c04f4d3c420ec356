"""What Keras 1 called otherwise: layers, their arguments, and merging by a string.

The names are those of Keras 1.2's layers; the mapping is that of Keras 2's `legacy/interfaces.py`.
"""

from __future__ import annotations

from typing import Any

from advcli.models.rules import Config, Rule, each, settings_of

_LAYERS = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
}
_ARGUMENTS = {
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "border_mode": "padding",
    "subsample": "strides",
    "subsample_length": "strides",
    "stride": "strides",
    "atrous_rate": "dilation_rate",
    "pool_length": "pool_size",
    "length": "size",
    "output_dim": "units",
    "p": "rate",
    "sigma": "stddev",
    "bias": "use_bias",
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "beta_init": "beta_initializer",
    "gamma_init": "gamma_initializer",
    "depthwise_init": "depthwise_initializer",
    "pointwise_init": "pointwise_initializer",
    "inner_activation": "recurrent_activation",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "U_constraint": "recurrent_constraint",
    "b_constraint": "bias_constraint",
}
# The first three are stated by batch_input_shape as well; the others say nothing at inference.
_DROPPED = (
    *("input_dim", "input_length", "input_shape"),
    *("consume_less", "forget_bias_init", "output_shape", "weights"),
)
_SIZES = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
_ORDERINGS = {"tf": "channels_last", "th": "channels_first"}
_MERGERS = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum"}
_SIDES = (("top_pad", "bottom_pad"), ("left_pad", "right_pad"))


def _layer_name(layer: Config) -> bool:
    name = layer.get("class_name")
    if not isinstance(name, str) or name not in _LAYERS:
        return False
    layer["class_name"] = _LAYERS[name]
    return True


def _arguments(layer: Config) -> bool:
    if layer.get("class_name") in ("Merge", "Embedding", "InputLayer", "Reshape"):
        return False
    settings = settings_of(layer)
    changed = [key for key in _DROPPED if key in settings]
    for key in changed:
        del settings[key]
    if layer.get("class_name") == "PReLU" and "init" in settings:
        settings["alpha_initializer"] = settings.pop("init")
        changed.append("init")
    for old, new in _ARGUMENTS.items():
        if old in settings and new not in settings:
            settings[new] = settings.pop(old)
            changed.append(old)
    for names in _SIZES:
        if all(name in settings for name in names):
            settings["kernel_size"] = [settings.pop(name) for name in names]
            changed += names
    return bool(changed)


def _ordering(layer: Config) -> bool:
    settings = settings_of(layer)
    ordering = settings.get("dim_ordering")
    if not isinstance(ordering, str) or ordering not in _ORDERINGS:
        return False
    del settings["dim_ordering"]
    settings["data_format"] = _ORDERINGS[ordering]
    return True


def _input_dtype(layer: Config) -> bool:
    settings = settings_of(layer)
    if "input_dtype" not in settings:
        return False
    dtype = settings.pop("input_dtype")
    if "batch_input_shape" in settings:
        settings["dtype"] = dtype
    return True


def _penalties(layer: Config) -> bool:
    """Regularizers and constraints were saved with a name of their own; they only train."""
    settings, changed = settings_of(layer), False
    for key, value in settings.items():
        trains = key.endswith(("_regularizer", "_constraint"))
        if trains and isinstance(value, dict) and "class_name" not in value:
            settings[key] = None
            changed = True
    return changed


def _batchnorm_mode(layer: Config) -> bool:
    settings = settings_of(layer)
    if layer.get("class_name") != "BatchNormalization" or settings.get("mode") != 0:
        return False
    del settings["mode"]
    return True


def _padding(layer: Config) -> bool:
    settings = settings_of(layer)
    pads: Any = settings.get("padding")
    if layer.get("class_name") != "ZeroPadding2D" or not isinstance(pads, (dict, list)):
        return False
    if isinstance(pads, dict):
        settings["padding"] = [[pads.get(side, 0) for side in pair] for pair in _SIDES]
    elif len(pads) == 4:
        settings["padding"] = [pads[:2], pads[2:]]
    else:
        return False
    return True


def _merge(layer: Config) -> bool:
    settings = settings_of(layer)
    mode = settings.get("mode")
    if layer.get("class_name") != "Merge" or not isinstance(mode, str):
        return False
    named = {"name": settings.get("name")}
    if mode in _MERGERS:
        layer["class_name"], layer["config"] = _MERGERS[mode], named
    elif mode == "concat":
        layer["class_name"] = "Concatenate"
        layer["config"] = {**named, "axis": settings.get("concat_axis", -1)}
    else:
        return False
    return True


KERAS1_RULES: tuple[Rule, ...] = tuple(
    Rule(name, prevents, each(change), before=2)
    for name, prevents, change in (
        ("keras1-layer-name", "Could not locate class 'AtrousConvolution2D'", _layer_name),
        ("keras1-merge", "Could not locate class 'Merge'", _merge),
        ("keras1-padding", "a ZeroPadding2D's sides given by name or as a list of four", _padding),
        ("keras1-arguments", "Conv2D.__init__() missing 'filters' and 'kernel_size'", _arguments),
        ("keras1-dim-ordering", "Unrecognized keyword arguments: {'dim_ordering'}", _ordering),
        ("keras1-input-dtype", "Unrecognized keyword arguments: {'input_dtype'}", _input_dtype),
        ("keras1-penalties", "Could not interpret regularizer identifier", _penalties),
        ("keras1-batchnorm-mode", "Unrecognized keyword arguments: {'mode'}", _batchnorm_mode),
    )
)
