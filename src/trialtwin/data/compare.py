"""Two versions of a data set: rows that only one has, and cells that differ, told apart by rounding or by value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.data.dataset import DataSet

type Value = object

_DIGITS = 12


class Cause(StrEnum):
    """Why two cells differ: numbers that agree to 12 significant digits were rounded; all else is another value.

    They agree where they differ by at most half a unit in the twelfth significant digit.
    """

    ROUNDING = "rounding"
    VALUE = "value"


@dataclass(frozen=True)
class CellDifference:
    """A cell that differs: key values of its row, column, both values, their distance if numbers, and the cause."""

    key: tuple[Value, ...]
    column: str
    left: Value
    right: Value
    difference: float | None
    cause: Cause


@dataclass(frozen=True)
class Difference:
    """What differs between two data sets.

    Parameters
    ----------
    keys, columns
        By which rows were matched, and what was compared.
    matched
        How many rows both have.
    only_left, only_right
        Key values of rows that only one has.
    cells
        Cells that differ, in the order of the left rows.
    """

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    matched: int
    only_left: tuple[tuple[Value, ...], ...]
    only_right: tuple[tuple[Value, ...], ...]
    cells: tuple[CellDifference, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.only_left or self.only_right or self.cells)

    def count(self, cause: Cause) -> int:
        """Count the cells that differ for a cause."""
        return sum(cell.cause is cause for cell in self.cells)


def compare(
    left: DataSet, right: DataSet, *, keys: Sequence[str], columns: Sequence[str] | None = None, tolerance: float = 0.0
) -> Difference:
    """Compare two data sets row by row and cell by cell.

    Parameters
    ----------
    left, right
        The data sets.
    keys
        Columns that identify a row in both.
    columns
        What to compare; every column that both have, the keys aside, without it.
    tolerance
        Largest absolute difference of two numbers that are taken as equal.

    Raises
    ------
    DataError
        If keys do not identify a row, or a column is stored differently in the two.
    MismatchError
        If a column is missing.

    Examples
    --------
    >>> from trialtwin.data.dataset import Field, Storage
    >>> fields = (Field("USUBJID", Storage.CHAR), Field("AVAL", Storage.NUM))
    >>> old = DataSet("A", fields, pl.DataFrame({"USUBJID": ["1", "2"], "AVAL": [1 / 3, 5.0]}))
    >>> new = DataSet("A", fields, pl.DataFrame({"USUBJID": ["1", "2"], "AVAL": [0.333333333333, 6.0]}))
    >>> [(cell.key, cell.cause.value) for cell in compare(old, new, keys=["USUBJID"]).cells]
    [(('1',), 'rounding'), (('2',), 'value')]
    """
    keys = tuple(keys)
    if not keys:
        raise MismatchError("no keys are given to match rows by", exists=left.frame.columns)
    if columns is None:
        columns = [name for name in left.frame.columns if name in right.frame.columns and name not in keys]
    chosen = tuple(columns)
    for dataset in (left, right):
        dataset.require(*keys, *chosen, purpose="to compare")
        _require_key(dataset, keys)
    _require_types(left, right, (*keys, *chosen))
    ours = left.frame.select(*keys, *chosen).with_row_index("_row")
    theirs = right.frame.select(*keys, *chosen)
    both = ours.join(theirs, on=keys, how="inner", suffix="_right", nulls_equal=True).sort("_row")
    only_left = ours.join(theirs, on=keys, how="anti", nulls_equal=True).select(keys).rows()
    only_right = theirs.join(ours, on=keys, how="anti", nulls_equal=True).select(keys).rows()
    cells = _cells(both, keys, chosen, tolerance)
    return Difference(keys, chosen, both.height, tuple(only_left), tuple(only_right), cells)


def _require_key(dataset: DataSet, keys: tuple[str, ...]) -> None:
    """Refuse keys under which rows repeat."""
    twice = dataset.frame.select(keys).filter(dataset.frame.select(keys).is_duplicated())
    if twice.height:
        first = ", ".join(f"{key} {value}" for key, value in zip(keys, twice.row(0), strict=True))
        raise DataError(
            f"the keys do not tell the rows of {dataset.name} apart: {twice.height} rows repeat",
            where=f"{dataset.source}: first {first}",
            exists=dataset.frame.columns,
            do="add a key, such as PARAMCD, AVISIT, DTYPE or a sequence number",
        )


def _require_types(left: DataSet, right: DataSet, names: tuple[str, ...]) -> None:
    """Refuse columns that are stored differently."""
    odd = [
        f"{name} ({left.frame.schema[name]}, {right.frame.schema[name]})"
        for name in names
        if left.frame.schema[name] != right.frame.schema[name]
    ]
    if odd:
        raise DataError(
            f"columns are stored differently in the two: {', '.join(odd)}",
            where=f"{left.source} and {right.source}",
            do="compare other columns, or correct the file whose type is wrong",
        )


def _cells(
    both: pl.DataFrame, keys: tuple[str, ...], columns: tuple[str, ...], tolerance: float
) -> tuple[CellDifference, ...]:
    """Collect the cells that differ, by row and column."""
    found: list[tuple[int, int, CellDifference]] = []
    for place, name in enumerate(columns):
        other = f"{name}_right"
        differing = both.filter(pl.col(name).ne_missing(pl.col(other)))
        for row in differing.select("_row", *keys, name, other).iter_rows():
            cell = _cell(row[1:-2], name, row[-2], row[-1], tolerance)
            if cell is not None:
                found.append((row[0], place, cell))
    found.sort(key=lambda entry: entry[:2])
    return tuple(cell for _, _, cell in found)


def _cell(key: tuple[Value, ...], column: str, left: Value, right: Value, tolerance: float) -> CellDifference | None:
    """Describe a cell that differs, unless by no more than the tolerance."""
    if isinstance(left, float) and isinstance(right, float):
        distance = abs(left - right)
        if distance <= tolerance:
            return None
        cause = Cause.ROUNDING if _agree(left, right) else Cause.VALUE
        return CellDifference(key, column, left, right, distance, cause)
    return CellDifference(key, column, left, right, None, Cause.VALUE)


def _agree(left: float, right: float) -> bool:
    """Tell whether two numbers differ by at most half a unit in the twelfth significant digit of the larger."""
    size = max(abs(left), abs(right))
    unit = 10.0 ** (math.floor(math.log10(size)) + 1 - _DIGITS)
    return abs(left - right) <= 0.5000001 * unit
