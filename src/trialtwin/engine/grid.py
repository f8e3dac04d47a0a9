"""Grids of time on which every dose and every output falls on a point."""

import itertools
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from trialtwin.core.errors import DataError

SAME = 1e-9  # days; times as close as this are one


@runtime_checkable
class DoseTable(Protocol):
    """Doses as arrays: when, how much, for how long (0 a bolus), and into which input."""

    @property
    def time(self) -> Float[Array, " dose"]:
        """Return when each dose starts."""

    @property
    def amount(self) -> Float[Array, " dose"]:
        """Return how much each dose is."""

    @property
    def duration(self) -> Float[Array, " dose"]:
        """Return for how long each dose is given; 0 for a bolus."""

    @property
    def input(self) -> Int[Array, " dose"]:
        """Return the place where each dose goes."""


class Grid(eqx.Module):
    """Steps in time with the doses of each: arrays only, so that other doses do not recompile.

    One patient's, or with a leading patient axis (`stack`).

    Parameters
    ----------
    times : shape (step + 1,)
        Never decreasing; a step of no length changes nothing.
    amounts : shape (step, input)
        Boluses at the start of a step.
    rates : shape (step, input)
        Amounts per unit of time, constant over a step.
    asked : shape (step,)
        True where a dose starts, so that the system is asked whether it is given.
    outputs : shape (time,)
        Positions in ``times`` that are read, each before the doses that fall on it.
    """

    times: Float[Array, "*patient point"]
    amounts: Float[Array, "*patient step input"]
    rates: Float[Array, "*patient step input"]
    asked: Bool[Array, "*patient step"]
    outputs: Int[Array, "*patient time"]


def align(
    doses: DoseTable | None,
    outputs: Float[np.ndarray, " time"],
    *,
    inputs: int,
    longest: float,
    first: float | None = None,
    growth: float = 0.5,
    infusion: int = 1,
    start: float = 0.0,
) -> Grid:
    """Return a grid on which doses start and end, and outputs are read, exactly at points.

    After each start and end of a dose, steps begin at ``first`` and grow with the time since then, so that what a dose
    sets off is followed closely: h = min(longest, max(first, growth · time since)).

    Parameters
    ----------
    doses
        From any treatment; None for none. Doses after the last output are left out.
    outputs : shape (time,)
        Increasing, none before ``start``.
    inputs
        Number of places where a dose can go.
    longest
        Longest step; infinity for the steps of an adaptive method, which chooses its own between the points.
    first
        First step after a dose; ``longest`` where it is not given.
    infusion
        Fewest steps over a dose that has a duration.

    Raises
    ------
    DataError
        If times are not finite, not increasing or before the start, an amount is negative, or a step has no length.

    Examples
    --------
    >>> grid = align(None, np.array([1.0, 2.0]), inputs=0, longest=0.5)
    >>> grid.times[:5].tolist(), grid.outputs.tolist()
    ([0.0, 0.5, 1.0, 1.5, 2.0], [2, 4])
    """
    outputs = _checked(np.asarray(outputs, dtype=float), start)
    if not longest > 0 or (first is not None and not first > 0) or infusion < 1:
        raise DataError(
            f"steps of at most {longest}, first {first}, {infusion} an infusion", do="give lengths above 0, 1 or more"
        )
    time, amount, duration, place = _table(doses, start, outputs[-1])
    duration = np.where(duration > SAME, duration, 0.0)
    ends = (time + duration)[duration > 0]
    shocks = _distinct(np.concatenate([[start], time, ends[ends < outputs[-1]]]))
    inside = (time + duration * np.arange(1, infusion)[:, None] / infusion)[:, duration > 0].ravel()
    events = _distinct(np.concatenate([shocks, inside[inside < outputs[-1]], outputs]))
    points = _steps(events, shocks, longest, first or longest, growth)
    steps = _bucket(len(points) - 1)
    times = np.concatenate([points, np.full(steps + 1 - len(points), points[-1])])
    amounts, rates, asked = _dosed(points, (time, amount, duration, place), (steps, inputs))
    read = np.array([int(np.argmin(np.abs(points - t))) for t in outputs])
    return Grid(*(jnp.asarray(x) for x in (times, amounts, rates, asked, read)))


