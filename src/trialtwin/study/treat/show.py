"""Findings on treated patients, each a table with the figure drawn from it."""

from collections.abc import Sequence

import numpy as np

from trialtwin.core.finding import Cell, Column, Evidence, Figure, Finding, Table, Verdict
from trialtwin.study.treat.decide import Decided, interval
from trialtwin.study.treat.simulate import Simulated
from trialtwin.study.treat.spec import NONE

DAYS_PER_WEEK = 7.0
PERCENT = Column(name="percent", label="Share", unit="%", decimals=0)


def show_courses(
    simulated: Simulated,
    patients: Sequence[int],
    endpoint: str,
    *,
    id_: str,
    section: str,
    title: str,
    evidence: Evidence,
) -> Finding:
    """Show the endpoint's course untreated and under each candidate: median, 50 % and 90 % of draws."""
    rows: list[tuple[Cell, ...]] = []
    chosen = list(patients)
    for name, scores in ((NONE, simulated.untreated), *simulated.treated.items()):
        for k, day in enumerate(simulated.times):
            draws = scores[:, chosen, k].ravel()
            low, q1, middle, q3, high = (float(q) for q in np.quantile(draws, [0.05, 0.25, 0.5, 0.75, 0.95]))
            rows.append((name, round(float(day) / DAYS_PER_WEEK, 1), middle, q1, q3, low, high))
    table = Table(
        columns=(
            Column(name="candidate", label="Candidate"),
            Column(name="week", label="Week", decimals=0),
            Column(name="median", label="Median", decimals=2),
            Column(name="q1", label="25 %", decimals=2),
            Column(name="q3", label="75 %", decimals=2),
            Column(name="low", label="5 %", decimals=2),
            Column(name="high", label="95 %", decimals=2),
        ),
        rows=tuple(rows),
        note=f"{endpoint} as expected of the instrument, without the error of a single measurement.",
    )
    encoding = {"x": "week", "low": "low", "high": "high", "median": "median", "inner_low": "q1", "inner_high": "q3"}
    figure = Figure(
        kind="fan",
        encoding=encoding | {"panel": "candidate"},
        x_label="Week",
        y_label=endpoint,
        alt=f"Course of {endpoint} by week, a panel for each candidate: median with 50 % and 90 % bands",
    )
    return Finding(
        id=id_,
        section=section,
        title=title,
        verdict=Verdict.INFO,
        text="The same draws of patients stand behind every panel; bands are 50 % and 90 % of draws.",
        table=table,
        figure=figure,
        evidence=evidence,
    )


def show_benefit(
    decided: Decided, simulated: Simulated, unit: str, threshold: float, *, section: str, evidence: Evidence
) -> Finding:
    """Show the mean benefit of each candidate with its interval, and how sure a single patient can be."""
    rows: list[tuple[Cell, ...]] = []
    for k, name in enumerate(decided.names[:-1]):
        over_patients = decided.benefit[..., k].mean(axis=1)
        low, _, high = (float(q) for q in interval(over_patients))
        single_low, _, single_high = (float(q) for q in interval(decided.benefit[..., k].ravel()))
        given = 100 * float(simulated.given[name].mean())
        meaningful = 100 * float(decided.meaningful[:, k].mean())
        mean = float(over_patients.mean())
        rows.append((name, mean, low, high, single_low, single_high, meaningful, given))
    table = Table(
        columns=(
            Column(name="candidate", label="Candidate"),
            Column(name="mean", label="Mean benefit", unit=unit, decimals=2),
            Column(name="low", label="2.5 %", decimals=2),
            Column(name="high", label="97.5 %", decimals=2),
            Column(name="single_low", label="One patient: 2.5 %", decimals=2),
            Column(name="single_high", label="97.5 %", decimals=2),
            Column(name="meaningful", label=f"Benefit of {threshold:g} or more", unit="% of draws", decimals=0),
            Column(name="given", label="Doses given", unit="% of planned", decimals=0),
        ),
        rows=tuple(rows),
        note="Against no treatment at the end of follow-up; above 0 is good. Intervals of the mean carry what is not"
        " known of population, model and drug; those of one patient also what is not known of the patient."
        " Of drugs given together all doses count as given until the last drug has ended.",
    )
    figure = Figure(
        kind="forest",
        encoding={"label": "candidate", "y": "mean", "low": "low", "high": "high"},
        x_label=f"Mean benefit against no treatment ({unit})",
        y_label="",
        reference=0.0,
        alt="Mean benefit of each candidate over patients, with 95 % intervals",
    )
    first = max(rows, key=lambda row: float(str(row[1])))
    return Finding(
        id="benefit",
        section=section,
        title="Benefit of each candidate",
        verdict=Verdict.INFO,
        text=f"The largest mean benefit is that of {first[0]}: {first[1]:.2f} {unit}"
        f" (95 % {first[2]:.2f} to {first[3]:.2f}).",
        table=table,
        figure=figure,
        evidence=evidence,
    )


