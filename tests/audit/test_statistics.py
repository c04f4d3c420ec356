import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from advcli.audit.statistics import (
    mcnemar,
    median_distance,
    paired_difference,
    paired_images_to_settle,
    proportion,
    wilson,
    wilson_images_to_settle,
)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case: tuple[int, int]) -> None:
    k, n = case
    theirs = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_nothing_has_no_proportion() -> None:
    assert wilson(0, 0) is None
    assert paired_difference(0, 0, 0) is None
    assert proportion(0, 0) is None
    assert proportion(1, 4) == 0.25


def bounds(n: int) -> tuple[np.ndarray, np.ndarray]:
    found = [wilson(k, n) or (0, 0) for k in range(n + 1)]
    return np.array([low for low, _ in found]), np.array([high for _, high in found])


def coverage(n: int, shares: np.ndarray) -> np.ndarray:
    """The exact probability that the interval holds the true share, for each of `shares`."""
    low, high = bounds(n)
    holds = (low[None] <= shares[:, None]) & (shares[:, None] <= high[None])
    return (holds * binom.pmf(np.arange(n + 1)[None], n, shares[:, None])).sum(axis=1)


@pytest.mark.parametrize("n", [20, 60, 200, 1000])
def test_wilson_covers_what_it_claims(n: int) -> None:
    """Averaged over true shares 95 %; nowhere far below but within a few images of 0 and 1."""
    shares = np.linspace(0, 1, 999)[1:-1]
    found = coverage(n, shares)
    assert 0.945 < found.mean() < 0.96
    inside = (shares * n > 2) & ((1 - shares) * n > 2)
    assert found[inside].min() > 0.91
    assert found.min() > 0.83


def test_simulated_audits_agree_with_the_exact_coverage() -> None:
    n, share, many = 150, 0.42, 40_000
    low, high = bounds(n)
    robust = np.random.default_rng(0).binomial(n, share, many)
    covered = ((low[robust] <= share) & (share <= high[robust])).mean()
    exact = coverage(n, np.array([share]))[0]
    assert covered == pytest.approx(exact, abs=4 * math.sqrt(0.05 * 0.95 / many))


# --- paired


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_binomial_test(broken: int, fixed: int) -> None:
    ours = mcnemar(broken, fixed)
    if broken + fixed:
        assert ours == pytest.approx(binomtest(broken, broken + fixed).pvalue, rel=1e-10)
    assert ours == mcnemar(fixed, broken)


def test_mcnemar_in_fractions() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(12, 3) == pytest.approx(0.03515625, rel=1e-12)
    for broken, fixed in [(1, 0), (5, 0), (7, 6), (40, 22)]:
        n = broken + fixed
        tail = sum(math.comb(n, k) for k in range(min(broken, fixed) + 1))
        assert mcnemar(broken, fixed) == pytest.approx(min(1, Fraction(2 * tail, 2**n)), rel=1e-12)


@pytest.mark.parametrize(
    ("broken", "fixed"), [(5200, 4800), (500_600, 499_400), (30_000, 10), (501, 499), (9000, 8000)]
)
def test_mcnemar_of_many(broken: int, fixed: int) -> None:
    n, k = broken + fixed, min(broken, fixed)
    assert mcnemar(broken, fixed) == pytest.approx(min(1, 2 * binom.cdf(k, n, 0.5)), rel=1e-8)


def test_the_paired_interval_in_a_worked_example() -> None:
    # both 43, broken 12, fixed 3, neither 42: 4/102 - 13/102, sqrt((17 - 81/102) / 102 / 102)
    half = 1.959963984540054 * math.sqrt(17 - 81 / 102) / 102
    assert paired_difference(12, 3, 100) == pytest.approx((-9 / 102 - half, -9 / 102 + half))
    assert paired_difference(3, 12, 100) == pytest.approx((9 / 102 - half, 9 / 102 + half))
    low, high = paired_difference(0, 0, 50) or (0, 0)
    assert low == -high < 0


