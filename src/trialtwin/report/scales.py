"""Scales of axes: limits, ticks and the words at the ticks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator

from trialtwin.report.numbers import aligned
from trialtwin.report.typesetting import LEADING, shorten, width, wrap

TICK_SIZE = 7.5
_LONGEST = 110.0


@dataclass(frozen=True)
class Scale:
    """One axis: its label, its limits, where its ticks are, and the words at them (none where ticks are numbers)."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ticks:
    """The words at ticks, broken into lines, with the height that they need; turned where they do not fit level."""

    lines: tuple[tuple[str, ...], ...]
    height: float
    turned: bool = False

    @property
    def single(self) -> tuple[str, ...]:
        """Each tick's words in one line."""
        return tuple(" ".join(lines) for lines in self.lines)


def continuous(
    label: str,
    values: Sequence[Float[np.ndarray, " value"]],
    *,
    include: Sequence[float] = (),
    most: int = 5,
    floor: float | None = None,
    room: float = 0.05,
) -> Scale:
    """Return a scale that holds all finite values, with a little room, and at most so many ticks.

    ``floor`` fixes the lower limit, as bars that stand on zero need.

    Examples
    --------
    >>> continuous("Change (points)", [np.array([-4.0, 11.0])]).ticks
    (-4.0, 0.0, 4.0, 8.0)
    """
    parts = [part[np.isfinite(part)] for part in values] + [np.asarray(include, dtype=float)]
    every = np.concatenate(parts)
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    if low == high:
        low, high = low - (abs(low) * 0.5 or 1.0), high + (abs(high) * 0.5 or 1.0)
    margin = (high - low) * room
    low, high = (low - margin if floor is None else min(floor, low)), high + margin
    found = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 4, 5, 10]).tick_values(low, high)
    slack = (high - low) * 1e-9
    ticks = tuple(float(tick) for tick in found if low - slack <= tick <= high + slack)
    return Scale(label, low, high, ticks)


def categorical(label: str, names: Sequence[str]) -> Scale:
    """Return a scale with a slot for each name, centred on 0, 1, 2 and so on.

    Examples
    --------
    >>> categorical("Visit", ["Week 8", "Week 16"]).high
    1.5
    """
    return Scale(label, -0.5, max(len(names), 1) - 0.5, tuple(float(i) for i in range(len(names))), tuple(names))


def visits(label: str, x: Float[np.ndarray, " row"], *, most: int, beyond: float = 0.0) -> Scale:
    """Return a scale for times: ticks at the times themselves where they are few and evenly readable, else round ones.

    ``beyond`` makes room on both sides for marks that stand beside their time.

    Examples
    --------
    >>> visits("Day", np.array([0.0, 56.0, 112.0, 168.0, 56.0]), most=5).ticks
    (0.0, 56.0, 112.0, 168.0)
    >>> visits("Correlation", np.array([0.3, 0.3]), most=5, beyond=0.1).ticks
    (0.3,)
    """
    scale = continuous(label, [x - beyond, x + beyond], most=most)
    distinct = np.unique(x[np.isfinite(x)])
    if not 1 <= len(distinct) <= most:
        return scale
    nearest = float(np.diff(distinct).min()) / (scale.high - scale.low) if len(distinct) > 1 else 1.0
    if nearest < 0.8 / most:
        return scale
    return Scale(label, scale.low, scale.high, tuple(float(at) for at in distinct))


def tick_labels(scale: Scale, length: float = math.inf) -> Ticks:
    """Return the words at a scale's ticks; words of categories are wrapped into their slots, or turned.

    Turned words that need more room than their slot has are shortened: the table has them in full.
    """
    one_line = TICK_SIZE * LEADING
    if not scale.words:
        return Ticks(tuple((text,) for text in aligned(scale.ticks)), 5 + one_line + 2)
    slot = length / len(scale.words)
    widest = max(width(word, TICK_SIZE) for name in scale.words for word in (name.split() or [""]))
    if widest <= slot - 5:
        lines = tuple(wrap(name, slot - 5, TICK_SIZE) for name in scale.words)
        return Ticks(lines, 5 + max(map(len, lines)) * one_line + 2)
    every = max(1, math.ceil(one_line / slot))
    most = max(1, math.floor(slot / one_line))
    turned = tuple(_turned(name, most) if place % every == 0 else ("",) for place, name in enumerate(scale.words))
    return Ticks(turned, 8 + max(width(line, TICK_SIZE) for lines in turned for line in lines), turned=True)


def _turned(name: str, most: int) -> tuple[str, ...]:
    """Break turned words into as many lines as stand side by side, and shorten what is left over."""
    lines = wrap(name, _LONGEST, TICK_SIZE)
    if len(lines) <= most:
        return lines
    return (*lines[: most - 1], shorten(" ".join(lines[most - 1 :]), _LONGEST, TICK_SIZE))
