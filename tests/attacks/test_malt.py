"""MALT aims at the class that is nearest, not at the one that is likeliest."""

from __future__ import annotations

import numpy as np
import pytest

from tests.attacks.test_contract import attack, subjects_of, typical
from tests.support.linear import LinearModel, exact_distance, images


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_one_target_is_enough_where_it_is_the_nearest(norm):
    """Where the likeliest class is far away, aiming at it alone fails, and at the nearest not."""
    model = LinearModel((6, 6, 1), 10, seed=31)
    # every second class is almost the one before it: likely beside it, and hardly ever nearer
    model.W[:, 1::2] = model.W[:, ::2] + 0.2 * model.W[:, 1::2]
    model.b = (-0.5 * model.W.sum(axis=0) - 0.02 * (np.arange(10) % 2)).astype(np.float32)
    clean = images(model.input_shape, 80, seed=32, low=100, high=156)
    labels = model.confirm(clean / 255.0).prediction
    z = model.confirm(clean / 255.0).logits.copy()
    z[np.arange(80), labels] = -np.inf
    exact = np.array([exact_distance(model, image, norm) for image in clean])
    likeliest = np.array(
        [
            exact_distance(model, i, norm, int(t))
            for i, t in zip(clean, z.argmax(axis=1), strict=True)
        ]
    )
    eps = float(np.median(exact) * 1.2)
    telling = {str(i) for i in range(80) if exact[i] < 0.98 * eps and likeliest[i] > 1.02 * eps}
    assert len(telling) >= 8
    subjects = [s for s in subjects_of(model, clean, (eps,)) if s.key in telling]
    hit = []
    for spec in ("malt:targets=1,steps=30", "malt:targets=1,steps=30,ranked=1"):
        outcomes = attack(model, "malt", norm, subjects, spec=spec, pixels="float", batch=32)
        hit.append(np.mean([o.success for o in outcomes]))
    near, likely = hit
    assert near >= 0.9  # the estimate does not know the box
    assert likely < 0.5


def test_the_looks_and_the_ascents_are_counted():
    """Three classes: two looks, and two ascents that each ask about their start too."""
    model = LinearModel((6, 6, 1), 3, seed=33)
    clean = images(model.input_shape, 12, seed=34)
    _, eps = typical(model, clean, "linf")
    subjects = subjects_of(model, clean, (0.01 * eps,))
    outcomes = attack(model, "malt", "linf", subjects, spec="malt:steps=20", pixels="float")
    assert {o.gradients for o in outcomes if not o.success} == {2 + 2 * 21}
