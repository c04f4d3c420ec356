"""Whatever the child that reads a stranger's HDF5 file does, the parent has one line to say."""

import h5py
import numpy as np
import pytest

from advcli.errors import ModelError
from advcli.models import quarantine
from advcli.models.header import read_header
from tests.models.support import saved, small_cnn


@pytest.fixture
def good(tmp_path):
    return saved(small_cnn(), tmp_path / "model.h5")


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "crashes"),
        ("import os; os.abort()", "crashes"),
        ("import sys; sys.exit(1)", "crashes"),
        ("print('no JSON')", "crashes"),
        ("from resource import *; setrlimit(RLIMIT_CPU, (1, 2))\nwhile True: pass", "needs over"),
        ("import os; os.kill(os.getpid(), 9)", "needs over"),
    ],
)
def test_a_child_that_dies_is_a_refusal(good, monkeypatch, child, reason):
    monkeypatch.setattr(quarantine, "_START", child)
    with pytest.raises(ModelError, match=reason) as caught:
        read_header(good)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_child_that_waits_for_ever_is_ended(good, monkeypatch):
    monkeypatch.setattr(quarantine, "_START", "import time; time.sleep(60)")
    monkeypatch.setattr(quarantine, "_clock", lambda seconds: 1)
    with pytest.raises(ModelError, match="needs over"):
        read_header(good)


def test_limits_hold(good):
    size = 2**30
    with h5py.File(good, "r+") as file:
        file["model_weights"].create_dataset("much", (size,), "u1", chunks=(2**16,))
    found = quarantine.contents(good, good)
    assert size in [item.declared_bytes for item in found.stored]
    with pytest.raises(ModelError, match="memory"):
        quarantine._ask(good, 5, 2**29, "rewrite", str(good), str(good) + ".copy", None)


def test_a_configuration_may_be_long(good, tmp_path):
    quarantine.clean_copy(good, tmp_path / "copy.h5", "x" * 300_000, 2**20, good)
    with h5py.File(tmp_path / "copy.h5") as file:
        assert len(file.attrs["model_config"]) == 300_000


def test_the_copy_is_the_model_without_its_optimizer(tmp_path):
    source, target = tmp_path / "a.h5", tmp_path / "b.h5"
    big = np.zeros(9000, "S20")
    with h5py.File(source, "w", libver="latest") as file:
        file.attrs["model_config"] = "old"
        file.attrs["keras_version"] = "2.3.1"
        group = file.create_group("model_weights/dense/dense")
        group.attrs["weight_names"] = np.array([b"a:0", b"b:0"])
        group.attrs["names"] = big
        data = np.arange(64, dtype=">f2").reshape(8, 8)
        group.create_dataset("a:0", data=data, chunks=(4, 4), compression="gzip", shuffle=True)
        group["again"] = group["a:0"]
        group["a:0"].attrs["dtype"] = "bfloat16"
        file["optimizer_weights/a:0"] = data
        file["text"] = "no number"
        file["model_weights/loop"] = file["model_weights"]
        file["model_weights/soft"] = h5py.SoftLink("/text")
    quarantine.clean_copy(source, target, "new", 2**20, source)
    with h5py.File(target) as file:
        assert dict(file.attrs) == {"model_config": "new", "keras_version": "2.3.1"}
        assert set(file) == {"model_weights"}
        group = file["model_weights/dense/dense"]
        assert group["a:0"].compression is None
        assert group["a:0"].dtype == ">f2"
        assert group["a:0"].attrs["dtype"] == "bfloat16"
        assert group["again"] == group["a:0"]
        np.testing.assert_array_equal(group["a:0"][()], data)
        np.testing.assert_array_equal(group.attrs["names"], big)
        assert list(group.attrs["weight_names"]) == [b"a:0", b"b:0"]
        assert set(file["model_weights"]) == {"dense"}
