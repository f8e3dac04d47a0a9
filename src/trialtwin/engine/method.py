"""What every solver promises, what it returns, and how a course that was not solved is refused."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.backend import enable_float64
from trialtwin.core.errors import ConvergenceError
from trialtwin.engine.grid import Grid
from trialtwin.engine.system import AbstractSystem, Scalar, State

enable_float64()


class Solution(eqx.Module):
    """One patient's course at the outputs of a grid; under ``vmap``, of many patients.

    Parameters
    ----------
    values
        One array a state, of shape (time,).
    error
        For each state, how far off the solver thinks it is: an upper guide to the global error of a system that does
        not amplify errors.
    ok
        True where everything is finite and the method reached the end.
    given
        Share of the doses that were given, of those that were asked about; 1 where there were none.
    """

    values: tuple[Float[Array, "*patient time"], ...]
    error: tuple[Float[Array, "*patient"], ...]
    ok: Bool[Array, "*patient"]
    given: Float[Array, "*patient"]


class AbstractMethod(eqx.Module):
    """A way to solve a system on a grid."""

    @abstractmethod
    def solve(self, system: AbstractSystem, parameters: Any, grid: Grid) -> Solution:
        """Solve for one patient; map over patients with ``jax.vmap``, compile with ``jax.jit``."""


def begin_step(
    system: AbstractSystem, t: Scalar, state: State, stopped: Array, amounts: Array, rates: Array, asked: Array, p: Any
) -> tuple[State, Array, State]:
    """Return the state after decision and bolus, whether dosing has stopped, and the rates of the step."""
    given = jnp.ones((), dtype=amounts.dtype)
    if system.decides:
        decided, stop = system.decide(t, state, p)
        state = tuple(jnp.where(asked, new, old) for new, old in zip(decided, state, strict=True))
        stopped = stopped | (asked & stop)
        given = jnp.where(stopped, 0.0, 1.0).astype(amounts.dtype)
    if system.inputs:
        state = system.receive(t, state, tuple(given * amounts[i] for i in range(len(system.inputs))), p)
    return state, stopped, tuple(given * rates[i] for i in range(len(system.inputs)))


def once[T](values: T) -> T:
    """Have values worked out once where several results need them.

    The compiler otherwise works out every earlier stage of a step anew for each of the step's results.
    """
    return jax.lax.optimization_barrier(values)  # type: ignore[no-untyped-call]


def start(system: AbstractSystem, parameters: Any, grid: Grid) -> State:
    """Return the initial state as floating-point scalars of the grid's precision or the parameters', the lower."""
    state = system.initial(parameters)
    leaves = [x for x in jax.tree.leaves(parameters) if eqx.is_inexact_array(x)]
    kinds = {leaf.dtype for leaf in leaves} or {grid.times.dtype}
    dtype = min(kinds, key=lambda kind: kind.itemsize)
    return tuple(jnp.asarray(y, dtype=dtype) for y in state)


def grid_rows(grid: Grid, dtype: Any) -> tuple[Array, Array, Array, Array, Array]:
    """Return what a scan over the steps reads: begin, length, boluses, rates, and whether a dose is asked about.

    Lengths are differences in the grid's own precision: in single precision, those of times rounded to it would be off
    by a thousandth for an hour in the second year.
    """
    length = grid.times[1:] - grid.times[:-1]
    begin, length, amounts, rates = (x.astype(dtype) for x in (grid.times[:-1], length, grid.amounts, grid.rates))
    return begin, length, amounts, rates, grid.asked


def require_solved(
    solution: Solution, states: tuple[str, ...], ids: tuple[str, ...], tolerances: tuple[float, ...]
) -> None:
    """Refuse courses that are not finite, not finished, or less accurate than the tolerance of a state.

    Raises
    ------
    ConvergenceError
        Naming the states and the patients, and the cure.
    """
    ok = np.atleast_1d(np.asarray(solution.ok))
    error = np.stack([np.atleast_1d(np.asarray(e)) for e in solution.error], axis=1)
    if not ok.all():
        rows = np.flatnonzero(~ok)
        raise ConvergenceError(
            f"the solver failed for {len(rows)} of {len(ok)} patient(s)",
            where=", ".join(ids[r] for r in rows[:10]),
            do="look for parameters or covariates outside their plausible range, or use the stiff method",
        )
    require_accuracy(error, states, ids, tolerances)


def accurate(solution: Solution, tolerances: tuple[float, ...]) -> bool:
    """Tell whether every course was solved to the tolerance of every state."""
    within = [bool((np.asarray(e) <= t).all()) for e, t in zip(solution.error, tolerances, strict=True)]
    return bool(np.asarray(solution.ok).all()) and all(within)


def require_accuracy(
    error: Float[np.ndarray, "patient state"],
    states: tuple[str, ...],
    ids: tuple[str, ...],
    tolerances: tuple[float, ...],
) -> None:
    """Refuse courses whose estimated error is above the tolerance of a state, or not a number.

    Raises
    ------
    ConvergenceError
        Naming the states and the patients, and the cure.
    """
    bad = ~(error <= np.asarray(tolerances))
    if bad.any():
        rows, columns = np.flatnonzero(bad.any(axis=1)), np.flatnonzero(bad.any(axis=0))
        worst = [f"{states[c]} ({np.nanmax(error[:, c]):.2g} where {tolerances[c]:g} is allowed)" for c in columns]
        raise ConvergenceError(
            f"the solver's estimated error is too large in {', '.join(worst)}",
            where=f"{len(rows)} patient(s): " + ", ".join(ids[r] for r in rows[:10]),
            do="use a finer grid, or look for parameters outside their plausible range",
        )
