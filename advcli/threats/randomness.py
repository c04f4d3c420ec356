"""Random numbers that belong to an image, not to its place in a batch.

Every number is a hash of (row key, step, stream, element index), so a row draws the same numbers
whatever stands beside it. TensorFlow's stateless generators take one seed for a whole tensor and
cannot do that. The hash is two rounds of the 32-bit finaliser `lowbias32` (Chris Wellons,
"Prospecting for hash functions", 2018) with a row key added before each round.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from advcli.lazy import Tensor, tf


def row_key(*parts: object) -> tuple[int, int]:
    """Two 32-bit words that stand for `parts` (seed, image hash, attack, restart)."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogateescape"))
    words = digest.digest()[:8]
    return int.from_bytes(words[:4], "little"), int.from_bytes(words[4:], "little")


def _mix(x: Tensor) -> Tensor:
    u = tf.uint32
    xor, shift = tf.bitwise.bitwise_xor, tf.bitwise.right_shift
    x = xor(x, shift(x, tf.constant(16, u))) * tf.constant(0x7FEB352D, u)
    x = xor(x, shift(x, tf.constant(15, u))) * tf.constant(0x846CA68B, u)
    return xor(x, shift(x, tf.constant(16, u)))


class Random:
    """The numbers of one step: `key` uint32 [S, 2], `k` int32 [S] (the row's own step counter).

    Draws with the same `stream` repeat; give each use within a step a stream of its own.
    """

    def __init__(self, key: Tensor, k: Tensor) -> None:
        self._first = _mix(key[:, 0] + tf.cast(k, tf.uint32) * tf.constant(0x9E3779B9, tf.uint32))
        self._second = _mix(key[:, 1] + self._first)

    def _bits(self, shape: Sequence[int], stream: int) -> Tensor:
        count = math.prod(shape)
        salt = tf.constant((stream * 0x85EBCA6B + 1) & 0xFFFFFFFF, tf.uint32)
        first = _mix(self._first + salt)[:, None]
        second = _mix(self._second ^ salt)[:, None]
        # range() has no uint32 kernel everywhere
        index = tf.cast(tf.range(count, dtype=tf.int32), tf.uint32)[None, :]
        bits = _mix(_mix(index + first) ^ second)
        return tf.reshape(bits, [-1, *shape])

    def uniform(self, shape: Sequence[int], stream: int = 0) -> Tensor:
        """float32 [S, *shape] in [0, 1)."""
        bits = tf.bitwise.right_shift(self._bits(shape, stream), tf.constant(8, tf.uint32))
        return tf.cast(tf.cast(bits, tf.int32), tf.float32) * 2.0**-24

    def signs(self, shape: Sequence[int], stream: int = 0) -> Tensor:
        """float32 [S, *shape], −1 or 1."""
        return 1.0 - 2.0 * tf.cast(self.uniform(shape, stream) < 0.5, tf.float32)

    def normal(self, shape: Sequence[int], stream: int = 0) -> Tensor:
        """float32 [S, *shape], standard normal (Box–Muller; two uniforms a number)."""
        radius = tf.sqrt(-2.0 * tf.math.log(1.0 - self.uniform(shape, 2 * stream + 1000)))
        return radius * tf.cos(2 * math.pi * self.uniform(shape, 2 * stream + 1001))

    def integers(self, bound: Tensor | int, shape: Sequence[int] = (), stream: int = 0) -> Tensor:
        """int32 [S, *shape] in [0, bound)."""
        limit = tf.cast(bound, tf.float32)
        drawn = tf.cast(tf.floor(self.uniform(shape, stream) * limit), tf.int32)
        return tf.minimum(drawn, tf.cast(bound, tf.int32) - 1)
