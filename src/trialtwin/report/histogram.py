"""Histograms whose bars stand against the range that is expected, such as of PIT values."""

import numpy as np

from trialtwin.core.finding import Figure
from trialtwin.report.canvas import Canvas, Key, reference_line
from trialtwin.report.layout import small_multiples
from trialtwin.report.numbers import general
from trialtwin.report.roles import Marks
from trialtwin.report.scales import continuous
from trialtwin.report.theme import BLUE, DASHED, MUTED

_BAND = 0.25
_SLIM = 0.62


def draw_histogram(figure: Figure, marks: Marks) -> Canvas:
    """Draw bars at the midpoints x, one panel a twin, slim enough to show the expected range behind them."""
    titles = marks.distinct("panel")
    centres = np.unique(marks.x[np.isfinite(marks.x)])
    bin_width = float(np.diff(centres).min()) if len(centres) > 1 else 1.0
    include = (0.0,) if figure.reference is None else (0.0, figure.reference)
    y = continuous(figure.y_label, [marks.number("y"), marks.number("high")], include=include, floor=0.0)
    edges = np.append(centres - bin_width / 2, centres + bin_width / 2)
    x = continuous(figure.x_label, [edges], room=0.0)
    keys = [Key("Observed", "bar", colour=BLUE)]
    if marks.has("low"):
        keys.append(Key("Expected range", "band", colour=MUTED, alpha=_BAND))
    if figure.reference is not None:
        keys.append(Key(f"Expected ({general(figure.reference)})", "line", dash=DASHED))
    columns = min(len(titles), 3)
    canvas, panels = small_multiples(titles, x, y, keys, columns=columns, height=190.0 if columns == 1 else 130.0)
    for title, axes in zip(titles, panels, strict=True):
        rows = np.flatnonzero(marks.rows(panel=title) & np.isfinite(marks.x))
        low, high = marks.number("low"), marks.number("high")
        bands = rows[np.isfinite(low[rows]) & np.isfinite(high[rows])]
        axes.bar(
            marks.x[bands],
            (high - low)[bands],
            bottom=low[bands],
            width=bin_width,
            color=MUTED,
            alpha=_BAND,
            linewidth=0,
            gid="mark-expected",
        )
        bars = rows[np.isfinite(marks.number("y")[rows])]
        share = _SLIM if len(bands) else 0.94
        axes.bar(
            marks.x[bars], marks.number("y")[bars], width=bin_width * share, color=BLUE, linewidth=0, gid="mark-bar"
        )
        if figure.reference is not None:
            reference_line(axes, figure.reference)
    return canvas
