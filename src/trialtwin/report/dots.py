"""Dots with intervals over visits, side by side by group: coverage, missingness, means."""

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes

from trialtwin.core.finding import Figure
from trialtwin.report.canvas import Canvas, Key, Sample, reference_line
from trialtwin.report.layout import small_multiples
from trialtwin.report.numbers import general
from trialtwin.report.roles import Marks
from trialtwin.report.scales import categorical, continuous, visits
from trialtwin.report.theme import DASHED, INK, ONLY, Style, style

_NOMINAL_HALF = 0.07


def draw_interval(figure: Figure, marks: Marks) -> Canvas:
    """Draw y with its interval at each x, groups side by side, one panel each where there are panels.

    The role ``reference`` draws a short line at each row's own nominal value;
    ``Figure.reference`` one line across.
    """
    titles, groups = marks.distinct("panel"), marks.distinct("group")
    include = () if figure.reference is None else (figure.reference,)
    y = continuous(figure.y_label, [marks.number(role) for role in ("y", "low", "high", "reference")], include=include)
    columns = min(len(titles), 2)
    apart = min(0.16, 0.7 / len(groups)) * _step(marks) if _meet(marks) else 0.0
    x = visits(figure.x_label, marks.x, most=10 if columns == 1 else 6, beyond=apart * (len(groups) - 1) / 2)
    if marks.categories:
        x = categorical(figure.x_label, marks.categories)
    height = 190.0 if columns == 1 else 150.0
    canvas, panels = small_multiples(titles, x, y, _keys(figure, marks), columns=columns, height=height)
    for title, axes in zip(titles, panels, strict=True):
        if figure.reference is not None:
            reference_line(axes, figure.reference)
        for place, group in enumerate(groups):
            rows = np.flatnonzero(marks.rows(panel=title, group=group) & np.isfinite(marks.x))
            shift = (place - (len(groups) - 1) / 2) * apart
            _draw_group(axes, marks, rows, shift, style(place) if marks.has("group") else ONLY)
    return canvas


def _meet(marks: Marks) -> bool:
    """Tell whether two groups share a place on x in a panel, so that they must stand beside each other."""
    panels = marks.words.get("panel", ("",) * marks.length)
    groups = marks.words.get("group", ("",) * marks.length)
    pairs = {(panel, float(x), group) for panel, x, group in zip(panels, marks.x, groups, strict=True)}
    return len(pairs) > len({(panel, x) for panel, x, _ in pairs})


def _step(marks: Marks) -> float:
    """Return the distance between neighbouring places on x."""
    distinct = np.unique(marks.x[np.isfinite(marks.x)])
    return float(np.diff(distinct).min()) if len(distinct) > 1 else 1.0


def _draw_group(axes: Axes, marks: Marks, rows: Int[np.ndarray, " chosen"], shift: float, look: Style) -> None:
    """Draw one group's intervals, dots and nominal values."""
    x = marks.x[rows] + shift
    low, high, nominal = marks.number("low")[rows], marks.number("high")[rows], marks.number("reference")[rows]
    stated = np.isfinite(nominal)
    if stated.any():
        half = _step(marks) * _NOMINAL_HALF
        axes.hlines(
            nominal[stated],
            x[stated] - half,
            x[stated] + half,
            color=INK,
            linewidth=1.0,
            gid="mark-nominal",
            zorder=2.5,
        )
    whole = np.isfinite(low) & np.isfinite(high)
    if whole.any():
        axes.vlines(x[whole], low[whole], high[whole], color=look.colour, linewidth=1.3, gid="mark-interval")
    axes.plot(
        x,
        marks.number("y")[rows],
        linestyle="none",
        marker=look.marker,
        markersize=4.6,
        zorder=3,
        color=look.colour,
        markeredgewidth=0,
        gid="mark-point",
    )


def _keys(figure: Figure, marks: Marks) -> list[Key]:
    keys = []
    if marks.has("group"):
        sample: Sample = "interval" if marks.has("low") else "point"
        looks = [style(place) for place in range(len(marks.distinct("group")))]
        keys = [
            Key(group, sample, style=look, colour=look.colour)
            for group, look in zip(marks.distinct("group"), looks, strict=True)
        ]
    if marks.has("reference"):
        keys.append(Key("Nominal", "line"))
    if figure.reference is not None:
        keys.append(Key(f"Reference ({general(figure.reference)})", "line", dash=DASHED))
    return keys
