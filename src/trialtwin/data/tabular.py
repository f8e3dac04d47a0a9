"""CSV and Parquet tables with any column names, read into the names of CDISC, and written.

A CSV file does not say what its columns hold. Without a schema, names decide where CDISC's naming rules do (USUBJID
and PARAMCD are characters, AVAL, ADY and AVISITN numbers, TRTSDT is a date), and values decide the rest: a column of
numbers without leading zeros is NUM, one of ISO 8601 dates whose name ends in DT is DATE (DTM: DATETIME, TM: TIME), any
other CHAR.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from io import BytesIO, StringIO
from pathlib import Path

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.files import write_bytes
from trialtwin.data.cells import NUMBER, Cells, parse_number, read_cells, require_header
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage
from trialtwin.data.files import read_bytes
from trialtwin.data.normal import normal_frame, normalise, refuse_infinite

_LEADING_ZERO = re.compile(r"[+-]?0[0-9]")
_CHARACTER_NAMES = re.compile(
    r"STUDYID|USUBJID|SUBJID|SITEID|SITEGR[0-9]+|COUNTRY|SEX|RACE|ETHNIC|ARM|ARMCD|ACTARM|ACTARMCD|TRT[AP]|"
    r"TRT[0-9]{2}[AP]|PARAM|PARAMCD|PARCAT[0-9]+|PARAMTYP|AVISIT|VISIT|AVALC|BASEC|DTYPE|BASETYPE|AVALCAT[0-9]+|"
    r"AETERM|AEDECOD|AEBODSYS|AESOC|AEHLT|AEHLGT|AELLT|AESEV|AESER|AEREL|AEACN|AEOUT|EVNTDESC|CNSDTDSC|AGEU|AWU|"
    r"AWRANGE|[A-Z0-9]*(FL|DTC|DTF|TMF|TESTCD)"
)
_NUMERIC_NAMES = re.compile(
    r"AVAL|BASE|CHG|PCHG|AGE|CNSR|ADY|A(ST|EN)DY|AVISITN|VISITNUM|PARAMN|TRT[AP]N|TRT[0-9]{2}[AP]N|AWTARGET|AWTDIFF|"
    r"AWLO|AWHI|[A-Z]{2}SEQ"
)
_DATE_NAMES = re.compile(r"ADT|A(ST|EN)DT|STARTDT|TR(T|[0-9]{2})[SE]DT|RF[A-Z]*DT|DTHDT|RANDDT")

_SUFFIXES = {"DTM": Storage.DATETIME, "DT": Storage.DATE, "TM": Storage.TIME}


def read_csv(
    path: Path | str,
    *,
    mapping: Mapping[str, str] | None = None,
    fields: Sequence[Field] | None = None,
    name: str = "",
    separator: str = ",",
    missing: Sequence[str] = ("",),
    encoding: str = "utf-8-sig",
) -> DataSet:
    r"""Read a CSV file with a header.

    Parameters
    ----------
    path
        The file.
    mapping
        Our column name to the file's, such as ``{"USUBJID": "subject_id"}``; columns not named keep theirs.
    fields
        Schema, by our names; without it, types are inferred as the module says. Columns outside it are left out.
    name
        Data set name; the file's stem in capitals where it is empty.
    separator, encoding
        Of the file.
    missing
        Texts that stand for a missing value, such as ``("", "NA", ".")``.

    Raises
    ------
    DataError
        If the file is missing or no CSV; or if a value is not what its column holds, with lines and values.
    MismatchError
        If the mapping or the schema names a column that the file does not have.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "adqs.csv"
    ...     _ = file.write_text("subject_id,AVAL\n007,13.5\n008,\n")
    ...     read_csv(file, mapping={"USUBJID": "subject_id"}).frame.rows()
    [('007', 13.5), ('008', None)]
    """
    cells = read_cells(path, separator=separator, encoding=encoding)
    ours = _ours(cells.header, mapping or {}, cells.source)
    blank = frozenset(missing)
    texts = {
        our: [None if (text := value.rstrip(" ")) in blank or not text else text for value in cells.column(theirs)]
        for theirs, our in ours.items()
    }
    if fields is None:
        fields = [Field(our, _infer(our, values)) for our, values in texts.items()]
    lacking = [field.name for field in fields if field.name not in texts]
    if lacking:
        raise MismatchError(f"the file has no column {', '.join(lacking)}", where=cells.source, exists=texts)
    frame = pl.DataFrame([_typed(field, texts[field.name], cells) for field in fields])
    return DataSet(name or Path(path).stem.upper(), tuple(fields), frame, "", cells.source, cells.sha256)


def write_csv(dataset: DataSet, path: Path | str, *, separator: str = ",") -> None:
    """Write a data set as CSV, or nothing: UTF-8, a header, missing values empty, numbers with all their digits.

    Raises
    ------
    DataError
        If a number is infinite.
    MachineError
        If the disk is full or the folder cannot be written to; nothing is left behind then.
    """
    dataset = normalise(dataset)
    refuse_infinite(dataset, "CSV")
    stream = StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator, lineterminator="\n")
    writer.writerow(dataset.frame.columns)
    writer.writerows([_text(value) for value in row] for row in dataset.frame.iter_rows())
    write_bytes(path, stream.getvalue().encode())


def read_parquet(
    path: Path | str,
    *,
    mapping: Mapping[str, str] | None = None,
    name: str = "",
) -> DataSet:
    """Read a Parquet file; labels, lengths and formats come back where this package wrote it.

    Whole and decimal numbers become doubles, truth values "Y" and "N", categories text.

    Raises
    ------
    DataError
        If the file is missing or no Parquet, a column has a type that a data set cannot hold, or a whole number is
        too large for a double.
    MismatchError
        If the mapping names a column that the file does not have.
    MachineError
        If it cannot be read.
    """
    content, sha256 = read_bytes(path)
    source = str(path)
    try:
        table = pq.read_table(BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"this is no whole Parquet file: {error}", where=source, do="copy the file again") from error
    require_header(tuple(table.column_names), source)
    ours = _ours(tuple(table.column_names), mapping or {}, source)
    described = orjson.loads((table.schema.metadata or {}).get(b"trialtwin", b"{}"))
    known = {entry["name"]: entry for entry in described.get("fields", [])}
    fields, columns = [], []
    for theirs, our in ours.items():
        column = _stored(pl.from_arrow(table.column(theirs)).alias(our), our, source)  # type: ignore[union-attr]
        storage = next(key for key, dtype in DTYPES.items() if dtype == column.dtype)
        entry = known.get(theirs, {})
        fields.append(Field(our, storage, entry.get("label", ""), entry.get("length"), entry.get("format", "")))
        columns.append(column)
    title = name or described.get("name", "") or Path(path).stem.upper()
    frame = normal_frame(pl.DataFrame(columns))
    return DataSet(title, tuple(fields), frame, described.get("label", ""), source, sha256)


def write_parquet(dataset: DataSet, path: Path | str) -> None:
    """Write a data set as Parquet with its labels, lengths and formats, or nothing.

    Raises
    ------
    MachineError
        If the disk is full or the folder cannot be written to; nothing is left behind then.
    """
    dataset = normalise(dataset)
    described = {
        "name": dataset.name,
        "label": dataset.label,
        "fields": [
            {"name": field.name, "label": field.label, "length": field.length, "format": field.format}
            for field in dataset.fields
        ],
    }
    table = dataset.frame.to_arrow().replace_schema_metadata({b"trialtwin": orjson.dumps(described)})
    stream = BytesIO()
    pq.write_table(table, stream)
    write_bytes(path, stream.getvalue())


def _ours(header: tuple[str, ...], mapping: Mapping[str, str], source: str) -> dict[str, str]:
    """Pair each column of the file with our name for it, in the file's order."""
    lacking = [theirs for theirs in mapping.values() if theirs not in header]
    if lacking:
        raise MismatchError(
            f"the mapping names columns that the file does not have: {', '.join(lacking)}", where=source, exists=header
        )
    back = {theirs: our for our, theirs in mapping.items()}
    if len(back) < len(mapping):
        raise DataError("the mapping gives one column of the file two names", where=source, exists=mapping.values())
    ours = {theirs: back.get(theirs, theirs) for theirs in header}
    clash = sorted({our for our in ours.values() if list(ours.values()).count(our) > 1})
    if clash:
        raise DataError(
            f"the mapping makes two columns of one name: {', '.join(clash)}",
            where=source,
            do="map the other column to another name",
        )
    return ours


