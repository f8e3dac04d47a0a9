"""What the calibration measures guarantee: exact intervals cover, PIT is uniform under the truth and only then.

2,000 simulated studies each, unless said otherwise; ± is 3 binomial standard errors, 0.0146 for 5 % and for 95 %.
"""

import numpy as np
import pytest
from scipy import stats

from trialtwin.stats.calibration import calibration_line, correlation, coverage, crps, pit, rmse, uniformity

pytestmark = pytest.mark.law

STUDIES = 2000
ERROR = 3 * float(np.sqrt(0.05 * 0.95 / STUDIES))


def _rejections(n: int, spread: float, seed: int, *, studies: int = STUDIES) -> float:
    """Return how often uniformity is rejected at 5 % where draws have the given spread and outcomes spread 1."""
    rng = np.random.default_rng(seed)
    rejected = 0
    for study in range(studies):
        draws, observed = spread * rng.normal(size=(50, n)), rng.normal(size=n)
        rejected += uniformity(pit(draws, observed, seed=study)).p < 0.05
    return rejected / studies


@pytest.mark.parametrize("n", [25, 100])
def test_law_pit_is_uniform_under_the_truth(n: int) -> None:
    assert abs(_rejections(n, 1.0, seed=201) - 0.05) < ERROR


@pytest.mark.parametrize("spread", [0.7, 1.5])
def test_law_pit_rejects_a_wrong_spread(spread: float) -> None:
    """With 100 patients a spread wrong by a third or a half is seen in more than 90 % of 200 studies."""
    assert _rejections(100, spread, seed=202, studies=200) > 0.9


def test_law_pit_of_ties_is_uniform() -> None:
    """Whole-number scores: randomisation inside ties keeps the level."""
    rng = np.random.default_rng(203)
    rejected = 0
    for study in range(STUDIES):
        draws, observed = rng.poisson(3.0, (50, 60)).astype(float), rng.poisson(3.0, 60).astype(float)
        rejected += uniformity(pit(draws, observed, seed=study)).p < 0.05
    assert abs(rejected / STUDIES - 0.05) < ERROR


@pytest.mark.parametrize(("n", "nominal"), [(30, 0.9), (120, 0.5), (80, 0.95)])
def test_law_coverage_interval_covers(n: int, nominal: float) -> None:
    """Clopper–Pearson covers the true coverage in at least 95 % of studies, less the error; its test holds 5 %."""
    rng = np.random.default_rng(204)
    half = float(stats.norm.ppf(0.5 + nominal / 2))
    held = rejected = 0
    for observed in rng.normal(size=(STUDIES, n)):
        share = coverage(np.full(n, -half), np.full(n, half), observed, nominal)
        held += share.lower <= nominal <= share.upper
        rejected += share.p < 0.05
    assert held / STUDIES > 0.95 - ERROR
    assert rejected / STUDIES < 0.05 + ERROR


def test_law_intervals_of_error_correlation_and_slope_cover() -> None:
    """RMSE, r and calibration slope on 150 normal patients; RMSE's interval is asymptotic and is allowed 0.01 more."""
    rng = np.random.default_rng(205)
    held = {"rmse": 0, "r": 0, "slope": 0}
    for _ in range(STUDIES):
        predicted = rng.normal(size=150)
        observed = predicted + 2 * rng.normal(size=150)
        error = rmse(predicted, observed)
        r = correlation(predicted, observed)
        slope = calibration_line(predicted, observed).slope
        held["rmse"] += error.lower <= 2.0 <= error.upper
        held["r"] += r.lower <= 1 / np.sqrt(5) <= r.upper
        held["slope"] += slope.lower <= 1.0 <= slope.upper
    assert abs(held["r"] / STUDIES - 0.95) < ERROR
    assert abs(held["slope"] / STUDIES - 0.95) < ERROR
    assert abs(held["rmse"] / STUDIES - 0.95) < ERROR + 0.01


@pytest.mark.parametrize("draws", [2, 5, 40])
def test_law_crps_is_fair_for_any_number_of_draws(draws: int) -> None:
    """Its mean is the closed form for a normal forecast, z (2Φ(z) − 1) + 2φ(z) − 1/√π, within 4 standard errors."""
    rng = np.random.default_rng(206)
    n = 40_000
    observed = rng.normal(0.3, 1.2, n)
    scores = crps(rng.normal(size=(draws, n)), observed)
    exact = observed * (2 * stats.norm.cdf(observed) - 1) + 2 * stats.norm.pdf(observed) - 1 / np.sqrt(np.pi)
    difference = scores - exact
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(n)


def test_law_crps_prefers_the_truth() -> None:
    rng = np.random.default_rng(207)
    observed = rng.normal(size=20_000)
    means = [crps(spread * rng.normal(size=(20, 20_000)), observed).mean() for spread in (0.7, 1.0, 1.4)]
    assert np.argmin(means) == 1
