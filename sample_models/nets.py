"""The architectures of the sample models, for either Keras: pass `keras` or `tf_keras`."""

from __future__ import annotations

from typing import Any


def digit_net(keras: Any) -> Any:
    """Return an untrained digits net: 28×28×1 in [0, 1] to ten softmax probabilities."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(name="pool2"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv3"),
            layers.Flatten(name="flatten"),
            layers.Dense(48, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax", name="classes"),
        ],
        name="digits",
    )


def sign_net(keras: Any, classes: int) -> Any:
    """Return an untrained signs net: 48×48×3 in [0, 255], which it scales itself, to softmax."""
    layers = keras.layers
    net = [layers.Input((48, 48, 3)), layers.Rescaling(1 / 255, name="rescaling")]
    for stage, filters in enumerate((16, 24, 32, 48), start=1):
        net += [
            layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{stage}"),
            layers.BatchNormalization(momentum=0.9, name=f"norm{stage}"),
            layers.ReLU(name=f"relu{stage}"),
            layers.MaxPooling2D(name=f"pool{stage}"),
        ]
    net += [
        layers.Flatten(name="flatten"),
        layers.Dropout(0.3, name="dropout"),
        layers.Dense(classes, activation="softmax", name="classes"),
    ]
    return keras.Sequential(net, name="signs")
