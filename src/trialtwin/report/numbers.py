"""Numbers as journals print them: a true minus, tabular decimals, p-values with a floor; never a negative zero."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from trialtwin.core.finding import Cell, Column

MINUS = "\u2212"
MISSING = "\u2014"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_P_NAMES = frozenset({"p", "p_value", "pvalue", "p-value"})


def fixed(value: float, decimals: int) -> str:
    """Print a number with so many decimals, a true minus sign and no negative zero.

    Examples
    --------
    >>> fixed(-1.006, 2), fixed(-0.0004, 2), fixed(86.0, 0)
    ('−1.01', '0.00', '86')
    """
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def general(value: float) -> str:
    """Print a number by itself, as on an axis: up to six significant digits, no trailing zeros.

    Examples
    --------
    >>> general(-2.50), general(0.1 + 0.2), general(3.2e-7)
    ('−2.5', '0.3', '3.2×10⁻⁷')
    """
    text = f"{value + 0.0:.6g}"
    if "e" in text:
        mantissa, power = text.split("e")
        text = f"{mantissa}×10{str(int(power)).translate(_SUPERSCRIPT)}"
    return text.replace("-", MINUS)


def aligned(values: Sequence[float]) -> tuple[str, ...]:
    """Print the ticks of an axis with the same decimals each.

    Examples
    --------
    >>> aligned([0.0, 0.5, 1.0]), aligned([-10.0, 0.0])
    (('0.0', '0.5', '1.0'), ('−10', '0'))
    """
    texts = [general(value) for value in values]
    if any("×" in text for text in texts):
        return tuple(texts)
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    return tuple(fixed(value, decimals) for value in values)


def p_value(p: float) -> str:
    """Print a p-value with three decimals, ``<0.001`` below that, and more where three would hide the side of 0.05.

    Examples
    --------
    >>> p_value(0.2447), p_value(2e-12), p_value(0.0496), p_value(0.99991)
    ('0.245', '<0.001', '0.0496', '>0.999')
    """
    if p < 0.001:
        return "<0.001"
    if p > 0.999:
        return ">0.999"
    decimals = 3
    while decimals < 6 and p != 0.05 and float(f"{p:.{decimals}f}") == 0.05:
        decimals += 1
    return f"{p:.{decimals}f}"


def degrees(df: float | None) -> str:
    """Print degrees of freedom: whole where they are whole, one decimal else, ∞ for a normal reference.

    Examples
    --------
    >>> degrees(214.0), degrees(187.4321), degrees(None)
    ('214', '187.4', '∞')
    """
    if df is None:
        return "∞"
    return fixed(df, 0) if df == round(df) else fixed(df, 1)


def decimals_for(errors: Iterable[float]) -> int:
    """Return the decimals that show two significant digits of the smallest standard error that is not zero.

    Examples
    --------
    >>> decimals_for([0.8405, 0.817]), decimals_for([12.3]), decimals_for([0.0])
    (2, 0, 2)
    """
    positive = [error for error in errors if error > 0]
    if not positive:
        return 2
    return min(max(1 - math.floor(math.log10(min(positive))), 0), 8)


def interval(value: float, lower: float, upper: float, decimals: int) -> str:
    """Print an estimate with its interval.

    Examples
    --------
    >>> interval(-1.006, -2.662, 0.65, 2)
    '−1.01 (−2.66, 0.65)'
    """
    return f"{fixed(value, decimals)} ({fixed(lower, decimals)}, {fixed(upper, decimals)})"


def is_p(column: Column) -> bool:
    """Tell whether a column without stated decimals holds p-values, by its name or its label."""
    return column.decimals is None and bool({column.name.lower(), column.label.lower()} & _P_NAMES)


def column_decimals(cells: Sequence[Cell]) -> int:
    """Choose decimals for a column that states none: four significant digits of its largest value, at most six.

    Decimals that would be zero in every cell are left out.

    Examples
    --------
    >>> column_decimals([0.12345, 0.9]), column_decimals([123.456, 2.0]), column_decimals([3, 4.0, None])
    (4, 1, 0)
    >>> column_decimals([0.05, 0.6])
    2
    """
    numbers = [float(cell) for cell in cells if is_number(cell)]
    if all(number == round(number) for number in numbers):
        return 0
    largest = max(abs(number) for number in numbers)
    most = min(max(3 - math.floor(math.log10(largest)), 1), 6)
    return max(len(f"{number:.{most}f}".rstrip("0").partition(".")[2]) for number in numbers)


def is_number(cell: Cell) -> TypeGuard[int | float]:
    """Tell whether a cell holds a number; a truth value is none."""
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def cell_text(cell: Cell, decimals: int, *, p: bool = False) -> str:
    """Print one cell of a table.

    Examples
    --------
    >>> [cell_text(cell, 2) for cell in (1.5, -2, "Placebo", None, True)]
    ['1.50', '−2', 'Placebo', '—', 'yes']
    >>> cell_text(1e-9, 4), cell_text(1e-9, 3, p=True)
    ('1×10⁻⁹', '<0.001')
    """
    if not is_number(cell):
        return MISSING if cell is None else word(cell)
    if p and 0 <= cell <= 1:
        return p_value(float(cell))
    if isinstance(cell, int):
        return str(cell).replace("-", MINUS)
    if cell != 0 and abs(cell) < 0.5 * 10.0**-decimals:
        return general(float(f"{cell:.2g}"))
    return fixed(cell, decimals)


def word(cell: Cell) -> str:
    """Print a cell as the name of something: a group, a panel, a category.

    Examples
    --------
    >>> word("Placebo"), word(None), word(True), word(701)
    ('Placebo', '(missing)', 'yes', '701')
    """
    if cell is None:
        return "(missing)"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return cell if isinstance(cell, str) else general(float(cell))


def true_minus(text: str) -> str:
    """Give the numbers in a sentence a true minus sign; hyphens of words, identifiers and options stay.

    Examples
    --------
    >>> true_minus("High - Placebo is -1.01 (-2.66 to 0.65) in 01-701-1015, --seed 20")
    'High - Placebo is −1.01 (−2.66 to 0.65) in 01-701-1015, --seed 20'
    """
    return re.sub(r"(?<![\w.)\-])-(?=\.?\d)", MINUS, text)


def contrast_text(contrast: str) -> str:
    """Print a contrast with a minus sign between its arms.

    Examples
    --------
    >>> contrast_text("Xanomeline High Dose - Placebo")
    'Xanomeline High Dose − Placebo'
    """
    return contrast.replace(" - ", f" {MINUS} ")
