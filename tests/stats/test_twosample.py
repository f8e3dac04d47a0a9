"""Two-sample t against scipy, and its refusals."""

import numpy as np
import pytest
from scipy import stats

from trialtwin.core.errors import DataError, FitError
from trialtwin.stats.twosample import two_sample_t


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_independent_scipy_ttest(equal: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(1.0, 2.0, 13), rng.normal(0.0, 0.7, 31)
    ours = two_sample_t(a, b, "a − b", equal_variances=equal, level=0.9)
    other = stats.ttest_ind(a, b, equal_var=equal)
    interval = other.confidence_interval(0.9)
    assert (ours.statistic, ours.df) == pytest.approx((other.statistic, other.df), rel=1e-10)
    assert ours.p == pytest.approx(other.pvalue, rel=1e-8)
    assert (ours.lower, ours.upper) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert ours.variance == ("pooled" if equal else "Welch")


def test_one_sample_without_variation_is_allowed_for_welch() -> None:
    ours = two_sample_t(np.array([1.0, 1.0, 1.0]), np.array([0.0, 1.0, 2.0]), "a − b")
    assert ours.df == pytest.approx(2.0)


def test_no_variation_too_few_and_missing_are_refused() -> None:
    with pytest.raises(FitError, match="no value differs"):
        two_sample_t(np.full(3, 0.1), np.full(4, 0.3), "a − b")
    with pytest.raises(FitError, match="the second sample has 1 value"):
        two_sample_t(np.array([1.0, 2.0]), np.array([1.0]), "a − b")
    with pytest.raises(DataError, match="first sample"):
        two_sample_t(np.array([1.0, np.nan]), np.array([1.0, 2.0]), "a − b")
