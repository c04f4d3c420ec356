"""Functions that tf.keras saved as layers: rebuilt where harmless, code everywhere else."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from advcli.errors import ModelError
from advcli.lazy import tf
from advcli.models.candidates import scaled_inside
from advcli.models.loader import load, load_network
from tests.models.support import edit_config, keras, saved

SHAPE = (12, 12, 3)


def functional(path, *operations, end="softmax"):
    """A small classifier behind `operations`: (function, what stands for the input, arguments)."""
    k = keras()
    k.utils.set_random_seed(0)
    inputs = k.Input(SHAPE, name="in")
    x = k.layers.GlobalAveragePooling2D(name="mean")(inputs)
    outputs = k.layers.Dense(3, activation=end, name="end")(x)
    saved(k.Model(inputs, outputs), path)

    def change(config):
        before = "in"
        for i, (function, first, arguments) in enumerate(operations):
            kind = "SlicingOpLambda" if "getitem" in function else "TFOpLambda"
            name = f"tf.{function}_{i}"
            settings = {"name": name, "dtype": "float32", "function": function}
            nodes = [first(before, arguments)]
            layer = {"class_name": kind, "name": name, "config": settings, "inbound_nodes": nodes}
            config["config"]["layers"].insert(1 + i, layer)
            before = name
        mean = next(x for x in config["config"]["layers"] if x["config"]["name"] == "mean")
        mean["inbound_nodes"] = [[[before, 0, 0, {}]]]

    edit_config(path, change)
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = "2.9.0"
    return path


def one(name, arguments):
    return [name, 0, 0, arguments]


def constant(name, arguments):
    return ["_CONSTANT_VALUE", -1, 7.0, {"y": [name, 0, 0], **arguments}]


def both(name, arguments):
    return [[name, 0, 0, arguments], ["in", 0, 0, arguments]]


SLICE = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]
MEANS = [-103.9, -116.8, -123.7]
CASES = {
    "symmetric": (
        [("math.truediv", one, {"y": 127.5, "name": None}), ("math.subtract", one, {"y": 1.0})],
        lambda x: x / 127.5 - 1,
    ),
    "caffe": (
        [
            ("__operators__.getitem", one, {"slice_spec": SLICE}),
            ("nn.bias_add", one, {"bias": MEANS, "data_format": "NHWC"}),
        ],
        lambda x: x[..., ::-1] + np.array(MEANS, np.float32),
    ),
    "from a constant": ([("math.subtract", constant, {"name": None})], lambda x: 7 - x),
    "with itself": (
        [
            ("math.multiply", one, {"y": 2.0}),
            ("__operators__.add", one, {"y": ["in", 0, 0]}),
        ],
        lambda x: 3 * x,
    ),
    "resized": ([("image.resize", one, {"size": [6, 6]})], lambda x: tf.image.resize(x, (6, 6))),
    "cast and clipped": (
        [
            ("cast", one, {"dtype": "float32"}),
            ("clip_by_value", one, {"clip_value_min": 20.0, "clip_value_max": 90.0}),
        ],
        lambda x: np.clip(x, 20, 90),
    ),
    "activation": (
        [("math.subtract", one, {"y": 99.0}), ("nn.relu", one, {"name": None})],
        lambda x: np.maximum(x - 99, 0),
    ),
    "with an axis more": (
        [
            ("__operators__.getitem", one, {"slice_spec": [*SLICE[:1], None]}),
            ("math.reduce_max", one, {"axis": [4]}),
        ],
        lambda x: x,
    ),
    "side by side": (
        [("concat", both, {"axis": 1})],
        lambda x: np.concatenate([x, x], axis=1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rebuilt(tmp_path, name):
    operations, expected = CASES[name]
    path = functional(tmp_path / "m.h5", *operations)
    network = load(path)
    assert "tensor-functions" in network.rules
    x = (np.random.default_rng(0).random((3, *SHAPE)) * 255).astype(np.float32)
    kernel, bias = network.model.get_layer("end").get_weights()
    mean = np.asarray(expected(x)).mean(axis=(1, 2))
    np.testing.assert_allclose(
        network.model(x), tf.nn.softmax(mean @ kernel + bias), rtol=1e-4, atol=1e-6
    )
    assert network.runs == ()


def test_a_softmax_that_was_a_function_is_taken_off(tmp_path):
    path = functional(tmp_path / "m.h5", end=None)

    def change(config):
        settings = {"name": "s", "function": "nn.softmax"}
        layer = {"class_name": "TFOpLambda", "name": "s", "config": settings}
        nodes = [["end", 0, 0, {"axis": -1, "name": None}]]
        config["config"]["layers"].append(layer | {"inbound_nodes": nodes})
        config["config"]["output_layers"] = [["s", 0, 0]]

    assert load(edit_config(path, change)).head.ending == "softmax"


@pytest.mark.parametrize(
    "function", ["io.write_file", "math.truediv.__class__", "py_function", "nn", "", None, ["x"]]
)
def test_every_other_function_is_code(tmp_path, function):
    path = functional(tmp_path / "m.h5", ("math.truediv", one, {"y": 2.0}))

    def change(config):
        config["config"]["layers"][1]["config"]["function"] = function

    with pytest.raises(ModelError, match="runs a TensorFlow function named in the file"):
        load(edit_config(path, change))


def test_what_is_rebuilt_is_bounded(tmp_path):
    path = functional(tmp_path / "m.h5", ("image.resize", one, {"size": [20000, 20000]}))
    with pytest.raises(ModelError, match="computes 1,200,000,000 values from one image"):
        load(path)


def test_images_stay_apart_and_sizes_fixed(tmp_path):
    path = functional(tmp_path / "m.h5", ("concat", both, {"axis": 0}))
    with pytest.raises(ModelError, match="puts images behind each other"):
        load(path)
    path = functional(tmp_path / "m.h5", ("image.resize", one, {"size": ["in", 0, 0]}))
    with pytest.raises(ModelError, match="TFOpLambda"):
        load(path)
    odd = {"slice_spec": [{"class_name": "__tuple__"}]}
    path = functional(tmp_path / "m.h5", ("__operators__.getitem", one, odd))
    with pytest.raises(ModelError, match="no part of a slice"):
        load(path)


@pytest.mark.parametrize(
    ("node", "arguments"),
    [([], {}), (["in"], {}), (["in", 0, 0, 5], {}), ([["in", 0]], {}), ("in", {}), (None, {})],
)
def test_odd_connections_are_an_error_of_the_file(tmp_path, node, arguments):
    path = functional(tmp_path / "m.h5", ("math.square", lambda *_: node, arguments))
    with pytest.raises(ModelError):
        load_network(path)


@pytest.mark.parametrize(
    ("functions", "raw"),
    [
        ([("math.truediv", {"y": 127.5})], True),
        ([("cast", {"dtype": "float32"}), ("nn.bias_add", {"bias": [-103.9, 1, 2]})], True),
        ([("math.truediv", {"y": [0.2, 0.3, 0.2]})], False),
        ([("math.multiply", {"y": 255.0})], False),
        ([("math.abs", {}), ("math.truediv", {"y": 127.5})], False),
    ],
)
def test_scaling_inside_says_that_the_model_takes_raw_pixels(functions, raw):
    layers = [{"class_name": "InputLayer", "config": {"name": "in"}}]
    layers += [
        {"class_name": "TensorFunction", "config": {"function": name, "arguments": arguments}}
        for name, arguments in functions
    ]
    found = scaled_inside(json.loads(json.dumps({"config": {"layers": layers}})))
    assert (found is not None and found[0] == "raw") == raw