def _checked(outputs: np.ndarray, start: float) -> np.ndarray:
    """Return output times that can be read."""
    if len(outputs) == 0 or not np.isfinite(outputs).all() or (np.diff(outputs) <= 0).any() or outputs[0] < start:
        raise DataError("output times must be finite, increasing and not before the start", where=f"times {outputs}")
    return outputs


def _dosed(
    points: np.ndarray, table: tuple[np.ndarray, ...], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the boluses, rates and asked doses of every step."""
    amounts, rates, asked = np.zeros(shape), np.zeros(shape), np.zeros(shape[0], dtype=bool)
    for t, a, d, i in zip(*table, strict=True):
        at = int(np.argmin(np.abs(points - t)))
        asked[at] = True
        if d > 0:
            until = int(np.argmin(np.abs(points - (t + d)))) if t + d < points[-1] else len(points) - 1
            rates[at:until, i] += a / d
        else:
            amounts[at, i] += a
    return amounts, rates, asked


def stack(grids: list[Grid]) -> Grid:
    """Return grids of several patients as one with a leading patient axis, padded to the longest.

    All must have the same number of outputs.
    """
    steps = max(len(grid.asked) for grid in grids)

    def padded(array: Array, length: int, *, edge: bool) -> np.ndarray:
        extra = [(0, length - len(array)), *[(0, 0)] * (array.ndim - 1)]
        return np.pad(np.asarray(array), extra, mode="edge") if edge else np.pad(np.asarray(array), extra)

    return Grid(
        times=jnp.asarray(np.stack([padded(g.times, steps + 1, edge=True) for g in grids])),
        amounts=jnp.asarray(np.stack([padded(g.amounts, steps, edge=False) for g in grids])),
        rates=jnp.asarray(np.stack([padded(g.rates, steps, edge=False) for g in grids])),
        asked=jnp.asarray(np.stack([padded(g.asked, steps, edge=False) for g in grids])),
        outputs=jnp.asarray(np.stack([np.asarray(g.outputs) for g in grids])),
    )


def _table(doses: DoseTable | None, start: float, last: float) -> tuple[np.ndarray, ...]:
    """Return the doses that start before the last output, checked."""
    if doses is None:
        return np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, dtype=int)
    columns = tuple(np.asarray(column) for column in (doses.time, doses.amount, doses.duration, doses.input))
    time, amount, duration, _ = columns
    if not all(np.isfinite(column).all() for column in columns[:3]):
        raise DataError("a dose has a time, amount or duration that is not a finite number")
    if (amount < 0).any() or (duration < 0).any() or (time < start).any():
        row = int(np.flatnonzero((amount < 0) | (duration < 0) | (time < start))[0])
        raise DataError(
            "a dose is negative, or is given before the start",
            where=f"dose {row + 1}: {amount[row]:g} at day {time[row]:g} over {duration[row]:g} days",
            do="give amounts and durations of 0 or more, from baseline on",
        )
    return tuple(column[time < last] for column in columns)


def _bucket(steps: int) -> int:
    """Round a number of steps up to one of at most eight an octave, so that few lengths are compiled."""
    size = max(4, 2 ** max(0, steps.bit_length() - 4))
    return max(1, -(-steps // size)) * size


def _distinct(times: np.ndarray) -> np.ndarray:
    """Sort times, and take those within a hair of each other as one."""
    ordered = np.sort(times)
    return ordered[np.concatenate([[True], np.diff(ordered) > SAME])]


def _steps(events: np.ndarray, shocks: np.ndarray, longest: float, first: float, growth: float) -> np.ndarray:
    """Fill the time between events with steps that grow since the last shock."""
    points = [events[0]]
    for begin, end in itertools.pairwise(events):
        shock = shocks[np.searchsorted(shocks, begin + SAME, side="right") - 1]
        t = begin
        while end - t > SAME:
            h = min(longest, max(first, growth * (t - shock)))
            left = end - t
            # two even steps rather than a long and a very short one
            h = left if left <= h * 1.0001 else min(h, left / 2) if left < 2 * h else h
            t = end if end - (t + h) <= SAME else t + h
            points.append(t)
    return np.array(points)
