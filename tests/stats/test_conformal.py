"""Conformal prediction: coverage as laws with their Monte-Carlo error, definitions programmed twice, refusals."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy import stats

from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.stats.conformal import (
    conformal_quantile,
    conformalised_quantiles,
    cv_plus,
    error_law,
    split_conformal,
)


def within(hits: np.ndarray, low: float, high: float) -> bool:
    """Tell whether a share lies in a range, give or take four of its Monte-Carlo errors."""
    share, error = hits.mean(), 4 * hits.std() / np.sqrt(len(hits))
    return bool(low - error <= share <= high + error)


@pytest.mark.law
@pytest.mark.parametrize(("n", "level"), [(19, 0.9), (30, 0.8), (61, 0.95)])
def test_law_split_conformal_covers_within_one_over_n_plus_one(n: int, level: float) -> None:
    """4,000 trials of n errors with heavy tails and one more; a wrong model only makes intervals wider."""
    rng = np.random.default_rng(n)
    residuals, new = rng.standard_t(2, size=(4000, n)), rng.standard_t(2, size=4000)
    hits = []
    for row, y in zip(residuals, new, strict=True):
        band = split_conformal(row, np.array([0.0]), level)
        hits.append(band.lower[0] <= y <= band.upper[0])
    assert within(np.array(hits), level, level + 1 / (n + 1))


@pytest.mark.law
def test_law_locally_weighted_intervals_cover_both_the_quiet_and_the_noisy() -> None:
    """Errors ten times as large in half of the patients, and a spread that says so: 90 % in either half."""
    rng = np.random.default_rng(1)
    hits = {0: [], 1: []}
    for _ in range(3000):
        noisy = rng.integers(0, 2, 41)
        spread = 1.0 + 9.0 * noisy
        y = spread * rng.normal(size=41)
        band = split_conformal(y[:40], np.zeros(1), 0.9, spread=spread[:40], new_spread=spread[40:])
        hits[noisy[40]].append(band.lower[0] <= y[40] <= band.upper[0])
    assert all(within(np.array(h), 0.9, 0.9 + 1 / 41) for h in hits.values())


@pytest.mark.law
def test_law_cv_plus_covers_where_the_model_nearly_fits_its_data_exactly() -> None:
    """Least squares with 20 columns of 36 patients: the naive residuals are far too small, CV+ keeps its promise."""
    rng = np.random.default_rng(2)
    n, p, folds, plus, naive = 36, 20, 6, [], []
    fold = np.arange(n) % folds
    for _ in range(1500):
        x, y = rng.normal(size=(n + 1, p)), rng.normal(size=n + 1)
        models = [np.linalg.lstsq(x[:n][fold != k], y[:n][fold != k], rcond=None)[0] for k in range(folds)]
        outside = y[:n] - np.array([x[i] @ models[fold[i]] for i in range(n)])
        band = cv_plus(outside, fold, np.array([[x[n] @ model] for model in models]), 0.9)
        plus.append(band.lower[0] <= y[n] <= band.upper[0])
        whole = np.linalg.lstsq(x[:n], y[:n], rcond=None)[0]
        naive.append(abs(y[n] - x[n] @ whole) <= np.quantile(np.abs(y[:n] - x[:n] @ whole), 0.9))
    assert band.promised < 0.8
    assert within(np.array(plus), 0.88, 1.0)
    assert np.mean(naive) < 0.7


@pytest.mark.law
def test_law_conformalised_quantiles_cover_whatever_the_quantiles() -> None:
    """Quantiles that are much too narrow, and much too wide: both end at 80 %."""
    rng = np.random.default_rng(3)
    for width in (0.1, 5.0):
        hits = []
        for _ in range(3000):
            x = rng.uniform(0.5, 2.0, 25)
            y = x * rng.gamma(2.0, size=25)
            low, high = x * (2 - width), x * (2 + width)
            band = conformalised_quantiles(low[:24], high[:24], y[:24], low[24:], high[24:], 0.8)
            hits.append(band.lower[0] <= y[24] <= band.upper[0])
        assert within(np.array(hits), 0.8, 0.8 + 1 / 25)


@pytest.mark.law
def test_law_draws_of_an_error_law_cover_at_every_level_also_with_several_scores_a_patient() -> None:
    """A new patient's score among draws: probability within 1/(N + 1) of each level, N = 30."""
    rng = np.random.default_rng(4)
    levels = np.array([0.05, 0.25, 0.5, 0.9, 0.97])
    below = {"one": [], "several": []}
    for _ in range(4000):
        own = rng.exponential(size=31)
        below["one"].append(own[30] <= error_law(own[:30]).quantile(levels))
        many = rng.integers(1, 5, 31)
        unit = np.repeat(np.arange(31), many)
        scores = np.repeat(own, many) + 0.5 * rng.normal(size=len(unit))
        law = error_law(scores[unit < 30], unit[unit < 30])
        below["several"].append(scores[unit == 30][0] <= law.quantile(levels))
    for hits in below.values():
        for j, level in enumerate(levels):
            assert within(np.array(hits)[:, j], level - 1 / 31, level + 1 / 31), level


