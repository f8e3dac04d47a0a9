"""A table as it came: named, typed columns with their metadata, and the hash of the file it was read from."""

from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from trialtwin.core.errors import DataError, MismatchError


class Storage(StrEnum):
    """How a column is stored, the same whatever the file format.

    Missing is null everywhere: a blank character value in SAS, an empty string and a null in JSON are one thing.
    """

    CHAR = "char"
    NUM = "num"
    DATE = "date"
    DATETIME = "datetime"
    TIME = "time"


DTYPES: dict[Storage, pl.DataType] = {
    Storage.CHAR: pl.String(),
    Storage.NUM: pl.Float64(),
    Storage.DATE: pl.Date(),
    Storage.DATETIME: pl.Datetime("us"),
    Storage.TIME: pl.Time(),
}


@dataclass(frozen=True)
class Field:
    """Name, label, storage, length in bytes (character columns) and display format of a column."""

    name: str
    storage: Storage
    label: str = ""
    length: int | None = None
    format: str = ""


@dataclass(frozen=True, eq=False)
class DataSet:
    """A table with its metadata.

    Parameters
    ----------
    name
        Data set name, such as ``"ADSL"``.
    fields
        One a column, in order.
    frame
        The values; column types follow ``DTYPES``.
    label
        Description of the data set.
    source
        File that it came from, or how it was made, for messages.
    sha256
        Hash of that file; empty where there is none.

    Raises
    ------
    DataError
        If columns and fields disagree.
    """

    name: str
    fields: tuple[Field, ...]
    frame: pl.DataFrame
    label: str = ""
    source: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        wanted = {field.name: DTYPES[field.storage] for field in self.fields}
        actual = dict(self.frame.schema)
        if list(wanted.items()) != list(actual.items()):
            odd = [name for name in (*wanted, *actual) if wanted.get(name) != actual.get(name)]
            raise DataError(f"data set {self.name}: columns and fields disagree on {odd[:5]}", where=self.source)

    def require(self, *names: str, purpose: str = "") -> None:
        """Refuse a data set that lacks a column.

        Raises
        ------
        MismatchError
            With the columns that are missing, those that exist, and what they were wanted for.
        """
        missing = [name for name in names if name not in self.frame.columns]
        if missing:
            raise MismatchError(
                f"data set {self.name} has no variable {', '.join(missing)}"
                + (f", needed {purpose}" if purpose else ""),
                where=self.source,
                exists=self.frame.columns,
            )
