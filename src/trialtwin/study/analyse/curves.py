"""Survival curves as a finding: steps with intervals, and the number at risk at round times."""

import numpy as np

from trialtwin.core.finding import Cell, Column, Evidence, Figure, Finding, Table, Verdict
from trialtwin.study.analyse.rows import Analysed
from trialtwin.trials.answer import Curve
from trialtwin.trials.outcomes import SurvivalOutcome

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST = 8


def curve_finding(one: Analysed, evidence: Evidence) -> Finding:
    """Return the curves of an analysis, drawn."""
    outcome, curves = one.endpoint.outcome, one.answer.curves
    if not isinstance(outcome, SurvivalOutcome):
        raise TypeError(f"survival curves of a {one.endpoint.spec.kind} endpoint")
    grid = round_times(float(outcome.time.max()))
    rows = [row for place, curve in enumerate(curves) for row in _rows(outcome, place, curve, grid)]
    level = f"{curves[0].level:.0%}"
    return Finding(
        id=f"survival.curves.{one.spec.id}",
        section="survival",
        title=f"{one.title} curves: {one.endpoint.spec.words}",
        verdict=Verdict.INFO,
        text=(
            f"Share of patients without the event, with pointwise {level} intervals (log-log scale, Greenwood)."
            " Under the curves: patients at risk."
        ),
        table=Table(
            columns=(
                Column(name="arm", label="Arm"),
                Column(name="time", label="Time", unit=outcome.unit, decimals=0),
                Column(name="survival", label="Without the event", decimals=3),
                Column(name="lower", label=f"{level} lower", decimals=3),
                Column(name="upper", label=f"{level} upper", decimals=3),
                Column(name="at_risk", label="At risk", decimals=0),
            ),
            rows=tuple(rows),
        ),
        figure=Figure(
            kind="survival",
            encoding={
                "x": "time",
                "y": "survival",
                "low": "lower",
                "high": "upper",
                "group": "arm",
                "at_risk": "at_risk",
            },
            x_label=f"Time ({outcome.unit})",
            y_label="Without the event",
            alt=f"Kaplan–Meier curves of {one.endpoint.spec.words} by arm with intervals and the numbers at risk.",
        ),
        evidence=evidence,
    )


def round_times(last: float) -> list[float]:
    """Return at most eight evenly spaced round times from 0 to the last one.

    Examples
    --------
    >>> round_times(205.0)
    [0.0, 50.0, 100.0, 150.0, 200.0]
    """
    power = 10.0 ** np.floor(np.log10(last / _MOST))
    step = next(factor * power for factor in _STEPS if last / (factor * power) < _MOST)
    return [float(t) for t in np.arange(0.0, last + step * 1e-9, step)]


def _rows(outcome: SurvivalOutcome, place: int, curve: Curve, grid: list[float]) -> list[tuple[Cell, ...]]:
    """Return an arm's curve: a row at each event, at each round time, and at the end of follow-up."""
    own = outcome.time[outcome.patients.arm == place]
    within = [t for t in grid if t <= curve.estimate.last]
    times = np.unique(np.concatenate([within, curve.estimate.times, [curve.estimate.last]]))
    survival, bounds = curve.estimate.at(times), curve.estimate.interval(times, level=curve.level)
    rows: list[tuple[Cell, ...]] = []
    for t, s, low, high in zip(times, survival, bounds.lower, bounds.upper, strict=True):
        known = np.isfinite(low) and np.isfinite(high)
        at_risk = int((own >= t).sum()) if t in grid else None
        rows.append(
            (curve.arm, float(t), float(s), float(low) if known else None, float(high) if known else None, at_risk)
        )
    rows += [(curve.arm, t, None, None, None, 0) for t in grid if t > curve.estimate.last]
    return rows
