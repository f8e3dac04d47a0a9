"""Ordinary differential equations on a fixed grid, with an embedded error estimate that refuses a coarse grid."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.backend import enable_float64
from trialtwin.core.errors import ConvergenceError

enable_float64()

type Flow = Callable[[Float[Array, ""], Float[Array, " state"], Any], Float[Array, " state"]]


class Solution(eqx.Module):
    """States and their slopes on the grid, with the accumulated estimate of the error of each state."""

    grid: Float[Array, " step"]
    states: Float[Array, "step state"]
    slopes: Float[Array, "step state"]
    error: Float[Array, " state"]


def solve(flow: Flow, initial: Float[Array, " state"], grid: Float[Array, " step"], args: Any) -> Solution:
    """Integrate dy/dt = flow(t, y, args) over a fixed grid by the Bogacki–Shampine pair of orders 3 and 2.

    The third-order solution is carried; the sum over steps of its distance to the embedded second-order one is
    returned as ``error``, an upper guide to the global error of a system that does not amplify it. Differentiable
    forward and backward; map over patients with ``jax.vmap``.

    Parameters
    ----------
    flow
        Right-hand side; ``t`` in the unit of ``grid``.
    initial : shape (state,)
        State at ``grid[0]``.
    grid : shape (step,)
        Increasing times; its length is part of the compiled structure, its values are not.
    args
        Anything that ``flow`` needs.

    References
    ----------
    Bogacki P, Shampine LF (1989). A 3(2) pair of Runge–Kutta formulas. doi:10.1016/0893-9659(89)90079-7

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> decay = solve(lambda t, y, k: -k * y, jnp.ones(1), jnp.linspace(0.0, 1.0, 101), 1.0)
    >>> round(float(decay.states[-1, 0]), 6)
    0.367879
    """

    def step(carry: Any, ends: Any) -> Any:
        y, k1, error = carry
        t, h = ends[0], ends[1] - ends[0]
        k2 = flow(t + h / 2, y + h / 2 * k1, args)
        k3 = flow(t + 3 * h / 4, y + 3 * h / 4 * k2, args)
        y_next = y + h * (2 / 9 * k1 + 1 / 3 * k2 + 4 / 9 * k3)
        k4 = flow(t + h, y_next, args)
        gap = h * (-5 / 72 * k1 + 1 / 12 * k2 + 1 / 9 * k3 - 1 / 8 * k4)
        return (y_next, k4, error + jnp.abs(gap)), (y_next, k4)

    slope = flow(grid[0], initial, args)
    ends = jnp.stack([grid[:-1], grid[1:]], axis=1)
    (_, _, error), (states, slopes) = jax.lax.scan(step, (initial, slope, jnp.zeros_like(initial)), ends)
    return Solution(
        grid,
        jnp.concatenate([initial[None], states]),
        jnp.concatenate([slope[None], slopes]),
        error,
    )


def interpolate(solution: Solution, at: Float[Array, " time"]) -> Float[Array, "time state"]:
    """Read the solution at any times inside its grid, by cubic Hermite interpolation (order 3, as the solver).

    Times outside the grid are read at its nearest end.
    """
    grid = solution.grid
    at = jnp.clip(at, grid[0], grid[-1])
    left = jnp.clip(jnp.searchsorted(grid, at, side="right") - 1, 0, len(grid) - 2)
    h = (grid[left + 1] - grid[left])[:, None]
    s = (at - grid[left])[:, None] / h
    y0, y1 = solution.states[left], solution.states[left + 1]
    d0, d1 = h * solution.slopes[left], h * solution.slopes[left + 1]
    return (1 + 2 * s) * (1 - s) ** 2 * y0 + s * (1 - s) ** 2 * d0 + s**2 * (3 - 2 * s) * y1 + s**2 * (s - 1) * d1


def require_accuracy(
    error: Float[np.ndarray, "patient state"], states: tuple[str, ...], ids: tuple[str, ...], *, tolerance: float
) -> None:
    """Refuse a solution whose estimated error exceeds the tolerance, or that is not finite.

    Raises
    ------
    ConvergenceError
        Naming the state and the patients, and the cure.
    """
    bad = ~(error <= tolerance)
    if bad.any():
        rows = np.flatnonzero(bad.any(axis=1))
        columns = np.flatnonzero(bad.any(axis=0))
        raise ConvergenceError(
            f"the solver's estimated error exceeds {tolerance:g} in {', '.join(states[c] for c in columns)}"
            f" (largest {np.nanmax(error):.2g})",
            where=f"{len(rows)} patient(s): " + ", ".join(ids[r] for r in rows[:10]),
            do="use a finer grid, or look for parameters outside their plausible range",
        )
