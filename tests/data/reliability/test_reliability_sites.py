"""Sites against each other: exact where it can be, and at the level that is claimed."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import fisher_exact
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests

from trialtwin.core.errors import DataError
from trialtwin.data.reliability.sites import between_variance, compare_groups, holm, stratified_p

SIZES = (3, 4, 5, 6, 8, 8, 10, 12, 15, 20)


def groups(sizes: tuple[int, ...] = SIZES) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def test_reference_holm_as_statsmodels() -> None:
    p = np.random.default_rng(0).uniform(0, 0.2, 12)
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_reference_one_arm_is_fishers_test_of_scipy() -> None:
    gone = np.array([1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0], dtype=bool)
    mine = np.arange(12) < 4
    table = [[int(gone[mine].sum()), int((~gone[mine]).sum())], [int(gone[~mine].sum()), int((~gone[~mine]).sum())]]
    assert stratified_p(gone, np.zeros(12, dtype=np.int64), mine) == pytest.approx(fisher_exact(table).pvalue)


def test_independent_stratified_test_by_enumerating_every_permutation() -> None:
    arms = np.array([0] * 6 + [1] * 6)
    gone = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0], dtype=bool)
    mine = np.array([1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0], dtype=bool)
    counts = [
        sum(mine[i] for i in first) + sum(mine[i] for i in second)
        for first in combinations(range(6), 2)
        for second in combinations(range(6, 12), 3)
    ]
    probability = np.bincount(counts, minlength=5) / len(counts)
    expected = probability[probability <= probability[4] * (1 + 1e-9)].sum()
    assert stratified_p(gone, arms, mine) == pytest.approx(expected)


def test_reference_random_effects_as_statsmodels() -> None:
    rng = np.random.default_rng(1)
    codes = groups((6, 9, 4, 12, 7))
    values = rng.normal(size=5)[codes] * 2 + rng.normal(size=len(codes))
    found = compare_groups(values, codes)
    n = np.bincount(codes)
    variance = sum(((values[codes == s] - found.mean[s]) ** 2).sum() for s in range(5)) / (len(codes) - 5) / n
    for s in range(5):
        others = np.arange(5) != s
        pooled = combine_effects(found.mean[others], variance[others], method_re="iterated", atol=1e-12)
        assert between_variance(found.mean[others], variance[others]) == pytest.approx(pooled.tau2, rel=1e-6)
        assert found.expected[s] == pytest.approx(pooled.mean_effect_re, rel=1e-6)
        assert found.se[s] ** 2 == pytest.approx(variance[s] + pooled.tau2 + pooled.var_eff_w_re, rel=1e-6)


def test_two_sites_cannot_be_compared_each_with_the_others() -> None:
    with pytest.raises(DataError, match="2 groups"):
        compare_groups(np.arange(6.0), groups((3, 3)))


def test_sites_that_differ_anyway_make_no_site_outlying() -> None:
    rng = np.random.default_rng(2)
    codes = groups((40,) * 12)
    values = rng.normal(0, 3, 12)[codes] + rng.normal(0, 1, len(codes))
    fixed = (values - values.mean()).reshape(12, 40).mean(axis=1) / (1 / np.sqrt(40))
    assert np.abs(fixed).max() > 4  # against the standard error of a mean alone, sites would be outlying
    assert compare_groups(values, codes).holm.min() > 0.05


@pytest.mark.law
@pytest.mark.parametrize("between", [0.0, 1.0])
@pytest.mark.parametrize("spread", [False, True])
def test_law_false_alarms_stay_near_five_percent(between: float, spread: bool) -> None:
    rng = np.random.default_rng(3)
    codes, trials = groups(), 600
    alarms = 0
    for _ in range(trials):
        values = between * rng.standard_normal(len(SIZES))[codes] + rng.standard_normal(len(codes))
        if spread:
            n = np.bincount(codes)
            own = np.bincount(codes, weights=values) / n
            values = np.abs(values - own[codes]) * np.sqrt(n / (n - 1))[codes]
        alarms += bool(compare_groups(values, codes).holm.min() < 0.05)
    # What is claimed is 6.5 %; the Monte-Carlo error of the rate is 1.0 %.
    assert alarms / trials <= 0.065 + 3 * np.sqrt(0.065 * 0.935 / trials)


@pytest.mark.law
def test_law_a_site_two_standard_deviations_off_is_mostly_found() -> None:
    rng = np.random.default_rng(4)
    codes = groups()
    hits = 0
    for _ in range(500):
        values = rng.standard_normal(len(codes)) + 2.0 * (codes == 6)
        hits += int(compare_groups(values, codes).holm[6] < 0.05)
    assert hits / 500 > 0.8  # Monte-Carlo error 1.5 %
