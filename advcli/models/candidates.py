"""The preprocessings that `auto` weighs, simplest and most usual first."""

from __future__ import annotations

from typing import Any

from advcli.models.preprocessing import Preprocessing, preset
from advcli.models.rules import Config, layers_of
from advcli.models.tensor_functions import LAYER

_CIFAR = ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))
_CAFFE_RGB = (123.68, 116.779, 103.939)
_MNIST = ((0.1307,), (0.3081,))
_SCALING = ("math.truediv", "math.divide", "math.subtract", "nn.bias_add")
_STILL_RAW = ("cast", "image.resize", "__operators__.getitem")
_UNCHANGING = frozenset(
    (
        "InputLayer",
        "Resizing",
        "CenterCrop",
        "RandomFlip",
        "RandomRotation",
        "RandomZoom",
        "RandomTranslation",
        "RandomContrast",
        "RandomBrightness",
        "RandomCrop",
        "Activation",
        "Identity",
        "Reshape",
        "Permute",
        "Flatten",
        "ZeroPadding2D",
        "Cropping2D",
        "Dropout",
        "GaussianNoise",
        "Cast",
    )
)


def candidates_for(channel_count: int) -> tuple[Preprocessing, ...]:
    """In the order of preference among those that the evidence cannot tell apart."""
    unit, raw, symmetric = (preset(n, channel_count) for n in ("unit", "raw", "symmetric"))
    centred = Preprocessing("centred", mean=(0.5,))
    if channel_count == 1:
        return (
            unit,
            raw,
            symmetric,
            Preprocessing("mnist", mean=_MNIST[0], std=_MNIST[1]),
            preset("torch", 1),
            Preprocessing("inverted", scale=-1, mean=(-1.0,)),
            centred,
        )
    if channel_count != 3:
        return unit, raw, symmetric
    return (
        unit,
        raw,
        symmetric,
        preset("caffe", 3),
        preset("torch", 3),
        Preprocessing("unit-bgr", channels="bgr"),
        Preprocessing("raw-bgr", scale=255, channels="bgr"),
        Preprocessing("symmetric-bgr", scale=2, mean=(1.0,), channels="bgr"),
        Preprocessing("caffe-rgb", scale=255, mean=_CAFFE_RGB),
        Preprocessing("cifar", mean=_CIFAR[0], std=_CIFAR[1]),
        centred,
    )


def scaled_inside(config: Config) -> tuple[str, str] | None:
    """`("raw", why)` where the model's first layers bring 0…255 to size by themselves."""
    for layer in _in_order(config):
        name = layer.get("class_name")
        settings = layer.get("config")
        if not isinstance(settings, dict):
            return None
        if name == "Rescaling":
            size = _largest(settings.get("scale"))
            if size is not None and size <= 0.05:
                return "raw", f"a Rescaling layer inside multiplies by {size:.4g}"
            return None
        if name == LAYER:
            size = _largest(settings.get("arguments"))
            if size is not None and size > 3 and settings.get("function") in _SCALING:
                return "raw", f"{settings['function']} inside by up to {size:.4g}"
            if settings.get("function") in _STILL_RAW:
                continue
            return None
        if name == "Normalization":
            mean = _largest(settings.get("mean"))
            if mean is not None and mean > 3:
                return "raw", f"a Normalization layer inside subtracts up to {mean:.4g}"
            return None
        if name not in _UNCHANGING:
            return None
    return None


def _in_order(config: Config) -> list[Config]:
    """The layers as data meets them, models opened; functional models are saved in that order."""
    flat: list[Config] = []
    for layer in layers_of(config):
        flat.extend(_in_order(layer) if layers_of(layer) else [layer])
    return flat


def _largest(value: Any) -> float | None:
    """The largest absolute value in a number or nested list of numbers."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return abs(float(value))
    if isinstance(value, dict) and "class_name" not in value and "value" not in value:
        return _largest(list(value.values()))
    if isinstance(value, dict):  # a NumPy array as Keras writes it
        inner = value.get("config")
        return _largest(inner.get("value") if isinstance(inner, dict) else value.get("value"))
    if isinstance(value, list) and value:
        sizes = [_largest(item) for item in value]
        return max((size for size in sizes if size is not None), default=None)
    return None
