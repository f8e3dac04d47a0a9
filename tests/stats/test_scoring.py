"""Proper scores against closed forms, numerical integration and their definitions; propriety as a law; refusals."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy import integrate, stats

from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.stats.calibration import crps
from trialtwin.stats.scoring import (
    crps_ensemble,
    crps_normal,
    crps_quantiles,
    energy_score,
    interval_score,
    log_density_kernel,
    log_density_moments,
    log_density_normal,
    pinball,
)

CASES = [(0.0, 1.0, 0.0), (2.0, 0.5, 3.5), (-1.0, 3.0, -9.0)]


def integral_crps(cdf: stats.rv_continuous, y: float, low: float, high: float) -> float:
    """Return ∫ (F(x) − 1{x ≥ y})² dx by quadrature: the definition."""
    below = integrate.quad(lambda x: cdf(x) ** 2, low, y, epsabs=1e-11)[0]
    return below + integrate.quad(lambda x: (1 - cdf(x)) ** 2, y, high, epsabs=1e-11)[0]


@pytest.mark.parametrize(("mean", "sd", "y"), CASES)
def test_independent_crps_of_a_normal_is_the_integral_that_defines_it(mean: float, sd: float, y: float) -> None:
    ours = crps_normal(np.array([mean]), np.array([sd]), np.array([y]))[0]
    low, high = min(mean - 12 * sd, y), max(mean + 12 * sd, y)
    assert ours == pytest.approx(integral_crps(stats.norm(mean, sd).cdf, y, low, high), abs=1e-8)


def test_independent_crps_of_an_ensemble_is_the_integral_over_its_steps() -> None:
    """The empirical distribution's steps, integrated one by one."""
    rng = np.random.default_rng(1)
    draws, y = rng.normal(size=(9, 5)), rng.normal(size=5)
    for j in range(5):
        edges = np.sort(np.append(draws[:, j], y[j]))
        middle = (edges[1:] + edges[:-1]) / 2
        heights = ((draws[:, j] <= middle[:, None]).mean(axis=1) - (middle >= y[j])) ** 2
        assert crps_ensemble(draws, y)[j] == pytest.approx((heights * np.diff(edges)).sum(), rel=1e-12)
    # by hand: the fair score subtracts m/(m − 1) times the same spread
    spread = np.abs(draws - y).mean(axis=0) - crps_ensemble(draws, y)
    np.testing.assert_allclose(crps(draws, y), np.abs(draws - y).mean(axis=0) - spread * 9 / 8, rtol=1e-12)


def test_independent_crps_of_quantiles_is_the_integral_of_pinball_losses() -> None:
    rng = np.random.default_rng(2)
    levels = np.array([0.05, 0.1, 0.4, 0.5, 0.8, 0.97])
    quantiles = np.sort(rng.normal(size=(6, 8)), axis=0)
    quantiles[2, 0] = quantiles[3, 0]
    y = np.array([-5.0, 5.0, *rng.normal(size=6)])
    ours = crps_quantiles(quantiles, levels, y)
    tau = (np.arange(200_000) + 0.5) / 200_000
    for j in range(8):
        q = np.interp(tau, levels, quantiles[:, j])
        assert ours[j] == pytest.approx(2 * (((y[j] < q) - tau) * (q - y[j])).mean(), abs=1e-8)


def test_independent_crps_of_many_quantiles_of_a_normal_is_its_closed_form() -> None:
    levels = np.linspace(0.0005, 0.9995, 1000)
    mean, sd, y = (np.array(column) for column in zip(*CASES, strict=True))
    quantiles = mean + sd * stats.norm.ppf(levels)[:, None]
    np.testing.assert_allclose(crps_quantiles(quantiles, levels, y), crps_normal(mean, sd, y), rtol=2e-3)


def test_independent_log_densities_are_scipys() -> None:
    rng = np.random.default_rng(3)
    draws, y = rng.gamma(2.0, size=(400, 6)), rng.gamma(2.0, size=6)
    sd = draws.std(axis=0, ddof=1)
    other = stats.norm.logpdf(y, draws.mean(axis=0), sd)
    np.testing.assert_allclose(log_density_moments(draws, y), other, rtol=1e-12)
    np.testing.assert_allclose(log_density_normal(draws.mean(axis=0), sd, y), other, rtol=1e-12)
    for j in range(6):
        width = 0.9 * min(sd[j], stats.iqr(draws[:, j]) / 1.34) * 400**-0.2
        kernel = stats.gaussian_kde(draws[:, j], bw_method=width / sd[j])
        assert log_density_kernel(draws, y)[j] == pytest.approx(kernel.logpdf(y[j])[0], rel=1e-10)


