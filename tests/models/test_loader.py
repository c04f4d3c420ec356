"""Files under wrong names, big weights, both compile paths, and what Keras itself refuses."""

import errno
import json
import shutil
import zipfile

import numpy as np
import pytest

from advcli.errors import ModelError, NoVerdictError
from advcli.lazy import tf
from advcli.models import classifier as classifier_module
from advcli.models import loader
from advcli.models.classifier import build
from advcli.models.loader import load
from advcli.models.preprocessing import PRESETS
from tests.models.support import edit_config, keras, random_pixels, saved, small_cnn

SHAPE = (12, 12, 3)


@pytest.mark.parametrize("extension", ["h5", "keras"])
@pytest.mark.parametrize("name", ["model.bin", "model.h5", "model.keras", "model"])
def test_the_name_does_not_matter(tmp_path, extension, name):
    model = small_cnn()
    path = tmp_path / "renamed" / name
    path.parent.mkdir()
    shutil.copy(saved(model, tmp_path / f"m.{extension}"), path)
    loaded = load(path)
    assert loaded.header.kind == extension
    x = random_pixels(2, SHAPE)
    np.testing.assert_array_equal(np.asarray(loaded.model(x)), np.asarray(model(x)))


@pytest.mark.parametrize("extra", [{}, {"jit_compile": True, "is_legacy_optimizer": False}])
def test_how_an_archive_was_trained_is_no_matter(tmp_path, extra):
    """The second: what Keras 2.14 and 2.15 wrote of an optimizer."""
    model = small_cnn()
    model.compile("adam", "sparse_categorical_crossentropy")
    x = random_pixels(4, SHAPE)
    model.fit(x, np.zeros(4, np.int32), verbose=0)
    path = saved(model, tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    config["compile_config"]["optimizer"]["config"] |= extra
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    np.testing.assert_array_equal(np.asarray(load(path).model(x)), np.asarray(model(x)))


def test_a_full_disk_is_no_damaged_file(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = saved(small_cnn(), tmp_path / "m.h5")
    monkeypatch.setattr(loader.shutil, "copyfile", full)
    with pytest.raises(NoVerdictError, match="no room for a temporary copy") as caught:
        load(path)
    assert "TMPDIR" in caught.value.hint


def test_a_keras_archive_is_normalised_too(tmp_path):
    k = keras()
    model = k.Sequential([k.Input(batch_shape=(7, *SHAPE)), k.layers.Flatten(), k.layers.Dense(3)])
    loaded = load(saved(model, tmp_path / "m.keras"))
    assert loaded.rules == ("fixed-batch-size",)
    assert loaded.model(random_pixels(2, SHAPE)).shape == (2, 3)


@pytest.mark.parametrize("name", ["my layer", "café", "a@b:c", "_x", "\x1b[31m|=1\n<b>\u202e"])
def test_names_that_tensorflow_takes_for_no_part_of_a_graph(tmp_path, name):
    k = keras()
    inner = k.Sequential([k.Input((12, 12, 3)), k.layers.Flatten()], name=f"{name}1")
    dense = k.layers.Dense(3, activation="softmax", name=f"{name}2")
    model = k.Sequential([k.Input((12, 12, 3)), inner, dense], name=name)
    loaded = load(saved(model, tmp_path / "m.keras"))
    assert loaded.rules == ("inner-training", "layer-names")
    x = random_pixels(2, SHAPE)
    logits = tf.function(build(loaded, PRESETS["unit"]).logits, autograph=False)(tf.constant(x))
    np.testing.assert_allclose(tf.nn.softmax(logits), np.asarray(model(x)), atol=1e-6)


def test_big_weights_are_captured_and_both_paths_agree(tmp_path, monkeypatch):
    loaded = load(saved(small_cnn(), tmp_path / "m.h5"))
    x = tf.constant(random_pixels(4, SHAPE))
    answers = []
    for limit in (2**40, 0):
        monkeypatch.setattr(classifier_module, "LARGEST_CONSTANTS", limit)
        classifier = build(loaded, PRESETS["unit"])
        for jit in (False, True):
            compiled = tf.function(classifier.logits, jit_compile=jit, autograph=False)
            answers.append(compiled(x).numpy())
            variables = compiled.get_concrete_function(x).variables
            assert not variables
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-5)


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path = saved(small_cnn(), tmp_path / "m.h5")
    other = saved(small_cnn(classes=3), tmp_path / "n.h5").read_bytes()
    honest = loader.normalise

    def meanwhile(config, version):
        path.write_bytes(other)
        return honest(config, version)

    monkeypatch.setattr(loader, "normalise", meanwhile)
    with pytest.raises(ModelError, match="changed while"):
        load(path)


def test_the_file_is_not_touched(tmp_path):
    path = saved(small_cnn(), tmp_path / "m.h5")
    edit_config(path, lambda c: c["config"]["layers"][0]["config"].update(batch_shape=[9, *SHAPE]))
    before = path.read_bytes()
    assert load(path).rules == ("fixed-batch-size",)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["config"].update(layers=[]),
        lambda config: config["config"].update(layers="none"),
        lambda config: config.update(class_name="Dense"),
        lambda config: config["config"]["layers"][1]["config"].update(filters="six"),
        lambda config: config["config"]["layers"][1]["config"].update(activation="rilu"),
        lambda config: config["config"]["layers"].append(3),
        lambda config: config["config"]["layers"].pop(0),
    ],
)
def test_configurations_that_make_no_model(tmp_path, change):
    path = saved(small_cnn(), tmp_path / "m.h5")
    edit_config(path, change)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("extension", ["h5", "keras"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_long_sequential_model_is_built_once(tmp_path, nested, extension):
    k = keras()
    first = [k.layers.Flatten(), k.layers.Identity(), k.layers.Dense(5)]
    first = [k.Sequential([k.Input(SHAPE), *first])] if nested else first
    model = k.Sequential([k.Input(SHAPE), *first])
    for _ in range(60):
        model.add(k.layers.Activation("relu"), rebuild=False)
    model.add(k.layers.Dense(3))
    loaded = load(saved(model, tmp_path / f"m.{extension}"))
    assert "long-sequential" in loaded.rules
    assert loaded.image.shape == SHAPE
    x = random_pixels(2, SHAPE)
    np.testing.assert_array_equal(np.asarray(loaded.model(x)), np.asarray(model(x)))
