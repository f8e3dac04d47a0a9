"""Sampling: against a conjugate closed form, and refusals of chains that are not to be relied upon."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy import stats

from trialtwin.core.errors import ConvergenceError, MismatchError
from trialtwin.infer.diagnostics import bulk_ess, energy_fraction, rhat, tail_ess
from trialtwin.infer.model import Model, Theta, gather_patients
from trialtwin.infer.nuts import Priors, sample_density, sample_population
from trialtwin.infer.population import fit_population
from trialtwin.infer.residuals import Additive

from . import pharmacokinetics as classics


def test_law_conjugate_normal() -> None:
    """A normal mean with known variance and normal prior: mean and SD in closed form, within 4 Monte-Carlo errors."""
    y = np.random.default_rng(2).normal(1.5, 1.0, size=12)
    precision = 12 + 1 / 4
    mean, sd = y.sum() / precision, precision**-0.5

    def density(x: Array) -> Array:
        return -0.5 * jnp.sum((y - x[0]) ** 2) - x[0] ** 2 / 8

    found = sample_density(density, np.linspace(0, 2, 4)[:, None], ("mean",), warmup=300, draws=500)
    draws = found.merged()[:, 0]
    number = bulk_ess(found.draws[..., 0])
    assert abs(draws.mean() - mean) < 4 * sd / np.sqrt(number)
    assert abs(draws.std() / sd - 1) < 4 / np.sqrt(2 * number)
    assert stats.kstest(draws[::4], stats.norm(mean, sd).cdf).pvalue > 1e-3


def test_chains_that_disagree_are_refused() -> None:
    """Two peaks 16 SDs apart: each chain stays at its own, and R-hat says so."""

    def density(x: Array) -> Array:
        return jnp.logaddexp(-0.5 * (x[0] - 8) ** 2, -0.5 * (x[0] + 8) ** 2)

    with pytest.raises(ConvergenceError, match="R-hat"):
        sample_density(density, np.array([[-8.0], [8.0], [-8.0], [8.0]]), ("place",), warmup=200, draws=200)


def test_law_independent_draws_count_fully_and_autocorrelated_ones_as_theory_says() -> None:
    """An AR(1) series with ρ = .6 is worth (1 − ρ)/(1 + ρ) = .25 of its length; within 15 %."""
    rng = np.random.default_rng(5)
    white = rng.normal(size=(4, 4000))
    series = np.empty_like(white)
    series[:, 0] = white[:, 0]
    for k in range(1, 4000):
        series[:, k] = 0.6 * series[:, k - 1] + 0.8 * white[:, k]
    assert bulk_ess(white) / 16000 == pytest.approx(1.0, abs=0.1)
    assert bulk_ess(series) / 16000 == pytest.approx(0.25, rel=0.15)
    assert rhat(series) < 1.01
    assert tail_ess(series) > 400
    assert energy_fraction(series) == pytest.approx(0.8, rel=0.1)  # 2 (1 − ρ)


def test_a_difference_in_spread_alone_is_seen() -> None:
    """Chains with the same mean and unlike spreads: only the folded R-hat tells."""
    draws = np.random.default_rng(1).normal(size=(4, 500)) * np.array([1, 1, 1, 4.0])[:, None]
    assert rhat(draws) > 1.05


def _level(theta: dict[str, Array], eta: dict[str, Array], one: dict[str, Array]) -> Array:
    return theta["a"] + eta["a"] + 0 * theta["unused"] * one["time"]


def test_a_parameter_that_the_data_do_not_inform_is_named() -> None:
    """A slope that multiplies nothing keeps its prior; the level does not. Posterior of a level near the fit's."""
    rng = np.random.default_rng(4)
    ids = np.repeat(np.arange(12), 3)
    value = 5 + rng.normal(size=12)[ids] + 0.5 * rng.normal(size=36)
    theta = {"a": Theta(4.0, "identity"), "unused": Theta(0.0, "identity")}
    model = Model(_level, theta, {"a": 1.0}, Additive(0.5))
    data = gather_patients([str(i) for i in ids], value, rows={"time": np.ones(36)})
    found = sample_population(model, data, Priors({"a": 5.0, "unused": 1.0}), warmup=500, draws=1500)
    assert found.uninformed == ("unused",)
    mid, low, high = found.interval("a")
    assert low < 5.0 < high
    assert abs(mid - value.reshape(12, 3).mean()) < 0.1
    with pytest.raises(MismatchError, match="unused has no prior"):
        sample_population(model, data, Priors({"a": 5.0}))
    with pytest.raises(ConvergenceError, match="unused"):
        fit_population(model, data)


@pytest.mark.slow
def test_independent_theophylline_by_two_ways(shared: Path) -> None:
    """Posterior medians lie within half a standard error of the FOCEI estimates; chains are good."""
    model = classics.theophylline_model()
    data = classics.theophylline(shared / "data" / "pk" / "theo_sd.csv")
    fit = fit_population(model, data)
    found = sample_population(model, data, Priors(dict.fromkeys(("ka", "cl", "v"), 2.0)), warmup=500, draws=1000)
    for name in ("ka", "cl", "v", "sigma.additive"):
        one = fit.estimates()[name]
        mid, low, high = found.interval(name)
        assert abs(mid - one.value) < 0.5 * one.se
        assert 0.8 < (high - low) / (one.high - one.low) < 1.6
    assert found.uninformed == ()
