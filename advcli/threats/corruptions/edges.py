"""Edges and distances, as OpenCV computes them: what drops on a lens are shaped by."""

from __future__ import annotations

import numpy as np

from advcli.threats.corruptions.signal import Array

__all__ = ["canny", "distance_to", "equalised"]

_WEAK, _STRONG = 50, 150
_STEEP = np.tan(np.pi / 8)


def canny(levels: Array) -> Array:
    """Edges of uint8 [H, W] as bool [H, W]: Sobel, thinned, traced from strong ones to weak ones.

    Canny, "A computational approach to edge detection", 1986; |gx| + |gy| for the magnitude.
    """
    x = np.pad(levels.astype(np.int32), 1, mode="edge")
    across = x[:-2] + 2 * x[1:-1] + x[2:]
    down = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    gx, gy = across[:, 2:] - across[:, :-2], down[2:] - down[:-2]
    wide, high = np.abs(gx), np.abs(gy)
    size = np.pad(wide + high, 1)
    here = size[1:-1, 1:-1]

    def beside(i: int, j: int) -> Array:
        return size[1 + i : size.shape[0] - 1 + i, 1 + j : size.shape[1] - 1 + j]

    flat, steep = high < _STEEP * wide, high * _STEEP > wide
    same = (gx >= 0) == (gy >= 0)
    before = np.select(
        [flat, steep, same], [beside(0, -1), beside(-1, 0), beside(-1, -1)], beside(-1, 1)
    )
    after = np.select(
        [flat, steep, same], [beside(0, 1), beside(1, 0), beside(1, 1)], beside(1, -1)
    )
    straight = flat | steep
    thin = (here > before) & np.where(straight, here >= after, here > after)
    weak = thin & (here > _WEAK)
    edges = weak & (here > _STRONG)
    while True:
        spread = np.pad(edges, 1)
        near = np.zeros_like(edges)
        for i in range(3):
            for j in range(3):
                near |= spread[i : i + edges.shape[0], j : j + edges.shape[1]]
        grown = weak & near
        if np.array_equal(grown, edges):
            return edges
        edges = grown


def distance_to(marked: Array, most: int) -> Array:
    """Distance of each pixel of bool [H, W] to the nearest marked one, where it is below `most`."""
    height, width = marked.shape
    far = float(most)
    along = np.where(marked, 0.0, far)
    padded = np.pad(along, ((0, 0), (most, most)), constant_values=far)
    for shift in range(-most, most + 1):
        along = np.minimum(along, padded[:, most + shift :][:, :width] + abs(shift))
    square = np.pad(along**2, ((most, most), (0, 0)), constant_values=far**2)
    nearest = along**2
    for shift in range(-most, most + 1):
        nearest = np.minimum(nearest, square[most + shift :][:height] + shift**2)
    distance: Array = np.sqrt(nearest)
    return distance


def equalised(levels: Array) -> Array:
    """uint8 [H, W] with its histogram spread over all levels; the lowest one goes to 0."""
    counts = np.bincount(levels.ravel(), minlength=256)
    first = int(counts.nonzero()[0][0])
    rest = levels.size - counts[first]
    if rest == 0:
        return levels
    above = np.cumsum(counts) - counts[: first + 1].sum()
    table = np.rint(above.clip(0) * (255 / rest)).astype(np.uint8)
    spread: Array = table[levels]
    return spread
