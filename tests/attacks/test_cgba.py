"""CGBA: low frequencies where they help, all of them in the end; the targeted form."""

from __future__ import annotations

import numpy as np
import scipy.fft

from advcli.engine.jobs import Subject
from tests.attacks.test_decision import run, subjects
from tests.support.linear import LinearModel, exact_distance, images

SHAPE = (12, 12, 1)


def ratios(model, spec, clean):
    exact = np.array([exact_distance(model, image, "l2") for image in clean])
    outcomes = run(model, "cgba", subjects(model, clean), spec=spec)
    assert all(o.success for o in outcomes)
    return np.median([o.distance["l2"] for o in outcomes] / exact)


def test_a_smooth_model_is_beaten_sooner_in_low_frequencies():
    model = LinearModel(SHAPE, 2, seed=1)
    coefficients = np.zeros((12, 12, 2))
    coefficients[:3, :3] = np.random.default_rng(2).normal(size=(3, 3, 2)) / 3
    smooth = scipy.fft.idctn(coefficients, axes=(0, 1), norm="ortho")
    model.W = smooth.reshape(-1, 2).astype(np.float32)
    model.b = (-0.5 * model.W.sum(axis=0)).astype(np.float32)
    clean = images(SHAPE, 16, seed=3, low=60, high=196)
    low = ratios(model, "cgba:queries=250", clean)
    full = ratios(model, "cgba:queries=250,factor=1", clean)
    assert low < 1.1
    assert low < 0.9 * full


def test_the_search_widens_where_low_frequencies_are_not_enough():
    model = LinearModel(SHAPE, 3, seed=4)  # as much of every frequency
    clean = images(SHAPE, 16, seed=5, low=60, high=196)
    narrow = ratios(model, "cgba:queries=3000,widen=0", clean)
    widened = ratios(model, "cgba:queries=3000", clean)
    assert widened < 1.2
    assert widened < 0.7 * narrow


def test_targeted_form_starts_from_the_image_of_the_target_class():
    """One start is tried: the image of the target class, where one is given."""
    model = LinearModel((6, 6, 1), 3, seed=6)
    clean = images((6, 6, 1), 200, seed=7)
    labels = model.confirm(clean / 255.0).prediction
    goal = np.where(model.W[:, 2] > np.maximum(model.W[:, 0], model.W[:, 1]), 255, 0)
    start = goal.reshape(6, 6, 1).astype(np.uint8)
    assert model.confirm(start[None] / 255.0).prediction == [2]
    picked = np.flatnonzero(labels != 2)[:8]
    found = {}
    for given in (start, clean[picked[0]]):
        wanted = [
            Subject(str(i), clean[n], int(labels[n]), f"image {n}", (), 2, given)
            for i, n in enumerate(picked)
        ]
        outcomes = run(model, "cgba", wanted, spec="cgba:queries=1500,factor=1,starts=1")
        found[given is start] = outcomes
    assert all(o.success and o.prediction == 2 for o in found[True])
    exact = np.array([exact_distance(model, clean[n], "l2", target=2) for n in picked])
    ratio = np.array([o.distance["l2"] for o in found[True]]) / exact
    assert ratio.min() >= 1 - 1e-4
    assert np.median(ratio) < 1.2
    assert not any(o.success for o in found[False])
