"""Where a key stands in a TOML file: the reader gives no line numbers, and an error without one is hard to follow."""

import re
from collections.abc import Iterator, Sequence

type Place = tuple[str | int, ...]
_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*([A-Za-z0-9_.\-]+|"[^"]+")\s*=""")


def line_of(text: str, place: Sequence[str | int]) -> int:
    r"""Return the line, from 1, of the deepest part of a place that the file has; 1 where it has none of it.

    Parts that are no keys of the file, such as the name of the variant by which it was checked, are passed over.

    Parameters
    ----------
    text
        Of the file.
    place
        Keys from the outside in, with positions from 0 in arrays of tables.

    Examples
    --------
    >>> line_of('[pk]\nCL = 1\n[[effect]]\nh = 1\n[[effect]]\nh = 2', ("effect", 1, "sigmoid", "h", "value"))
    6
    """
    lines = dict(_places(text))
    known = {found[:k] for found in lines for k in range(len(found) + 1)}
    at: Place = ()
    for part in place:
        if (*at, part) in known:
            at = (*at, part)
    return min((line for found, line in lines.items() if found[: len(at)] == at), default=1) if at else 1


def _places(text: str) -> Iterator[tuple[Place, int]]:
    """Yield every table header and key with its line."""
    counts: dict[Place, int] = {}
    table: Place = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            names = [name.strip().strip('"') for name in header[2].split(".")]
            table = ()
            for name in names[:-1]:
                table = (*table, name)
                if table in counts:
                    table = (*table, counts[table])
            table = (*table, names[-1])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            yield table, number
        elif key := _KEY.match(line):
            yield (*table, *(part.strip('"') for part in key[1].split("."))), number
