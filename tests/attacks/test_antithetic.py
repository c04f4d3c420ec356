"""Gradients estimated from scores: right on average, and asked within the ball."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advcli.attacks.antithetic import estimate, pairs
from advcli.attacks.base import Row
from advcli.attacks.search import drawn_in
from advcli.threats.losses import Goal, margin
from advcli.threats.randomness import Random
from advcli.threats.space import Space
from tests.support.linear import LinearModel, images

SHAPE = (5, 7, 3)
COUNT = 6


class Scores:
    """The answers of a linear model."""

    def __init__(self, model, resolution):
        self.model, self.resolution = model, resolution

    def scores(self, x, used=None):
        self.asked = x
        z = self.model.logits(tf.reshape(x, [-1, *SHAPE]))
        return tf.reshape(z, [*x.shape[:2], -1])


def problem(norm):
    model = LinearModel(SHAPE, 2)
    x0 = tf.constant(images(SHAPE, COUNT, low=100, high=156) / np.float32(255))
    zero = tf.zeros([COUNT], tf.int32)
    key = tf.constant(np.random.default_rng(0).integers(0, 2**32, (COUNT, 2), np.uint32))
    eps = tf.fill([COUNT], 0.1 if norm == "linf" else 0.5)
    row = Row(x0, Goal(zero, zero - 1), eps, key, zero, x0)
    return model, row, Random(key, zero)


@pytest.mark.parametrize("kind", ["normal", "signs"])
@pytest.mark.parametrize("resolution", [0.0, 1 / 255])
def test_many_pairs_give_the_gradient_and_its_length(kind, resolution):
    model, row, random = problem("linf")
    noise = getattr(random, kind)((4000, *SHAPE))
    oracle = Scores(model, resolution)
    space = Space("linf", SHAPE)
    g = estimate(row, row.x0, row.x0, noise, 0.001, margin, space, oracle).gradient.numpy()
    true = model.W[:, 1] - model.W[:, 0]
    for row_g in g.reshape(COUNT, -1):
        cosine = row_g @ true / np.linalg.norm(row_g) / np.linalg.norm(true)
        assert cosine > 0.97  # 1/√(1 + 105/4000) = 0.987 on average
        assert row_g @ true / (true @ true) == pytest.approx(1, rel=0.08)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_question_lies_within_the_ball_and_one_is_at_its_far_side(norm):
    model, row, random = problem(norm)
    space = Space(norm, SHAPE)
    oracle = Scores(model, 0.0)
    x = space.project(row.x0 + space.sample(random, 3 * row.eps, 7), row.x0, row.eps)
    true = tf.repeat(tf.reshape(model.W[:, 1] - model.W[:, 0], [1, *SHAPE]), COUNT, axis=0)
    estimate(row, x, true, random.normal((pairs(16), *SHAPE)), 0.05, margin, space, oracle)
    asked = oracle.asked
    assert asked.shape == (COUNT, 16, *SHAPE)
    away = space.distance(asked, row.x0[:, None]).numpy()
    assert (away <= row.eps.numpy()[:, None] * (1 + 1e-5)).all()
    assert (asked[:, 0].numpy() == x.numpy()).all()
    scores = margin(oracle.scores(asked), Goal(*(tf.repeat(p[:, None], 16, 1) for p in row.goal)))
    assert (scores.numpy().argmax(axis=1) == 1).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_drawn_in_leaves_what_is_inside_and_ends_inside(norm):
    _, row, random = problem(norm)
    space = Space(norm, SHAPE)
    inside = row.x0 + 0.5 * space.sample(random, row.eps)
    assert np.allclose(drawn_in(inside, row, space), inside, atol=1e-6)
    outside = row.x0 + 20 * space.sample(random, row.eps)
    ended = drawn_in(outside, row, space)
    assert (space.distance(ended, row.x0).numpy() <= row.eps.numpy() * (1 + 1e-5)).all()
    assert (space.distance(ended, row.x0).numpy() >= row.eps.numpy() * 0.99).all()
    assert (ended.numpy() >= 0).all()
    assert (ended.numpy() <= 1).all()
