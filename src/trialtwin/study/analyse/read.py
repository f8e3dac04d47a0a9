"""The data sets of a page, and the columns of its subjects: from ADSL where they are there, else from the records."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.data.cdisc import read_folder
from trialtwin.data.dataset import DataSet
from trialtwin.data.structure import (
    require_findings,
    require_known,
    require_numbers,
    require_subjects,
    require_times,
    shorten,
    texts,
)
from trialtwin.study.analyse.spec import AnalyseSpec, EndpointSpec
from trialtwin.trials.record import Factor


class Rows(NamedTuple):
    """The records of one parameter, and their data set for messages."""

    dataset: DataSet
    frame: pl.DataFrame


@dataclass(frozen=True, eq=False)
class Trial:
    """A page with its data sets read."""

    spec: AnalyseSpec
    tables: Mapping[str, DataSet]

    def sources(self) -> dict[str, str]:
        """Return the hash of each file by name."""
        return {name: table.sha256 for name, table in self.tables.items() if table.sha256}

    def rows(self, endpoint: EndpointSpec) -> Rows:
        """Return the records of an endpoint's parameter, all visits and flags.

        Raises
        ------
        MismatchError
            If a column or the parameter does not exist.
        DataError
            If a record belongs to no subject of ADSL.
        """
        spec = self.spec
        dataset = self.tables[endpoint.records or spec.data.records]
        check = require_times if endpoint.kind == "time to event" else require_findings
        check(dataset, spec.data.subject)
        if spec.data.subjects:
            require_known(dataset, self.tables[spec.data.subjects], spec.data.subject)
        frame = dataset.frame.filter(texts(dataset.frame["PARAMCD"]) == endpoint.parameter)
        if not frame.height:
            known = dataset.frame["PARAMCD"].unique(maintain_order=True).drop_nulls().to_list()
            raise MismatchError(f"no parameter {endpoint.parameter!r}", where=dataset.source, exists=known)
        return Rows(dataset, frame)


def read_trial(spec: AnalyseSpec, folder: Path) -> Trial:
    """Read the data sets that a page names.

    Raises
    ------
    DataError, MismatchError, MachineError
        If a file is missing, broken, or another one than its name says.
    """
    data = spec.data
    names = [data.records, *(e.records for e in spec.endpoints), data.subjects, *data.join]
    wanted = tuple(dict.fromkeys(name for name in names if name))
    tables = read_folder(folder, wanted, mappings=data.mappings, missing=data.na)
    for name in (data.subjects, *data.join):
        if name:
            require_subjects(tables[name], data.subject)
    return Trial(spec, tables)


class Subjects:
    """The subjects whom an endpoint may be of, and their columns.

    Parameters
    ----------
    trial
        The page with its data sets.
    rows
        Records of the endpoint's parameter.
    """

    def __init__(self, trial: Trial, rows: Rows) -> None:
        data = trial.spec.data
        self.subject, self._records = data.subject, rows
        self._tables = [trial.tables[name] for name in (data.subjects, *data.join) if name]
        owner = self._tables[0].frame if data.subjects else rows.frame
        self.ids = owner[data.subject].unique(maintain_order=True).to_list()
        self._force = data.factors

    def column(self, name: str, purpose: str) -> pl.Series:
        """Return a column, one value a subject.

        Raises
        ------
        MismatchError
            If no data set has it.
        DataError
            If it stands in the records only and differs within a subject.
        """
        for table in self._tables:
            if name in table.frame.columns:
                return self._aligned(table.frame.select(self.subject, name), name)
        dataset, frame = self._records
        if name not in frame.columns:
            known = [*dict.fromkeys(c for t in (*self._tables, dataset) for c in t.frame.columns)]
            raise MismatchError(f"no variable {name!r}, needed {purpose}", where=dataset.source, exists=known)
        one = frame.select(self.subject, name).drop_nulls().unique(maintain_order=True)
        twice = one.filter(one[self.subject].is_duplicated())
        if twice.height:
            raise DataError(
                f"{name} differs between the records of {twice[self.subject].n_unique()} subject(s)",
                where=f"{dataset.source}: {shorten(twice[self.subject].unique(maintain_order=True).to_list())}",
                do="give a variable that is fixed within a subject, or the subject-level data set (ADSL)",
            )
        return self._aligned(one, name)

    def words(self, name: str, purpose: str) -> list[str | None]:
        """Return a column as text."""
        return texts(self.column(name, purpose)).to_list()

    def numbers(self, name: str, purpose: str) -> Float[np.ndarray, " subject"]:
        """Return a column of numbers, NaN where missing.

        Raises
        ------
        DataError
            If it holds no numbers.
        """
        values = self.column(name, purpose)
        if values.dtype != pl.Float64 and values.null_count() < len(values):
            raise DataError(f"{name} holds no numbers, needed {purpose}", where=f"such as {values.drop_nulls()[0]!r}")
        return values.cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()

    def is_category(self, name: str) -> bool:
        """Tell whether a column is a category: characters, or named so in the page."""
        return name in self._force or self.column(name, "as a covariate").dtype == pl.String

    def days(self, name: str, start: str, purpose: str) -> Float[np.ndarray, " subject"]:
        """Return study days from a column of days or of dates, NaN where missing.

        Raises
        ------
        DataError
            If a subject with a date has no first day, or the column holds neither.
        """
        values = self.column(name, purpose)
        if values.dtype != pl.Date:
            return self.numbers(name, purpose)
        first = self.column(start, f"to count study days of {name}")
        if first.dtype != pl.Date:
            raise DataError(f"{start} holds no dates", do="name the date of study day 1 as [data] start")
        return np.array([_study_day(at, one) for at, one in zip(values, first, strict=True)])

    def _aligned(self, one: pl.DataFrame, name: str) -> pl.Series:
        key = pl.DataFrame({self.subject: self.ids}, schema={self.subject: one.schema[self.subject]})
        return key.join(one, on=self.subject, how="left", maintain_order="left")[name]


def coded(names: list[str | None], ids: list[str], what: str) -> Factor:
    """Return a category, its levels in alphabetical order.

    Raises
    ------
    DataError
        If it is missing for a subject.
    """
    absent = [who for who, name in zip(ids, names, strict=True) if name is None]
    if absent:
        raise DataError(
            f"{what} is missing for {len(absent)} subject(s) of the analysis",
            where=shorten(absent),
            do="leave it out of the analyses, or give these subjects a category of their own",
        )
    levels, codes = np.unique(np.array(names, dtype=str), return_inverse=True)
    return Factor(tuple(str(level) for level in levels), codes)


def require_numeric(rows: Rows, column: str, subject: str, purpose: str) -> pl.DataFrame:
    """Return records after a look that a column is there and holds numbers.

    Raises
    ------
    MismatchError
        If there is no such column.
    DataError
        If it holds no numbers.
    """
    rows.dataset.require(column, purpose=purpose)
    require_numbers(rows.dataset, column, subject)
    return rows.frame


def _study_day(at: date | None, first: date | None) -> float:
    """Return the study day of a date: day 1 is the first, there is no day 0."""
    if at is None:
        return float("nan")
    if first is None:
        raise DataError(f"an event on {at} of a subject without a first day", do="leave the date out, or correct it")
    days = (at - first).days
    return float(days + 1 if days >= 0 else days)
