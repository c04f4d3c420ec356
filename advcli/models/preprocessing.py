"""Preprocessing: the map from pixel space to what a model was trained on, inside the gradient.

y = (scale · x − mean) / std, per channel, after the channels were brought into the model's order;
x is in pixel space, [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from advcli.errors import UsageError
from advcli.lazy import Tensor, tf

Channels = Literal["rgb", "bgr"]

_HINT = (
    "use auto, unit, raw, symmetric, caffe, torch, or for instance "
    "scale=255,mean=103.9:116.8:123.7,std=1,channels=bgr"
)


@dataclass(frozen=True)
class Preprocessing:
    """One preprocessing. `mean` and `std` hold one value for all channels or one for each.

    `evidence` says why it was chosen; two that differ in name or evidence alone compute the same.
    """

    name: str
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: Channels = "rgb"
    evidence: str = ""

    @property
    def flag(self) -> str:
        """What to type after `--preprocess`."""
        preset = PRESETS.get(self.name)
        if preset is not None and preset.formula == self.formula:
            return self.name
        parts = [f"scale={_digits(self.scale)}"]
        if any(self.mean):
            parts.append("mean=" + ":".join(map(_digits, self.mean)))
        if any(value != 1 for value in self.std):
            parts.append("std=" + ":".join(map(_digits, self.std)))
        if self.channels == "bgr":
            parts.append("channels=bgr")
        return ",".join(parts)

    @property
    def formula(self) -> tuple[float, tuple[float, ...], tuple[float, ...], Channels]:
        """What it computes, without its name."""
        return self.scale, self.mean, self.std, self.channels

    def because(self, evidence: str) -> Preprocessing:
        """The same, with a reason."""
        return replace(self, evidence=evidence)

    def check(self, channel_count: int) -> None:
        """Raises `UsageError` where it does not fit images of so many channels."""
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channel_count):
                raise UsageError(
                    f"--preprocess {self.flag}: {key} has {len(values)} values, and the model "
                    f"takes images of {channel_count} channel(s)",
                    f"give one {key} for all, or {channel_count}",
                )
        if self.channels == "bgr" and channel_count != 3:
            raise UsageError(
                f"--preprocess {self.flag}: channels=bgr needs 3 channels, and the model "
                f"takes {channel_count}",
                "leave channels=bgr away",
            )

    def apply(self, x: Tensor) -> Tensor:
        """Float32 [..., C] in pixel space, differentiably, to what the model wants."""
        if self.channels == "bgr":
            x = tf.reverse(x, axis=[-1])
        if self.scale != 1:
            x = x * tf.constant(self.scale, tf.float32)
        if any(self.mean):
            x = x - tf.constant(self.mean, tf.float32)
        if any(value != 1 for value in self.std):
            x = x / tf.constant(self.std, tf.float32)
        return x

    def apply_exactly(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The same in float64, rounded to float32 once: what a careful user feeds to Keras.

        Values within 1e-4 of a 255th are taken to be it: float32(k/255)·255 is not always k.
        """
        levels = np.asarray(x, np.float64) * 255
        nearest = np.rint(levels)
        levels = np.where(np.abs(levels - nearest) < 1e-4, nearest, levels)
        if self.channels == "bgr":
            levels = levels[..., ::-1]
        values = (levels * (self.scale / 255) - np.asarray(self.mean)) / np.asarray(self.std)
        return np.ascontiguousarray(values, dtype=np.float32)


PRESETS: dict[str, Preprocessing] = {
    preset.name: preset
    for preset in (
        Preprocessing("unit"),
        Preprocessing("raw", scale=255),
        Preprocessing("symmetric", scale=2, mean=(1.0,)),
        Preprocessing("caffe", scale=255, mean=(103.939, 116.779, 123.68), channels="bgr"),
        Preprocessing("torch", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    )
}


def preset(name: str, channel_count: int) -> Preprocessing:
    """A preset for so many channels: for grey images the mean over the colours it was made for."""
    chosen = PRESETS[name]
    if channel_count == 3 or len(chosen.mean) == 1:
        return chosen
    mean = round(sum(chosen.mean) / len(chosen.mean), 3)
    std = round(sum(chosen.std) / len(chosen.std), 3)
    return replace(chosen, mean=(mean,), std=(std,), channels="rgb")


def parse(text: str, channel_count: int = 3) -> Preprocessing:
    """A preset's name or `scale=…,mean=…,std=…,channels=…`; raises `UsageError`.

    `auto` is not parsed here: it needs the model and images.
    """
    text = text.strip()
    if text in PRESETS:
        return preset(text, channel_count).because("--preprocess")
    if "=" not in text:
        raise UsageError(f"no preprocessing is called {text!r}", _HINT)
    values: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in ("scale", "mean", "std", "channels"):
            raise UsageError(f"--preprocess {text}: {part.strip()!r} is not understood", _HINT)
        if key in values:
            raise UsageError(f"--preprocess {text}: {key} is given twice", "give it once")
        values[key] = value
    channels = values.get("channels", "rgb")
    if channels not in ("rgb", "bgr"):
        raise UsageError(f"--preprocess {text}: channels is {channels!r}", "use rgb or bgr")
    scale = _numbers(text, "scale", values.get("scale", "1"))
    std = _numbers(text, "std", values.get("std", "1"))
    if len(scale) != 1 or scale[0] == 0 or 0 in std:
        raise UsageError(f"--preprocess {text}: scale and std must not be 0", _HINT)
    chosen = Preprocessing(
        "custom",
        scale[0],
        _numbers(text, "mean", values.get("mean", "0")),
        std,
        "bgr" if channels == "bgr" else "rgb",
        "--preprocess",
    )
    chosen.check(channel_count)
    return chosen


def _digits(value: float) -> str:
    """Every digit: what is printed is pasted, and has to mean the same."""
    return str(value).removesuffix(".0")


def _numbers(text: str, key: str, value: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in value.split(":"))
    except ValueError:
        numbers = ()
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise UsageError(
            f"--preprocess {text}: {key} is {value!r}",
            f"{key} takes a number"
            + ("" if key == "scale" else ", or one for each channel: 1:2:3"),
        )
    return numbers
