"""Sample size of a trial with two arms and one log-rank analysis: events, accrual duration or accrual rate.

Survival and dropout are exponential, accrual is uniform. ``alpha`` is two-sided; ``ratio`` is treated : control;
hazards are events a patient and unit of time, and all times share that unit.
"""

from dataclasses import dataclass
from math import exp, log, sqrt

from scipy.optimize import brentq

from trialtwin.core.errors import ConfigError, ConvergenceError
from trialtwin.stats.samplesize import quantiles, require_positive

_LONGEST = 1e6


@dataclass(frozen=True)
class SurvivalSize:
    """A trial's size over time, unrounded.

    ``total`` patients enter at ``accrual_rate`` over ``accrual``; the analysis is at ``duration`` with ``events``
    expected under the planned hazard ratio (``control_events`` + ``treated_events``).
    """

    total: float
    events: float
    control_events: float
    treated_events: float
    accrual_rate: float
    accrual: float
    duration: float


def schoenfeld_events(
    hazard_ratio: float, *, null: float = 1.0, ratio: float = 1.0, alpha: float = 0.05, power: float = 0.9
) -> float:
    """Return the events that a log-rank test needs: d = (z₁₋α/₂ + z_power)² (1 + r)² / (r log²(HR / HR₀)).

    Source: Schoenfeld (1981), doi:10.1093/biomet/68.1.316.

    Raises
    ------
    ConfigError
        If the hazard ratio equals the null value, or a parameter is out of range.

    Examples
    --------
    >>> round(schoenfeld_events(0.7), 2)
    330.38
    """
    effect = _log_ratio(hazard_ratio, null)
    require_positive(ratio=ratio)
    return sum(quantiles(alpha, power)) ** 2 * (1 + ratio) ** 2 / (ratio * effect**2)


def expected_events(*, hazard: float, dropout: float, rate: float, accrual: float, duration: float) -> float:
    """Return the events expected by the end in one arm.

    d = γ λ/(λ + η) [R − (e^{−(λ+η)(T−R)} − e^{−(λ+η)T}) / (λ + η)] with hazard λ, dropout η, γ patients a unit of time
    over the accrual R, and the analysis at T.

    Raises
    ------
    ConfigError
        If the hazard is not above 0, another number is below it, or accrual outlasts the study.

    Examples
    --------
    >>> round(expected_events(hazard=0.1, dropout=0.0, rate=10.0, accrual=10.0, duration=20.0), 3)
    76.746
    """
    require_positive(hazard=hazard)
    if not (min(dropout, rate, accrual) >= 0 and accrual <= duration < float("inf")):
        raise ConfigError(
            f"dropout {dropout:g}, rate {rate:g}, accrual {accrual:g} and duration {duration:g}",
            do="give numbers of 0 or more, and a study at least as long as accrual",
        )
    leaving = hazard + dropout
    at_risk = (exp(-leaving * (duration - accrual)) - exp(-leaving * duration)) / leaving
    return rate * hazard / leaving * (accrual - at_risk)


def size_survival_rate(
    control_hazard: float,
    hazard_ratio: float,
    *,
    accrual: float,
    duration: float,
    dropout: float = 0.0,
    null: float = 1.0,
    ratio: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.9,
) -> SurvivalSize:
    """Size a log-rank test by Lachin and Foulkes: the accrual rate for a given accrual and study duration.

    The rate solves z₁₋α/₂ √(1/d₀₀ + 1/d₀₁) + z_power √(1/d₁₀ + 1/d₁₁) = |log(HR / HR₀)|, with the events d expected in
    each arm under the null (the first index 0: common hazard (λ₀ + r λ₁)/(1 + r HR₀), treated HR₀ times it) and under
    the plan (doi:10.2307/2531201). Events are proportional to the rate, so that it is in closed form.

    Raises
    ------
    ConfigError
        If a parameter is out of range, or accrual outlasts the study.

    Examples
    --------
    >>> plan = size_survival_rate(log(2) / 9, 0.65, accrual=20.0, duration=36.0, dropout=0.005)
    >>> round(plan.accrual_rate, 4), round(plan.total, 2)
    (15.0619, 301.24)
    """
    require_positive(accrual=accrual, duration=duration)
    if accrual > duration:
        raise ConfigError(f"accrual of {accrual:g} outlasts the study of {duration:g}")
    plan = _Plan(control_hazard, hazard_ratio, null, dropout, ratio, *quantiles(alpha, power))
    # Needed deviation scales with rate^(−1/2).
    return plan.size((plan.needed(1.0, accrual, duration) / plan.effect) ** 2, accrual, duration)


