"""The solver: against other programs and closed forms, its order, its error estimate, and its gradients."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.linalg import expm

from trialtwin.core.errors import ConvergenceError
from trialtwin.engine.solve import interpolate, require_accuracy, solve


def pendulum(t: Array, y: Array, rate: Array) -> Array:
    """Return a driven, damped pendulum: nonlinear, and dependent on time."""
    return jnp.stack([y[1], -rate * jnp.sin(y[0]) - 0.2 * y[1] + 0.5 * jnp.cos(1.3 * t)])


START = jnp.array([1.2, -0.3])


@pytest.mark.reference
def test_reference_diffrax_tsit5() -> None:
    """Tsit5 of diffrax 0.7.2 at rtol 1e-10: 10 time units at a step of 0.01 agree to 1e-6, between grid points too."""
    at = jnp.linspace(0.0, 10.0, 137)
    reference = diffrax.diffeqsolve(
        diffrax.ODETerm(pendulum),
        diffrax.Tsit5(),
        t0=0.0,
        t1=10.0,
        dt0=0.01,
        y0=START,
        args=jnp.asarray(2.0),
        saveat=diffrax.SaveAt(ts=at),
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-12),
    )
    solution = solve(pendulum, START, jnp.linspace(0.0, 10.0, 1001), jnp.asarray(2.0))
    np.testing.assert_allclose(interpolate(solution, at), reference.ys, atol=1e-6)


def test_independent_stiff_linear_system() -> None:
    """Rates of −1 and −50 at a step of 0.01 (h λ = −0.5), against the matrix exponential."""
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    A = turn @ np.diag([-1.0, -50.0]) @ turn.T
    solution = solve(lambda t, y, a: a @ y, jnp.array([1.0, 2.0]), jnp.linspace(0.0, 2.0, 201), jnp.asarray(A))
    error = np.abs(np.asarray(solution.states) - [expm(A * t) @ [1.0, 2.0] for t in np.asarray(solution.grid)])
    assert error.max() < 5e-3
    assert error[50:].max() < 1e-6


def _errors(steps: int) -> Array:
    """Return the errors, at three places of each step, of y' = −y + cos t, whose solution is (sin t + cos t) / 2."""
    grid = jnp.linspace(0.0, 4.0, steps + 1)
    solution = solve(lambda t, y, a: jnp.cos(t) - y, jnp.array([0.5]), grid, None)
    places = grid[:-1] + jnp.array([[1.0], [0.5], [0.3]]) * jnp.diff(grid)
    read = jax.vmap(lambda at: interpolate(solution, at)[:, 0])(places)
    return jnp.abs(read - (jnp.sin(places) + jnp.cos(places)) / 2).max(axis=1)


def test_independent_order_three() -> None:
    """Halving the step divides the error by eight: observed order 3 ± 0.1, on the grid, half-way and off-centre."""
    errors = np.array([jax.jit(_errors, static_argnums=0)(steps) for steps in (40, 80, 160)])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 3.0, atol=0.1)


def test_a_parabola_is_solved_and_read_exactly() -> None:
    """Order 3 solves y' = t² without error on any grid, and the cubic reads it without error anywhere."""
    grid = jnp.array([0.0, 0.1, 0.7, 0.9, 2.0])
    at = jnp.linspace(0.0, 2.0, 51)
    solution = solve(lambda t, y, a: t[None] ** 2, jnp.zeros(1), grid, None)
    np.testing.assert_allclose(interpolate(solution, at)[:, 0], at**3 / 3, atol=1e-15)


def test_reading_outside_the_grid_gives_its_ends() -> None:
    solution = solve(pendulum, START, jnp.linspace(0.0, 1.0, 11), jnp.asarray(2.0))
    first, last = interpolate(solution, jnp.array([-1.0, 9.0]))
    np.testing.assert_allclose(first, solution.states[0], rtol=1e-14)
    np.testing.assert_allclose(last, solution.states[-1], rtol=1e-14)