def show_risk(simulated: Simulated, patients: Sequence[int], *, id_: str, section: str, evidence: Evidence) -> Finding:
    """Show the probability of each adverse event by the end, on the drug and without it."""
    rows: list[tuple[Cell, ...]] = []
    chosen = list(patients)
    for name, events in simulated.risk.items():
        for event, draws in events.items():
            values = 100 * draws[:, chosen].mean(axis=1)
            low, _, high = (float(q) for q in interval(values))
            without = 100 * float((draws - simulated.excess[name][event])[:, chosen].mean())
            rows.append((name, event, float(values.mean()), low, high, without))
        if not events:
            rows.append((name, "none described in the drug's file", None, None, None, None))
    table = Table(
        columns=(
            Column(name="candidate", label="Candidate"),
            Column(name="event", label="Adverse event"),
            Column(name="risk", label="On the drug", unit="%", decimals=1),
            Column(name="low", label="2.5 %", decimals=1),
            Column(name="high", label="97.5 %", decimals=1),
            Column(name="without", label="Without it", unit="%", decimals=1),
        ),
        rows=tuple(rows),
        note="Probability by the end of follow-up. Intervals are over patients' exposure only: the risk models' own"
        " parameters are taken as known. A candidate without a described event is not a candidate without risk.",
    )
    drawable = any(row[2] is not None for row in rows)
    figure = Figure(
        kind="bars",
        encoding={"x": "candidate", "y": "risk", "group": "event"},
        x_label="Candidate",
        y_label="Probability by the end (%)",
        alt="Probability of each adverse event by candidate",
    )
    return Finding(
        id=id_,
        section=section,
        title="Risk that comes with each candidate",
        verdict=Verdict.INFO,
        text="Events by drug, APOE4 genotype, exposure and time, as in the drugs' files.",
        table=table,
        figure=figure if drawable else None,
        evidence=evidence,
    )


def show_choice(
    decided: Decided, patients: Sequence[int], weights: str, unit: str, *, id_: str, section: str, evidence: Evidence
) -> Finding:
    """Show the chance that each candidate is the best, and its balance of benefit and harm."""
    chosen = list(patients)
    rows: list[tuple[Cell, ...]] = []
    for k, name in enumerate(decided.names):
        worth = decided.utility[:, chosen, k].mean(axis=1)
        low, _, high = (float(q) for q in interval(worth))
        rows.append((name, 100 * float(decided.best[chosen, k].mean()), float(worth.mean()), low, high))
    table = Table(
        columns=(
            Column(name="candidate", label="Candidate"),
            Column(name="best", label="Chance of being best", unit="%", decimals=0),
            Column(name="balance", label="Benefit less harm", unit=unit, decimals=2),
            Column(name="low", label="2.5 %", decimals=2),
            Column(name="high", label="97.5 %", decimals=2),
        ),
        rows=tuple(rows),
        note=f"Weights: {weights}. Chances add up to 100 %; no treatment is a candidate, and wins ties.",
    )
    figure = Figure(
        kind="bars",
        encoding={"x": "candidate", "y": "best"},
        x_label="Candidate",
        y_label="Chance of being best (%)",
        alt="Chance that each candidate is the best, no treatment included",
    )
    leader = max(rows, key=lambda row: float(str(row[1])))
    sure = "" if float(str(leader[1])) >= 80 else " No candidate is clearly the best."
    return Finding(
        id=id_,
        section=section,
        title="Chance of being the best",
        verdict=Verdict.INFO,
        text=f"{leader[0]} is the best in {leader[1]:.0f} % of draws.{sure}",
        table=table,
        figure=figure,
        evidence=evidence,
    )


