"""Which patients gain most, which are unlike those that the model was calibrated on, and what is known of each."""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool

from trialtwin.core.cohort import Cohort
from trialtwin.core.finding import Cell, Column, Evidence, Figure, Finding, Table, Verdict
from trialtwin.core.variables import Kind
from trialtwin.study.treat.decide import Decided, interval

# what the calibration trials enrolled
CALIBRATED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "alzheimer": {"age": (50.0, 90.0), "CDR-SB": (0.5, 10.0), "MMSE": (20.0, 30.0), "amyloid-PET": (20.0, 220.0)}
}
LEAST = 3  # patients in a group


def known(cohort: Cohort) -> dict[str, np.ndarray]:
    """Return what is known at entry by concept, covariates then scores; NaN where it is not."""
    found = {v.concept: cohort.covariates[:, j] for j, v in enumerate(cohort.variables)}
    return found | {v.concept: cohort.values[:, 0, k] for k, v in enumerate(cohort.outcomes)}


def unlike(cohort: Cohort, disease: str) -> dict[int, list[str]]:
    """Return, for each patient outside what the calibration trials enrolled, what is outside."""
    found: dict[int, list[str]] = {}
    columns = known(cohort)
    for concept, (low, high) in CALIBRATED.get(disease, {}).items():
        if concept in columns:
            values = columns[concept]
            for i in np.flatnonzero((values < low) | (values > high)):
                found.setdefault(int(i), []).append(f"{concept} {values[i]:g} (trials: {low:g} to {high:g})")
    return found


def show_unlike(cohort: Cohort, disease: str, *, section: str, evidence: Evidence) -> Finding:
    """Say which patients are unlike those that the model was calibrated on."""
    if disease not in CALIBRATED:
        return Finding(
            id="unlike",
            section=section,
            title="Patients unlike those of the calibration",
            verdict=Verdict.FAIL,
            text=f"{disease!r} was not calibrated on trials: its constants are published ones, for patients of others.",
            evidence=evidence,
        )
    found = unlike(cohort, disease)
    table = Table(
        columns=(Column(name="patient", label="Patient"), Column(name="what", label="Outside")),
        rows=tuple((cohort.ids[i], "; ".join(words)) for i, words in found.items()),
    )
    return Finding(
        id="unlike",
        section=section,
        title="Patients unlike those of the calibration",
        verdict=Verdict.FAIL if found else Verdict.PASS,
        text=f"{len(found)} of {len(cohort)} patients are outside what the calibration trials enrolled.",
        table=table if found else None,
        evidence=evidence,
    )


def show_gain(decided: Decided, cohort: Cohort, unit: str, *, section: str, evidence: Evidence) -> Finding | None:
    """Show the benefit of each candidate in groups of patients by what is known at entry."""
    rows: list[tuple[Cell, ...]] = []
    for label, members in _groups(cohort):
        for k, name in enumerate(decided.names[:-1]):
            draws = decided.benefit[:, members, k].mean(axis=1)
            low, _, high = (float(q) for q in interval(draws))
            rows.append((name, label, int(members.sum()), float(draws.mean()), low, high))
    if not rows:
        return None
    rows.sort(key=lambda row: decided.names.index(str(row[0])))
    table = Table(
        columns=(
            Column(name="candidate", label="Candidate"),
            Column(name="group", label="Group"),
            Column(name="n", label="n", decimals=0),
            Column(name="mean", label="Mean benefit", unit=unit, decimals=2),
            Column(name="low", label="2.5 %", decimals=2),
            Column(name="high", label="97.5 %", decimals=2),
        ),
        rows=tuple(rows),
        note="Numbers are cut at their median over these patients. Differences between groups are those of the model:"
        " APOE4 and sex act on the rate of decline and on risk, and not on what a drug does.",
    )
    figure = Figure(
        kind="forest",
        encoding={"label": "group", "y": "mean", "low": "low", "high": "high", "group": "candidate"},
        x_label=f"Mean benefit against no treatment ({unit})",
        y_label="",
        reference=0.0,
        alt="Mean benefit of each candidate in groups of patients, with 95 % intervals",
    )
    top = max(rows, key=lambda row: float(str(row[3])))
    return Finding(
        id="gain",
        section=section,
        title="Which patients gain most",
        verdict=Verdict.INFO,
        text=f"The largest mean benefit is that of {top[0]} in {top[1]} (n {top[2]}): {top[3]:.2f} {unit}.",
        table=table,
        figure=figure if len(rows) <= 60 else None,
        evidence=evidence,
    )


def _groups(cohort: Cohort) -> Iterator[tuple[str, Bool[np.ndarray, " patient"]]]:
    """Cut patients in two or three by each thing that is known of most of them."""
    columns = known(cohort)
    categorical = {v.concept: v.levels for v in cohort.variables if v.kind is Kind.CATEGORICAL}
    for concept, values in columns.items():
        if np.isnan(values).mean() > 0.5:
            continue
        if concept in categorical:
            cuts = [(f"{concept} {level}", values == i) for i, level in enumerate(categorical[concept])]
        elif concept == "APOE4":
            words = ("no APOE4 allele", "one APOE4 allele", "two APOE4 alleles")
            cuts = [(word, values == i) for i, word in enumerate(words)]
        else:
            middle = float(np.nanmedian(values))
            cuts = [(f"{concept} up to {middle:g}", values <= middle), (f"{concept} above {middle:g}", values > middle)]
        if all(members.sum() >= LEAST for _, members in cuts):
            yield from cuts
