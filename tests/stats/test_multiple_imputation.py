"""Imputation by draws: the law of a draw, what ANCOVA and Rubin's rules make of them, and what is refused."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, ConvergenceError
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.imputation_model import STRATEGIES, fill
from trialtwin.stats.modelmatrix import continuous_columns, intercept, join
from trialtwin.stats.multiple_imputation import multiple_imputation
from trialtwin.stats.reference_imputation import conditional_mean

SIGMA = np.array([[4.0, 3.0, 2.5], [3.0, 5.0, 4.0], [2.5, 4.0, 6.0]])
EFFECT = np.array([0.3, 0.7, 1.0])
SIZES = [pytest.param(40, id="40 trials"), pytest.param(10_000, id="10,000 trials", marks=pytest.mark.slow)]


def trial(n: int, seed: int, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return outcomes at three visits with dropout at random in both arms, arm, one covariate, and visits of the event.

    Who leaves after a visit has a worse value there.
    """
    rng = np.random.default_rng(seed)
    arm, base = np.arange(n) % 2, rng.normal(size=(n, 1))
    y = 0.5 * base + effect * arm[:, None] * EFFECT + rng.multivariate_normal(np.zeros(3), SIGMA, n)
    leaves = rng.random((n, 2)) < 1 / (1 + np.exp(2.0 - y[:, :2] / 2))
    event = np.where(leaves[:, 0], 1, np.where(leaves[:, 1], 2, 3))
    y[np.arange(3) >= event[:, None]] = np.nan
    return y, arm, base, event


def test_independent_a_draw_has_the_conditional_law() -> None:
    """60,000 draws of visits 1 and 3 given visit 2: mean and covariance within 4 Monte-Carlo standard errors."""
    draws, mean = 60_000, np.array([1.0, -1.0, 2.0])
    kept = np.array([[np.nan, 3.0, np.nan], [0.0, 0.0, 0.0], [np.nan, np.nan, np.nan]])
    filled = fill(
        kept,
        np.broadcast_to(mean, (draws, 3, 3)),
        np.broadcast_to(SIGMA, (draws, 3, 3)),
        np.random.default_rng(3),
    )
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[:, 0, 1], 3.0)
    np.testing.assert_array_equal(filled[:, 1], 0.0)
    lost = [0, 2]
    slope = SIGMA[lost, 1] / SIGMA[1, 1]
    left = SIGMA[np.ix_(lost, lost)] - np.outer(slope, slope) * SIGMA[1, 1]
    for values, centre, covariance in (
        (filled[:, 0, lost], mean[lost] + slope * 4.0, left),
        (filled[:, 2], mean, SIGMA),
    ):
        sd = np.sqrt(np.diag(covariance))
        assert (np.abs(values.mean(axis=0) - centre) < 4 * sd / np.sqrt(draws)).all()
        noise = np.sqrt((np.outer(sd, sd) ** 2 + covariance**2) / draws)
        assert (np.abs(np.cov(values.T) - covariance) < 4 * noise).all()


def test_without_missing_values_it_is_ancova() -> None:
    y, arm, base, _ = trial(40, 1, 2.0)
    whole = np.where(np.isnan(y), 1.0, y)
    found = multiple_imputation(whole, arm, base, imputations=3).estimate(2, contrast="a − b")
    columns = continuous_columns({"arm": arm.astype(float), "base": base[:, 0]})
    alone = least_squares(join(intercept(40), columns), whole[:, 2]).estimate({"arm": 1.0}, "a − b")
    assert (found.value, found.se) == pytest.approx((alone.value, alone.se), rel=1e-10)
    assert found.df == pytest.approx(38 / 40 * 37)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_independent_draws_lie_about_the_conditional_mean(strategy: str) -> None:
    """A large effect and 300 draws: pooled effects are those of conditional means within 4 Monte-Carlo errors."""
    y, arm, base, event = trial(200, 2, 6.0)
    how = {"event": event, "strategy": strategy, "delta": np.where(arm == 1, 1.0, 0.0)}
    drawn, mean = multiple_imputation(y, arm, base, imputations=300, **how), conditional_mean(y, arm, base, **how)
    for k in range(3):
        noise = 4 * np.sqrt(drawn.effect[k].between / 300)
        assert drawn.effect[k].value == pytest.approx(mean.effect[k], abs=noise + 0.02)
        assert drawn.reference_mean[k].value == pytest.approx(mean.reference_mean[k], abs=noise + 0.02)


