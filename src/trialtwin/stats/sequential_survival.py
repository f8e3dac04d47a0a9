r"""Group-sequential log-rank tests: patients, events, calendar times of the looks, and hazard ratios at the boundaries.

A fixed design needs n patients by Lachin and Foulkes (``samplesize_survival``), the sequential one as many times the
inflation factor of its boundaries. Look k is when the events expected under the plan reach t_k of the final ones, and
with d_k events, r treated : control, the boundary z_k lies at

    HR_k = HR₀ exp(∓ z_k (1 + r) / √(r d_k)).

Sources: Lachin JM, Foulkes MA (1986), doi:10.2307/2531201; Schoenfeld D (1981), doi:10.1093/biomet/68.1.316; gsDesign's
gsSurv, whose numbers it gives.
"""

from dataclasses import dataclass
from math import log

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import ndtri

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import ConfigError
from trialtwin.stats.samplesize import require_positive
from trialtwin.stats.samplesize_survival import expected_events
from trialtwin.stats.sequential import SequentialDesign


@dataclass(frozen=True, eq=False)
class SequentialSurvival:
    """A group-sequential trial over time, unrounded; immutable.

    Parameters
    ----------
    times : shape (look,)
        Calendar times of the looks, from the first patient.
    patients, control_events, treated_events : shape (look,)
        Enrolled, and expected under the planned hazard ratio, by each look.
    enrolled_rate : shape (step,)
        Patients per unit of time in each step of enrolment.
    ratio_at_upper, ratio_at_lower : shape (look,)
        Hazard ratios at which Z meets the boundaries; infinite (or 0, where harm is a ratio below) without one.
    """

    times: Float[np.ndarray, " look"]
    patients: Float[np.ndarray, " look"]
    control_events: Float[np.ndarray, " look"]
    treated_events: Float[np.ndarray, " look"]
    enrolled_rate: Float[np.ndarray, " step"]
    ratio_at_upper: Float[np.ndarray, " look"]
    ratio_at_lower: Float[np.ndarray, " look"]

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def events(self) -> Float[np.ndarray, " look"]:
        """Events by each look, both arms together."""
        return self.control_events + self.treated_events

    @property
    def total(self) -> float:
        """All patients."""
        return float(self.patients[-1])


def sequential_survival(
    plan: SequentialDesign,
    control_hazard: float,
    hazard_ratio: float,
    *,
    enrolled_for: Float[np.ndarray, " step"],
    enrolled_rate: Float[np.ndarray, " step"],
    duration: float,
    dropout: float = 0.0,
    null: float = 1.0,
    ratio: float = 1.0,
) -> SequentialSurvival:
    """Size a group-sequential log-rank test and say when its looks are: enrolment rates are scaled, times are kept.

    Parameters
    ----------
    plan
        Boundaries, with fractions of the final events as information.
    control_hazard, dropout
        Hazards of the event in the control arm and of dropout in both, per unit of time.
    hazard_ratio, null
        Treated to control: planned, and under the null hypothesis.
    enrolled_for, enrolled_rate : shape (step,)
        Lengths of the steps of enrolment, and their rates relative to each other.
    duration, ratio
        Time of the last look; patients treated : control.

    Raises
    ------
    ConfigError
        If a parameter is out of range, the planned ratio is the null one, or enrolment outlasts the trial.

    Examples
    --------
    >>> from trialtwin.stats.sequential import sequential_design
    >>> from trialtwin.stats.sequential_spending import Boundary
    >>> plan = sequential_design(np.array([0.5, 1.0]), Boundary("O'Brien-Fleming spending"))
    >>> trial = sequential_survival(
    ...     plan, log(2) / 12, 0.7, enrolled_for=np.array([18.0]), enrolled_rate=np.array([1.0]), duration=36.0)
    >>> trial.events.round(1), trial.times.round(1), round(trial.total, 1)
    (array([165.3, 330.5]), array([18.8, 36. ]), 460.0)
    """
    _require(control_hazard, hazard_ratio, null, dropout, ratio, enrolled_for, enrolled_rate, duration)
    shape = _Enrolment(enrolled_for, enrolled_rate, dropout, ratio)
    planned = (control_hazard, control_hazard * hazard_ratio)
    effect, final = log(hazard_ratio / null), float(shape.events(duration, *planned).sum())
    scale = shape.scale(plan, duration, planned, null) / effect**2
    times = [shape.reaches(float(f * final), duration, planned) for f in plan.fraction]
    events = scale * np.stack([shape.events(t, *planned) for t in times])
    away = (1 + ratio) / np.sqrt(ratio * events.sum(axis=1)) * np.sign(effect)
    return SequentialSurvival(
        np.array(times),
        scale * np.array([shape.patients(t) for t in times]),
        events[:, 0],
        events[:, 1],
        scale * enrolled_rate,
        null * np.exp(away * plan.upper),
        null * np.exp(away * plan.lower),
    )


