"""MI-FGSM's update is the papers', and its views are what they are called."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from advcli.attacks.base import Row, Slope
from advcli.attacks.mifgsm import MIFGSM, _shrunk, _smoothed
from advcli.attacks.registry import parse_spec
from advcli.errors import UsageError
from advcli.threats.losses import Goal
from advcli.threats.randomness import Random
from advcli.threats.space import Space

SHAPE = (5, 4, 2)
ROWS, CLASSES, EPS = 6, 4, 0.2


class Bent:
    """A small network, and an oracle that answers about it and keeps what it was asked."""

    transfer = False

    def __init__(self, row):
        random = np.random.default_rng(3)
        self.first = tf.constant(random.normal(size=(40, 12)) * 0.6, tf.float32)
        self.last = tf.constant(random.normal(size=(12, CLASSES)) * 2, tf.float32)
        self.row, self.plain = row, []

    def logits(self, x):
        return tf.tanh((tf.reshape(x, [ROWS, 40]) - 0.5) @ self.first) @ self.last

    def gradient(self, x, loss, view, plain):
        self.plain.append(plain.numpy())
        with tf.GradientTape() as tape:
            tape.watch(x)
            shown = view(x)
            value = loss(self.logits(shown), self.row.goal)
        for i in np.flatnonzero(self.plain[-1]):
            assert np.array_equal(shown[i], x[i])
        return Slope(value, tape.gradient(value, x), self.logits(shown))


def setting():
    random = np.random.default_rng(4)
    x0 = tf.constant(random.random((ROWS, *SHAPE)), tf.float32)
    count = tf.zeros([ROWS], tf.int32)
    goal = Goal(tf.range(ROWS) % CLASSES, count - 1)
    key = tf.constant(random.integers(0, 2**31, (ROWS, 2)), tf.uint32)
    return Row(x0, goal, tf.fill([ROWS], EPS), key, count, x0)


def path_of(attack, row, oracle):
    space = Space("linf", SHAPE)
    state, path, done = attack.init(row, space, Random(row.key, row.restart - 1)), [], None
    for k in range(attack.length(space)):
        count = tf.fill([ROWS], k)
        state, done = attack.step(row, state, count, space, oracle, Random(row.key, count))
        path.append(state.x.numpy())
    assert done.numpy().all()
    return path[attack.scale - 1 :: attack.scale]


def published(row, oracle, *, steps, decay, nesterov, scale):
    """Algorithm 1 of 1710.06081; 1908.06281 looks ahead and averages over halved copies."""
    x, momentum, path = row.x0, tf.zeros_like(row.x0), []
    for _ in range(steps):
        total = tf.zeros_like(x)
        for i in range(scale):
            with tf.GradientTape() as tape:
                tape.watch(x)
                ahead = x + decay * EPS / steps * momentum if nesterov else x
                ce = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels=row.goal.label, logits=oracle.logits(ahead / 2.0**i)
                )
            total += tape.gradient(ce, x)
        momentum = decay * momentum + total / tf.reduce_mean(
            tf.abs(total), axis=[1, 2, 3], keepdims=True
        )
        x = x + EPS / steps * tf.sign(momentum)
        x = tf.clip_by_value(x, tf.maximum(row.x0 - EPS, 0.0), tf.minimum(row.x0 + EPS, 1.0))
        path.append(x.numpy())
    return path


@pytest.mark.parametrize(
    ("decay", "nesterov", "scale"),
    [(1.0, False, 1), (0.6, False, 1), (1.0, True, 1), (1.0, True, 4)],
)
def test_the_update_is_the_published_one(decay, nesterov, scale):
    row = setting()
    oracle = Bent(row)
    attack = MIFGSM(steps=8, decay=decay, nesterov=nesterov, scale=scale, scouts=0)
    found = path_of(attack, row, oracle)
    expected = published(row, oracle, steps=8, decay=decay, nesterov=nesterov, scale=scale)
    assert np.allclose(found, expected, atol=1e-5)
    plain = np.stack(oracle.plain)
    assert plain[0].all()
    assert plain.sum() == (ROWS if nesterov else 8 * ROWS)


def test_only_what_was_not_resized_counts_as_the_image():
    row = setting()
    oracle = Bent(row)  # asserts that a plain row was shown as it is
    path_of(MIFGSM(steps=12, input_diversity=0.5, resize=0.5, scouts=0), row, oracle)
    plain = np.stack(oracle.plain)
    assert 0.3 < plain.mean() < 0.7
    assert (plain[0] != plain[0, 0]).any()  # every row draws for itself


def test_smoothing_spreads_a_gradient_and_keeps_its_sum():
    g = np.zeros((2, 31, 31, 3), np.float32)
    g[0, 15, 15, 1] = 1.0
    found = _smoothed(tf.constant(g), 15).numpy()
    assert found[0, ..., 1].sum() == pytest.approx(1.0, abs=1e-5)
    assert np.count_nonzero(found[0, ..., 1]) == 15 * 15
    assert found[0, 15, 15, 1] == found.max()
    assert found[0, 15, 22, 1] == pytest.approx(found.max() * np.exp(-4.5), rel=1e-4)
    assert not found[1].any()
    assert not found[..., 0].any()
    with pytest.raises(UsageError, match="must be odd"):
        parse_spec("mifgsm:translation=4")


def test_a_shrunk_image_is_a_smaller_one_on_black():
    count, size = 64, 24
    keys = tf.constant(np.arange(2 * count).reshape(count, 2), tf.uint32)
    random = Random(keys, tf.zeros(count, tf.int32))
    found = _shrunk(tf.ones([count, size, size, 2]), 0.5, random).numpy()
    assert np.allclose(np.unique(found.round(5)), [0, 1])
    sides = found[..., 0].max(axis=2).sum(axis=1)
    assert sides.min() >= 12
    assert sides.max() <= 24
    assert len(set(sides)) > 8
    assert np.allclose(found[..., 0].sum(axis=(1, 2)), sides**2)  # a square
    corners = {tuple(np.argwhere(image[..., 0])[0]) for image in found}
    assert len(corners) > 20  # every row has a place of its own
    picture = tf.constant(np.random.default_rng(0).random((count, size, size, 2)), tf.float32)
    assert np.allclose(_shrunk(picture, 1.0, random), picture, atol=1e-5)


def test_half_the_size_is_the_mean_of_two_pixels():
    half = SimpleNamespace(uniform=lambda shape, stream: tf.zeros([1]))  # the least, at the corner
    ramp = tf.tile(tf.reshape(tf.range(24, dtype=tf.float32), [1, 1, 24, 1]), [1, 24, 1, 1])
    found = _shrunk(ramp, 0.5, half).numpy()[0, ..., 0]
    assert np.allclose(found[:12, :12], np.arange(12) * 2 + 0.5)
    assert not found[12:].any()
