"""The check takes the path whose gradient is right, and names what puts attacks in doubt."""

from types import SimpleNamespace

import numpy as np
import pytest

from advcli.lazy import tf
from advcli.models.classifier import build
from advcli.models.gradient import check_gradient, margin
from advcli.models.loader import load
from advcli.models.preprocessing import PRESETS
from tests.models.support import keras, random_pixels, saved, small_cnn

SHAPE = (12, 12, 3)


class Function:
    """A classifier made of a plain function, for the failures that no small Keras model has."""

    input_shape = SHAPE
    class_count = 3
    findings = ()
    jit_compile = None
    head = SimpleNamespace(ending="logits")

    def __init__(self, logits):
        self.logits = logits


def weights():
    return np.random.default_rng(0).normal(size=(432, 3)).astype(np.float32)


def linear(x):
    return tf.reshape(x, (-1, 432)) @ tf.constant(weights())


def check(classifier, rows=16):
    x = random_pixels(8, SHAPE)
    findings = check_gradient(classifier, x, np.arange(8) % 3, rows)
    return {finding.check: finding.verdict for finding in findings}


@pytest.fixture(autouse=True)
def started():
    keras()


def test_margin():
    logits = tf.constant([[1.0, 3.0, 2.0], [5.0, 1.0, 2.0]])
    np.testing.assert_array_equal(margin(logits, tf.constant([1, 2])), [-1.0, 3.0])


@pytest.mark.parametrize("rows", [1, 5, 16])
def test_a_right_gradient(tmp_path, rows):
    path = saved(small_cnn(keras().layers.Dense(3, activation="softmax")), tmp_path / "m.h5")
    classifier = build(load(path), PRESETS["unit"])
    assert check(classifier, rows) == {"gradient": "ok"}
    assert classifier.jit_compile is False


def test_a_wrong_gradient():
    @tf.custom_gradient
    def wrong(x):
        return linear(x), lambda up: 3 * tf.reshape(up @ tf.constant(weights().T), (-1, *SHAPE))

    classifier = Function(wrong)
    assert check(classifier) == {"gradient": "suspect"}
    assert classifier.jit_compile is False


def test_xla_is_taken_where_only_it_is_right(monkeypatch):
    """A fault of one compile path is staged: the plain graph's gradient comes out tripled."""
    from advcli.models import gradient

    honest = gradient._compile

    def staged(classifier, jit):
        run = honest(classifier, jit)

        def faulty(x, y):
            answer = run(x, y)
            return gradient._Answer(
                answer.logits, 3 * answer.margin_gradient, answer.entropy_gradient
            )

        return run if jit else faulty

    monkeypatch.setattr(gradient, "_compile", staged)
    classifier = Function(linear)
    assert check(classifier) == {"gradient": "ok"}
    assert classifier.jit_compile is True


def test_masked_cross_entropy():
    classifier = Function(lambda x: 1000 * linear(x))
    assert check(classifier) == {"gradient": "ok", "saturated-cross-entropy": "suspect"}


def test_no_gradient_at_all():
    classifier = Function(lambda x: linear(tf.round(x * 255) / 255))
    assert check(classifier)["zero-gradient"] == "suspect"
    assert check(classifier)["gradient"] == "suspect"


def test_a_randomised_model():
    classifier = Function(lambda x: linear(x + 0.1 * tf.random.normal(tf.shape(x))))
    assert check(classifier)["randomised"] == "suspect"


def test_a_model_that_mixes_its_batch():
    classifier = Function(lambda x: linear(x) * tf.linspace(1.0, 2.0, tf.shape(x)[0])[:, None])
    assert check(classifier)["row-position"] == "suspect"


def test_logits_that_are_no_numbers():
    classifier = Function(lambda x: tf.math.log(linear(x) - 1e9))
    assert check(classifier) == {"finite-logits": "suspect"}


def test_saturated_probabilities(tmp_path):
    k = keras()
    inputs = k.Input(SHAPE)
    bodies = [small_cnn(seed=seed) for seed in (1, 2)]
    for body in bodies:
        body.layers[-1].kernel.assign(0 * body.layers[-1].kernel)
        body.layers[-1].bias.assign([900.0, 0, 0, 0, 0])
    model = k.Model(inputs, k.layers.Average()([body(inputs) for body in bodies]))
    classifier = build(load(saved(model, tmp_path / "m.h5")), PRESETS["unit"])
    assert check(classifier)["saturated-probabilities"] == "suspect"
