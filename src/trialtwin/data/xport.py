"""SAS transport files, version 5, read and written with every double exact.

pyreadstat turns the bytes into values; the headers are read here as well (``transport``), because pyreadstat returns
fewer rows from a file that was cut and says nothing. What is written is read back and compared before it gets its
name.
"""

import re
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pyreadstat

from trialtwin.core.errors import DataError, MachineError
from trialtwin.core.files import replacing
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage
from trialtwin.data.files import UNDATED, read_bytes
from trialtwin.data.normal import normalise
from trialtwin.data.transport import DATE_STAMPS, Member, parse, temporal

_EPOCH_DAYS = 3653
"""Days from SAS's epoch, 1960-01-01, to Unix's."""
_FIRST_DAY, _LAST_DAY = -138061, 2936547
"""1582-01-01 and 9999-12-31 in SAS days."""
_SMALLEST, _LARGEST = 2.0**-260, 2.0**249
"""Magnitudes that pyreadstat writes and reads back exactly; IBM's own limit is 2**252."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,7}")
_DEFAULT_FORMATS = {Storage.DATE: "DATE9.", Storage.DATETIME: "DATETIME26.6", Storage.TIME: "TIME15.6"}
_UNITS = {Storage.DATE: 1, Storage.DATETIME: 1_000_000, Storage.TIME: 1_000_000_000}


def read_xport(path: Path | str, *, encoding: str = "utf-8") -> DataSet:
    """Read the data set of a SAS transport file.

    Character columns are CHAR, blank is missing and trailing blanks are dropped, as in SAS. Numeric columns are DATE,
    DATETIME or TIME where their format says so, else NUM; special missing values (.A to .Z) are missing.

    Parameters
    ----------
    path
        The file.
    encoding
        Of the characters; version 5 does not say it. ASCII is UTF-8.

    Raises
    ------
    DataError
        If the file is missing, cut, no transport file of version 5, or holds what its own headers do not allow.
    MachineError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> table = DataSet("DM", (Field("AGE", Storage.NUM, "Age"),), pl.DataFrame({"AGE": [63.0, None]}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_xport(table, Path(folder) / "dm.xpt")
    ...     read_xport(Path(folder) / "dm.xpt").frame["AGE"].to_list()
    [63.0, None]
    """
    content, sha256 = read_bytes(path)
    return _decode(content, str(path), sha256, encoding)


def write_xport(dataset: DataSet, path: Path | str, *, created: datetime = UNDATED) -> None:
    """Write a data set as a SAS transport file, or nothing.

    Columns get the length of their longest value. ``created`` goes into the headers; with the default, the same data
    give the same bytes.

    Raises
    ------
    DataError
        Where version 5 cannot hold the data set, with column and row: names over 8 characters, labels over 40,
        values over 200 bytes, characters other than ASCII, numbers outside IBM's range.
    MachineError
        If the disk is full or the folder cannot be written to; nothing is left behind then.
    """
    dataset = normalise(dataset)
    _refuse_metadata(dataset)
    for field in dataset.fields:
        _refuse_values(dataset, field)
    _refuse_blank_end(dataset)
    stored = dataset.frame.select(_stored(dataset, field) for field in dataset.fields)
    with replacing(path) as draft:
        try:
            pyreadstat.write_xport(
                stored,
                draft,
                file_label=dataset.label,
                table_name=dataset.name,
                column_labels={field.name: field.label for field in dataset.fields if field.label},
                file_format_version=5,
                variable_format={field.name: shown for field in dataset.fields if (shown := _format(dataset, field))},
            )
        except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError) as error:
            raise MachineError(
                f"cannot write {Path(path).name}: {error}",
                where=str(Path(path).parent),
                do="make room on the disk, or write to another folder",
            ) from error
        content = bytearray(draft.read_bytes())
        stamp = created.strftime("%d%b%y:%H:%M:%S").upper().encode()
        for offset in DATE_STAMPS:
            content[offset : offset + len(stamp)] = stamp
        _verify(dataset, _decode(bytes(content), str(path), "", "utf-8"))
        draft.write_bytes(content)


def _decode(content: bytes, source: str, sha256: str, encoding: str) -> DataSet:
    """Turn a file's bytes into a data set."""
    member = parse(content, source)
    names = [column.name for column in member.columns]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"columns repeat: {', '.join(twice)}", where=source)
    try:
        # Latin-1 keeps every byte; told another encoding, ReadStat drops an incomplete character without a word.
        read, _ = pyreadstat.read_xport(
            BytesIO(content), output_format="dict", disable_datetime_conversion=True, encoding="ISO-8859-1"
        )
    except pyreadstat.ReadstatError as error:
        raise DataError(f"the file cannot be read: {error}", where=source) from error
    if len(read) != len(names):
        raise DataError("pyreadstat finds other columns than the headers declare", where=source, exists=read)
    values = dict(zip(names, read.values(), strict=True))
    fields = tuple(
        Field(
            column.name,
            temporal(column.format) if column.numeric else Storage.CHAR,
            column.label,
            None if column.numeric else column.length,
            column.format,
        )
        for column in member.columns
    )
    pad = [None] * _dropped(values, member, content, source)
    frame = pl.DataFrame([_column(values[field.name] + pad, field, source, encoding) for field in fields])
    return DataSet(member.name, fields, frame, member.label, source, sha256)


def _dropped(values: dict[str, list], member: Member, content: bytes, source: str) -> int:
    """Count the blank observations at the end, which pyreadstat leaves out, and refuse any other difference."""
    missing = member.rows - len(values[member.columns[0].name])
    end = member.start + member.rows * member.width
    if missing < 0 or content[end - missing * member.width : end].strip(b" "):
        raise DataError(
            f"the file has {member.rows} observations, of which {member.rows - missing} could be read",
            where=source,
            do="copy the file again, in binary mode",
        )
    return missing


def _column(values: list, field: Field, source: str, encoding: str) -> pl.Series:
    """Turn SAS values into a column; blanks and special missing values become null."""
    if field.storage is Storage.CHAR:
        text = pl.Series(field.name, _decoded(values, field, source, encoding), dtype=pl.String)
        return text.str.strip_chars_end(" ").replace("", None)
    numbers = pl.Series(field.name, values, dtype=pl.Float64)
    odd = numbers.is_not_null() & ~numbers.is_finite()
    if odd.any():
        raise _cell(field, source, odd, numbers, "is no number that a double can hold")
    if field.storage is Storage.NUM:
        return numbers
    return _from_sas(numbers, field, source)


def _decoded(values: list, field: Field, source: str, encoding: str) -> list:
    """Decode characters that were read as Latin-1."""
    out = list(values)
    for row, value in enumerate(values):
        if value is not None and not value.isascii():
            try:
                out[row] = value.encode("latin-1").decode(encoding)
            except (UnicodeDecodeError, LookupError) as error:
                raise DataError(
                    f"{field.name} = {value.encode('latin-1')!r} is not in {encoding}",
                    where=f"{source}: row {row + 1}",
                    do="name the encoding that the file was written in, such as encoding='windows-1252'",
                ) from error
    return out


def _from_sas(numbers: pl.Series, field: Field, source: str) -> pl.Series:
    """Turn days or seconds since 1960 into dates and times."""
    unit = _UNITS[field.storage]
    values = np.nan_to_num(numbers.to_numpy())
    whole = np.rint(values * unit)
    low, high = {
        Storage.DATE: (_FIRST_DAY, _LAST_DAY),
        Storage.DATETIME: (_FIRST_DAY * 86400.0 * unit, (_LAST_DAY + 1) * 86400.0 * unit - 1),
        Storage.TIME: (0.0, 86400.0 * unit - 1),
    }[field.storage]
    outside = pl.Series((whole < low) | (whole > high)) & numbers.is_not_null()
    if outside.any():
        raise _cell(field, source, outside, numbers, f"is no {field.storage} (format {field.format})")
    if field.storage is Storage.DATE:
        part = pl.Series(whole != values)
        if part.any():
            raise _cell(field, source, part, numbers, f"is no whole day (format {field.format})")
        whole = whole - _EPOCH_DAYS
    elif field.storage is Storage.DATETIME:
        whole = whole - _EPOCH_DAYS * 86400.0 * unit
    cast = pl.Series(field.name, whole.astype(np.int64)).cast(pl.Int32 if field.storage is Storage.DATE else pl.Int64)
    column = cast.cast(DTYPES[field.storage])
    return pl.select(pl.when(numbers.is_not_null()).then(column)).to_series().alias(field.name)


def _cell(field: Field, source: str, bad: pl.Series, values: pl.Series, why: str) -> DataError:
    """Make the error for a cell: the first of those that are bad, and how many there are."""
    row = int(bad.arg_true()[0])
    return DataError(
        f"{field.name} = {values[row]!r} {why}",
        where=f"{source}: row {row + 1}" + (f" and {int(bad.sum()) - 1} more" if int(bad.sum()) > 1 else ""),
        do="correct the value where the file is made",
    )


def _refuse_metadata(dataset: DataSet) -> None:
    """Refuse names and labels that version 5 cannot hold."""
    where = f"data set {dataset.name}"
    if not dataset.fields:
        raise DataError("a transport file needs at least one column", where=where)
    for what, name in (("data set", dataset.name), *(("column", field.name) for field in dataset.fields)):
        if not _NAME.fullmatch(name):
            raise DataError(
                f"SAS transport cannot name a {what} {name!r}",
                where=where,
                do="use at most 8 letters, digits and underscores, the first no digit; or write Dataset-JSON",
            )
    upper = [field.name.upper() for field in dataset.fields]
    if len(set(upper)) < len(upper):
        raise DataError("SAS does not tell upper from lower case, and column names repeat", where=where, exists=upper)
    for what, label in (("data set", dataset.label), *((field.name, field.label) for field in dataset.fields)):
        if len(label) > 40 or not label.isascii():
            raise DataError(
                f"the label of {what} does not fit in 40 ASCII characters: {label!r}",
                where=where,
                do="shorten it, or write Dataset-JSON",
            )
    for field in dataset.fields:
        _format(dataset, field)


def _format(dataset: DataSet, field: Field) -> str:
    """Choose the SAS format that a reader will know the column's storage by."""
    if field.storage is Storage.CHAR:
        return field.format if field.format.startswith("$") else ""
    if field.storage is Storage.NUM and temporal(field.format) is not Storage.NUM:
        raise DataError(
            f"{field.name} is stored as a number and has the format {field.format}, which makes it a date or time",
            where=f"data set {dataset.name}",
            do="store it as what it is, or give it another format",
        )
    if field.storage is Storage.NUM or temporal(field.format) is field.storage:
        return field.format
    return _DEFAULT_FORMATS[field.storage]


def _refuse_values(dataset: DataSet, field: Field) -> None:
    """Refuse values that version 5 cannot hold."""
    column = dataset.frame[field.name]
    source = f"data set {dataset.name}"
    if field.storage is Storage.CHAR:
        long = column.str.len_bytes() > 200
        if long.any():
            raise _cell(field, source, long.fill_null(value=False), column, "is over 200 bytes; write Dataset-JSON")
        odd = column.str.contains(r"[^\x01-\x7F]").fill_null(value=False)
        if odd.any():
            raise _cell(field, source, odd, column, "is not ASCII, all that SAS transport holds; write Dataset-JSON")
    elif field.storage is Storage.NUM:
        size = column.abs()
        fits = (size == 0) | ((size >= _SMALLEST) & (size < _LARGEST))
        if not fits.all():
            raise _cell(field, source, ~fits.fill_null(value=True), column, "lies outside the range of SAS transport")


def _refuse_blank_end(dataset: DataSet) -> None:
    """Refuse a last row of blanks only: a reader takes it for padding."""
    last = dataset.frame.tail(1)
    texts_only = all(field.storage is Storage.CHAR for field in dataset.fields)
    if texts_only and last.height and all(value is None for value in last.row(0)):
        raise DataError(
            "the last row is missing in every column, which SAS transport cannot tell from padding",
            where=f"data set {dataset.name}: row {dataset.frame.height}",
            do="drop the row, or write Dataset-JSON",
        )


def _stored(dataset: DataSet, field: Field) -> pl.Series:
    """Turn dates and times into days and seconds since 1960."""
    column = dataset.frame[field.name]
    if field.storage is Storage.NUM:
        return column
    if field.storage is Storage.CHAR:
        return column.fill_null("")
    whole = column.to_physical().cast(pl.Float64)
    if field.storage is Storage.DATE:
        return (whole + _EPOCH_DAYS).alias(field.name)
    seconds = whole / _UNITS[field.storage]
    return (seconds + (_EPOCH_DAYS * 86400.0 if field.storage is Storage.DATETIME else 0.0)).alias(field.name)


def _verify(wanted: DataSet, written: DataSet) -> None:
    """Compare what was written with what should have been, cell by cell."""
    same = wanted.frame.schema == written.frame.schema and wanted.frame.height == written.frame.height
    if not same:
        raise DataError(
            f"data set {wanted.name} cannot be held by SAS transport: {wanted.frame.height} rows became "
            f"{written.frame.height}, or a column changed its type",
            do="write Dataset-JSON",
        )
    for field in wanted.fields:
        differs = wanted.frame[field.name].ne_missing(written.frame[field.name])
        if differs.any():
            raise _cell(
                field, f"data set {wanted.name}", differs, wanted.frame[field.name], "is changed by SAS transport"
            )
