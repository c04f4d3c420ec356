"""Folding changes neither logits nor gradients, and happens where it can."""

import numpy as np
import pytest

from advcli.lazy import tf
from advcli.models import classifier as classifiers
from advcli.models.backward import gradient_of
from advcli.models.folding import Folding, fold
from advcli.models.loader import load
from advcli.models.preprocessing import PRESETS
from tests.models.support import keras, random_pixels, saved

SHAPE = (9, 8, 3)


def bn(**options):
    return keras().layers.BatchNormalization(**options)


def trained(model):
    """As if it had been: every weight of a normalisation does something."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if hasattr(layer, "layers"):
            trained(layer)
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([random.uniform(0.3, 2, w.shape) for w in layer.get_weights()])
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(random.normal(size=layer.bias.shape))
    return model


def chain(*layers, ending=True):
    k = keras()
    rest = [k.layers.Flatten(), k.layers.Dense(4)] if ending else []
    return k.Sequential([k.Input(SHAPE), *layers, *rest])


def residual():
    k = keras()
    x = image = k.Input(SHAPE)
    for _ in range(2):
        y = k.layers.ReLU()(bn()(k.layers.Conv2D(3, 3, padding="same", use_bias=False)(x)))
        x = k.layers.ReLU()(k.layers.Add()([x, bn()(k.layers.Conv2D(3, 1)(y))]))
    return k.Model(image, k.layers.Dense(4)(k.layers.Flatten()(x)))


def nested():
    k = keras()
    inner = k.Sequential([k.Input(SHAPE), k.layers.Conv2D(5, 3), bn(), k.layers.ReLU()])
    return chain(inner, k.layers.SpatialDropout2D(0.2))


def foldable():
    """What is folded, built when called, and how many normalisations that are."""
    layers = keras().layers
    return {
        "convolution": (lambda: chain(layers.Conv2D(5, 3, strides=2), bn(), layers.ReLU()), 1),
        "without a bias": (lambda: chain(layers.Conv2D(5, 3, use_bias=False), bn()), 1),
        "without scale": (lambda: chain(layers.Conv2D(5, 3), bn(scale=False)), 1),
        "without offset": (lambda: chain(layers.Conv2D(5, 3), bn(center=False, epsilon=0.1)), 1),
        "depthwise": (lambda: chain(layers.DepthwiseConv2D(3, depth_multiplier=2), bn()), 1),
        "separable": (lambda: chain(layers.SeparableConv2D(5, 3, depth_multiplier=2), bn()), 1),
        "dense": (lambda: chain(layers.Flatten(), layers.Dense(7), bn(), layers.ReLU()), 1),
        "nested": (nested, 1),
        "residual": (residual, 4),
    }


def around(ending):
    """A convolution, and what `ending` makes of it."""
    k = keras()
    image = k.Input(SHAPE)
    return k.Model(image, ending(k.layers.Conv2D(3, 3, padding="same")(image)))


def used_twice():
    k = keras()
    image = k.Input(SHAPE)
    shared = k.layers.Conv2D(3, 3, padding="same")
    return k.Model(image, bn()(shared(shared(image))))


def not_foldable():
    layers = keras().layers
    return {
        "an activation between": lambda: chain(layers.Conv2D(5, 3, activation="relu"), bn()),
        "another axis": lambda: chain(layers.Conv2D(5, 3), bn(axis=1)),
        "before the convolution": lambda: chain(bn(), layers.Conv2D(5, 3)),
        "read by others": lambda: around(
            lambda x: layers.Dense(4)(layers.Flatten()(layers.Add()([x, bn()(x)])))
        ),
        "an output": lambda: around(lambda x: [x, bn()(x)]),
        "used twice": used_twice,
    }


def answers(classifier, x):
    def both(x):
        z = classifier.logits(x)
        return z, gradient_of(tf.reduce_sum(z[:, 0] - 0.5 * z[:, 1] ** 2), x)

    compiled = tf.function(both, autograph=False)
    found = compiled(tf.constant(x))
    operations = compiled.get_concrete_function(tf.constant(x)).graph.get_operations()
    return *(part.numpy() for part in found), [operation.name for operation in operations]


@pytest.mark.parametrize("name", foldable())
def test_logits_and_gradients_stay(tmp_path, monkeypatch, name):
    build, many = foldable()[name]
    loaded = load(saved(trained(build()), tmp_path / "m.h5"))
    x = random_pixels(4, SHAPE)
    folded = classifiers.build(loaded, PRESETS["unit"])
    assert len(fold(loaded.model).biases) == many
    z, g, operations = answers(folded, x)
    assert not [name for name in operations if "batchnorm" in name.lower() and "Rsqrt" in name]
    monkeypatch.setattr(classifiers, "fold", lambda model: Folding({}, ()))
    plain_z, plain_g, operations = answers(classifiers.build(loaded, PRESETS["unit"]), x)
    assert [name for name in operations if "batchnorm" in name.lower() and "Rsqrt" in name]
    np.testing.assert_allclose(z, plain_z, rtol=0, atol=1e-5 * np.abs(plain_z).max())
    np.testing.assert_allclose(g, plain_g, rtol=0, atol=1e-4 * np.abs(plain_g).max())
    expected = np.asarray(loaded.model(x, training=False))
    np.testing.assert_allclose(z, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", not_foldable())
def test_what_cannot_be_folded_is_left_alone(name):
    assert fold(not_foldable()[name]()) == Folding({}, ())


def test_a_fold_that_would_change_the_logits_is_not_taken(tmp_path, monkeypatch):
    model = chain(keras().layers.Conv2D(5, 3), bn())
    loaded = load(saved(trained(model), tmp_path / "m.h5"))

    def wrong(model):
        folding = fold(model)
        return Folding(folding.weights, tuple((n, b + 0.01) for n, b in folding.biases))

    monkeypatch.setattr(classifiers, "fold", wrong)
    classifier = classifiers.build(loaded, PRESETS["unit"])
    assert [finding.check for finding in classifier.findings] == ["folding"]
    x = random_pixels(4, SHAPE)
    np.testing.assert_allclose(answers(classifier, x)[0], classifier.confirm(x).logits, atol=1e-5)
