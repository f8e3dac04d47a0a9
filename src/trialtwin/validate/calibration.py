"""Findings on calibration: coverage of intervals, ranks of outcomes in their forecasts, and courses to look at."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from scipy.stats import binom

from trialtwin.core.estimate import Estimate
from trialtwin.core.finding import Cell, Column, Evidence, Figure, Finding, Table, Verdict
from trialtwin.stats.calibration import coverage, pit, uniformity
from trialtwin.validate.forecast import Forecast

ALPHA = 0.05
LEVELS = (0.5, 0.9)
BINS = 10

_COVERAGE_COLUMNS = (
    Column(name="level", label="Interval"),
    Column(name="twin", label="Twin"),
    Column(name="visit", label="Visit"),
    Column(name="n", label="n", decimals=0),
    Column(name="nominal", label="Claimed", decimals=2),
    Column(name="coverage", label="Covered", decimals=3),
    Column(name="lower", label="95 % lower", decimals=3),
    Column(name="upper", label="95 % upper", decimals=3),
    Column(name="p", label="Exact p", decimals=3),
)
_COVERAGE_FIGURE = Figure(
    kind="interval",
    encoding={
        "x": "visit",
        "y": "coverage",
        "low": "lower",
        "high": "upper",
        "reference": "nominal",
        "group": "twin",
        "panel": "level",
    },
    x_label="Visit",
    y_label="Share of patients covered (95 % interval)",
    alt="Coverage of 50 and 90 percent prediction intervals at each visit, with exact limits, beside the claim.",
)
_RANK_COLUMNS = (
    Column(name="panel", label="Twin and visit"),
    Column(name="middle", label="PIT, middle of bin", decimals=2),
    Column(name="count", label="Patients", decimals=0),
    Column(name="low", label="Expected, 5 %", decimals=0),
    Column(name="high", label="Expected, 95 %", decimals=0),
)
_RANK_FIGURE = Figure(
    kind="histogram",
    encoding={"x": "middle", "y": "count", "low": "low", "high": "high", "panel": "panel"},
    x_label="PIT of the measured value",
    y_label="Patients",
    alt="Histograms of PIT values by twin and visit, with the band expected of a calibrated forecast.",
)
_COURSE_ENCODING = {
    "x": "day",
    "low": "5 %",
    "inner_low": "25 %",
    "median": "Median",
    "inner_high": "75 %",
    "high": "95 %",
    "observed": "observed",
    "panel": "subject",
}


def judge_coverage(forecasts: Sequence[Forecast], *, section: str, evidence: Evidence) -> Finding:
    """Judge whether 50 % and 90 % intervals hold the share of outcomes that they claim, visit by visit.

    Fails where an exact binomial test rejects at 5 % after Holm's correction over twins, visits and levels.
    """
    names: list[str] = []
    rows: list[tuple[Cell, ...]] = []
    shares: list[Estimate] = []
    for twin, v, level in ((t, v, level) for t in forecasts for v in range(len(t.visits)) for level in LEVELS):
        seen = np.isfinite(twin.observed[:, v])
        low, high = np.quantile(twin.draws[:, seen, v], ((1 - level) / 2, (1 + level) / 2), axis=0)
        share = coverage(low, high, twin.observed[seen, v], level)
        names.append(f"{twin.name}, {twin.visits[v]}, {level:.0%}")
        shares.append(share)
        place = (f"{level:.0%} intervals", f"{twin.name} twin", twin.visits[v])
        rows.append((*place, share.n, level, share.value, share.lower, share.upper, share.p))
    bad = [name for name, miss in zip(names, _holm([share.p for share in shares]), strict=True) if miss]
    verdict = (
        f"Coverage differs from its claim, beyond chance, for: {'; '.join(bad)}."
        if bad
        else "No share differs from its claim beyond chance (exact binomial tests, Holm's correction, 5 %)."
    )
    return Finding(
        id=f"{section}.coverage",
        section=section,
        title="Coverage of prediction intervals by visit",
        verdict=Verdict.FAIL if bad else Verdict.PASS,
        text=f"Share of control patients whose measured value lay inside the interval forecast at baseline. {verdict}",
        table=Table(columns=_COVERAGE_COLUMNS, rows=tuple(rows), note="Limits by Clopper and Pearson."),
        figure=_COVERAGE_FIGURE,
        evidence=evidence,
    )


def judge_ranks(forecasts: Sequence[Forecast], *, section: str, evidence: Evidence, seed: int) -> Finding:
    """Judge whether the probability integral transform of the outcomes is uniform, visit by visit.

    Fails where Neyman's smooth test rejects at 5 % after Holm's correction over twins and visits.
    """
    rows: list[tuple[Cell, ...]] = []
    tests: list[tuple[str, float, float]] = []
    for twin in forecasts:
        for v, visit in enumerate(twin.visits):
            seen = np.isfinite(twin.observed[:, v])
            values = pit(twin.draws[:, seen, v], twin.observed[seen, v], seed=seed)
            name = f"{twin.name} twin, {visit}"
            test = uniformity(values)
            tests.append((name, test.p, test.components[1]))
            rows += [(name, *row) for row in _histogram(values)]
    rejected = _holm([p for _, p, _ in tests])
    bad = [f"{name} (p {p:.3f})" for (name, p, _), miss in zip(tests, rejected, strict=True) if miss]
    summary = "; ".join(f"{name}: p {p:.2f}" for name, p, _ in tests)
    return Finding(
        id=f"{section}.pit",
        section=section,
        title="Rank of the outcome in its forecast (PIT) by visit",
        verdict=Verdict.FAIL if bad else Verdict.PASS,
        text=(
            "Where each measured value falls in the distribution forecast for that control patient: uniform if"
            " forecasts are calibrated, heaped in the middle if they are too wide, at the ends if too narrow. "
            + (f"Not uniform: {'; '.join(bad)}. " if bad else "No departure beyond chance (Holm's correction, 5 %). ")
            + f"Neyman's smooth test, {summary}."
        ),
        table=Table(
            columns=_RANK_COLUMNS,
            rows=tuple(rows),
            note="Ties with draws are broken at random with the seed of the run.",
        ),
        figure=_RANK_FIGURE,
        evidence=evidence,
    )


def show_courses(twin: Forecast, *, panels: int, section: str, evidence: Evidence) -> Finding:
    """Show forecast bands and measurements of a few patients, spread evenly over the forecast change.

    The patients are those at equal steps of rank in the forecast change at the last visit among those measured at
    least once after baseline: chosen by forecast, not by success.
    """
    chosen = _spread(twin, panels)
    rows: list[tuple[Cell, ...]] = []
    for i in chosen:
        start = float(twin.base[i])
        rows.append((twin.ids[i], 0.0, start, start, start, start, start, start))
        bands = np.quantile(twin.draws[:, i], (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
        for v, day in enumerate(twin.days):
            seen = twin.observed[i, v]
            rows.append((twin.ids[i], float(day), *map(float, bands[:, v]), float(seen) if np.isfinite(seen) else None))
    unit = twin.variable.unit
    return Finding(
        id=f"{section}.courses.{twin.name}",
        section=section,
        title=f"Courses forecast by the {twin.name} twin, and what happened",
        verdict=Verdict.INFO,
        text=(
            f"{len(chosen)} control patients at equal steps of rank in the forecast change, from least to most. Bands"
            " hold 50 % and 90 % of what would be measured without treatment; dots are measurements. The course starts"
            " at the measured baseline value."
        ),
        table=Table(
            columns=(
                Column(name="subject", label="Subject"),
                Column(name="day", label="Time since baseline", unit="days", decimals=0),
                *(Column(name=q, label=q, unit=unit, decimals=1) for q in ("5 %", "25 %", "Median", "75 %", "95 %")),
                Column(name="observed", label="Measured", unit=unit, decimals=1),
            ),
            rows=tuple(rows),
        ),
        figure=Figure(
            kind="fan",
            encoding=_COURSE_ENCODING,
            x_label="Time since baseline (days)",
            y_label=twin.variable.title,
            alt="Predictive bands of selected control patients with their measured values.",
        ),
        evidence=evidence,
    )


def _spread(twin: Forecast, panels: int) -> Int[np.ndarray, " chosen"]:
    """Choose patients at equal steps of rank in the forecast change at the last visit."""
    eligible = np.flatnonzero(np.isfinite(twin.observed).any(axis=1) & np.isfinite(twin.base))
    change = twin.expected[eligible, -1] - twin.base[eligible]
    order = eligible[np.argsort(change, kind="stable")]
    return order[np.unique(np.linspace(0, len(order) - 1, min(panels, len(order))).round().astype(int))]


def _histogram(values: np.ndarray) -> list[tuple[float, int, float, float]]:
    """Count values in bins, with the central 90 % band that a binomial count would have under uniformity."""
    counts, edges = np.histogram(values, bins=BINS, range=(0, 1))
    low, high = (float(binom.ppf(q, len(values), 1 / BINS)) for q in (0.05, 0.95))
    middles = (edges[:-1] + edges[1:]) / 2
    return [(float(m), int(c), low, high) for m, c in zip(middles, counts, strict=True)]


def _holm(p: Sequence[float]) -> list[bool]:
    """Tell which tests reject at 5 % after Holm's correction."""
    order = np.argsort(p)
    rejected = [False] * len(p)
    for rank, index in enumerate(order):
        if p[index] > ALPHA / (len(p) - rank):
            break
        rejected[index] = True
    return rejected
