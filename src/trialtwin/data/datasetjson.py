"""Dataset-JSON 1.1 of CDISC, read and written, in its JSON and its NDJSON form.

How a column is stored follows from ``dataType`` and ``targetDataType`` (section "Supported Column Data Type
Combinations"):

====================================  ==========================  ============================================
dataType                              targetDataType              stored as
====================================  ==========================  ============================================
string, URI                                                       CHAR
date, datetime, time                                              CHAR, the ISO 8601 text (SDTM's ``--DTC``)
date, datetime, time                  integer                     DATE, DATETIME, TIME (ADaM's numeric dates)
integer, float, double                                            NUM
decimal                               decimal, or none            NUM, from text with a decimal point
boolean                                                           CHAR, "Y" and "N"
====================================  ==========================  ============================================

The standard says that SDTM and ADaM have no booleans and use the flags "Y" and "N" instead, so that is what they
become. ``dataType`` is "the planned specificity of the data": an integer column that holds 21.7 is read as it stands.
A null and an empty string are both missing.

Source: CDISC Dataset-JSON Specification, version 1.1 (2024-12-05).
"""

import re
from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from trialtwin import __version__
from trialtwin.core.errors import DataError
from trialtwin.core.files import write_bytes
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage
from trialtwin.data.files import UNDATED, read_bytes
from trialtwin.data.normal import normal_frame, normalise, refuse_infinite

type Json = dict[str, Any]

_VERSION = re.compile(r"1\.1(\.(0|[1-9][0-9]*))?")
_DECIMAL = re.compile(
    r"[+-]?([0-9]{1,3}(,[0-9]{3})+|[0-9]+)(\.[0-9]*)?([eE][+-]?[0-9]+)?|[+-]?\.[0-9]+([eE][+-]?[0-9]+)?"
)
_TEXT_TYPES = ("string", "URI", "date", "datetime", "time")
_NUMBER_TYPES = ("integer", "float", "double")
_TEMPORAL = {"date": Storage.DATE, "datetime": Storage.DATETIME, "time": Storage.TIME}
_REQUIRED = ("datasetJSONCreationDateTime", "datasetJSONVersion", "itemGroupOID", "records", "name", "label", "columns")


def read_dataset_json(path: Path | str) -> DataSet:
    """Read a Dataset-JSON 1.1 file; ``.ndjson`` is its line-by-line form.

    Raises
    ------
    DataError
        If the file is missing, is no Dataset-JSON 1.1, holds another number of rows than ``records`` says, or a row
        or a cell does not fit its columns; with column, row and subject.
    MachineError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> table = DataSet("DM", (Field("AGE", Storage.NUM, "Age"),), pl.DataFrame({"AGE": [63.0, None]}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_dataset_json(table, Path(folder) / "dm.ndjson")
    ...     read_dataset_json(Path(folder) / "dm.ndjson").frame["AGE"].to_list()
    [63.0, None]
    """
    content, sha256 = read_bytes(path)
    source = str(path)
    head, rows = _lines(content, source) if _is_ndjson(path) else _document(content, source)
    _check_head(head, source)
    fields = tuple(_field(column, source) for column in head["columns"])
    names = [field.name for field in fields]
    if len(set(names)) < len(names):
        raise DataError("columns repeat", where=source, exists=sorted({n for n in names if names.count(n) > 1}))
    _check_rows(head, rows, source)
    cells = list(zip(*rows, strict=True)) if rows else [()] * len(fields)
    subject = cells[names.index("USUBJID")] if "USUBJID" in names else ()
    columns = [
        _column(field, column["dataType"], list(values), subject, source)
        for field, column, values in zip(fields, head["columns"], cells, strict=True)
    ]
    return DataSet(head["name"], fields, normal_frame(pl.DataFrame(columns)), head["label"], source, sha256)


def write_dataset_json(dataset: DataSet, path: Path | str, *, created: datetime = UNDATED) -> None:
    """Write a data set as Dataset-JSON 1.1, or nothing; ``.ndjson`` chooses the line-by-line form.

    Numbers are written as "double", with the digits that give the same double back; dates and times as ISO 8601 text
    with targetDataType "integer". ``created`` goes into the head; with the default, the same data give the same bytes.

    Raises
    ------
    DataError
        If a number is infinite, which JSON cannot hold.
    MachineError
        If the disk is full or the folder cannot be written to; nothing is left behind then.
    """
    dataset = normalise(dataset)
    refuse_infinite(dataset, "JSON")
    head = _head(dataset, created)
    rows = [list(row) for row in _texts(dataset).iter_rows()]
    if _is_ndjson(path):
        lines = [orjson.dumps(head), *(orjson.dumps(row) for row in rows)]
        write_bytes(path, b"\n".join(lines) + b"\n")
    else:
        write_bytes(path, orjson.dumps(head | {"rows": rows}))


