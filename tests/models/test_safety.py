"""Hostile files are refused before anything is loaded; with the user's word, links still are."""

import json
import os

import h5py
import numpy as np
import pytest

from advcli.errors import ModelError
from advcli.lazy import tf
from advcli.models.classifier import build
from advcli.models.header import read_header
from advcli.models.loader import load
from advcli.models.preprocessing import PRESETS
from advcli.models.safety import scan
from tests.models.support import edit_config, keras, saved, small_cnn


@pytest.fixture
def victim(tmp_path):
    return saved(small_cnn(), tmp_path / "model.h5")


def refusal(path, **options):
    with pytest.raises(ModelError) as caught:
        scan(read_header(path), **options)
    assert "\n" not in caught.value.message
    return caught.value.message


def insert(layer, where="top"):
    def change(config):
        layers = config["config"]["layers"]
        if where == "nested":
            layer_ = {"class_name": "Sequential", "config": {"name": "n", "layers": [layer]}}
        elif where == "wrapped":
            layer_ = {"class_name": "TimeDistributed", "config": {"name": "t", "layer": layer}}
        elif where == "in a setting":
            layer_ = {"class_name": "Dense", "config": {"units": 5, "kernel_initializer": layer}}
        else:
            layer_ = layer
        layers.insert(1, layer_)

    return change


@pytest.mark.parametrize("where", ["top", "nested", "wrapped", "in a setting"])
@pytest.mark.parametrize(
    "name",
    [
        "Lambda",
        "__lambda__",
        "TFOpLambda",
        "SlicingOpLambda",
        "TensorFlowOpLayer",
        "TFSMLayer",
        "TorchModuleWrapper",
        "JaxLayer",
        "function",
        "StringLookup",
        "TextVectorization",
        "MyLayer",
    ],
)
def test_class_names_are_an_allow_list(victim, name, where):
    layer = {"class_name": name, "config": {"name": "bad"}}
    message = refusal(edit_config(victim, insert(layer, where)))
    assert name in message


@pytest.mark.parametrize(
    "extra", [{"module": "os"}, {"module": "keras_evil"}, {"registered_name": "pack>Dense"}]
)
def test_foreign_modules(victim, extra):
    layer = {"class_name": "Dense", "config": {"name": "bad", "units": 5}, **extra}
    assert "bad" in refusal(edit_config(victim, insert(layer)))


def test_function_type_key(victim):
    layer = {"class_name": "Dense", "config": {"units": 5, "function_type": "lambda"}}
    assert "function_type" in refusal(edit_config(victim, insert(layer)))


def test_lambda_runs_only_when_allowed(tmp_path):
    k = keras()
    layer = k.layers.Lambda(lambda x: x * 2, output_shape=(250,), name="double")
    path = saved(small_cnn(k.layers.Dense(250), layer, k.layers.Dense(3)), tmp_path / "m.h5")
    assert "'Lambda' (double)" in refusal(path)
    with pytest.raises(ModelError, match="Lambda"):
        load(path)
    loaded = load(path, allow_unsafe=True)
    assert len(loaded.runs) == 1
    assert "double" in loaded.runs[0]


@pytest.mark.parametrize("allow", [False, True])
def test_links_out_of_the_file(victim, tmp_path, allow):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.ones(5, np.float32)
    original = victim.read_bytes()
    for link in (h5py.ExternalLink(str(other), "secret"), h5py.SoftLink("/model_weights")):
        victim.write_bytes(original)
        with h5py.File(victim, "r+") as file:
            file["model_weights/stolen"] = link
        assert "outside itself" in refusal(victim, allow_unsafe=allow)


def test_external_storage_and_virtual_datasets(victim, tmp_path):
    raw = tmp_path / "passwd"
    raw.write_bytes(os.urandom(64))
    original = victim.read_bytes()
    with h5py.File(victim, "r+") as file:
        file["model_weights"].create_dataset("x", (16,), "f4", external=[(str(raw), 0, 64)])
    assert "external storage" in refusal(victim)
    victim.write_bytes(original)
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", (4,))
    with h5py.File(victim, "r+") as file:
        file["model_weights"].create_virtual_dataset("x", layout)
    assert "virtual dataset" in refusal(victim)


def test_shape_bomb(victim):
    with h5py.File(victim, "r+") as file:
        group = file["model_weights"]
        group.create_dataset("bomb", (30_000, 30_000), "f4", chunks=(100, 100), fillvalue=1.0)
    assert "declares 3,600,000,000 bytes" in refusal(victim)


def test_many_small_bombs(victim):
    with h5py.File(victim, "r+") as file:
        for i in range(60):
            file["model_weights"].create_dataset(f"{i}", (200_000,), "f4", chunks=(100,))
    assert "declare" in refusal(victim)


def test_architecture_bomb_is_never_built(victim, tmp_path):
    import resource

    def grow(config):
        dense = {"class_name": "Dense", "config": {"name": "d1", "units": 32768}}
        again = {"class_name": "Dense", "config": {"name": "d2", "units": 32768}}
        config["config"]["layers"][-1:] = [dense, again]

    edit_config(victim, grow)
    keras()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=r"needs 1,\d+,\d+,\d+ parameters"):
        load(victim)
    classifier = build(load(saved(small_cnn(), tmp_path / "next.h5")), PRESETS["unit"])
    tf.function(classifier.logits)(tf.zeros((1, 12, 12, 3)))  # nor along with the next model
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 200e6


def test_activation_bomb(victim):
    def grow(config):
        layer = {"class_name": "UpSampling2D", "config": {"name": "u", "size": [4000, 4000]}}
        shrink = {"class_name": "GlobalAveragePooling2D", "config": {"name": "g"}}
        layers = config["config"]["layers"]
        dense = json.loads(json.dumps(layers[-1]))
        layers[2:] = [layer, shrink, dense]

    edit_config(victim, grow)
    with pytest.raises(ModelError, match="values from one image"):
        load(victim)


def test_a_wrapper_is_no_model(victim):
    """Keras would build whatever layer stands outermost, and nothing of it was bounded."""

    def wrapped(config):
        return {"class_name": "TimeDistributed", "config": {"name": "t", "layer": config}}

    with pytest.raises(ModelError, match="TimeDistributed is the class of no model"):
        load(edit_config(victim, wrapped))


def test_keras_archives_are_scanned_too(tmp_path):
    k = keras()
    layer = k.layers.Lambda(lambda x: x * 2, output_shape=(250,))
    path = saved(small_cnn(k.layers.Dense(250), layer, k.layers.Dense(3)), tmp_path / "m.keras")
    assert "Lambda" in refusal(path)
