"""Automatic preprocessing: what the evidence excludes, keeps, and cannot tell apart."""

import numpy as np
import pytest
from scipy import stats

from advcli.models.auto import choose_preprocessing, mcnemar, near_chance, wilson
from advcli.models.loader import load
from tests.models.support import keras, saved

SHAPE = (8, 8, 3)


def images(n=200, seed=0):
    """Two classes: the red channel is brighter than the blue one, or darker; 0.25 around grey."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    colour = np.where(labels[:, None] == 0, [0.7, 0.5, 0.3], [0.3, 0.5, 0.7])
    pixels = colour[:, None, None, :] + random.normal(0, 0.2, (n, *SHAPE))
    return (pixels.clip(0, 1) * 255).round().astype(np.uint8), labels


def model_of(tmp_path, *first, scale=1.0):
    """Right on `images` when its input is in units of `scale`."""
    k = keras()
    model = k.Sequential(
        [k.Input(SHAPE), *first, k.layers.GlobalAveragePooling2D(), k.layers.Dense(2)]
    )
    model.layers[-1].kernel.assign(np.array([[1.0, -1], [0, 0], [-1, 1]]) * 9 / scale)
    return model, lambda: load(saved(model, tmp_path / "m.h5"))


def by_name(choice):
    return {candidate.preprocessing.name: candidate for candidate in choice.candidates}


def test_accuracy_excludes_swapped_channels_but_not_scales(tmp_path):
    _, loaded = model_of(tmp_path)
    choice = choose_preprocessing(loaded(), *images())
    assert choice.preprocessing.name == "unit"
    assert choice.preprocessing.evidence.startswith("auto: ")
    assert choice.suspect
    assert not choice.at_chance
    found = by_name(choice)
    assert "McNemar" in found["unit-bgr"].excluded_because
    assert found["raw"].excluded_because == ""
    assert found["unit"].accuracy > 0.95


def test_batchnorm_excludes_scales(tmp_path):
    k = keras()
    layer = k.layers.BatchNormalization()
    _, loaded = model_of(tmp_path, layer, scale=255)
    pixels, labels = images()
    layer.moving_mean.assign(pixels.reshape(-1, 3).mean(axis=0))
    layer.moving_variance.assign(pixels.reshape(-1, 3).astype(float).var(axis=0))
    for known in (labels, None):
        choice = choose_preprocessing(loaded(), pixels, known)
        found = by_name(choice)
        assert choice.preprocessing.name == "raw"
        assert ("BatchNormalization" in found["unit"].excluded_because) == (known is None)
        assert found["unit"].batchnorm_kl > 1
        assert found["raw"].batchnorm_kl < 0.05
        assert (found["raw"].accuracy is None) == (known is None)


def test_a_scaling_layer_inside_decides(tmp_path):
    layers = keras().layers
    for first in (
        layers.Rescaling(1 / 255),
        layers.Rescaling(1 / 127.5, offset=-1),
        layers.Normalization(mean=[120, 115, 105], variance=[60, 60, 60]),
    ):
        _, loaded = model_of(tmp_path, first)
        choice = choose_preprocessing(loaded(), *images())
        assert (choice.preprocessing.flag, choice.suspect) == ("raw", False)
        assert "inside" in choice.reason
    _, loaded = model_of(tmp_path, layers.Rescaling(2, offset=-1))
    assert len(choose_preprocessing(loaded(), *images()).candidates) > 1


def test_no_evidence_is_suspect(tmp_path):
    _, loaded = model_of(tmp_path)
    choice = choose_preprocessing(loaded(), images()[0], None)
    assert (choice.preprocessing.flag, choice.suspect, choice.at_chance) == ("unit", True, False)
    assert "nothing speaks for any" in choice.reason


def test_chance_is_flagged(tmp_path):
    _, loaded = model_of(tmp_path)
    pixels, _ = images()
    labels = np.random.default_rng(1).integers(0, 2, len(pixels))
    assert choose_preprocessing(loaded(), pixels, labels).at_chance


def test_one_image_is_enough_to_run(tmp_path):
    _, loaded = model_of(tmp_path)
    pixels, labels = images(1)
    assert choose_preprocessing(loaded(), pixels, labels).suspect


@pytest.mark.parametrize(("a", "b"), [(0, 0), (3, 1), (0, 7), (40, 12), (120, 121)])
def test_mcnemar(a, b):
    expected = stats.binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 10), (199, 200), (7, 7)])
def test_wilson(k, n):
    interval = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_near_chance():
    assert near_chance(10, 100, 10)
    assert near_chance(14, 100, 10)
    assert not near_chance(30, 100, 10)
    assert not near_chance(2, 3, 2)
    assert near_chance(1, 3, 2)
    assert not near_chance(0, 0, 2)
