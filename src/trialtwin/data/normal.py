"""One form for what different formats say differently: blank is missing, trailing blanks are not part of a value."""

from dataclasses import replace

import polars as pl

from trialtwin.core.errors import DataError
from trialtwin.data.dataset import DataSet


def normalise(dataset: DataSet) -> DataSet:
    """Strip trailing blanks and make blank values and NaN missing, as every reader does.

    Examples
    --------
    >>> from trialtwin.data.dataset import Field, Storage
    >>> raw = DataSet("AE", (Field("AETERM", Storage.CHAR),), pl.DataFrame({"AETERM": ["RASH  ", " "]}))
    >>> normalise(raw).frame["AETERM"].to_list()
    ['RASH', None]
    """
    return replace(dataset, frame=normal_frame(dataset.frame))


def normal_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Do the same to a frame's columns."""
    return frame.with_columns(
        pl.col(pl.String).str.strip_chars_end(" ").replace("", None),
        pl.col(pl.Float64).fill_nan(None),
    )


def refuse_infinite(dataset: DataSet, form: str) -> None:
    """Refuse infinite numbers, which the form that is written cannot hold.

    Raises
    ------
    DataError
        With the column and the row of the first one.
    """
    for name in dataset.frame.select(pl.col(pl.Float64)).columns:
        infinite = dataset.frame[name].is_infinite().fill_null(value=False)
        if infinite.any():
            row = int(infinite.arg_true()[0])
            raise DataError(f"{name} is infinite, which {form} cannot hold", where=f"{dataset.name}: row {row + 1}")
