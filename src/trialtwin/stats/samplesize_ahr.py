r"""Average hazard ratio of a trial whose hazards are not proportional, and the size of a log-rank test by it.

Hazards are constant within periods since enrolment. With λ_ak the hazard of arm a in period k, η the hazard of
dropout, S_a the chance to be without event and dropout, and N_a(x) the patients enrolled by calendar time x, the
events of arm a and period k by calendar time T are

    d_ak = ∫_k λ_ak S_a(t) N_a(T − t) dt,      log AHR = Σ_k log(HR_k) (d_0k + d_1k) / Σ_k (d_0k + d_1k)

The information is Σ_k 1 / (1/d_0k + 1/d_1k), under the null hypothesis p (1 − p) Σ d, p the share treated.

A test with Fleming–Harrington weights w = S̄^ρ (1 − S̄)^γ, S̄ the survival of both arms together, r_a = p_a S_a N(T − t)
at risk and π = r_1 / (r_0 + r_1), has by its limits

    Δ = ∫ w π (1 − π) (r_0 + r_1) (λ_1 − λ_0),      V_j = ∫ w^j π (1 − π) (r_0 λ_0 + r_1 λ_1),

average hazard ratio exp(Δ / V_1), effect −Δ / V_2 and information V_2;
under the null hypothesis both arms have the hazard p_0 λ_0 + p_1 λ_1.

Sources: Mukhopadhyay P and others (2022), doi:10.1080/19466315.2021.1874507; Yung G, Liu Y (2020),
doi:10.1111/biom.13196; gsDesign2, whose numbers it gives.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from trialtwin.core.errors import ConfigError

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


@dataclass(frozen=True)
class AverageHazardRatio:
    """What is expected at a calendar time: patients, events, the ratio, and information under both hypotheses."""

    time: float
    value: float
    patients: float
    events: float
    information: float
    information_null: float

    def sized(self, *, alpha: float = 0.025, power: float = 0.9) -> "AverageHazardRatio":
        """Return the same trial, enrolled faster or slower, with the power asked for at a one-sided level.

        Raises
        ------
        ConfigError
            If alpha or power is not as 0 < alpha < power < 1, or the ratio is not below 1.
        """
        if not 0 < alpha < power < 1:
            raise ConfigError(f"alpha {alpha:g} and power {power:g}", do="give 0 < alpha < power < 1")
        if not self.value < 1:
            raise ConfigError(f"an average hazard ratio of {self.value:g} shows no benefit", do="give ratios below 1")
        spread = np.sqrt(self.information / self.information_null)
        needed = ((ndtri(1 - alpha) * spread + ndtri(power)) / np.log(self.value)) ** 2
        scale = float(needed / self.information)
        return replace(
            self,
            patients=self.patients * scale,
            events=self.events * scale,
            information=self.information * scale,
            information_null=self.information_null * scale,
        )


def average_hazard_ratio(
    time: float,
    *,
    enrolled_for: Float[np.ndarray, " step"],
    enrolled_rate: Float[np.ndarray, " step"],
    starts: Float[np.ndarray, " period"],
    hazard: Float[np.ndarray, " period"],
    ratio: Float[np.ndarray, " period"],
    dropout: float = 0.0,
    treated: float = 0.5,
) -> AverageHazardRatio:
    """Return the average hazard ratio that is expected at a calendar time.

    Parameters
    ----------
    time
        Time since the first patient was enrolled.
    enrolled_for, enrolled_rate : shape (step,)
        Lengths of the steps of enrolment, and patients per unit of time in each, both arms together.
    starts, hazard, ratio : shape (period,)
        Time since enrolment at which a period starts (the first 0), hazard of the control arm, hazard ratio.
    dropout
        Hazard of dropout in both arms.
    treated
        Share of patients in the treated arm.

    Raises
    ------
    ConfigError
        If lengths differ, periods do not start at 0 and grow, or a number is out of its range.

    Examples
    --------
    >>> found = average_hazard_ratio(
    ...     24.0, enrolled_for=np.array([12.0]), enrolled_rate=np.array([20.0]), starts=np.array([0.0, 3.0]),
    ...     hazard=np.log(2) / np.array([10.0, 10.0]), ratio=np.array([0.95, 0.65]), dropout=0.005)
    >>> round(found.value, 4), round(found.events, 1)
    (0.7269, 148.4)
    """
    _require(time, enrolled_for, enrolled_rate, starts, hazard, ratio, dropout, treated)
    steps = np.concatenate([[0.0], np.cumsum(enrolled_for)])
    enrolled = np.concatenate([[0.0], np.cumsum(enrolled_for * enrolled_rate)])
    periods = np.stack([hazard, hazard * ratio])
    shares = np.array([1 - treated, treated])[:, None]
    events = shares * _events(time, steps, enrolled, starts, periods, dropout)
    seen = events[:, events.sum(axis=0) > 0]
    total = float(events.sum())
    return AverageHazardRatio(
        time=time,
        value=float(np.exp(np.log(ratio) @ events.sum(axis=0) / total)),
        patients=float(np.interp(time, steps, enrolled)),
        events=total,
        information=float((seen[0] * seen[1] / seen.sum(axis=0)).sum()),
        information_null=treated * (1 - treated) * total,
    )


@dataclass(frozen=True)
class WeightedHazardRatio:
    """What is expected at a calendar time of a weighted log-rank test; ``effect`` is in units of ``information``."""

    time: float
    value: float
    patients: float
    events: float
    effect: float
    information: float
    information_null: float

    def sized(self, *, alpha: float = 0.025, power: float = 0.9) -> "WeightedHazardRatio":
        """Return the same trial, enrolled faster or slower, with the power asked for at a one-sided level.

        Raises
        ------
        ConfigError
            If alpha or power is not as 0 < alpha < power < 1, or there is no benefit.
        """
        if not 0 < alpha < power < 1:
            raise ConfigError(f"alpha {alpha:g} and power {power:g}", do="give 0 < alpha < power < 1")
        if not self.effect > 0:
            raise ConfigError(f"an average hazard ratio of {self.value:g} shows no benefit", do="give ratios below 1")
        needed = ndtri(1 - alpha) / np.sqrt(self.information_null) + ndtri(power) / np.sqrt(self.information)
        scale = float((needed / self.effect) ** 2)
        return replace(
            self,
            patients=self.patients * scale,
            events=self.events * scale,
            information=self.information * scale,
            information_null=self.information_null * scale,
        )


def weighted_hazard_ratio(
    time: float,
    *,
    rho: float,
    gamma: float,
    enrolled_for: Float[np.ndarray, " step"],
    enrolled_rate: Float[np.ndarray, " step"],
    starts: Float[np.ndarray, " period"],
    hazard: Float[np.ndarray, " period"],
    ratio: Float[np.ndarray, " period"],
    dropout: float = 0.0,
    treated: float = 0.5,
) -> WeightedHazardRatio:
    """Return what a log-rank test with Fleming–Harrington weights is expected to see at a calendar time.

    Parameters
    ----------
    rho, gamma
        Exponents: early events count more with ρ, late ones with γ.
    time, enrolled_for, enrolled_rate, starts, hazard, ratio, dropout, treated
        As for ``average_hazard_ratio``.

    Raises
    ------
    ConfigError
        As for ``average_hazard_ratio``, and if an exponent is negative.

    Examples
    --------
    >>> found = weighted_hazard_ratio(
    ...     36.0, rho=0.0, gamma=0.5, enrolled_for=np.array([12.0]), enrolled_rate=np.array([20.0]),
    ...     starts=np.array([0.0, 3.0]), hazard=np.log(2) / np.array([10.0, 10.0]), ratio=np.array([0.95, 0.65]),
    ...     dropout=0.005)
    >>> round(found.value, 4), round(found.sized().patients, 1)
    (0.6756, 394.3)
    """
    _require(time, enrolled_for, enrolled_rate, starts, hazard, ratio, dropout, treated)
    if min(rho, gamma) < 0:
        raise ConfigError(f"Fleming–Harrington weights with ρ = {rho:g}, γ = {gamma:g}", do="give 0 or more")
    steps = np.concatenate([[0.0], np.cumsum(enrolled_for)])
    enrolled = np.concatenate([[0.0], np.cumsum(enrolled_for * enrolled_rate)])
    t, dt = _grid(time, steps, starts)
    period = np.searchsorted(starts, t, side="right") - 1
    shares, stay = np.array([1 - treated, treated]), np.exp(-dropout * t) * np.interp(time - t, steps, enrolled)
    real = np.stack([hazard, hazard * ratio])
    planned, alike = (
        _Course.of(t - starts[period], period, np.diff(starts), hazards, shares, stay, (rho, gamma))
        for hazards in (real, np.tile(shares @ real, (2, 1)))
    )
    shift = float(dt @ (planned.weight * planned.spread * planned.at_risk * (real[1] - real[0])[period]))
    information = float(dt @ (planned.weight**2 * planned.spread * planned.events))
    return WeightedHazardRatio(
        time=time,
        value=float(np.exp(shift / (dt @ (planned.weight * planned.spread * planned.events)))),
        patients=float(np.interp(time, steps, enrolled)),
        events=float(dt @ planned.events),
        effect=-shift / information,
        information=information,
        information_null=float(dt @ (alike.weight**2 * alike.spread * alike.events)),
    )


class _Course(NamedTuple):
    """At the nodes of follow-up: weights, π (1 − π), numbers at risk, and events per unit of time."""

    weight: Float[np.ndarray, " node"]
    spread: Float[np.ndarray, " node"]
    at_risk: Float[np.ndarray, " node"]
    events: Float[np.ndarray, " node"]

    @classmethod
    def of(
        cls,
        into: Float[np.ndarray, " node"],
        period: Int[np.ndarray, " node"],
        lengths: Float[np.ndarray, " inner"],
        hazards: Float[np.ndarray, "2 period"],
        shares: Float[np.ndarray, "2"],
        stay: Float[np.ndarray, " node"],
        exponents: tuple[float, float],
    ) -> "_Course":
        """Follow both arms; ``into`` is the time since the period of a node began, ``stay`` enrolled and not lost."""
        gone = np.concatenate([np.zeros((2, 1)), np.cumsum(lengths * hazards[:, :-1], axis=1)], axis=1)
        alive = np.exp(-(gone[:, period] + hazards[:, period] * into))
        at_risk = shares[:, None] * alive * stay
        # Where nobody is at risk the share does not matter.
        share = at_risk[1] / np.maximum(at_risk.sum(axis=0), np.finfo(float).tiny)
        pooled = shares @ alive
        return cls(
            pooled ** exponents[0] * (1 - pooled) ** exponents[1],
            share * (1 - share),
            at_risk.sum(axis=0),
            (at_risk * hazards[:, period]).sum(axis=0),
        )


def _grid(
    time: float, steps: Float[np.ndarray, " edge"], starts: Float[np.ndarray, " period"]
) -> tuple[Float[np.ndarray, " node"], Float[np.ndarray, " node"]]:
    """Return nodes and weights of an integral over follow-up; dense at 0, where (1 − S̄)^γ has no derivative."""
    edges = np.unique(np.clip(np.concatenate([starts, time - steps, [0.0, time]]), 0.0, time))
    half = np.diff(edges)[:, None] / 2
    t, dt = edges[:-1, None] + half * (1 + _NODES), half * _WEIGHTS
    x = (1 + _NODES) / 2
    t[0], dt[0] = edges[1] * x**4, edges[1] * 2 * x**3 * _WEIGHTS
    return t.ravel(), dt.ravel()


def _events(
    time: float,
    steps: Float[np.ndarray, " edge"],
    enrolled: Float[np.ndarray, " edge"],
    starts: Float[np.ndarray, " period"],
    hazards: Float[np.ndarray, "2 period"],
    dropout: float,
) -> Float[np.ndarray, "2 period"]:
    """Return the events of each arm and period if every patient were in that arm."""
    # Between these times the integrand is an exponential times a line.
    edges = np.unique(np.clip(np.concatenate([starts, time - steps, [0.0, time]]), 0.0, time))
    half = np.diff(edges)[:, None] / 2
    t = edges[:-1, None] + half * (1 + _NODES)
    period = np.searchsorted(starts, edges[:-1], side="right") - 1
    at_risk = np.interp(time - t, steps, enrolled)
    events = np.zeros((2, len(starts)))
    for arm, rates in enumerate(hazards):
        before = np.concatenate([[0.0], np.cumsum(np.diff(starts) * rates[:-1])])
        gone = before[period, None] + rates[period, None] * (t - starts[period, None]) + dropout * t
        np.add.at(events[arm], period, (half * _WEIGHTS * rates[period, None] * np.exp(-gone) * at_risk).sum(axis=1))
    return events


def _require(
    time: float,
    enrolled_for: np.ndarray,
    enrolled_rate: np.ndarray,
    starts: np.ndarray,
    hazard: np.ndarray,
    ratio: np.ndarray,
    dropout: float,
    treated: float,
) -> None:
    """Refuse a trial that cannot be."""
    if len(enrolled_for) != len(enrolled_rate) or not len(starts) == len(hazard) == len(ratio) > 0:
        raise ConfigError("steps or periods differ in length", do="give one number for each step and each period")
    if starts[0] != 0 or not (np.diff(starts) > 0).all():
        raise ConfigError(f"periods start at {starts.tolist()}", do="start at 0 and let the times grow")
    positive = np.concatenate([[time], enrolled_for, enrolled_rate, hazard, ratio])
    if not (np.isfinite(positive).all() and (positive > 0).all()):
        raise ConfigError("a time, rate, hazard or ratio is not above 0", do="give finite numbers above 0")
    if not (0 <= dropout < np.inf and 0 < treated < 1):
        raise ConfigError(
            f"dropout {dropout:g}, share treated {treated:g}", do="give dropout ≥ 0 and a share in (0, 1)"
        )
