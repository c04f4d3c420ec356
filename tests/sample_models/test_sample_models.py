"""The shipped images and models are what sample_models/README.md says they are.

Everything is read with Pillow and plain Keras, never through advcli.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

SAMPLES = Path(__file__).parents[2] / "sample_models"
DIGITS = ("digits/cnn.h5", "digits/robust.h5", "digits/masked.h5", "digits/keras2.h5")
MODELS = (*DIGITS, "signs/cnn.h5")
ROW = re.compile(r"^\| `(?P<model>[^`]+)` \| [\d,]+ \| (?P<clean>[\d.]+)% \|", re.MULTILINE)
README = (SAMPLES / "README.md").read_text(encoding="utf-8")
CLAIMED = {row["model"]: float(row["clean"]) / 100 for row in ROW.finditer(README)}


def script(name: str) -> ModuleType:
    """Import sample_models/<name>.py under a name that shadows nothing."""
    spec = importlib.util.spec_from_file_location(f"sample_{name}", SAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def files(part: str) -> list[Path]:
    return sorted((SAMPLES / part / "images").glob("*/*.png"))


@cache
def images(part: str) -> tuple[Any, Any]:
    """Return every image of a part as stored (uint8), and its folder's index."""
    paths = files(part)
    names = sorted({path.parent.name for path in paths})
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    labels = np.array([names.index(path.parent.name) for path in paths])
    return (pixels[..., np.newaxis] if pixels.ndim == 3 else pixels), labels


@cache
def load(model: str) -> Any:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    return keras.models.load_model(SAMPLES / model, compile=False)


@cache
def outputs(model: str) -> Any:
    """Return a Keras 3 model's probabilities for its images, in the range it wants."""
    pixels, _ = images(model.split("/")[0])
    x = pixels.astype(np.float32) / (1 if model.startswith("signs") else 255)
    return load(model).predict(x, batch_size=128, verbose=0)


def accuracy(probabilities: Any, labels: Any) -> float:
    return float(np.mean(np.argmax(probabilities, axis=1) == labels))


