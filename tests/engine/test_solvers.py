"""Solvers against closed forms, against other solvers, and against what their order and tolerance promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pharmacokinetics import RATES, TWO_COMPARTMENTS, closed_form, doses
from scipy.integrate import solve_ivp

from trialtwin.engine.adaptive import Adaptive
from trialtwin.engine.elimination import factorise, solve_factors
from trialtwin.engine.fixed import Fixed
from trialtwin.engine.grid import align
from trialtwin.engine.stiff import Stiff
from trialtwin.engine.system import Equations

P = {name: jnp.asarray(value) for name, value in RATES.items()}
OUTPUTS = np.array([0.0, 0.2, 1.0, 5.0, 7.0, 7.05, 7.1, 10.0, 14.0, 20.0, 30.0])
METHODS = {
    "order 3": (Fixed(3), 0.01),
    "order 5": (Fixed(5), 0.2),
    "order 8": (Fixed(8), 1.0),
    "adaptive": (Adaptive(1e-11, 1e-11), np.inf),
    "stiff": (Stiff(1e-9, 1e-9), np.inf),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("duration", [0.0, 0.1], ids=["bolus", "infusion"])
def test_reference_repeated_doses_follow_the_closed_form_and_are_read_before_the_dose(name: str, duration: float):
    method, longest = METHODS[name]
    given = doses([0.0, 7.0, 14.0], 100.0, duration)
    grid = align(given, OUTPUTS, inputs=1, longest=longest)
    found = jax.jit(lambda p: method.solve(TWO_COMPARTMENTS, p, grid))(P)
    assert bool(found.ok)
    assert float(found.given) == 1.0
    np.testing.assert_allclose(found.values[0], closed_form(OUTPUTS, given), atol=2e-6)


@pytest.mark.parametrize("order", [3, 5, 8])
def test_law_error_falls_with_the_order_of_the_method(order: int):
    decay = Equations(("x",), (), start=lambda p: (p,), rhs=lambda t, y, r, p: (jnp.cos(t) * y[0],))
    errors = []
    for steps in (2, 4) if order == 8 else (8, 16):
        grid = align(None, np.array([4.0]), inputs=0, longest=4.0 / steps)
        solution = Fixed(order).solve(decay, jnp.asarray(1.0), grid)
        errors.append(abs(float(solution.values[0][0]) - np.exp(np.sin(4.0))))
        # the guide is an upper one
        assert errors[-1] < float(solution.error[0])
    assert np.log2(errors[0] / errors[1]) > order - 0.6


@pytest.mark.parametrize("make", [Adaptive, Stiff])
def test_law_error_follows_the_tolerance(make: type):
    pendulum = Equations(
        ("x", "v"), (), start=lambda p: (p, jnp.zeros_like(p)), rhs=lambda t, y, r, p: (y[1], -jnp.sin(y[0]))
    )
    truth = solve_ivp(lambda t, y: (y[1], -np.sin(y[0])), (0, 10), (1.0, 0.0), method="DOP853", rtol=1e-13, atol=1e-13)
    grid = align(None, np.array([10.0]), inputs=0, longest=np.inf)
    errors = []
    for tolerance in (1e-4, 1e-6, 1e-8):
        solution = make(tolerance, tolerance).solve(pendulum, jnp.asarray(1.0), grid)
        errors.append(max(abs(float(v[0]) - y) for v, y in zip(solution.values, truth.y[:, -1], strict=True)))
        assert errors[-1] < 100 * tolerance
        assert errors[-1] < float(max(solution.error))
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_reference_stiff_agrees_with_radau_on_robertson_and_with_time_in_the_equations():
    def robertson(t, y, r, p):
        slow, fast = p * y[0], 1e4 * y[1] * y[2]
        gone = 3e7 * y[1] ** 2
        push = 1e-3 * jnp.sin(t) if isinstance(t, jax.Array) else 1e-3 * np.sin(t)
        return -slow + fast + push, slow - fast - gone, gone

    system = Equations(("a", "b", "c"), (), start=lambda p: (jnp.ones_like(p), 0 * p, 0 * p), rhs=robertson)
    times = np.array([0.4, 4.0, 40.0, 400.0])
    truth = solve_ivp(
        lambda t, y: robertson(t, y, None, 0.04), (0, 400), (1.0, 0, 0), "Radau", t_eval=times, rtol=1e-9, atol=1e-13
    )
    found = Stiff(1e-7, (1e-9, 1e-13, 1e-9)).solve(
        system, jnp.asarray(0.04), align(None, times, inputs=0, longest=np.inf)
    )
    assert bool(found.ok)
    for value, y in zip(found.values, truth.y, strict=True):
        np.testing.assert_allclose(value, y, rtol=1e-5)


def test_elimination_solves_sparse_systems():
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((6, 6)) * (rng.random((6, 6)) < 0.5) + 5 * np.eye(6)
    right = rng.standard_normal(6)
    entries = [[jnp.asarray(x) if x != 0 else None for x in row] for row in matrix]
    found = solve_factors(factorise(entries), [jnp.asarray(x) for x in right])
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-10)


def test_reading_between_points_follows_the_closed_form():
    given = doses([0.0, 7.0], 100.0)
    grid = align(given, np.array([14.0]), inputs=1, longest=0.1)
    at = np.array([0.0, 0.123, 3.3, 7.0, 7.01, 13.99, 14.0])
    found = Fixed(5).follow(TWO_COMPARTMENTS, P, grid, jnp.asarray(at))
    np.testing.assert_allclose(found.values[0], closed_form(at, given), atol=1e-4)


@pytest.mark.parametrize("method", [Fixed(5), Fixed(8), Adaptive(1e-4, 1e-4), Stiff(1e-4, 1e-4)], ids=repr)
def test_single_precision_on_request_keeps_an_hour_in_the_second_year(method):
    given = doses(14.0 * np.arange(39), 100.0, 1 / 24)
    outputs = np.array([280.0, 540.0, 546.0])
    grid = align(given, outputs, inputs=1, longest=1.0 if isinstance(method, Fixed) else np.inf)
    single = {name: value.astype(jnp.float32) for name, value in P.items()}
    found = method.solve(TWO_COMPARTMENTS, single, grid)
    assert found.values[0].dtype == jnp.float32
    tolerance = 2e-5 if isinstance(method, Fixed) else 2e-3
    np.testing.assert_allclose(found.values[0], closed_form(outputs, given), rtol=tolerance)


def test_law_forward_and_reverse_gradients_agree_with_differences():
    given = doses([0.0, 7.0], 100.0, 0.1)
    grid = align(given, np.array([5.0, 12.0]), inputs=1, longest=1.0)

    @jax.jit
    def loss(rates):
        p = dict(zip(RATES, rates, strict=True))
        return sum((value**2).sum() for value in Fixed(5).solve(TWO_COMPARTMENTS, p, grid).values)

    at = jnp.array(list(RATES.values()))
    differences = [(loss(at.at[i].add(1e-5)) - loss(at.at[i].add(-1e-5))) / 2e-5 for i in range(3)]
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(at), differences, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(loss))(at), differences, rtol=1e-6)
