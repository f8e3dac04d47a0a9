"""What a simulated design did, as findings: level, power, bias and coverage."""

import polars as pl

from trialtwin.core.finding import Column, Evidence, Figure, Finding, Table, Verdict
from trialtwin.study.power.spec import PowerSpec
from trialtwin.study.power.stops import SECTION, find_stops, words_of

AGAINST_RULES = ("believed score",)  # methods that are shown for what they do wrong
SURE = 3.0  # Monte-Carlo standard errors beyond which a rate counts as off


def findings_of(spec: PowerSpec, rows: pl.DataFrame, looks: pl.DataFrame, evidence: Evidence) -> list[Finding]:
    """Return the findings on a simulated design: ``rows`` are one a truth, twin and method, ``looks`` one a look."""
    stops = [find_stops(spec, rows, looks, evidence)] if len(looks) else []
    return [_level(spec, rows, evidence), _power(spec, rows, evidence), *stops, _estimation(spec, rows, evidence)]


def _level(spec: PowerSpec, rows: pl.DataFrame, evidence: Evidence) -> Finding:
    """Say whether methods keep their level where there is no effect."""
    null = rows.filter("null")
    alpha = spec.design.level
    off = [
        row
        for row in null.iter_rows(named=True)
        if row["rejected"] - alpha > SURE * (alpha * (1 - alpha) / row["trials"]) ** 0.5
    ]
    honest = [row for row in off if row["method"] not in AGAINST_RULES]
    if null.is_empty():
        text, verdict = "No scenario without an effect was simulated: the type I error is not known.", Verdict.FAIL
        if any(not any((*t.effects, t.heterogeneity, t.by_score)) for t in spec.truths):
            text += (
                " Treatment does nothing in one of them, and yet the estimand is not 0: intercurrent events have other"
                " chances by arm. Give each the same in every arm to see the level."
            )
    elif off:
        worst = max(off, key=lambda row: row["rejected"])
        text = (
            f"In {len(off)} of {len(null)} rows without an effect more than {alpha:.1%} of trials were rejected; worst:"
            f" {worst['method']} with {words_of(worst)}, {worst['rejected']:.1%} (SE {worst['rejected_se']:.1%})."
        )
        verdict = Verdict.FAIL if honest else Verdict.INFO
    else:
        text = (
            f"Without an effect every method kept its level of {alpha:.1%}, whatever the twin: at most"
            f" {max(null['rejected'].to_list()):.1%} of {spec.trials} trials were rejected."
        )
        verdict = Verdict.PASS
    return Finding(
        id=f"{SECTION}.level",
        section=SECTION,
        title="Type I error",
        verdict=verdict,
        text=text,
        table=_rates(null) if len(null) else None,
        figure=_rate_figure("Trials rejected without an effect (%)", 100 * alpha) if len(null) else None,
        evidence=evidence,
    )


def _power(spec: PowerSpec, rows: pl.DataFrame, evidence: Evidence) -> Finding:
    """Say what power the methods have, and what the twin buys."""
    real = rows.filter(~pl.col("null") & ~pl.col("method").is_in(AGAINST_RULES))
    if real.is_empty():
        text = "No scenario with an effect was simulated: power is not known."
    else:
        lines = []
        for name in spec.methods:
            own = real.filter(pl.col("method") == name)
            if len(own):
                low, high = (float(getattr(own["rejected"], f)()) for f in ("min", "max"))
                lines.append(f"{name} {low:.1%}" + (f" to {high:.1%}" if high > low else ""))
        text = f"Power over scenarios and twins: {'; '.join(lines)}."
    return Finding(
        id=f"{SECTION}.power",
        section=SECTION,
        title="Power",
        verdict=Verdict.INFO,
        text=text,
        table=_rates(real) if len(real) else None,
        figure=_rate_figure("Trials rejected with an effect (%)", None) if len(real) else None,
        evidence=evidence,
    )