def test_a_kernel_over_draws_that_are_mostly_equal_falls_back_on_their_sd() -> None:
    draws = np.zeros((40, 1))
    draws[:4, 0] = [1.0, 2.0, -1.0, -2.0]
    width = 0.9 * draws.std(ddof=1) * 40**-0.2
    wanted = stats.norm.logpdf(0.5, draws[:, 0], width)
    ours = log_density_kernel(draws, np.array([0.5]))[0]
    assert ours == pytest.approx(np.log(np.exp(wanted).mean()), rel=1e-12)


def test_independent_energy_score_is_its_double_sum_and_in_one_dimension_the_crps() -> None:
    rng = np.random.default_rng(4)
    draws, y = rng.normal(size=(7, 3, 2)), rng.normal(size=(3, 2))
    for j in range(3):
        pairs = sum(np.linalg.norm(draws[a, j] - draws[b, j]) for a in range(7) for b in range(7))
        wanted = np.mean([np.linalg.norm(x - y[j]) for x in draws[:, j]]) - pairs / (2 * 7 * 6)
        assert energy_score(draws, y)[j] == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(energy_score(draws[..., :1], y[:, :1]), crps(draws[..., 0], y[:, 0]), rtol=1e-10)


def test_interval_score_is_the_sum_of_its_ends_pinball_losses() -> None:
    """2/α times the losses at α/2 and 1 − α/2."""
    rng = np.random.default_rng(5)
    lower, y = rng.normal(size=20), rng.normal(size=20)
    upper = lower + rng.exponential(size=20)
    ends = pinball(lower, 0.05, y) + pinball(upper, 0.95, y)
    np.testing.assert_allclose(interval_score(lower, upper, 0.9, y), 20 * ends, rtol=1e-10)


@pytest.mark.law
def test_law_scores_are_proper() -> None:
    """20,000 outcomes of a N(0, 1): each score prefers it to four others by more than 3 standard errors of the mean."""
    y = np.random.default_rng(6).normal(size=20_000)
    levels = np.linspace(0.01, 0.99, 99)

    def scores(mean: float, sd: float) -> dict[str, np.ndarray]:
        m, s = np.full_like(y, mean), np.full_like(y, sd)
        quantiles = np.repeat((mean + sd * stats.norm.ppf(levels))[:, None], len(y), axis=1)
        return {
            "crps": crps_normal(m, s, y),
            "quantiles": crps_quantiles(quantiles, levels, y),
            "log": -log_density_normal(m, s, y),
            "interval": interval_score(m - 1.645 * s, m + 1.645 * s, 0.9, y),
        }

    truth = scores(0.0, 1.0)
    for mean, sd in ((0.3, 1.0), (-0.3, 1.0), (0.0, 1.4), (0.0, 0.7)):
        for name, other in scores(mean, sd).items():
            gain = other - truth[name]
            assert gain.mean() > 3 * gain.std() / np.sqrt(len(y)), (name, mean, sd)


def test_refusals() -> None:
    one, two = np.ones(1), np.ones(2)
    with pytest.raises(DataError, match="an SD of 0"):
        crps_normal(one, 0 * one, one)
    with pytest.raises(TypeCheckError):
        log_density_normal(two, one, one)
    with pytest.raises(TypeCheckError):
        crps_ensemble(np.ones((3, 2)), one)
    with pytest.raises(DataError, match="9 draw"):
        log_density_kernel(np.arange(9.0)[:, None], one)
    with pytest.raises(FitError, match="all draws are equal"):
        log_density_moments(np.ones((20, 1)), one)
    with pytest.raises(DataError, match="end below their start"):
        interval_score(one, 0 * one, 0.9, one)
    with pytest.raises(ConfigError, match="level 1 is not between"):
        pinball(one, 1.0, one)
    with pytest.raises(ConfigError, match="levels that increase"):
        crps_quantiles(np.ones((2, 1)), np.array([0.5, 0.5]), one)
    with pytest.raises(DataError, match="quantiles decrease"):
        crps_quantiles(np.array([[1.0], [0.0]]), np.array([0.2, 0.5]), one)
    with pytest.raises(TypeCheckError):
        energy_score(np.ones((3, 1, 2)), np.ones((1, 3)))
    with pytest.raises(DataError, match="1 draw"):
        energy_score(np.ones((1, 1, 2)), np.ones((1, 2)))
    with pytest.raises(DataError, match="not finite"):
        crps_ensemble(np.array([[np.nan]]), one)
