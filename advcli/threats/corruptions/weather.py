"""Weather: snow, fog, drops on the lens. x is float32 [H, W, C] in [0, 1]; C is 1 or 3."""

from __future__ import annotations

import numpy as np

from advcli.threats.corruptions.edges import canny, distance_to, equalised
from advcli.threats.corruptions.signal import (
    Array,
    box_blur,
    correlate,
    gaussian,
    luma,
    motion,
    tint,
    zoom,
)

__all__ = ["fog", "plasma", "snow", "spatter"]

_WATER = (175.0, 238.0, 238.0)
_MUD = (63.0, 42.0, 20.0)
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)


def snow(
    x: Array,
    storm: tuple[float, float, float, float, float, float, float],
    random: np.random.Generator,
) -> Array:
    """Flakes that fall in streaks, twice (the second time upside down), over a whitened image."""
    mean, deviation, size, threshold, radius, sigma, kept = storm
    flakes = mean + deviation * random.standard_normal((*x.shape[:2], 1), np.float32)
    flakes = zoom(flakes, size)
    flakes = np.where(flakes < threshold, 0, np.clip(flakes, 0, 1))
    fallen = motion(flakes, radius, sigma, random.uniform(-135, -45))
    white = np.maximum(x, luma(x) * 1.5 + 0.5)
    return np.float32(kept) * x + np.float32(1 - kept) * white + fallen + np.rot90(fallen, 2)


def fog(x: Array, bank: tuple[float, float], random: np.random.Generator) -> Array:
    """A plasma fractal over the image, the whole darkened so that the brightest value stays."""
    amount, decay = bank
    height, width = x.shape[:2]
    side = 1 << (max(height, width) - 1).bit_length()
    brightest = x.max()
    veil = plasma(max(side, 2), decay, random)[:height, :width, None].astype(np.float32)
    made: Array = (x + np.float32(amount) * veil) * (brightest / (brightest + np.float32(amount)))
    return made


def plasma(side: int, decay: float, random: np.random.Generator) -> Array:
    """A cloud by the diamond-square algorithm on a torus: [side, side] from 0 to 1.

    Each halving of the grid weakens the random part by decay². `side` is a power of two.
    """
    heights = np.zeros((side, side))
    step, swing = side, 1.0

    def noisy(total: Array) -> Array:
        return total / 4 + random.uniform(-swing, swing, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        centres = noisy(pairs + np.roll(pairs, -1, axis=1))
        heights[half::step, half::step] = centres
        beside = corners + np.roll(corners, -1, axis=1) + centres + np.roll(centres, 1, axis=0)
        heights[::step, half::step] = noisy(beside)
        below = corners + np.roll(corners, -1, axis=0) + centres + np.roll(centres, 1, axis=1)
        heights[half::step, ::step] = noisy(below)
        step, swing = half, swing / decay**2
    heights -= heights.min()
    top: Array = heights / max(heights.max(), 1e-12)
    return top


def spatter(
    x: Array,
    splash: tuple[float, float, float, float, float, int],
    random: np.random.Generator,
) -> Array:
    """Drops of water that catch the light, or splashes of mud."""
    mean, deviation, smoothing, threshold, strength, mud = splash
    layer = mean + deviation * random.standard_normal(x.shape[:2], np.float32)
    layer = gaussian(layer, smoothing)
    layer = np.where(layer < threshold, np.float32(0), layer)
    if mud:
        cover = gaussian((layer > threshold).astype(np.float32), strength)
        cover = np.where(cover < 0.8, np.float32(0), cover)[..., None]
        muddy: Array = x * (1 - cover) + tint(_MUD, x.shape[2]) * cover
        return muddy
    shine = _water(np.floor(layer * 255).astype(np.uint8))
    brightest = shine.max()
    if brightest > 0:
        shine = shine * np.float32(strength / brightest)
    wet: Array = x + shine[..., None] * tint(_WATER, x.shape[2])
    return wet


def _water(drops: Array) -> Array:
    """Where drops (uint8 [H, W], 0: none) catch the light: bright rims on one side."""
    away = np.minimum(distance_to(canny(drops), 20), 20)
    away = equalised(np.floor(box_blur(away.astype(np.float32)) + 1e-4).astype(np.uint8))
    relief = np.clip(np.rint(correlate(away.astype(np.float32), _EMBOSS)), 0, 255)
    return drops.astype(np.float32) * np.rint(box_blur(relief))