def _infer(name: str, values: Sequence[str | None]) -> Storage:
    """Choose a column's storage from CDISC's naming rules, else from its values."""
    for pattern, storage in (
        (_NUMERIC_NAMES, Storage.NUM),
        (_DATE_NAMES, Storage.DATE),
        (_CHARACTER_NAMES, Storage.CHAR),
    ):
        if pattern.fullmatch(name):
            return storage
    given = [value for value in values if value is not None]
    for suffix, storage in _SUFFIXES.items():
        if name.endswith(suffix) and given and all(_is(storage, value) for value in given):
            return storage
    numeric = given and all(NUMBER.fullmatch(value) and not _LEADING_ZERO.match(value) for value in given)
    return Storage.NUM if numeric else Storage.CHAR


def _is(storage: Storage, text: str) -> bool:
    """Tell whether text is a value of a storage."""
    try:
        _value(storage, text)
    except ValueError:
        return False
    return True


def _typed(field: Field, values: Sequence[str | None], cells: Cells) -> pl.Series:
    """Turn text into values of a column's storage, or list the rows where that fails."""
    out: list[object] = []
    bad: list[tuple[int, str]] = []
    for line, value in zip(cells.lines, values, strict=True):
        try:
            out.append(None if value is None else _value(field.storage, value))
        except ValueError:
            out.append(None)
            bad.append((line, str(value)))
    if bad:
        shown = ", ".join(f"line {line}: {value!r}" for line, value in bad[:10])
        wanted = "numbers" if field.storage is Storage.NUM else f"ISO 8601 values ({field.storage})"
        raise DataError(
            f"{field.name} holds {len(bad)} value(s) that are no {wanted}",
            where=f"{cells.source}: {shown}" + (f", … ({len(bad) - 10} more)" if len(bad) > 10 else ""),
            do="correct them, or say which texts stand for a missing value (missing=...)",
        )
    return pl.Series(field.name, out, dtype=DTYPES[field.storage])


