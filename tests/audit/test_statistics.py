import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from advcli.audit.statistics import median_distance, proportion, wilson


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case: tuple[int, int]) -> None:
    k, n = case
    theirs = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_nothing_has_no_proportion() -> None:
    assert wilson(0, 0) is None
    assert proportion(0, 0) is None
    assert proportion(1, 4) == 0.25


def test_wilson_covers_what_it_claims() -> None:
    # the exact coverage of a 95 % interval at n = 60, averaged over true shares
    n, total = 60, 0.0
    shares = [i / 40 for i in range(1, 40)]
    for p in shares:
        for k in range(n + 1):
            low, high = wilson(k, n) or (0, 0)
            if low <= p <= high:
                total += math.comb(n, k) * p**k * (1 - p) ** (n - k)
    assert 0.94 < total / len(shares) < 0.96


def test_a_failure_is_infinitely_far() -> None:
    assert median_distance([0.1, 0.3, math.inf]) == 0.3
    assert median_distance([0.1, math.inf, math.inf]) is None
    assert median_distance([0.1, math.inf]) is None
    assert median_distance([]) is None
