"""Frost on a pane, drawn: the published corruption lays one of five photographs over the image.

Crystals are strokes that grow from seeds, or ferns with branches; the drawing is then given the
colour and the strength of detail, octave by octave, that were measured on those photographs
(github.com/hendrycks/robustness, frost1.png to frost5.jpg, 224×224 crops).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from advcli.threats.corruptions.signal import Array, bilinear, gaussian, tint

__all__ = ["frost"]

_SHRUNK = 5  # CIFAR-C takes every fifth pixel of the photograph
_MARGIN = 24
_OCTAVES = np.array([1.5, 3, 6, 12, 24, 48, 88])  # cycles per 224 pixels


class Pane(NamedTuple):
    """A kind of frost. `mean`, `deviation`: levels of red, green, blue; `power`: log2 of the mean
    power of a 224×224 crop (Hann window) at _OCTAVES; `wander`: deviation of a crop's own mean.
    `shards` and `ferns`: how many grow per 100×100 pixels, and how long in pixels; `folds`: how
    much the ice itself is wrinkled, beside what is drawn on it.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    power: tuple[float, ...]
    wander: float
    shards: tuple[float, float]
    ferns: tuple[float, float]
    folds: float


_TEAL = Pane(
    (77.7, 149.1, 165.7),
    (26.9, 16.5, 15.3),
    (31.3, 28.2, 25.2, 22.4, 21.1, 20.4, 18.7),
    9.4,
    shards=(0, 0),
    ferns=(0, 0),
    folds=1.0,
)
_STRAW = Pane(
    (200.8, 205.4, 214.5),
    (21.4, 22.1, 22.6),
    (30.9, 27.9, 26.2, 25.1, 23.2, 21.4, 19.2),
    6.5,
    shards=(200, 34),
    ferns=(6, 26),
    folds=0.3,
)
_GLITTER = Pane(
    (137.6, 152.8, 165.2),
    (28.5, 28.5, 29.9),
    (30.9, 27.6, 26.6, 25.6, 24.2, 22.9, 20.9),
    6.8,
    shards=(420, 9),
    ferns=(60, 13),
    folds=0.4,
)
_FERNS = Pane(
    (112.4, 123.4, 134.8),
    (44.4, 43.3, 41.7),
    (31.6, 30.0, 28.7, 26.6, 24.7, 22.8, 21.2),
    13.0,
    shards=(40, 12),
    ferns=(110, 30),
    folds=0.25,
)
# the published code draws among the first five of its six files, two of which look alike
_PANES = (_TEAL, _GLITTER, _STRAW, _STRAW, _FERNS)


def frost(x: Array, mix: tuple[float, float], random: np.random.Generator) -> Array:
    """image share · x + frost share · pane."""
    image, ice = mix
    return np.float32(image) * x + np.float32(ice) * _pane(x.shape, 1, random)


def frost_small(x: Array, mix: tuple[float, float], random: np.random.Generator) -> Array:
    """The same, its crystals five times smaller."""
    image, ice = mix
    return np.float32(image) * x + np.float32(ice) * _pane(x.shape, _SHRUNK, random)


