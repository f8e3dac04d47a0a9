"""Explicit Runge–Kutta methods on the steps of a grid, with an embedded error estimate."""

from typing import Any, Literal, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.engine.grid import Grid
from trialtwin.engine.method import AbstractMethod, Solution, begin_step, grid_rows, once, start
from trialtwin.engine.system import AbstractSystem, Scalar, State
from trialtwin.engine.tableaus import TABLEAUS, Tableau

SHORT = 7  # stages; in longer methods the states between stages are worth keeping too


def runge_kutta(
    tableau: Tableau, system: AbstractSystem, t: Scalar, h: Scalar, state: State, rates: State, parameters: Any
) -> tuple[State, State, State, State]:
    """Return the state after one step, the embedded gap, and the slopes at the step's two ends."""
    slopes: list[State] = []
    for node, row in zip(tableau.nodes, tableau.stages, strict=True):
        inner = _advance(state, h, row, slopes)
        if len(tableau.nodes) > SHORT:
            inner = once(inner)
        slopes.append(once(system.flow(t + node * h, inner, rates, parameters)))
    after = _advance(state, h, tableau.weights, slopes)
    gap = _advance(tuple(jnp.zeros_like(y) for y in state), h, tableau.gap, slopes)
    # the last stage is the slope at the end where it has no weight of its own
    last = slopes[-1] if tableau.weights[-1] == 0.0 else system.flow(t + h, after, rates, parameters)
    return after, gap, slopes[0], last


def _advance(state: State, h: Scalar, weights: tuple[float, ...], slopes: list[State]) -> State:
    moved = []
    for i, y in enumerate(state):
        terms = [w * k[i] for w, k in zip(weights, slopes, strict=False) if w != 0.0]
        moved.append(y + h * sum(terms[1:], terms[0]) if terms else y)
    return tuple(moved)


@final
class Fixed(AbstractMethod):
    """An explicit Runge–Kutta pair that takes the steps of the grid as they are.

    The higher-order solution is carried; the sum over steps of its distance to the embedded one is the error that is
    returned. Differentiable forward and backward.

    Parameters
    ----------
    order
        3 for the pair of Bogacki and Shampine (3 and 2), 5 for that of Tsitouras (5 and 4), 8 for that of Hairer,
        Nørsett and Wanner (8 and 5), the cheapest for smooth courses and relative errors of 1e-5 or less.

    Examples
    --------
    >>> import numpy as np
    >>> from trialtwin.engine.grid import align
    >>> from trialtwin.engine.system import Equations
    >>> decay = Equations(states=("x",), inputs=(), start=lambda p: (p,), rhs=lambda t, y, r, p: (-y[0],))
    >>> grid = align(None, np.array([1.0]), inputs=0, longest=0.1)
    >>> round(float(Fixed().solve(decay, jnp.asarray(1.0), grid).values[0][0]), 6)
    0.367879
    """

    order: Literal[3, 5, 8] = eqx.field(static=True, default=5)

    def solve(self, system: AbstractSystem, parameters: Any, grid: Grid) -> Solution:
        """Solve for one patient on the steps of the grid."""
        state = start(system, parameters, grid)
        dtype = state[0].dtype
        slot = jnp.searchsorted(grid.outputs, jnp.arange(1, len(grid.times)))
        kept = tuple(jnp.where(grid.outputs == 0, y, jnp.zeros_like(y)) for y in state)
        tableau = TABLEAUS[self.order]

        def step(carry: Any, row: Any) -> Any:
            y, error, stopped, kept, given = carry
            t, h, amounts, rates, asked, place = row
            y, stopped, inflow = begin_step(system, t, y, stopped, amounts, rates, asked, parameters)
            y, gap, _, _ = runge_kutta(tableau, system, t, h, y, inflow, parameters)
            error = tuple(e + jnp.abs(g) for e, g in zip(error, gap, strict=True))
            # every step writes where the next output goes; the last to write is the one that ends there
            kept = tuple(k.at[place].set(value, mode="drop") for k, value in zip(kept, y, strict=True))
            return (y, error, stopped, kept, given + jnp.where(asked & ~stopped, 1.0, 0.0)), None

        zero = jnp.zeros((), dtype=dtype)
        carry = (state, tuple(zero for _ in state), jnp.zeros((), dtype=bool), kept, zero)
        rows = (*grid_rows(grid, dtype), slot)
        # a reverse gradient keeps the states between steps, not the stages: a third of the time, a tenth of the memory
        (_, error, _, kept, given), _ = jax.lax.scan(jax.checkpoint(step), carry, rows)
        return Solution(kept, error, finite(kept, error), share(given, grid))

    def follow(self, system: AbstractSystem, parameters: Any, grid: Grid, at: Float[Array, " time"]) -> Solution:
        """Solve on the steps of the grid, and read at any times by cubic Hermite interpolation.

        For courses that are smooth between grid points; times outside the grid are read at its nearest end.
        """
        state = start(system, parameters, grid)
        tableau = TABLEAUS[self.order]

        def step(carry: Any, row: Any) -> Any:
            y, error, stopped, given = carry
            t, h, amounts, rates, asked = row
            begun, stopped, inflow = begin_step(system, t, y, stopped, amounts, rates, asked, parameters)
            after, gap, first, last = runge_kutta(tableau, system, t, h, begun, inflow, parameters)
            error = tuple(e + jnp.abs(g) for e, g in zip(error, gap, strict=True))
            return (after, error, stopped, given + jnp.where(asked & ~stopped, 1.0, 0.0)), (begun, first, after, last)

        zero = jnp.zeros_like(state[0])
        carry = (state, tuple(zero for _ in state), jnp.zeros((), dtype=bool), zero)
        rows = grid_rows(grid, zero.dtype)
        (_, error, _, given), (y0, d0, y1, d1) = jax.lax.scan(step, carry, rows)
        inside = jnp.clip(at, grid.times[0], grid.times[-1])
        # the left step at a grid point: before the doses that fall on it
        left = jnp.clip(jnp.searchsorted(grid.times, inside, side="left") - 1, 0, len(grid.asked) - 1)
        h = grid.times[left + 1] - grid.times[left]
        s = jnp.where(h > 0, (inside - grid.times[left]) / jnp.where(h > 0, h, 1.0), 1.0)
        values = tuple(
            (1 + 2 * s) * (1 - s) ** 2 * a[left]
            + s * (1 - s) ** 2 * h * da[left]
            + s**2 * (3 - 2 * s) * b[left]
            + s**2 * (s - 1) * h * db[left]
            for a, da, b, db in zip(y0, d0, y1, d1, strict=True)
        )
        values = tuple(jnp.where(inside <= grid.times[0], y, v) for y, v in zip(state, values, strict=True))
        return Solution(values, error, finite(values, error), share(given, grid))


def finite(values: tuple[Array, ...], error: tuple[Array, ...]) -> Array:
    """Tell whether everything is a finite number."""
    return jnp.stack([jnp.isfinite(v).all() for v in (*values, *error)]).all()


def share(given: Array, grid: Grid) -> Array:
    """Return the share of the doses asked about that were given."""
    asked = grid.asked.sum()
    return jnp.where(asked > 0, given / jnp.maximum(asked, 1), 1.0)
