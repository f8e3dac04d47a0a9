"""Linear units with a mixture population: against direct densities, numerical integration, statsmodels, simulation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from trialtwin.core.errors import ConvergenceError, FitError
from trialtwin.infer.hierarchical_linear import (
    MixturePopulation,
    _expect,
    draw_units,
    fit_population,
    infer_units,
    summarise_rows,
)

TWO = MixturePopulation(
    weights=np.array([0.3, 0.7]),
    means=np.array([[1.0, -0.5], [-1.0, 0.8]]),
    factors=np.array([[[0.8, 0.0], [0.3, 0.4]], [[0.5, 0.0], [-0.2, 0.6]]]),
    noise=0.4,
    log_likelihood=np.nan,
)


def _simulate(population: MixturePopulation, n: int, rows: int, rng: np.random.Generator):
    """Return coefficients, x and y of units drawn from a population."""
    p = population.means.shape[1]
    of = rng.choice(len(population.weights), n, p=population.weights)
    theta = population.means[of] + np.einsum("npq,nq->np", population.factors[of], rng.normal(size=(n, p)))
    x = rng.normal(size=(n, rows, p))
    y = np.einsum("nrp,np->nr", x, theta) + population.noise * rng.normal(size=(n, rows))
    return theta, x, y


def test_independent_posterior_by_joint_normal_density() -> None:
    """Weights, means, covariances and density are those of the joint normal of (θ, y), each component conditioned."""
    _, x, y = _simulate(TWO, 5, 4, np.random.default_rng(1))
    y[0, 2:] = np.nan
    posterior = infer_units(TWO, summarise_rows(x, y))
    for i in range(5):
        there = ~np.isnan(y[i])
        design, seen = x[i][there], y[i][there]
        parts = []
        for k in range(2):
            prior = TWO.factors[k] @ TWO.factors[k].T
            total = design @ prior @ design.T + TWO.noise**2 * np.eye(len(seen))
            gain = prior @ design.T @ np.linalg.inv(total)
            np.testing.assert_allclose(posterior.means[i, k], TWO.means[k] + gain @ (seen - design @ TWO.means[k]))
            covariance = posterior.factors[i, k] @ posterior.factors[i, k].T
            np.testing.assert_allclose(covariance, prior - gain @ design @ prior, atol=1e-12)
            parts.append(TWO.weights[k] * stats.multivariate_normal.pdf(seen, design @ TWO.means[k], total))
        np.testing.assert_allclose(posterior.weights[i], np.array(parts) / sum(parts))
        np.testing.assert_allclose(posterior.log_density[i], np.log(sum(parts)))


@pytest.mark.parametrize(("lower", "upper"), [(0.9, np.inf), (-np.inf, -1.2), (0.2, 0.5)])
def test_independent_bounded_row_by_integration(lower: float, upper: float) -> None:
    """A row known by its bounds enters as the integral of the likelihood over them: density, mean and covariance."""
    one = MixturePopulation(np.ones(1), np.array([[0.3]]), np.array([[[0.7]]]), 0.5, np.nan)
    units = summarise_rows(
        np.full((1, 2, 1), 1.5),
        np.array([[0.4, 1.1]]),
        np.array([[2.0]]),
        np.array([lower]),
        np.array([upper]),
    )
    moments = _expect(one, units)

    def joint(theta: float) -> float:
        rows = stats.norm.pdf([0.4, 1.1], 1.5 * theta, 0.5).prod()
        inside = stats.norm.cdf(upper, 2 * theta, 0.5) - stats.norm.cdf(lower, 2 * theta, 0.5)
        return float(stats.norm.pdf(theta, 0.3, 0.7) * rows * inside)

    mass, mean, second = (integrate.quad(lambda t, k=k: t**k * joint(t), -6, 6, epsabs=1e-13)[0] for k in range(3))
    np.testing.assert_allclose(moments.log_likelihood, np.log(mass), rtol=1e-8)
    np.testing.assert_allclose(moments.first[0, 0, 0], mean / mass, rtol=1e-7)
    spread = moments.factors[0, 0, 0, 0] ** 2 - moments.shrunk[0, 0] * moments.along[0, 0, 0] ** 2
    np.testing.assert_allclose(spread, second / mass - (mean / mass) ** 2, rtol=1e-6)


def test_independent_statsmodels_mixed_model() -> None:
    """One component is the mixed model by maximum likelihood: effects, spreads and noise as statsmodels finds them."""
    mixed = pytest.importorskip("statsmodels.regression.mixed_linear_model")
    one = MixturePopulation(np.ones(1), TWO.means[:1], TWO.factors[:1], 0.4, np.nan)
    _, x, y = _simulate(one, 150, 6, np.random.default_rng(3))
    ours = fit_population(summarise_rows(x, y), tolerance=1e-10)
    member = np.repeat(np.arange(150), 6)
    flat = x.reshape(-1, 2)
    theirs = mixed.MixedLM(y.ravel(), flat, groups=member, exog_re=flat).fit(reml=False)
    np.testing.assert_allclose(ours.means[0], theirs.fe_params, atol=2e-4)
    np.testing.assert_allclose(ours.factors[0] @ ours.factors[0].T, theirs.cov_re, atol=2e-3)
    np.testing.assert_allclose(ours.noise, np.sqrt(theirs.scale), rtol=2e-3)


def test_law_bounds_keep_the_population_unbiased() -> None:
    """Units that stop at an edge: with their bounds the population mean is found; with the rows dropped it is not."""
    rng = np.random.default_rng(5)
    n, rows, edge = 4000, 6, 1.0
    theta = rng.normal(0.5, 0.5, n)
    y = theta[:, None] + rng.normal(0.0, 0.5, (n, rows))
    beyond = y > edge
    stops = np.where(beyond.any(1), beyond.argmax(1), rows)
    y[np.arange(rows) >= stops[:, None]] = np.nan
    stopped = (stops < rows).astype(float)
    lower = np.where(stopped > 0, edge, -np.inf)
    x = np.ones((n, rows, 1))
    kept = fit_population(summarise_rows(x, y, stopped[:, None], lower), tolerance=1e-7)
    dropped = fit_population(summarise_rows(x, y), tolerance=1e-7)
    error = 4 * np.sqrt(0.5**2 + 0.5**2) / np.sqrt(n)
    assert abs(kept.means[0, 0] - 0.5) < error
    assert abs(kept.factors[0, 0, 0] - 0.5) < error
    assert dropped.means[0, 0] < 0.5 - 2 * error


def test_law_intervals_cover_and_the_mixture_beats_one_normal() -> None:
    """90 % intervals of coefficients of new units cover 90 %; with two kinds, a mixture predicts them better."""
    rng = np.random.default_rng(6)
    apart = replace(TWO, means=np.array([[3.0, -1.0], [-1.0, 1.0]]))
    _, x, y = _simulate(apart, 3000, 3, rng)
    mixture = fit_population(summarise_rows(x, y), components=2)
    normal = fit_population(summarise_rows(x, y))
    assert mixture.log_likelihood > normal.log_likelihood + 0.1
    np.testing.assert_allclose(np.sort(mixture.weights), [0.3, 0.7], atol=0.04)
    theta, x, y = _simulate(apart, 4000, 1, rng)
    units = summarise_rows(x, y)
    posterior = infer_units(mixture, units)
    draws = draw_units(posterior, rng.random(400), rng.normal(size=(400, 2)))
    low, high = np.quantile(draws, [0.05, 0.95], axis=1)
    covered = ((theta > low) & (theta < high)).mean(0)
    assert (np.abs(covered - 0.9) < 4 * np.sqrt(0.09 / 4000) + 0.01).all()
    np.testing.assert_allclose(draws.mean(1), posterior.expected, atol=0.6)
    ours = ((posterior.expected - theta) ** 2).mean()
    assert ours < 0.95 * ((infer_units(normal, units).expected - theta) ** 2).mean()


def test_refusals_by_message() -> None:
    rng = np.random.default_rng(7)
    _, x, y = _simulate(TWO, 30, 3, rng)
    with pytest.raises(FitError, match="do not determine"):
        fit_population(summarise_rows(np.concatenate([x, x[..., :1]], axis=-1), y))
    with pytest.raises(FitError, match="fewer components"):
        fit_population(summarise_rows(x, y), components=31)
    with pytest.raises(FitError, match="only 1 different"):
        fit_population(summarise_rows(np.repeat(x[:1], 9, axis=0), np.repeat(y[:1], 9, axis=0)), components=2)
    with pytest.raises(FitError, match="finite"):
        summarise_rows(np.where(x > 0, np.inf, x), y)
    with pytest.raises(ConvergenceError, match="still gaining"):
        fit_population(summarise_rows(x, y), tolerance=1e-12, most=3)
