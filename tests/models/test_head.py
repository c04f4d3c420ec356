"""Peeled logits are the inverse softmax of the model's own output, whatever the ending."""

import numpy as np
import pytest

from advcli.errors import ModelError
from advcli.lazy import tf
from advcli.models.classifier import build
from advcli.models.loader import load
from advcli.models.preprocessing import PRESETS
from tests.models.support import edit_config, keras, random_pixels, saved, small_cnn

SHAPE = (12, 12, 3)


def classifier_of(model, path, **options):
    return build(load(saved(model, path), **options), PRESETS["unit"])


def compiled(classifier, x):
    return tf.function(classifier.logits, autograph=False)(tf.constant(x)).numpy()


def endings():
    k = keras().layers
    return {
        "dense": (k.Dense(5, activation="softmax"),),
        "activation": (k.Dense(5), k.Activation("softmax")),
        "softmax layer": (k.Dense(5), k.Softmax()),
        "trailing dropout": (k.Dense(5, activation="softmax"), k.Dropout(0.5)),
        "nested": (keras().Sequential([keras().Input((150,)), k.Dense(5, activation="softmax")]),),
        "convolution": (
            k.Reshape((5, 5, 6)),
            k.Conv2D(5, 5, activation="softmax"),
            k.Flatten(),
        ),
    }


@pytest.mark.parametrize("name", endings())
@pytest.mark.parametrize("extension", ["h5", "keras"])
def test_softmax_is_taken_off(tmp_path, name, extension):
    model = small_cnn(*endings()[name])
    x = random_pixels(4, SHAPE)
    expected = np.asarray(model(x, training=False))
    classifier = classifier_of(model, tmp_path / f"m.{extension}")
    logits = compiled(classifier, x)
    assert classifier.head.ending == "softmax"
    assert classifier.findings == ()
    np.testing.assert_allclose(tf.nn.softmax(logits).numpy(), expected, atol=1e-6)
    answer = classifier.confirm(x)
    np.testing.assert_array_equal(answer.prediction, expected.argmax(axis=1))
    np.testing.assert_allclose(answer.logits, logits, atol=1e-5)


def test_a_saturated_softmax_keeps_its_logits(tmp_path):
    model = small_cnn(keras().layers.Dense(5, activation="softmax"))
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 1000)
    x = random_pixels(4, SHAPE)
    classifier = classifier_of(model, tmp_path / "m.h5")
    logits = compiled(classifier, x)
    assert (np.asarray(model(x)).max(axis=1) == 1).any()
    assert np.ptp(logits, axis=1).min() > 100
    assert np.isfinite(logits).all()


def test_functional_shared_and_operation_endings(tmp_path):
    k = keras()
    inputs = k.Input(SHAPE)
    body = small_cnn(k.layers.Dense(5))
    model = k.Model(inputs, k.ops.softmax(body(inputs)))
    x = random_pixels(4, SHAPE)
    classifier = classifier_of(model, tmp_path / "m.keras")
    assert classifier.head.ending == "softmax"
    np.testing.assert_allclose(
        tf.nn.softmax(compiled(classifier, x)).numpy(), np.asarray(model(x)), atol=1e-6
    )


def test_sigmoid_unit_becomes_two_classes(tmp_path):
    model = small_cnn(keras().layers.Dense(1, activation="sigmoid"))
    x = random_pixels(6, SHAPE)
    p = np.asarray(model(x))[:, 0]
    classifier = classifier_of(model, tmp_path / "m.h5")
    logits = compiled(classifier, x)
    assert classifier.class_count == 2
    np.testing.assert_array_equal(logits[:, 0], 0)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[:, 1])), p, atol=1e-6)
    np.testing.assert_array_equal(classifier.confirm(x).prediction, (p > 0.5).astype(int))


