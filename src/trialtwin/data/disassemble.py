"""From a cohort back to the tables of a trial, the inverse of ``assemble``."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.variables import Kind, Variable
from trialtwin.data.cdisc import TrialTables
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage
from trialtwin.data.layout import Layout

type Row = tuple[str | float | None, ...]


def disassemble(cohort: Cohort, layout: Layout) -> TrialTables:
    """Write a cohort as ADSL, BDS data sets, and events in the shape of ADTTE.

    Measured values become rows, with BASE, CHG and ABLFL where the first visit was measured. A visit that took place
    at another time than planned without any measurement becomes a row without AVAL, so that its day is kept.
    ``assemble`` gives the same cohort back, study days being whole numbers.

    Raises
    ------
    DataError
        If the cohort holds what these tables cannot: doses or blocks, a value of an ADSL outcome after the first
        visit, days of visits without an outcome in a BDS, two values for one ADSL column.
    MismatchError
        If cohort and layout do not have the same arms, visits, outcomes and covariates.
    """
    _check(cohort, layout)
    findings = {
        name: _findings(cohort, layout, name)
        for name in dict.fromkeys(outcome.dataset for outcome in layout.outcomes if outcome.paramcd)
    }
    return TrialTables(subjects=_subjects(cohort, layout), findings=findings, times=_times(cohort, layout.subject))


def _check(cohort: Cohort, layout: Layout) -> None:
    """Refuse a layout of other things than the cohort's, and what the tables cannot hold."""
    pairs: tuple[tuple[str, Sequence[object], Sequence[object]], ...] = (
        ("arms", cohort.treatments, layout.arms),
        ("visits", cohort.visits, tuple(visit.name for visit in layout.visits)),
        ("planned times", cohort.nominal.tolist(), [visit.time for visit in layout.visits]),
        ("outcomes", cohort.outcomes, tuple(outcome.variable for outcome in layout.outcomes)),
        ("covariates", cohort.variables, layout.covariates),
    )
    for what, have, wanted in pairs:
        if tuple(have) != tuple(wanted):
            raise MismatchError(
                f"cohort and layout have different {what}",
                where=f"cohort: {', '.join(map(str, have))}",
                exists=[str(entry) for entry in wanted],
            )
    if cohort.doses is not None or cohort.blocks:
        raise DataError(
            "doses and feature blocks do not fit into these tables",
            do="write doses with write_doses, and give the cohort without them (dataclasses.replace)",
        )
    if not any(outcome.paramcd for outcome in layout.outcomes) and (cohort.times != cohort.nominal).any():
        raise DataError("ADSL does not hold the days of visits", do="give an outcome a data set and a PARAMCD")
    for k, outcome in enumerate(layout.outcomes):
        if not outcome.paramcd and cohort.observed[:, 1:, k].any():
            raise DataError(
                f"{outcome.variable.name} stands in ADSL, which holds it at {cohort.visits[0]} only",
                do="give the outcome a data set and a PARAMCD",
            )


def _table(name: str, label: str, fields: Sequence[Field], rows: Sequence[Row]) -> DataSet:
    """Make a data set of rows."""
    schema = {field.name: DTYPES[field.storage] for field in fields}
    return DataSet(name, tuple(fields), pl.DataFrame(list(rows), schema=schema, orient="row"), label, "from a cohort")


def _subjects(cohort: Cohort, layout: Layout) -> DataSet:
    """Make ADSL: identifier, arm, covariates, and outcomes that stand there."""
    columns: dict[str, tuple[Field, list[str | float | None]]] = {
        layout.subject: (Field(layout.subject, Storage.CHAR, "Unique Subject Identifier"), list(cohort.ids)),
    }
    arms: list[str | float | None] = [cohort.treatments[i] for i in cohort.received]
    entries = [(Field(layout.arm, Storage.CHAR, "Planned Treatment"), arms)]
    entries += [_entry(variable, cohort.covariates[:, j]) for j, variable in enumerate(cohort.variables)]
    entries += [
        _entry(outcome.variable, cohort.values[:, 0, k])
        for k, outcome in enumerate(layout.outcomes)
        if not outcome.paramcd
    ]
    for field, values in entries:
        if field.name in columns and columns[field.name][1] != values:
            raise DataError(f"two different contents for the column {field.name} of ADSL", do="rename one of them")
        columns.setdefault(field.name, (field, values))
    rows = list(zip(*(values for _, values in columns.values()), strict=True))
    return _table("ADSL", "Subject-Level Analysis", [field for field, _ in columns.values()], rows)


