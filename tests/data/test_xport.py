"""SAS transport 5: exact numbers, every cut found, and what the format cannot hold refused."""

# ruff: noqa: DTZ001 - times in CDISC's formats carry no zone

from datetime import date, datetime, time
from fractions import Fraction
from pathlib import Path

import polars as pl
import pyreadstat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialtwin.core.errors import DataError
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage
from trialtwin.data.transport import parse
from trialtwin.data.xport import read_xport, write_xport

ADAM = "data/cdiscpilot01/adam"


def dataset(name: str = "TEST", label: str = "", **columns: tuple[Storage, list]) -> DataSet:
    fields = tuple(Field(column, storage) for column, (storage, _) in columns.items())
    frame = pl.DataFrame({c: pl.Series(v, dtype=DTYPES[s]) for c, (s, v) in columns.items()})
    return DataSet(name, fields, frame, label)


def numbers(values: list) -> DataSet:
    return dataset(X=(Storage.NUM, values))


def characters(values: list) -> DataSet:
    return dataset(C=(Storage.CHAR, values))


def ibm(raw: bytes) -> Fraction:
    """Decode an IBM double by its definition: sign, base-16 exponent in excess 64, 56-bit fraction."""
    sign = -1 if raw[0] & 0x80 else 1
    return sign * Fraction(int.from_bytes(raw[1:], "big"), 2**56) * Fraction(16) ** ((raw[0] & 0x7F) - 64)


DOUBLES = st.one_of(
    st.floats(min_value=2.0**-260, max_value=2.0**249, exclude_max=True),
    st.floats(min_value=-(2.0**249), max_value=-(2.0**-260), exclude_min=True),
    st.just(0.0),
    st.none(),
)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(DOUBLES, min_size=1, max_size=40))
def test_doubles_come_back_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, values: list) -> None:
    path = tmp_path_factory.mktemp("x") / "x.xpt"
    write_xport(numbers(values), path)
    back = read_xport(path).frame["X"].to_list()
    assert [None if v is None else v.hex() for v in back] == [None if v is None else v.hex() for v in values]


@settings(max_examples=40, deadline=None)
@given(values=st.lists(DOUBLES.filter(lambda v: v is not None), min_size=1, max_size=20))
def test_independent_bytes_written_are_ibm_doubles_of_the_same_value(
    tmp_path_factory: pytest.TempPathFactory, values: list
) -> None:
    path = tmp_path_factory.mktemp("x") / "x.xpt"
    write_xport(numbers(values), path)
    content = path.read_bytes()
    start = parse(content, "x").start
    assert [ibm(content[start + 8 * i : start + 8 * i + 8]) for i in range(len(values))] == [
        Fraction(v) for v in values
    ]


def test_independent_pyreadstat_reads_the_same_from_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "dm.xpt"
    columns = {
        "USUBJID": (Storage.CHAR, ["01", "02"]),
        "AGE": (Storage.NUM, [63.5, None]),
        "TRTSDT": (Storage.DATE, [date(2014, 1, 2), None]),
        "ADTM": (Storage.DATETIME, [None, datetime(2014, 1, 2, 3, 4, 5, 678901)]),
        "ATM": (Storage.TIME, [time(23, 59, 59, 999999), time(0)]),
    }
    write_xport(dataset("DM", "Demographics", **columns), path)
    values, metadata = pyreadstat.read_xport(path, output_format="dict")
    assert {name: list(values[name]) for name in values} == {name: data for name, (_, data) in columns.items()}
    assert (metadata.table_name, metadata.file_label, metadata.number_rows) == ("DM", "Demographics", 2)


def test_metadata_come_back(tmp_path: Path) -> None:
    fields = (
        Field("USUBJID", Storage.CHAR, "Unique Subject Identifier", 5, "$5."),
        Field("AVAL", Storage.NUM, "Analysis Value", None, "8.2"),
        Field("ADT", Storage.DATE, "Analysis Date", None, "E8601DA10."),
        Field("EMPTYC", Storage.CHAR, "", 1),
        Field("EMPTYN", Storage.NUM),
    )
    frame = pl.DataFrame(
        [("01-01", 1.5, date(1959, 12, 31), None, None)],
        schema={field.name: DTYPES[field.storage] for field in fields},
        orient="row",
    )
    write_xport(DataSet("ADQS", fields, frame, "Questionnaires"), tmp_path / "a.xpt")
    back = read_xport(tmp_path / "a.xpt")
    assert (back.name, back.label, back.fields) == ("ADQS", "Questionnaires", fields)
    assert back.frame.equals(frame)
    assert len(back.sha256) == 64


