"""What the decision-based attacks share, and what holds for each of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advcli.attacks.base import Row
from advcli.attacks.decision import Bracket, Estimate, no_estimate, on_circle, until_first
from advcli.attacks.registry import NAMES, attack_class, parse_spec
from advcli.engine.jobs import Subject
from advcli.engine.run import Engine
from advcli.threats.losses import Goal
from tests.attacks.expectations import EXPECTED
from tests.support.linear import LinearModel, exact_distance, images

DECISION = [n for n in NAMES if attack_class(n).access == "decision" and attack_class(n).norms]
WALKS = [n for n in DECISION if attack_class(n).kind == "minimum-norm"]
SHAPE = (6, 6, 1)


def row_of(x0):
    count = len(x0)
    zeros = tf.zeros([count], tf.int32)
    return Row(
        x0=tf.constant(x0),
        goal=Goal(zeros, zeros - 1),
        eps=tf.fill([count], float("inf")),
        key=tf.zeros([count, 2], tf.uint32),
        restart=zeros,
        start=tf.constant(x0),
    )


@pytest.mark.parametrize("count", [8, 32])
@pytest.mark.parametrize(("unmet", "met"), [(0.0, 1.0), (1.5, 0.25)])
def test_rounds_of_a_search_are_a_binary_search(count, unmet, met):
    edges = np.array([0.02, 0.3, 0.511, 0.97, 1.0], np.float32)  # shares of the way
    rows = len(edges)
    bracket = Bracket(tf.fill([rows], unmet), tf.fill([rows], met))
    low, high = np.zeros(rows), np.ones(rows)
    levels = int(np.log2(count))
    for _ in range(2):
        share = (bracket.rungs(count).numpy() - unmet) / (met - unmet)
        bracket = bracket.narrowed(tf.constant(share >= edges[:, None]))
        for _ in range(levels):
            middle = (low + high) / 2
            hit = middle >= edges
            low, high = np.where(hit, low, middle), np.where(hit, middle, high)
    for got, wanted in ((bracket.unmet, low), (bracket.met, high)):
        assert np.allclose((got.numpy() - unmet) / (met - unmet), wanted, atol=1e-5)
    assert float(bracket.met[-1]) == met  # never adversarial on the way: the end itself, exactly


def test_only_what_comes_before_the_first_success_is_asked():
    met = tf.constant([[False, True, True, False], [False] * 4, [True] * 4])
    asked = [[True, True, False, False], [True] * 4, [True, False, False, False]]
    assert until_first(met).numpy().tolist() == asked


def test_circle_goes_from_x_to_the_clean_image():
    random = np.random.default_rng(0)
    x0 = np.full((3, *SHAPE), 0.5, np.float32)
    x = x0 + random.normal(size=x0.shape).astype(np.float32) * 0.05
    delta = (x - x0).reshape(3, -1)
    across = random.normal(size=delta.shape)
    across -= (across * delta).sum(1, keepdims=True) * delta / (delta**2).sum(1, keepdims=True)
    across = (across / np.linalg.norm(across, axis=1, keepdims=True)).astype(np.float32)
    angle = np.linspace(0, np.pi / 2, 5, dtype=np.float32)
    sideways = tf.constant(across.reshape(3, 1, *SHAPE))
    points = on_circle(row_of(x0), tf.constant(x), sideways, tf.tile(angle[None], [3, 1])).numpy()
    assert np.allclose(points[:, 0], x, atol=1e-6)
    assert np.allclose(points[:, -1], x0, atol=1e-6)
    reach = np.linalg.norm((points - x0[:, None]).reshape(3, 5, -1), axis=2)
    radius = np.linalg.norm(delta, axis=1)
    assert np.allclose(reach, radius[:, None] * np.cos(angle), atol=1e-5)


def test_estimate_finds_the_normal_whatever_share_of_answers_is_positive():
    random = np.random.default_rng(1)
    normal = random.normal(size=SHAPE)
    normal /= np.linalg.norm(normal)
    for offset in (0.0, 1.0):
        estimate = no_estimate(row_of(np.zeros((1, *SHAPE), np.float32)))
        for _ in range(40):
            u = random.normal(size=(1, 32, *SHAPE)).astype(np.float32)
            met = (u * normal).sum(axis=(2, 3, 4)) + offset > 0
            estimate = estimate.plus(tf.constant(u), tf.constant(met), tf.constant([1250]))
        assert int(estimate.asked[0]) == 1250  # the last 30 are beyond what was wanted
        found = estimate.normal().numpy()[0]
        assert (found * normal).sum() / np.linalg.norm(found) > 0.95
    same = Estimate(tf.constant([4]), *(tf.ones([1, *SHAPE]) * s for s in (2.0, -2.0)), [-4.0])
    assert (same.normal().numpy() < 0).all()


def subjects(model, pixels):
    labels = model.confirm(pixels / 255.0).prediction
    return [
        Subject(str(i), image, int(label), f"image {image.tobytes().hex()[:64]}")
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True))
    ]


def run(model, name, wanted, pixels="float", spec=""):
    asked = parse_spec(spec or EXPECTED[name].fast or name, "l2")
    engine = Engine(model, batch_size=256, pixels=pixels, seed=0)
    return sorted(engine.run(asked.attack, "l2", wanted), key=lambda o: int(o.key))


@pytest.mark.parametrize("name", WALKS)
def test_an_image_without_a_start_costs_only_itself(name):
    """Class 1 is a pattern that no random image has: nothing leads there from class 0."""
    model = LinearModel(SHAPE, 2)
    pattern = np.zeros(36)
    pattern[:20] = np.tile([1.0, -1.0], 10)
    model.W = np.stack([np.zeros(36), pattern], axis=1).astype(np.float32)
    model.b = np.array([0.0, -0.5 * pattern.sum() - 8.0], np.float32)
    clean = images(SHAPE, 8)
    clean.reshape(8, -1)[4:, :20] = np.tile([255, 0], 10)
    outcomes = run(model, name, subjects(model, clean))
    assert [o.success for o in outcomes] == [False] * 4 + [True] * 4
    lost = outcomes[0]
    assert lost.forwards == parse_spec(name).attack.starts + 1  # and one to confirm


@pytest.mark.parametrize("pixels", [pytest.param("float", marks=pytest.mark.slow), "uint8"])
@pytest.mark.parametrize(
    ("spec", "budgets", "unused", "most"),
    [
        ("cgba:factor=1", (100, 400, 1600), 15, np.inf),
        ("surfree:frequencies=1", (100, 400, 1600), 15, np.inf),
        ("boundary", (100, 300, 900), 0, 1.1),
    ],
)
def test_budget_is_kept_to_the_query_and_used(spec, budgets, unused, most, pixels):
    """The last queries need not fill a whole search; more of them lead nearer."""
    model = LinearModel(SHAPE, 3, seed=1)
    clean = images(SHAPE, 12, seed=2)
    exact = np.array([exact_distance(model, image, "l2") for image in clean])
    name, mark, options = spec.partition(":")
    medians = []
    for queries in budgets:
        asked = f"{name}:{options}{',' if mark else ''}queries={queries}"
        outcomes = run(model, name, subjects(model, clean), pixels, asked)
        forwards = [o.forwards for o in outcomes]
        assert max(forwards) <= queries + 1  # the confirmation
        assert min(forwards) >= queries - unused
        medians.append(np.median([o.distance["l2"] for o in outcomes] / exact))
    assert medians[2] < medians[1] < medians[0]
    assert medians[2] < most
