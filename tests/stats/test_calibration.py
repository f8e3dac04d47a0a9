"""Calibration measures against scipy, statsmodels and their definitions, and their refusals."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy import stats

from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.stats.calibration import calibration_line, correlation, coverage, crps, pit, rmse, uniformity
from trialtwin.stats.modelmatrix import continuous_columns, factor_columns, intercept, join


def _pair(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    predicted = rng.normal(5.0, 3.0, n)
    return predicted, 1.0 + 0.8 * predicted + rng.normal(0.0, 2.0, n)


def test_rmse_by_its_definition_and_error_by_the_delta_method() -> None:
    predicted, observed = _pair(0)
    squares = (observed - predicted) ** 2
    measure = rmse(predicted, observed, unit="points")
    assert measure.value == pytest.approx(np.sqrt(squares.mean()))
    # The derivative of the square root, taken numerically.
    step = 1e-6
    slope = (np.sqrt(squares.mean() + step) - np.sqrt(squares.mean() - step)) / (2 * step)
    assert measure.se == pytest.approx(slope * squares.std(ddof=1) / np.sqrt(60), rel=1e-6)
    assert 0 < measure.lower < measure.value < measure.upper
    assert measure.lower * measure.upper == pytest.approx(measure.value**2)
    assert (measure.unit, measure.n) == ("points", 60)


def test_perfect_forecast_is_an_error_not_a_zero() -> None:
    with pytest.raises(FitError, match="among the predictors"):
        rmse(np.arange(3.0), np.arange(3.0))


@pytest.mark.parametrize("seed", range(3))
def test_independent_correlation_scipy(seed: int) -> None:
    a, b = _pair(seed)
    ours, other = correlation(a, b, level=0.9), stats.pearsonr(a, b)
    interval = other.confidence_interval(0.9)
    assert ours.value == pytest.approx(other.statistic, rel=1e-12)
    assert ours.p == pytest.approx(other.pvalue, rel=1e-8)
    assert (ours.lower, ours.upper) == pytest.approx((interval.low, interval.high), rel=1e-10)
    assert ours.statistic == pytest.approx(ours.value / ours.se)


def test_independent_partial_correlation_is_the_t_statistic_of_a_regression() -> None:
    """r² = t² / (t² + df) for the coefficient of the second variable."""
    a, b = _pair(4)
    arm = factor_columns("arm", ("p", "l", "h"), np.arange(60) % 3)
    given = join(intercept(60), arm)
    ours = correlation(a, b, given=given)
    other = sm.OLS(a, np.column_stack([given.values, b])).fit()
    t = other.tvalues[-1]
    assert ours.value == pytest.approx(np.sign(t) * np.sqrt(t**2 / (t**2 + other.df_resid)), rel=1e-10)
    assert ours.p == pytest.approx(other.pvalues[-1], rel=1e-8)
    assert ours.df == other.df_resid
    assert ours.method == "partial correlation"


def test_correlation_refusals() -> None:
    a, b = _pair(0, n=6)
    with pytest.raises(FitError, match="fits the second variable exactly"):
        correlation(a, np.ones(6))
    with pytest.raises(FitError, match="proportional"):
        correlation(a, -2 * a + 1)
    with pytest.raises(FitError, match="3 patients, 4 are needed"):
        correlation(a[:3], b[:3])
    with pytest.raises(FitError, match="fits the second variable exactly"):
        correlation(a, b, given=join(intercept(6), continuous_columns({"b": b})))


def test_independent_calibration_line_statsmodels() -> None:
    predicted, observed = _pair(2)
    line = calibration_line(predicted, observed)
    other = sm.OLS(observed, sm.add_constant(predicted)).fit(cov_type="HC3", use_t=True)
    assert (line.intercept.value, line.slope.value) == pytest.approx(tuple(other.params), rel=1e-10)
    assert (line.intercept.se, line.slope.se) == pytest.approx(tuple(other.bse), rel=1e-9)
    assert line.slope.p == pytest.approx(float(np.squeeze(other.t_test(([[0.0, 1.0]], [1.0])).pvalue)), rel=1e-8)
    shift = stats.ttest_1samp(observed - predicted, 0.0)
    assert line.in_the_large.p == pytest.approx(shift.pvalue, rel=1e-8)
    assert line.in_the_large.value == pytest.approx((observed - predicted).mean())


def test_constant_forecast_has_no_slope() -> None:
    with pytest.raises(FitError, match="'predicted' is a linear combination"):
        calibration_line(np.ones(9), np.arange(9.0))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 200), share=st.floats(0, 1), nominal=st.floats(0.05, 0.99), level=st.floats(0.5, 0.99))
def test_independent_coverage_scipy_exact_binomial(n: int, share: float, nominal: float, level: float) -> None:
    hits = round(share * n)
    observed = np.where(np.arange(n) < hits, 0.5, 2.0)
    ours = coverage(np.zeros(n), np.ones(n), observed, nominal, level=level)
    other = stats.binomtest(hits, n, nominal)
    interval = other.proportion_ci(level, method="exact")
    assert ours.value == hits / n
    assert (ours.lower, ours.upper) == pytest.approx((interval.low, interval.high), rel=1e-7, abs=1e-12)
    assert ours.p == pytest.approx(other.pvalue)


def test_coverage_counts_the_ends_and_refuses_reversed_intervals() -> None:
    both = np.array([0.0, 1.0])
    assert coverage(np.zeros(2), np.ones(2), both, 0.9).value == 1.0
    with pytest.raises(DataError, match="1 prediction interval"):
        coverage(np.array([0.0, 2.0]), np.ones(2), both, 0.9)
    with pytest.raises(ConfigError, match="nominal coverage 90"):
        coverage(np.zeros(2), np.ones(2), both, 90.0)


def test_pit_is_the_rank_among_draws() -> None:
    draws = np.array([[1.0, 1.0, 5.0], [2.0, 1.0, 5.0], [3.0, 1.0, 5.0]])
    observed = np.array([2.5, 0.0, 5.0])
    assert pit(draws, observed).tolist() == [(2 + 0.5) / 4, 0.5 / 4, (0 + 0.5 * 4) / 4]


def test_randomised_pit_stays_inside_its_cell_and_repeats_by_seed() -> None:
    rng = np.random.default_rng(0)
    draws, observed = rng.integers(0, 5, (9, 50)).astype(float), rng.integers(0, 5, 50).astype(float)
    first = pit(draws, observed, seed=3)
    assert np.array_equal(first, pit(draws, observed, seed=3))
    assert not np.array_equal(first, pit(draws, observed, seed=4))
    below, equal = (draws < observed).sum(axis=0), (draws == observed).sum(axis=0)
    assert (first >= below / 10).all()
    assert (first <= (below + equal + 1) / 10).all()


def test_uniformity_says_what_is_wrong() -> None:
    grid = (np.arange(400) + 0.5) / 400
    assert uniformity(grid).p > 0.99
    high = uniformity(grid**0.5)
    assert high.components[0] > 5
    narrow = uniformity(np.concatenate([grid**3 / 2, 1 - grid**3 / 2]))
    assert narrow.components[1] > 5
    assert abs(narrow.components[0]) < 1
    wide = uniformity(0.25 + grid / 2)
    assert wide.components[1] < -5
    assert max(high.p, narrow.p, wide.p) < 1e-6


def test_independent_smooth_components_are_orthonormal() -> None:
    """Components have variance 1 and covariance 0 under uniformity, by numerical integration."""
    grid = (np.arange(2000) + 0.5) / 2000
    one = np.array([uniformity(np.full(10, u), components=8).components for u in grid]) / np.sqrt(10)
    assert one.T @ one / len(one) == pytest.approx(np.eye(8), abs=1e-3)


def test_uniformity_refusals() -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        uniformity(np.linspace(-0.1, 1.0, 20))
    with pytest.raises(DataError, match="too few"):
        uniformity(np.full(9, 0.5))
    with pytest.raises(ConfigError, match="9 components"):
        uniformity(np.full(20, 0.5), components=9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), m=st.integers(2, 40))
def test_independent_crps_over_all_pairs(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    draws, observed = rng.normal(100.0, 1.0, (m, 5)), rng.normal(100.0, 1.0, 5)
    pairs = np.abs(draws[:, None] - draws[None]).sum(axis=(0, 1)) / (2 * m * (m - 1))
    assert crps(draws, observed) == pytest.approx(np.abs(draws - observed).mean(axis=0) - pairs, rel=1e-9, abs=1e-9)


def test_crps_needs_two_draws_and_matching_patients() -> None:
    with pytest.raises(DataError, match="at least 2"):
        crps(np.zeros((1, 3)), np.zeros(3))
    with pytest.raises((DataError, TypeCheckError)):
        crps(np.zeros((4, 3)), np.zeros(2))
    with pytest.raises(DataError, match="draws has 1 value"):
        pit(np.array([[np.nan], [1.0]]), np.zeros(1))


def test_forecasts_and_observations_must_be_finite_and_as_many() -> None:
    with pytest.raises((DataError, TypeCheckError)):
        rmse(np.zeros(3), np.zeros(2))
    with pytest.raises(DataError, match="the forecast has 1 value"):
        rmse(np.array([np.inf, 1.0]), np.zeros(2))
    with pytest.raises(DataError, match="at least 2"):
        rmse(np.zeros(1), np.ones(1))
