"""Small Keras models, files and zoo images that the tests of this folder share."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from advcli.models import runtime

ZOO = Path(__file__).resolve().parents[2] / "../shared/zoo"
needs_zoo = pytest.mark.skipif(not ZOO.exists(), reason="the zoo of real models is not here")


def keras():
    """Keras, started as the library starts it."""
    runtime.prepare("cpu")
    import keras

    return keras


def small_cnn(*ending, classes=5, shape=(12, 12, 3), seed=0):
    """Conv, pool, dense; `ending` replaces the last dense softmax layer."""
    k = keras()
    k.utils.set_random_seed(seed)
    layers = k.layers
    ending = ending or (layers.Dense(classes, activation="softmax"),)
    return k.Sequential(
        [
            k.Input(shape),
            layers.Conv2D(6, 3, activation="relu", kernel_initializer="he_normal"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            *ending,
        ]
    )


def saved(model, path):
    """Saves in the format that the extension names, and returns the path."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras 3 against NumPy 2, its own
        model.save(path)
    return path


def random_pixels(n, shape, seed=0):
    return np.random.default_rng(seed).random((n, *shape), dtype=np.float32)


def edit_config(path, change):
    """Applies `change` to the configuration inside an HDF5 model file."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        changed = change(config) or config
        del file.attrs["model_config"]
        file.attrs.create("model_config", json.dumps(changed), dtype=h5py.string_dtype())
    return path


def zoo_images(name, shape):
    """uint8 pixels [n, H, W, C] and labels of one of the zoo's class folders."""
    pixels, labels = [], []
    folders = sorted(folder for folder in (ZOO / "images" / name).iterdir() if folder.is_dir())
    for label, folder in enumerate(folders):
        for file in sorted(folder.iterdir()):
            with Image.open(file) as image:
                mode = "L" if shape[2] == 1 else "RGB"
                image = image.convert(mode).resize(shape[1::-1], Image.Resampling.BILINEAR)
                pixels.append(np.asarray(image).reshape(shape))
            labels.append(label)
    return np.stack(pixels), np.array(labels)
