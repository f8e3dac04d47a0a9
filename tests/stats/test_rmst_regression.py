"""Regression of restricted survival time: identities without censoring, a law by simulation, and what is refused."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, ConvergenceError, DataError, FitError
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.modelmatrix import continuous_columns
from trialtwin.stats.rmst_regression import rmst_regression
from trialtwin.stats.survival import kaplan_meier, rmst_difference

ARMS = ("control", "active")
EFFECT = {"arm[active]": 1.0}


def patients(n: int, seed: int, latest: float = 30.0) -> tuple[ArmModel, np.ndarray, np.ndarray]:
    """Return arms with a covariate, times whose hazard depends on both, and events."""
    rng = np.random.default_rng(seed)
    arm, x = np.arange(n) % 2, rng.normal(size=n)
    time, stop = rng.exponential(10 * np.exp(0.4 * arm + 0.5 * x)), rng.uniform(6.0, latest, n)
    return ArmModel(ARMS, arm, continuous_columns({"x": 60 + 9 * x})), np.minimum(time, stop), time <= stop


def test_without_censoring_it_is_least_squares_of_the_restricted_time() -> None:
    model, time, _ = patients(80, 1)
    every = np.ones(80, dtype=bool)
    fit = rmst_regression(model, time, every, 12.0)
    peer = least_squares(model.design(), np.minimum(time, 12.0))
    np.testing.assert_allclose(fit.coefficients, peer.coefficients, rtol=1e-9)
    np.testing.assert_allclose(fit.covariance, peer.covariance("HC0"), rtol=1e-8)


def test_without_covariates_and_censoring_ratios_are_those_of_the_curves() -> None:
    model, time, _ = patients(80, 2)
    bare, every = ArmModel(ARMS, model.arm), np.ones(80, dtype=bool)
    curves = [kaplan_meier(time[model.arm == a], every[model.arm == a]) for a in (0, 1)]
    for measure in ("difference", "ratio", "ratio of time lost"):
        found = rmst_regression(bare, time, every, 12.0, measure=measure).estimate(EFFECT, "active / control")  # type: ignore[arg-type]
        told = rmst_difference(*curves, 12.0, measure=measure)  # type: ignore[arg-type]
        assert (found.value, found.se) == pytest.approx((told.value, told.se), rel=1e-8)


def test_units_scale_a_coefficient_and_nothing_else() -> None:
    model, time, event = patients(80, 3)
    assert model.covariates is not None
    wide = ArmModel(ARMS, model.arm, continuous_columns({"x": 1e4 * model.covariates.values[:, 0]}))
    for measure in ("difference", "ratio"):
        first, second = (
            rmst_regression(m, time, event, 6.0, measure=measure)  # type: ignore[arg-type]
            for m in (model, wide)
        )
        np.testing.assert_allclose(first.coefficients, second.coefficients * [1.0, 1.0, 1e4], rtol=1e-7)
        one, two = (f.estimate(EFFECT, "") for f in (first, second))
        assert one.se == pytest.approx(two.se, rel=1e-7)


def test_what_cannot_be_compared_is_refused() -> None:
    model, time, event = patients(60, 4)
    assert model.covariates is not None
    with pytest.raises(ConfigError, match="beyond the longest follow-up"):
        rmst_regression(model, time, event, 100.0)
    with pytest.raises(DataError, match="negative"):
        rmst_regression(model, -time, event, 6.0)
    x = model.covariates.values[:, 0]
    twice = ArmModel(ARMS, model.arm, continuous_columns({"x": x, "again": x / 2 + 1}))
    with pytest.raises(FitError, match="depend on each other"):
        rmst_regression(twice, time, event, 6.0)
    every, alive = np.ones(60, dtype=bool), np.where(model.arm == 1, 6.0, 3.0)
    with pytest.raises(ConvergenceError, match="compare differences"):
        rmst_regression(ArmModel(ARMS, model.arm), alive, every, 6.0, measure="ratio of time lost")


SIZES = [pytest.param(400, id="400 trials"), pytest.param(10_000, id="10,000 trials", marks=pytest.mark.slow)]


@pytest.mark.law
@pytest.mark.parametrize("trials", SIZES)
def test_law_the_adjusted_difference_keeps_its_level(trials: int) -> None:
    """Trials of 240 without an effect: 95 % intervals hold 0, within 3.5 Monte-Carlo standard errors."""
    held = 0
    rng = np.random.default_rng(5)
    for seed in range(trials):
        model, time, event = patients(240, seed)
        shuffled = ArmModel(ARMS, rng.permutation(model.arm), model.covariates)
        found = rmst_regression(shuffled, time, event, 6.0).estimate(EFFECT, "")
        held += found.lower <= 0 <= found.upper
    print(f"\n{trials} trials: coverage {held / trials:.4f}")  # noqa: T201
    assert abs(held / trials - 0.95) < 3.5 * np.sqrt(0.05 * 0.95 / trials)
