"""Weights as Keras 1 and Theano kept them, against the same network written out in TensorFlow."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from advcli.errors import ModelError
from advcli.lazy import tf
from advcli.models.legacy import turns_of
from advcli.models.loader import load, load_network
from tests.models.support import edit_config, keras, saved

SIDE, CLASSES = 8, 3


def noise(*shape, seed):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def write(path, layers, weights, *, version=None, backend=None):
    """An HDF5 model as Keras 1 wrote it: the layers as a list, names and orders of their own."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers})
        if version:
            file.attrs["keras_version"] = version.encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [layer["config"]["name"].encode() for layer in layers]
        if backend:
            group.attrs["backend"] = backend.encode()
        for layer in layers:
            name = layer["config"]["name"]
            inner, values = group.create_group(name), weights.get(name, [])
            inner.attrs["weight_names"] = [f"{name}_{i}".encode() for i in range(len(values))]
            for i, value in enumerate(values):
                inner[f"{name}_{i}"] = value
    return path


def old(class_name, name, **config):
    return {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}


def layers_of_keras1(ordering):
    shape = (SIDE, SIDE, 3) if ordering == "tf" else (3, SIDE, SIDE)
    trained = {"init": "uniform", "bias": True, "b_constraint": None, "activity_regularizer": None}
    penalty = {"name": "WeightRegularizer", "l1": 0.0, "l2": 0.001}
    return [
        old("ZeroPadding2D", "pad", padding=[1, 1], dim_ordering=ordering)
        | {
            "config": {
                "name": "pad",
                "padding": {"top_pad": 1, "bottom_pad": 0, "left_pad": 2, "right_pad": 0},
                "dim_ordering": ordering,
                "batch_input_shape": [None, *shape],
                "input_dtype": "float32",
            }
        },
        old(
            "Convolution2D",
            "conv",
            nb_filter=5,
            nb_row=3,
            nb_col=2,
            subsample=[1, 2],
            border_mode="valid",
            activation="relu",
            dim_ordering=ordering,
            W_regularizer=penalty,
            **trained,
        ),
        old(
            "BatchNormalization",
            "norm",
            mode=0,
            axis=3 if ordering == "tf" else 1,
            epsilon=1e-3,
            momentum=0.9,
            beta_init="zero",
            gamma_init="one",
        ),
        old("Activation", "act", activation="hard_sigmoid"),
        old("Dropout", "drop", p=0.5),
        old("Flatten", "flat"),
        old("Dense", "dense", output_dim=CLASSES, input_dim=None, activation="softmax", **trained),
    ]


def weights_of(ordering):
    kernel = noise(3, 2, 3, 5, seed=1)  # rows, columns, channels, filters
    width = 5 * 7 * 5  # filters, rows, columns
    return kernel, {
        "conv": [kernel if ordering == "tf" else kernel.transpose(3, 2, 0, 1), noise(5, seed=2)],
        "norm": [noise(5, seed=3), noise(5, seed=4), noise(5, seed=5), noise(5, seed=6) ** 2 + 0.1],
        "dense": [noise(width, CLASSES, seed=7), noise(CLASSES, seed=8)],
    }


