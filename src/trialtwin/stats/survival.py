r"""Survival curves: the Kaplan–Meier estimate, its intervals and quantiles, and the mean up to a horizon.

With d_j events and Y_j at risk at the distinct event times t_j,

    Ŝ(t) = Π_{t_j ≤ t} (1 − d_j / Y_j),      Var Ŝ(t) = Ŝ(t)² Σ_{t_j ≤ t} d_j / (Y_j (Y_j − d_j))      (Greenwood)
    RMST(τ) = ∫₀^τ Ŝ,      Var RMST = Σ_{t_j ≤ τ} (∫_{t_j}^τ Ŝ)² d_j / (Y_j (Y_j − d_j))

Sources: Kaplan EL, Meier P (1958), doi:10.2307/2281868; Kalbfleisch JD, Prentice RL (2002) for the intervals on the log
and log(−log) scales; Royston P, Parmar MKB (2013), doi:10.1186/1471-2288-13-152.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.special import ndtri

from trialtwin.core.arrays import frozen, require_finite, require_length
from trialtwin.core.errors import ConfigError, DataError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.wald import require_level, wald_estimate

SCALES = ("log", "log-log", "plain")


class Interval(NamedTuple):
    """Ends of a confidence interval at each of some times; NaN where the curve has no error."""

    lower: Float[np.ndarray, " time"]
    upper: Float[np.ndarray, " time"]


@dataclass(frozen=True, eq=False)
class KaplanMeier:
    """A survival curve at its event times; immutable.

    Parameters
    ----------
    times : shape (event,)
        Distinct event times, ascending.
    at_risk, events : shape (event,)
        Patients at risk just before, and events at each.
    survival : shape (event,)
        Ŝ just after each.
    greenwood : shape (event,)
        Σ d / (Y (Y − d)) up to each; infinite once nobody is left.
    last
        Longest time observed, event or not.
    n
        Number of patients.
    """

    times: Float[np.ndarray, " event"]
    at_risk: Float[np.ndarray, " event"]
    events: Float[np.ndarray, " event"]
    survival: Float[np.ndarray, " event"]
    greenwood: Float[np.ndarray, " event"]
    last: float
    n: int

    def __post_init__(self) -> None:
        for name in ("times", "at_risk", "events", "survival", "greenwood"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def at(self, t: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
        """Return Ŝ at some times."""
        return np.append(1.0, self.survival)[np.searchsorted(self.times, t, side="right")]

    def se(self, t: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
        """Return Greenwood's standard error of Ŝ at some times; 0 before the first event and once nobody is left."""
        sums = np.append(0.0, np.where(np.isfinite(self.greenwood), self.greenwood, 0.0))
        return self.at(t) * np.sqrt(sums[np.searchsorted(self.times, t, side="right")])

    def interval(self, t: Float[np.ndarray, " time"], *, scale: str = "log-log", level: float = 0.95) -> Interval:
        """Return pointwise confidence intervals of Ŝ, computed on a scale and cut to [0, 1].

        Raises
        ------
        ConfigError
            If there is no such scale, or the level is not between 0 and 1.
        """
        require_level(level)
        s, half = self.at(t), float(ndtri(0.5 + level / 2)) * self.se(t)
        with np.errstate(divide="ignore", invalid="ignore"):
            if scale == "plain":
                return Interval(np.maximum(s - half, 0.0), np.minimum(s + half, 1.0))
            if scale == "log":
                factor = np.exp(half / s)
                return Interval(s / factor, np.minimum(s * factor, 1.0))
            if scale == "log-log":
                power = np.exp(half / (s * np.abs(np.log(s))))
                return Interval(s**power, s ** (1 / power))
        raise ConfigError(f"no scale {scale!r} for intervals of a survival curve", exists=SCALES)

    def quantile(self, q: float = 0.5, *, scale: str = "log-log", level: float = 0.95) -> tuple[float, float, float]:
        """Return the time by which a share q has had the event, and its interval; NaN where the curve stays above.

        The interval holds the times at which the curve's own interval contains 1 − q (Brookmeyer and Crowley 1982,
        doi:10.2307/2530286). Where the curve is flat at 1 − q, the middle of the flat part counts, as in R.

        Raises
        ------
        ConfigError
            If q is not between 0 and 1, and as for ``interval``.
        """
        if not 0 < q < 1:
            raise ConfigError(f"a quantile of {q:g}", do="give a share between 0 and 1, 0.5 for the median")
        bounds = self.interval(self.times, scale=scale, level=level)
        return (
            self._crosses(self.survival, 1 - q),
            self._crosses(bounds.lower, 1 - q),
            self._crosses(bounds.upper, 1 - q),
        )

    def _crosses(self, curve: Float[np.ndarray, " event"], height: float) -> float:
        """Return when a falling curve reaches a height."""
        below = np.flatnonzero(curve <= height + 1e-12)
        if len(below) == 0:
            return float("nan")
        k = int(below[0])
        if abs(curve[k] - height) < 1e-12 and k + 1 < len(curve):
            return float(0.5 * (self.times[k] + self.times[k + 1]))
        return float(self.times[k])

    def rmst(self, horizon: float, *, corrected: bool = False) -> tuple[float, float]:
        """Return the restricted mean survival time and its standard error.

        ``corrected`` multiplies the variance by m / (m − 1), m the events before the horizon, as Kaplan and Meier
        proposed and simtrial does; survRM2 does not.

        Raises
        ------
        ConfigError
            If nobody was followed up to the horizon while some were event-free, or it is not positive.
        """
        if not horizon > 0:
            raise ConfigError(f"a horizon of {horizon:g}", do="give a positive time")
        if horizon > self.last and (len(self.survival) == 0 or self.survival[-1] > 0):
            raise ConfigError(
                f"the horizon {horizon:g} lies beyond the longest follow-up, {self.last:g}",
                do="give a horizon within the follow-up of every arm",
            )
        inside = self.times < horizon
        edges = np.concatenate([[0.0], self.times[inside], [horizon]])
        areas = np.append(1.0, self.survival[inside]) * np.diff(edges)
        after = areas[::-1].cumsum()[::-1][1:]
        d, y = self.events[inside], self.at_risk[inside]
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(y > d, after**2 * d / (y * (y - d)), 0.0)
        m = d.sum()
        factor = m / (m - 1) if corrected and m > 1 else 1.0
        return float(areas.sum()), float(np.sqrt(factor * terms.sum()))