def _rates(rows: pl.DataFrame) -> Table:
    """Return rejected shares as a table that the figure is drawn from."""
    body = []
    for row in rows.iter_rows(named=True):
        rate, half = 100 * row["rejected"], 196 * row["rejected_se"]
        twin = f"{row['scenario']}" + f", drift {row['drift']:g}" * (row["drift"] != 0)
        twin += f", scale {row['scale']:g}" * (row["scale"] != 1)
        body.append(
            (twin, row["method"], row["rho"], rate, max(rate - half, 0.0), min(rate + half, 100.0), row["trials"])
        )
    return Table(
        columns=(
            Column(name="scenario", label="Scenario"),
            Column(name="method", label="Method"),
            Column(name="rho", label="ρ", decimals=2),
            Column(name="rejected", label="Rejected", unit="%", decimals=1),
            Column(name="low", label="95 % Monte-Carlo interval, low", unit="%", decimals=1),
            Column(name="high", label="high", unit="%", decimals=1),
            Column(name="trials", label="Trials", decimals=0),
        ),
        rows=tuple(body),
    )


def _rate_figure(label: str, reference: float | None) -> Figure:
    return Figure(
        kind="interval",
        encoding={"x": "rho", "y": "rejected", "low": "low", "high": "high", "group": "method", "panel": "scenario"},
        x_label="Correlation of the twin's score with the untreated change",
        y_label=label,
        reference=reference,
        alt=f"{label} by correlation of the twin's score, one line a method, one panel a scenario",
    )


def _estimation(spec: PowerSpec, rows: pl.DataFrame, evidence: Evidence) -> Finding:
    """Show bias, coverage and standard errors."""
    honest = rows.filter(~pl.col("method").is_in(AGAINST_RULES) & pl.col("truth").is_not_null())
    off = honest.filter(pl.col("bias").abs() > SURE * pl.col("bias_se"))
    low = honest.filter(1 - spec.design.alpha - pl.col("coverage") > SURE * pl.col("coverage_se"))
    columns = (
        *(Column(name=n, label=n.capitalize()) for n in ("scenario", "twin", "method")),
        Column(name="truth", label=f"True {spec.design.endpoint.summary}", decimals=3),
        Column(name="truth_se", label="SE", decimals=3),
        Column(name="bias", label="Bias", decimals=3),
        Column(name="bias_se", label="SE", decimals=3),
        Column(name="coverage", label="Coverage", unit="%", decimals=1),
        Column(name="coverage_se", label="SE", unit="%", decimals=1),
        Column(name="empirical_se", label="SD of estimates", decimals=3),
        Column(name="model_se", label="Standard error, mean", decimals=3),
        Column(name="completers", label="Measured at the end", unit="%", decimals=0),
        Column(name="failed", label="Not analysed", decimals=0),
    )
    body = [
        (
            row["scenario"],
            words_of(row),
            row["method"],
            *(row[name] for name in ("truth", "truth_se", "bias", "bias_se")),
            *(None if row[name] is None else 100 * row[name] for name in ("coverage", "coverage_se")),
            row["empirical_se"],
            row["model_se"],
            100 * row["completers"],
            row["failed"],
        )
        for row in rows.iter_rows(named=True)
    ]
    text = (
        f"On the scale of a {spec.design.endpoint.summary}: of {len(honest)} rows, {len(off)} have a bias beyond"
        f" {SURE:g} Monte-Carlo standard errors and {len(low)} a coverage below the nominal one by as much. The true"
        " value is what the estimand asks for, each event by its strategy; a method without a number that is agreed on"
        " (a test, or a hazard ratio given a score) has none."
    )
    if spec.design.endpoint.measured:
        text += " Patients who leave for their state are missing at random given what was seen before."
    if spec.design.interims:
        text += " Estimates of trials that stopped early are not corrected for the stopping, and lean away from none."
    return Finding(
        id=f"{SECTION}.estimation",
        section=SECTION,
        title="Bias, coverage and standard errors",
        verdict=Verdict.INFO,
        text=text,
        table=Table(columns=columns, rows=tuple(body)),
        evidence=evidence,
    )
