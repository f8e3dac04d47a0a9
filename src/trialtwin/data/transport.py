"""The headers of a SAS transport file, version 5: which columns it has, where its observations start, and how many.

A transport file does not say how many observations it holds: the reader divides what follows the headers by the
length of an observation. So a file that was cut is found by what remains after the last whole observation, which must
be blank and shorter than one 80-byte record. A cut that falls exactly between two observations and on a record's end
cannot be told from a shorter file; compare the hash, or the number of rows, with what the sender says.

Source: SAS TS-140, "The record layout of a data set in SAS transport (XPORT) format".
"""

import re
import struct
from dataclasses import dataclass

from trialtwin.core.errors import DataError
from trialtwin.data.dataset import Storage

RECORD = 80
BLANK = b" "
_LIBRARY = b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!"
_MEMBER = b"HEADER RECORD*******MEMBER  HEADER RECORD!!!!!!!"
_DESCRIPTOR = b"HEADER RECORD*******DSCRPTR HEADER RECORD!!!!!!!"
_NAMESTR = b"HEADER RECORD*******NAMESTR HEADER RECORD!!!!!!!"
_OBSERVATIONS = b"HEADER RECORD*******OBS     HEADER RECORD!!!!!!!"
_VERSION_8 = b"HEADER RECORD*******LIBV8"
_CPORT = b"**COMPRESSED**"
_COLUMNS_START = 640
DATE_STAMPS = (144, 160, 464, 480)
"""Offsets of the four times in the headers, 16 bytes each: library and member, created and modified."""

_DATETIME = re.compile(r"DATETIME|DATEAMPM|MDYAMPM|DT[A-Z]+|[BE]8601D[NTXZ]|IS8601D[NTZ]|NLDATM[A-Z]*")
_DATE = re.compile(
    r"DATE|DAY|DOWNAME|JULDAY|JULIAN|MONNAME|MONTH|MONYY|YYMON|YEAR|QTRR?|WEEKDAY|WORDDAT[EX]|WEEKDAT[EX]|WEEK[UVW]|"
    r"(DDMMYY|MMDDYY|YYMMDD)[BCDNPS]?|(MMYY|YYMM|YYQ|YYQR)[CDNPS]?|[BE]8601DA|IS8601DA|NLDATE[A-Z]*"
)
_TIME = re.compile(r"TIME|TIMEAMPM|TOD|HHMM|HOUR|MMSS|[BE]8601TM|E8601TZ|IS8601T[MZ]|NLTIM[A-Z]*")


@dataclass(frozen=True)
class Column:
    """A column as the file declares it; ``offset`` is its place in an observation, ``length`` its bytes."""

    name: str
    label: str
    format: str
    numeric: bool
    length: int
    offset: int


@dataclass(frozen=True)
class Member:
    """The data set of a transport file: columns, bytes an observation, where observations start, how many."""

    name: str
    label: str
    columns: tuple[Column, ...]
    width: int
    start: int
    rows: int


def temporal(format: str) -> Storage:  # noqa: A002 - SAS calls it so
    """Tell what a numeric column holds from its SAS format: a date, a date and time, a time, or a number.

    Examples
    --------
    >>> temporal("DATE9."), temporal("E8601DT19."), temporal("BEST12.")
    (<Storage.DATE: 'date'>, <Storage.DATETIME: 'datetime'>, <Storage.NUM: 'num'>)
    """
    name = re.sub(r"[0-9]*(\.[0-9]*)?$", "", format.upper())
    for storage, pattern in ((Storage.DATETIME, _DATETIME), (Storage.DATE, _DATE), (Storage.TIME, _TIME)):
        if pattern.fullmatch(name):
            return storage
    return Storage.NUM


def parse(content: bytes, source: str) -> Member:
    """Read the headers and count the observations.

    Raises
    ------
    DataError
        If this is no transport file of version 5, if it was cut or changed on the way, or if it holds several data
        sets.
    """
    _refuse_others(content, source)
    _expect(content, 3 * RECORD, _MEMBER, "member header", source)
    _expect(content, 4 * RECORD, _DESCRIPTOR, "descriptor header", source)
    _expect(content, 7 * RECORD, _NAMESTR, "column header", source)
    size = _digits(content[3 * RECORD + 74 : 3 * RECORD + 78], "the size of a column's entry", source)
    count = _digits(content[7 * RECORD + 54 : 7 * RECORD + 58], "the number of columns", source)
    if count == 0 or size not in (136, 140):
        raise DataError(f"the headers declare {count} columns of {size} bytes each", where=source)
    end = _COLUMNS_START + count * size
    head = end + (-end) % RECORD
    _expect(content, head, _OBSERVATIONS, "observation header", source)
    columns = tuple(_column(content, _COLUMNS_START + i * size, source) for i in range(count))
    width = max(column.offset + column.length for column in columns)
    if sum(column.length for column in columns) != width:
        raise DataError("the columns do not fill an observation without gaps or overlaps", where=source)
    start = head + RECORD
    _refuse_second_member(content, start, source)
    return Member(
        name=_text(content[408:416]),
        label=_text(content[512:552]),
        columns=columns,
        width=width,
        start=start,
        rows=_count(content[start:], width, source),
    )