@pytest.mark.parametrize("step", [0.2, 0.05, 0.0125])
def test_the_error_estimate_bounds_the_error_of_a_system_that_does_not_amplify(step: float) -> None:
    """For y' = λ y + cos t, λ from −2 to 0, the estimate of order 2 lies above twice the error of order 3."""
    rates = np.array([0.0, -0.5, -2.0])
    grid = jnp.linspace(0.0, 4.0, round(4.0 / step) + 1)
    solution = jax.jit(lambda a: solve(lambda t, y, a: a * y + jnp.cos(t), jnp.zeros(3), grid, a))(rates)
    t = np.asarray(grid)[:, None]
    exact = (np.sin(t) - rates * np.cos(t) + rates * np.exp(rates * t)) / (1 + rates**2)
    error = np.abs(np.asarray(solution.states) - exact).max(axis=0)
    assert (np.asarray(solution.error) > 2 * error).all()


def test_the_error_estimate_falls_with_the_square_of_the_step() -> None:
    estimates = [
        float(solve(pendulum, START, jnp.linspace(0.0, 5.0, n + 1), jnp.asarray(2.0)).error.max()) for n in (100, 200)
    ]
    assert estimates[0] / estimates[1] == pytest.approx(4.0, rel=0.05)


def test_a_step_beyond_stability_is_seen_in_the_estimate() -> None:
    """At h λ = −4, outside the region of stability, the estimate exceeds what was to be solved."""
    solution = solve(lambda t, y, a: -4.0 * y, jnp.ones(1), jnp.arange(11.0), None)
    assert float(solution.error[0]) > 1.0


def _end(parameters: Array) -> Array:
    """Return a scalar of the last state, as a function of the start and the rate."""
    solution = solve(pendulum, parameters[:2], jnp.linspace(0.0, 3.0, 61), parameters[2])
    return jnp.sum(interpolate(solution, jnp.array([2.47])) ** 2) + solution.states[-1, 0]


def test_independent_gradients() -> None:
    """Forward and backward agree with each other to rounding and with central differences to 1e-7."""
    at = jnp.array([1.2, -0.3, 2.0])
    forward, backward = jax.jit(jax.jacfwd(_end))(at), jax.jit(jax.jacrev(_end))(at)
    h = 1e-5
    end = jax.jit(_end)
    differences = [(end(at + h * e) - end(at - h * e)) / (2 * h) for e in jnp.eye(3)]
    np.testing.assert_allclose(forward, backward, rtol=1e-12)
    np.testing.assert_allclose(forward, jnp.stack(differences), rtol=1e-7)


def test_independent_second_derivative() -> None:
    """Of exp(−k t) with respect to k: t² exp(−k t), through forward over reverse."""

    def end(k: Array) -> Array:
        return solve(lambda t, y, a: -a * y, jnp.ones(1), jnp.linspace(0.0, 1.0, 201), k).states[-1, 0]

    assert float(jax.hessian(end)(jnp.asarray(0.7))) == pytest.approx(np.exp(-0.7), rel=1e-6)


def test_mapping_over_patients_is_solving_each() -> None:
    grid = jnp.linspace(0.0, 2.0, 21)
    rates = jnp.array([0.5, 1.0, 3.0])
    together = jax.vmap(lambda r: solve(pendulum, START, grid, r).states)(rates)
    alone = jax.jit(lambda r: solve(pendulum, START, grid, r).states)
    for rate, states in zip(rates, together, strict=True):
        np.testing.assert_allclose(states, alone(rate), rtol=1e-12)


def test_another_grid_of_the_same_length_does_not_compile_again() -> None:
    traced = 0

    def flow(t: Array, y: Array, args: Any) -> Array:
        nonlocal traced
        traced += 1
        return -y

    run = jax.jit(lambda grid: solve(flow, jnp.ones(1), grid, None).states)
    run(jnp.linspace(0.0, 1.0, 11))
    first = traced
    run(jnp.linspace(0.0, 2.0, 11))
    assert traced == first


def test_an_error_above_the_tolerance_names_states_patients_and_the_cure() -> None:
    error = np.zeros((4, 3))
    error[1, 2] = 2e-3
    error[3, 0] = np.nan
    with pytest.raises(ConvergenceError) as caught:
        require_accuracy(error, ("amyloid", "tau", "severity"), ("a", "b", "c", "d"), tolerance=1e-4)
    message = str(caught.value)
    assert "exceeds 0.0001 in amyloid, severity (largest 0.002)" in message
    assert "2 patient(s): b, d" in message
    assert "finer grid" in message
    assert "tau" not in message


def test_an_error_at_the_tolerance_passes() -> None:
    require_accuracy(np.full((2, 1), 1e-4), ("tau",), ("a", "b"), tolerance=1e-4)
