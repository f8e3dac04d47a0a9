"""What a data set must be before it is used: its columns by role, one row a subject, one value a visit, numbers."""

import re

import polars as pl

from trialtwin.core.errors import DataError
from trialtwin.data.dataset import DataSet, Storage

_TIMES = re.compile(r"ADTT[A-Z0-9]*")
_EVENTS = re.compile(r"ADAE[A-Z0-9]*")
_SHOWN = 10


def require_subjects(dataset: DataSet, subject: str = "USUBJID") -> None:
    """Refuse a subject-level data set without subjects, or with several rows of one.

    Raises
    ------
    DataError
        With the subjects that repeat.
    MismatchError
        If the subject column is missing.
    """
    dataset.require(subject, purpose="in a subject-level data set (ADSL)")
    ids = dataset.frame[subject]
    if ids.null_count():
        row = int(ids.is_null().arg_true()[0])
        raise DataError(f"{dataset.name} has rows without {subject}", where=f"{dataset.source}: row {row + 1}")
    twice = ids.filter(ids.is_duplicated()).unique(maintain_order=True).to_list()
    if twice:
        raise DataError(
            f"{dataset.name} has {len(ids)} rows for {ids.n_unique()} subjects, where each has one",
            where=f"{dataset.source}: {shorten(twice)}",
            do="give the subject-level data set (ADSL), or drop the repeated rows where it is made",
        )


def require_findings(dataset: DataSet, subject: str = "USUBJID") -> None:
    """Refuse measurements over time (BDS) without PARAMCD or AVAL.

    Raises
    ------
    MismatchError
        With the columns that are missing and those that exist.
    """
    dataset.require(subject, "PARAMCD", "AVAL", purpose="in measurements over time (BDS)")


def require_times(dataset: DataSet, subject: str = "USUBJID") -> None:
    """Refuse times to events (ADTTE) without PARAMCD, AVAL or CNSR.

    Raises
    ------
    MismatchError
        With the columns that are missing and those that exist.
    """
    dataset.require(subject, "PARAMCD", "AVAL", "CNSR", purpose="in times to events (ADTTE)")


def require_events(dataset: DataSet, subject: str = "USUBJID") -> None:
    """Refuse adverse events (ADAE) without AETERM or AEDECOD.

    Raises
    ------
    MismatchError
        With the columns that are missing and those that exist.
    """
    dataset.require(subject, "AETERM", "AEDECOD", purpose="in adverse events (ADAE)")


def require_content(dataset: DataSet, expect: str) -> None:
    """Refuse a data set whose columns or rows are not those of the expected one.

    ADSL has one row a subject, ADAE has AETERM and AEDECOD, ADTTE has PARAMCD, AVAL and CNSR; any other ADaM set
    (``AD…``) is a BDS with PARAMCD and AVAL. For other names nothing is known.

    Raises
    ------
    DataError
        If ADSL has several rows of a subject.
    MismatchError
        If a column is missing.
    """
    name = expect.upper()
    if name == "ADSL":
        require_subjects(dataset)
    elif _EVENTS.fullmatch(name):
        require_events(dataset)
    elif _TIMES.fullmatch(name):
        require_times(dataset)
    elif name.startswith("AD"):
        require_findings(dataset)


def require_known(dataset: DataSet, subjects: DataSet, subject: str) -> None:
    """Refuse rows of subjects who are not in the subject-level data set.

    Raises
    ------
    DataError
        With those subjects.
    """
    ids = dataset.frame[subject].unique(maintain_order=True)
    if ids.null_count():
        row = int(dataset.frame[subject].is_null().arg_true()[0])
        raise DataError(f"{dataset.name} has rows without {subject}", where=f"{dataset.source}: row {row + 1}")
    strangers = ids.filter(~ids.is_in(subjects.frame[subject].to_list())).to_list()
    if strangers:
        raise DataError(
            f"{len(strangers)} subject(s) of {dataset.name} are not in {subjects.name}",
            where=f"{dataset.source}: {shorten(strangers)}",
            do="use data sets of the same cut of the trial",
        )


def require_numbers(dataset: DataSet, column: str, subject: str) -> None:
    """Refuse a column of values that is stored as characters; one without any value has no type in a CSV file.

    Raises
    ------
    DataError
        With rows, subjects and values that are no numbers, or the remark that all of them are.
    """
    values = dataset.frame[column]
    if values.dtype == pl.Float64 or values.null_count() == len(values):
        return
    storage = next(field.storage for field in dataset.fields if field.name == column)
    if storage is not Storage.CHAR:
        raise DataError(f"{column} of {dataset.name} is stored as {storage}, where numbers are wanted")
    odd = values.is_not_null() & values.cast(pl.Float64, strict=False).is_null()
    rows = odd.arg_true().to_list()
    shown = ", ".join(f"row {row + 1} ({dataset.frame[subject][row]}): {values[row]!r}" for row in rows[:_SHOWN])
    raise DataError(
        f"{column} of {dataset.name} is stored as characters, and {len(rows)} value(s) are no numbers",
        where=f"{dataset.source}: {shown}" if rows else dataset.source,
        do="correct the values where the file is made, and store the column as numbers",
    )


def require_unique(rows: pl.DataFrame, keys: list[str], what: str, dataset: DataSet) -> None:
    """Refuse rows that agree in all keys.

    Raises
    ------
    DataError
        With the first keys that repeat.
    """
    counts = rows.group_by(keys, maintain_order=True).len().filter(pl.col("len") > 1)
    if counts.height:
        shown = [" ".join(map(str, row[:-1])) + f" ({row[-1]} rows)" for row in counts.head(_SHOWN).rows()]
        raise DataError(
            f"{counts.height} time(s) {dataset.name} has {what}",
            where=f"{dataset.source}: {shorten(shown, counts.height)}",
            do="flag the one record that is to be analysed (ANL01FL), or drop the repeated rows where the file is made",
        )


def require_one_baseline(dataset: DataSet, subject: str) -> None:
    """Refuse two records flagged as baseline (ABLFL) for one subject and parameter.

    Raises
    ------
    DataError
        With subjects and parameters.
    """
    if "ABLFL" in dataset.frame.columns:
        flagged = dataset.frame.filter(pl.col("ABLFL") == "Y")
        require_unique(flagged, [subject, "PARAMCD"], "two baselines of a subject and parameter", dataset)


def shorten(names: list[str], total: int | None = None) -> str:
    """Join the first few names and say how many more there are."""
    more = (total or len(names)) - len(names[:_SHOWN])
    return ", ".join(map(str, names[:_SHOWN])) + (f", … ({more} more)" if more > 0 else "")


def texts(column: pl.Series) -> pl.Series:
    """Return a column as text; whole numbers without a decimal point, so that TRT01PN 54 is the level "54".

    Examples
    --------
    >>> texts(pl.Series([0.0, 54.0, 0.5, None])).to_list()
    ['0', '54', '0.5', None]
    """
    if column.dtype != pl.Float64:
        return column.cast(pl.String)
    words = [None if value is None else str(int(value)) if value.is_integer() else repr(value) for value in column]
    return pl.Series(column.name, words, dtype=pl.String)
