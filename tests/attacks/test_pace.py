"""Searches that are given up: never one that would have arrived, and most that would not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advcli.attacks.pace import Course, unknown
from advcli.images.writer import read_back
from advcli.lazy import tf
from advcli.models import classifier as classifiers
from advcli.models import loader, preprocessing
from tests.attacks.test_contract import attack, subjects_of

DIGITS = Path(__file__).parents[2] / "sample_models" / "digits"
EPS = 0.15


def given_up(scores, first):
    """scores [S, T], the best so far after each call -> the call after which each was, or -1."""
    scores = np.asarray(scores, np.float32)
    rows, total = scores.shape
    course, pace = Course(total - 1, first), unknown(tf.zeros([rows]))
    ended = np.full(rows, -1)
    for n in range(total):
        pace, behind = course.follow(pace, tf.fill([rows], n), tf.constant(scores[:, n]))
        ended[behind.numpy() & (ended < 0)] = n
    return ended


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 0.95)), min_size=1, max_size=20),
    st.integers(1, 20),
)
def test_a_search_whose_gains_only_shrink_is_not_given_up_if_it_arrives(curves, first):
    """gain(n) = n^power, of which `share` is needed at most: rising ever more slowly."""
    n = np.arange(161.0)
    scores = [(n / 160) ** power - share for power, share in curves]
    assert (given_up(scores, first) == -1).all()


@pytest.mark.parametrize("first", [1, 7, 20])
def test_a_steady_search_is_given_up_exactly_where_it_would_not_arrive(first):
    n = np.arange(161.0)
    short, enough = 0.99 * n / 160 - 1.0, 1.01 * n / 160 - 1.0
    assert given_up([short, enough], first).tolist() == [2 * first, -1]


def test_a_search_that_slows_down_is_given_up_at_the_next_mark():
    n = np.arange(161.0)
    # until 45 it would arrive; after that it gains nothing
    stops = np.minimum(n, 45) / 150 - 1.0
    assert given_up([stops], 10).tolist() == [80]


def test_where_nothing_rises_nothing_is_known():
    assert given_up([np.full(161, -1.0)], 10).tolist() == [-1]


@pytest.fixture(scope="module")
def robust():
    files = sorted((DIGITS / "images").glob("*/*.png"))[::9]
    pixels = np.stack([read_back(file).reshape(28, 28, 1) for file in files])
    labels = np.array([int(file.parent.name) for file in files])
    model = classifiers.build(loader.load(DIGITS / "robust.h5"), preprocessing.parse("unit", 1))
    return model, pixels[model.confirm(pixels / np.float32(255)).prediction == labels]


def both(robust, name, *specs, eps=(EPS,)):
    model, pixels = robust
    subjects = subjects_of(model, pixels, eps)
    for options in specs:
        found = attack(model, name, "linf", subjects, spec=f"{name}:{options}", batch=64)
        yield sorted(found, key=lambda outcome: outcome.key)


@pytest.mark.parametrize(
    ("name", "options", "share"),
    [("apgd", "scouts=0", 0.5), ("apgd-t", "targets=4", 0.4), ("square", "steps=1000", 0.6)],
)
def test_the_same_images_for_fewer_calls(robust, name, options, share):
    whole, shortened = both(robust, name, options, f"{options},give-up=true")
    fooled = {o.key for o in whole if o.success}
    assert {o.key for o in shortened if o.success} == fooled
    assert 0.1 < len(fooled) / len(whole) < 0.6
    failed = [[o for o in runs if not o.success] for runs in (whole, shortened)]
    most, fewer = (np.mean([o.steps for o in runs]) for runs in failed)
    assert 0.1 * most < fewer < share * most


def test_a_patient_fab_comes_as_near_for_fewer_gradients(robust):
    whole, shortened = both(robust, "fab-t", "targets=4", "targets=4,patience=20", eps=())
    assert np.mean([o.gradients for o in shortened]) < 0.45 * np.mean([o.gradients for o in whole])
    longer = [
        b.distance["linf"] / a.distance["linf"] for a, b in zip(whole, shortened, strict=True)
    ]
    assert min(longer) >= 1.0  # the same way, ended sooner
    assert np.mean(longer) < 1.05
    assert max(longer) > 1.0  # and so it was shortened
