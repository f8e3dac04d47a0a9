"""CSV and Parquet: mappings, types given or inferred, values that do not fit, and back again."""

# ruff: noqa: DTZ001 - times in CDISC's formats carry no zone

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage
from trialtwin.data.tabular import read_csv, read_parquet, write_csv, write_parquet


def csv(folder: Path, text: str | bytes) -> Path:
    path = folder / "adqs.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_mapping_renames_and_leaves_the_rest(tmp_path: Path) -> None:
    path = csv(tmp_path, "subject_id,score,week\n7,1.5,8\n")
    table = read_csv(path, mapping={"USUBJID": "subject_id", "AVAL": "score"})
    assert table.frame.columns == ["USUBJID", "AVAL", "week"]
    assert table.frame.row(0) == ("7", 1.5, 8.0)
    assert table.name == "ADQS"


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"USUBJID": "id"}, "columns that the file does not have: id"),
        ({"USUBJID": "subject", "SUBJID": "subject"}, "one column of the file two names"),
        ({"AVAL": "subject"}, "two columns of one name: AVAL"),
    ],
)
def test_mappings_that_do_not_fit_are_refused(tmp_path: Path, mapping: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_csv(csv(tmp_path, "subject,AVAL\n1,2\n"), mapping=mapping)


def test_non_numeric_aval_names_lines_and_values(tmp_path: Path) -> None:
    path = csv(tmp_path, 'USUBJID,NOTE,AVAL\n1,"two\nlines",3\n2,,n/a\n3,,"4,5"\n')
    with pytest.raises(DataError, match=r"AVAL holds 2 value\(s\)[\s\S]*line 4: 'n/a', line 5: '4,5'"):
        read_csv(path)


@pytest.mark.parametrize("word", ["nan", "inf", "1_000", "1e", "0x10", "١", "Infinity"])
def test_words_that_python_takes_for_numbers_are_none(tmp_path: Path, word: str) -> None:
    with pytest.raises(DataError, match="AVAL holds 1 value"):
        read_csv(csv(tmp_path, f"AVAL\n{word}\n"))


def test_texts_for_missing_are_named_by_the_caller(tmp_path: Path) -> None:
    path = csv(tmp_path, "USUBJID,AVAL\n1,NA\n2,.\n3,5\n")
    assert read_csv(path, missing=("NA", ".")).frame["AVAL"].to_list() == [None, None, 5.0]


@pytest.mark.parametrize(
    ("name", "value", "storage"),
    [
        ("USUBJID", "0015", Storage.CHAR),
        ("USUBJID", "15", Storage.CHAR),
        ("TRT01P", "54", Storage.CHAR),
        ("TRT01PN", "54", Storage.NUM),
        ("AVISIT", "8", Storage.CHAR),
        ("TRTSDT", "2014-01-02", Storage.DATE),
        ("RFSTDTC", "2014-01-02", Storage.CHAR),
        ("EFFFL", "1", Storage.CHAR),
        ("MMSETOT", "23", Storage.NUM),
        ("code", "007", Storage.CHAR),
        ("code", "-0.5", Storage.NUM),
        ("code", "7a", Storage.CHAR),
        ("note", "2014-01-02", Storage.CHAR),
    ],
)
def test_types_are_inferred_from_cdisc_names_then_values(
    tmp_path: Path, name: str, value: str, storage: Storage
) -> None:
    assert read_csv(csv(tmp_path, f"{name}\n{value}\n")).fields[0].storage is storage


def test_schema_decides_types_and_columns(tmp_path: Path) -> None:
    path = csv(tmp_path, "code,when,at,other\n7,2014-01-02T03:04:05,23:59:01,x\n")
    fields = [Field("code", Storage.CHAR), Field("when", Storage.DATETIME), Field("at", Storage.TIME)]
    table = read_csv(path, fields=fields)
    assert table.frame.row(0) == ("7", datetime(2014, 1, 2, 3, 4, 5), time(23, 59, 1))
    with pytest.raises(MismatchError, match="no column absent"):
        read_csv(path, fields=[Field("absent", Storage.CHAR)])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"a,b\n1,2\n3\n", r"1 values under 2 columns[\s\S]*line 3"),
        (b"a,b\n1,2,3\n", r"3 values under 2 columns[\s\S]*line 2"),
        (b"a,a\n1,2\n", "columns repeat: a"),
        (b"a,\n1,2\n", "no name"),
        (b"a\ncaf\xe9\n", r"not in utf-8[\s\S]*line 2"),
        (b'a\n"open\n', "no CSV"),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_csv(csv(tmp_path, content))