def _value(storage: Storage, text: str) -> object:
    """Turn text into a value of a storage."""
    if storage is Storage.CHAR:
        return text
    text = text.strip()
    if storage is Storage.NUM:
        return parse_number(text)
    if storage is Storage.DATE:
        return date.fromisoformat(text)
    if storage is Storage.TIME:
        return time.fromisoformat(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise ValueError(text)
    return moment


def _text(value: object) -> str:
    """Write a value so that reading gives it back."""
    if value is None:
        return ""
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 2**53 and str(value) != "-0.0"
        return str(int(value)) if whole else repr(value)
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _stored(column: pl.Series, name: str, source: str) -> pl.Series:
    """Cast a Parquet column to one of the five storages."""
    kind = column.dtype
    if kind in (pl.Categorical, pl.Enum) or kind == pl.Null:
        return column.cast(pl.String)
    if kind == pl.Boolean:
        return column.replace_strict({True: "Y", False: "N"}, return_dtype=pl.String)
    if kind.is_numeric():
        numbers = column.cast(pl.Float64)
        if kind.is_integer() and (numbers.abs() >= 2.0**53).any():
            raise DataError(f"{name} holds whole numbers that a double cannot", where=source)
        return numbers
    if isinstance(kind, pl.Datetime) and kind.time_zone is None:
        return column.cast(pl.Datetime("us"))
    if kind in (pl.String, pl.Date, pl.Time):
        return column
    raise DataError(
        f"column {name} has the type {kind}, which a data set cannot hold",
        where=source,
        exists=("text", "numbers", "truth values", "dates", "times", "dates with times, without a zone"),
    )
