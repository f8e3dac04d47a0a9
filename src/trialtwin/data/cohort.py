"""From the tables of a trial to a cohort: only what was measured, with every structural fault refused first."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from trialtwin.core.cohort import Cohort, Events
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.variables import Kind, Variable
from trialtwin.data.cdisc import TrialTables
from trialtwin.data.dataset import DataSet
from trialtwin.data.derive import add_study_day
from trialtwin.data.layout import Layout, Outcome, elapsed
from trialtwin.data.structure import (
    require_events,
    require_findings,
    require_known,
    require_numbers,
    require_one_baseline,
    require_subjects,
    require_times,
    require_unique,
    shorten,
    texts,
)

_FLAGS = {"N": 0.0, "Y": 1.0}
_LEAST = 2


def assemble(tables: TrialTables, layout: Layout, *, population: tuple[str, str] | None = None) -> Cohort:
    """Put the tables of a trial together as arrays.

    Only measured records enter ``values``: DTYPE blank, and the record flag "Y" where the layout names one. A visit's
    time is that of the first outcome, in the layout's order, that has a record there; the planned one where none has.
    Events come from ADTTE (named by PARAMCD, observed where CNSR is 0) and from ADAE (AEDECOD at ASTDY, whether or
    not treatment-emergent). ADTTE times are ADT − STARTDT where both are given, else AVAL as a study day, the first
    day being 1. A time that is not known is NaN.

    Parameters
    ----------
    tables
        Data sets of the trial.
    layout
        Which variables play which role.
    population
        Column of ADSL and its value, such as ``("EFFFL", "Y")``; all subjects without it.

    Raises
    ------
    DataError
        If a subject of another data set is not in ADSL, rows repeat for a subject and visit, a subject has two
        baselines of a parameter, AVAL is no number, levels or arms are not the declared ones, an arm has fewer than
        two patients, or nobody is left.
    MismatchError
        If a variable, data set, parameter or visit does not exist; the message lists those that do.
    """
    subjects = population_of(tables.subjects, layout, population)
    ids = tuple(subjects.frame[layout.subject].to_list())
    received = _arms(subjects, layout)
    covariates = [_covariate(subjects, variable, layout.subject) for variable in layout.covariates]
    rows = {k: measured(tables, layout, outcome) for k, outcome in enumerate(layout.outcomes) if outcome.paramcd}
    _require_visits(rows, tables, layout)
    nominal = np.array([visit.time for visit in layout.visits], dtype=float)
    values = np.full((len(ids), len(nominal), len(layout.outcomes)), np.nan)
    times = np.full((len(ids), len(nominal)), np.nan)
    patient = {name: index for index, name in enumerate(ids)}
    for k, outcome in enumerate(layout.outcomes):
        if k in rows:
            _place(rows[k], patient, layout, values[:, :, k], times)
        else:
            values[:, 0, k] = _numbers(subjects, outcome.variable.name, layout.subject, "as an outcome at baseline")
    return Cohort(
        ids=ids,
        variables=layout.covariates,
        covariates=np.stack(covariates, axis=1) if covariates else np.zeros((len(ids), 0)),
        outcomes=tuple(outcome.variable for outcome in layout.outcomes),
        visits=tuple(visit.name for visit in layout.visits),
        nominal=nominal,
        times=np.where(np.isnan(times), nominal, times),
        values=values,
        observed=~np.isnan(values),
        treatments=layout.arms,
        received=received,
        events=_events(tables, layout, patient),
    )


def population_of(subjects: DataSet, layout: Layout, population: tuple[str, str] | None) -> DataSet:
    """Return the rows of ADSL that belong to a population.

    Raises
    ------
    DataError
        If subjects repeat, or nobody is left; with the values that the column has.
    MismatchError
        If the column does not exist.
    """
    require_subjects(subjects, layout.subject)
    frame = subjects.frame
    known: list[str] = []
    if population is not None:
        column, value = population
        subjects.require(column, purpose="as population flag")
        flags = texts(frame[column])
        known = [str(flag) for flag in flags.unique(maintain_order=True).to_list()]
        frame = frame.filter(flags.eq(value).fill_null(value=False))
    if not frame.height:
        chosen = f" where {population[0]} is {population[1]!r}" if population else ""
        raise DataError(
            f"no subject of {subjects.name} is left{chosen}",
            where=subjects.source,
            exists=known,
            do="correct the population" if population else "give a data set with subjects",
        )
    return replace(subjects, frame=frame)


def analysed(tables: TrialTables, layout: Layout, dataset: str, paramcd: str) -> DataSet:
    """Return the rows of a parameter that carry the record flag, those carried forward included.

    Raises
    ------
    DataError
        If a subject is not in ADSL, has two baselines, or AVAL is no number.
    MismatchError
        If the data set, a column or the parameter does not exist.
    """
    table = tables.finding(dataset)
    require_findings(table, layout.subject)
    flag = (layout.record_flag,) if layout.record_flag else ()
    table.require("AVISIT", *flag, purpose="to choose the records that are analysed")
    require_known(table, tables.subjects, layout.subject)
    require_numbers(table, "AVAL", layout.subject)
    rows = replace(table, frame=table.frame.filter(pl.col("PARAMCD") == paramcd))
    if not rows.frame.height:
        known = table.frame["PARAMCD"].unique(maintain_order=True).drop_nulls().to_list()
        raise MismatchError(f"no parameter {paramcd} in {table.name}", where=table.source, exists=known)
    require_one_baseline(rows, layout.subject)
    if layout.record_flag:
        rows = replace(rows, frame=rows.frame.filter(pl.col(layout.record_flag) == "Y"))
    return rows


def measured(tables: TrialTables, layout: Layout, outcome: Outcome) -> pl.DataFrame:
    """Return the measured records of an outcome at the layout's visits: one a subject and visit.

    Raises
    ------
    DataError
        As in ``analysed``; and if a subject has two records at a visit, or a record has no study day.
    MismatchError
        As in ``analysed``.
    """
    rows = analysed(tables, layout, outcome.dataset, outcome.paramcd)
    frame = rows.frame.filter(pl.col("AVISIT").is_in([visit.name for visit in layout.visits]))
    if "DTYPE" in frame.columns:
        frame = frame.filter(pl.col("DTYPE").is_null())
    what = f"several {outcome.paramcd} records of a subject and visit"
    require_unique(frame, [layout.subject, "AVISIT"], what, rows)
    return add_study_day(replace(rows, frame=frame), layout.subject).frame


def _place(
    rows: pl.DataFrame,
    patient: Mapping[str, int],
    layout: Layout,
    values: Float[np.ndarray, "patient visit"],
    times: Float[np.ndarray, "patient visit"],
) -> None:
    """Put an outcome's values into their places, and days where no earlier outcome gave one."""
    visit = {entry.name: index for index, entry in enumerate(layout.visits)}
    for who, when, day, value in rows.select(layout.subject, "AVISIT", "ADY", "AVAL").iter_rows():
        if who in patient:
            place = patient[who], visit[when]
            values[place] = np.nan if value is None else value
            times[place] = elapsed(day) if np.isnan(times[place]) else times[place]


