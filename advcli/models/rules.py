"""What rules over a configuration share: the rule itself, and the layers that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """One normalisation: its name, the error it prevents, and the change (true if it changed).

    `before`: only what an earlier major version of Keras saved needs it; 0: whatever the version.
    """

    name: str
    prevents: str
    apply: Callable[[Config], bool]
    before: int = 0


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


def settings_of(layer: Config) -> Config:
    inner = layer.get("config")
    return inner if isinstance(inner, dict) else {}


def each(change: Callable[[Config], bool]) -> Callable[[Config], bool]:
    """A rule over single layers, from a change to one layer."""

    def apply(config: Config) -> bool:
        # A sum, because `any` would stop at the first layer that changed.
        return sum(change(layer) for layer in list(every_layer(config))) > 0

    return apply
