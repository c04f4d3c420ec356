"""Auto-PGD's ascent, shared by the attacks that run it on one loss or another.

Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2003.01690; the L1 form: "Mind the box", 2103.01208.

Constants and order are those of the authors' code. It differs where that code projects onto the
L2 ball and then clips to the box, which leaves the ball unused: here every projection is onto the
nearest point of ball and box together.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from advcli.attacks.base import Row
from advcli.attacks.pace import Course
from advcli.lazy import Tensor, tf
from advcli.threats.losses import Goal, dlr
from advcli.threats.randomness import Random
from advcli.threats.space import Space, normalise_l2, norms_of, per_row, select

_MOMENTUM = 0.75
_RISING = 0.75  # ρ: the share of rising steps below which a window counts as oscillating
_FIRST, _SHRINK, _SHORTEST = 0.22, 0.03, 0.06  # windows, as shares of the iterations
_L1_WINDOW, _L1_SHARE, _L1_SHORTER, _L1_LEAST, _L1_DENSER = 0.04, 0.2, 1.5, 10.0, 0.95
_CHANGED = 1e-6


class Ascent(NamedTuple):
    """Where a row stands; leading axis S."""

    x: Tensor  # the point to be asked next
    before: Tensor  # the one asked before it
    best: Tensor  # the point with the largest loss
    slope: Tensor  # the gradient there
    peak: Tensor  # its loss
    last: Tensor  # the loss of the latest point
    rises: Tensor  # float32, steps of this window that raised the loss
    size: Tensor  # the step length
    halved: Tensor  # bool, at the last checkpoint
    checked: Tensor  # the largest loss at the last checkpoint
    share: Tensor  # L1: the share of values that a step moves
    spread: Tensor  # L1: how many values `best` had changed at the last checkpoint


class Plan:
    """The checkpoints of `steps` iterations, known beforehand; L1 first tries 3 and 2 × eps.

    A phase of n iterations asks n + 1 points. `length`: points asked in all; `last`: the first one
    of the last phase, whose pace `course` watches.
    """

    def __init__(self, steps: int, norm: str) -> None:
        self._norm = norm
        wide = math.ceil(0.3 * steps)
        phases = [(1.0, steps)]
        if norm == "l1" and steps > 2 * wide:
            phases = [(3.0, wide), (2.0, wide), (1.0, steps - 2 * wide)]
        index: list[int] = []
        radius: list[float] = []
        following: list[float] = []
        window: list[int] = []
        for number, (width, count) in enumerate(phases):
            index += range(count + 1)
            radius += [width] * (count + 1)
            after = phases[min(number + 1, len(phases) - 1)][0]
            following += [0.0] * count + [after]
            window += self._windows(count)
        self.length = len(index)
        self.last = self.length - phases[-1][1] - 1
        self.course = Course(phases[-1][1], phases[-1][1] // 4)
        self._index = np.array(index, np.int32)
        self._radius = np.array(radius, np.float32)
        # where a phase ends: the radius of the next; the end of the last one is never left
        self._following = np.array(following, np.float32)
        self.window = np.array(window, np.float32)  # > 0 at a checkpoint: its iterations

    def _windows(self, count: int) -> list[int]:
        if self._norm == "l1":
            every = max(int(_L1_WINDOW * count), 1)
            return [every if i and i % every == 0 else 0 for i in range(count + 1)]
        span, shortest = max(int(_FIRST * count), 1), max(int(_SHORTEST * count), 1)
        found, check = [0] * (count + 1), span
        while check <= count:
            found[check] = span
            span = max(span - max(int(_SHRINK * count), 1), shortest)
            check += span
        return found

    def begin(self, x: Tensor) -> Ascent:
        """At `x`, before anything was asked."""
        zero = tf.zeros_like(x[:, 0, 0, 0])
        blank = tf.zeros_like(x)
        return Ascent(
            *(x, x, x, blank),
            *(zero, zero, zero, zero),
            halved=tf.ones_like(zero, tf.bool),
            checked=zero,
            share=zero,
            spread=zero,
        )

    def start(self, row: Row, space: Space, random: Random) -> Tensor:
        """A random point: on the ball's surface (L1: a sparse one in its widest ball)."""
        radius = row.eps * float(self._radius[0])
        if space.norm == "linf":
            noise = 2.0 * random.uniform(space.shape) - 1.0
            noise /= per_row(norms_of(noise, "linf"), noise)
        elif space.norm == "l2":
            noise = normalise_l2(random.normal(space.shape))
        else:
            return space.project(row.x0 + random.normal(space.shape), row.x0, radius)
        return space.project(row.x0 + per_row(radius, noise) * noise, row.x0, radius)

    def advance(
        self, old: Ascent, n: Tensor, loss: Tensor, g: Tensor, row: Row, space: Space
    ) -> Ascent:
        """After the `n`-th answer (int32 [S]): the loss and its gradient at `old.x`."""
        n = tf.clip_by_value(n, 0, self.length - 1)
        eps = row.eps * tf.gather(self._radius, n)
        window = tf.gather(self.window, n)
        new = self._taken(old, tf.equal(tf.gather(self._index, n), 0), loss, g, row, eps)
        check = window > 0.0
        new, back = (
            self._checked_l1(new, check, row, eps)
            if self._norm == "l1"
            else self._checked(new, check, window)
        )
        x, g = tf.cond(
            tf.reduce_any(back),
            lambda: (select(back, new.best, new.x), select(back, new.slope, g)),
            lambda: (new.x, g),
        )
        y = space.project(
            x + per_row(new.size, g) * space.steepest(g, None, new.share), row.x0, eps
        )
        if self._norm != "l1":
            push = _MOMENTUM * (y - x) + (1.0 - _MOMENTUM) * (x - new.before)
            straight = tf.equal(tf.gather(self._index, n), 0)
            y = select(straight, y, space.project(x + push, row.x0, eps))
        elif len(set(self._radius)) > 1:
            following = tf.gather(self._following, n)
            ended = following > 0.0
            y = select(ended, space.project(new.best, row.x0, row.eps * following), y)
        return new._replace(x=y, before=x)

    def _taken(
        self, old: Ascent, first: Tensor, loss: Tensor, g: Tensor, row: Row, eps: Tensor
    ) -> Ascent:
        """The answer noted down; the first one of a phase starts everything anew."""
        better = first | (loss > old.peak)
        rises = old.rises + tf.cast(loss > old.last, tf.float32)
        peak = tf.where(better, loss, old.peak)
        spread = old.spread
        share = old.share
        if self._norm == "l1":
            values = float(np.prod(row.x0.shape[1:]))
            changed = _changed(old.x, row.x0)
            # only the very first phase begins at a random point, whose sparsity means nothing
            random = eps > row.eps * (float(self._radius[0]) - 0.5)
            spread = tf.where(first, tf.where(random, values, changed), spread)
            dense = tf.where(random, _L1_SHARE, changed / (1.5 * values))
            share = tf.where(first, dense, share)
        return Ascent(
            x=old.x,
            before=old.before,  # the first step of a phase has no momentum
            best=select(better, old.x, old.best),
            slope=select(better, g, old.slope),
            peak=peak,
            last=loss,
            rises=tf.where(first, 0.0, rises),
            size=tf.where(first, (1.0 if self._norm == "l1" else 2.0) * eps, old.size),
            halved=first | old.halved,
            checked=tf.where(first, peak, old.checked),
            share=share,
            spread=spread,
        )

    def _checked(self, old: Ascent, check: Tensor, window: Tensor) -> tuple[Ascent, Tensor]:
        """At a checkpoint: halve the step and go back to the best point if it does not pay."""
        stuck = ~old.halved & (old.checked >= old.peak)
        halve = check & ((old.rises <= _RISING * window) | stuck)
        return old._replace(
            size=tf.where(halve, 0.5 * old.size, old.size),
            halved=tf.where(check, halve, old.halved),
            checked=tf.where(check, old.peak, old.checked),
            rises=tf.where(check, 0.0, old.rises),
        ), halve

    def _checked_l1(
        self, old: Ascent, check: Tensor, row: Row, eps: Tensor
    ) -> tuple[Ascent, Tensor]:
        """At a checkpoint: sparser steps; whole ones again where the best point became sparser."""
        spread = _changed(old.best, row.x0)
        sparser = check & (spread < _L1_DENSER * old.spread)
        size = tf.where(sparser, eps, tf.maximum(old.size / _L1_SHORTER, eps / _L1_LEAST))
        values = float(np.prod(row.x0.shape[1:]))
        return old._replace(
            size=tf.where(check, size, old.size),
            share=tf.where(check, spread / (1.5 * values), old.share),
            spread=tf.where(check, spread, old.spread),
        ), sparser


def _changed(x: Tensor, x0: Tensor) -> Tensor:
    """How many values differ."""
    return tf.reduce_sum(tf.cast(tf.abs(x - x0) > _CHANGED, tf.float32), axis=[1, 2, 3])


def aimed_dlr(logits: Tensor, goal: Goal, target: Tensor) -> Tensor:
    """The targeted DLR towards `target` [S], whether or not the goal is that class."""
    return dlr(logits, Goal(goal.label, target))
