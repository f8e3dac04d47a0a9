r"""Looks at simulated trials while they run: what is known on that day, and whether the trial stops.

A look at a share f of the information comes on the day on which ⌈f n⌉ patients have reached the last visit, or ⌈f d⌉ of
the events have happened at which times are analysed. Nothing after that day is known then. The estimate over its
standard error, turned so that a benefit is positive and put on the normal scale by its p-value, is held against the
boundaries of ``stats.sequential``; the trial stops on the day of the first that it crosses. Estimates at a stop are
those of that day, not corrected for the stopping.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri, stdtr

from trialtwin.stats.sequential import SequentialDesign, sequential_design
from trialtwin.trials.design import Design
from trialtwin.trials.design_parts import BoundaryDesign
from trialtwin.trials.methods import find_method
from trialtwin.trials.simulate import Trials

_LEAST = 1e-300  # a p-value below which nothing is told apart


class Stopped(NamedTuple):
    """How trials ended, by method: estimate, whether it rejects, the look, patients and events so far, and the day.

    ``value`` is NaN where the last look could not be analysed. ``known`` is the share of patients whose endpoint was.
    """

    value: Float[np.ndarray, "method trial"]
    se: Float[np.ndarray, "method trial"]
    df: Float[np.ndarray, "method trial"]
    rejected: Float[np.ndarray, "method trial"]
    look: Float[np.ndarray, "method trial"]
    size: Float[np.ndarray, "method trial"]
    day: Float[np.ndarray, "method trial"]
    events: Float[np.ndarray, "method trial"]
    known: Float[np.ndarray, "method trial"]


def analyse_trials(design: Design, trials: Trials, methods: Sequence[str], treated: int = 1) -> Stopped:
    """Analyse trials by every method at every look, up to the one at which each stops.

    Examples
    --------
    >>> from trialtwin.trials.enrol import Truth
    >>> from trialtwin.trials.simulate import simulate
    >>> from trialtwin.trials.virtual_population import Normal
    >>> plan = Design(title="B against A", patients=80, visits=(0, 168), arms=({"name": "A"}, {"name": "B"}),
    ...     endpoint={"name": "change"}, accrual=2, interims=({"fraction": 0.5},))
    >>> people = Normal(np.array([20.0, 22.0]), np.array([[9.0, 6.0], [6.0, 12.0]]))
    >>> found = simulate(plan, people, Truth("large", (6.0,)), trials=range(20), seed=1)
    >>> ended = analyse_trials(plan, found, ["ancova"])
    >>> bool((ended.look == 1).mean() > 0.8), bool(ended.size.mean() < 80)
    (True, True)
    """
    sign = 1.0 if design.endpoint.better == "higher" else -1.0
    days = look_days(design, trials)
    last = len(days) - 1
    parts = []
    for name in methods:
        analyse = find_method(name, design.endpoint.kind).analyse
        running, columns = (
            np.ones(len(trials.arm), dtype=bool),
            np.full((len(Stopped._fields), len(trials.arm)), np.nan),
        )
        for k, day in enumerate(days):
            seen = trials if k == last else at_day(design, trials, day)
            value, se, df = analyse(seen, design, treated)
            z = _normal(sign * value, se, df)
            reject, stop = _decide(design, z, k)
            ends = running & (reject | stop | (k == last))
            entered = (trials.entered <= day[:, None]) & (trials.exposure > 0)
            size = entered.sum(axis=1)
            known = (np.isfinite(seen.outcome) & entered).sum(axis=1) / size
            counted = np.nansum(seen.outcome, axis=1) if design.endpoint.kind == "time to event" else np.nan * size
            row = np.stack([value, se, df, reject.astype(float), np.full(len(day), k + 1.0), size, day, counted, known])
            columns = np.where(ends, row, columns)
            running &= ~ends
        parts.append(columns)
    return Stopped(*np.stack(parts, axis=1))


def look_days(design: Design, trials: Trials) -> Float[np.ndarray, "look trial"]:
    """Return the day of each look, the last being the end of the trial."""
    end = design.visits[-1]
    if design.endpoint.kind == "time to event":
        happened = np.sort(np.where(trials.outcome == 1, trials.entered + trials.exposure, np.inf), axis=1)
        final = (trials.entered + trials.exposure).max(axis=1)
        wanted = [int(np.ceil(f * (design.endpoint.events or 0) - 1e-9)) for f in design.fractions[:-1]]
        looks = [np.minimum(happened[:, number - 1], final) for number in wanted]
    else:
        final = trials.entered.max(axis=1) + end
        wanted = [int(np.ceil(f * design.patients - 1e-9)) for f in design.fractions[:-1]]
        looks = [trials.entered[:, number - 1] + end for number in wanted]
    return np.stack([*looks, final])


def at_day(design: Design, trials: Trials, day: Float[np.ndarray, " trial"]) -> Trials:
    """Return what is known of each trial on a day."""
    open_ = day[:, None] - trials.entered
    if design.endpoint.kind == "time to event":
        # on the calendar, as the day was found: a difference of days is rounded otherwise
        event = (trials.outcome == 1) & (trials.entered + trials.exposure <= day[:, None])
        exposure = np.minimum(trials.exposure, np.maximum(open_, 0.0))
        return trials._replace(outcome=event.astype(float), exposure=exposure)
    reached = trials.entered + design.visits[-1] <= day[:, None]
    values = trials.values.copy()
    if design.endpoint.measured:
        later = trials.entered[..., None] + np.array(design.visits[1:]) > day[:, None, None]
        values[..., 1:] = np.where(later, np.nan, values[..., 1:])
    return trials._replace(
        outcome=np.where(reached, trials.outcome, np.nan),
        exposure=np.where(reached, trials.exposure, 0.0),
        values=values,
    )


def boundaries(design: Design) -> SequentialDesign | None:
    """Return the boundaries of the looks; none where there is one analysis only.

    Raises
    ------
    ConvergenceError
        If there is no such boundary.
    """
    return None if not design.interims else _boundaries(design.fractions, design.boundary, design.alpha)


@cache
def _boundaries(fractions: tuple[float, ...], asked: BoundaryDesign, alpha: float) -> SequentialDesign:
    """Find boundaries once: futility takes a second."""
    below = asked.below()
    return sequential_design(
        np.array(fractions),
        asked.above(),
        alpha=alpha / 2,
        power=asked.power,
        sides=2 if below is None else 1,
        futility=below,
        binding=asked.binding,
    )


def _normal(
    value: Float[np.ndarray, " trial"], se: Float[np.ndarray, " trial"], df: Float[np.ndarray, " trial"]
) -> Float[np.ndarray, " trial"]:
    """Return the normal deviate with the p-value of a t statistic."""
    t = value / se
    return -np.sign(t) * ndtri(np.maximum(stdtr(df, -np.abs(t)), _LEAST))


def _decide(
    design: Design, z: Float[np.ndarray, " trial"], look: int
) -> tuple[Bool[np.ndarray, " trial"], Bool[np.ndarray, " trial"]]:
    """Return which trials reject at a look, and which stop for futility."""
    plan = boundaries(design)
    if plan is None:
        return np.abs(z) > -ndtri(design.alpha / 2), np.zeros(len(z), dtype=bool)
    if plan.sides == 2:
        return np.abs(z) >= plan.upper[look], np.zeros(len(z), dtype=bool)
    return z >= plan.upper[look], z <= plan.lower[look]
