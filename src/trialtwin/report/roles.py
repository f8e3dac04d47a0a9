"""Which columns a kind of figure needs, and a figure's table read into them, or an error that says what is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.finding import Cell, Figure, Table
from trialtwin.report.numbers import is_number, true_minus, word
from trialtwin.report.typesetting import printable

_WORDS = ("panel", "group", "label")


@dataclass(frozen=True)
class Roles:
    """Roles of a kind of figure; ``categories`` says whether x may be words instead of numbers."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    categories: bool = True
    together: tuple[tuple[str, str], ...] = ()


ROLES: Mapping[str, Roles] = {
    "fan": Roles(
        required=("x", "low", "high"),
        optional=("median", "inner_low", "inner_high", "observed", "panel"),
        together=(("inner_low", "inner_high"),),
    ),
    "histogram": Roles(
        required=("x", "y"), optional=("low", "high", "panel"), categories=False, together=(("low", "high"),)
    ),
    "interval": Roles(
        required=("x", "y"), optional=("low", "high", "reference", "group", "panel"), together=(("low", "high"),)
    ),
    "scatter": Roles(required=("x", "y"), optional=("panel", "group"), categories=False),
    "bars": Roles(required=("x", "y"), optional=("group", "panel")),
    "forest": Roles(required=("label", "y", "low", "high"), optional=("group",)),
    "survival": Roles(
        required=("x", "y"),
        optional=("low", "high", "group", "at_risk"),
        categories=False,
        together=(("low", "high"),),
    ),
}


@dataclass(frozen=True, eq=False)
class Marks:
    """A figure's table by role: numbers with NaN where a cell is missing, words as words, x as positions.

    ``categories`` names the positions 0, 1, … of x where x is words, and is empty where x is numbers.
    """

    length: int
    x: Float[np.ndarray, " row"]
    categories: tuple[str, ...]
    numbers: Mapping[str, Float[np.ndarray, " row"]]
    words: Mapping[str, tuple[str, ...]]

    def number(self, role: str) -> Float[np.ndarray, " row"]:
        """Return a role's numbers; all NaN where the figure does not use the role."""
        return self.numbers.get(role, np.full(self.length, np.nan))

    def has(self, role: str) -> bool:
        """Tell whether the figure uses a role."""
        return role in self.numbers or role in self.words

    def distinct(self, role: str) -> tuple[str, ...]:
        """Return a role's words, each once, in the order of the table; one empty word where it is not used."""
        return tuple(dict.fromkeys(self.words[role])) if role in self.words else ("",)

    def rows(self, **wanted: str) -> Bool[np.ndarray, " row"]:
        """Tell which rows have the wanted word in each role."""
        keep = np.ones(self.length, dtype=bool)
        for role, name in wanted.items():
            if role in self.words:
                keep &= np.array([cell == name for cell in self.words[role]], dtype=bool)
        return keep


def read(figure: Figure, table: Table) -> Marks:
    """Read a figure's table into the roles of the figure's kind.

    Raises
    ------
    MismatchError
        If the kind has no such role, needs one that is not given, or a column does not exist; the message lists
        those that do.
    DataError
        If a column that must hold numbers holds something else; the message names the row.
    """
    roles = ROLES[figure.kind]
    _check_roles(figure, roles)
    columns = {role: _column(figure, table, role, name) for role, name in figure.encoding.items()}
    words = {role: _names(table, figure.encoding[role], columns[role]) for role in _WORDS if role in columns}
    numeric = [role for role in columns if role not in _WORDS and role != "x"]
    numbers = {role: _numbers(figure, role, columns[role]) for role in numeric}
    x, categories = _abscissa(figure, columns["x"], roles) if "x" in columns else (np.zeros(len(table.rows)), ())
    return Marks(len(table.rows), x, categories, numbers, words)


def drawable(figure: Figure, table: Table) -> bool:
    """Tell whether there is anything to draw: a row with all of the kind's numbers, or an observed value of a fan."""
    marks = read(figure, table)
    needed = [role for role in ROLES[figure.kind].required if role in marks.numbers and role not in ("low", "high")]
    complete = np.isfinite(marks.x)
    for role in needed:
        complete &= np.isfinite(marks.numbers[role])
    if figure.kind in ("fan", "forest"):
        bands = np.isfinite(marks.number("low")) & np.isfinite(marks.number("high"))
        complete &= bands | np.isfinite(marks.number("observed")) | np.isfinite(marks.number("median"))
    return bool(complete.any())


def _check_roles(figure: Figure, roles: Roles) -> None:
    where = f"figure of kind {figure.kind!r}"
    known = (*roles.required, *roles.optional)
    for role in figure.encoding:
        if role not in known:
            raise MismatchError(f"a {figure.kind} figure has no role {role!r}", where=where, exists=known)
    for role in roles.required:
        if role not in figure.encoding:
            raise MismatchError(
                f"a {figure.kind} figure needs the role {role!r}",
                where=where,
                exists=figure.encoding,
                do=f"name the column for {role!r} in the figure's encoding",
            )
    for pair in roles.together:
        given = [role for role in pair if role in figure.encoding]
        if len(given) == 1:
            raise MismatchError(
                f"a {figure.kind} figure with {given[0]!r} needs both of {pair[0]!r} and {pair[1]!r}",
                where=where,
                exists=figure.encoding,
            )


def _column(figure: Figure, table: Table, role: str, name: str) -> list[Cell]:
    names = [column.name for column in table.columns]
    if name not in names:
        raise MismatchError(
            f"no column {name!r} in the table", where=f"role {role!r} of a {figure.kind} figure", exists=names
        )
    return table.column(name)


def _numbers(figure: Figure, role: str, cells: list[Cell]) -> Float[np.ndarray, " row"]:
    for row, cell in enumerate(cells, start=1):
        if cell is not None and not is_number(cell):
            raise DataError(
                f"{cell!r} is not a number",
                where=f"row {row}, column {figure.encoding[role]!r} (role {role!r} of a {figure.kind} figure)",
                do="give numbers, and null where a value is missing",
            )
    return np.array([np.nan if cell is None else float(cell) for cell in cells], dtype=float)


def _names(table: Table, name: str, cells: list[Cell]) -> tuple[str, ...]:
    """Return names of groups or panels; a bare number is told apart by its column's heading."""
    heading = next(column.heading for column in table.columns if column.name == name)
    return tuple(true_minus(printable(f"{heading} {word(cell)}" if is_number(cell) else word(cell))) for cell in cells)


def _abscissa(figure: Figure, cells: list[Cell], roles: Roles) -> tuple[Shaped[np.ndarray, " row"], tuple[str, ...]]:
    """Return positions along x, with the words that name them where x is words."""
    if not roles.categories or all(cell is None or is_number(cell) for cell in cells):
        return _numbers(figure, "x", cells), ()
    words = [None if cell is None else printable(word(cell)) for cell in cells]
    names = tuple(dict.fromkeys(word for word in words if word is not None))
    places = {name: float(place) for place, name in enumerate(names)}
    return np.array([np.nan if word is None else places[word] for word in words], dtype=float), names