def test_byte_order_mark_separator_and_encoding(tmp_path: Path) -> None:
    assert read_csv(csv(tmp_path, b"\xef\xbb\xbfa;b\nx;1\n"), separator=";").frame.columns == ["a", "b"]
    assert read_csv(csv(tmp_path, b"a\ncaf\xe9\n"), encoding="windows-1252").frame["a"].to_list() == ["café"]


def mixed() -> DataSet:
    fields = (
        Field("USUBJID", Storage.CHAR, "Unique Subject Identifier", 7),
        Field("AVAL", Storage.NUM, "Analysis Value", None, "8.2"),
        Field("ADT", Storage.DATE, "Analysis Date", None, "DATE9."),
        Field("ADTM", Storage.DATETIME),
        Field("ATM", Storage.TIME),
    )
    rows = [
        ('é "q",\r\n', 1 / 3, date(9999, 12, 31), datetime(1959, 1, 1, 0, 0, 0, 1), time(23, 59, 59, 999999)),
        (None, None, None, None, None),
        ("007", -5e-324, date(1, 1, 1), datetime(2014, 1, 1), time(0)),
        (" x", 2.0**60, None, None, None),
    ]
    schema = {field.name: DTYPES[field.storage] for field in fields}
    return DataSet("ADX", fields, pl.DataFrame(rows, schema=schema, orient="row"), "Example")


def test_csv_comes_back_equal(tmp_path: Path) -> None:
    write_csv(mixed(), tmp_path / "a.csv")
    back = read_csv(tmp_path / "a.csv", fields=mixed().fields)
    assert back.frame.equals(mixed().frame)


def test_one_column_with_missing_rows_comes_back(tmp_path: Path) -> None:
    table = DataSet("A", (Field("X", Storage.NUM),), pl.DataFrame({"X": [None, 1.0, None]}))
    write_csv(table, tmp_path / "a.csv")
    assert read_csv(tmp_path / "a.csv", fields=table.fields).frame.equals(table.frame)


def test_parquet_comes_back_equal_with_its_metadata(tmp_path: Path) -> None:
    write_parquet(mixed(), tmp_path / "a.parquet")
    back = read_parquet(tmp_path / "a.parquet")
    assert (back.name, back.label, back.fields) == ("ADX", "Example", mixed().fields)
    assert back.frame.equals(mixed().frame)
    assert read_parquet(tmp_path / "a.parquet", mapping={"SUBJ": "USUBJID"}).fields[0] == Field(
        "SUBJ", Storage.CHAR, "Unique Subject Identifier", 7
    )


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_same_data_same_bytes(tmp_path: Path, write) -> None:
    write(mixed(), tmp_path / "a")
    write(mixed(), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("array", "storage", "value"),
    [
        (pa.array([5], pa.int32()), Storage.NUM, 5.0),
        (pa.array([2.5], pa.float32()), Storage.NUM, 2.5),
        (pa.array([Decimal("1.25")]), Storage.NUM, 1.25),
        (pa.array([True]), Storage.CHAR, "Y"),
        (pa.array(["a"]).dictionary_encode(), Storage.CHAR, "a"),
        (pa.array([None], pa.null()), Storage.CHAR, None),
        (pa.array([datetime(2014, 1, 1)], pa.timestamp("ms")), Storage.DATETIME, datetime(2014, 1, 1)),
        (pa.array([date(2014, 1, 1)]), Storage.DATE, date(2014, 1, 1)),
        (pa.array([float("nan")]), Storage.NUM, None),
    ],
)
def test_parquet_of_other_makers(tmp_path: Path, array: pa.Array, storage: Storage, value: object) -> None:
    pq.write_table(pa.table({"X": array}), tmp_path / "a.parquet")
    table = read_parquet(tmp_path / "a.parquet")
    assert table.fields[0].storage is storage
    assert table.frame["X"].to_list() == [value]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([[1, 2]]),
        pa.array([2**53 + 1]),
        pa.array([datetime(2014, 1, 1, tzinfo=UTC)], pa.timestamp("us", tz="UTC")),
        pa.array([b"a"]),
    ],
)
def test_parquet_types_that_a_data_set_cannot_hold_are_refused(tmp_path: Path, array: pa.Array) -> None:
    pq.write_table(pa.table({"X": array}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="X"):
        read_parquet(tmp_path / "a.parquet")


def test_cut_parquet_is_refused(tmp_path: Path) -> None:
    write_parquet(mixed(), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for size in (1, 4, len(whole) // 2, len(whole) - 1):
        (tmp_path / "b.parquet").write_bytes(whole[:size])
        with pytest.raises(DataError, match="no whole Parquet"):
            read_parquet(tmp_path / "b.parquet")
