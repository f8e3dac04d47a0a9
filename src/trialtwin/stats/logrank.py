r"""Tests that compare survival between arms: weighted log-rank, stratified, over any number of arms, and their maximum.

At the event times t_j of a stratum, with d_j events and Y_j at risk of all arms, Y_ja of arm a, and weight w_j,

    U_a = Σ_j w_j (d_ja − d_j Y_ja / Y_j),
    V_ab = Σ_j w_j² d_j (Y_j − d_j) / (Y_j − 1) · (Y_ja / Y_j) (1[a = b] − Y_jb / Y_j)

summed over strata. Weights: 1; Fleming–Harrington Ŝ(t−)^ρ (1 − Ŝ(t−))^γ with the pooled curve; Magirr–Burman
1 / Ŝ(min(t, delay)−), at most w_max; 0 before a time and 1 from then on. MaxCombo is the largest of several, with its
p-value from their joint normal law: tests with weights w and v have covariance Σ w v (…).

Sources: Mantel N (1966); Harrington DP, Fleming TR (1982), doi:10.1093/biomet/69.3.553; Magirr D, Burman CF (2019),
doi:10.1002/sim.8186; Karrison TG (2016), doi:10.1177/1536867X1601600308.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import chi2, multivariate_normal

from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.stats.survival import require_times

type Weight = Callable[[Float[np.ndarray, " event"], Float[np.ndarray, " event"]], Float[np.ndarray, " event"]]
"""Event times, and the pooled survival just before each → weights."""


@dataclass(frozen=True)
class Weighting:
    """A named weighting of event times."""

    name: str
    weigh: Weight


def fleming_harrington(rho: float = 0.0, gamma: float = 0.0) -> Weighting:
    """Return Ŝ(t−)^ρ (1 − Ŝ(t−))^γ: all events alike, early ones (ρ) or late ones (γ) more.

    Raises
    ------
    ConfigError
        If an exponent is negative.
    """
    if min(rho, gamma) < 0:
        raise ConfigError(f"Fleming–Harrington weights with ρ = {rho:g}, γ = {gamma:g}", do="give 0 or more")
    return Weighting(f"Fleming–Harrington({rho:g}, {gamma:g})", lambda t, s: s**rho * (1 - s) ** gamma + 0 * t)


def magirr_burman(delay: float, most: float = np.inf) -> Weighting:
    """Return 1 / Ŝ(t−) up to a delay, and from then on the largest of these, all at most ``most``.

    As simtrial has it: after the delay the weight of the last event up to it counts.
    """

    def weigh(t: Float[np.ndarray, " event"], s: Float[np.ndarray, " event"]) -> Float[np.ndarray, " event"]:
        early = t <= delay
        held = float(s[early].min()) if early.any() else 1.0
        return np.asarray(np.minimum(1 / np.where(early, s, held), most))

    return Weighting(f"Magirr–Burman({delay:g})", weigh)


def from_time(start: float) -> Weighting:
    """Return 0 before a time and 1 from then on."""
    return Weighting(f"from {start:g} on", lambda t, s: (t >= start).astype(float) + 0 * s)


class LogRank(NamedTuple):
    """A weighted log-rank test; ``observed`` and ``expected`` are weighted events by arm, summed over strata."""

    score: Float[np.ndarray, " arm"]
    covariance: Float[np.ndarray, "arm arm"]
    observed: Float[np.ndarray, " arm"]
    expected: Float[np.ndarray, " arm"]
    chi2: float
    df: int
    p: float

    @property
    def z(self) -> float:
        """Return the statistic of the last arm against the others; below 0 where it has fewer events than expected."""
        return float(self.score[-1] / np.sqrt(self.covariance[-1, -1]))


def log_rank(
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    arm: Int[np.ndarray, " patient"],
    *,
    weighting: Weighting | None = None,
    strata: Int[np.ndarray, " patient"] | None = None,
) -> LogRank:
    """Compare the survival of two or more arms.

    Parameters
    ----------
    arm : shape (patient,)
        Position of the arm, from 0.
    weighting
        All events alike if not given.
    strata : shape (patient,)
        Codes; arms are compared within each.

    Raises
    ------
    DataError
        If times are impossible, lengths differ, or there are fewer than two arms.
    ConfigError
        If a weighting gives weights that are negative or not finite.
    FitError
        If there is nothing to compare: no event while patients of several arms were at risk.

    Examples
    --------
    >>> time = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> found = log_rank(time, np.ones(6, dtype=bool), np.array([0, 1, 0, 1, 0, 1]))
    >>> round(found.chi2, 3), found.df
    (0.485, 1)
    """
    parts = _strata(time, event, arm, strata)
    weighting = weighting or fleming_harrington()
    arms = int(arm.max()) + 1
    tables = [_table(time[rows], event[rows], arm[rows], arms) for rows in parts]
    weights = [_weighed(weighting, table) for table in tables]
    observed = sum((w @ table.events for w, table in zip(weights, tables, strict=True)), np.zeros(arms))
    expected = sum((w @ table.expected for w, table in zip(weights, tables, strict=True)), np.zeros(arms))
    covariance = _covariance(tables, weights, weights)
    score = observed - expected
    df = arms - 1
    if np.linalg.matrix_rank(covariance[:df, :df]) < df:
        raise FitError(
            "the log-rank test has nothing to compare: an arm has no patients at risk at any event of its strata",
            do="pool strata, or leave the arm out",
        )
    statistic = float(score[:df] @ np.linalg.solve(covariance[:df, :df], score[:df]))
    return LogRank(score, covariance, observed, expected, statistic, df, float(chi2.sf(statistic, df)))


class MaxCombo(NamedTuple):
    """The largest of several weighted log-rank statistics; p is one-sided, for fewer events in the last arm."""

    z: Float[np.ndarray, " test"]
    correlation: Float[np.ndarray, "test test"]
    p: float


def max_combo(
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    arm: Int[np.ndarray, " patient"],
    weightings: Sequence[Weighting],
    *,
    strata: Int[np.ndarray, " patient"] | None = None,
) -> MaxCombo:
    """Compare two arms by the best of several weighted log-rank tests, at the level of one.

    Raises
    ------
    ConfigError
        If fewer than two weightings are given.
    DataError, FitError
        As for ``log_rank``; and if there are not two arms.
    """
    if len(weightings) < 2:
        raise ConfigError("MaxCombo of fewer than two tests", do="give several weightings, or use log_rank")
    parts = _strata(time, event, arm, strata)
    if int(arm.max()) != 1:
        raise DataError(f"MaxCombo compares two arms, not {int(arm.max()) + 1}")
    tables = [_table(time[rows], event[rows], arm[rows], 2) for rows in parts]
    weights = [[_weighed(one, table) for table in tables] for one in weightings]
    cov = np.array([[_covariance(tables, w, v)[1, 1] for v in weights] for w in weights])
    if (np.diag(cov) <= 0).any():
        raise FitError("a weighted log-rank test has no variance", do="leave that weighting out")
    z = np.array([log_rank(time, event, arm, weighting=one, strata=strata).z for one in weightings])
    correlation = cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    law = multivariate_normal(
        np.zeros(len(z)), correlation, allow_singular=True, seed=np.random.default_rng(0), maxpts=200_000, abseps=2e-5
    )
    return MaxCombo(z, correlation, float(1 - law.cdf(np.full(len(z), -z.min()))))


class _Table(NamedTuple):
    """Events of a stratum by time and arm; ``before`` is the pooled survival just before each time."""

    times: Float[np.ndarray, " event"]
    before: Float[np.ndarray, " event"]
    events: Float[np.ndarray, "event arm"]
    share: Float[np.ndarray, "event arm"]
    spread: Float[np.ndarray, " event"]

    @property
    def expected(self) -> Float[np.ndarray, "event arm"]:
        """Return expected events by time and arm."""
        return self.events.sum(axis=1, keepdims=True) * self.share


def _table(
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    arm: Int[np.ndarray, " patient"],
    arms: int,
) -> _Table:
    times = np.unique(time[event])
    reached = np.searchsorted(times, time, side="right")
    # A patient is at risk at the event times up to the own one: count from the end.
    ends = np.stack([np.bincount(reached[arm == a], minlength=len(times) + 1) for a in range(arms)], axis=1)
    at_risk = ends[::-1].cumsum(axis=0)[::-1][1:].astype(float)
    drawn = [np.bincount(reached[event & (arm == a)] - 1, minlength=len(times)) for a in range(arms)]
    events = np.stack(drawn, axis=1).astype(float)
    y, d = at_risk.sum(axis=1), events.sum(axis=1)
    curve = np.cumprod(1 - d / y)
    spread = np.where(y > 1, d * (y - d) / np.maximum(y - 1, 1), 0.0)
    return _Table(times, np.append(1.0, curve)[: len(times)], events, at_risk / y[:, None], spread)


def _weighed(weighting: Weighting, table: _Table) -> Float[np.ndarray, " event"]:
    weights = np.asarray(weighting.weigh(table.times, table.before))
    if weights.shape != table.times.shape or not np.isfinite(weights).all() or (weights < 0).any():
        raise ConfigError(
            f"the weighting {weighting.name!r} does not give one finite weight, 0 or more, for each event time",
            do="check its function of event times and pooled survival",
        )
    return weights


def _covariance(
    tables: Sequence[_Table],
    first: Sequence[Float[np.ndarray, "..."]],
    second: Sequence[Float[np.ndarray, "..."]],
) -> Float[np.ndarray, "arm arm"]:
    """Return the covariance of two weighted scores over all arms."""
    arms = tables[0].share.shape[1]
    total = np.zeros((arms, arms))
    for table, w, v in zip(tables, first, second, strict=True):
        c = w * v * table.spread
        total += np.diag(c @ table.share) - (table.share * c[:, None]).T @ table.share
    return total


def _strata(
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    arm: Int[np.ndarray, " patient"],
    strata: Int[np.ndarray, " patient"] | None,
) -> list[Int[np.ndarray, " row"]]:
    """Return the rows of each stratum, after a look at the data."""
    require_times(time, event)
    if len(arm) != len(time) or (strata is not None and len(strata) != len(time)):
        raise DataError(f"{len(arm)} arms for {len(time)} times to an event")
    if len(np.unique(arm)) < 2 or arm.min() < 0:
        raise DataError("a log-rank test compares two arms or more", exists=[str(a) for a in np.unique(arm)])
    if not event.any():
        raise FitError("nobody had the event: there is nothing to compare")
    codes = np.zeros(len(time), dtype=int) if strata is None else strata
    found = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    return [rows for rows in found if event[rows].any()]