@dataclass(frozen=True, eq=False)
class _Enrolment:
    """Steps of enrolment, dropout, and the ratio of arms."""

    lengths: Float[np.ndarray, " step"]
    rates: Float[np.ndarray, " step"]
    dropout: float
    ratio: float

    def _open(self, time: float) -> list[tuple[float, float, float]]:
        """Return start, length and rate of the steps that have begun."""
        starts = np.cumsum(self.lengths) - self.lengths
        steps = zip(starts.tolist(), self.lengths.tolist(), self.rates.tolist(), strict=True)
        return [(start, min(length, time - start), rate) for start, length, rate in steps if start < time]

    def patients(self, time: float) -> float:
        """Return the patients enrolled by a time."""
        return sum(length * rate for _, length, rate in self._open(time))

    def events(self, time: float, control: float, treated: float) -> Float[np.ndarray, "2"]:
        """Return the events expected by a time in the control and the treated arm."""
        shares = (1 / (1 + self.ratio), self.ratio / (1 + self.ratio))
        found = [
            sum(
                expected_events(
                    hazard=hazard, dropout=self.dropout, rate=share * rate, accrual=length, duration=time - start
                )
                for start, length, rate in self._open(time)
            )
            for hazard, share in zip((control, treated), shares, strict=True)
        ]
        return np.array(found, dtype=float)

    def scale(self, plan: SequentialDesign, time: float, planned: tuple[float, float], null: float) -> float:
        """Return by how much rates grow to detect a log hazard ratio of 1 at a time, after Lachin and Foulkes."""
        common = (planned[0] + self.ratio * planned[1]) / (1 + self.ratio * null)
        under_null, under_plan = self.events(time, common, common * null), self.events(time, *planned)
        error = ndtri(1 - plan.alpha) * np.sqrt((1 / under_null).sum())
        error += ndtri(plan.power) * np.sqrt((1 / under_plan).sum())
        return float(error**2 * plan.inflation)

    def reaches(self, events: float, latest: float, hazards: tuple[float, float]) -> float:
        """Return when a number of events is expected that is reached by the latest time."""

        def missing(time: float) -> float:
            return float(self.events(time, *hazards).sum()) - events

        return latest if missing(latest) <= 0 else float(brentq(missing, 0.0, latest, xtol=1e-12 * latest))


def _require(
    control_hazard: float,
    hazard_ratio: float,
    null: float,
    dropout: float,
    ratio: float,
    enrolled_for: np.ndarray,
    enrolled_rate: np.ndarray,
    duration: float,
) -> None:
    """Refuse a trial that cannot be."""
    require_positive(
        control_hazard=control_hazard, hazard_ratio=hazard_ratio, null=null, ratio=ratio, duration=duration
    )
    if hazard_ratio == null:
        raise ConfigError(f"the planned hazard ratio {hazard_ratio:g} equals the null value", do="plan one beyond it")
    if not 0 <= dropout < np.inf:
        raise ConfigError(f"dropout is {dropout:g}", do="give a hazard of dropout of zero or more")
    if not len(enrolled_for) == len(enrolled_rate) > 0:
        raise ConfigError("steps of enrolment differ in length", do="give one rate for each step")
    steps = np.concatenate([enrolled_for, enrolled_rate])
    if not (np.isfinite(steps).all() and (enrolled_for > 0).all() and (enrolled_rate >= 0).all() and enrolled_rate[0]):
        raise ConfigError("a step of enrolment without length, or a rate below 0", do="give lengths and rates above 0")
    if enrolled_for.sum() > duration * (1 + 1e-12):
        raise ConfigError(f"enrolment of {enrolled_for.sum():g} outlasts the trial of {duration:g}")