def _require_visits(rows: Mapping[int, pl.DataFrame], tables: TrialTables, layout: Layout) -> None:
    """Refuse a visit at which nobody has a record: its name is probably misspelt."""
    have = {name for frame in rows.values() for name in frame["AVISIT"].unique().to_list()}
    absent = [visit.name for visit in layout.visits if visit.name not in have]
    if rows and absent:
        outcome = layout.outcomes[next(iter(rows))]
        table = analysed(tables, layout, outcome.dataset, outcome.paramcd)
        raise MismatchError(
            f"no analysed record at visit {', '.join(absent)}",
            where=table.source,
            exists=table.frame["AVISIT"].unique(maintain_order=True).drop_nulls().to_list(),
        )


def _arms(subjects: DataSet, layout: Layout) -> Int[np.ndarray, " patient"]:
    """Return each subject's arm, and refuse arms that are not declared, absent, or of one patient."""
    subjects.require(layout.arm, purpose="as treatment arm")
    names = texts(subjects.frame[layout.arm])
    blank = subjects.frame[layout.subject].filter(names.is_null()).to_list()
    if blank:
        raise DataError(
            f"{len(blank)} subject(s) have no arm ({layout.arm})",
            where=f"{subjects.source}: {shorten(blank)}",
            do="choose a population of subjects who were assigned to one",
        )
    have = names.unique(maintain_order=True).to_list()
    strange = [name for name in have if name not in layout.arms]
    absent = [name for name in layout.arms if name not in have]
    if strange or absent:
        found = f"{layout.arm} holds {', '.join(map(repr, strange))}, not declared" if strange else ""
        lacks = f"no subject of {', '.join(map(repr, absent))}, declared" if absent else ""
        raise DataError(
            "; ".join(filter(None, (found, lacks))),
            where=subjects.source,
            exists=have,
            do="declare the arms that are in the data, the control first, or choose a population",
        )
    received = np.array([layout.arms.index(name) for name in names], dtype=np.int64)
    counts = np.bincount(received, minlength=len(layout.arms))
    small = [f"{layout.arms[i]} ({counts[i]})" for i in np.flatnonzero(counts < _LEAST)]
    if small:
        raise DataError(
            f"an arm needs at least {_LEAST} patients: {', '.join(small)}",
            where=subjects.source,
            do="leave the arm out by the population, or use a cut of the trial with more patients",
        )
    return received


def _numbers(subjects: DataSet, name: str, subject: str, purpose: str) -> Float[np.ndarray, " patient"]:
    """Return a numeric column of ADSL, NaN where missing."""
    subjects.require(name, purpose=purpose)
    require_numbers(subjects, name, subject)
    return subjects.frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(float)


