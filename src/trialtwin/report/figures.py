"""Draw a finding's figure from its table, as an inline SVG that reads well in light, dark and grey."""

import warnings
from typing import Any

import matplotlib as mpl

from trialtwin.core.errors import DataError
from trialtwin.core.finding import Figure, Table
from trialtwin.report.bars import draw_bars
from trialtwin.report.canvas import Canvas
from trialtwin.report.dots import draw_interval
from trialtwin.report.fan import draw_fan
from trialtwin.report.forest import draw_forest
from trialtwin.report.histogram import draw_histogram
from trialtwin.report.roles import drawable, read
from trialtwin.report.scatter import draw_scatter
from trialtwin.report.survival import draw_survival
from trialtwin.report.svg import inline_svg
from trialtwin.report.typesetting import printable

MOST_PANELS = 48
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trialtwin",
    "text.parse_math": False,
    "text.usetex": False,
    "axes.unicode_minus": True,
    "hatch.linewidth": 0.8,
    "path.simplify": False,
    "figure.dpi": 72,
    "savefig.dpi": 72,
}
_PAINTERS = {
    "fan": draw_fan,
    "histogram": draw_histogram,
    "interval": draw_interval,
    "scatter": draw_scatter,
    "bars": draw_bars,
    "survival": draw_survival,
}


def draw(figure: Figure, table: Table, *, prefix: str = "fig-") -> str:
    """Draw a figure from its table and return an ``<svg>`` element for an HTML page.

    ==========  =====================================================================================
    kind        roles (required; then optional)
    ==========  =====================================================================================
    fan         x, low, high (90 %); median, inner_low, inner_high (50 %), observed, panel
    histogram   x (midpoint), y; low, high (expected range), panel
    interval    x, y; low, high, reference (each row's nominal value), group, panel
    scatter     x, y; group, panel
    bars        x, y; group, panel
    forest      label, y, low, high; group
    survival    x, y (share without the event); low, high, group, at_risk (rows that have it make a table)
    ==========  =====================================================================================

    x may be words (visits, arms) except in a histogram and a scatter. A missing cell is a gap. The same figure,
    table and prefix give the same bytes; matplotlib's settings are as they were afterwards.

    Parameters
    ----------
    figure
        Kind, roles, labels and words for those who cannot see it.
    table
        The numbers.
    prefix
        Beginning of every id in the drawing; give each figure of a page its own.

    Raises
    ------
    MismatchError
        If a role or a column does not exist, or one that the kind needs is not given.
    DataError
        If a cell that must be a number is none, there is nothing to draw, or there are too many panels to read.

    Examples
    --------
    >>> from trialtwin.core.finding import Column
    >>> table = Table(columns=[Column(name="arm"), Column(name="n")], rows=[["Placebo", 86], ["High", 84]])
    >>> figure = Figure(kind="bars", encoding={"x": "arm", "y": "n"}, x_label="Arm", y_label="Patients", alt="Patients")
    >>> draw(figure, table).startswith('<svg viewBox="0 0 518')
    True
    """
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        return inline_svg(compose(figure, table).figure, prefix=prefix, alt=printable(figure.alt))


def compose(figure: Figure, table: Table) -> Canvas:
    """Lay a figure out without writing it; see `draw` for the roles and the errors."""
    figure = figure.model_copy(update={"x_label": printable(figure.x_label), "y_label": printable(figure.y_label)})
    marks = read(figure, table)
    panels = len(marks.distinct("panel"))
    if panels > MOST_PANELS:
        raise DataError(
            f"a {figure.kind} figure of {panels} panels is too large to read",
            do=f"choose at most {MOST_PANELS} for the figure's table",
        )
    if not drawable(figure, table):
        raise DataError(f"nothing to draw: no row of the table has a complete mark of a {figure.kind} figure")
    if figure.kind == "forest":
        return draw_forest(figure, marks, table)
    return _PAINTERS[figure.kind](figure, marks)
