r"""The savings certificate: what a prognostic score saves a trial planned with it, and what happens if it fails.

With σ the standard deviation left by the other covariates (inflated by ι), ρ the score's correlation with the outcome
given them (deflated by λ), the trial without the score needs n(ισ) patients by the two-sample t test and the trial
with it n(ισ√(1 − λ²ρ²)). Where all is saved in the control arm, the treated arm stays as it would be without the score
and the control arm is the smallest that has the power. Should the score tell nothing, the smaller trial has the power
of the t test at ισ, and the fall-back is the size without it. Patients are enrolled so that enough are left after
dropout. ``alpha`` is two-sided; ``ratio`` is treated : control. Source: Schuler A et al. (2022),
doi:10.1515/ijb-2021-0072.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy.optimize import brentq

from trialtwin.core.errors import ConfigError
from trialtwin.stats.samplesize import Size, power_t, require_positive, require_probability, size_t
from trialtwin.stats.samplesize_prognostic import deflated_sd


@dataclass(frozen=True)
class Enrolled:
    """Whole patients to enrol in each arm.

    Examples
    --------
    >>> Enrolled(100, 200).total
    300
    """

    control: int
    treated: int

    @property
    def total(self) -> int:
        """Patients in both arms."""
        return self.control + self.treated


@dataclass(frozen=True)
class Savings:
    """What a score saves, in whole patients to enrol, and what is left if it fails.

    ``without`` and ``with_score`` have one allocation; ``control_spared`` keeps the treated arm of ``without`` and
    saves in the control arm only. ``months`` are those of accrual saved by ``with_score``, ``None`` where accrual is
    not known. ``power_if_useless`` is that of ``with_score`` should the score tell nothing, ``least_correlation`` the
    correlation (as achieved, not deflated) that leaves it ``tolerated`` power: 0 where it has that without the score.
    """

    planned_correlation: float
    sd: float
    without: Enrolled
    with_score: Enrolled
    control_spared: Enrolled
    months: float | None
    power_if_useless: float
    least_correlation: float
    tolerated: float

    @property
    def saved(self) -> int:
        """Patients saved in all, at the same allocation."""
        return self.without.total - self.with_score.total

    @property
    def saved_controls(self) -> int:
        """Control patients saved, at the same allocation."""
        return self.without.control - self.with_score.control

    @property
    def spared_controls(self) -> int:
        """Control patients saved, where the treated arm is left as it is."""
        return self.without.control - self.control_spared.control


def savings(
    effect: float,
    sd: float,
    correlation: float,
    *,
    deflation: float = 0.9,
    inflation: float = 1.05,
    ratio: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.9,
    dropout: tuple[float, float] = (0.0, 0.0),
    accrual: float | None = None,
    tolerated: float = 0.8,
) -> Savings:
    """Return what a score of a given correlation saves a trial, and the fall-back if it fails.

    ``effect`` is treated − control; ``sd`` and ``correlation`` (of score and outcome) are within arms, given the
    covariates that are adjusted for anyway, and multiplied by ``inflation`` and ``deflation``: caution in carrying them
    over. ``dropout`` is the share not measured of control and treated patients, ``accrual`` patients a month,
    ``tolerated`` the power that the trial should have even where the score disappoints.

    Raises
    ------
    ConfigError
        If a parameter is out of range, or the tolerated power is above the planned one.

    Examples
    --------
    >>> found = savings(2.0, 6.0, 0.5, accrual=10.0)
    >>> found.without.total, found.with_score.total, found.saved, round(found.months, 1)
    (420, 336, 84, 8.4)
    >>> found.control_spared.control, round(found.power_if_useless, 3)
    (140, 0.827)
    """
    _require(ratio, power, tolerated, dropout, accrual)
    wide = deflated_sd(sd, 0.0, inflation=inflation)
    left = deflated_sd(sd, correlation, deflation=deflation, inflation=inflation)
    plain, small = (size_t(effect, s, ratio=ratio, alpha=alpha, power=power) for s in (wide, left))
    spared = Size(_least_control(effect, left, plain, alpha, power), plain.treated)
    reached = Size(*map(float, small.whole))
    without, with_score, control_spared = (_enrolled(size, dropout) for size in (plain, small, spared))
    return Savings(
        planned_correlation=deflation * correlation,
        sd=wide,
        without=without,
        with_score=with_score,
        control_spared=control_spared,
        months=None if accrual is None else (without.total - with_score.total) / accrual,
        power_if_useless=power_t(reached, effect, wide, alpha=alpha),
        least_correlation=_least_correlation(effect, wide, reached, alpha, tolerated),
        tolerated=tolerated,
    )


def _require(ratio: float, power: float, tolerated: float, dropout: tuple[float, float], accrual: float | None) -> None:
    """Refuse what the sizes themselves do not look at."""
    require_positive(ratio=ratio)
    require_probability(tolerated=tolerated, power=power)
    if tolerated > power:
        raise ConfigError(
            f"the tolerated power {tolerated:g} is above the planned power {power:g}",
            do="give one that is at most that",
        )
    for arm, share in zip(("control", "treated"), dropout, strict=True):
        if not 0 <= share < 1:
            raise ConfigError(f"dropout of the {arm} arm is {share:g}", do="give a share from 0 to below 1")
    if accrual is not None:
        require_positive(accrual=accrual)


def _least_control(effect: float, sd: float, plain: Size, alpha: float, power: float) -> float:
    """Return the smallest control arm beside an unchanged treated arm that has the power."""

    def excess(control: float) -> float:
        return power_t(Size(control, plain.treated), effect, sd, alpha=alpha) - power

    if excess(plain.control) <= 0:  # the score saves nothing
        return plain.control
    low = min(2.0, plain.control / 2)
    return low if excess(low) >= 0 else float(brentq(excess, low, plain.control, xtol=1e-9))


def _least_correlation(effect: float, sd: float, size: Size, alpha: float, tolerated: float) -> float:
    """Return the correlation at which a trial of a size has the tolerated power."""

    def excess(rho: float) -> float:
        return power_t(size, effect, sd * float(np.sqrt(1 - rho**2)), alpha=alpha) - tolerated

    return 0.0 if excess(0.0) >= 0 else float(brentq(excess, 0.0, 1 - 1e-9, xtol=1e-9))


def _enrolled(size: Size, dropout: tuple[float, float]) -> Enrolled:
    """Return the patients to enrol so that a size is left after dropout."""
    whole = (ceil(n / (1 - share) - 1e-9) for n, share in zip(size.whole, dropout, strict=True))
    return Enrolled(*whole)
