"""Noise: sensor noise, photons, dead pixels. x is float32 [H, W, C] in [0, 1]."""

from __future__ import annotations

import numpy as np

from advcli.threats.corruptions.signal import Array

__all__ = ["gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise"]


def gaussian_noise(x: Array, deviation: float, random: np.random.Generator) -> Array:
    made: Array = x + deviation * random.standard_normal(x.shape, np.float32)
    return made


def shot_noise(x: Array, photons: float, random: np.random.Generator) -> Array:
    """Each value counts its photons; a white one gets `photons` on average."""
    return (random.poisson(x * photons) / photons).astype(np.float32)


def impulse_noise(x: Array, amount: float, random: np.random.Generator) -> Array:
    """Salt and pepper: this share of the values becomes 0 or 1."""
    hit = random.random(x.shape, np.float32) < amount
    salt = random.random(x.shape, np.float32) < 0.5
    return np.where(hit, salt.astype(np.float32), x)


def speckle_noise(x: Array, deviation: float, random: np.random.Generator) -> Array:
    return x + x * deviation * random.standard_normal(x.shape, np.float32)