def test_folder_is_small_and_complete() -> None:
    stored = [p for p in SAMPLES.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(path.stat().st_size for path in stored) < 8_000_000
    assert (
        set(CLAIMED)
        == set(MODELS)
        == {m.relative_to(SAMPLES).as_posix() for m in stored if m.suffix == ".h5"}
    )


@pytest.mark.parametrize(
    ("part", "classes", "least", "mode", "side"),
    [("digits", 10, 34, "L", 28), ("signs", 12, 25, "RGB", 48)],
)
def test_images_are_8_bit_folders_of_even_size(
    part: str, classes: int, least: int, mode: str, side: int
) -> None:
    paths = files(part)
    assert len({path.read_bytes() for path in paths}) == len(paths)
    _, counts = np.unique(images(part)[1], return_counts=True)
    assert len(counts) == classes
    assert counts.min() >= least
    for path in paths:
        with Image.open(path) as image:
            assert (image.mode, image.size) == (mode, (side, side))


@pytest.mark.parametrize("model", MODELS)
def test_files_hold_a_config_and_no_optimizer(model: str) -> None:
    with h5py.File(SAMPLES / model) as stored:
        assert "model_config" in stored.attrs
        assert "optimizer_weights" not in stored


@pytest.mark.parametrize("model", [m for m in MODELS if m != "digits/keras2.h5"])
def test_clean_accuracy_is_the_one_claimed(model: str) -> None:
    _, labels = images(model.split("/")[0])
    # One image of room: a tie may fall the other way on another processor.
    assert accuracy(outputs(model), labels) == pytest.approx(
        CLAIMED[model], abs=0.0005 + 1 / len(labels)
    )


def test_signs_net_scales_its_own_pixels() -> None:
    assert load("signs/cnn.h5").layers[0].name == "rescaling"
    pixels, labels = images("signs")
    assert (
        accuracy(load("signs/cnn.h5").predict(pixels.astype(np.float32) / 255, verbose=0), labels)
        < 0.5
    )


def test_masked_twin_decides_alike_with_sixty_times_the_logits() -> None:
    assert (outputs("digits/masked.h5").argmax(1) == outputs("digits/cnn.h5").argmax(1)).all()
    plain, masked = (load(f"digits/{name}.h5").get_weights() for name in ("cnn", "masked"))
    for a, b in zip(plain[:-2], masked[:-2], strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(plain[-2:], masked[-2:], strict=True):
        np.testing.assert_allclose(60 * a, b, rtol=1e-6)


def test_keras_2_file_computes_what_the_keras_3_file_does(tmp_path: Path) -> None:
    with h5py.File(SAMPLES / "digits/keras2.h5") as stored:
        assert '"batch_input_shape"' in stored.attrs["model_config"]  # Keras 3 says batch_shape
    pixels, labels = images("digits")
    np.save(tmp_path / "x.npy", pixels.astype(np.float32) / 255)
    code = (
        "import sys, numpy, tf_keras; source, x, y = sys.argv[1:]\n"
        "net = tf_keras.models.load_model(source, compile=False)\n"
        "numpy.save(y, net.predict(numpy.load(x), verbose=0))"
    )
    paths = (SAMPLES / "digits/keras2.h5", tmp_path / "x.npy", tmp_path / "y.npy")
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    probabilities = np.load(tmp_path / "y.npy")
    np.testing.assert_allclose(probabilities, outputs("digits/cnn.h5"), rtol=0, atol=1e-5)
    assert accuracy(probabilities, labels) == pytest.approx(CLAIMED["digits/keras2.h5"], abs=0.004)


def test_noise_moves_neither_and_pgd_tells_them_apart() -> None:
    load("digits/cnn.h5")  # settles Keras's backend before the script imports it
    training = script("training")
    pixels, labels = images("digits")
    x = pixels.astype(np.float32) / 255
    for model, lowest, highest in (("cnn", 0.0, 0.05), ("robust", 0.65, 0.80)):
        net = load(f"digits/{model}.h5")
        clean = accuracy(outputs(f"digits/{model}.h5"), labels)
        assert clean - training.noise_accuracy(net, x, labels, 0.15, repeats=3) <= 0.03
        assert lowest <= training.pgd_accuracy(net, x, labels, 0.15) <= highest


def test_training_pgd_stays_in_the_ball_and_the_box() -> None:
    net = load("digits/cnn.h5")
    pixels, labels = images("digits")
    x = pixels[::20].astype(np.float32) / 255
    adversarial = script("training").pgd(net, 5)(x, labels[::20], np.float32(0.1)).numpy()
    assert 0.05 < np.abs(adversarial - x).max() <= 0.1 + 1e-6
    assert 0 <= adversarial.min() <= adversarial.max() <= 1


def test_signs_follow_from_the_seed() -> None:
    signs = script("render_signs")
    for name in signs.CLASSES:
        first = signs.render(name, "test", 3, seed=0)
        np.testing.assert_array_equal(first, signs.render(name, "test", 3, seed=0))
        for other in (("test", 3, 1), ("test", 4, 0), ("train", 3, 0)):
            assert np.abs(first - signs.render(name, *other).astype(float)).mean() > 5
        stored = np.asarray(Image.open(SAMPLES / f"signs/images/{name}/003.png"), float)
        # Not exactly: another Pillow may draw the edges of a glyph a little differently.
        assert np.abs(first - stored).mean() < 1


def test_digits_are_every_fifth_of_the_set() -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    for digit in range(10):
        source = data.images[data.target == digit][::5] * (255 / 16)
        folder = sorted((SAMPLES / f"digits/images/{digit}").glob("*.png"))
        assert len(folder) == len(source)
        for path, small in zip(folder, source, strict=True):
            image = np.asarray(Image.open(path).resize((8, 8), Image.Resampling.BOX), float)
            assert np.abs(image - small).mean() < 25
