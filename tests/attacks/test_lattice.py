"""What a minimum-norm attack finds in float it finds on the 8-bit grid too, about as near."""

from __future__ import annotations

import numpy as np
import pytest

from tests.attacks.expectations import EXPECTED
from tests.benchmarks.lattice import measure
from tests.support.linear import LinearModel, images

SHAPE = (6, 6, 1)


@pytest.mark.parametrize(
    ("name", "norm", "most"),
    [("fmn", "linf", 1 / 255), ("ddn", "l2", 0.03), ("fmn", "l1", 0.02)],
)
def test_files_are_as_near_as_floats(name, norm, most):
    """Linf: the next level at most; L2, L1: a share of the distance, some 15 levels in L2."""
    model = LinearModel(SHAPE, 3, seed=25)
    clean = images(SHAPE, 24, seed=26, low=80, high=176)
    labels = model.confirm(clean / 255.0).prediction
    line = measure(model, clean, labels, EXPECTED[name].fast, norm)
    assert np.isfinite(line.exact).all()
    assert line.survival(line.ours, line.exact) == 1.0
    extra = np.median(line.ours - line.exact)
    assert extra <= most * (1.0 if norm == "linf" else np.median(line.exact)) + 1e-6
    assert line.survival(line.plain, line.exact) < 0.9