def _covariate(subjects: DataSet, variable: Variable, subject: str) -> Float[np.ndarray, " patient"]:
    """Return a covariate: positions of levels where it is categorical, flags as 0 and 1, else numbers."""
    subjects.require(variable.name, purpose="as a covariate")
    column = subjects.frame[variable.name]
    if variable.kind is Kind.CATEGORICAL:
        codes = {level: float(index) for index, level in enumerate(variable.levels)}
        return _coded(subjects, variable.name, codes, subject)
    if variable.kind is Kind.BINARY and column.dtype == pl.String:
        return _coded(subjects, variable.name, _FLAGS, subject)
    values = _numbers(subjects, variable.name, subject, "as a covariate")
    if variable.kind is Kind.BINARY and not np.isin(values[~np.isnan(values)], (0.0, 1.0)).all():
        raise DataError(
            f"{variable.name} is declared binary and holds other values than 0 and 1",
            where=subjects.source,
            exists=[f"{value:g}" for value in np.unique(values[~np.isnan(values)])],
        )
    return values


def _coded(subjects: DataSet, name: str, codes: Mapping[str, float], subject: str) -> Float[np.ndarray, " patient"]:
    """Turn levels into codes, and refuse values outside them."""
    words = texts(subjects.frame[name])
    strange = words.is_not_null() & ~words.is_in(list(codes))
    if strange.any():
        found = [str(word) for word in words.filter(strange).unique(maintain_order=True)]
        raise DataError(
            f"{name} holds {', '.join(map(repr, found[:10]))}, outside its declared levels",
            where=f"{subjects.source}: {shorten(subjects.frame[subject].filter(strange).to_list())}",
            exists=list(codes),
            do="declare the level, or correct the value where the file is made",
        )
    return np.array([np.nan if word is None else codes[word] for word in words], dtype=float)


def _events(tables: TrialTables, layout: Layout, patient: Mapping[str, int]) -> Events | None:
    """Collect events and censoring times, those of ADTTE first, each in its file's order."""
    if tables.times is None and tables.events is None:
        return None
    rows: list[tuple[str, float, str, bool]] = []
    if tables.times is not None:
        rows += _times(tables.times, tables.subjects, layout.subject)
    rows = [row for row in rows if row[0] in patient]
    followed = len(rows)
    if tables.events is not None:
        rows += _adverse(tables.events, tables.subjects, layout.subject)
    rows = [row for row in rows if row[0] in patient]
    return Events(
        patient=np.array([patient[row[0]] for row in rows], dtype=np.int64),
        time=np.array([row[1] for row in rows], dtype=float),
        name=tuple(row[2] for row in rows),
        observed=np.array([row[3] for row in rows], dtype=bool),
        followed=np.arange(len(rows)) < followed,
    )


def _times(table: DataSet, subjects: DataSet, subject: str) -> list[tuple[str, float, str, bool]]:
    """Read ADTTE: one row a subject and parameter."""
    require_times(table, subject)
    require_known(table, subjects, subject)
    require_numbers(table, "AVAL", subject)
    require_numbers(table, "CNSR", subject)
    _require_filled(table, ("PARAMCD", "CNSR"), subject)
    days: pl.Expr = pl.lit(None, pl.Float64)
    if {"ADT", "STARTDT"} <= set(table.frame.columns):
        days = (pl.col("ADT") - pl.col("STARTDT")).dt.total_days().cast(pl.Float64)
    frame = table.frame.select(subject, "PARAMCD", "AVAL", "CNSR", days.alias("days"))
    return [
        (who, _day(value) if span is None else span, name, censored == 0)
        for who, name, value, censored, span in frame.iter_rows()
    ]


def _adverse(table: DataSet, subjects: DataSet, subject: str) -> list[tuple[str, float, str, bool]]:
    """Read ADAE: each event at its start."""
    require_events(table, subject)
    table.require("ASTDY", purpose="as the start of adverse events")
    require_known(table, subjects, subject)
    require_numbers(table, "ASTDY", subject)
    _require_filled(table, ("AEDECOD",), subject)
    return [(who, _day(day), name, True) for who, day, name in table.frame.select(subject, "ASTDY", "AEDECOD").rows()]


def _day(value: float | None) -> float:
    """Turn a study day into days since baseline; NaN where it is not known."""
    return float("nan") if value is None else float(elapsed(value))


def _require_filled(table: DataSet, columns: tuple[str, ...], subject: str) -> None:
    """Refuse rows without a name or a censoring flag."""
    for column in columns:
        blank = table.frame.filter(pl.col(column).is_null())
        if blank.height:
            raise DataError(
                f"{column} of {table.name} is missing in {blank.height} row(s)",
                where=f"{table.source}: {shorten(blank[subject].to_list())}",
                do="correct the rows where the file is made",
            )
