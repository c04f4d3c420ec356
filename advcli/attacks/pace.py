"""Whether a search is on course: at marks that double, its latest gain against what is missing.

What an ascent or a random search gains per call falls as a rule. So one that would not arrive by
its last call even at the pace of its latest half is given up: on robust images most of the calls of
AutoAttack go into such searches. It is a rule of experience: an ascent that a shorter step sets
free late is lost. So ascents are judged after half of their steps, the first halvings behind them.

Measured with APGD, APGD-T and Square in seven settings (the samples, a ResNet-20 trained against
PGD, two networks of others; Linf and L2): single ascents were lost, but no image that they and
FAB-T find together.
"""

from __future__ import annotations

from typing import NamedTuple

from advcli.lazy import Tensor, tf

_LEAST = 8  # calls that say something about a pace


class Pace(NamedTuple):
    """The best score so far as it was, [S] each."""

    begun: Tensor  # at the first call
    earlier: Tensor  # at the latest mark


def unknown(like: Tensor) -> Pace:
    """Before the first call; `like` is any float32 [S]."""
    return Pace(tf.zeros_like(like), tf.zeros_like(like))


class Course:
    """A search of `total` calls, looked at after `first`, 2·`first`, 4·`first`, … of them."""

    def __init__(self, total: int, first: int) -> None:
        self._total = total
        self._first = max(_LEAST, first)
        self._marks = [self._first]
        while 2 * self._marks[-1] < total:
            self._marks.append(2 * self._marks[-1])

    def follow(self, pace: Pace, n: Tensor, best: Tensor) -> tuple[Pace, Tensor]:
        """After call `n` (int32 [S], the first is 0; below that nothing is noted): the pace, and
        which rows to give up (bool [S]).

        `best` [S] is the highest score so far; what succeeds has one above 0. A row whose score
        never rose stays: nothing is known about its pace.
        """
        marked = tf.reduce_any(tf.equal(n[:, None], tf.constant(self._marks)), axis=1)
        passed = tf.cast(tf.maximum(n, 1), tf.float32)
        reach = (best - pace.earlier) * (self._total - passed) / (0.5 * passed)
        behind = marked & (n > self._first) & (best > pace.begun) & (-best > reach)
        begun = tf.where(tf.equal(n, 0), best, pace.begun)
        return Pace(begun, tf.where(marked, best, pace.earlier)), behind