def test_independent_cv_plus_is_its_definition() -> None:
    """Counted instead of sorted: the interval is where fewer than the allowed number of lines end."""
    rng = np.random.default_rng(5)
    n, folds, level = 23, 4, 0.85
    residuals, fold, predicted = rng.normal(size=n), rng.integers(0, folds, n), rng.normal(size=(folds, 3))
    band = cv_plus(residuals, fold, predicted, level)
    for j in range(3):
        mine = predicted[fold, j]
        down = [v for v in mine - abs(residuals) if (mine - abs(residuals) <= v).sum() >= int((1 - level) * (n + 1))]
        up = [v for v in mine + abs(residuals) if (mine + abs(residuals) <= v).sum() >= level * (n + 1)]
        assert (band.lower[j], band.upper[j]) == (min(down), min(up))
    assert band.method == "CV+, 4 folds"
    assert cv_plus(residuals, np.arange(n), rng.normal(size=(n, 1)), level).promised == pytest.approx(0.7)


def test_quantiles_that_narrow_past_each_other_become_their_midpoint() -> None:
    y = np.zeros(9)
    band = conformalised_quantiles(y - 5, y + 5, y, np.array([1.0]), np.array([2.0]), 0.9)
    assert (band.lower[0], band.upper[0]) == (1.5, 1.5)


def test_an_error_law_of_normal_scores_is_nearly_normal_also_beyond_them() -> None:
    """Of 400 scores the first has probability 1/401, twice what it stands for: the tails are that much wider."""
    law = error_law(stats.norm.ppf((np.arange(400) + 0.5) / 400))
    u = np.array([1e-5, 0.001, 0.1, 0.5, 0.9, 1 - 1e-5])
    np.testing.assert_allclose(law.quantile(u), stats.norm.ppf(u), atol=0.25)
    assert law.mean() == pytest.approx(0.0, abs=1e-9)
    assert (np.diff(law.quantile(np.linspace(0, 1, 5001))) >= 0).all()
    assert np.isfinite(law.quantile(np.array([0.0, 1.0]))).all()


def test_independent_law_of_patients_with_several_scores_gives_each_patient_the_same_weight() -> None:
    """Written as a step function: the share of patients, each with their own scores' share, at or below a value."""
    scores, unit = np.array([0.0, 1.0, 2.0, 10.0, 20.0]), np.array([7, 7, 7, 3, 9])
    law = error_law(scores, unit)
    for i, score in enumerate(np.sort(scores)):
        steps = [np.mean(scores[unit == u] <= score) for u in (3, 7, 9)]
        before = [np.mean(scores[unit == u] < score) for u in (3, 7, 9)]
        assert law.place[i] == pytest.approx((0.5 + (np.sum(steps) + np.sum(before)) / 2) / 4)


def test_refusals() -> None:
    few = np.arange(8.0)
    with pytest.raises(FitError, match=r"8 score.*too few for 90%.*\n.*give at least 9"):
        conformal_quantile(few, 0.9)
    assert conformal_quantile(np.arange(9.0), 0.9) == 8.0
    with pytest.raises(ConfigError, match="level 1 "):
        conformal_quantile(few, 1.0)
    with pytest.raises(DataError, match="not finite"):
        conformal_quantile(np.array([np.nan, 1.0]), 0.5)
    with pytest.raises(ConfigError, match="one of calibration"):
        split_conformal(few, few, 0.5, spread=np.ones(8))
    with pytest.raises(DataError, match="a spread of 0"):
        split_conformal(few, few, 0.5, spread=np.zeros(8), new_spread=np.ones(8))
    with pytest.raises(DataError, match="folds from 0 to 7 beside the predictions of 2 models"):
        cv_plus(few, np.arange(8), np.ones((2, 1)), 0.5)
    with pytest.raises(TypeCheckError):
        conformalised_quantiles(few, few, few[:3], few, few, 0.5)
    with pytest.raises(FitError, match="1 patient"):
        error_law(few, np.zeros(8, dtype=np.int64))
    with pytest.raises(FitError, match="all 3 scores are 5"):
        error_law(np.full(3, 5.0))