def test_all_missing_columns_keep_their_type(tmp_path: Path) -> None:
    wanted = dataset(C=(Storage.CHAR, [None, None]), X=(Storage.NUM, [None, None]), D=(Storage.DATE, [None, None]))
    write_xport(wanted, tmp_path / "a.xpt")
    assert read_xport(tmp_path / "a.xpt").frame.equals(wanted.frame)


def test_no_rows_come_back_as_no_rows(tmp_path: Path) -> None:
    wanted = dataset(C=(Storage.CHAR, []), X=(Storage.NUM, []))
    write_xport(wanted, tmp_path / "a.xpt")
    assert read_xport(tmp_path / "a.xpt").frame.equals(wanted.frame)


def test_blanks_are_missing_and_trailing_blanks_go(tmp_path: Path) -> None:
    write_xport(dataset(C=(Storage.CHAR, ["a  ", "  ", "", " b"]), X=(Storage.NUM, [1, 2, 3, 4])), tmp_path / "a.xpt")
    assert read_xport(tmp_path / "a.xpt").frame["C"].to_list() == ["a", None, None, " b"]


def test_same_data_same_bytes_whenever_written(tmp_path: Path) -> None:
    write_xport(numbers([1.0]), tmp_path / "a.xpt")
    write_xport(numbers([1.0]), tmp_path / "b.xpt")
    assert (tmp_path / "a.xpt").read_bytes() == (tmp_path / "b.xpt").read_bytes()
    write_xport(numbers([1.0]), tmp_path / "c.xpt", created=datetime(2026, 3, 4, 5, 6, 7))
    assert (tmp_path / "c.xpt").read_bytes().count(b"04MAR26:05:06:07") == 4


def test_every_cut_of_a_file_is_found(tmp_path: Path) -> None:
    rows = 9
    wanted = dataset(C=(Storage.CHAR, [f"subject {i:05}" for i in range(rows)]), X=(Storage.NUM, list(range(rows))))
    write_xport(wanted, tmp_path / "whole.xpt")
    whole = (tmp_path / "whole.xpt").read_bytes()
    headers_alone = parse(whole, "whole").start
    for size in set(range(len(whole))) - {headers_alone}:
        with pytest.raises(DataError, match=r"cut|truncated"):
            parse(whole[:size], "cut")


def test_a_cut_between_observations_at_a_records_end_looks_like_a_shorter_file(tmp_path: Path) -> None:
    write_xport(dataset(C=(Storage.CHAR, ["x" * 72] * 4), X=(Storage.NUM, [1, 2, 3, 4])), tmp_path / "a.xpt")
    whole = (tmp_path / "a.xpt").read_bytes()
    (tmp_path / "cut.xpt").write_bytes(whole[:-80])
    assert read_xport(tmp_path / "cut.xpt").frame["X"].to_list() == [1, 2, 3]
    (tmp_path / "cut.xpt").write_bytes(whole[: parse(whole, "whole").start])
    assert read_xport(tmp_path / "cut.xpt").frame.height == 0


@pytest.mark.parametrize("size", [1, 79, 240, 640, 5000, 7359, 20000, 109520, 109599])
def test_pilot_adsl_cut_is_refused_where_pyreadstat_returns_fewer_rows(shared: Path, tmp_path: Path, size: int) -> None:
    whole = (shared / ADAM / "adsl.xpt").read_bytes()
    assert size < len(whole)
    (tmp_path / "adsl.xpt").write_bytes(whole[:size])
    with pytest.raises(DataError, match=r"cut|truncated"):
        read_xport(tmp_path / "adsl.xpt")


def test_trailing_rows_that_pyreadstat_leaves_out_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.xpt"
    pyreadstat.write_xport(pl.DataFrame({"C": ["x" * 100, "y", "", ""]}), path, file_format_version=5, table_name="A")
    assert len(pyreadstat.read_xport(path, output_format="dict")[0]["C"]) == 2
    assert read_xport(path).frame["C"].to_list() == ["x" * 100, "y", None, None]


def test_special_missing_values_are_missing(tmp_path: Path) -> None:
    write_xport(numbers([1.0, 2.0, 3.0]), tmp_path / "a.xpt")
    content = bytearray((tmp_path / "a.xpt").read_bytes())
    start = parse(bytes(content), "a").start
    content[start : start + 8], content[start + 8 : start + 16] = b"A" + bytes(7), b"_" + bytes(7)
    (tmp_path / "a.xpt").write_bytes(content)
    assert read_xport(tmp_path / "a.xpt").frame["X"].to_list() == [None, None, 3.0]


def test_shortened_numbers_of_sas_are_read(tmp_path: Path) -> None:
    write_xport(numbers([1.0, -118.625, 0.0]), tmp_path / "a.xpt")
    content = bytearray((tmp_path / "a.xpt").read_bytes())
    start = parse(bytes(content), "a").start
    cells = b"".join(bytes(content[start + 8 * i : start + 8 * i + 4]) for i in range(3)) + b"." + bytes(3)
    content[644:646] = (4).to_bytes(2, "big")
    (tmp_path / "a.xpt").write_bytes(content[:start] + cells.ljust(80))
    assert read_xport(tmp_path / "a.xpt").frame["X"].to_list() == [1.0, -118.625, 0.0, None]