def _refuse_others(content: bytes, source: str) -> None:
    """Say what the file is where it is no SAS transport file of version 5."""
    if content.startswith(_VERSION_8):
        raise DataError(
            "this is a SAS transport file of version 8; version 5 is read here",
            where=source,
            do="export it again with the XPORT engine (or %loc2xpt with format V5), or as Dataset-JSON",
        )
    if content.startswith(_CPORT):
        raise DataError(
            "this file was made by PROC CPORT; it is no XPORT transport file",
            where=source,
            do="export it again with the XPORT engine",
        )
    if not content.startswith(_LIBRARY):
        cut = _LIBRARY.startswith(content)
        raise DataError(
            "this SAS transport file was cut within its first header" if cut else "this is no SAS transport file",
            where=f"{source}: {len(content)} bytes that begin with {content[:24]!r}",
            do="copy the file again, in binary mode" if cut else "give it the suffix of the format that it is in",
        )
    if len(content) % RECORD:
        raise DataError(
            f"the file is truncated or was changed on the way: {len(content)} bytes is no multiple of {RECORD}",
            where=source,
            do="copy the file again, in binary mode",
        )


def _expect(content: bytes, offset: int, header: bytes, what: str, source: str) -> None:
    """Refuse a file that lacks a header at its place."""
    if len(content) < offset + RECORD:
        raise DataError(
            f"the file is truncated before its {what}",
            where=f"{source}: {len(content)} bytes, {what} at byte {offset}",
            do="copy the file again, in binary mode",
        )
    if not content.startswith(header, offset):
        raise DataError(
            f"the file has no {what} where SAS transport has it",
            where=f"{source}: byte {offset} holds {content[offset : offset + 24]!r}",
            do="copy the file again, in binary mode",
        )


def _digits(raw: bytes, what: str, source: str) -> int:
    """Read a number written in ASCII digits."""
    if not raw.isdigit():
        raise DataError(f"the headers do not give {what}", where=f"{source}: {raw!r} in its place")
    return int(raw)


def _text(raw: bytes) -> str:
    """Decode a header's text; what is not UTF-8 there is taken as Latin-1, which has a letter for every byte."""
    raw = raw.rstrip(b" \0")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _column(content: bytes, offset: int, source: str) -> Column:
    """Read one column's entry."""
    kind, _, length, _ = struct.unpack_from(">hhhh", content, offset)
    width, decimals = struct.unpack_from(">hh", content, offset + 64)
    (place,) = struct.unpack_from(">i", content, offset + 84)
    name = _text(content[offset + 8 : offset + 16])
    numeric = kind == 1
    most = 8 if numeric else 32767
    if kind not in (1, 2) or not name or place < 0 or not (2 if numeric else 1) <= length <= most:
        raise DataError(
            "a column's entry makes no sense",
            where=f"{source}: byte {offset}, name {name!r}, type {kind}, length {length}, offset {place}",
            do="copy the file again, in binary mode",
        )
    word = _text(content[offset + 56 : offset + 64])
    shown = f"{word}{width or ''}.{decimals or ''}" if word or width else ""
    return Column(name, _text(content[offset + 16 : offset + 56]), shown, numeric, length, place)


def _refuse_second_member(content: bytes, start: int, source: str) -> None:
    """Refuse a library of several data sets; each has its own file in a submission."""
    at = content.find(_MEMBER, start)
    while at >= 0:
        if at % RECORD == 0:
            raise DataError(
                "this transport file holds more than one data set",
                where=f"{source}: the second one starts at byte {at}",
                do="export each data set to a file of its own",
            )
        at = content.find(_MEMBER, at + 1)


def _count(data: bytes, width: int, source: str) -> int:
    """Count observations, and refuse what remains after the last one unless it is padding."""
    rows, rest = divmod(len(data), width)
    tail = data[rows * width :]
    if rest >= RECORD or tail.strip(BLANK):
        raise DataError(
            f"the file is truncated: it ends {rest} bytes into observation {rows + 1}, which has {width} bytes",
            where=f"{source}: {rows} whole observations",
            do="copy the file again, in binary mode, and compare its size with the original",
        )
    padding = rest
    while rows and padding + width < RECORD and not data[(rows - 1) * width : rows * width].strip(BLANK):
        rows -= 1
        padding += width
    return rows