def _is_ndjson(path: Path | str) -> bool:
    return Path(path).suffix.lower() == ".ndjson"


def _parse(content: bytes, source: str) -> Any:
    """Parse JSON, or say where it breaks."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise DataError(
            f"this is no whole JSON document: {error}",
            where=source,
            do="copy or export the file again; it may have been cut",
        ) from error


def _document(content: bytes, source: str) -> tuple[Json, list[Any]]:
    """Take a JSON document apart."""
    head = _parse(content.removeprefix(b"\xef\xbb\xbf"), source)
    if not isinstance(head, dict):
        raise DataError("a Dataset-JSON file holds one JSON object", where=source)
    rows = head.pop("rows", [])
    if not isinstance(rows, list):
        raise DataError("'rows' is no array", where=source)
    return head, rows


def _lines(content: bytes, source: str) -> tuple[Json, list[Any]]:
    """Take the NDJSON form apart: metadata in the first line, a row in each further one."""
    lines = [line for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    parsed = [_parse(line, f"{source}: line {number}") for number, line in enumerate(lines, start=1)]
    if not parsed or not isinstance(parsed[0], dict):
        raise DataError("the first line of a Dataset-JSON NDJSON file holds the metadata as an object", where=source)
    return parsed[0], parsed[1:]


def _check_head(head: Json, source: str) -> None:
    """Refuse metadata that are not those of Dataset-JSON 1.1."""
    version = head.get("datasetJSONVersion")
    if version is None:
        old = "clinicalData" in head or "referenceData" in head
        raise DataError(
            "this is Dataset-JSON 1.0; version 1.1 is read here" if old else "this JSON file is no Dataset-JSON 1.1",
            where=source,
            exists=list(head)[:10],
            do="export it again as Dataset-JSON 1.1",
        )
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise DataError(f"Dataset-JSON version {version!r}; version 1.1 is read here", where=source)
    missing = [name for name in _REQUIRED if name not in head]
    if missing:
        raise DataError(f"the metadata lack {', '.join(missing)}, which the standard requires", where=source)
    if not isinstance(head["columns"], list) or not head["columns"]:
        raise DataError("'columns' is no array of column descriptions", where=source)
    for name in ("name", "label"):
        if not isinstance(head[name], str):
            raise DataError(f"{name!r} is no text: {head[name]!r}", where=source)
    if not isinstance(head["records"], int) or isinstance(head["records"], bool):
        raise DataError(f"'records' is no count: {head['records']!r}", where=source)


def _check_rows(head: Json, rows: list[Any], source: str) -> None:
    """Refuse rows that are not as many, or not as long, as the metadata say."""
    if len(rows) != head["records"]:
        raise DataError(
            f"the file announces {head['records']} records and holds {len(rows)} rows",
            where=source,
            do="copy or export the file again; it may have been cut",
        )
    width = len(head["columns"])
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != width:
            found = f"{len(row)} values" if isinstance(row, list) else "no array"
            raise DataError(f"row {number} has {found} for {width} columns", where=source)


def _field(column: Json, source: str) -> Field:
    """Read a column's description."""
    missing = [key for key in ("name", "label", "dataType") if not isinstance(column.get(key), str)]
    if missing:
        raise DataError(f"a column lacks {', '.join(missing)}", where=f"{source}: {column}")
    kind, target = column["dataType"], column.get("targetDataType")
    storage: Storage | None = None
    if kind in _TEMPORAL and target == "integer":
        storage = _TEMPORAL[kind]
    elif target is None and (kind in _TEXT_TYPES or kind == "boolean"):
        storage = Storage.CHAR
    elif (target is None and kind in _NUMBER_TYPES) or (kind == "decimal" and target in (None, "decimal")):
        storage = Storage.NUM
    if storage is None:
        raise DataError(
            f"column {column['name']} has dataType {kind!r} with targetDataType {target!r}, which do not go together",
            where=source,
            exists=(*_TEXT_TYPES, *_NUMBER_TYPES, "decimal", "boolean", "date|datetime|time with target integer"),
        )
    length = column.get("length") if storage is Storage.CHAR else None
    return Field(column["name"], storage, column["label"], length, column.get("displayFormat") or "")


