"""Censored normal measurements: density and moments by SciPy, derivatives by differentiation and by averaging."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from trialtwin.twins.censored import Pieces, censored_mean, collect, expand

LOWER, UPPER = np.array([0.0]), np.array([30.0])
VALUES = [0.0, 3.0, 15.0, 29.5, 30.0]


def pieces(value: float, mean: float, log_spread: float) -> Pieces:
    return expand(jnp.full(1, value), jnp.full(1, mean), jnp.full(1, log_spread), LOWER, UPPER)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("mean", "log_spread"), [(15.0, 0.5), (29.0, 0.2), (1.0, 1.0), (31.0, 0.0)])
def test_independent_density(value: float, mean: float, log_spread: float) -> None:
    """Inside, the normal density; at an end, the chance of lying there or beyond."""
    normal = stats.norm(mean, np.exp(log_spread))
    exact = {0.0: normal.logcdf(0.0), 30.0: normal.logsf(30.0)}.get(value, normal.logpdf(value))
    assert float(pieces(value, mean, log_spread).log_density[0]) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("mean", "log_spread"), [(15.0, 0.5), (29.0, 0.2), (1.0, 1.0)])
def test_independent_derivatives(value: float, mean: float, log_spread: float) -> None:
    """First derivatives, and at an end the curvature, are those of the density by automatic differentiation."""

    def density(at: jax.Array) -> jax.Array:
        return expand(jnp.full(1, value), at[:1], at[1:], LOWER, UPPER).log_density[0]

    here = jnp.asarray([mean, log_spread])
    found = pieces(value, mean, log_spread)
    np.testing.assert_allclose([found.by_mean[0], found.by_spread[0]], jax.grad(density)(here), rtol=1e-8, atol=1e-12)
    if value in (0.0, 30.0):
        assert float(found.mean_mean[0]) == pytest.approx(-float(jax.hessian(density)(here)[0, 0]), rel=1e-7, abs=1e-12)


def test_independent_information_inside_is_the_expected_one() -> None:
    """Far from the ends, minus the Hessian averaged over measurements is 1/s², 0 and 2."""
    rng = np.random.default_rng(5)
    y = 15 + np.exp(0.3) * rng.normal(size=20_000)

    def density(at: jax.Array, value: jax.Array) -> jax.Array:
        return expand(value[None], at[:1], at[1:], LOWER, UPPER).log_density[0]

    bent = jax.vmap(jax.hessian(density), in_axes=(None, 0))(jnp.asarray([15.0, 0.3]), jnp.asarray(y))
    found = pieces(15.0, 15.0, 0.3)
    expected = [[found.mean_mean[0], found.mean_spread[0]], [found.mean_spread[0], found.spread_spread[0]]]
    np.testing.assert_allclose(-np.asarray(bent).mean(axis=0), np.array(expected), atol=0.1)


def test_information_is_never_negative() -> None:
    for value in VALUES:
        for mean in np.linspace(-20, 50, 15):
            p = pieces(value, float(mean), 0.4)
            matrix = np.array([[p.mean_mean[0], p.mean_spread[0]], [p.mean_spread[0], p.spread_spread[0]]])
            assert np.linalg.eigvalsh(matrix).min() > -1e-9


def test_only_what_was_observed_is_collected() -> None:
    """Gradient and information add over measurements; one that was not observed adds nothing, even if it is NaN."""
    value, mean, spread = jnp.array([[3.0], [np.nan]]), jnp.array([[5.0], [7.0]]), jnp.full((2, 1), 0.5)
    found = expand(value, mean, spread, LOWER, UPPER)
    by_mean, by_spread = jnp.array([[[1.0, 2.0]], [[3.0, 4.0]]]), jnp.array([[[0.1, 0.0]], [[0.2, 0.3]]])
    gradient, information = collect(found, by_mean, by_spread, jnp.array([[True], [False]]))
    s = np.exp(0.5)
    f, e = np.array([1.0, 2.0]), np.array([0.1, 0.0])
    np.testing.assert_allclose(gradient, (3 - 5) / s**2 * f + (((3 - 5) / s) ** 2 - 1) * e, rtol=1e-12)
    np.testing.assert_allclose(information, np.outer(f, f) / s**2 + 2 * np.outer(e, e), rtol=1e-12)


@pytest.mark.parametrize(("mean", "spread"), [(15.0, 2.0), (29.0, 1.5), (0.5, 3.0), (35.0, 2.0)])
def test_independent_mean(mean: float, spread: float) -> None:
    normal = stats.norm(mean, spread)
    inside, _ = integrate.quad(lambda y: y * normal.pdf(y), 0.0, 30.0)
    exact = inside + 30.0 * normal.sf(30.0)
    found = censored_mean(jnp.full(1, mean), jnp.full(1, spread), LOWER, UPPER)
    assert float(found[0]) == pytest.approx(exact, rel=1e-6)
