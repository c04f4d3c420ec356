"""Every wrong file gets one true line, and none needs TensorFlow for it."""

import os
import pickle
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

from advcli.errors import ModelError
from advcli.models.header import read_header
from tests.models.support import edit_config, saved, small_cnn


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return saved(small_cnn(), tmp_path_factory.mktemp("header") / "model.h5")


def refusal(path):
    with pytest.raises(ModelError) as caught:
        read_header(path)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_reads_what_is_there(good):
    header = read_header(good)
    assert header.kind == "h5"
    assert header.keras_version is not None
    assert header.keras_version[0] == "3"
    assert header.config["class_name"] == "Sequential"
    assert (3, 3, 3, 6) in header.weight_shapes.values()
    assert len(header.sha256) == 64


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n", "Git LFS"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"hello world, no model here\n", "text file"),
        (b'{"class_name": "Sequential", "config": []}', "JSON"),
        (pickle.dumps({"weights": [1, 2, 3]}), "pickle"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(40), "TensorFlow Lite"),
        (b"\x08\x07\x12\x07pytorch" + bytes(40), "ONNX"),
        (b"\x1f\x8b" + bytes(40), "gzip"),
        (bytes(range(256)) * 8, "no HDF5"),
        (b"PK\x03\x04" + bytes(60), "zip"),
    ],
)
def test_other_files_are_named(tmp_path, content, reason):
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    assert reason in refusal(path)


def test_missing_and_directories(tmp_path):
    assert "no such file" in refusal(tmp_path / "nowhere.h5")
    assert "is a directory" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.h5")
    assert "regular file" in refusal(tmp_path / "pipe.h5")
    (tmp_path / "saved_model.pb").touch()
    assert "SavedModel" in refusal(tmp_path)


def test_other_zips(tmp_path):
    for member, reason in (
        ("archive/data.pkl", "PyTorch"),
        ("saved_model.pb", "SavedModel"),
        ("deep/model.h5", "holds deep/model.h5"),
        ("readme", "without a Keras model"),
    ):
        path = tmp_path / "model.h5"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"x")
        assert reason in refusal(path)


def test_truncated_anywhere(good, tmp_path):
    whole = good.read_bytes()
    path = tmp_path / "cut.h5"
    for length in (9, 100, 2047, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        message = refusal(path)
        assert "truncated" in message or "damaged" in message


def test_weights_only(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:  # Keras 3's save_weights
        file.create_group("layers/dense/vars")["0"] = np.zeros((3, 2))
    assert "weights only" in refusal(tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
    assert "weights only" in refusal(tmp_path / "b.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["measurements"] = np.zeros(3)
    assert "no Keras model" in refusal(tmp_path / "c.h5")


def test_configuration_is_bounded(good, tmp_path):
    def nested(config):
        inner = config
        for _ in range(80):
            inner["deeper"] = {}
            inner = inner["deeper"]

    path = tmp_path / "deep.h5"
    path.write_bytes(good.read_bytes())
    assert "levels deep" in refusal(edit_config(path, nested))
    many = '{"class_name": "Sequential", "config": [' + "[]," * 300_000 + "[]]}"
    for text, reason in (
        (many, "values"),
        ("[" * 100_000, "JSON"),
        ("[1]", "no model class"),
        ("{", "JSON"),
    ):
        with h5py.File(path, "w") as file:
            file.attrs.create("model_config", text, dtype=h5py.string_dtype())
        assert reason in refusal(path)
    layer = {"class_name": "Activation", "config": {"activation": "relu"}}
    nested = {"class_name": "Sequential", "config": {"layers": [layer]}}
    for layers in ([layer] * 3001, [nested] * 1501):
        path.write_bytes(good.read_bytes())
        edit_config(path, lambda config, layers=layers: config["config"].update(layers=layers))
        assert "layers" in refusal(path)
        edit_config(path, lambda config, layers=layers: config.update(config=layers))
        assert "layers" in refusal(path)
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = 3
    assert "not JSON text" in refusal(path)


@pytest.mark.parametrize("member", ["config.json", "metadata.json", "model.weights.h5"])
def test_archives_that_unpack_to_much_more(good, tmp_path, member):
    """60 KB on disk; as JSON it would take a gigabyte."""
    path = tmp_path / "model.keras"
    members = {"config.json": b'{"class_name": "Sequential"}', "metadata.json": b"{}"}
    members["model.weights.h5"] = good.read_bytes()
    members[member] = b"[" + b"[]," * 10_000_000 + b"[]]"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "unpack to 30,000,004" in refusal(path).replace("unpacks", "unpack")


def test_a_bomb_inside_a_bomb(tmp_path):
    weights = tmp_path / "w.h5"
    with h5py.File(weights, "w") as file:
        data = np.zeros((1000, 20_000), "f4")  # 80 MB, 80 KB with gzip, 1 KB zipped once more
        file.create_dataset("w", data=data, chunks=(1000, 200), compression="gzip")
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", '{"class_name": "Sequential"}')
        archive.write(weights, "model.weights.h5")
    assert "declare 80,000,000 bytes" in refusal(path)


def test_control_characters_stay_out_of_the_message(tmp_path):
    assert "\x1b" not in refusal(tmp_path / "\x1b[31mred\u202e.h5")


def test_needs_no_tensorflow(good):
    code = (
        "import sys; from advcli.models.header import read_header;"
        "from advcli.models.safety import scan; from advcli.models.normalise import normalise;"
        f"h = read_header({str(good)!r}); scan(h); normalise(h.config);"
        "import advcli.models.classifier, advcli.models.auto, advcli.models.gradient;"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
