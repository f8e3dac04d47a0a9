"""Bars from zero, groups side by side."""

from dataclasses import replace

import numpy as np

from trialtwin.core.finding import Figure
from trialtwin.report.canvas import Canvas, Key, reference_line
from trialtwin.report.layout import small_multiples
from trialtwin.report.numbers import general
from trialtwin.report.roles import Marks
from trialtwin.report.scales import categorical, continuous
from trialtwin.report.theme import DASHED, ONLY, PAPER, style


def draw_bars(figure: Figure, marks: Marks) -> Canvas:
    """Draw a bar a row, in a slot for each distinct x: words in the order of the table, numbers in theirs."""
    marks = _slots(marks)
    titles, groups = marks.distinct("panel"), marks.distinct("group")
    values = marks.number("y")
    include = (0.0,) if figure.reference is None else (0.0, figure.reference)
    floor = 0.0 if not (values < 0).any() and min(include) >= 0 else None
    y = continuous(figure.y_label, [values], include=include, floor=floor)
    x = categorical(figure.x_label, marks.categories)
    keys = []
    if marks.has("group"):
        looks = [style(place) for place in range(len(groups))]
        keys = [Key(g, "bar", style=look, colour=look.colour) for g, look in zip(groups, looks, strict=True)]
    if figure.reference is not None:
        keys.append(Key(f"Reference ({general(figure.reference)})", "line", dash=DASHED))
    columns = min(len(titles), 2)
    canvas, panels = small_multiples(titles, x, y, keys, columns=columns, height=190.0 if columns == 1 else 150.0)
    wide = (0.8 if len(groups) > 1 else 0.6) / len(groups)
    for title, axes in zip(titles, panels, strict=True):
        for place, group in enumerate(groups):
            look = style(place) if marks.has("group") else ONLY
            rows = np.flatnonzero(marks.rows(panel=title, group=group) & np.isfinite(marks.x) & np.isfinite(values))
            axes.bar(
                marks.x[rows] + (place - (len(groups) - 1) / 2) * wide,
                values[rows],
                width=wide * 0.94,
                color=look.colour,
                edgecolor=PAPER,
                linewidth=0,
                hatch=look.hatch,
                gid="mark-bar",
            )
        if figure.reference is not None:
            reference_line(axes, figure.reference)
    return canvas


def _slots(marks: Marks) -> Marks:
    """Turn numbers on x into slots in ascending order."""
    if marks.categories:
        return marks
    distinct = np.unique(marks.x[np.isfinite(marks.x)])
    places = np.searchsorted(distinct, marks.x).astype(float)
    return replace(
        marks,
        x=np.where(np.isfinite(marks.x), places, np.nan),
        categories=tuple(general(float(at)) for at in distinct),
    )
