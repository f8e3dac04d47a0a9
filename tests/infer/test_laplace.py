"""Laplace's approximation: exact where it must be, with the gradient of what it computes, and honest about failure."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy import integrate, stats

from trialtwin.infer.laplace import Mode, exact_expansion, find_mode, log_marginal

LOG_2PI = float(np.log(2 * np.pi))
rng = np.random.default_rng(11)
X, Z = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
Y = rng.normal(size=(4, 6))
THETA = jnp.array([0.3, -0.5, 1.1, np.log(0.7), np.log(1.3), np.log(0.4)])


def scoring(joint: Callable, information: Callable) -> Callable:
    """Return the expansion of a density: value, gradient, and a curvature of one's own."""

    def expand(theta: Any, u: Array, y: Any) -> tuple[Array, Array, Array]:
        value, gradient = jax.value_and_grad(joint, argnums=1)(theta, u, y)
        return value, gradient, information(theta, u, y)

    return expand


def linear_joint(theta: Array, u: Array, y: Array) -> Array:
    """Return log p(y, u | θ) of y = X β + Z diag(s) u + σ ε."""
    residual = (y - X @ theta[:3] - Z @ (jnp.exp(theta[3:5]) * u)) / jnp.exp(theta[5])
    normal = -0.5 * jnp.sum(residual**2 + LOG_2PI) - len(y) * theta[5]
    return normal - 0.5 * jnp.sum(u**2 + LOG_2PI)


def linear_information(theta: Array, u: Array, y: Array) -> Array:
    """Return Fisher's information of the measurements and of the prior."""
    J = Z * jnp.exp(theta[3:5])
    return J.T @ J * jnp.exp(-2 * theta[5]) + jnp.eye(2)


def curve_joint(theta: Array, u: Array, y: Array) -> Array:
    """Return log p(y, u | θ) of exponential decay with error in proportion to it: not linear in θ or u."""
    mean, log_sd = _curve(theta, u, len(y))
    residual = (y - mean) / jnp.exp(log_sd)
    return -0.5 * jnp.sum(residual**2 + LOG_2PI + 2 * log_sd) - 0.5 * jnp.sum(u**2 + LOG_2PI)


def curve_information(theta: Array, u: Array, y: Array) -> Array:
    """Return Fisher's information with interaction."""
    _, log_sd = _curve(theta, u, len(y))
    J, L = jax.jacfwd(lambda v: _curve(theta, v, len(y)))(u)
    return J.T @ (J * jnp.exp(-2 * log_sd)[:, None]) + 2 * L.T @ L + jnp.eye(2)


def _curve(theta: Array, u: Array, n: int) -> tuple[Array, Array]:
    t = jnp.linspace(0.5, 4.0, n)
    mean = jnp.exp(theta[0] + jnp.exp(theta[2]) * u[0]) * jnp.exp(-t * jnp.exp(theta[1] + jnp.exp(theta[3]) * u[1]))
    return mean, jnp.log(0.2 * mean + 0.05)


LINEAR, EXACT_LINEAR = scoring(linear_joint, linear_information), exact_expansion(linear_joint)
FISHER, EXACT = scoring(curve_joint, curve_information), exact_expansion(curve_joint)
CURVE = jnp.array([1.0, -1.0, np.log(0.5), np.log(0.6)])
CURVES = jnp.array([[2.2, 1.4, 1.1, 0.5, 0.35], [1.0, 0.9, 0.7, 0.66, 0.5], [4.1, 3.0, 1.2, 0.9, 0.3]])


@partial(jax.jit, static_argnums=(0, 1, 2, 5))
def marginals(
    joint: Callable, expand: Callable, search: Callable, theta: Array, data: Array, tolerance: float = 1e-8
) -> tuple[Array, Array]:
    """Return log p(y | θ) of each row of data, and the gradient of their sum; modes are found anew by ``search``."""

    def total(th: Array) -> tuple[Array, Array]:
        def one(y: Array) -> Array:
            mode = jax.lax.stop_gradient(find_mode(joint, search, th, jnp.zeros(2), y, tolerance=tolerance))
            return log_marginal(joint, expand, th, mode.position, y)

        values = jax.vmap(one)(data)
        return values.sum(), values

    (_, values), gradient = jax.value_and_grad(total, has_aux=True)(theta)
    return values, gradient


