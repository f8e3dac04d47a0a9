"""Ensembles: results that do not depend on company, decisions about doses, refusals, and what is compiled."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pharmacokinetics import RATES, TWO_COMPARTMENTS, doses

from trialtwin.core.errors import ConvergenceError, DataError
from trialtwin.engine.adaptive import Adaptive
from trialtwin.engine.ensemble import solve_ensemble
from trialtwin.engine.fixed import Fixed
from trialtwin.engine.grid import align, stack
from trialtwin.engine.method import require_solved
from trialtwin.engine.stiff import Stiff
from trialtwin.engine.system import AbstractSystem, Equations

GIVEN = doses([0.0, 7.0, 14.0], 100.0, 0.1)
OUTPUTS = np.array([7.0, 20.0])
GRID = align(GIVEN, OUTPUTS, inputs=1, longest=1.0)


def patients(n: int) -> dict[str, jax.Array]:
    spread = np.exp(0.3 * np.random.default_rng(3).standard_normal((n, len(RATES))))
    return {name: jnp.asarray(value * spread[:, i]) for i, (name, value) in enumerate(RATES.items())}


@pytest.mark.parametrize("method", [Fixed(8), Adaptive(), Stiff()], ids=repr)
def test_results_do_not_depend_on_order_or_company_to_the_last_bit(method):
    p = patients(40)
    grid = GRID if isinstance(method, Fixed) else align(GIVEN, OUTPUTS, inputs=1, longest=np.inf)

    def solve(rows: slice, block: int = 16) -> list[np.ndarray]:
        chosen = jax.tree.map(lambda x: x[rows], p)
        return [np.asarray(v) for v in solve_ensemble(TWO_COMPARTMENTS, chosen, grid, method, block=block).values]

    plain = solve(slice(None))
    for a, backwards, fewer, one, smaller in zip(
        plain, solve(slice(None, None, -1)), solve(slice(5, 31)), solve(slice(7, 8)), solve(slice(None), 8), strict=True
    ):
        np.testing.assert_array_equal(a, backwards[::-1])
        np.testing.assert_array_equal(a[5:31], fewer)
        np.testing.assert_array_equal(a[7:8], one)
        # another block is other code: the same to rounding, which a method that chooses its steps may widen
        np.testing.assert_allclose(a, smaller, rtol=1e-12 if isinstance(method, Fixed) else 1e-9)


def test_patients_may_have_grids_of_their_own():
    grids = [align(doses([0.0, 7.0, 14.0], a, 0.1), OUTPUTS, inputs=1, longest=1.0) for a in (100.0, 50.0, 0.0)]
    found = solve_ensemble(
        TWO_COMPARTMENTS, jax.tree.map(lambda x: jnp.repeat(x[:1], 3), patients(1)), stack(grids), Fixed()
    )
    np.testing.assert_allclose(found.values[0][0], 2 * found.values[0][1], rtol=1e-12)
    assert (found.values[0][2] == 0).all()


def test_other_doses_and_patients_do_not_compile_anew():
    traces = []

    def rhs(t, y, r, p):
        traces.append(1)
        return (r[0] - p * y[0],)

    system = Equations(("x",), ("x",), start=lambda p: (jnp.zeros_like(p),), rhs=rhs)
    for amount, day, seed in ((100.0, 7.0, 0.1), (50.0, 6.0, 0.2), (0.0, 5.0, 0.4)):
        grid = align(doses([0.0, day], amount), np.array([7.5]), inputs=1, longest=1.0)
        grid = jax.tree.map(jnp.asarray, grid)
        solve_ensemble(system, jnp.full(4, seed), grid, Fixed())
        if amount == 100.0:
            first = len(traces)
    assert len(traces) == first


class Guarded(AbstractSystem):
    """A state that grows with doses; dosing stops once it is above a limit, and remembers that it was asked."""

    states: tuple[str, ...] = eqx.field(static=True, default=("x", "asked"))
    inputs: tuple[str, ...] = eqx.field(static=True, default=("x",))
    decides: bool = eqx.field(static=True, default=True)

    def initial(self, parameters: Any) -> Any:
        """Begin with nothing."""
        return jnp.zeros_like(parameters), jnp.zeros_like(parameters)

    def flow(self, t: Any, state: Any, rates: Any, parameters: Any) -> Any:
        """Lose a twentieth a day."""
        return rates[0] - 0.05 * state[0], jnp.zeros_like(state[1])

    def receive(self, t: Any, state: Any, amounts: Any, parameters: Any) -> Any:
        """Add the dose."""
        return state[0] + amounts[0], state[1]

    def decide(self, t: Any, state: Any, parameters: Any) -> Any:
        """Count the question, and stop above the limit."""
        return (state[0], state[1] + 1), state[0] > parameters


@pytest.mark.parametrize("duration", [0.0, 0.5], ids=["bolus", "infusion"])
@pytest.mark.parametrize("method", [Fixed(5), Adaptive(1e-9, 1e-9)], ids=["fixed", "adaptive"])
def test_a_stop_rule_looks_at_the_state_before_the_dose_and_is_latched(method, duration):
    times = 2.0 * np.arange(8)
    grid = align(doses(times, 1.0, duration), np.array([16.0]), inputs=1, longest=1.0)
    limits = np.array([0.5, 2.0, 100.0])
    found = solve_ensemble(Guarded(), jnp.asarray(limits), grid, method)
    for i, limit in enumerate(limits):
        x, given, stopped, last = 0.0, 0, False, 0.0
        for t in times:  # programmed again, day by day
            x *= np.exp(-0.05 * (t - last))
            stopped = stopped or x > limit
            last = t
            if not stopped:
                given += 1
                if duration:
                    x = x * np.exp(-0.05 * duration) + (1 - np.exp(-0.05 * duration)) / (0.05 * duration)
                    last = t + duration
                else:
                    x += 1.0
        assert float(found.given[i]) == pytest.approx(given / len(times))
        assert float(found.values[0][i, 0]) == pytest.approx(x * np.exp(-0.05 * (16.0 - last)), rel=1e-7)
    np.testing.assert_allclose(found.values[1][:, 0], 8.0)
    assert 0 < found.given[0] < found.given[1] < found.given[2] == 1.0


def test_a_grid_too_coarse_is_refused_with_states_and_patients_named():
    fast = {name: jnp.full(3, value) for name, value in RATES.items()}
    fast["k12"] = fast["k12"].at[1].set(6.0)
    coarse = align(GIVEN, OUTPUTS, inputs=1, longest=0.5)
    found = solve_ensemble(TWO_COMPARTMENTS, fast, coarse, Fixed())
    with pytest.raises(ConvergenceError, match=r"central .*peripheral") as caught:
        require_solved(found, TWO_COMPARTMENTS.states, ("01", "02", "03"), (1.0, 1.0))
    assert "1 patient(s): 02" in str(caught.value)
    fine = align(GIVEN, OUTPUTS, inputs=1, longest=0.1)
    require_solved(
        solve_ensemble(TWO_COMPARTMENTS, fast, fine, Fixed()), TWO_COMPARTMENTS.states, ("01", "02", "03"), (1.0, 1.0)
    )


@pytest.mark.parametrize("method", [Fixed(5), Adaptive(most=200), Stiff(most=200)], ids=["fixed", "adaptive", "stiff"])
def test_a_solver_that_fails_says_for_whom_and_leaves_the_others(method):
    # x' = p x² leaves every bound at t = 1 / p
    bursting = Equations(("x",), (), start=lambda p: (jnp.ones_like(p),), rhs=lambda t, y, r, p: (p * y[0] ** 2,))
    longest = 0.02 if isinstance(method, Fixed) else np.inf
    grid = align(None, np.array([1.0]), inputs=0, longest=longest)
    found = solve_ensemble(bursting, jnp.array([0.5, 4.0, 0.25]), grid, method)
    assert found.ok.tolist() == [True, False, True]
    np.testing.assert_allclose(found.values[0][jnp.array([0, 2]), 0], [2.0, 4 / 3], rtol=1e-5)
    with pytest.raises(ConvergenceError, match="failed for 1 of 3 patient") as caught:
        require_solved(found, ("x",), ("a", "b", "c"), (1.0,))
    assert "where: b" in str(caught.value)


def test_arrays_that_disagree_about_patients_are_refused():
    with pytest.raises(DataError, match="patients"):
        solve_ensemble(TWO_COMPARTMENTS, {**patients(3), "k10": jnp.ones(2)}, GRID, Fixed())
    with pytest.raises(DataError, match="grids of 2 patients"):
        solve_ensemble(TWO_COMPARTMENTS, patients(3), stack([GRID, GRID]), Fixed())


def test_an_ensemble_can_be_differentiated_and_compiled_with_what_is_around_it():
    p = patients(5)

    def loss(scale):
        scaled = {name: scale * value for name, value in p.items()}
        return sum((v**2).sum() for v in solve_ensemble(TWO_COMPARTMENTS, scaled, GRID, Fixed(3), block=2).values)

    one = jnp.asarray(1.0)
    difference = (loss(one + 1e-5) - loss(one - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(one), difference, rtol=1e-6)
