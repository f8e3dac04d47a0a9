"""Survival curves: steps with a band by group, and under them the number at risk at round times."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from trialtwin.core.finding import Figure
from trialtwin.report.canvas import EDGE, HALF_HEIGHT, LINE, SIZE, SMALL, WIDTH, Canvas, Dash, Key, legend_height
from trialtwin.report.roles import Marks
from trialtwin.report.scales import Scale, continuous, tick_labels
from trialtwin.report.theme import DASHED, INK, MUTED, ONLY, Style, style
from trialtwin.report.typesetting import LEADING, balanced, shorten, width

_HEIGHT = 200.0
_BAND = 0.16
_NAMES = 130.0
_DASHES: tuple[Dash, ...] = ("-", DASHED, (0.0, (1.0, 1.5)), (0.0, (6.0, 1.5, 1.0, 1.5)))


def draw_survival(figure: Figure, marks: Marks) -> Canvas:
    """Draw a step a group, from 1 at time 0; ``at_risk`` makes a table under the curves, a row a group."""
    groups = marks.distinct("group")
    looks = [style(place) if marks.has("group") else ONLY for place in range(len(groups))]
    x = _times(figure, marks)
    y = Scale(figure.y_label, 0.0, 1.02, (0.0, 0.25, 0.5, 0.75, 1.0))
    keys = [
        Key(group, "line", style=look, colour=look.colour, dash=_DASHES[place % len(_DASHES)])
        for place, (group, look) in enumerate(zip(groups, looks, strict=True))
        if marks.has("group")
    ]
    names = [shorten(group, _NAMES, SMALL) for group in groups] if marks.has("at_risk") else []
    y_words = tick_labels(y).single
    left = EDGE + SIZE * LEADING + 10 + max(width(words, SMALL) for words in y_words)
    if names:
        left = max(left, EDGE + max(width(words, SMALL) for words in (*names, "At risk")) + 22)
    right = EDGE + max(width(words, SMALL) for words in tick_labels(x).single) / 2
    table = (len(names) + 1) * (LINE + 1) + 8 if names else 0.0
    foot = 5 + LINE + 4 + SIZE * LEADING + EDGE + table
    canvas = Canvas(EDGE + legend_height(keys) + _HEIGHT + foot)
    canvas.legend(keys, canvas.height - EDGE)
    box = (left, foot, WIDTH - left - right, _HEIGHT)
    axes = canvas.axes(box, x, y)
    for place, (group, look) in enumerate(zip(groups, looks, strict=True)):
        _draw_group(axes, marks, group, look, _DASHES[place % len(_DASHES)])
    _write(canvas, x, y, box, (figure.x_label, figure.y_label))
    if names:
        _write_at_risk(canvas, marks, groups, names, x, box)
    return canvas


def _times(figure: Figure, marks: Marks) -> Scale:
    """Return the scale of time: from 0, with ticks where the number at risk is known."""
    known = np.unique(marks.x[np.isfinite(marks.number("at_risk")) & np.isfinite(marks.x)])
    scale = continuous(figure.x_label, [marks.x], include=(0.0,), most=8, floor=0.0, room=0.02)
    ticks = tuple(float(t) for t in known) if len(known) else scale.ticks
    return Scale(figure.x_label, 0.0, scale.high, ticks)


def _draw_group(axes: Axes, marks: Marks, group: str, look: Style, dash: Dash) -> None:
    rows = np.flatnonzero(marks.rows(group=group) & np.isfinite(marks.x) & np.isfinite(marks.number("y")))
    rows = rows[np.argsort(marks.x[rows], kind="stable")]
    t, s = marks.x[rows], marks.number("y")[rows]
    low, high = marks.number("low")[rows], marks.number("high")[rows]
    known = np.isfinite(low) & np.isfinite(high)
    if known.any():
        axes.fill_between(
            t,
            low,
            high,
            where=known,
            step="post",
            color=look.colour,
            alpha=_BAND,
            linewidth=0,
            gid="mark-interval",
        )
    start: Float[np.ndarray, " one"] = np.array([0.0])
    axes.step(
        np.concatenate([start, t]),
        np.concatenate([start + 1, s]),
        where="post",
        color=look.colour,
        linewidth=1.4,
        linestyle=dash,
        gid="mark-curve",
        zorder=3,
    )


def _write(canvas: Canvas, x: Scale, y: Scale, box: tuple[float, float, float, float], labels: tuple[str, str]) -> None:
    """Write ticks and labels of both axes."""
    left, bottom, wide, high = box
    for tick, words in zip(x.ticks, tick_labels(x).single, strict=True):
        at = left + (tick - x.low) / (x.high - x.low) * wide
        canvas.text(at, bottom - 5 - SMALL, words, align="center", colour=MUTED)
    for tick, words in zip(y.ticks, tick_labels(y).single, strict=True):
        at = bottom + (tick - y.low) / (y.high - y.low) * high
        canvas.text(left - 4, at - SMALL * HALF_HEIGHT, words, align="right", colour=MUTED)
    (x_line,) = balanced(labels[0], wide, SIZE)[:1]
    canvas.text(left + wide / 2, bottom - 5 - LINE - 4 - SIZE, x_line, size=SIZE, align="center")
    (y_line,) = balanced(labels[1], high, SIZE)[:1]
    beside = left - 10 - max(width(words, SMALL) for words in tick_labels(y).single)
    canvas.text(beside, bottom + high / 2, y_line, size=SIZE, align="center", rotation=90.0)


def _write_at_risk(
    canvas: Canvas,
    marks: Marks,
    groups: tuple[str, ...],
    names: list[str],
    x: Scale,
    box: tuple[float, float, float, float],
) -> None:
    """Write the number at risk of each group under its time."""
    left, _, wide, _ = box
    top = EDGE + (len(names) + 1) * (LINE + 1)
    canvas.text(EDGE, top - LINE, "At risk", bold=True)
    for row, (group, name) in enumerate(zip(groups, names, strict=True), start=1):
        baseline = top - LINE - row * (LINE + 1)
        canvas.text(EDGE, baseline, name, colour=INK)
        for place in np.flatnonzero(marks.rows(group=group) & np.isfinite(marks.number("at_risk"))):
            at = left + (marks.x[place] - x.low) / (x.high - x.low) * wide
            canvas.text(at, baseline, f"{marks.number('at_risk')[place]:.0f}", align="center")
