"""Networks that are not shipped: ResNet-20 as on CIFAR, and a small one for any image size.

    python -m tests.benchmarks.nets resnet20:32 FILE.h5 [IMAGES]     # 32×32×3
    python -m tests.benchmarks.nets small:64 FILE.h5 [IMAGES]        # 64×64×3

Random weights; where there is batch normalisation, its statistics are as if trained. IMAGES: a
folder to be filled with noise at that size.

A process of its own, so that whoever measures memory need not import TensorFlow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def resnet20(keras: Any, classes: int = 10, side: int = 32) -> Any:
    """ResNet-20 (He et al. 2015, for CIFAR): side×side×3 in [0, 1] to softmax, untrained.

    Shortcuts that change the shape are 1×1 convolutions.
    """
    layers = keras.layers

    def normalised(x: Any, filters: int, size: int, strides: int) -> Any:
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    inputs = keras.Input((side, side, 3))
    x = layers.ReLU()(normalised(inputs, 16, 3, 1))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            y = layers.ReLU()(normalised(x, filters, 3, strides))
            y = normalised(y, filters, 3, 1)
            shortcut = normalised(x, filters, 1, strides) if strides == 2 else x
            x = layers.ReLU()(layers.Add()([y, shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x), name="resnet20")


def small(keras: Any, classes: int = 10, side: int = 64) -> Any:
    """Three strided convolutions, side×side×3 in [0, 1] to softmax, untrained."""
    layers = keras.layers
    net = [layers.Input((side, side, 3))]
    for filters in (8, 16, 16):
        net += [layers.Conv2D(filters, 3, 2, padding="same", activation="relu")]
    net += [layers.GlobalAveragePooling2D(), layers.Dense(classes, activation="softmax")]
    return keras.Sequential(net, name="small")


def lived_in(model: Any, seed: int) -> None:
    """Batch normalisation as training leaves it: scales, offsets, and statistics of real size."""
    random = np.random.default_rng(seed)
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    for norm in norms:
        norm.gamma.assign(random.uniform(0.5, 1.5, norm.gamma.shape))
        norm.beta.assign(random.normal(0, 0.2, norm.beta.shape))
    for _ in range(30 if norms else 0):
        coarse = random.random((32, 8, 8, 3), np.float32)
        x = coarse.repeat(model.input_shape[1] // 8, axis=1).repeat(
            model.input_shape[2] // 8, axis=2
        )
        model(x, training=True)


def build(name: str, file: Path, seed: int = 0) -> None:
    """Write a network with random weights."""
    import keras

    keras.utils.set_random_seed(seed)
    kind, _, side = name.partition(":")
    net = (resnet20 if kind == "resnet20" else small)(keras, side=int(side))
    lived_in(net, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    net.save(file, include_optimizer=False)


def noise(folder: Path, side: int, count: int, seed: int = 0) -> Path:
    """PNG files of coarse noise, in a flat folder; no TensorFlow."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        random = np.random.default_rng([seed, side, number])
        coarse = Image.fromarray(random.integers(0, 256, (7, 7, 3), np.uint8))
        place = folder / f"{number:05d}.png"
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(place, compress_level=1)
    return folder


if __name__ == "__main__":
    build(sys.argv[1], Path(sys.argv[2]))
    if sys.argv[3:]:
        noise(Path(sys.argv[3]), int(sys.argv[1].partition(":")[2]), 256)
