"""Searches that are given up: never one that would have arrived, and most that would not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advcli.attacks.pace import Course, unknown
from advcli.attacks.registry import parse_spec
from advcli.engine.run import Engine
from advcli.lazy import tf
from tests.attacks.test_contract import attack, subjects_of
from tests.support.digits import robust_digits

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
    st.integers(8, 20),
)
def test_a_search_whose_gains_only_shrink_is_not_given_up_if_it_arrives(curves, first):
    """gain(n) = n^power, of which `share` is needed at most: rising ever more slowly."""
    n = np.arange(161.0)
    scores = [(n / 160) ** power - share for power, share in curves]
    assert (given_up(scores, first) == -1).all()


@pytest.mark.parametrize("first", [8, 13, 20])
def test_a_steady_search_is_given_up_exactly_where_it_would_not_arrive(first):
    n = np.arange(161.0)
    short, enough = 0.99 * n / 160 - 1.0, 1.01 * n / 160 - 1.0
    assert given_up([short, enough], first).tolist() == [2 * first, -1]


def test_a_search_that_slows_down_is_given_up_at_the_next_mark():
    n = np.arange(161.0)
    # until 45 it would arrive; after that it gains nothing
    stops = np.minimum(n, 45) / 150 - 1.0
    assert given_up([stops], 10).tolist() == [80]


def test_few_calls_say_nothing_about_a_pace():
    short = np.linspace(-1.0, -0.9, 15)
    assert given_up([short], 1).tolist() == [-1]


def test_where_nothing_rises_nothing_is_known():
    assert given_up([np.full(161, -1.0)], 10).tolist() == [-1]


@pytest.fixture(scope="module")
def robust():
    return robust_digits(9)


def both(robust, name, *specs, norm="linf", eps=(EPS,), targets=None):
    model, pixels = robust
    subjects = subjects_of(model, pixels, eps, targets)
    for options in specs:
        found = attack(model, name, norm, subjects, spec=f"{name}:{options}", batch=64)
        yield sorted(found, key=lambda outcome: outcome.key)


@pytest.mark.parametrize(
    ("name", "options", "norm", "eps", "share"),
    [
        ("apgd", "scouts=0", "linf", EPS, 0.65),
        ("apgd-t", "targets=4", "linf", EPS, 0.65),
        ("square", "steps=1000", "linf", EPS, 0.6),
        pytest.param("apgd", "loss=dlr,restarts=2", "l2", 1.8, 0.65, marks=pytest.mark.slow),
        ("apgd-t", "targets=2", "l1", 9.0, 0.9),
    ],
)
def test_the_same_images_for_fewer_calls(robust, name, options, norm, eps, share):
    specs = options, f"{options},give-up=true"
    whole, shortened = both(robust, name, *specs, norm=norm, eps=(eps,))
    fooled = {o.key for o in whole if o.success}
    assert {o.key for o in shortened if o.success} == fooled
    assert 0.1 < len(fooled) / len(whole) < 0.6
    failed = [[o for o in runs if not o.success] for runs in (whole, shortened)]
    most, fewer = (np.mean([o.steps for o in runs]) for runs in failed)
    assert 0.1 * most < fewer < share * most


@pytest.mark.parametrize(("name", "options"), [("apgd", "steps=100"), ("square", "steps=1000")])
def test_towards_a_target_the_log_odds_of_a_success_may_be_negative(robust, name, options):
    model, pixels = robust
    targets = [(s.label + 1) % 10 for s in subjects_of(model, pixels)]
    specs = options, f"{options},give-up=true"
    whole, shortened = both(robust, name, *specs, eps=(0.2,), targets=targets)
    fooled = {o.key for o in whole if o.success}
    assert {o.key for o in shortened if o.success} == fooled
    assert 0.1 < len(fooled) / len(whole) < 0.9
    assert sum(o.steps for o in shortened) < sum(o.steps for o in whole)


@pytest.mark.parametrize("spec", ["apgd:scouts=0,give-up=true", "square:steps=64,give-up=true"])
def test_what_is_crafted_on_a_surrogate_goes_to_its_end(robust, spec):
    """A success there ends nothing, so that nothing is known of what is missing."""
    model, pixels = robust
    engine = Engine(model, batch_size=16, pixels="uint8", seed=0, surrogate=model)
    subjects = subjects_of(model, pixels[:16], (0.02,))
    outcomes = list(engine.run(parse_spec(spec, "linf").attack, "linf", subjects))
    assert {o.steps for o in outcomes} == {101 if "apgd" in spec else 64}


def test_a_patient_fab_comes_as_near_for_fewer_gradients(robust):
    whole, shortened = both(robust, "fab-t", "targets=4", "targets=4,patience=20", eps=())
    assert np.mean([o.gradients for o in shortened]) < 0.45 * np.mean([o.gradients for o in whole])
    longer = [
        b.distance["linf"] / a.distance["linf"] for a, b in zip(whole, shortened, strict=True)
    ]
    assert min(longer) >= 1.0  # the same way, ended sooner
    assert np.mean(longer) < 1.05
    assert max(longer) > 1.0  # and so it was shortened
