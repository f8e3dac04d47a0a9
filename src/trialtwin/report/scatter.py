"""Predicted against observed: points about the line of identity, the same limits on both axes."""

import numpy as np

from trialtwin.core.finding import Figure
from trialtwin.report.canvas import Canvas, Key, reference_line
from trialtwin.report.layout import small_multiples
from trialtwin.report.roles import Marks
from trialtwin.report.scales import Scale, continuous
from trialtwin.report.theme import MUTED, ONLY, PAPER, style


def draw_scatter(figure: Figure, marks: Marks) -> Canvas:
    """Draw y against x in square panels, one a twin, with the line of identity."""
    titles, groups = marks.distinct("panel"), marks.distinct("group")
    both = np.isfinite(marks.x) & np.isfinite(marks.number("y"))
    include = () if figure.reference is None else (figure.reference,)
    y = continuous(figure.y_label, [marks.x[both], marks.number("y")[both]], include=include)
    x = Scale(figure.x_label, y.low, y.high, y.ticks)
    keys = [Key("Identity line", "line", colour=MUTED)]
    if marks.has("group"):
        looks = [style(place) for place in range(len(groups))]
        keys = [Key(g, "point", style=look, colour=look.colour) for g, look in zip(groups, looks, strict=True)] + keys
    columns = min(len(titles), 3)
    canvas, panels = small_multiples(titles, x, y, keys, columns=columns, height=230.0, square=True)
    for title, axes in zip(titles, panels, strict=True):
        axes.axline((0.0, 0.0), slope=1.0, color=MUTED, linewidth=0.9, zorder=1.5, gid="mark-identity")
        if figure.reference is not None:
            reference_line(axes, figure.reference)
        for place, group in enumerate(groups):
            look = style(place) if marks.has("group") else ONLY
            rows = np.flatnonzero(marks.rows(panel=title, group=group) & both)
            axes.plot(
                marks.x[rows],
                marks.number("y")[rows],
                linestyle="none",
                marker=look.marker,
                markersize=4.0,
                color=look.colour,
                markeredgecolor=PAPER,
                markeredgewidth=0.4,
                gid="mark-point",
            )
    return canvas
