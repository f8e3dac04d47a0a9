"""Data sets from columns: name, storage, label and values in one place."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage

type Column = tuple[str, Storage, str, Any]


def dataset(name: str, label: str, columns: Sequence[Column]) -> DataSet:
    """Make a data set; character columns are as long as their longest value."""
    series = [pl.Series(column, values, dtype=DTYPES[kind], strict=False) for column, kind, _, values in columns]
    fields = []
    for (column, kind, words, _), values in zip(columns, series, strict=True):
        longest = values.str.len_bytes().max() if kind is Storage.CHAR else None
        length = max(1, longest) if isinstance(longest, int) else 1 if kind is Storage.CHAR else None
        fields.append(Field(column, kind, words, length, "DATE9." if kind is Storage.DATE else ""))
    return DataSet(name, tuple(fields), pl.DataFrame(series), label, "simulated by trialtwin.data.examples")


def flags(yes: Bool[np.ndarray, " row"], *, no: str | None = "N") -> list[str | None]:
    """Write a flag: Y, and N or blank."""
    return ["Y" if value else no for value in yes]


def dates(first: Sequence[date], day: Int[np.ndarray, " row"]) -> list[date]:
    """Turn study days (no day 0) into dates, given the date of the first dose on each row."""
    return [start + timedelta(days=int(d) - 1 if d >= 1 else int(d)) for start, d in zip(first, day, strict=True)]


def unless(blank: Bool[np.ndarray, " row"], values: Sequence[object]) -> list[object]:
    """Leave values blank where they are unknown."""
    return [None if unknown else value for unknown, value in zip(blank, values, strict=True)]
