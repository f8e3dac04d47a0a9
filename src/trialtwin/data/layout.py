"""Which variables of a trial's data sets play which role: arms, visits, outcomes, covariates, scale totals."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trialtwin.core.variables import Variable


@dataclass(frozen=True)
class Visit:
    """An analysis visit and its window, in study days as ADaM counts them: day 1 is the first dose, there is no day 0.

    ``low`` and ``high`` are inside the window; ``None`` leaves that side open.
    """

    name: str
    target: float
    low: float | None = None
    high: float | None = None

    @property
    def time(self) -> float:
        """Days since baseline at the target: study day 1 is time 0."""
        return elapsed(self.target)


@dataclass(frozen=True)
class Outcome:
    """An outcome over time: a parameter of a BDS data set, or a baseline value that stands in ADSL only.

    With ``paramcd`` empty, ``variable.name`` is a column of ADSL, measured at the first visit and never again.
    """

    variable: Variable
    dataset: str
    paramcd: str = ""


@dataclass(frozen=True)
class ScaleTotal:
    """A total score and its items: the total is the sum of items, prorated where few are missing.

    total = sum of answered items × (sum of all maxima) / (sum of maxima of answered items), missing where more than
    ``most_missing`` of the items are missing.
    """

    paramcd: str
    items: Mapping[str, float]
    most_missing: float = 0.3


@dataclass(frozen=True)
class Layout:
    """The roles. Visits are in order and the first one is baseline; the first arm is the control."""

    arm: str
    arms: tuple[str, ...]
    visits: tuple[Visit, ...]
    outcomes: tuple[Outcome, ...]
    covariates: tuple[Variable, ...] = ()
    record_flag: str = "ANL01FL"
    subject: str = "USUBJID"
    site: str = "SITEID"
    totals: tuple[ScaleTotal, ...] = ()
    terms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def elapsed(day: float) -> float:
    """Turn a study day (no day 0) into days since baseline: day 1 → 0, day 29 → 28, day −3 → −3."""
    return day - 1 if day >= 1 else day
