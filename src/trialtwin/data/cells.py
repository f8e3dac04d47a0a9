"""A CSV file as text: every row as long as the header, and the line that it starts on."""

import csv
import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from trialtwin.core.errors import DataError
from trialtwin.data.files import read_bytes

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Cells:
    """A CSV file as text: header, rows of the same length, the line that each row starts on, and the file's hash."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    source: str
    sha256: str

    def column(self, name: str) -> list[str]:
        """Return one column's text."""
        index = self.header.index(name)
        return [row[index] for row in self.rows]


def read_cells(path: Path | str, *, separator: str = ",", encoding: str = "utf-8-sig") -> Cells:
    """Read a CSV file as text, every row as long as the header.

    Raises
    ------
    DataError
        If the file is missing, empty or in another encoding, columns repeat, or a row is longer or shorter than the
        header; with its line.
    MachineError
        If it cannot be read.
    """
    content, sha256 = read_bytes(path)
    source = str(path)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"the text is not in {encoding}",
            where=f"{source}: line {line}, byte {content[error.start : error.start + 1].hex()}",
            do="name the encoding that the file was written in, such as encoding='windows-1252'",
        ) from error
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    start = 1
    try:
        header = tuple(name.strip() for name in next(reader, ()))
        start = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(header):
                raise DataError(
                    f"a row has {len(row)} values under {len(header)} columns",
                    where=f"{source}: line {start}",
                    do=f"quote values that hold {separator!r}, or name the separator",
                )
            if row:
                rows.append(tuple(row))
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"this is no CSV: {error}", where=f"{source}: line {start}") from error
    require_header(header, source)
    return Cells(header, tuple(rows), tuple(lines), source, sha256)


def require_header(header: tuple[str, ...], source: str) -> None:
    """Refuse columns without a name, and names that repeat.

    Raises
    ------
    DataError
        With the names.
    """
    if not header or not all(header):
        raise DataError("a column has no name", where=f"{source}: header {', '.join(header)!r}")
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise DataError(f"columns repeat: {', '.join(twice)}", where=source)


def parse_number(text: str) -> float:
    """Read a number in digits; unlike ``float`` this takes no "nan", "inf" or "1_000".

    Raises
    ------
    ValueError
        If it is none.
    """
    if not NUMBER.fullmatch(text):
        raise ValueError(text)
    return float(text)
