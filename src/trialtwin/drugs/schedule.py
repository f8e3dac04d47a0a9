"""Doses in time: phases of equal doses at equal intervals, one after another, as a regimen."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import ConfigError
from trialtwin.drugs.words import HOUR, MONTH

EPSILON = 1e-9
MOST = 100_000  # doses of a phase: one an hour for eleven years


@dataclass(frozen=True)
class Phase:
    """Equal doses at equal intervals, or a steady input.

    Parameters
    ----------
    amount
        A dose, in the regimen's unit (mg or U; per kg where ``per_kg``); for a steady input the amount per day.
    per_kg
        Whether amounts are per kg of body weight.
    unit
        ``"mg"`` or ``"U"``.
    duration
        Of each infusion, in days; 0 is a bolus. For a steady input its length, infinite without an end.
    interval
        Days from dose to dose; 0 for a single dose or a steady input.
    count
        Number of doses; ``None`` without an end.
    start
        Day of the first dose; ``None`` where it follows from the phase before.
    route
        How it is given; ``""`` for the drug's own route.
    steady
        Whether this is a steady input.
    """

    amount: float
    per_kg: bool = False
    unit: str = "mg"
    duration: float = 0.0
    interval: float = 0.0
    count: int | None = 1
    start: float | None = None
    route: str = ""
    steady: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.amount < math.inf:
            raise ConfigError(f"a dose of {self.amount:g} {self.unit}", do="give a finite amount above zero")
        if not (self.duration >= 0 and self.interval >= 0):
            raise ConfigError(f"durations of {self.duration:g} and {self.interval:g} days", do="give none below zero")
        if self.count is not None and self.count < 1:
            raise ConfigError(f"{self.count} doses", do="give at least one, or leave the phase out")
        if self.count is not None and self.count > MOST:
            raise ConfigError(f"{self.count} doses", do=f"give at most {MOST}, or no number where treatment has no end")
        if self.count != 1 and not self.interval > 0:
            raise ConfigError("repeated doses without an interval", do="say how often, such as q4w")
        if self.interval and self.duration > self.interval * (1 + EPSILON):
            raise ConfigError(
                f"an infusion of {_span(self.duration)} every {_span(self.interval)} never ends before the next one",
                do="shorten the infusion, or write a steady input such as 10 mg/day",
            )
        if self.start is not None and not 0 <= self.start < math.inf:
            raise ConfigError(f"a phase that starts on day {self.start:g}", do="start it on day 0 or later")

    @property
    def open(self) -> bool:
        """Whether the phase has no end."""
        return math.isinf(self.duration) if self.steady else self.count is None

    @property
    def length(self) -> float:
        """Days from its first dose to the time at which a next phase would start."""
        if self.steady:
            return self.duration
        return math.inf if self.count is None else self.count * self.interval

    def __str__(self) -> str:
        unit = self.unit + ("/kg" if self.per_kg else "") + ("/day" if self.steady else "")
        words = [_exact(self.amount), unit]
        words += [self.route] if self.route else []
        if self.steady:
            words += [] if self.open else ["for", _span(self.duration)]
        else:
            words += ["over", _span(self.duration)] if self.duration else []
            words += ["every", _span(self.interval)] if self.interval else []
            words += ["x", str(self.count)] if self.interval and self.count is not None else []
        words += [] if self.start is None else ["at", "day", _exact(self.start)]
        return " ".join(words)


@dataclass(frozen=True, eq=False)
class Schedule:
    """Doses in time, sorted: day, amount, duration of the infusion in days, and route (``""`` for the drug's own)."""

    time: Float[np.ndarray, " dose"]
    amount: Float[np.ndarray, " dose"]
    duration: Float[np.ndarray, " dose"]
    route: tuple[str, ...]


@dataclass(frozen=True)
class Regimen:
    """Phases one after another.

    Raises
    ------
    ConfigError
        If there is none, if units differ between phases, or if a phase without end is followed by another.

    Examples
    --------
    >>> start = Phase(700, duration=1 / 48, interval=28, count=3)
    >>> regimen = Regimen((start, Phase(1400, duration=1 / 48, interval=28, count=None)))
    >>> regimen.doses(until=140).time.tolist()
    [0.0, 28.0, 56.0, 84.0, 112.0]
    >>> print(regimen)
    700 mg over 30 min every 4 weeks x 3 then 1400 mg over 30 min every 4 weeks
    """

    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        if not self.phases:
            raise ConfigError("a regimen without doses", do="give at least one dose, or no treatment at all")
        kinds = {(phase.unit, phase.per_kg) for phase in self.phases}
        if len(kinds) > 1:
            raise ConfigError(
                "a regimen that mixes units",
                where=str(self),
                exists=sorted(unit + ("/kg" if per_kg else "") for unit, per_kg in kinds),
                do="write all its doses in the same unit, per kg or not",
            )
        for phase, following in pairwise(self.phases):
            if phase.open and following.start is None:
                raise ConfigError(
                    f"the phase '{phase}' has no end and another follows it",
                    where=str(self),
                    do="say how many doses with 'x 3', or for how long with 'for 12 weeks'",
                )

    @property
    def unit(self) -> str:
        """``"mg"`` or ``"U"``."""
        return self.phases[0].unit

    @property
    def per_kg(self) -> bool:
        """Whether amounts are per kg of body weight."""
        return self.phases[0].per_kg

    @property
    def open(self) -> bool:
        """Whether the last phase has no end."""
        return self.phases[-1].open

    @property
    def routes(self) -> tuple[str, ...]:
        """Routes in order of first use; ``""`` for the drug's own."""
        return tuple(dict.fromkeys(phase.route for phase in self.phases))

    def starts(self) -> tuple[float, ...]:
        """Return the day on which each phase starts."""
        found, day = [], 0.0
        for phase in self.phases:
            day = phase.start if phase.start is not None else day
            found.append(day)
            day += phase.length
        return tuple(found)

    def doses(self, until: float | None = None) -> Schedule:
        """Return every dose before a day; infusions that would go on after it are cut there.

        Parameters
        ----------
        until
            Day; needed where the regimen has no end.

        Raises
        ------
        ConfigError
            If the regimen has no end and no day is given.
        """
        if until is None and self.open:
            raise ConfigError(
                "this regimen has no end", where=str(self), do="give the day until which it is followed, or an end"
            )
        horizon = math.inf if until is None else float(until)
        starts = self.starts()
        # a phase without end stops where the next one starts
        ends = [*(s if p.open else math.inf for p, s in zip(self.phases, starts[1:], strict=False)), math.inf]
        rows = [
            row
            for phase, start, end in zip(self.phases, starts, ends, strict=True)
            for row in _expand(phase, start, min(end, horizon))
        ]
        rows.sort(key=lambda row: row[0])
        columns = np.array([row[:3] for row in rows], dtype=np.float64).reshape(len(rows), 3)
        return Schedule(columns[:, 0], columns[:, 1], columns[:, 2], tuple(row[3] for row in rows))

    def __str__(self) -> str:
        return " then ".join(str(phase) for phase in self.phases)


def _expand(phase: Phase, start: float, end: float) -> list[tuple[float, float, float, str]]:
    """Return time, amount, duration and route of each dose of a phase before a day."""
    if start >= end - EPSILON:
        return []
    if phase.steady:
        length = min(phase.duration, end - start)
        return [(start, phase.amount * length, length, phase.route)]
    most = math.inf if phase.count is None else phase.count
    if phase.interval and math.isfinite(end):
        most = min(most, math.ceil((end - start) / phase.interval - EPSILON))
    rows = []
    for i in range(int(most)):
        time = start + i * phase.interval
        duration = min(phase.duration, end - time)
        amount = phase.amount * (duration / phase.duration if phase.duration else 1.0)
        rows.append((time, amount, duration, phase.route))
    return rows


def _exact(value: float) -> str:
    """Write a number so that it can be read back as it is."""
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _span(days: float) -> str:
    """Write a duration in the largest unit in which it is a whole number, else in days."""
    for words, factor in (("weeks", 7.0), ("days", 1.0), ("months", MONTH), ("h", HOUR), ("min", 1 / 1440)):
        value = days / factor
        if value >= 1 - EPSILON and abs(value - round(value)) < EPSILON:
            return f"{round(value)} {words}"
    return f"{_exact(days)} days"
