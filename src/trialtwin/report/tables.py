"""Tables of a page as text: every cell printed, every column told whether its numbers stand right."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from trialtwin.core.dossier import Question, Result
from trialtwin.core.finding import Assumption, Cell, Column, Table
from trialtwin.report.numbers import (
    MISSING,
    cell_text,
    column_decimals,
    contrast_text,
    decimals_for,
    degrees,
    fixed,
    is_number,
    is_p,
    p_value,
    true_minus,
)

LONG = 15
SHORT = 24


@dataclass(frozen=True)
class Heading:
    """A column's heading, and how its cells are set: numbers to the right, short words unbroken, long words wide."""

    text: str
    numeric: bool = False
    short: bool = False

    @property
    def kind(self) -> str:
        """Name of the style."""
        if self.numeric:
            return "n"
        return "s" if self.short else "w"


@dataclass(frozen=True)
class TableView:
    """A table ready for print; its number is given by the page."""

    caption: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    number: int = 0
    flagged: frozenset[int] = field(default_factory=frozenset)
    folded: bool = False


def finding_table(table: Table, caption: str) -> TableView:
    """Print a finding's table, folded where it is long; decimals as a column states them, else sensible ones."""
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.columns)
    printed = [_column(column, cells) for column, cells in zip(table.columns, columns, strict=True)]
    headings = [
        Heading(column.heading, _numeric(cells), _short(texts))
        for column, cells, texts in zip(table.columns, columns, printed, strict=True)
    ]
    rows = tuple(zip(*printed, strict=True))
    return TableView(caption, tuple(headings), rows, note=table.note, folded=len(rows) > LONG)


def result_tables(results: Sequence[Result], questions: Sequence[Question]) -> tuple[TableView, ...]:
    """Print estimates, one table for each endpoint, visit, population, unit and level, in the order given."""
    blocks: dict[tuple[str, str, str, str, float], list[Result]] = {}
    for result in results:
        estimate = result.estimate
        key = (result.endpoint, result.visit, result.population, estimate.unit, estimate.level)
        blocks.setdefault(key, []).append(result)
    return tuple(_result_table(block, questions) for block in blocks.values())


def assumption_table(twin: str, assumptions: Sequence[Assumption]) -> TableView:
    """Print what a twin takes as given; provisional rows are flagged."""
    rows = tuple((a.name, true_minus(a.value), a.unit, true_minus(a.source), a.confidence) for a in assumptions)
    return TableView(
        caption=f"Assumptions of the twin “{twin}”",
        headings=_words(("Assumption", "Value", "Unit", "Source", "Confidence"), rows),
        rows=rows,
        flagged=frozenset(place for place, a in enumerate(assumptions) if a.provisional),
    )


def _result_table(block: Sequence[Result], questions: Sequence[Question]) -> TableView:
    first = block[0]
    decimals = decimals_for(result.estimate.se for result in block)
    unit = f" ({first.estimate.unit})" if first.estimate.unit else ""
    rows = tuple(_result_row(result, decimals, questions) for result in block)
    numbers = ("n", f"Estimate{unit}", "SE", "df", f"{first.estimate.level * 100:g}% CI", "p")
    headings = [*_words(("Analysis", "Contrast", "Method", "Variance"), rows)]
    headings += [Heading(text, numeric=True) for text in numbers]
    if len(questions) > 1:
        headings.append(Heading("Estimand", short=True))
    caption = ", ".join(part for part in (first.endpoint, first.visit, first.population) if part)
    software = "; ".join(dict.fromkeys(result.estimate.software for result in block))
    note = (
        "SE: standard error, by the estimator under Variance. df: degrees of freedom, ∞ where the reference "
        f"distribution is normal. CI: confidence interval. Computed by {software}."
    )
    return TableView(caption[:1].upper() + caption[1:], tuple(headings), rows, note=note)


def _result_row(result: Result, decimals: int, questions: Sequence[Question]) -> tuple[str, ...]:
    estimate = result.estimate
    row = [
        result.analysis,
        contrast_text(estimate.contrast),
        estimate.method,
        estimate.variance,
        str(estimate.n),
        fixed(estimate.value, decimals),
        fixed(estimate.se, decimals + 1),
        degrees(estimate.df),
        f"({fixed(estimate.lower, decimals)}, {fixed(estimate.upper, decimals)})",
        p_value(estimate.p),
    ]
    if len(questions) > 1:
        numbers = (str(place) for place, q in enumerate(questions, start=1) if q.estimand == estimate.estimand)
        row.append(next(numbers, MISSING))
    return tuple(row)


def _words(names: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Heading, ...]:
    """Return headings of the leading columns, which hold words."""
    return tuple(Heading(name, short=_short([row[place] for row in rows])) for place, name in enumerate(names))


def _short(texts: Iterable[str]) -> bool:
    return all(len(text) <= SHORT for text in texts)


def _numeric(cells: Iterable[Cell]) -> bool:
    present = [cell for cell in cells if cell is not None]
    return bool(present) and all(is_number(cell) for cell in present)


def _column(column: Column, cells: Sequence[Cell]) -> list[str]:
    p = is_p(column)
    decimals = column.decimals
    if decimals is None:
        decimals = column_decimals(cells) if any(is_number(cell) for cell in cells) else 0
    printed = [cell_text(cell, decimals, p=p) for cell in cells]
    return [contrast_text(text) for text in printed] if column.name == "contrast" else printed