def _pane(shape: tuple[int, ...], shrunk: int, random: np.random.Generator) -> Array:
    """float32 [H, W, C] in [0, 1]: a pane of one kind."""
    kind = _PANES[random.integers(len(_PANES))]
    height, width = shape[0] * shrunk, shape[1] * shrunk
    field = _field(height + 2 * _MARGIN, width + 2 * _MARGIN, kind, random)
    field = field[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]
    field = (field - field.mean())[shrunk // 2 :: shrunk, shrunk // 2 :: shrunk, None]
    field += kind.wander / 255 * random.standard_normal()
    strength = 255 * tint(kind.deviation, shape[2]) / np.mean(kind.deviation)
    made: Array = np.clip(tint(kind.mean, shape[2]) + strength * field, 0, 1).astype(np.float32)
    return made


def _field(height: int, width: int, kind: Pane, random: np.random.Generator) -> Array:
    """Deviations: drawn crystals and wrinkled ice with the power of photographs."""
    layers = [(kind.folds, _folds(height, width, random))]
    if kind.shards[0] or kind.ferns[0]:
        layers.append((1.0, _crystals(height, width, kind, random)))
    total = np.zeros((height, width))
    for weight, layer in layers:
        total += weight * (layer - layer.mean()) / max(float(layer.std()), 1e-9)
    return _shaped(total, kind)


def _folds(height: int, width: int, random: np.random.Generator) -> Array:
    """Ridges where smooth noise crosses zero, drawn out in wandering directions."""
    rows, columns = np.indices((height, width), np.float64)
    bend = [gaussian(random.standard_normal((height, width)), 14) for _ in range(2)]
    noise = gaussian(random.standard_normal((height, width)), 3.5)[..., None]
    rows, columns = rows + 500 * bend[0], columns + 500 * bend[1]
    folded = bilinear(noise, rows, columns, "mirror-edge")[..., 0]
    made: Array = -np.abs(folded) / folded.std() + 0.1 * gaussian(
        random.standard_normal((height, width)), 0.6
    )
    return made


def _crystals(height: int, width: int, kind: Pane, random: np.random.Generator) -> Array:
    """Crystals over one another, light and dark; those of one seed grow away from it."""
    scale = 2  # drawn larger and averaged down: smooth rims
    canvas = Image.new("L", (width * scale, height * scale), 118)
    pen = ImageDraw.Draw(canvas)
    area = height * width / 10_000
    seeds = random.random((int(12 * area) + 3, 2)) * (width, height)
    plan = [(_shard, *kind.shards), (_fern, *kind.ferns)]
    growing = [(grow, size) for grow, many, size in plan for _ in range(int(many * area))]
    for place in random.permutation(len(growing)):
        grow, size = growing[place]
        centre = seeds[random.integers(len(seeds))]
        at = centre + random.standard_normal(2) * size * 0.5
        angle = math.atan2(at[1] - centre[1], at[0] - centre[0])
        angle += 0.5 * random.standard_normal()
        light = random.random() < 0.6
        shade = int(random.uniform(125, 250) if light else random.uniform(20, 125))
        grow(pen, at * scale, angle, size * scale * random.uniform(0.4, 1.4), shade, random)
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX), np.float64)


def _ray(angle: float, length: float) -> Array:
    return length * np.array([math.cos(angle), math.sin(angle)])


def _shard(
    pen: ImageDraw.ImageDraw,
    at: Array,
    angle: float,
    length: float,
    shade: int,
    random: np.random.Generator,
) -> None:
    """A splinter of ice: long, thin, with one bright edge."""
    tip = at + _ray(angle, length)
    across = _ray(angle + math.pi / 2, length * random.uniform(0.01, 0.07))
    near, far = tuple(at + across), tuple(at - across)
    pen.polygon([near, far, tuple(tip)], fill=shade)
    pen.line([near, tuple(tip)], fill=min(255, shade + 60), width=1)


def _fern(
    pen: ImageDraw.ImageDraw,
    at: Array,
    angle: float,
    length: float,
    shade: int,
    random: np.random.Generator,
) -> None:
    """A bent stem with dense branches at 60 degrees, as ice has them, shorter to the tip."""
    bend = random.normal(0, 0.03)
    step = 3.0
    count = max(3, int(length / step))
    for i in range(count):
        end = at + _ray(angle, step)
        pen.line([tuple(at), tuple(end)], fill=min(255, shade + 50), width=2)
        reach = 0.3 * length * (1 - i / count) * random.uniform(0.6, 1.1)
        tone = int(np.clip(shade + random.normal(0, 25), 0, 255))
        for side in (-math.pi / 3, math.pi / 3):
            pen.line([tuple(end), tuple(end + _ray(angle + side, reach))], fill=tone, width=1)
        at, angle = end, angle + bend


def _shaped(field: Array, kind: Pane) -> Array:
    """`field` with its power at each spatial frequency brought to that of the photographs."""
    height, width = field.shape
    spectrum = np.fft.rfft2(field)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.hypot(rows, columns) * 224
    spectrum[0, 0] = 0
    # a crop of other size, without the window (whose mean square is 9/64), has other sums
    wanted = np.interp(np.log2(np.maximum(radius, 1e-9)), np.log2(_OCTAVES), kind.power)
    wanted = np.exp2(wanted) * (height * width / 224**2) * (64 / 9)
    ring = np.round(2 * np.log2(np.maximum(radius, 1.0))).astype(int)
    power = np.abs(spectrum) ** 2
    mean = np.bincount(ring.ravel(), power.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    spectrum *= np.sqrt(wanted / np.maximum(mean[ring], 1e-12))
    return np.fft.irfft2(spectrum, (height, width)) / 255
