"""What image a model takes: its height, width and channels, and how it wants them laid out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from advcli.errors import ModelError
from advcli.lazy import Tensor, tf
from advcli.models.rules import Config, layers_of, settings_of

Layout = Literal["channels-last", "channels-first", "no channels", "flat"]

_HINT = "advcli audits image classifiers: one image in, one score per class out"
_SMALLEST_SIDE = 8
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class ImageInput:
    """Pixel-space shape (H, W, C) and the layout that the model's own input has."""

    shape: tuple[int, int, int]
    layout: Layout

    def arrange(self, x: Tensor) -> Tensor:
        """[B, H, W, C] as the model's input layer wants it."""
        if self.layout == "channels-last":
            return x
        if self.layout == "channels-first":
            return tf.transpose(x, (0, 3, 1, 2))
        height, width, channels = self.shape
        if self.layout == "no channels":
            return tf.reshape(x, (-1, height, width))
        return tf.reshape(x, (-1, height * width * channels))


def with_input_size(config: Config, size: tuple[int, int]) -> bool:
    """Puts height and width where a model's own input layers leave them open; whether any did."""
    changed = False
    for layer in layers_of(config):
        shape = settings_of(layer).get("batch_shape", settings_of(layer).get("batch_input_shape"))
        if layer.get("class_name") != "InputLayer" or not isinstance(shape, list):
            continue
        if len(shape) != 4 or None not in shape[1:]:
            continue
        first = 1 if shape[3] in _CHANNELS else 2  # of the two axes that are height and width
        for axis, length in zip((first, first + 1), size, strict=True):
            if shape[axis] is None:
                shape[axis] = length
                changed = True
    return changed


def image_input(where: str, model: Any) -> ImageInput:
    """Reads the input shape; raises `ModelError` where it is no image's."""
    inputs = model.inputs
    if len(inputs) != 1:
        raise ModelError(f"{where}: takes {len(inputs)} inputs, not one image", _HINT)
    shape = tuple(inputs[0].shape)[1:]
    if not inputs[0].dtype.startswith(("float", "bfloat")) or _embeds(model):
        raise ModelError(f"{where}: takes word or category numbers, so it is no image model", _HINT)
    described = "×".join("?" if n is None else str(n) for n in shape)
    if len(shape) == 3:
        return _rank_three(where, shape, described)
    if None in shape:
        raise ModelError(f"{where}: takes inputs of unknown size ({described})", _HINT)
    if len(shape) == 2 and shape[0] == shape[1] and shape[0] >= _SMALLEST_SIDE:
        return ImageInput((shape[0], shape[1], 1), "no channels")
    if len(shape) == 1:
        return _flat(where, shape[0])
    raise ModelError(f"{where}: takes inputs of shape {described}, which is no image", _HINT)


def _rank_three(where: str, shape: tuple[Any, ...], described: str) -> ImageInput:
    channels_first = shape[2] not in _CHANNELS and shape[0] in _CHANNELS
    layout: Layout = "channels-first" if channels_first else "channels-last"
    height, width, channels = (shape[1], shape[2], shape[0]) if channels_first else shape
    if height is None or width is None:
        raise ModelError(
            f"{where}: takes images of any size ({described}), so the size to audit it at "
            "is unknown",
            "say the size it was trained on: --input-size 224x224 (height x width)",
        )
    if channels not in _CHANNELS:
        raise ModelError(
            f"{where}: takes inputs of shape {described}: {channels or 'any number of'} channels, "
            "where an image has 1, 3 or 4",
            _HINT,
        )
    return ImageInput((height, width, channels), layout)


def _flat(where: str, length: int) -> ImageInput:
    for channels in (1, 3):
        side = math.isqrt(length // channels)
        if side >= _SMALLEST_SIDE and side * side * channels == length:
            return ImageInput((side, side, channels), "flat")
    raise ModelError(
        f"{where}: takes a list of {length} numbers, which is no square image "
        "(a model for tables?)",
        _HINT,
    )


def _embeds(model: Any) -> bool:
    """Whether the first layer that computes anything looks its input up as word numbers."""
    for layer in model.layers:
        if type(layer).__name__ == "InputLayer":
            continue
        if hasattr(layer, "layers"):
            return _embeds(layer)
        return type(layer).__name__ == "Embedding"
    return False
