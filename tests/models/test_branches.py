"""Of a network that adds up branches, no graph is ever run by two threads at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from advcli.attacks.registry import parse_spec
from advcli.engine.jobs import Subject
from advcli.engine.run import Engine
from advcli.models.branches import adds_branches
from advcli.models.classifier import build
from advcli.models.loader import load
from advcli.models.preprocessing import PRESETS
from tests.models.support import keras, saved


def network(merge):
    layers = keras().layers
    inputs = keras().Input((8, 8, 1))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    if merge is not None:
        x = merge([x, layers.Conv2D(4, 3, padding="same")(x)])
    x = layers.GlobalAveragePooling2D()(x)
    return keras().Model(inputs, layers.Dense(3, activation="softmax")(x))


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        (None, False),
        (lambda pair: keras().layers.Concatenate()(pair), False),
        (lambda pair: keras().layers.Multiply()(pair), False),
        (lambda pair: keras().layers.Add()(pair), True),
        (lambda pair: keras().layers.Average()(pair), True),
        (lambda pair: pair[0] + pair[1], True),
    ],
)
def test_which_networks_add(merge, expected):
    assert adds_branches(network(merge)) is expected


def test_a_nested_network_counts_and_so_does_one_that_cannot_be_seen_into():
    whole = keras().Sequential(
        [keras().Input((8, 8, 1)), network(lambda pair: keras().layers.Add()(pair))]
    )
    assert adds_branches(whole)

    class Own(keras().layers.Layer):
        def call(self, x):
            return x + x

    assert adds_branches(keras().Sequential([keras().Input((8, 8, 1)), Own()]))

    class Subclassed(keras().Model):
        pass

    assert adds_branches(Subclassed())
    inputs = keras().Input((8, 8, 1))
    assert adds_branches(Subclassed(inputs, keras().layers.Flatten()(inputs)))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras().layers.TimeDistributed(keras().layers.Conv1D(4, 3)),
        lambda: keras().layers.ConvLSTM1D(4, 3),
        lambda: keras().layers.Lambda(lambda x: x + x),
    ],
)
def test_a_layer_that_adds_within_itself(layer):
    inputs = keras().Input((8, 8, 1))
    assert adds_branches(keras().Model(inputs, layer()(inputs)))


def test_threads_may_not_share_its_graph(tmp_path):
    path = saved(network(lambda pair: keras().layers.Add()(pair)), tmp_path / "m.h5")
    assert not build(load(path), PRESETS["unit"]).threads_at_once
    path = saved(network(None), tmp_path / "m.h5")
    assert build(load(path), PRESETS["unit"]).threads_at_once


def test_its_answers_are_confirmed_one_after_the_other(tmp_path):
    """Those of a network without branches by two threads at once; the answers are the same."""
    x = np.random.default_rng(0).random((8, 8, 8, 1), dtype=np.float32)
    for merge in (None, lambda pair: keras().layers.Add()(pair)):
        path = saved(network(merge), tmp_path / "m.h5")
        classifier = build(load(path), PRESETS["unit"], confirm_batch=4)
        expected = classifier.confirm(x).logits
        both, inside, most = threading.Barrier(2), [], []
        ask = classifier._confirm

        def watched(fed, merge=merge, both=both, inside=inside, most=most, ask=ask):
            inside.append(1)
            most.append(len(inside))
            if merge is None:
                both.wait(timeout=60)
            answer = ask(fed)
            inside.pop()
            return answer

        classifier._confirm = watched
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(classifier.confirm, (x[:4], x[4:])))
        assert max(most) == (2 if merge is None else 1)
        np.testing.assert_array_equal(np.concatenate([a.logits for a in found]), expected)


def test_two_lanes_answer_what_one_does(tmp_path):
    keras().utils.set_random_seed(1)  # one that is fooled now and then
    path = saved(network(lambda pair: keras().layers.Add()(pair)), tmp_path / "m.h5")
    classifier = build(load(path), PRESETS["unit"])
    pixels = np.random.default_rng(1).integers(0, 256, (96, 8, 8, 1), np.uint8)
    labels = classifier.confirm(pixels / np.float32(255)).prediction
    subjects = [
        Subject(str(i), image, int(label), f"content {i}", (0.02, 0.9))
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True))
    ]
    found = []
    for lanes in (1, 2):
        engine = Engine(classifier, batch_size=16, pixels="uint8", seed=0, lanes=lanes)
        outcomes = engine.run(parse_spec("pgd:steps=20", "linf").attack, "linf", subjects)
        found.append(
            {(o.key, o.eps): (o.success, o.point.tobytes(), o.gradients) for o in outcomes}
        )
    assert found[0] == found[1]
    assert len({success for success, _, _ in found[0].values()}) == 2
