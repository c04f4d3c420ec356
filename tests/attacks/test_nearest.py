"""The paths of fmn, ddn, pdpgd and sigma-zero by themselves, and what leads up to them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advcli.attacks.nearest import flat_nearest
from advcli.threats.space import Space
from tests.attacks.test_contract import attack, subjects_of
from tests.support.linear import LinearModel, exact_distance, images

COLOUR = (5, 7, 3)


def excess(name, norm, classes, *, spec, shape=(6, 6, 1), low=0, high=256):
    """Distance / optimum per image; in L0 the pixels more than the optimum."""
    model = LinearModel(shape, classes, seed=21)
    clean = images(shape, 24, seed=22, low=low, high=high)
    exact = np.array([exact_distance(model, image, norm) for image in clean])
    subjects = subjects_of(model, clean)
    outcomes = attack(model, name, norm, subjects, pixels="float", batch=24, spec=spec)
    found = np.full(len(clean), np.inf)
    for outcome in outcomes:
        if outcome.success:
            found[int(outcome.key)] = outcome.distance[norm]
    return found - exact if norm == "l0" else found / exact


@pytest.mark.parametrize(
    ("name", "norm", "median", "most"),
    [
        ("fmn", "linf", 1.005, 1.05),
        ("fmn", "l2", 1.005, 1.05),
        ("fmn", "l1", 1.02, 1.1),
        ("fmn", "l0", 0, 1),
        ("ddn", "l2", 1.005, 1.05),
        ("pdpgd", "l1", 1.03, 1.1),
        ("pdpgd", "linf", 1.03, 1.1),
        ("pdpgd", "l2", 1.03, 1.1),
        ("sigma-zero", "l0", 0, 2),
    ],
)
@pytest.mark.parametrize("box", ["active", "inactive"])
def test_the_path_alone_comes_near_the_optimum(name, norm, median, most, box):
    """Two classes, so that there is nothing to choose; no scout has found the optimum before."""
    low, high = (0, 256) if box == "active" else (100, 156)
    ratio = excess(name, norm, 2, spec=f"{name}:scouts=0", low=low, high=high)
    assert np.median(ratio) <= median
    assert ratio.max() <= most


@pytest.mark.parametrize("name", ["fmn", "sigma-zero"])
@pytest.mark.parametrize("classes", [2, 10])
def test_l0_counts_pixels_of_a_colour_image(name, classes):
    extra = excess(name, "l0", classes, spec=f"{name}:steps=60", shape=COLOUR)
    assert extra.min() >= 0
    assert extra.max() <= 1


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_the_jump_lands_on_the_boundary_at_the_least_distance(norm):
    model = LinearModel(COLOUR, 2, seed=23)
    clean = images(COLOUR, 16, seed=24)
    x0 = tf.constant(clean.astype(np.float32) / np.float32(255))
    z = model.logits(x0).numpy()
    label = z.argmax(axis=1)
    step = (model.W[:, 1] - model.W[:, 0]) * np.where(label == 0, 1.0, -1.0)[:, None]
    g = tf.constant(step.reshape(-1, *COLOUR).astype(np.float32))
    gap = np.abs(z[:, 0] - z[:, 1])
    jump = flat_nearest(x0, g, tf.constant(gap), Space(norm, COLOUR))
    after = model.logits(jump).numpy()
    left = after[np.arange(16), label] - after[np.arange(16), 1 - label]
    assert left.max() <= 1e-5
    exact = [exact_distance(model, image, norm) for image in clean]
    assert Space(norm, COLOUR).distance(jump, x0).numpy() == pytest.approx(exact, rel=1e-4)
