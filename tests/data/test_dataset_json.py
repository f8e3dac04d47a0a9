"""Dataset-JSON 1.1: types by dataType and targetDataType, counts, and cells that do not fit."""

# ruff: noqa: DTZ001 - times in CDISC's formats carry no zone

from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from trialtwin.core.errors import DataError
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage
from trialtwin.data.datasetjson import read_dataset_json, write_dataset_json


def document(columns: list[tuple], rows: list[list], **head: Any) -> dict[str, Any]:
    """Make a document; a column is (name, dataType) or (name, dataType, targetDataType)."""
    described = [
        {"itemOID": f"IT.{name}", "name": name, "label": "", "dataType": kind}
        | ({"targetDataType": target[0]} if target else {})
        for name, kind, *target in columns
    ]
    return {
        "datasetJSONCreationDateTime": "2026-01-01T00:00:00",
        "datasetJSONVersion": "1.1.0",
        "itemGroupOID": "IG.ADX",
        "records": len(rows),
        "name": "ADX",
        "label": "Example",
        "columns": described,
        "rows": rows,
    } | head


def read(folder: Path, content: dict[str, Any] | bytes, suffix: str = ".json") -> DataSet:
    path = folder / f"adx{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    return read_dataset_json(path)


@pytest.mark.parametrize(
    ("kind", "cell", "storage", "value"),
    [
        (("string",), "a ", Storage.CHAR, "a"),
        (("URI",), "http://x", Storage.CHAR, "http://x"),
        (("date",), "2014-01", Storage.CHAR, "2014-01"),
        (("datetime",), "2014-01-02T10:00", Storage.CHAR, "2014-01-02T10:00"),
        (("date", "integer"), "2014-01-02", Storage.DATE, date(2014, 1, 2)),
        (("datetime", "integer"), "2014-01-02T03:04", Storage.DATETIME, datetime(2014, 1, 2, 3, 4)),
        (("datetime", "integer"), "2014-01-02T03:04:05.5", Storage.DATETIME, datetime(2014, 1, 2, 3, 4, 5, 500000)),
        (("time", "integer"), "23:59:59", Storage.TIME, time(23, 59, 59)),
        (("integer",), 5, Storage.NUM, 5.0),
        (("integer",), 21.724137931, Storage.NUM, 21.724137931),
        (("float",), 2.5, Storage.NUM, 2.5),
        (("double",), 1e300, Storage.NUM, 1e300),
        (("decimal", "decimal"), "1,234.50", Storage.NUM, 1234.5),
        (("decimal",), "30.8983333232059", Storage.NUM, 30.8983333232059),
        (("boolean",), True, Storage.CHAR, "Y"),
        (("boolean",), False, Storage.CHAR, "N"),
        (("string",), "", Storage.CHAR, None),
        (("date", "integer"), None, Storage.DATE, None),
        (("double",), None, Storage.NUM, None),
    ],
)
def test_storage_follows_data_type_and_target(
    tmp_path: Path, kind: tuple, cell: object, storage: Storage, value: object
) -> None:
    table = read(tmp_path, document([("X", *kind)], [[cell]]))
    assert table.fields[0].storage is storage
    assert table.frame["X"].to_list() == [value]


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        (("string",), 5),
        (("double",), "5"),
        (("double",), ""),
        (("integer",), True),
        (("integer",), 2**53 + 1),
        (("decimal", "decimal"), "5,3"),
        (("decimal", "decimal"), "n/a"),
        (("boolean",), "Y"),
        (("date", "integer"), "2014-01"),
        (("date", "integer"), 19725),
        (("date", "integer"), "2014-02-30"),
        (("datetime", "integer"), "2014-01-02T03:04:05Z"),
        (("time", "integer"), "25:00"),
        (("string",), [1]),
    ],
)
def test_a_cell_of_the_wrong_type_names_column_row_and_subject(tmp_path: Path, kind: tuple, cell: object) -> None:
    content = document([("USUBJID", "string"), ("X", *kind)], [["01-001", None], ["01-002", cell]])
    with pytest.raises(DataError, match=r"X \([\s\S]*row 2, subject 01-002"):
        read(tmp_path, content)


HEADS: list[tuple[Callable[[dict], object], str]] = [
    (lambda d: d.pop("datasetJSONVersion"), "no Dataset-JSON 1.1"),
    (lambda d: (d.pop("datasetJSONVersion"), d.update(clinicalData={})), "Dataset-JSON 1.0"),
    (lambda d: d.update(datasetJSONVersion="1.0.0"), "version '1.0.0'"),
    (lambda d: d.update(datasetJSONVersion="1.10"), "version '1.10'"),
    (lambda d: d.update(records=3), "announces 3 records and holds 2 rows"),
    (lambda d: d.update(records=True), "no count"),
    (lambda d: d.pop("itemGroupOID"), "lack itemGroupOID"),
    (lambda d: d.pop("rows"), "holds 0 rows"),
    (lambda d: d.update(rows={}), "no array"),
    (lambda d: d["rows"][1].append(3), "row 2 has 3 values for 2 columns"),
    (lambda d: d["rows"].__setitem__(1, {"X": 1}), "row 2 has no array"),
    (lambda d: d["columns"].clear(), "no array of column"),
    (lambda d: d["columns"][1].update(name="A"), "columns repeat"),
    (lambda d: d["columns"][1].update(dataType="text"), "'text' with targetDataType None"),
    (lambda d: d["columns"][1].update(targetDataType="decimal"), "do not go together"),
    (lambda d: d["columns"][1].pop("label"), "lacks label"),
    (lambda d: d.update(name=None), "no text"),
]