def size_survival_accrual(
    control_hazard: float,
    hazard_ratio: float,
    *,
    accrual_rate: float,
    follow_up: float,
    dropout: float = 0.0,
    null: float = 1.0,
    ratio: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.9,
) -> SurvivalSize:
    """Size a log-rank test by Lachin and Foulkes: the accrual duration for a given rate and minimum follow-up.

    The equation is that of ``size_survival_rate``, solved for the duration of accrual.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    ConvergenceError
        If no duration below 10⁶ units of time is enough.

    Examples
    --------
    >>> plan = size_survival_accrual(log(2) / 12, 0.7, accrual_rate=10.0, follow_up=12.0, dropout=0.01)
    >>> round(plan.accrual, 3), round(plan.events, 2)
    (47.834, 329.31)
    """
    require_positive(accrual_rate=accrual_rate)
    if follow_up < 0:
        raise ConfigError(f"follow_up is {follow_up:g}", do="give a minimum follow-up of zero or more")
    plan = _Plan(control_hazard, hazard_ratio, null, dropout, ratio, *quantiles(alpha, power))

    def excess(accrual: float) -> float:
        return plan.needed(accrual_rate, accrual, accrual + follow_up) - plan.effect

    low = high = 1.0
    while excess(low) < 0:
        low /= 2
    while excess(high) > 0:
        high *= 2
        if high > _LONGEST:
            raise ConvergenceError(
                f"no accrual below {_LONGEST:g} units of time gives enough events", do="raise the accrual rate"
            )
    accrual = float(brentq(excess, low, high, xtol=1e-12, rtol=1e-14)) if low < high else high
    return plan.size(accrual_rate, accrual, accrual + follow_up)


@dataclass(frozen=True)
class _Plan:
    """What does not change while a size is sought."""

    control_hazard: float
    hazard_ratio: float
    null: float
    dropout: float
    ratio: float
    z_alpha: float
    z_power: float

    def __post_init__(self) -> None:
        require_positive(control_hazard=self.control_hazard, ratio=self.ratio)
        _log_ratio(self.hazard_ratio, self.null)
        if self.dropout < 0:
            raise ConfigError(f"dropout is {self.dropout:g}", do="give a hazard of dropout of zero or more")

    @property
    def effect(self) -> float:
        """|log(HR / HR₀)|."""
        return abs(_log_ratio(self.hazard_ratio, self.null))

    def needed(self, rate: float, accrual: float, duration: float) -> float:
        """Return the log hazard ratio that this much accrual can detect."""
        planned = (self.control_hazard, self.control_hazard * self.hazard_ratio)
        common = (planned[0] + self.ratio * planned[1]) / (1 + self.ratio * self.null)
        under_null = self.events(common, common * self.null, rate, accrual, duration)
        under_plan = self.events(*planned, rate, accrual, duration)
        return self.z_alpha * sqrt(sum(1 / d for d in under_null)) + self.z_power * sqrt(sum(1 / d for d in under_plan))

    def events(
        self, control: float, treated: float, rate: float, accrual: float, duration: float
    ) -> tuple[float, float]:
        """Return the events expected in the control and the treated arm for a pair of hazards."""
        arms = ((control, rate / (1 + self.ratio)), (treated, rate * self.ratio / (1 + self.ratio)))
        first, second = (
            expected_events(hazard=hazard, dropout=self.dropout, rate=share, accrual=accrual, duration=duration)
            for hazard, share in arms
        )
        return first, second

    def size(self, rate: float, accrual: float, duration: float) -> SurvivalSize:
        """Put the solution together."""
        control, treated = self.events(
            self.control_hazard, self.control_hazard * self.hazard_ratio, rate, accrual, duration
        )
        return SurvivalSize(rate * accrual, control + treated, control, treated, rate, accrual, duration)


def _log_ratio(hazard_ratio: float, null: float) -> float:
    """Return log(HR / HR₀), or refuse a plan that equals the null."""
    require_positive(hazard_ratio=hazard_ratio, null=null)
    if hazard_ratio == null:
        raise ConfigError(f"the planned hazard ratio {hazard_ratio:g} equals the null value", do="plan one beyond it")
    return log(hazard_ratio / null)
