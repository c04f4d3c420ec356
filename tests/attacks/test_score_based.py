"""Attacks on scores alone, on linear models: they find most of what lies well within eps.

With a bounded number of queries none of them finds all, and none may find what lies beyond eps.
"""

from __future__ import annotations

import numpy as np
import pytest

from advcli.attacks.registry import NAMES, attack_class, parse_spec
from advcli.engine.run import Engine
from tests.attacks.expectations import EXPECTED
from tests.attacks.test_contract import subjects_of
from tests.support.linear import LinearModel, exact_distance, images

PAIRS = [(name, norm) for name, entry in EXPECTED.items() for norm in entry.finds]


def test_every_new_attack_on_scores_states_what_it_finds():
    """L0 attacks are held to single pixels instead, in `test_sparse_rs.py`."""
    on_scores = {n for n in NAMES if attack_class(n).access == "scores"} - {"random-search"}
    expected = {(n, p) for n in on_scores for p in attack_class(n).norms if p != "l0"}
    assert set(PAIRS) == expected


@pytest.mark.parametrize(("name", "norm"), PAIRS)
@pytest.mark.parametrize(
    ("shape", "classes", "low", "high"), [((6, 6, 1), 10, 0, 256), ((5, 7, 3), 2, 100, 156)]
)
def test_most_of_what_is_well_within_eps_is_found(name, norm, shape, classes, low, high):
    model = LinearModel(shape, classes, seed=5)
    clean = images(shape, 40, seed=6, low=low, high=high)
    exact = np.array([exact_distance(model, image, norm) for image in clean])
    eps = float(np.median(exact))
    engine = Engine(model, batch_size=64, pixels="float", seed=0)
    attack = parse_spec(EXPECTED[name].fast, norm).attack
    found = {
        o.key for o in engine.run(attack, norm, subjects_of(model, clean, (eps,))) if o.success
    }
    share, rate = EXPECTED[name].finds[norm]
    within = {str(i) for i, d in enumerate(exact) if d <= share * eps}
    assert len(within) >= 7
    assert len(found & within) >= rate * len(within)
    assert not found & {str(i) for i, d in enumerate(exact) if d > eps * (1 + 1e-5)}