def kaplan_meier(time: Float[np.ndarray, " patient"], event: Bool[np.ndarray, " patient"]) -> KaplanMeier:
    """Estimate the survival curve of one group.

    Raises
    ------
    DataError
        If there are no patients, a time is negative or missing, or lengths differ.

    Examples
    --------
    >>> curve = kaplan_meier(np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, True]))
    >>> curve.survival
    array([0.75 , 0.375, 0.   ])
    """
    require_times(time, event)
    times, events = np.unique(time[event], return_counts=True)
    at_risk = (len(time) - np.searchsorted(np.sort(time), times)).astype(float)
    events = events.astype(float)
    with np.errstate(divide="ignore"):
        greenwood = np.cumsum(events / (at_risk * (at_risk - events)))
    survival = np.cumprod(1 - events / at_risk)
    return KaplanMeier(times, at_risk, events, survival, greenwood, float(time.max()), len(time))


def require_times(time: Float[np.ndarray, " patient"], event: Shaped[np.ndarray, " patient"]) -> None:
    """Refuse times that cannot be times to an event.

    Raises
    ------
    DataError
        If there are none, lengths differ, one is negative or missing, or events are not true or false.
    """
    if len(time) == 0:
        raise DataError("no patients with a time to an event")
    require_length("event", event, len(time))
    if event.dtype != bool:
        # As positions, 0 and 1 would choose the first two patients.
        raise DataError(f"events are given as {event.dtype}, not as true or false", do="pass event == 1")
    require_finite("the time to the event", time)
    if (time < 0).any():
        raise DataError(
            f"{int((time < 0).sum())} times to the event are negative, the first {time[time < 0][0]:g}",
            do="count time from randomisation",
        )


def rmst_difference(
    first: KaplanMeier,
    second: KaplanMeier,
    horizon: float,
    *,
    contrast: str = "second − first",
    measure: Literal["difference", "ratio", "ratio of time lost"] = "difference",
    corrected: bool = False,
    level: float = 0.95,
    unit: str = "",
    estimand: Estimand | None = None,
) -> Estimate:
    """Compare restricted mean survival times of two groups: their difference, or the log of a ratio.

    Raises
    ------
    ConfigError
        If a group was not followed up to the horizon, or there is no such measure.
    """
    (m0, s0), (m1, s1) = (curve.rmst(horizon, corrected=corrected) for curve in (first, second))
    if measure == "difference":
        value, se = m1 - m0, float(np.hypot(s0, s1))
    elif measure == "ratio":
        value, se = float(np.log(m1 / m0)), float(np.hypot(s0 / m0, s1 / m1))
    elif measure == "ratio of time lost":
        l0, l1 = horizon - m0, horizon - m1
        value, se = float(np.log(l1 / l0)), float(np.hypot(s0 / l0, s1 / l1))
    else:
        raise ConfigError(f"no measure {measure!r}", exists=("difference", "ratio", "ratio of time lost"))
    return wald_estimate(
        value,
        se,
        contrast=contrast,
        n=first.n + second.n,
        method=f"restricted mean survival time to {horizon:g}, {'' if measure == 'difference' else 'log '}{measure}",
        variance="Greenwood" + ", m/(m − 1)" * corrected,
        level=level,
        unit=unit if measure == "difference" else "log ratio",
        estimand=estimand,
    )


def milestone_difference(
    first: KaplanMeier, second: KaplanMeier, at: float, *, scale: Literal["plain", "log-log"] = "log-log"
) -> Estimate:
    """Compare survival of two groups at one time: the difference, or that of log(−log Ŝ), first minus second.

    On the log(−log) scale a positive value favours the second group, as a difference of log cumulative hazards does.

    Raises
    ------
    ConfigError
        If a group was not followed up to that time while some were event-free, or a curve is 0 or 1 there, where the
        log(−log) scale has no value.
    """
    for curve in (first, second):
        if at > curve.last and (len(curve.survival) == 0 or curve.survival[-1] > 0):
            raise ConfigError(
                f"the milestone {at:g} lies beyond the longest follow-up, {curve.last:g}",
                do="compare at a time within the follow-up of both groups",
            )
    t = np.array([at])
    s = np.array([first.at(t)[0], second.at(t)[0]])
    error = np.array([first.se(t)[0], second.se(t)[0]])
    if scale == "plain":
        value, se = s[1] - s[0], float(np.hypot(*error))
    else:
        if ((s <= 0) | (s >= 1)).any():
            raise ConfigError(
                f"a survival curve is 0 or 1 at {at:g}", do="compare at another time, or on the plain scale"
            )
        value = np.log(-np.log(s[0])) - np.log(-np.log(s[1]))
        se = float(np.hypot(*(error / (s * np.log(s)))))
    return wald_estimate(
        float(value),
        se,
        contrast="second − first",
        n=first.n + second.n,
        method=f"survival at {at:g}, {scale}",
        variance="Greenwood",
    )