@pytest.mark.parametrize(("change", "words"), HEADS)
def test_metadata_that_contradict_the_standard_or_the_rows_are_refused(
    tmp_path: Path, change: Callable[[dict], object], words: str
) -> None:
    content = document([("A", "string"), ("B", "double")], [["a", 1], ["b", 2]])
    change(content)
    with pytest.raises(DataError, match=words):
        read(tmp_path, content)


@pytest.mark.parametrize("suffix", [".json", ".ndjson"])
def test_a_cut_file_is_refused(tmp_path: Path, suffix: str) -> None:
    fields = (Field("A", Storage.CHAR), Field("B", Storage.NUM))
    table = DataSet("ADX", fields, pl.DataFrame({"A": ["a", "b", "c"], "B": [1.0, 2.0, 3.0]}))
    path = tmp_path / f"whole{suffix}"
    write_dataset_json(table, path)
    whole = path.read_bytes()
    whole_without_end_of_line = len(whole.rstrip(b"\n"))
    for size in range(whole_without_end_of_line):
        with pytest.raises(DataError, match=r"no whole JSON|announces 3 records|empty"):
            read(tmp_path, whole[:size], suffix)


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff\xfe", b"USUBJID,AVAL\n1,2\n", b"{}", b"null"])
@pytest.mark.parametrize("suffix", [".json", ".ndjson"])
def test_other_files_are_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    with pytest.raises(DataError):
        read(tmp_path, content, suffix)


def mixed() -> DataSet:
    fields = (
        Field("USUBJID", Storage.CHAR, "Unique Subject Identifier", 7),
        Field("AVAL", Storage.NUM, "Analysis Value", None, "8.2"),
        Field("ADT", Storage.DATE, "Analysis Date", None, "DATE9."),
        Field("ADTM", Storage.DATETIME, "Analysis Datetime"),
        Field("ATM", Storage.TIME, "Analysis Time"),
    )
    rows = [
        ('é "q"\n', 1 / 3, date(9999, 12, 31), datetime(1959, 1, 1, 0, 0, 0, 1), time(23, 59, 59, 999999)),
        (None, None, None, None, None),
        ("x", -5e-324, date(1, 1, 1), datetime(2014, 1, 1), time(0)),
    ]
    schema = {field.name: DTYPES[field.storage] for field in fields}
    return DataSet("ADX", fields, pl.DataFrame(rows, schema=schema, orient="row"), "Example")


@pytest.mark.parametrize("suffix", [".json", ".ndjson"])
def test_written_data_sets_come_back_equal_with_their_metadata(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"adx{suffix}"
    write_dataset_json(mixed(), path)
    back = read_dataset_json(path)
    assert (back.name, back.label, back.fields) == ("ADX", "Example", mixed().fields)
    assert back.frame.equals(mixed().frame)


def test_both_forms_hold_the_same(tmp_path: Path) -> None:
    write_dataset_json(mixed(), tmp_path / "a.json")
    write_dataset_json(mixed(), tmp_path / "a.ndjson")
    whole = orjson.loads((tmp_path / "a.json").read_bytes())
    head, *rows = map(orjson.loads, (tmp_path / "a.ndjson").read_bytes().splitlines())
    assert head | {"rows": rows} == whole


def test_same_data_same_bytes_and_a_creation_time_that_the_caller_may_give(tmp_path: Path) -> None:
    write_dataset_json(mixed(), tmp_path / "a.json")
    write_dataset_json(mixed(), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    write_dataset_json(mixed(), tmp_path / "c.json", created=datetime(2026, 1, 2, 3, 4, 5))
    assert orjson.loads((tmp_path / "c.json").read_bytes())["datasetJSONCreationDateTime"] == "2026-01-02T03:04:05"


def test_infinity_is_refused_with_its_row(tmp_path: Path) -> None:
    table = DataSet("ADX", (Field("X", Storage.NUM),), pl.DataFrame({"X": [1.0, float("inf")]}))
    with pytest.raises(DataError, match=r"X is infinite[\s\S]*row 2"):
        write_dataset_json(table, tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_pilot_dates_without_target_stay_characters(shared: Path) -> None:
    adsl = read_dataset_json(shared / "data/cdiscpilot01/datasetjson/adsl.json")
    storage = {field.name: field.storage for field in adsl.fields}
    assert storage["RFSTDTC"] is Storage.CHAR
    assert storage["TRTSDT"] is Storage.DATE
    assert (adsl.name, adsl.frame.height) == ("ADSL", 254)