def test_sigmoids_and_logits(tmp_path):
    model = small_cnn(keras().layers.Dense(4, activation="sigmoid"))
    x = random_pixels(4, SHAPE)
    classifier = classifier_of(model, tmp_path / "a.h5")
    np.testing.assert_allclose(
        tf.sigmoid(compiled(classifier, x)).numpy(), np.asarray(model(x)), atol=1e-6
    )
    assert [finding.check for finding in classifier.findings] == ["sigmoid-outputs"]
    model = small_cnn(keras().layers.Dense(4))
    classifier = classifier_of(model, tmp_path / "b.h5")
    assert classifier.head.ending == "logits"
    np.testing.assert_allclose(compiled(classifier, x), np.asarray(model(x)), atol=1e-5)


def test_tanh_is_taken_off(tmp_path):
    model = small_cnn(keras().layers.Dense(4, activation="tanh"))
    x = random_pixels(4, SHAPE)
    classifier = classifier_of(model, tmp_path / "a.h5")
    assert classifier.head.ending == "tanh"
    np.testing.assert_allclose(np.tanh(compiled(classifier, x)), np.asarray(model(x)), atol=1e-6)
    np.testing.assert_array_equal(
        classifier.confirm(x).prediction, np.asarray(model(x)).argmax(axis=1)
    )
    unit = small_cnn(keras().layers.Dense(1, activation="tanh"))
    unit.compile(loss="hinge")
    y = np.asarray(unit(x))[:, 0]
    classifier = classifier_of(unit, tmp_path / "b.h5")
    logits = compiled(classifier, x)
    assert (classifier.head.ending, classifier.class_count) == ("tanh unit", 2)
    np.testing.assert_allclose(np.tanh(logits[:, 1] / 2), y, atol=1e-6)
    np.testing.assert_array_equal(logits[:, 0], 0)
    np.testing.assert_array_equal(classifier.confirm(x).prediction, (y > 0).astype(int))
    assert [finding.check for finding in classifier.findings] == ["untrained"]


def test_averaged_probabilities_go_through_the_logarithm(tmp_path):
    k = keras()
    inputs = k.Input(SHAPE)
    bodies = [small_cnn(seed=seed)(inputs) for seed in (1, 2)]
    model = k.Model(inputs, k.layers.Average()(bodies))
    x = random_pixels(4, SHAPE)
    classifier = classifier_of(model, tmp_path / "m.h5")
    assert classifier.head.ending == "probabilities"
    assert [finding.check for finding in classifier.findings] == ["log-probabilities"]
    np.testing.assert_allclose(np.exp(compiled(classifier, x)), np.asarray(model(x)), rtol=1e-5)


def two_outputs():
    k = keras()
    inputs = k.Input(SHAPE)
    x = k.layers.GlobalAveragePooling2D()(inputs)
    first = k.layers.Dense(4, activation="softmax", name="kind")(x)
    second = k.layers.Dense(6, activation="softmax", name="colour")(x)
    box = k.layers.Dense(4, name="box")(x)
    return k, inputs, first, second, box


def test_several_outputs(tmp_path):
    k, inputs, first, second, box = two_outputs()
    path = saved(k.Model(inputs, [first, second]), tmp_path / "m.h5")
    with pytest.raises(ModelError, match="2 outputs") as caught:
        load(path)
    assert "0 = kind, 1 = colour" in caught.value.hint
    for output in ("colour", 1, "1"):
        classifier = build(load(path, output=output), PRESETS["unit"])
        assert classifier.class_count == 6
        assert classifier.confirm(random_pixels(3, SHAPE)).logits.shape == (3, 6)
    with pytest.raises(ModelError, match="no output 'size'"):
        load(path, output="size")
    path = saved(k.Model(inputs, [box, first]), tmp_path / "n.h5")
    assert load(path).head.name == "kind"


def refused(model, path, reason):
    with pytest.raises(ModelError, match=reason) as caught:
        load(saved(model, path))
    assert "\n" not in caught.value.message