def test_the_seed_decides_and_a_shift_moves_what_was_imputed() -> None:
    y, arm, base, event = trial(60, 3)
    first, again, other = (multiple_imputation(y, arm, base, imputations=5, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.completed, again.completed)
    assert (first.completed != other.completed).any()
    moved = multiple_imputation(y, arm, base, event=event, imputations=5, seed=1, delta=2.0)
    np.testing.assert_allclose(moved.completed - first.completed, np.broadcast_to(2.0 * np.isnan(y), (5, 60, 3)))


@pytest.mark.law
@pytest.mark.parametrize("trials", SIZES)
def test_law_missing_at_random_is_covered_and_jumping_covered_too_often(trials: int) -> None:
    """60 patients, an effect of 2, a third lost by the last visit, 20 draws: 95 % within 3.5 binomial errors.

    Under jump to reference without an effect Rubin's interval covers more often than that: its error is too large.
    96 % is a bound from below; 10,000 trials covered as docs/statistics.md says.
    """
    held = {"MAR": 0, "JR": 0}
    for seed in range(trials):
        y, arm, base, event = trial(60, 10_000 + seed, 2.0)
        one = multiple_imputation(y, arm, base, imputations=20, seed=seed).estimate(2, contrast="a − b")
        held["MAR"] += one.lower <= 2.0 <= one.upper
        y, arm, base, event = trial(60, 10_000 + seed)
        jump = multiple_imputation(y, arm, base, event=event, strategy="JR", imputations=20, seed=seed)
        one = jump.estimate(2, contrast="a − b")
        held["JR"] += one.lower <= 0.0 <= one.upper
    assert abs(held["MAR"] / trials - 0.95) < 3.5 * np.sqrt(0.05 * 0.95 / trials)
    assert held["JR"] / trials > 0.96 - 3.5 * np.sqrt(0.04 * 0.96 / trials)
    print(f"\n{trials} trials covered: {held}")  # noqa: T201


def test_what_cannot_be_drawn_is_refused() -> None:
    y, arm, base, event = trial(40, 5)
    with pytest.raises(ConfigError, match="1 bootstrap sample"):
        multiple_imputation(y, arm, base, imputations=1)
    with pytest.raises(ConfigError, match="no imputation strategy 'BOCF'"):
        multiple_imputation(y, arm, base, event=event, strategy="BOCF")
    # one patient of an arm seen at the last visit: many samples are without
    y[(arm == 1) & (np.arange(40) > 1), 2] = np.nan
    y[1, 2] = 1.0
    with pytest.raises(ConvergenceError, match=r"cannot be fitted to \d+ of 50 bootstrap samples"):
        multiple_imputation(y, arm, base, imputations=50)


def test_the_percentile_interval_needs_the_bootstrap_and_enough_of_it() -> None:
    y, arm, base, _ = trial(40, 6)
    with pytest.raises(ConfigError, match="from 40 jackknife replicates"):
        conditional_mean(y, arm, base).percentile_interval(2)
    few = conditional_mean(y, arm, base, resampling="bootstrap", samples=20)
    with pytest.raises(ConfigError, match="from 20 bootstrap replicates"):
        few.percentile_interval(2)
    with pytest.raises(ConfigError, match="no standard errors by 'delta'"):
        conditional_mean(y, arm, base, resampling="delta")
