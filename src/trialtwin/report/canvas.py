"""A drawing surface measured in points: words, lines, axes without words, and legends that flow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import Affine2D

from trialtwin.report.scales import Scale
from trialtwin.report.theme import DASHED, INK, MUTED, PAPER, RULE, Style
from trialtwin.report.typesetting import FAMILY, LEADING, width, wrap

WIDTH = 518.0
EDGE = 4.0
SIZE = 8.5
SMALL = 7.5
LINE = SMALL * LEADING
HALF_HEIGHT = 0.36
_KEY = 18.0

type Sample = Literal["point", "interval", "band", "line", "bar"]
type Dash = Literal["-"] | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class Key:
    """One entry of a legend: its words and the sample beside them."""

    label: str
    sample: Sample
    style: Style | None = None
    colour: str = INK
    alpha: float = 1.0
    dash: Dash = "-"


class Canvas:
    """A figure of fixed width on which positions are points from the lower left corner."""

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH / 72, height / 72))
        self.figure.patch.set_visible(False)
        self._points = Affine2D().scale(1 / 72) + self.figure.dpi_scale_trans

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = SMALL,
        align: Literal["left", "center", "right"] = "left",
        colour: str = INK,
        bold: bool = False,
        rotation: float = 0.0,
    ) -> None:
        """Write one line with its baseline at y (or, turned, at x).

        Lines are written one by one because only single lines keep their alignment in an SVG.
        """
        self.figure.text(
            x,
            y,
            words,
            transform=self._points,
            fontsize=size,
            horizontalalignment=align,
            verticalalignment="baseline",
            color=colour,
            fontweight="bold" if bold else "normal",
            rotation=rotation,
            rotation_mode="anchor",
            family=FAMILY,
            parse_math=False,
            usetex=False,
        )

    def line(
        self,
        x: Sequence[float],
        y: Sequence[float],
        *,
        colour: str = MUTED,
        weight: float = 0.6,
        marker: str = "None",
        dash: Dash = "-",
    ) -> None:
        """Draw a line, or with weight 0 a marker alone."""
        self.figure.add_artist(
            Line2D(
                x,
                y,
                transform=self._points,
                color=colour,
                linewidth=weight,
                linestyle=dash if weight else "none",
                marker=marker,
                markersize=4.6,
                markeredgewidth=0,
            )
        )

    def patch(self, x: float, y: float, wide: float, high: float, key: Key) -> None:
        """Draw the sample of a band or a bar."""
        self.figure.add_artist(
            Rectangle(
                (x, y),
                wide,
                high,
                transform=self._points,
                facecolor=key.colour,
                alpha=key.alpha,
                linewidth=0,
                edgecolor=PAPER,
                hatch=key.style.hatch if key.style else "",
            )
        )

    def axes(self, box: tuple[float, float, float, float], x: Scale, y: Scale) -> Axes:
        """Return axes in a box (left, bottom, width, height), with ticks but no words: the layout places those."""
        left, bottom, wide, high = box
        axes = self.figure.add_axes((left / WIDTH, bottom / self.height, wide / WIDTH, high / self.height))
        axes.set_xlim(x.low, x.high)
        axes.set_ylim(y.low, y.high)
        axes.patch.set_visible(False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set(color=MUTED, linewidth=0.6)
        axes.set_xticks(x.ticks, labels=[""] * len(x.ticks))
        axes.set_yticks(y.ticks, labels=[""] * len(y.ticks))
        axes.tick_params(length=0 if x.words else 3, width=0.6, color=MUTED, axis="x")
        axes.tick_params(length=0, axis="y")
        axes.grid(visible=True, axis="y", color=RULE, linewidth=0.5)
        axes.set_axisbelow(True)
        return axes

    def legend(self, keys: Sequence[Key], top: float) -> None:
        """Draw a legend that flows from left to right, its first row under ``top``."""
        for key, x, row, lines in _flow(keys):
            y = top - (row + 1) * (LINE + 2) + 3
            self._sample(key, x, y)
            for place, words in enumerate(lines):
                self.text(x + _KEY + 4, y - place * LINE, words)

    def _sample(self, key: Key, x: float, y: float) -> None:
        """Draw what a legend entry stands for."""
        middle, centre = y + SMALL * HALF_HEIGHT, x + _KEY / 2
        if key.sample in ("band", "bar"):
            self.patch(x, y - 0.5, _KEY, SMALL - 0.5, key)
            return
        if key.sample == "line":
            self.line((x, x + _KEY), (middle, middle), colour=key.colour, weight=1.2, dash=key.dash)
            return
        if key.sample == "interval":
            self.line((centre, centre), (middle - 5, middle + 5), colour=key.colour, weight=1.2)
        self.line((centre,), (middle,), colour=key.colour, weight=0.0, marker=key.style.marker if key.style else "o")


def legend_height(keys: Sequence[Key]) -> float:
    """Return the height in points that a legend needs, with the space under it."""
    if not keys:
        return 0.0
    return max(row + len(lines) for _, _, row, lines in _flow(keys)) * (LINE + 2) + 6


def reference_line(axes: Axes, at: float, *, vertical: bool = False) -> None:
    """Draw a dashed line across a panel."""
    draw = axes.axvline if vertical else axes.axhline
    draw(at, color=INK, linewidth=0.9, linestyle=DASHED, zorder=1.5, gid="mark-reference")


def _flow(keys: Sequence[Key]) -> list[tuple[Key, float, int, tuple[str, ...]]]:
    """Place legend entries: each with its x, the row of its first line, and its lines."""
    placed = []
    x, row, tall = EDGE, 0, 1
    for key in keys:
        lines = wrap(key.label, WIDTH - 2 * EDGE - _KEY - 4, SMALL)
        wide = _KEY + 4 + max(width(words, SMALL) for words in lines)
        if x > EDGE and x + wide > WIDTH - EDGE:
            x, row, tall = EDGE, row + tall, 1
        placed.append((key, x, row, lines))
        tall = max(tall, len(lines))
        x += wide + 16
    return placed
