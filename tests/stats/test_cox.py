"""Cox's model: against statsmodels, identities, a law by simulation, and what is refused."""

import numpy as np
import pytest
from statsmodels.duration.hazard_regression import PHReg

from trialtwin.core.errors import ConfigError, ConvergenceError, DataError, FitError
from trialtwin.stats.cox import TIES, cox
from trialtwin.stats.logrank import log_rank
from trialtwin.stats.modelmatrix import ModelMatrix, continuous_columns


def patients(n: int, seed: int, effect: float = 0.0) -> tuple[ModelMatrix, np.ndarray, np.ndarray]:
    """Return arm and a covariate, with times rounded to tie, and events."""
    rng = np.random.default_rng(seed)
    arm, x = np.arange(n) % 2, rng.normal(size=n)
    time = rng.exponential(10 * np.exp(-effect * arm - 0.7 * x))
    stop = rng.uniform(3, 25, n)
    columns = continuous_columns({"arm": arm.astype(float), "x": 40 + 9 * x})
    return columns, np.ceil(np.minimum(time, stop)), time <= stop


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("split", [False, True])
def test_independent_estimates_are_those_of_statsmodels(ties: str, split: bool) -> None:
    columns, time, event = patients(90, 1, 0.5)
    strata = np.arange(90) % 3 if split else None
    ours = cox(columns, time, event, strata=strata, ties=ties)
    peer = PHReg(time, columns.values, event.astype(int), strata=strata, ties=ties.lower()).fit()
    np.testing.assert_allclose(ours.coefficients, peer.params, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(ours.covariance())), peer.bse, rtol=1e-5)
    assert ours.log_likelihood == pytest.approx(peer.llf, rel=1e-9)


def test_without_ties_the_score_test_is_the_log_rank_test() -> None:
    rng = np.random.default_rng(2)
    time, event, arm = rng.exponential(5, 60), rng.random(60) < 0.7, np.arange(60) % 2
    fit = cox(continuous_columns({"arm": arm.astype(float)}), time, event)
    assert fit.score.statistic == pytest.approx(log_rank(time, event, arm).chi2, rel=1e-9)
    assert fit.log_likelihood == pytest.approx(
        cox(continuous_columns({"arm": arm.astype(float)}), time, event, ties="Breslow").log_likelihood
    )


def test_units_of_a_column_scale_its_coefficient_and_nothing_else() -> None:
    columns, time, event = patients(80, 3)
    wide = ModelMatrix(columns.names, columns.values * [1.0, 1e4])
    first, second = cox(columns, time, event), cox(wide, time, event)
    np.testing.assert_allclose(first.coefficients, second.coefficients * [1.0, 1e4], rtol=1e-9)
    for kind in ("model", "robust"):
        errors = [np.sqrt(np.diag(fit.covariance(kind))) for fit in (first, second)]
        np.testing.assert_allclose(errors[0], errors[1] * [1.0, 1e4], rtol=1e-9)


@pytest.mark.law
def test_law_intervals_cover_the_hazard_ratio() -> None:
    """300 trials of 100: model and robust 95 % intervals hold the true effect, within 3.5 standard errors."""
    held = np.zeros(2)
    for seed in range(300):
        columns, time, event = patients(100, 100 + seed, 0.6)
        fit = cox(columns, time, event)
        for k, kind in enumerate(("model", "robust")):
            one = fit.estimate({"arm": 1.0}, "arm", variance=kind)
            held[k] += one.lower <= 0.6 <= one.upper
    assert (np.abs(held / 300 - 0.95) < 3.5 * np.sqrt(0.05 * 0.95 / 300)).all(), held


def test_what_cannot_be_fitted_is_refused() -> None:
    columns, time, event = patients(40, 4)
    with pytest.raises(ConfigError, match="no treatment of ties 'exact'"):
        cox(columns, time, event, ties="exact")
    with pytest.raises(FitError, match="nobody had the event"):
        cox(columns, time, np.zeros(40, dtype=bool))
    with pytest.raises(FitError, match="'arm' is the same for all patients"):
        cox(ModelMatrix(columns.names, columns.values * [0.0, 1.0]), time, event)
    twice = ModelMatrix(("x", "again"), np.repeat(columns.values[:, 1:], 2, axis=1))
    with pytest.raises(FitError, match="columns depend on each other"):
        cox(twice, time, event)
    with pytest.raises(DataError, match="40 rows of columns for 39 times"):
        cox(columns, time[1:], event[1:])
    sure = continuous_columns({"event": event.astype(float)})
    with pytest.raises(ConvergenceError, match="has no maximum: the hazard ratio of 'event'"):
        cox(sure, time, event)
    with pytest.raises(ConfigError, match="no variance estimator 'HC3'"):
        cox(columns, time, event).covariance("HC3")
