"""Cox's model: against statsmodels and all subsets, identities, a law by simulation, and what is refused."""

from itertools import combinations

import numpy as np
import pytest
from statsmodels.discrete.conditional_models import ConditionalLogit
from statsmodels.duration.hazard_regression import PHReg

from trialtwin.core.errors import ConfigError, ConvergenceError, DataError, FitError
from trialtwin.stats.cox import cox
from trialtwin.stats.cox_likelihood import RiskSets
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


@pytest.mark.parametrize("ties", ["Efron", "Breslow"])
@pytest.mark.parametrize("split", [False, True])
def test_independent_estimates_are_those_of_statsmodels(ties: str, split: bool) -> None:
    columns, time, event = patients(90, 1, 0.5)
    strata = np.arange(90) % 3 if split else None
    ours = cox(columns, time, event, strata=strata, ties=ties)
    peer = PHReg(time, columns.values, event.astype(int), strata=strata, ties=ties.lower()).fit()
    np.testing.assert_allclose(ours.coefficients, peer.params, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(ours.covariance())), peer.bse, rtol=1e-5)
    assert ours.log_likelihood == pytest.approx(peer.llf, rel=1e-9)


def test_independent_exact_ties_by_all_subsets() -> None:
    """Log likelihood, and gradient and information by its differences."""
    rng = np.random.default_rng(5)
    x, time = rng.normal(size=(11, 2)), np.array([1, 1, 1, 2, 2, 3, 4, 4, 4, 4, 5.0])
    event = np.array([1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1], dtype=bool)
    sets = RiskSets(x, time, event, "exact")

    def likelihood(beta: np.ndarray) -> float:
        total = 0.0
        for t in np.unique(time[event]):
            tied = event & (time == t)
            risk = [
                np.prod(np.exp(x[list(s)] @ beta)) for s in combinations(np.flatnonzero(time >= t), int(tied.sum()))
            ]
            total += (x[tied] @ beta).sum() - np.log(np.sum(risk))
        return float(total)

    beta, h = np.array([0.7, -1.1]), 1e-4
    at, sides = sets.point(beta), np.eye(2) * h
    assert at.value == pytest.approx(likelihood(beta), rel=1e-12)
    for k in range(2):
        slope = (likelihood(beta + sides[k]) - likelihood(beta - sides[k])) / (2 * h)
        assert at.gradient[k] == pytest.approx(slope, rel=1e-6)
        bend = (sets.point(beta + sides[k]).gradient - sets.point(beta - sides[k]).gradient) / (2 * h)
        np.testing.assert_allclose(-at.information[k], bend, rtol=1e-6)


def test_independent_exact_ties_at_one_time_are_a_conditional_logistic_model() -> None:
    """400 at risk in four strata and half of them with the event: e_d itself is near 10^60."""
    rng = np.random.default_rng(6)
    x, groups = rng.normal(size=(400, 2)), np.repeat(np.arange(4), 100)
    event = rng.random(400) < 1 / (1 + np.exp(-x[:, 0] + 0.5 * x[:, 1]))
    time = np.where(event, 1.0, 2.0)
    ours = cox(continuous_columns({"a": x[:, 0], "b": x[:, 1]}), time, event, strata=groups, ties="exact")
    peer = ConditionalLogit(event.astype(float), x, groups=groups).fit(method="newton", disp=False)
    np.testing.assert_allclose(ours.coefficients, peer.params, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(ours.covariance())), peer.bse, rtol=1e-3)
    with pytest.raises(ConfigError, match="exact ties have no robust variance"):
        ours.covariance("robust")


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


def test_a_likelihood_that_rises_by_less_than_its_rounding_has_converged() -> None:
    """A trial of 1,000 whose last Newton step changes the log likelihood, near −4,000, in its last digits only."""
    rng = np.random.default_rng(90)
    x, arm = rng.normal(size=(1000, 2)), rng.integers(0, 2, 1000)
    time = rng.exponential(10 * np.exp(-0.8 * x[:, 0] - 0.3 * x[:, 1]))
    stop = rng.exponential(15 * np.exp(0.4 * x[:, 1]))
    fit = cox(continuous_columns({"arm": arm.astype(float)}), np.minimum(time, stop), time <= stop)
    assert abs(fit.coefficient("arm")) < 0.5


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
    with pytest.raises(ConfigError, match="no treatment of ties 'Kalbfleisch'"):
        cox(columns, time, event, ties="Kalbfleisch")
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
