"""Small multiples laid out with space reserved for every word: legend, titles, ticks and labels."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from trialtwin.report.canvas import EDGE, HALF_HEIGHT, LINE, SIZE, SMALL, WIDTH, Canvas, Key, legend_height
from trialtwin.report.scales import Scale, Ticks, tick_labels
from trialtwin.report.theme import MUTED
from trialtwin.report.typesetting import LEADING, balanced, width, wrap

_GAP = 12.0
_LABEL = SIZE * LEADING
_LARGEST_SQUARE = 230.0


@dataclass(frozen=True)
class _Grid:
    """Where everything goes, in points."""

    left: float
    columns: int
    rows: int
    wide: float
    high: float
    gap: float
    title: float
    legend: float
    total: float

    def box(self, place: int) -> tuple[float, float, float, float]:
        """Return left, bottom, width and height of a panel."""
        row, column = divmod(place, self.columns)
        top = self.total - EDGE - self.legend - row * (self.title + self.high + _GAP)
        return self.left + column * (self.wide + self.gap), top - self.title - self.high, self.wide, self.high

    @property
    def body(self) -> float:
        """Height of all rows of panels."""
        return self.rows * (self.title + self.high) + (self.rows - 1) * _GAP

    @property
    def across(self) -> float:
        """Width of a row of panels."""
        return self.columns * (self.wide + self.gap) - self.gap


def small_multiples(
    titles: Sequence[str], x: Scale, y: Scale, keys: Sequence[Key], *, columns: int, height: float, square: bool = False
) -> tuple[Canvas, list[Axes]]:
    """Lay out panels that share both scales, and write every word around them.

    Parameters
    ----------
    titles
        One a panel; a single panel may have an empty title.
    x, y
        The scales, with their labels.
    keys
        Entries of the legend.
    columns
        Most panels side by side; fewer where the words on x would not fit.
    height
        Of one panel, points.
    square
        Whether panels are as high as they are wide.
    """
    y_ticks = tick_labels(y)
    y_lines = balanced(y.label, -(-len(titles) // columns) * height, SIZE)
    left = EDGE + len(y_lines) * _LABEL + 10 + max((width(words, SMALL) for words in y_ticks.single), default=0.0)
    gap, right = _room_between(x, (WIDTH - left) / max(min(columns, len(titles)), 1))
    columns, wide, x_ticks = _columns(len(titles), columns, WIDTH - left - right, gap, x)
    if square:
        height = wide = min(wide, _LARGEST_SQUARE)
    wrapped = [wrap(title, wide, SMALL, bold=True) if title else () for title in titles]
    x_lines = balanced(x.label, WIDTH - left, SIZE)
    grid = _Grid(
        left=left,
        columns=columns,
        rows=-(-len(titles) // columns),
        wide=wide,
        high=height,
        gap=gap,
        title=max(map(len, wrapped)) * LINE + (4 if any(wrapped) else 0),
        legend=legend_height(keys),
        total=0.0,
    )
    below = x_ticks.height + len(x_lines) * _LABEL + 6 + EDGE
    grid = _Grid(**(vars(grid) | {"total": EDGE + grid.legend + grid.body + below}))
    canvas = Canvas(grid.total)
    canvas.legend(keys, grid.total - EDGE)
    panels = []
    for place, lines in enumerate(wrapped):
        box = grid.box(place)
        for line, words in enumerate(lines):
            canvas.text(box[0], box[1] + box[3] + grid.title - SMALL - line * LINE, words, bold=True)
        panels.append(canvas.axes(box, x, y))
        if place % columns == 0:
            _write_y(canvas, y_ticks, y, box)
        if place + columns >= len(titles):
            _write_x(canvas, x_ticks, x, box)
    _write_labels(canvas, grid, x_lines, y_lines)
    return canvas, panels


def _room_between(x: Scale, wide: float) -> tuple[float, float]:
    """Return the space between panels and at the right edge, so that numbers at the ends of x stand free."""
    if x.words:
        return _GAP, EDGE
    ticks = tick_labels(x).single
    spread = wide * 0.8 / (x.high - x.low)
    before = max((width(t, SMALL) / 2 - (at - x.low) * spread for at, t in zip(x.ticks, ticks, strict=True)), default=0)
    after = max((width(t, SMALL) / 2 - (x.high - at) * spread for at, t in zip(x.ticks, ticks, strict=True)), default=0)
    return max(_GAP, max(before, 0) + max(after, 0) + 6), EDGE + max(after, 0)


def _columns(panels: int, most: int, available: float, gap: float, x: Scale) -> tuple[int, float, Ticks]:
    """Choose the number of columns: the most at which the words on x fit level, else the most with turned words."""
    most = max(min(most, panels), 1)
    for columns in range(most, 0, -1):
        wide = (available - (columns - 1) * gap) / columns
        ticks = tick_labels(x, wide)
        if not ticks.turned:
            return columns, wide, ticks
    wide = (available - (most - 1) * gap) / most
    return most, wide, tick_labels(x, wide)


def _write_x(canvas: Canvas, ticks: Ticks, x: Scale, box: tuple[float, float, float, float]) -> None:
    """Write the words at the ticks of x under a panel."""
    left, bottom, wide, _ = box
    for at, lines in zip(x.ticks, ticks.lines, strict=True):
        middle = left + (at - x.low) / (x.high - x.low) * wide
        for line, words in enumerate(lines):
            if ticks.turned:
                beside = middle + SMALL * HALF_HEIGHT + (line - (len(lines) - 1) / 2) * LINE
                canvas.text(beside, bottom - 5, words, align="right", rotation=90.0, colour=MUTED)
            else:
                canvas.text(middle, bottom - 5 - SMALL - line * LINE, words, align="center", colour=MUTED)


def _write_y(canvas: Canvas, ticks: Ticks, y: Scale, box: tuple[float, float, float, float]) -> None:
    """Write the numbers at the ticks of y beside a panel."""
    left, bottom, _, high = box
    for at, words in zip(y.ticks, ticks.single, strict=True):
        baseline = bottom + (at - y.low) / (y.high - y.low) * high - SMALL * HALF_HEIGHT
        canvas.text(left - 4, baseline, words, align="right", colour=MUTED)


def _write_labels(canvas: Canvas, grid: _Grid, x_lines: Sequence[str], y_lines: Sequence[str]) -> None:
    """Write the labels of both axes, once for all panels."""
    half = max(width(words, SIZE) for words in x_lines) / 2
    middle = min(max(grid.left + grid.across / 2, EDGE + half), WIDTH - EDGE - half)
    for line, words in enumerate(x_lines):
        canvas.text(middle, EDGE + 2 + (len(x_lines) - 1 - line) * _LABEL, words, size=SIZE, align="center")
    centre = grid.total - EDGE - grid.legend - grid.body / 2
    for line, words in enumerate(y_lines):
        canvas.text(EDGE + SMALL + line * _LABEL, centre, words, size=SIZE, align="center", rotation=90.0)
