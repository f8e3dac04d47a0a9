"""Forest plots: estimates with intervals on one axis, grouped by contrast, the numbers printed at the right."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import DataError
from trialtwin.core.finding import Column, Figure, Table
from trialtwin.report.canvas import EDGE, HALF_HEIGHT, LINE, SIZE, SMALL, WIDTH, Canvas, reference_line
from trialtwin.report.numbers import MISSING, aligned, contrast_text, decimals_for, fixed, general, interval
from trialtwin.report.roles import Marks
from trialtwin.report.scales import Scale, continuous
from trialtwin.report.theme import BLUE, INK, MUTED, RULE, Style, style
from trialtwin.report.typesetting import LEADING, balanced, width, wrap

_ROW_GAP = 5.0
_INDENT = 10.0
_WORDS_WIDE = 190.0
SINGLE = Style(BLUE, "s", "")


@dataclass(frozen=True)
class _Row:
    """A line of the plot: the heading of a group (no place in the table) or an estimate."""

    lines: tuple[str, ...]
    place: int | None
    look: Style

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + _ROW_GAP


def draw_forest(figure: Figure, marks: Marks, table: Table) -> Canvas:
    """Draw an estimate a row with its interval, about the line of no effect (``Figure.reference``, else 0)."""
    rows = _rows(marks)
    value, low, high = marks.number("y"), marks.number("low"), marks.number("high")
    null = float(figure.log) if figure.reference is None else figure.reference
    printed = _printed(marks, _decimals(figure, table, marks))
    heading = _heading(figure, table)
    head_lines = wrap(figure.y_label, _WORDS_WIDE, SMALL, bold=True)
    left_words = [line for row in rows for line in row.lines]
    left = EDGE + _INDENT + max(width(words, SMALL, bold=True) for words in (*left_words, *head_lines)) + 10
    right = EDGE + max(width(words, SMALL, bold=True) for words in (*printed, heading)) + 12
    scale = _scale(figure, [value, low, high], null)
    label_lines = balanced(figure.x_label, WIDTH - 2 * EDGE, SIZE)
    head = len(head_lines) * LINE + 6
    body = sum(row.height for row in rows) + 6
    foot = 5 + LINE + 4 + len(label_lines) * SIZE * LEADING + EDGE
    canvas = Canvas(EDGE + head + body + foot)
    top = canvas.height - EDGE
    for line, words in enumerate(head_lines):
        canvas.text(EDGE, top - SMALL - line * LINE, words, bold=True)
    canvas.text(WIDTH - EDGE, top - SMALL, heading, bold=True, align="right")
    canvas.line((EDGE, WIDTH - EDGE), (top - head + 3, top - head + 3), colour=RULE)
    box = (left, foot, WIDTH - left - right, body)
    at = _write_rows(canvas, rows, printed, foot + body - 3)
    _draw_rows(canvas, marks, rows, at, box, scale, (null, figure.log))
    _write_axis(canvas, scale, box, label_lines)
    return canvas


def _scale(figure: Figure, values: list[Float[np.ndarray, " row"]], null: float) -> Scale:
    """Return the axis of estimates; on a log scale positions are logarithms, and ticks read 0.5, 1, 2."""
    if not figure.log:
        return continuous(figure.x_label, values, include=(null,), most=6)
    for column in values:
        if (column[np.isfinite(column)] <= 0).any():
            raise DataError(
                "an estimate or a limit is 0 or below, where the axis is logarithmic", do="draw it on a linear axis"
            )
    scale = continuous(figure.x_label, [np.log(column) for column in values], include=(math.log(null),), most=6)
    low, high = math.exp(scale.low), math.exp(scale.high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = tuple(step * 10.0**decade for decade in decades for step in steps)
        inside = tuple(tick for tick in ticks if low <= tick <= high)
        if 3 <= len(inside) <= 9:
            break
    else:  # less than a decade: round numbers of the ratio itself
        inside = continuous("", [np.array([low, high])], most=6, room=0.0).ticks
    return Scale(figure.x_label, scale.low, scale.high, tuple(map(math.log, inside)), tuple(map(general, inside)))


def _rows(marks: Marks) -> list[_Row]:
    """Return the lines from top to bottom; rows of a group stand together even where the table scatters them."""
    labels = marks.words["label"]
    methods = tuple(dict.fromkeys(labels))
    several = marks.has("group") and 1 < len(methods) < len(labels)
    looks = {method: style(place) if several else SINGLE for place, method in enumerate(methods)}
    rows: list[_Row] = []
    for group in marks.distinct("group"):
        if marks.has("group"):
            rows.append(_Row(wrap(contrast_text(group), _WORDS_WIDE, SMALL, bold=True), None, looks[methods[0]]))
        for place in np.flatnonzero(marks.rows(group=group)):
            words = wrap(contrast_text(labels[place]), _WORDS_WIDE - _INDENT, SMALL)
            rows.append(_Row(words, int(place), looks[labels[place]]))
    return rows


def _printed(marks: Marks, decimals: int) -> list[str]:
    """Return the words at the right of each row of the table."""
    words = []
    for value, low, high in zip(marks.number("y"), marks.number("low"), marks.number("high"), strict=True):
        if not math.isfinite(value):
            words.append(MISSING)
        elif math.isfinite(low) and math.isfinite(high):
            words.append(interval(value, low, high, decimals))
        else:
            words.append(f"{fixed(value, decimals)} ({MISSING})")
    return words


def _decimals(figure: Figure, table: Table, marks: Marks) -> int:
    """Take the decimals that the column states, else enough for two digits of the narrowest interval's error."""
    stated = _find(table, figure.encoding["y"]).decimals
    if stated is not None:
        return stated
    half = (marks.number("high") - marks.number("low")) / 4
    return decimals_for(float(error) for error in half[np.isfinite(half)])


