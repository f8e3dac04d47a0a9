"""Steps of a method's own choice between the points of a grid: error norm, controller, and the march over the grid."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from trialtwin.engine.fixed import finite, share
from trialtwin.engine.grid import Grid
from trialtwin.engine.method import Solution, begin_step, grid_rows, start
from trialtwin.engine.system import AbstractSystem, Scalar, State

SAFETY, SHRINK, GROW = 0.9, 0.2, 6.0


class Attempt(NamedTuple):
    """A step that may be refused: from (t, h, state, rates) to the state after it, its error, and whether it worked."""

    step: Callable[[Scalar, Scalar, State, State], tuple[State, State, Array]]
    order: int
    rtol: float
    atol: float | tuple[float, ...]
    most: int


class _Pace(NamedTuple):
    """Where a march stands between two points of the grid."""

    t: Scalar
    h: Scalar
    state: State
    error: State
    ratio: Scalar
    tried: Array


def march(attempt: Attempt, system: AbstractSystem, parameters: Any, grid: Grid) -> Solution:
    """Solve for one patient from point to point of the grid, with steps of the method's own between."""
    state = start(system, parameters, grid)
    dtype = state[0].dtype
    slot = jnp.searchsorted(grid.outputs, jnp.arange(1, len(grid.times)))
    kept = tuple(jnp.where(grid.outputs == 0, y, jnp.zeros_like(y)) for y in state)
    zero = jnp.zeros((), dtype=dtype)

    def segment(carry: Any, row: Any) -> Any:
        y, h, error, count, stopped, kept, given = carry
        t, length, amounts, rates, asked, place = row
        y, stopped, inflow = begin_step(system, t, y, stopped, amounts, rates, asked, parameters)
        # a dose is a shock: begin anew with a small share of the segment
        shocked = asked | (amounts != 0).any()
        h = jnp.where(shocked | (h <= 0), 1e-3 * length, h)
        pace = _between(attempt, _Pace(zero, h, y, error, jnp.ones_like(t), count), t, length, inflow)
        kept = tuple(k.at[place].set(v, mode="drop") for k, v in zip(kept, pace.state, strict=True))
        given = given + jnp.where(asked & ~stopped, 1.0, 0.0)
        return (pace.state, pace.h, pace.error, pace.tried, stopped, kept, given), None

    carry = (state, zero, tuple(zero for _ in state), jnp.zeros((), dtype=int), jnp.zeros((), dtype=bool), kept, zero)
    rows = (*grid_rows(grid, dtype), slot)
    (_, _, error, count, _, kept, given), _ = jax.lax.scan(segment, carry, rows)
    return Solution(kept, error, finite(kept, error) & (count < attempt.most), share(given, grid))


def _between(attempt: Attempt, pace: _Pace, begin: Scalar, length: Scalar, rates: State) -> _Pace:
    """Step through a stretch of the grid; the pace's time is counted from its beginning."""
    smallest = float(np.finfo(pace.t.dtype).eps)

    def going(now: _Pace) -> Array:
        return (now.t < length) & (now.tried < attempt.most)

    def step(now: _Pace) -> _Pace:
        left = length - now.t
        last = now.h >= left * (1 - 1e-12)
        h = jnp.where(last, left, now.h)
        after, gap, worked = attempt.step(begin + now.t, h, now.state, rates)
        ratio = _norm(attempt, now.state, after, gap)
        worked = worked & jnp.isfinite(ratio)
        taken = worked & (ratio <= 1.0)
        safe = jnp.where(worked, jnp.maximum(ratio, 1e-10), 1.0)
        # proportional–integral: the last accepted ratio damps the next step
        factor = SAFETY * safe ** (-0.7 / attempt.order) * now.ratio ** (0.4 / attempt.order)
        factor = jnp.clip(factor, SHRINK, jnp.where(taken, GROW, 1.0))
        new = jnp.where(worked, h * factor, h * SHRINK)
        # a step cut short by the end of the segment says little about the next
        new = jnp.where(taken & last, jnp.maximum(new, now.h), new)
        # a step lost in rounding can never be taken: give up
        lost = ~taken & (new <= 4 * smallest * length)
        return _Pace(
            t=jnp.where(taken, jnp.where(last, length, now.t + h), now.t),
            h=new,
            state=tuple(jnp.where(taken, a, b) for a, b in zip(after, now.state, strict=True)),
            error=tuple(jnp.where(taken, e + jnp.abs(g), e) for e, g in zip(now.error, gap, strict=True)),
            ratio=jnp.where(taken, safe, now.ratio),
            tried=jnp.where(lost, attempt.most, now.tried + 1),
        )

    return jax.lax.while_loop(going, step, pace)


def _norm(attempt: Attempt, before: State, after: State, gap: State) -> Scalar:
    """Return the root mean square over states of the gap in units of the tolerance."""
    atol = attempt.atol if isinstance(attempt.atol, tuple) else (attempt.atol,) * len(before)
    squares = [
        (g / (a + attempt.rtol * jnp.maximum(jnp.abs(y0), jnp.abs(y1)))) ** 2
        for a, y0, y1, g in zip(atol, before, after, gap, strict=True)
    ]
    return jnp.sqrt(sum(squares[1:], squares[0]) / len(squares))
