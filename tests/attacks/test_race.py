"""Race beside AutoAttack's targeted ascents, and where it gives up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from advcli.images.writer import read_back
from advcli.models import classifier as classifiers
from advcli.models import loader, preprocessing
from tests.attacks.test_contract import attack, subjects_of

DIGITS = Path(__file__).parents[2] / "sample_models" / "digits"
EPS = 0.15


@pytest.fixture(scope="module")
def robust():
    """The adversarially trained digits, and images that it classifies correctly."""
    files = sorted((DIGITS / "images").glob("*/*.png"))[::5]
    pixels = np.stack([read_back(file).reshape(28, 28, 1) for file in files])
    labels = np.array([int(file.parent.name) for file in files])
    model = classifiers.build(loader.load(DIGITS / "robust.h5"), preprocessing.parse("unit", 1))
    right = model.confirm(pixels / np.float32(255)).prediction == labels
    return model, pixels[right]


@pytest.fixture(scope="module")
def raced(robust):
    model, pixels = robust
    return attack(
        model, "race", "linf", subjects_of(model, pixels, (EPS,)), pixels="float", batch=64
    )


def fooled(outcomes):
    return {o.key for o in outcomes if o.success}


def test_fools_what_nine_targeted_ascents_fool_for_a_fraction_of_their_gradients(robust, raced):
    model, pixels = robust
    subjects = subjects_of(model, pixels, (EPS,))
    official = attack(
        model, "apgd-t", "linf", subjects, spec="apgd-t:steps=50", pixels="float", batch=64
    )
    assert 0.1 < len(fooled(official)) / len(subjects) < 0.6
    assert not fooled(official) - fooled(raced)
    spent, theirs = (np.mean([o.gradients for o in runs]) for runs in (raced, official))
    assert spent < theirs / 4


def test_gives_up_early_where_much_is_missing_and_goes_on_where_little_is(robust, raced):
    """What is given up on would not have been fooled by the long ascents either."""
    short = 2 * 9 + 3 * 6
    failed = [o.gradients for o in raced if not o.success]
    assert min(failed) == short
    assert max(failed) >= short + 40
    model, pixels = robust
    kept = [s for s in subjects_of(model, pixels, (EPS,)) if s.key not in fooled(raced)]
    stubborn = attack(
        model, "race", "linf", kept, spec="race:hopeless=1000", pixels="float", batch=64
    )
    assert all(o.gradients == short + 40 + 2 * 201 for o in stubborn)
    assert not fooled(stubborn)