def _heading(figure: Figure, table: Table) -> str:
    """Name the printed numbers; the level is said where the headings of both limits state the same one."""
    levels = {
        tuple(re.findall(r"(\d+(?:\.\d+)?)\s*%", _find(table, figure.encoding[role]).heading))
        for role in ("low", "high")
    }
    level = next(iter(levels)) if len(levels) == 1 else ()
    return f"Estimate ({level[0]}% CI)" if len(level) == 1 else "Estimate (interval)"


def _find(table: Table, name: str) -> Column:
    return next(column for column in table.columns if column.name == name)


def _write_rows(canvas: Canvas, rows: Sequence[_Row], printed: Sequence[str], top: float) -> dict[int, float]:
    """Write words and numbers; return the height at which each row of the table is drawn."""
    at = {}
    for row in rows:
        baseline = top - SMALL - _ROW_GAP / 2
        for line, words in enumerate(row.lines):
            indent = 0.0 if row.place is None else _INDENT
            canvas.text(EDGE + indent, baseline - line * LINE, words, bold=row.place is None)
        if row.place is not None:
            canvas.text(WIDTH - EDGE, baseline, printed[row.place], align="right")
            at[row.place] = baseline + SMALL * HALF_HEIGHT
        top -= row.height
    return at


def _draw_rows(
    canvas: Canvas,
    marks: Marks,
    rows: Sequence[_Row],
    at: dict[int, float],
    box: tuple[float, float, float, float],
    scale: Scale,
    null_on: tuple[float, bool],
) -> None:
    """Draw the line of no effect, then each interval with its marker."""
    _, bottom, _, high = box
    axes = canvas.axes(box, scale, Scale("", bottom, bottom + high, ()))
    axes.spines["left"].set_visible(False)
    null, log = null_on
    reference_line(axes, math.log(null) if log else null, vertical=True)
    value, lower, upper = (np.log(v) if log else v for v in (marks.number(role) for role in ("y", "low", "high")))
    for row in rows:
        if row.place is None or not math.isfinite(value[row.place]):
            continue
        place, y = row.place, at[row.place]
        if math.isfinite(lower[place]) and math.isfinite(upper[place]):
            axes.hlines(y, lower[place], upper[place], color=row.look.colour, linewidth=1.3, gid="mark-interval")
        axes.plot(
            value[place],
            y,
            marker=row.look.marker,
            markersize=5.0,
            color=row.look.colour,
            markeredgewidth=0,
            linestyle="none",
            gid="mark-point",
            zorder=3,
        )


def _write_axis(
    canvas: Canvas, scale: Scale, box: tuple[float, float, float, float], label_lines: Sequence[str]
) -> None:
    left, bottom, wide, _ = box
    for tick, words in zip(scale.ticks, scale.words or aligned(scale.ticks), strict=True):
        x = left + (tick - scale.low) / (scale.high - scale.low) * wide
        canvas.text(x, bottom - 5 - SMALL, words, align="center", colour=MUTED)
    middle = left + wide / 2
    half = max(width(words, SIZE) for words in label_lines) / 2
    middle = min(max(middle, EDGE + half), WIDTH - EDGE - half)
    for line, words in enumerate(label_lines):
        baseline = bottom - 5 - LINE - 4 - SIZE - line * SIZE * LEADING
        canvas.text(middle, baseline, words, size=SIZE, align="center", colour=INK)
