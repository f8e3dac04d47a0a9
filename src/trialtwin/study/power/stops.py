"""Interim analyses as a finding: at which look trials end, with how many patients, after how many months."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from trialtwin.core.finding import Column, Evidence, Figure, Finding, Table, Verdict
from trialtwin.study.power.spec import PowerSpec

SECTION = "operating"


def words_of(row: Mapping[str, Any]) -> str:
    """Say in words what the twin of a row is.

    Examples
    --------
    >>> words_of({"rho": 0.5, "drift": 1.5, "scale": 1.0})
    'ρ = 0.5, drift 1.5'
    """
    extra = f", drift {row['drift']:g}" * (row["drift"] != 0) + f", scale {row['scale']:g}" * (row["scale"] != 1)
    return f"ρ = {row['rho']:g}{extra}"


def find_stops(spec: PowerSpec, rows: pl.DataFrame, looks: pl.DataFrame, evidence: Evidence) -> Finding:
    """Say how many trials end early, and what that saves."""
    early = looks.filter(pl.col("fraction") < 1).group_by("scenario", "method", maintain_order=True)
    twins = pl.struct("rho", "drift", "scale").n_unique()
    shares = early.agg(ended=(pl.col("rejected") + pl.col("futile")).sum() / twins)
    by = shares.group_by("scenario", maintain_order=True).agg(low=pl.col("ended").min(), high=pl.col("ended").max())
    words = [
        f"{one['scenario']} {one['low']:.1%}" + f" to {one['high']:.1%}" * (one["high"] > one["low"])
        for one in by.to_dicts()
    ]
    size = rows.group_by("scenario", maintain_order=True).agg(pl.col("size").mean(), pl.col("months").mean())
    kept = [f"{one['scenario']} {one['size']:.0f} patients in {one['months']:.1f} months" for one in size.to_dicts()]
    text = (
        f"Trials that end before the last look, by method and on average over twins: {'; '.join(words)}."
        f" Expected: {'; '.join(kept)}; planned are {spec.design.patients}"
    )
    months = spec.design.months()
    return Finding(
        id=f"{SECTION}.looks",
        section=SECTION,
        title="Interim analyses",
        verdict=Verdict.INFO,
        text=text + ("." if months is None else f" in {months:.1f} months."),
        table=_table(rows, looks),
        figure=Figure(
            kind="interval",
            encoding={
                "x": "fraction",
                "y": "ended",
                "low": "low",
                "high": "high",
                "group": "method",
                "panel": "scenario",
            },
            x_label="Share of the information at the look",
            y_label="Trials ended by then (%)",
            alt="Share of trials that have ended by each look, one line a method, one panel a truth and twin",
        ),
        evidence=evidence,
    )


def _table(rows: pl.DataFrame, looks: pl.DataFrame) -> Table:
    """Return a row a truth, twin, method and look, with the trial's expected size and length beside."""
    keys = ["scenario", "rho", "drift", "scale", "method"]
    sizes = rows.select(*keys, "size", "size_se", "months", "months_se", "trials")
    body, ended = [], 0.0
    for row in looks.join(sizes, on=keys, how="left", maintain_order="left").iter_rows(named=True):
        here = row["rejected"] + row["futile"]
        last = row["fraction"] == 1
        ended = here if row["look"] == 1 else ended + here
        share = 1.0 if last else ended
        half = 1.96 * (share * (1 - share) / row["trials"]) ** 0.5
        body.append(
            (
                f"{row['scenario']}, {words_of(row)}",
                row["method"],
                row["fraction"],
                row["upper"],
                row["lower"],
                100 * row["rejected"],
                100 * row["rejected_se"],
                100 * row["futile"],
                100 * share,
                100 * max(share - half, 0.0),
                100 * min(share + half, 1.0),
                *(row[name] if last else None for name in ("size", "size_se", "months", "months_se")),
            )
        )
    return Table(
        columns=(
            Column(name="scenario", label="Scenario"),
            Column(name="method", label="Method"),
            Column(name="fraction", label="Information", decimals=2),
            Column(name="upper", label="Efficacy, z", decimals=3),
            Column(name="lower", label="Futility, z", decimals=3),
            Column(name="rejected", label="Rejected here", unit="%", decimals=1),
            Column(name="rejected_se", label="SE", unit="%", decimals=1),
            Column(name="futile", label="Futile here", unit="%", decimals=1),
            Column(name="ended", label="Ended by then", unit="%", decimals=1),
            Column(name="low", label="95 % Monte-Carlo interval, low", unit="%", decimals=1),
            Column(name="high", label="high", unit="%", decimals=1),
            Column(name="size", label="Patients, mean", decimals=1),
            Column(name="size_se", label="SE", decimals=1),
            Column(name="months", label="Months, mean", decimals=1),
            Column(name="months_se", label="SE", decimals=2),
        ),
        rows=tuple(body),
    )
