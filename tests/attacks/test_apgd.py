"""Auto-PGD follows its published rules, and its losses survive any scale of the logits."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advcli.attacks.ascent import Ascent, Plan
from advcli.attacks.average import added, nothing
from advcli.attacks.base import Row
from advcli.threats.losses import Goal, log_odds
from advcli.threats.space import Space
from tests.attacks.test_contract import attack, subjects_of, typical
from tests.support.linear import Confirmed, LinearModel, images

SHAPE = (3, 4, 1)


def test_checkpoints_are_the_authors():
    """fra31/auto-attack with 100 iterations: windows of 22, 19, 16, 13, 10, 7, 6, 6."""
    window = Plan(100, "linf").window
    assert np.flatnonzero(window).tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert window[window > 0].tolist() == [22, 19, 16, 13, 10, 7, 6, 6]
    assert Plan(100, "linf").length == 101
    assert Plan(100, "l1").length == 103  # three phases, each asks about its start


def row_of(x0, eps):
    counter = tf.zeros([len(x0)], tf.int32)
    key = tf.zeros([len(x0), 2], tf.uint32)
    goal = Goal(counter, counter - 1)
    return Row(x0, goal, tf.fill([len(x0)], eps), key, counter, x0)


def wavy(x):
    """A loss with many hills, and its gradient."""
    return np.sin(40 * x).sum() + 8 * np.cos(9 * x).prod(), (
        40 * np.cos(40 * x) - 72 * np.sin(9 * x) * np.cos(9 * x).prod() / np.cos(9 * x)
    )


def published(x0, start, eps, steps):
    """Algorithm 1 of 2003.01690 with the authors' windows, for one image in Linf."""

    def clip(x):
        return np.clip(x, np.maximum(x0 - eps, 0), np.minimum(x0 + eps, 1))

    x = old = best = start
    loss, g = wavy(x)
    peak, slope, size, checked, reduced = loss, g, 2 * eps, loss, True
    window, least, shrink = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), int(0.03 * steps)
    path, rises, since = [x], 0, 0
    for i in range(steps):
        a = 0.75 if i else 1.0
        z = clip(x + size * np.sign(g))
        old, x = x, clip(x + a * (z - x) + (1 - a) * (x - old))
        path.append(x)
        before = loss
        loss, g = wavy(x)
        rises, since = rises + (loss > before), since + 1
        if loss > peak:
            best, peak, slope = x, loss, g
        if since == window:
            halve = rises <= 0.75 * window or (not reduced and checked >= peak)
            if halve:
                # what the momentum remembers is the point before the jump back
                size, x, g = size / 2, best, slope
            reduced, checked, rises, since = halve, peak, 0, 0
            window = max(window - max(shrink, 1), least)
    return np.array(path), size


def test_the_ascent_is_the_published_one():
    random = np.random.default_rng(0)
    eps, steps = 0.3, 100
    space, plan = Space("linf", SHAPE), Plan(steps, "linf")
    x0 = random.random((6, *SHAPE)).astype(np.float32)
    start = np.clip(x0 + eps * random.choice([-1, 1], x0.shape), 0, 1).astype(np.float32)
    row = row_of(tf.constant(x0), eps)
    ascent, paths = plan.begin(tf.constant(start)), []
    advance = tf.function(lambda a, n, loss, g: plan.advance(a, n, loss, g, row, space))
    for n in range(plan.length):
        paths.append(ascent.x.numpy())
        values = [wavy(x.astype(np.float64)) for x in paths[-1]]
        loss = tf.constant([v[0] for v in values], tf.float32)
        g = tf.constant(np.stack([v[1] for v in values]), tf.float32)
        ascent = Ascent(*advance(ascent, tf.fill([6], n), loss, g))
    halvings = []
    for i in range(6):
        path, size = published(x0[i].astype(np.float64), start[i].astype(np.float64), eps, steps)
        halvings.append(round(np.log2(2 * eps / size)))
        assert np.allclose([p[i] for p in paths], path, atol=1e-3)
    assert min(halvings) >= 3  # the checkpoints had something to do


