"""The savings certificate of a design: patients, controls and months that a twin saves, and the fall-back."""

from math import sqrt

import numpy as np
import polars as pl

from trialtwin.core.finding import Column, Evidence, Finding, Table, Verdict
from trialtwin.stats.savings import Savings, savings
from trialtwin.study.power.population import CourseSpec, Fitted
from trialtwin.study.power.spec import PowerSpec
from trialtwin.trials.virtual_population import Forecast

SECTION = "savings"


def intro(spec: PowerSpec) -> str:
    """Say by what rule sizes were computed."""
    asked = spec.savings
    return (
        f"Sizes by the two-sample t test for {asked.power:.0%} power at the true effect of the estimand: the SD that"
        f" baseline leaves times {asked.inflation:g}, the score's correlation given baseline times {asked.deflation:g};"
        " patients who are expected to leave are made up for. N counts control and treated patients without and with"
        " the twin at the same allocation; in controls only: the treated arm stays as it is without the twin. Power if"
        f" useless is that of the smaller trial should the score tell nothing, ρ for {asked.tolerated:.0%} the achieved"
        " correlation given baseline that leaves it so much power. The fall-back is the size without the twin."
    )


def given_baseline(people: CourseSpec, rho: float) -> tuple[float, float]:
    """Return the SD of the change given baseline, and the score's correlation with the change given baseline.

    A score s = ρz + √(1 − ρ²)e of the standardised change z, which correlates r with baseline, has the correlation
    ρ√(1 − r²)/√(1 − ρ²r²) given baseline.
    """
    c = people.covariance()
    variance = float(c[-1, -1] + c[0, 0] - 2 * c[0, -1])
    explained = float((c[0, -1] - c[0, 0]) ** 2 / c[0, 0] / variance)
    return sqrt(variance * (1 - explained)), rho * sqrt(1 - explained) / sqrt(1 - rho**2 * explained)


def forecast_given_baseline(people: Forecast) -> tuple[float, float]:
    """Return the same of patients drawn from a fitted twin: moments over all its patients and draws."""
    base = people.course[..., 0].ravel()
    change = people.course[..., -1].ravel() - base
    score = np.broadcast_to(people.expected, people.course.shape[:2]).ravel()
    on = np.column_stack([np.ones_like(base), base])
    left = [y - on @ np.linalg.lstsq(on, y, rcond=None)[0] for y in (change, score)]
    return float(left[0].std()), float(np.corrcoef(*left)[0, 1])


def savings_finding(spec: PowerSpec, fitted: Fitted | None, rows: pl.DataFrame, evidence: Evidence) -> Finding:
    """Return the certificate: one row an effect and twin, for the first treated arm against control."""
    people, kind = spec.population, spec.design.endpoint.kind
    twins, certified = [], []
    if isinstance(people, CourseSpec):
        twins = [(rho, *given_baseline(people, rho)) for rho in sorted(set(spec.twins.rho))]
    elif fitted is not None:
        twins = [(fitted.rho, *forecast_given_baseline(fitted.forecast))]
    if kind == "continuous":
        effects = rows.filter(pl.col("truth") != 0).unique("scenario", maintain_order=True)
        certified = [
            (row["scenario"], rho, _saved(spec, row["truth"], sd, partial))
            for row in effects.iter_rows(named=True)
            for rho, sd, partial in twins
        ]
        nothing = "No scenario with an effect: nothing to size a trial by."
    else:
        of = "patients of a fitted twin" if spec.fitted else f"a {kind} endpoint"
        nothing = (
            "A certificate is for a continuous endpoint of patients described by mean, SD and correlation; of"
            f" {of} see what the score does to power."
        )
    return Finding(
        id=f"{SECTION}.certificate",
        section=SECTION,
        title="Savings certificate",
        verdict=Verdict.INFO,
        text=_words(certified) if certified else nothing,
        table=_table(spec, certified) if certified else None,
        evidence=evidence,
    )


def _saved(spec: PowerSpec, effect: float, sd: float, partial: float) -> Savings:
    design, asked = spec.design, spec.savings
    control, treated = design.arms[:2]
    return savings(
        effect,
        sd,
        partial,
        deflation=asked.deflation,
        inflation=asked.inflation,
        ratio=treated.share / control.share,
        alpha=design.alpha,
        power=asked.power,
        dropout=(design.leaving.dropout.get(control.name, 0.0), design.leaving.dropout.get(treated.name, 0.0)),
        accrual=design.accrual,
        tolerated=asked.tolerated,
    )


def _words(certified: list[tuple[str, float, Savings]]) -> str:
    """Say what the best of the twins saves."""
    name, rho, found = max(certified, key=lambda one: one[1])
    months = "" if found.months is None else f", {found.months:.1f} months of accrual"
    need = (
        f"and from a correlation of {found.least_correlation:.2f} on at least {found.tolerated:.0%}"
        if found.least_correlation
        else f"which is the {found.tolerated:.0%} that is tolerated, or more"
    )
    return (
        f"Scenario {name!r}, ρ = {rho:g}: {found.with_score.total} patients instead of {found.without.total},"
        f" {found.saved} saved, {found.saved_controls} of them controls{months}; or, the treated arm left as it is,"
        f" {found.spared_controls} of {found.without.control} controls saved. Should the score tell nothing, the"
        f" smaller trial has {found.power_if_useless:.0%} power, {need}; the fall-back is {found.without.total}"
        " patients."
    )


def _table(spec: PowerSpec, certified: list[tuple[str, float, Savings]]) -> Table:
    months = spec.design.accrual is not None
    columns = (
        Column(name="scenario", label="Scenario"),
        Column(name="rho", label="ρ", decimals=2),
        Column(name="planned", label="ρ planned", decimals=2),
        Column(name="without", label="N without", decimals=0),
        Column(name="with_score", label="N with", decimals=0),
        Column(name="saved", label="Saved", decimals=0),
        Column(name="saved_controls", label="of them controls", decimals=0),
        *((Column(name="months", label="Saved", unit="months", decimals=1),) if months else ()),
        Column(name="spared", label="Saved in controls only", decimals=0),
        Column(name="useless", label="Power if useless", unit="%", decimals=1),
        Column(name="least", label=f"ρ for {spec.savings.tolerated:.0%}", decimals=2),
    )
    body = [
        (
            name,
            rho,
            found.planned_correlation,
            found.without.total,
            found.with_score.total,
            found.saved,
            found.saved_controls,
            *((found.months,) if months else ()),
            found.spared_controls,
            100 * found.power_if_useless,
            found.least_correlation,
        )
        for name, rho, found in certified
    ]
    return Table(columns=columns, rows=tuple(body))