def _column(field: Field, kind: str, values: list[Any], subject: tuple[Any, ...], source: str) -> pl.Series:
    """Turn a column's cells into values of its storage."""
    allowed, convert, wanted = _rules(field.storage, kind)
    out: list[Any] = []
    for row, value in enumerate(values):
        if value is None or value == "":
            if value == "" and kind in (*_NUMBER_TYPES, "boolean"):
                raise _wrong(field, kind, row, value, wanted, subject, source)
            out.append(None)
            continue
        try:
            if type(value) not in allowed:
                raise TypeError
            out.append(convert(value))
        except (TypeError, ValueError, OverflowError):
            raise _wrong(field, kind, row, value, wanted, subject, source) from None
    return pl.Series(field.name, out, dtype=DTYPES[field.storage])


def _rules(storage: Storage, kind: str) -> tuple[tuple[type, ...], Callable[[Any], Any], str]:
    """Choose the JSON types of a column's cells, how they become values, and the words for both."""
    if kind == "boolean":
        return (bool,), _flag, "true, false or null"
    if kind in _NUMBER_TYPES:
        return (int, float), _number, "a number that a double holds, or null"
    if kind == "decimal":
        return (str, int, float), _decimal, "a number written as text, or null"
    return (str,), _READERS[storage], f"{_WORDS[storage]} or null"


def _wrong(
    field: Field, kind: str, row: int, value: Any, wanted: str, subject: tuple[Any, ...], source: str
) -> DataError:
    """Make the error for a cell of the wrong type."""
    who = f", subject {subject[row]}" if row < len(subject) else ""
    return DataError(
        f"{field.name} ({kind}) holds {value!r} where {wanted} is wanted",
        where=f"{source}: row {row + 1}{who}",
        do="correct the value, or the column's dataType",
    )


def _date(text: str) -> date:
    """Read YYYY-MM-DD."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError(text)
    return date.fromisoformat(text)


def _datetime(text: str) -> datetime:
    """Read YYYY-MM-DDThh:mm[:ss[.ffffff]]."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?", text):
        raise ValueError(text)
    return datetime.fromisoformat(text)


def _time(text: str) -> time:
    """Read hh:mm[:ss[.ffffff]]."""
    if not re.fullmatch(r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?", text):
        raise ValueError(text)
    return time.fromisoformat(text)


_READERS: dict[Storage, Callable[[str], Any]] = {
    Storage.CHAR: str,
    Storage.DATE: _date,
    Storage.DATETIME: _datetime,
    Storage.TIME: _time,
}
_WORDS = {
    Storage.CHAR: "text",
    Storage.DATE: "a whole ISO 8601 date",
    Storage.DATETIME: "a whole ISO 8601 date and time without zone",
    Storage.TIME: "an ISO 8601 time without zone",
}


def _flag(value: object) -> str:
    """Turn a truth value into CDISC's flag."""
    return "Y" if value else "N"


def _number(value: int | float) -> float:
    """Return a double, and refuse an integer that it cannot hold exactly."""
    number = float(value)
    if number != value:
        raise ValueError(value)
    return number


def _decimal(value: str | int | float) -> float:
    """Read a decimal number; the standard lets commas separate thousands."""
    if isinstance(value, str):
        if not _DECIMAL.fullmatch(value):
            raise ValueError(value)
        return float(value.replace(",", ""))
    return _number(value)


def _head(dataset: DataSet, created: datetime) -> Json:
    """Describe the data set and its columns."""
    columns = []
    for field in dataset.fields:
        column: Json = {"itemOID": f"IT.{dataset.name}.{field.name}", "name": field.name, "label": field.label}
        if field.storage is Storage.CHAR:
            column["dataType"] = "string"
            if field.length:
                column["length"] = field.length
        elif field.storage is Storage.NUM:
            column["dataType"] = "double"
        else:
            column |= {"dataType": field.storage.value, "targetDataType": "integer"}
        if field.format:
            column["displayFormat"] = field.format
        columns.append(column)
    return {
        "datasetJSONCreationDateTime": created.isoformat(timespec="seconds"),
        "datasetJSONVersion": "1.1.0",
        "sourceSystem": {"name": "trialtwin", "version": __version__},
        "itemGroupOID": f"IG.{dataset.name}",
        "records": dataset.frame.height,
        "name": dataset.name,
        "label": dataset.label,
        "columns": columns,
    }


def _texts(dataset: DataSet) -> pl.DataFrame:
    """Turn dates and times into ISO 8601 text."""
    return dataset.frame.with_columns(
        pl.col(pl.Date).dt.to_string("%Y-%m-%d"),
        pl.col(pl.Datetime).dt.to_string("%Y-%m-%dT%H:%M:%S%.6f"),
        pl.col(pl.Time).dt.to_string("%H:%M:%S%.6f"),
    )