def _entry(variable: Variable, values: Float[np.ndarray, " patient"]) -> tuple[Field, list[str | float | None]]:
    """Make a column of ADSL: levels as text, anything else as numbers."""
    label = variable.label[:40] if variable.label.isascii() else ""
    if variable.kind is Kind.CATEGORICAL:
        levels = [None if np.isnan(value) else variable.levels[int(value)] for value in values]
        return Field(variable.name, Storage.CHAR, label), list(levels)
    return Field(variable.name, Storage.NUM, label), [None if np.isnan(value) else float(value) for value in values]


def _study_day(time: float) -> float:
    """Turn days since baseline into a study day (no day 0): the inverse of ``elapsed``."""
    return time + 1 if time >= 0 else time


def _findings(cohort: Cohort, layout: Layout, name: str) -> DataSet:
    """Make a BDS data set of the outcomes that belong to it."""
    flag = layout.record_flag or "ANL01FL"
    fields = (
        Field(layout.subject, Storage.CHAR, "Unique Subject Identifier"),
        Field("PARAMCD", Storage.CHAR, "Parameter Code"),
        Field("AVISIT", Storage.CHAR, "Analysis Visit"),
        Field("AVISITN", Storage.NUM, "Analysis Visit (N)"),
        Field("ADY", Storage.NUM, "Analysis Relative Day"),
        Field("AVAL", Storage.NUM, "Analysis Value"),
        Field("BASE", Storage.NUM, "Baseline Value"),
        Field("CHG", Storage.NUM, "Change from Baseline"),
        Field("ABLFL", Storage.CHAR, "Baseline Record Flag"),
        Field(flag, Storage.CHAR, "Analysis Record Flag"),
        Field("DTYPE", Storage.CHAR, "Derivation Type"),
    )
    chosen = [k for k, outcome in enumerate(layout.outcomes) if outcome.paramcd and outcome.dataset == name]
    in_bds = [k for k, outcome in enumerate(layout.outcomes) if outcome.paramcd]
    keeper = in_bds[0]
    moved = ~cohort.observed[:, :, in_bds].any(axis=2) & (cohort.times != cohort.nominal)
    rows: list[Row] = []
    for i, who in enumerate(cohort.ids):
        for k in chosen:
            base = float(cohort.values[i, 0, k]) if cohort.observed[i, 0, k] else None
            for v, visit in enumerate(cohort.visits):
                seen = bool(cohort.observed[i, v, k])
                if not seen and not (k == keeper and moved[i, v]):
                    continue
                value = float(cohort.values[i, v, k]) if seen else None
                change = value - base if v and value is not None and base is not None else None
                first = "Y" if v == 0 and seen else None
                day = _study_day(float(cohort.times[i, v]))
                code = layout.outcomes[k].paramcd
                rows.append((who, code, visit, float(v), day, value, base, change, first, "Y", None))
    return _table(name.upper(), "Measurements over Time", fields, rows)


def _times(cohort: Cohort, subject: str) -> DataSet | None:
    """Make events in the shape of ADTTE."""
    if cohort.events is None:
        return None
    fields = (
        Field(subject, Storage.CHAR, "Unique Subject Identifier"),
        Field("PARAMCD", Storage.CHAR, "Parameter Code"),
        Field("AVAL", Storage.NUM, "Analysis Value (Study Day)"),
        Field("CNSR", Storage.NUM, "Censor"),
    )
    events = cohort.events
    rows: list[Row] = [
        (
            cohort.ids[patient],
            name,
            None if np.isnan(time) else _study_day(float(time)),
            0.0 if observed else 1.0,
        )
        for patient, time, name, observed in zip(events.patient, events.time, events.name, events.observed, strict=True)
    ]
    return _table("ADTTE", "Time to Event", fields, rows)
