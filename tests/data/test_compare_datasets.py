"""Two versions of a data set: rows of one only, and cells that differ by rounding or by value."""

from datetime import date

import polars as pl
import pytest

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.data.compare import Cause, CellDifference, compare
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage

FIELDS = (
    Field("USUBJID", Storage.CHAR),
    Field("VISIT", Storage.CHAR),
    Field("AVAL", Storage.NUM),
    Field("ADT", Storage.DATE),
)


def version(*rows: tuple, fields: tuple[Field, ...] = FIELDS) -> DataSet:
    schema = {field.name: DTYPES[field.storage] for field in fields}
    return DataSet("ADQS", fields, pl.DataFrame(list(rows), schema=schema, orient="row"))


DAY = date(2014, 1, 2)
KEYS = ["USUBJID", "VISIT"]


def test_equal_versions_have_no_difference() -> None:
    rows = (("1", "A", 1 / 3, DAY), ("1", None, None, None))
    found = compare(version(*rows), version(*reversed(rows)), keys=KEYS)
    assert found.same
    assert (found.matched, found.columns) == (2, ("AVAL", "ADT"))


def test_rows_of_one_only_and_cells_are_told_in_the_order_of_the_left() -> None:
    left = version(("2", "A", 5.0, DAY), ("1", "A", 1 / 3, DAY), ("1", "B", 2.0, None), ("9", "A", 0.0, DAY))
    right = version(("1", "A", 0.333333333333, DAY), ("2", "A", 6.0, None), ("1", "B", None, DAY), ("7", "A", 0.0, DAY))
    found = compare(left, right, keys=KEYS)
    assert found.only_left == (("9", "A"),)
    assert found.only_right == (("7", "A"),)
    assert found.matched == 3
    assert found.cells == (
        CellDifference(("2", "A"), "AVAL", 5.0, 6.0, 1.0, Cause.VALUE),
        CellDifference(("2", "A"), "ADT", DAY, None, None, Cause.VALUE),
        CellDifference(("1", "A"), "AVAL", 1 / 3, 0.333333333333, 1 / 3 - 0.333333333333, Cause.ROUNDING),
        CellDifference(("1", "B"), "AVAL", 2.0, None, None, Cause.VALUE),
        CellDifference(("1", "B"), "ADT", None, DAY, None, Cause.VALUE),
    )
    assert not found.same
    assert found.count(Cause.VALUE) == 4


@pytest.mark.parametrize(
    ("left", "right", "cause"),
    [
        (1234.56789012345, 1234.56789012, Cause.ROUNDING),
        (1234.56789012345, 1234.5678902, Cause.VALUE),
        (1e-9, 1.00000000001e-9, Cause.VALUE),
        (1e-9, 1.000000000004e-9, Cause.ROUNDING),
        (1e-9, 1.000000000006e-9, Cause.VALUE),
        (-1.0, 1.0, Cause.VALUE),
        (0.0, 1e-30, Cause.VALUE),
        (99999999999.95, 100000000000.0, Cause.ROUNDING),
    ],
)
def test_rounding_is_agreement_to_twelve_significant_digits(left: float, right: float, cause: Cause) -> None:
    for a, b in ((left, right), (right, left)):
        found = compare(version(("1", "A", a, DAY)), version(("1", "A", b, DAY)), keys=KEYS)
        assert [cell.cause for cell in found.cells] == [cause]


def test_tolerance_is_absolute() -> None:
    left, right = version(("1", "A", 1.0, DAY)), version(("1", "A", 1.5, DAY))
    assert compare(left, right, keys=KEYS, tolerance=0.5).same
    assert not compare(left, right, keys=KEYS, tolerance=0.49).same


def test_comparisons_that_make_no_sense_are_refused() -> None:
    good = version(("1", "A", 1.0, DAY))
    twice = version(("1", "A", 1.0, DAY), ("1", "A", 2.0, DAY))
    with pytest.raises(DataError, match=r"2 rows repeat[\s\S]*first USUBJID 1, VISIT A"):
        compare(good, twice, keys=KEYS)
    with pytest.raises(MismatchError, match="no keys"):
        compare(good, good, keys=[])
    with pytest.raises(MismatchError, match="no variable AVISIT"):
        compare(good, good, keys=["AVISIT"])
    with pytest.raises(MismatchError, match="no variable BASE"):
        compare(good, good, keys=KEYS, columns=["BASE"])
    texts = (*FIELDS[:2], Field("AVAL", Storage.CHAR), FIELDS[3])
    with pytest.raises(DataError, match=r"stored differently in the two: AVAL \(Float64, String\)"):
        compare(good, version(("1", "A", "1", DAY), fields=texts), keys=KEYS)
