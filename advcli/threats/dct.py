"""The two-dimensional cosine transform of images, as matrix products.

DCT-II, orthonormal: distances and angles are the same in coefficients as in pixels. Coefficients
[…, H, W, C] lie as the pixels do, the lowest frequencies first.
"""

from __future__ import annotations

import numpy as np

from advcli.lazy import Tensor, tf


def dct2(x: Tensor) -> Tensor:
    """Pixels […, H, W, C] -> coefficients, each channel for itself."""
    return _both_ways(x, basis(int(x.shape[-3])), basis(int(x.shape[-2])))


def idct2(coefficients: Tensor) -> Tensor:
    """Coefficients […, H, W, C] -> pixels."""
    height, width = int(coefficients.shape[-3]), int(coefficients.shape[-2])
    return _both_ways(coefficients, basis(height).T, basis(width).T)


def frequencies(height: int, width: int) -> np.ndarray:
    """float32 [H, W]: how many half waves a coefficient has, as shares of those that fit, added."""
    down, across = np.arange(height) / height, np.arange(width) / width
    return (down[:, None] + across[None]).astype(np.float32)


def lowest(height: int, width: int, share: float) -> np.ndarray:
    """bool [H, W]: the `share` of all coefficients that is lowest in frequency, one at least."""
    order = np.argsort(frequencies(height, width).reshape(-1), kind="stable")
    mask = np.zeros(height * width, np.bool_)
    mask[order[: max(1, round(share * height * width))]] = True
    return mask.reshape(height, width)


def basis(n: int) -> np.ndarray:
    """float32 [n, n]: row k is the k-th cosine, of unit length."""
    k, i = np.arange(n)[:, None], np.arange(n)[None]
    rows = np.sqrt(2.0 / n) * np.cos(np.pi * (i + 0.5) * k / n)
    rows[0] /= np.sqrt(2.0)
    return np.asarray(rows, np.float32)


def _both_ways(x: Tensor, down: np.ndarray, across: np.ndarray) -> Tensor:
    x = tf.einsum("kh,...hwc->...kwc", tf.constant(down), x)
    return tf.einsum("lw,...kwc->...klc", tf.constant(across), x)
