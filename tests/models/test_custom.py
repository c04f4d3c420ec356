"""Layers that Keras does not know: refused, until the user says what they are."""

from __future__ import annotations

import numpy as np
import pytest

from advcli.errors import ModelError, UsageError
from advcli.models.custom import custom_names, load_objects, under_all_names
from advcli.models.loader import load
from tests.models.support import edit_config, keras, random_pixels, saved, small_cnn

CODE = """
import keras

class Halve(keras.layers.Layer):
    def call(self, x):
        return x / 2

class Never(keras.layers.Layer):
    pass
"""


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "my layers.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def model_file(tmp_path, code):
    """A CNN with a layer of that code before its end, saved by Keras itself."""
    k = keras()
    halve = load_objects([f"{code}:Halve"])["Halve"]
    model = small_cnn(k.layers.Dense(5), halve(), k.layers.Softmax())
    return saved(model, tmp_path / "m.h5"), model


def test_a_named_layer_is_loaded_and_nothing_else(model_file, code):
    path, model = model_file
    with pytest.raises(ModelError, match=r"'Halve'.*none of Keras's own") as refused:
        load(path)
    assert "--custom-objects FILE.py:NAME" in refused.value.hint
    with pytest.raises(ModelError, match="'Halve'"):
        load(path, custom=load_objects([f"{code}:Never"]))
    loaded = load(path, custom=load_objects([f"{code}:Halve"]))
    x = random_pixels(3, (12, 12, 3))
    np.testing.assert_allclose(loaded.model(x), model(x), atol=1e-6)
    assert loaded.runs == ()


def test_a_name_within_a_package(model_file, code):
    path, _ = model_file
    edit_config(path, lambda c: c["config"]["layers"][-2].update(class_name="Mine>Halve"))
    objects = load_objects([f"{code}:Halve"])
    assert set(under_all_names(["Mine>Halve", "Mine>Other"], objects)) == {"Halve", "Mine>Halve"}
    assert load(path, custom=objects).head.class_count == 5


def test_the_size_is_bounded_beside_custom_layers(model_file, code):
    path, _ = model_file

    def change(config):
        dense = next(x for x in config["config"]["layers"] if x["class_name"] == "Dense")
        dense["config"]["units"] = 2**22

    with pytest.raises(ModelError, match="its configuration needs"):
        load(edit_config(path, change), custom=load_objects([f"{code}:Halve"]))


def test_code_in_the_file_stays_refused(tmp_path, code):
    k = keras()
    model = small_cnn(k.layers.Dense(5), k.layers.Lambda(lambda x: x / 2), k.layers.Softmax())
    path = saved(model, tmp_path / "m.h5")
    with pytest.raises(ModelError, match="Python code stored in the file"):
        load(path, custom=load_objects([f"{code}:Halve"]))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("Halve", "names no object"),
        ("layers.py:", "names no object"),
        ("layers.py:not a name", "names no object"),
        ("nowhere.py:Halve", "no such file"),
        ("no_such_module_at_all:Halve", "cannot be imported: ModuleNotFoundError"),
        ("{code}:Missing", "has no 'Missing'"),
        ("{broken}:Halve", "cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_had(tmp_path, code, spec, reason):
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    with pytest.raises(UsageError, match=reason):
        load_objects([spec.format(code=code, broken=broken)])


def test_names_need_no_import():
    assert custom_names(["a.py:B", "pkg.mod:C"]) == {"B", "C"}
