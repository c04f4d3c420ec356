"""Whole loads: small models of several kinds, saved by Keras, their configuration, weights or bytes
damaged. The only part that needs TensorFlow.
"""

from __future__ import annotations

import io
import json
import math
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from advcli.models.loader import load
from tests.fuzz.files import HDF5_MARKS
from tests.fuzz.mutations import byte_edits, damaged, distorted, tree_edits
from tests.fuzz.parts import Part

KINDS = ("plain", "functional", "nested", "flat")


@cache
def model_file(kind: str, extension: str) -> bytes:
    """What Keras saves of a small model."""
    import keras

    layers = keras.layers
    if kind == "flat":
        model: Any = keras.Sequential(
            [keras.Input((64,)), layers.Dense(4), layers.ReLU(), layers.Dense(3)]
        )
    elif kind == "plain":
        model = keras.Sequential([keras.Input((8, 8, 3)), *_layers(layers)])
    else:
        start = x = keras.Input((8, 8, 3))
        for layer in _layers(layers)[:3]:
            x = layer(x)
        if kind == "nested":
            inner = keras.Model(start, x)
            start = keras.Input((8, 8, 3))
            x = inner(layers.Rescaling(1 / 127.5, -1)(start))
        side = layers.SeparableConv2D(4, 3, padding="same")(start)
        x = layers.Add()([x, side])
        x = layers.Dense(2, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
        model = keras.Model(start, x)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / f"model.{extension}"
        model.save(path)
        return path.read_bytes()


def _layers(layers: Any) -> list[Any]:
    return [
        layers.Conv2D(4, 3, padding="same", kernel_regularizer="l2"),
        layers.BatchNormalization(),
        layers.Activation("relu"),
        layers.Dropout(0.5),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
    ]


def _with_config(kind: str, edits: Any) -> bytes:
    import h5py

    buffer = io.BytesIO(model_file(kind, "h5"))
    with h5py.File(buffer, "r+") as file:
        tree = distorted(json.loads(file.attrs["model_config"]), edits)
        del file.attrs["model_config"]
        file.attrs.create("model_config", json.dumps(tree), dtype=h5py.string_dtype())
    return buffer.getvalue()


def _with_weights(kind: str, edits: Any) -> bytes:
    """Datasets dropped, renamed, of other shapes and types, and attributes that name others."""
    import h5py
    import numpy as np

    buffer = io.BytesIO(model_file(kind, "h5"))
    with h5py.File(buffer, "r+") as file:
        for how, where, shape, dtype in edits:
            datasets: list[str] = []
            file.visititems(
                lambda name, item, found=datasets: (
                    found.append(name) if isinstance(item, h5py.Dataset) else None
                )
            )
            if not datasets:
                break
            name = datasets[where % len(datasets)]
            group = file[name].parent
            if how == "attribute":
                value = np.array([b"weight", b"other"])[: len(shape)]
                file["model_weights"].attrs["layer_names"] = value
            elif how == "name":
                file.move(name, name + "x" * len(shape))
            else:
                value = np.full(shape, math.nan if how == "nan" else 1).astype(dtype)
                del file[name]
                if how != "drop":
                    group[name.rpartition("/")[2]] = value
    return buffer.getvalue()


_kinds = st.sampled_from(KINDS)
_weight_edits = st.lists(
    st.tuples(
        st.sampled_from(("drop", "name", "nan", "shape", "attribute")),
        st.integers(0, 100),
        st.lists(st.integers(0, 5), max_size=5).map(tuple),
        st.sampled_from(("f4", "f2", "f8", "i8", "u1", ">f4", "?", "c8", "S3")),
    ),
    min_size=1,
    max_size=3,
)
_distorted = st.builds(_with_config, _kinds, tree_edits)
_reweighted = st.builds(_with_weights, _kinds, _weight_edits)
_damaged = st.builds(
    lambda kind, extension, edits: damaged(model_file(kind, extension), edits, HDF5_MARKS),
    _kinds,
    st.sampled_from(("h5", "keras")),
    byte_edits,
)


def read(case: bytes, folder: Path) -> None:
    """Loads the file as any command does."""
    path = folder / "model.h5"
    path.write_bytes(case)
    load(path)


PART = Part("loads", st.one_of(*[_distorted] * 4, *[_reweighted] * 2, _damaged), read)
