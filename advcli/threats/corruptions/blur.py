"""Blur: out of focus, behind frosted glass, in motion. x is float32 [H, W, C] in [0, 1]."""

from __future__ import annotations

import numpy as np

from advcli.threats.corruptions.signal import Array, correlate, gaussian, motion, zoom

__all__ = ["defocus_blur", "gaussian_blur", "glass_blur", "motion_blur", "zoom_blur"]


def gaussian_blur(x: Array, sigma: float, random: np.random.Generator) -> Array:
    return gaussian(x, sigma)


def defocus_blur(x: Array, lens: tuple[float, float], random: np.random.Generator) -> Array:
    return correlate(x, _disk(*lens))


def _disk(radius: float, smoothing: float) -> Array:
    """A uniform disk, its rim smoothed by a small Gaussian."""
    reach, small = (8, 1) if radius <= 8 else (int(radius), 2)
    line = np.arange(-reach, reach + 1)
    disk = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float64)
    disk /= disk.sum()
    near = np.exp(-(np.arange(-small, small + 1) ** 2) / (2 * smoothing**2))
    near /= near.sum()
    return correlate(disk, np.outer(near, near))


def glass_blur(x: Array, glass: tuple[float, int, int], random: np.random.Generator) -> Array:
    """Blur, displace pixels at random by at most `reach`, blur again.

    Pixels are copied, not exchanged: so the published images were made, since there both sides of
    the exchange were views of one array.
    """
    sigma, reach, rounds = glass
    height, width, channels = x.shape
    soft = np.floor(gaussian(x, sigma) * 255 + 1e-3) / np.float32(255)
    rows = np.arange(height - reach, reach, -1)
    columns = np.arange(width - reach, reach, -1)
    places = (rows[:, None] * width + columns).ravel()
    source = list(range(height * width))
    for _ in range(rounds):
        right, down = random.integers(-reach, reach, (2, len(places)))
        for to, start in zip(
            places.tolist(), (places + down * width + right).tolist(), strict=True
        ):
            source[to] = source[start]
    shuffled = soft.reshape(-1, channels)[source].reshape(x.shape)
    return gaussian(shuffled, sigma)


def motion_blur(x: Array, camera: tuple[float, float], random: np.random.Generator) -> Array:
    return motion(x, *camera, random.uniform(-45, 45))


def zoom_blur(x: Array, factors: Array, random: np.random.Generator) -> Array:
    """The mean of the image and its enlargements."""
    total = x.copy()
    for factor in factors:
        total += zoom(x, float(factor))
    return total / np.float32(len(factors) + 1)