@jax.jit
def curve_modes(data: Array) -> Mode:
    """Return the mode of each row under the curve."""
    return jax.vmap(lambda y: find_mode(curve_joint, FISHER, CURVE, jnp.zeros(2), y, tolerance=1e-14))(data)


@pytest.mark.parametrize("expand", [LINEAR, EXACT_LINEAR], ids=["Fisher", "exact"])
def test_independent_linear_gaussian(expand: Callable) -> None:
    """Where the model is linear and normal the approximation is scipy's multivariate normal, and so is its gradient."""

    def exact(theta: np.ndarray) -> np.ndarray:
        ZS = Z * np.exp(theta[3:5])
        return stats.multivariate_normal(X @ theta[:3], ZS @ ZS.T + np.exp(2 * theta[5]) * np.eye(6)).logpdf(Y)

    values, gradient = marginals(linear_joint, expand, expand, THETA, jnp.asarray(Y))
    theta, h = np.asarray(THETA), 1e-5
    np.testing.assert_allclose(values, exact(theta), rtol=1e-12)
    differences = [(exact(theta + h * e) - exact(theta - h * e)).sum() / (2 * h) for e in np.eye(6)]
    np.testing.assert_allclose(gradient, differences, rtol=1e-7, atol=1e-7)


def test_independent_gradient_of_a_nonlinear_model() -> None:
    """The gradient is that of the approximation, the move of the mode and of its curvature included: to 1e-6.

    Differences are taken of the whole computation, modes found anew to 1e-14 at each θ.
    """

    def compute(theta: Array) -> tuple[Array, Array]:
        return marginals(curve_joint, FISHER, FISHER, theta, CURVES, 1e-14)

    _, gradient = compute(CURVE)
    h = 1e-4
    differences = [(compute(CURVE + h * e)[0] - compute(CURVE - h * e)[0]).sum() / (2 * h) for e in np.eye(4)]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6)


def test_independent_quadrature_of_counts() -> None:
    """Counts with a log-normal mean, whose integral is done numerically: within 0.01 for any count from 0 to 50."""

    def joint(theta: Array, u: Array, y: Array) -> Array:
        log_mean = theta + 0.8 * u[0]
        poisson = y * log_mean - jnp.exp(log_mean) - jax.scipy.special.gammaln(y + 1)
        return poisson - 0.5 * (u[0] ** 2 + LOG_2PI)

    expand = exact_expansion(joint)

    @jax.jit
    def run(y: Array) -> Array:
        return log_marginal(joint, expand, 1.0, find_mode(joint, expand, 1.0, jnp.zeros(1), y).position, y)

    for count in (0.0, 3.0, 50.0):

        def density(u: float, y: float = count) -> float:
            return float(stats.poisson.pmf(y, np.exp(1.0 + 0.8 * u)) * stats.norm.pdf(u))

        exact = np.log(integrate.quad(density, -8, 8, epsabs=1e-14)[0])
        assert float(run(count)) == pytest.approx(exact, abs=0.01)


def test_a_mode_is_where_the_gradient_vanishes() -> None:
    mode = curve_modes(CURVES)
    assert mode.converged.all()
    gradient = jax.jit(jax.grad(curve_joint, argnums=1))
    for u, precision, y in zip(mode.position, mode.precision, CURVES, strict=True):
        np.testing.assert_allclose(gradient(CURVE, u, y), 0.0, atol=1e-5)
        np.testing.assert_allclose(precision, curve_information(CURVE, u, y), rtol=1e-9)