def test_a_mean_gradient_is_that_of_the_cross_entropy():
    """Six passes that answer differently; log-odds gradients weighed by 1 − p."""
    random = np.random.default_rng(1)
    row = row_of(tf.zeros([1, *SHAPE]), 1.0)
    w = random.normal(size=(6, 12, 4)).astype(np.float32)
    expected, mean = np.zeros(12), nothing(tf.zeros([1, *SHAPE]))
    x = tf.constant(random.normal(size=(1, 12)).astype(np.float32))
    for n in range(6):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            z = x @ w[n]
            odds = log_odds(z, row.goal)
            ce = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=z)
        expected += tape.gradient(ce, x).numpy()[0]
        g = tf.reshape(tape.gradient(odds, x), [1, *SHAPE])
        mean = added(mean, tf.constant([n == 0]), odds, g, row.goal, "ce")
    found = mean.total.numpy().ravel()
    assert np.allclose(found / np.abs(found).max(), expected / np.abs(expected).max(), atol=1e-4)


class Bent(LinearModel):
    """A linear model with a square of each logit's neighbour added, times `factor`."""

    factor = 1.0

    def _bent(self, z, roll):
        return self.factor * (z + 0.3 * roll(z, 1, -1) ** 2)

    def logits(self, x):
        return self._bent(super().logits(x), tf.roll)

    def confirm(self, x):
        z = self._bent(super().confirm(x).logits.astype(np.float64), np.roll)
        return Confirmed(z.argmax(axis=1), z.astype(np.float32))


@pytest.mark.parametrize(
    "spec", ["apgd:steps=20,scouts=0", "apgd:steps=20,loss=dlr,scouts=0", "apgd-t:steps=20"]
)
def test_the_scale_of_the_logits_does_not_matter(spec):
    found = []
    for factor in (1.0, 60.0):
        model = Bent((6, 6, 1), 5, seed=21)
        model.factor = factor
        clean = images(model.input_shape, 40, seed=22)
        outcomes = attack(
            *(model, spec.partition(":")[0], "linf", subjects_of(model, clean, (0.03,))),
            spec=spec,
            pixels="float",
            batch=40,
        )
        found.append({o.key for o in outcomes if o.success})
    if (
        spec == "apgd:steps=20,scouts=0"
    ):  # the softmax's temperature moves the weight between the rivals
        assert len(found[1]) >= len(found[0])
    else:
        assert found[0] == found[1]
    assert 4 <= len(found[0]) <= 36


def test_the_published_form_may_miss_a_nearer_class_and_the_scouts_do_not():
    model = LinearModel((6, 6, 1), 10, seed=5)
    clean = images(model.input_shape, 60, seed=6)
    exact, eps = typical(model, clean, "linf")
    must = {str(i) for i, d in enumerate(exact) if d <= 0.98 * eps}
    missed = {}
    for spec in ("apgd:steps=20,scouts=0", "apgd:steps=20", "apgd-t:steps=20"):
        outcomes = attack(
            *(model, "apgd", "linf", subjects_of(model, clean, (eps,))),
            spec=spec,
            pixels="float",
            batch=64,
        )
        missed[spec] = len(must - {o.key for o in outcomes if o.success})
    first, *others = missed.values()
    assert first > 0
    assert others == [0, 0]


def test_all_passes_of_a_gradient_are_asked_at_one_point():
    """On a model that does not answer at random, more passes cost more and change nothing."""
    model = LinearModel((6, 6, 1), 3, seed=24)
    clean = images(model.input_shape, 24, seed=23)
    _, eps = typical(model, clean, "l2")
    answers = []
    for spec in ("apgd:steps=10,scouts=0", "apgd:steps=10,eot=3,scouts=0"):
        outcomes = attack(
            *(model, "apgd", "l2", subjects_of(model, clean, (eps,))),
            spec=spec,
            pixels="float",
        )
        answers.append(sorted((int(o.key), o.success) for o in outcomes))
        robust = {o.gradients for o in outcomes if not o.success}
    assert answers[0] == answers[1]
    assert robust == {33}