def show_pathways(
    simulated: Simulated, sign: float, patients: Sequence[int], unit: str, *, id_: str, section: str, evidence: Evidence
) -> Finding | None:
    """Show how much of each candidate's benefit runs along which route."""
    if not simulated.pathways:
        return None
    chosen = list(patients)
    rows: list[tuple[Cell, ...]] = []
    for name, parts in simulated.pathways.items():
        for route, draws in parts.shares.items():
            values = sign * draws[:, chosen].mean(axis=1)
            low, _, high = (float(q) for q in interval(values))
            alone = sign * float(parts.alone[route][:, chosen].mean())
            last = sign * float(parts.last[route][:, chosen].mean())
            rows.append((name, route, float(values.mean()), low, high, alone, last))
    table = Table(
        columns=(
            Column(name="candidate", label="Candidate"),
            Column(name="route", label="Route"),
            Column(name="share", label="Benefit", unit=unit, decimals=3),
            Column(name="low", label="2.5 %", decimals=3),
            Column(name="high", label="97.5 %", decimals=3),
            Column(name="alone", label="Alone", decimals=3),
            Column(name="last", label="Lost without it", decimals=3),
        ),
        rows=tuple(rows),
        note="Shapley values: the routes of a candidate add up to its benefit (over 16 draws of each patient). Where a"
        " route alone and what is lost without it differ, routes work together.",
    )
    figure = Figure(
        kind="bars",
        encoding={"x": "candidate", "y": "share", "group": "route"},
        x_label="Candidate",
        y_label=f"Benefit ({unit})",
        alt="Benefit of each candidate by the route along which it runs",
    )
    return Finding(
        id=id_,
        section=section,
        title="Routes along which benefit runs",
        verdict=Verdict.INFO,
        text="Each route in turn was given the signal of the same patient untreated.",
        table=table,
        figure=figure,
        evidence=evidence,
    )


def show_card(
    simulated: Simulated, decided: Decided, sign: float, i: int, weights: str, unit: str, *, section: str
) -> Finding:
    """Show one patient's candidates in one table: benefit, chance of being best, risks, and routes of benefit."""
    rows: list[tuple[Cell, ...]] = []
    for k, name in enumerate(decided.names[:-1]):
        draws = decided.benefit[:, i, k]
        low, _, high = (float(q) for q in interval(draws))
        events = [f"{event} {100 * float(d[:, i].mean()):.0f} %" for event, d in simulated.risk[name].items()]
        routes = _routes(simulated, name, sign, i)
        best = 100 * float(decided.best[i, k])
        rows.append((name, float(draws.mean()), low, high, best, ", ".join(events) or "none described", routes))
    table = Table(
        columns=(
            Column(name="candidate", label="Candidate"),
            Column(name="mean", label="Benefit", decimals=2),
            Column(name="low", label="2.5 %", decimals=2),
            Column(name="high", label="97.5 %", decimals=2),
            Column(name="best", label="Best", unit="%", decimals=0),
            Column(name="risks", label="Adverse events by the end"),
            Column(name="routes", label="Routes of benefit"),
        ),
        rows=tuple(rows),
        note=f"Benefit in {unit} against no treatment, which is best in {100 * float(decided.best[i, -1]):.0f} % of"
        f" draws. Weights: {weights}. Routes: shares of the benefit.",
    )
    figure = Figure(
        kind="forest",
        encoding={"label": "candidate", "y": "mean", "low": "low", "high": "high"},
        x_label=f"Benefit against no treatment ({unit})",
        y_label="",
        reference=0.0,
        alt="Benefit of each candidate in this patient, with 95 % intervals",
    )
    leader = max(rows, key=lambda row: float(str(row[4])))
    return Finding(
        id="card",
        section=section,
        title="What each candidate would do",
        verdict=Verdict.INFO,
        text=f"{leader[0]} is the best in {leader[4]:.0f} % of draws.",
        table=table,
        figure=figure,
    )


def _routes(simulated: Simulated, name: str, sign: float, i: int) -> str:
    """Return the share of each route that carries anything, in words."""
    if name not in simulated.pathways:
        return ""
    parts = {route: sign * float(draws[:, i].mean()) for route, draws in simulated.pathways[name].shares.items()}
    size = sum(abs(value) for value in parts.values())
    if size < 1e-6:
        return "none"
    return ", ".join(
        f"{route} {100 * value / size:.0f} %" for route, value in parts.items() if abs(value) > 0.005 * size
    )