@given(
    st.integers(1, 400).flatmap(
        lambda n: st.tuples(st.just(n), st.integers(0, n)).flatmap(
            lambda p: st.tuples(st.just(p[0]), st.just(p[1]), st.integers(0, p[0] - p[1]))
        )
    )
)
def test_the_paired_interval_holds_its_difference(case: tuple[int, int, int]) -> None:
    n, broken, fixed = case
    low, high = paired_difference(broken, fixed, n) or (0, 0)
    assert -1 <= low <= (fixed - broken) / n <= high <= 1


@pytest.mark.parametrize(("broken", "fixed"), [(0.10, 0.10), (0.15, 0.05), (0.02, 0.01), (0.3, 0)])
@pytest.mark.parametrize("n", [50, 300])
def test_the_paired_interval_covers_what_it_claims(broken: float, fixed: float, n: int) -> None:
    """Exactly, over all counts of a multinomial; too wide where hardly an image changes."""
    covered = 0.0
    changed = broken + fixed
    for m in range(n + 1):
        at_m = binom.pmf(m, n, changed)
        if at_m < 1e-9:
            continue
        split = binom.pmf(np.arange(m + 1), m, broken / changed)
        for b in np.flatnonzero(split > 1e-9):
            low, high = paired_difference(int(b), int(m - b), n) or (0, 0)
            covered += at_m * split[b] * (low <= fixed - broken <= high)
    assert 0.935 < covered < (0.97 if n * changed >= 10 else 1)


# --- how many more


@given(st.integers(0, 40), st.integers(1, 40), st.floats(0.01, 0.99))
def test_so_many_images_settle_it_and_not_one_less(k: int, n: int, threshold: float) -> None:
    share = min(k, n) / n
    if abs(share - threshold) < 0.02:
        return
    first = wilson_images_to_settle(share, threshold)
    settled = []
    for images in range(1, (first or 0) + 50):
        low, high = wilson(share * images, images) or (0, 1)
        settled.append(low >= threshold or high < threshold)
    assert settled.index(True) + 1 == first
    assert all(settled[(first or 0) - 1 :])


def test_the_number_is_that_of_the_score_test() -> None:
    # Wilson's interval leaves t out where (p - t)^2 > z^2 t (1 - t) / n
    for share, threshold in [(0.41, 0.40), (0.39, 0.40), (0.999, 0.998), (0.4001, 0.4)]:
        z = 1.959963984540054
        exact = z * z * threshold * (1 - threshold) / (share - threshold) ** 2
        assert wilson_images_to_settle(share, threshold) == pytest.approx(exact, rel=1e-3, abs=1)
    assert wilson_images_to_settle(0.41, 0.40) == 9220
    assert wilson_images_to_settle(0.4, 0.4) is None
    assert wilson_images_to_settle(1.0, 1.0) is None
    assert wilson_images_to_settle(0.4, 0.4 + 1e-12) is None  # no one has so many images
    assert wilson_images_to_settle(0.5, 0.0) == 1


@pytest.mark.parametrize("threshold", [-0.05, -0.02, 0.0, 0.03])
def test_so_many_pairs_settle_a_difference(threshold: float) -> None:
    broken, fixed, n = 12, 10, 200
    first = paired_images_to_settle(broken, fixed, n, threshold)
    assert first is not None

    def settled(images: int) -> bool:
        scale = images / n
        low, high = paired_difference(broken * scale, fixed * scale, images) or (0, 0)
        return low >= threshold or high < threshold

    assert settled(first)
    assert first == n or not settled(first - 1)
    assert paired_images_to_settle(3, 1, 100, -0.02) is None


def test_a_failure_is_infinitely_far() -> None:
    assert median_distance([0.1, 0.3, math.inf]) == 0.3
    assert median_distance([0.1, math.inf, math.inf]) is None
    assert median_distance([0.1, math.inf]) is None
    assert median_distance([]) is None