def test_models_that_classify_no_images(tmp_path):
    k = keras()
    layers = k.layers
    path = tmp_path / "m.h5"
    refused(small_cnn(layers.Dense(1)), path, "estimates a number")
    spatial = k.Sequential([k.Input(SHAPE), layers.Conv2D(4, 3, activation="softmax")])
    refused(spatial, path, "places or boxes")
    table = k.Sequential([k.Input((13,)), layers.Dense(3, activation="softmax")])
    refused(table, path, "13 numbers")
    words = k.Sequential(
        [k.Input((64,)), layers.Embedding(99, 4), layers.Flatten(), layers.Dense(2)]
    )
    refused(words, path, "word")
    bands = k.Sequential([k.Input((8, 8, 13)), layers.Flatten(), layers.Dense(3)])
    refused(bands, path, "13 channels")
    open_size = k.Sequential(
        [k.Input((None, None, 3)), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    )
    refused(open_size, path, "unknown")
    for activation in (None, "tanh"):
        regressor = small_cnn(layers.Dense(4, activation=activation))
        regressor.compile(loss="mse")
        refused(regressor, path, "trained with m")
        assert load(path, output="0").head.class_count == 4
    refused(small_cnn(layers.Dense(1, activation="tanh")), path, "one tanh unit")
    inputs = [k.Input((4,)), k.Input(SHAPE)]
    joined = layers.Concatenate()([inputs[0], layers.Flatten()(inputs[1])])
    refused(k.Model(inputs, layers.Dense(3)(joined)), path, "2 inputs")


@pytest.mark.parametrize(
    ("shape", "pixel_shape"),
    [((784,), (28, 28, 1)), ((3072,), (32, 32, 3)), ((10, 10), (10, 10, 1))],
)
def test_inputs_without_channels(tmp_path, shape, pixel_shape):
    k = keras()
    model = k.Sequential([k.Input(shape), k.layers.Flatten(), k.layers.Dense(3)])
    classifier = classifier_of(model, tmp_path / "m.h5")
    x = random_pixels(3, pixel_shape)
    assert classifier.input_shape == pixel_shape
    expected = np.asarray(model(x.reshape(3, *shape)))
    np.testing.assert_allclose(compiled(classifier, x), expected, atol=1e-5)


def test_dropout_and_augmentation_are_off_and_the_batch_size_is_free(tmp_path):
    k = keras()
    layers = k.layers
    model = k.Sequential(
        [
            k.Input(batch_shape=(32, *SHAPE)),
            layers.RandomFlip(),
            layers.RandomRotation(0.5),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    path = saved(model, tmp_path / "m.h5")
    loaded = load(path)
    assert "fixed-batch-size" in loaded.rules
    classifier = build(loaded, PRESETS["unit"])
    x = random_pixels(5, SHAPE)
    np.testing.assert_array_equal(compiled(classifier, x), compiled(classifier, x))
    plain = x.reshape(5, -1) @ model.layers[-1].kernel.numpy()
    np.testing.assert_allclose(compiled(classifier, x), plain, atol=1e-5)


def test_confirm_pads_and_preprocesses_exactly(tmp_path):
    k = keras()
    model = k.Sequential([k.Input((8, 8, 1)), k.layers.Flatten(), k.layers.Dense(64)])
    model.layers[-1].kernel.assign(np.eye(64))
    loaded = load(saved(model, tmp_path / "m.h5"))
    classifier = build(loaded, PRESETS["raw"], confirm_batch=4)
    levels = np.arange(7 * 64).reshape(7, 8, 8, 1) % 256
    answer = classifier.confirm((levels / 255).astype(np.float32))
    np.testing.assert_array_equal(answer.logits.reshape(levels.shape), levels)
    assert classifier.confirm(np.zeros((0, 8, 8, 1), np.float32)).logits.shape == (0, 64)


def test_an_operation_of_the_wrong_size_is_named(tmp_path):
    path = saved(small_cnn(), tmp_path / "m.h5")
    edit_config(path, lambda config: config["config"]["layers"][-1]["config"].update(units=7))
    with pytest.raises(ModelError, match="Keras cannot load it"):
        load(path)
