r"""Average hazard ratio of a trial whose hazards are not proportional, and the size of a log-rank test by it.

Hazards are constant within periods since enrolment. With λ_ak the hazard of arm a in period k, η the hazard of
dropout, S_a the chance to be without event and dropout, and N_a(x) the patients enrolled by calendar time x, the
events of arm a and period k by calendar time T are

    d_ak = ∫_k λ_ak S_a(t) N_a(T − t) dt,      log AHR = Σ_k log(HR_k) (d_0k + d_1k) / Σ_k (d_0k + d_1k)

The information is Σ_k 1 / (1/d_0k + 1/d_1k), under the null hypothesis p (1 − p) Σ d, p the share treated.

Sources: Mukhopadhyay P and others (2022), doi:10.1080/19466315.2021.1874507; gsDesign2, whose numbers it gives.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
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
        return AverageHazardRatio(
            self.time,
            self.value,
            self.patients * scale,
            self.events * scale,
            self.information * scale,
            self.information_null * scale,
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
