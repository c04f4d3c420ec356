"""Writes a digits net again in the `.h5` format of Keras 2: keras2_twin.py SOURCE TARGET.

A program of its own, because TF_USE_LEGACY_KERAS holds for a whole process.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import h5py
import tf_keras
from nets import digit_net


def main(source: str, target: str) -> None:
    """Load the weights of the Keras 3 file `source` into a Keras 2 net and save it as `target`."""
    net = digit_net(tf_keras)
    net.load_weights(source)
    net.save(target, include_optimizer=False)
    with h5py.File(target, "r+") as stored:
        config = json.loads(stored.attrs["model_config"])
        for layer in config["config"]["layers"]:
            # tf-keras 2.21 writes it, 2.18 refuses it
            layer["config"].pop("optional", None)
        stored.attrs["model_config"] = json.dumps(config)


if __name__ == "__main__":
    main(*sys.argv[1:])