def written_out(x, kernel, weights, ordering):
    """The network in plain TensorFlow; `x` is channels-last."""
    y = tf.pad(x, [[0, 0], [1, 0], [2, 0], [0, 0]])
    y = tf.nn.relu(tf.nn.conv2d(y, kernel, (1, 2), "VALID") + weights["conv"][1])
    gamma, beta, mean, variance = weights["norm"]
    y = (y - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    y = tf.clip_by_value(0.2 * y + 0.5, 0, 1)
    if ordering == "th":
        y = tf.transpose(y, (0, 3, 1, 2))
    y = tf.reshape(y, (len(x), -1)) @ weights["dense"][0] + weights["dense"][1]
    return tf.nn.softmax(y).numpy()


@pytest.mark.parametrize("ordering", ["tf", "th"])
@pytest.mark.parametrize(("version", "backend"), [(None, None), ("1.2.2", "theano")])
def test_keras_1(tmp_path, ordering, version, backend):
    kernel, weights = weights_of(ordering)
    path = write(
        tmp_path / "m.h5", layers_of_keras1(ordering), weights, version=version, backend=backend
    )
    loaded = load(path)
    assert loaded.image.shape == (SIDE, SIDE, 3)
    assert ("keras1-kernel-order" in loaded.rules) == (ordering == "th")
    assert ("theano-kernel" in loaded.rules) == (backend == "theano")
    # five filters and, after the convolution, five columns
    assert ("channels-first-bias" in loaded.rules) == (ordering == "th")
    x = noise(4, SIDE, SIDE, 3, seed=0)
    if backend == "theano":  # slides the kernel turned around
        kernel = kernel[::-1, ::-1]
    expected = written_out(x, kernel, weights, ordering)
    outputs = loaded.model(loaded.image.arrange(tf.constant(x)), training=False)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    assert np.ptp(expected) > 0.1


def test_merged_branches_of_keras_1(tmp_path):
    """A functional model, whose layers say what they are merged by."""

    def entry(name):
        return [[[name, 0, 0]]]

    def layer(class_name, name, inbound, **config):
        return {
            "class_name": class_name,
            "name": name,
            "inbound_nodes": inbound,
            "config": {"name": name, **config},
        }

    both = [[["a", 0, 0], ["b", 0, 0]]]
    dense = {"output_dim": 4, "activation": "linear", "bias": True}
    layers = [
        layer("InputLayer", "in", [], batch_input_shape=[None, 64], input_dtype="float32"),
        layer("Dense", "a", entry("in"), **dense),
        layer("Dense", "b", entry("in"), **dense),
        layer("Merge", "sum", both, mode="sum", concat_axis=-1, dot_axes=-1, mode_type="raw"),
        layer("Merge", "cat", both, mode="concat", concat_axis=1, dot_axes=-1, mode_type="raw"),
        *(layer("Merge", mode, both, mode=mode) for mode in ("mul", "ave", "max")),
        layer(
            "Merge",
            "all",
            [[[name, 0, 0] for name in ("sum", "cat", "mul", "ave", "max")]],
            mode="concat",
            concat_axis=1,
        ),
    ]
    config = {"layers": layers, "input_layers": [["in", 0, 0]], "output_layers": [["all", 0, 0]]}
    values = {name: [noise(64, 4, seed=1), noise(4, seed=2)] for name in "ab"}
    values["b"] = [noise(64, 4, seed=3), noise(4, seed=4)]
    path = write(tmp_path / "m.h5", layers, values, version="1.1.0")
    edit_config(path, lambda _: {"class_name": "Model", "config": {"name": "m", **config}})
    x = noise(3, 64, seed=5)
    a, b = (x @ kernel + bias for kernel, bias in (values["a"], values["b"]))
    outputs = load_network(path).model(x, training=False)
    expected = [a + b, a, b, a * b, (a + b) / 2, np.maximum(a, b)]
    np.testing.assert_allclose(outputs, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-5)


def test_gates_that_keras_1_kept_apart(tmp_path):
    """i, c, f, o of an LSTM, each with a kernel, a recurrent kernel and a bias."""
    gates = {gate: [noise(8, 6, seed=i), noise(6, 6, seed=i + 9), noise(6, seed=i + 19)]
             for i, gate in enumerate("icfo")}  # fmt: skip
    layers = [
        old(
            "LSTM",
            "rows",
            output_dim=6,
            activation="tanh",
            inner_activation="hard_sigmoid",
            batch_input_shape=[None, 8, 8],
            input_dtype="float32",
            inner_init="orthogonal",
            forget_bias_init="one",
            consume_less="cpu",
            dropout_W=0.0,
            return_sequences=False,
        ),
        old("Dense", "dense", output_dim=CLASSES, activation="softmax"),
    ]
    dense = [noise(6, CLASSES, seed=40), noise(CLASSES, seed=41)]
    weights = {"rows": [part for gate in gates.values() for part in gate], "dense": dense}
    path = write(tmp_path / "m.h5", layers, weights, version="1.2.2", backend="theano")
    x = noise(2, 8, 8, seed=50)
    h = c = np.zeros((2, 6), np.float32)
    for t in range(8):
        pre = {g: x[:, t] @ w + h @ u + b for g, (w, u, b) in gates.items()}
        i, f, o = (np.clip(0.2 * pre[g] + 0.5, 0, 1) for g in "ifo")
        c = f * c + i * np.tanh(pre["c"])
        h = o * np.tanh(c)
    expected = tf.nn.softmax(h @ dense[0] + dense[1]).numpy()
    loaded = load(path)
    assert "keras1-gates" in loaded.rules
    np.testing.assert_allclose(loaded.model(x, training=False), expected, atol=1e-5)


def test_a_model_within_a_model_is_refused_where_its_kernels_lie_otherwise():
    inner = {
        "class_name": "Sequential",
        "config": {"name": "inner", "layers": [old("Conv2D", "conv", data_format="channels_last")]},
    }
    outer = {"class_name": "Sequential", "config": {"name": "outer", "layers": [inner]}}
    with pytest.raises(ModelError, match="order of Keras 2 with theano"):
        turns_of("m.h5", outer, 2, "theano")
    assert turns_of("m.h5", outer, 2, "tensorflow") == []


def test_hard_sigmoid_depends_on_the_version(tmp_path):
    """Keras 3's is relu6(x + 3) / 6, and stays where Keras 3 saved it."""
    k = keras()
    model = k.Sequential(
        [k.Input((8, 8, 1)), k.layers.Flatten(), k.layers.Dense(4, activation="hard_sigmoid")]
    )
    path = saved(model, tmp_path / "m.h5")
    x = noise(3, 8, 8, 1, seed=0)
    np.testing.assert_allclose(load_network(path).model(x), model(x), atol=1e-6)
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = "2.4.0"
        file["model_weights"].attrs["keras_version"] = "2.4.0"
    kernel, bias = (w.numpy() for w in model.layers[-1].weights)
    expected = np.clip(0.2 * (x.reshape(3, -1) @ kernel + bias) + 0.5, 0, 1)
    np.testing.assert_allclose(load_network(path).model(x), expected, atol=1e-6)
    assert np.abs(expected - np.asarray(model(x))).max() > 0.01


def test_channels_first_on_this_machine(tmp_path):
    """What was saved channels-first computes what its channels-last twin does."""
    k = keras()
    k.utils.set_random_seed(0)

    def build(first):
        form, axis = ("channels_first", 1) if first else ("channels_last", -1)
        shape = (3, 12, 10) if first else (12, 10, 3)
        lay = k.layers
        return k.Sequential(
            [
                k.Input(shape),
                lay.Conv2D(4, 3, padding="same", data_format=form, activation="relu"),
                lay.BatchNormalization(axis=axis),
                lay.DepthwiseConv2D(3, data_format=form),
                lay.MaxPooling2D(2, data_format=form),
                lay.SeparableConv2D(6, 2, data_format=form),
                lay.GlobalAveragePooling2D(data_format=form),
                lay.Dense(4, activation="softmax"),
            ]
        )

    first, last = build(True), build(False)
    last.set_weights(first.get_weights())
    loaded = load(saved(first, tmp_path / "m.h5"))
    assert (loaded.image.shape, loaded.image.layout) == ((12, 10, 3), "channels-first")
    x = noise(3, 12, 10, 3, seed=1)
    outputs = loaded.model(loaded.image.arrange(tf.constant(x)), training=False)
    np.testing.assert_allclose(outputs, last(x, training=False), atol=1e-6)


def test_what_keras_3_trained_keeps_its_bias_along_the_width(tmp_path):
    """Four filters, four columns: the file of Keras 3 computes what it did, an older one what
    Keras 2 did."""
    k = keras()
    k.utils.set_random_seed(0)
    form = {"data_format": "channels_first"}
    model = k.Sequential(
        [
            k.Input((3, 10, 6)),
            k.layers.Conv2D(4, 3, bias_initializer="normal", **form),
            k.layers.GlobalAveragePooling2D(**form),
            k.layers.Dense(3, activation="softmax"),
        ]
    )
    path = saved(model, tmp_path / "m.h5")
    x = noise(2, 3, 10, 6, seed=1)
    loaded = load_network(path)
    assert "channels-first-bias" not in loaded.rules
    np.testing.assert_allclose(loaded.model(x), model(x), atol=1e-6)
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = "2.9.0"
    assert "channels-first-bias" in load_network(path).rules


def test_a_prelu_of_keras_1(tmp_path):
    layers = [
        old("PReLU", "p", init="zero", batch_input_shape=[None, 64], input_dtype="float32"),
        old("Dense", "dense", output_dim=CLASSES, activation="linear"),
    ]
    alpha, kernel, bias = noise(64, seed=1), noise(64, CLASSES, seed=2), noise(CLASSES, seed=3)
    path = write(tmp_path / "m.h5", layers, {"p": [alpha], "dense": [kernel, bias]})
    x = noise(3, 64, seed=4)
    expected = np.where(x > 0, x, alpha * x) @ kernel + bias
    np.testing.assert_allclose(load_network(path).model(x), expected, atol=1e-5)