def test_an_exact_expansion_is_value_gradient_and_minus_the_hessian() -> None:
    """Of the linear model, whose Hessian is minus Fisher's information; of the curve it differs."""
    u = jnp.array([0.3, -0.2])
    value, gradient, curvature = jax.jit(EXACT_LINEAR)(THETA, u, Y[0])
    assert float(value) == pytest.approx(float(linear_joint(THETA, u, Y[0])))
    np.testing.assert_allclose(gradient, jax.grad(linear_joint, argnums=1)(THETA, u, Y[0]), rtol=1e-12)
    np.testing.assert_allclose(curvature, linear_information(THETA, u, Y[0]), rtol=1e-10, atol=1e-12)
    bent = jax.jit(EXACT)(CURVE, u, CURVES[0])[2]
    assert np.abs(bent - curve_information(CURVE, u, CURVES[0])).max() > 0.1


def _bounded(theta: Array, u: Array, y: Array) -> Array:
    return -0.5 * jnp.sum((u - y) ** 2)


FAILURES: dict[str, tuple[Callable, Callable, int]] = {
    "too few steps": (lambda th, u, y: -jnp.sum(jnp.cosh(u - y)), lambda th, u, y: jnp.eye(1) * 1e3, 3),
    "no maximum": (lambda th, u, y: jnp.sum(u), lambda th, u, y: jnp.eye(1), 60),
    "not a number": (lambda th, u, y: jnp.nan * jnp.sum(u), lambda th, u, y: jnp.eye(1), 60),
    "a direction downhill": (_bounded, lambda th, u, y: -jnp.eye(1), 60),
    "a singular curvature": (_bounded, lambda th, u, y: jnp.zeros((1, 1)), 60),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_was_not_found_is_flagged(case: str) -> None:
    joint, curvature, steps = FAILURES[case]
    mode = find_mode(joint, scoring(joint, curvature), 0.0, jnp.ones(1), jnp.full(1, 5.0), steps=steps)
    assert not bool(mode.converged)


def _two_peaks(theta: Array, u: Array, y: Array) -> Array:
    return -jnp.sum((u**2 - 1) ** 2)


def test_a_minimum_between_two_peaks_is_not_a_mode() -> None:
    """The gradient vanishes there, so that a step gains nothing: the curvature tells."""
    assert not bool(find_mode(_two_peaks, exact_expansion(_two_peaks), 0.0, jnp.zeros(1), None).converged)


def test_a_curvature_that_is_not_positive_definite_gives_no_marginal() -> None:
    """Minus 4 at the minimum between two peaks: the absolute value of its determinant would be a number."""
    assert np.isnan(log_marginal(_two_peaks, exact_expansion(_two_peaks), 0.0, jnp.zeros(1), None))


@pytest.mark.parametrize("times", [0.2, 10.0])
def test_a_curvature_that_is_several_times_too_high_or_low_still_leads_to_the_mode(times: float) -> None:
    """Fisher's information is up to ten times minus the Hessian for real patients: steps close a tenth of the way."""

    def joint(theta: Array, u: Array, y: Array) -> Array:
        return -0.05 * jnp.sum(u**2)

    mode = find_mode(joint, scoring(joint, lambda th, u, y: 0.1 * times * jnp.eye(1)), 0.0, jnp.full(1, 5.0), None)
    assert bool(mode.converged)
    np.testing.assert_allclose(mode.position, 0.0, atol=1e-4)


def test_one_patient_that_fails_does_not_spoil_the_others() -> None:
    """A missing measurement that was not masked makes one density NaN: that patient alone is flagged."""
    mode, clean = curve_modes(CURVES.at[1, 2].set(jnp.nan)), curve_modes(CURVES)
    np.testing.assert_array_equal(mode.converged, [True, False, True])
    np.testing.assert_array_equal(mode.position[jnp.array([0, 2])], clean.position[jnp.array([0, 2])])


def test_a_start_at_the_mode_is_not_moved() -> None:
    mode = find_mode(_bounded, exact_expansion(_bounded), 0.0, jnp.full(2, 5.0), jnp.full(2, 5.0))
    assert bool(mode.converged)
    np.testing.assert_array_equal(mode.position, [5.0, 5.0])
