"""Trains ResNet-20 on the road signs, plainly and adversarially: a robust net of real size.

    python -m tests.benchmarks.resnet FOLDER          # about four minutes on two cores, once

FOLDER/resnet/plain.h5 and robust.h5 take 32×32×3 pixels in [0, 1]; FOLDER/resnet/images has the
shipped test signs at that size. Trained on other drawings of them. Both nets are for measuring
speed at a robust accuracy that is neither all nor nothing; nothing is claimed of them otherwise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).parents[2] / "sample_models"
SIDE = 32
EPS = 8 / 255
ATTACK_STEPS = 2  # of PGD, for each update
EPOCHS = {"plain": 8, "robust": 12}
PER_CLASS = 150


def train(folder: Path, seed: int = 0) -> None:
    """Both nets and their images; what is there already is kept."""
    import keras
    import tensorflow as tf

    sys.path.insert(0, str(SAMPLES))
    import training
    from render_signs import CLASSES, render

    from tests.benchmarks.nets import resnet20

    folder.mkdir(parents=True, exist_ok=True)
    test, test_labels = _shipped(folder / "images")
    missing = {name for name in EPOCHS if not (folder / f"{name}.h5").is_file()}
    if not missing:
        return
    labels = np.repeat(np.arange(len(CLASSES)), PER_CLASS)
    x = np.stack(
        [_scaled(render(name, "train", i, seed)) for name in CLASSES for i in range(PER_CLASS)]
    )
    x = x.astype(np.float32) / np.float32(255)
    tf.config.experimental.enable_op_determinism()
    for name in sorted(missing):
        keras.utils.set_random_seed(seed)
        net = resnet20(keras, len(CLASSES))
        eps = EPS if name == "robust" else 0.0
        training.train(
            net, x, labels, epochs=EPOCHS[name], seed=seed, eps=eps, attack_steps=ATTACK_STEPS
        )
        clean = training.clean_accuracy(net, test, test_labels)
        robust = training.pgd_accuracy(net, test, test_labels, EPS)
        print(f"{name}: clean {clean:.1%}, PGD-40 at 8/255 {robust:.1%}", flush=True)
        net.save(folder / f"{name}.h5", include_optimizer=False)


def _scaled(pixels: Any) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _shipped(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The test signs at this size, also written to `folder`: float32 in [0, 1], labels."""
    files = sorted((SAMPLES / "signs" / "images").glob("*/*.png"))
    classes = sorted({file.parent.name for file in files})
    images = []
    for file in files:
        place = folder / file.parent.name / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            images.append(_scaled(np.asarray(image.convert("RGB"))))
        Image.fromarray(images[-1]).save(place)
    labels = np.array([classes.index(file.parent.name) for file in files])
    return np.stack(images).astype(np.float32) / np.float32(255), labels


def main() -> None:
    """Parse, train."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.resnet", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train(options.folder / "resnet", options.seed)


if __name__ == "__main__":
    main()
