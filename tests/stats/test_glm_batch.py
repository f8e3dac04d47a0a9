"""Regressions of many trials at once against the same regression of each trial."""

import numpy as np
import pytest

from trialtwin.core.errors import DataError
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.families import Binomial, Poisson
from trialtwin.stats.gcomputation import gcomputation
from trialtwin.stats.glm import fit_glm
from trialtwin.stats.glm_batch import log_rate_ratio_batch, logistic_difference_batch
from trialtwin.stats.modelmatrix import continuous_columns

TRIALS, N = 6, 90


def trials(arms: int = 2) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    arm = np.stack([rng.permutation(np.arange(N) % arms) for _ in range(TRIALS)])
    return rng, arm, rng.normal(3.0, 2.0, (TRIALS, N, 2))


@pytest.mark.parametrize("arms", [2, 3])
def test_independent_risk_differences_are_those_of_gcomputation_on_the_known_rows(arms: int) -> None:
    """Ye's variance; a fifth of the responses missing."""
    rng, arm, x = trials(arms)
    y = (rng.random(arm.shape) < 1 / (1 + np.exp(1.5 - 0.4 * x[..., 0] - 0.5 * arm))).astype(float)
    y[rng.random(y.shape) < 0.2] = np.nan
    found = logistic_difference_batch(y, arm[..., None] == np.arange(arms), x, arms - 1)
    for k in range(TRIALS):
        rows = np.isfinite(y[k])
        columns = continuous_columns({"a": x[k, rows, 0], "b": x[k, rows, 1]})
        model = ArmModel(tuple("ABC"[:arms]), arm[k][rows], columns)
        one = gcomputation(model, y[k][rows], Binomial()).contrast("ABC"[arms - 1], "A")
        assert found.value[k] == pytest.approx(one.value, rel=1e-8)
        assert found.se[k] == pytest.approx(one.se, rel=1e-7)
    assert np.isinf(found.df).all()


def test_independent_rate_ratios_are_coefficients_with_hc3_errors() -> None:
    """Overdispersed counts over unequal times at risk; patients without time at risk are left out."""
    rng, arm, x = trials()
    exposure = rng.uniform(0.2, 2.0, arm.shape)
    exposure[:, :4] = 0.0
    rate = np.exp(0.3 * x[..., 0] - 0.4 * arm) * rng.gamma(2.0, 0.5, arm.shape)
    count = rng.poisson(rate * exposure).astype(float)
    found = log_rate_ratio_batch(count, exposure, arm[..., None] == np.arange(2), x, 1)
    for k in range(TRIALS):
        rows = exposure[k] > 0
        columns = continuous_columns({"a": x[k, rows, 0], "b": x[k, rows, 1]})
        design = ArmModel(("A", "B"), arm[k][rows], columns).design()
        fit = fit_glm(design, count[k][rows], Poisson(), offset=np.log(exposure[k][rows]))
        assert found.value[k] == pytest.approx(fit.coefficients[1], rel=1e-8)
        assert found.se[k] == pytest.approx(fit.covariance("HC3")[1, 1] ** 0.5, rel=1e-7)


def test_trials_that_have_no_maximum_have_no_number() -> None:
    """A covariate that tells responses apart; an arm without events; an arm without patients."""
    _, arm, x = trials()
    y = (x[..., 0] > 3).astype(float)
    y[1] = (np.random.default_rng(1).random(N) < 0.5).astype(float)
    arms = arm[..., None] == np.arange(2)
    found = logistic_difference_batch(y, arms, x[..., :1], 1)
    np.testing.assert_array_equal(np.isfinite(found.value), np.arange(TRIALS) == 1)
    none = np.where(arm == 1, 0.0, 2.0)
    assert np.isnan(log_rate_ratio_batch(none, np.ones(arm.shape), arms, np.zeros((TRIALS, N, 0)), 1).value).all()
    y[1, arm[1] == 1] = np.nan
    assert np.isnan(logistic_difference_batch(y, arms, np.zeros((TRIALS, N, 0)), 1).value[1])


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    arms = np.zeros((2, 4, 2), dtype=bool)
    with pytest.raises(DataError, match="do not belong together"):
        logistic_difference_batch(np.zeros((2, 5)), arms, np.zeros((2, 4, 0)), 1)
    with pytest.raises(DataError, match="neither 0, 1 nor missing"):
        logistic_difference_batch(np.full((2, 4), 2.0), arms, np.zeros((2, 4, 0)), 1)
    with pytest.raises(DataError, match="a count is negative"):
        log_rate_ratio_batch(np.full((2, 4), -1.0), np.ones((2, 4)), arms, np.zeros((2, 4, 0)), 1)
