"""Makes the sample images and models again from a seed: `python sample_models/build.py`.

Needs the `dev` extra (scikit-learn, tf-keras) and two cores for about three minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Both are read at import time: Keras's backend, and the silence of TensorFlow's start-up.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from render_signs import CLASSES, render

if TYPE_CHECKING:
    from training import Images, Labels

HERE = Path(__file__).parent
Pixels = NDArray[np.uint8]

DIGIT_EPS = 0.15  # the budget of the story: the plain net falls, the robust one stands
TRAIN_EPS = 0.17  # a little more than that, for a margin on held-out images
MASK = 60.0  # logits this much larger saturate the softmax in float32, so its gradient vanishes
SIGNS_TRAIN, SIGNS_TEST = 300, 25  # images per class


def upscale(digit: NDArray[np.float64]) -> Pixels:
    """Return an 8×8 digit with values 0 to 16 as a 28×28 grayscale image (bicubic)."""
    small = Image.fromarray((digit * (255 / 16)).astype(np.float32))
    large = np.asarray(small.resize((28, 28), Image.Resampling.BICUBIC))
    return np.clip(np.rint(large), 0, 255).astype(np.uint8)


def digit_data() -> tuple[Pixels, Labels, NDArray[np.bool_]]:
    """Return all images (n, 28, 28, 1), their labels, and which are held out for testing.

    Held out is every fifth image of each class, from its first, in the data set's own order.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    labels = data.target.astype(np.int64)
    images = np.stack([upscale(digit) for digit in data.images])[..., np.newaxis]
    held_out = np.zeros(len(labels), bool)
    for digit in range(10):
        held_out[np.flatnonzero(labels == digit)[::5]] = True
    return images, labels, held_out


def sign_data(seed: int, split: str, per_class: int) -> tuple[Pixels, Labels]:
    """Return rendered signs (n, 48, 48, 3) and their labels, class after class."""
    labels = np.repeat(np.arange(len(CLASSES)), per_class)
    images = [render(name, split, i, seed) for name in CLASSES for i in range(per_class)]
    return np.stack(images), labels


def write_images(folder: Path, images: Pixels, labels: Labels, names: list[str]) -> None:
    """Write `folder`/<class>/NNN.png, numbered within the class; earlier ones are removed."""
    for old in folder.glob("*/[0-9][0-9][0-9].png"):
        old.unlink()
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images[labels == label]):
            path = folder / name / f"{number:03d}.png"
            Image.fromarray(image.squeeze()).save(path, optimize=True)


def save(net: Any, path: Path) -> None:
    """Save a net without its optimizer, which nobody needs here and which triples the file."""
    net.save(path, include_optimizer=False)


def report(name: str, net: Any, x: Images, y: Labels) -> None:
    """Print a row of the README's table for a digits net."""
    import keras
    import training

    keras.utils.set_random_seed(0)  # PGD's random start: the same whatever ran before
    clean = training.clean_accuracy(net, x, y)
    noise = training.noise_accuracy(net, x, y, DIGIT_EPS)
    robust = training.pgd_accuracy(net, x, y, DIGIT_EPS)
    print(f"| `{name}` | {net.count_params():,} | {clean:.1%} | {noise:.1%} | {robust:.1%} |")


def build_digits(out: Path, seed: int) -> None:
    """Make digits/: held-out images, plain, robust and gradient-masked nets, the Keras 2 file."""
    import keras
    import training
    from nets import digit_net

    images, labels, held_out = digit_data()
    x = images.astype(np.float32) / 255
    test, test_labels = x[held_out], labels[held_out]
    write_images(out / "images", images[held_out], test_labels, [str(d) for d in range(10)])

    for name, epochs, eps in (("cnn.h5", 20, 0.0), ("robust.h5", 60, TRAIN_EPS)):
        print(f"digits/{name}")
        keras.utils.set_random_seed(seed)
        net = digit_net(keras)
        training.train(net, x[~held_out], labels[~held_out], epochs=epochs, seed=seed, eps=eps)
        save(net, out / name)
        report(f"digits/{name}", net, test, test_labels)

    masked = keras.models.load_model(out / "cnn.h5", compile=False)
    head = masked.layers[-1]
    head.set_weights([MASK * weight for weight in head.get_weights()])
    save(masked, out / "masked.h5")
    report("digits/masked.h5", masked, test, test_labels)
    subprocess.run(
        [sys.executable, HERE / "keras2_twin.py", out / "cnn.h5", out / "keras2.h5"], check=True
    )


def build_signs(out: Path, seed: int) -> None:
    """Make signs/: held-out images and a net that takes raw pixels."""
    import keras
    import training
    from nets import sign_net

    images, labels = sign_data(seed, "train", SIGNS_TRAIN)
    test, test_labels = sign_data(seed, "test", SIGNS_TEST)
    write_images(out / "images", test, test_labels, list(CLASSES))

    print("signs/cnn.h5")
    keras.utils.set_random_seed(seed)
    net = sign_net(keras, len(CLASSES))
    training.train(net, images.astype(np.float32), labels, epochs=30, seed=seed)
    save(net, out / "cnn.h5")
    clean = training.clean_accuracy(net, test.astype(np.float32), test_labels)
    print(f"| `signs/cnn.h5` | {net.count_params():,} | {clean:.1%} | – | – |")


def main() -> None:
    """Read the command line, then build what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("digits", "signs"), help="build one of the two")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="default: here")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    for name, build in (("digits", build_digits), ("signs", build_signs)):
        if arguments.only in (None, name):
            (arguments.out / name).mkdir(parents=True, exist_ok=True)
            build(arguments.out / name, arguments.seed)


if __name__ == "__main__":
    main()