def test_other_encodings_are_named_by_the_caller(tmp_path: Path) -> None:
    write_xport(characters(["caf_", "b"]), tmp_path / "a.xpt")
    path = tmp_path / "b.xpt"
    path.write_bytes((tmp_path / "a.xpt").read_bytes().replace(b"caf_", b"caf\xe9"))
    with pytest.raises(DataError, match=r"C = b'caf.xe9' is not in utf-8[\s\S]*row 1"):
        read_xport(path)
    assert read_xport(path, encoding="windows-1252").frame["C"].to_list() == ["café", "b"]


def test_version_8_is_named(tmp_path: Path) -> None:
    pyreadstat.write_xport(pl.DataFrame({"X": [1.0]}), tmp_path / "a.xpt", file_format_version=8)
    with pytest.raises(DataError, match="version 8"):
        read_xport(tmp_path / "a.xpt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"USUBJID,AVAL\n1,2\n" * 20, "no SAS transport file"),
        (b"**COMPRESSED** **COMPRESSED**" + b" " * 51, "CPORT"),
        (b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!" + b"0" * 32 + b" " * 240, "no member header"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.xpt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_xport(tmp_path / "a.xpt")


def test_two_data_sets_in_one_file_are_refused(tmp_path: Path) -> None:
    write_xport(numbers([1.0]), tmp_path / "a.xpt")
    content = (tmp_path / "a.xpt").read_bytes()
    (tmp_path / "b.xpt").write_bytes(content + content[240:])
    with pytest.raises(DataError, match="more than one data set"):
        read_xport(tmp_path / "b.xpt")


def test_damaged_column_entry_is_refused(tmp_path: Path) -> None:
    write_xport(numbers([1.0]), tmp_path / "a.xpt")
    content = bytearray((tmp_path / "a.xpt").read_bytes())
    content[645] = 99
    (tmp_path / "a.xpt").write_bytes(content)
    with pytest.raises(DataError, match="makes no sense"):
        read_xport(tmp_path / "a.xpt")


def test_a_day_outside_the_calendar_names_column_and_row(tmp_path: Path) -> None:
    field = Field("ADT", Storage.NUM)
    table = DataSet("A", (field,), pl.DataFrame({"ADT": [1.0, 5e7]}))
    write_xport(table, tmp_path / "a.xpt")
    content = bytearray((tmp_path / "a.xpt").read_bytes())
    content[640 + 56 : 640 + 64] = b"DATE    "
    (tmp_path / "a.xpt").write_bytes(content)
    with pytest.raises(DataError, match=r"ADT = 50000000.0 is no date[\s\S]*row 2"):
        read_xport(tmp_path / "a.xpt")


REFUSED = [
    (dataset(LONGNAME1=(Storage.NUM, [1.0])), "LONGNAME1"),
    (dataset("TOOLONGNAME", X=(Storage.NUM, [1.0])), "TOOLONGNAME"),
    (dataset(a=(Storage.NUM, [1.0]), A=(Storage.NUM, [1.0])), "upper from lower"),
    (dataset("A", "x" * 41, X=(Storage.NUM, [1.0])), "40 ASCII"),
    (DataSet("A", (Field("X", Storage.NUM, "y" * 41),), pl.DataFrame({"X": [1.0]})), "40 ASCII"),
    (characters(["a", "x" * 201]), r"over 200 bytes[\s\S]*row 2"),
    (characters(["a", "b", "é"]), r"C = 'é'[\s\S]*row 3"),
    (numbers([1.0, 1e75]), r"X = 1e\+75[\s\S]*row 2"),
    (numbers([1e-80]), "outside the range"),
    (numbers([float("inf")]), "outside the range"),
    (characters(["a", None]), "padding"),
    (DataSet("A", (Field("X", Storage.NUM, "", None, "DATE9."),), pl.DataFrame({"X": [1.0]})), "date or time"),
    (DataSet("A", (), pl.DataFrame()), "at least one column"),
    (dataset(D=(Storage.DATETIME, [datetime(9000, 1, 1, 0, 0, 0, 1)])), "changed by SAS transport"),
]


@pytest.mark.parametrize(("table", "words"), REFUSED)
def test_what_version_5_cannot_hold_is_refused_and_nothing_written(tmp_path: Path, table: DataSet, words: str) -> None:
    with pytest.raises(DataError, match=words):
        write_xport(table, tmp_path / "a.xpt")
    assert list(tmp_path.iterdir()) == []
