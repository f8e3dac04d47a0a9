"""Fan charts: a band of prediction for each patient, and what was observed."""

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes

from trialtwin.core.finding import Figure
from trialtwin.report.canvas import Canvas, Key, reference_line
from trialtwin.report.layout import small_multiples
from trialtwin.report.roles import Marks
from trialtwin.report.scales import categorical, continuous, visits
from trialtwin.report.theme import BLUE, INK

_OUTER = 0.18
_INNER = 0.32


def draw_fan(figure: Figure, marks: Marks) -> Canvas:
    """Draw one panel a patient: 90 % band, 50 % band, median and observed values over time."""
    titles = marks.distinct("panel")
    columns = _columns(len(titles))
    bands = [marks.number(role) for role in ("low", "high", "inner_low", "inner_high", "median", "observed")]
    include = () if figure.reference is None else (figure.reference,)
    y = continuous(figure.y_label, bands, include=include)
    x = visits(figure.x_label, marks.x, most=5 if columns > 1 else 9)
    if marks.categories:
        x = categorical(figure.x_label, marks.categories)
    height = 190.0 if columns == 1 else 112.0
    canvas, panels = small_multiples(titles, x, y, _keys(marks), columns=columns, height=height)
    for title, axes in zip(titles, panels, strict=True):
        if figure.reference is not None:
            reference_line(axes, figure.reference)
        _draw_patient(axes, marks, title)
    return canvas


def _columns(panels: int) -> int:
    """Choose three or four patients a row, whichever leaves fewer places empty."""
    if panels <= 6:
        return min(panels, 3)
    return 3 if -panels % 3 < -panels % 4 else 4


def _keys(marks: Marks) -> list[Key]:
    keys = [Key("90% prediction interval", "band", colour=BLUE, alpha=_OUTER)]
    if marks.has("inner_low"):
        keys.append(Key("50% prediction interval", "band", colour=BLUE, alpha=_OUTER + _INNER))
    if marks.has("median"):
        keys.append(Key("Predicted median", "line", colour=BLUE))
    if marks.has("observed"):
        keys.append(Key("Observed", "point", colour=INK))
    return keys


def _draw_patient(axes: Axes, marks: Marks, title: str) -> None:
    chosen = np.flatnonzero(marks.rows(panel=title) & np.isfinite(marks.x))
    order = chosen[np.argsort(marks.x[chosen], kind="stable")]
    x = marks.x[order]
    _band(axes, x, marks.number("low")[order], marks.number("high")[order], _OUTER, "outer")
    _band(axes, x, marks.number("inner_low")[order], marks.number("inner_high")[order], _INNER, "inner")
    median, seen = marks.number("median")[order], marks.number("observed")[order]
    axes.plot(x, median, color=BLUE, linewidth=1.2, gid="mark-median")
    single = _alone(np.isfinite(median))
    axes.plot(x[single], median[single], linestyle="none", marker="_", color=BLUE, markersize=6, gid="mark-median")
    axes.plot(
        x,
        seen,
        linestyle="none",
        marker="o",
        markersize=3.6,
        color=INK,
        markeredgewidth=0,
        gid="mark-observed",
        clip_on=False,
        zorder=3,
    )


def _band(
    axes: Axes,
    x: Float[np.ndarray, " row"],
    low: Float[np.ndarray, " row"],
    high: Float[np.ndarray, " row"],
    alpha: float,
    name: str,
) -> None:
    """Fill between two limits; where a row stands alone between gaps, a thick line stands for its band."""
    known = np.isfinite(low) & np.isfinite(high)
    alone = _alone(known)
    if (known & ~alone).any():
        axes.fill_between(x, low, high, where=known & ~alone, color=BLUE, alpha=alpha, linewidth=0, gid=f"mark-{name}")
    if alone.any():
        axes.vlines(x[alone], low[alone], high[alone], color=BLUE, alpha=alpha, linewidth=5, gid=f"mark-{name}")


def _alone(known: Bool[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
    """Tell which points have no neighbour, so that no line and no area would show them."""
    return known & ~np.append(False, known[:-1]) & ~np.append(known[1:], False)
