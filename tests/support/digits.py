"""The adversarially trained digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from advcli.images.writer import read_back
from advcli.models import classifier as classifiers
from advcli.models import loader, preprocessing

_DIGITS = Path(__file__).parents[2] / "sample_models" / "digits"


def robust_digits(every: int):
    """The model, and every so many-th image if it classifies that correctly."""
    files = sorted((_DIGITS / "images").glob("*/*.png"))[::every]
    pixels = np.stack([read_back(file).reshape(28, 28, 1) for file in files])
    labels = np.array([int(file.parent.name) for file in files])
    model = classifiers.build(loader.load(_DIGITS / "robust.h5"), preprocessing.parse("unit", 1))
    return model, pixels[model.confirm(pixels / np.float32(255)).prediction == labels]
