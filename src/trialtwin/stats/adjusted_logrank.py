r"""Log-rank test and hazard ratio of two arms, adjusted for covariates, stratified or not.

``twoarms`` has the score U(θ), its information I(θ) and the derived outcomes O of patients, here summed over strata.
With slopes β₀, β₁ of O on covariates X within arms, both X and O centred within stratum and arm, and Σ_X the pooled
covariance of X within strata, the adjusted score and its variance are

    U(θ) − [Σ_{A=1} (Xᵢ − X̄)ᵀβ₁ − Σ_{A=0} (Xᵢ − X̄)ᵀβ₀],      I(θ) − n π (1 − π) (β₀ + β₁)ᵀ Σ_X (β₀ + β₁).

The test takes θ = 0, I with the log-rank test's factor for ties. The log hazard ratio is the root, O taken at
the root of U, with variance (adjusted variance) / I². The test keeps its level whatever the relation of covariates to
survival, and the estimate is of the same, unconditional, hazard ratio as that without covariates.

Source: Ye T, Shao J, Yi Y (2024), doi:10.1093/biomet/asad045; numbers as RobinCar2's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr

from trialtwin.core.arrays import require_length
from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.randomisation import Randomisation
from trialtwin.stats.survival import require_times
from trialtwin.stats.twoarms import TwoArms, solve_score
from trialtwin.stats.wald import wald_estimate

_FLAT = 1e-10  # of an eigenvalue of X'X within arms, columns standardised
_EXPLAINED = 1e-8  # of an indicator's variance that may be left


class AdjustedLogRank(NamedTuple):
    """A log-rank test of the second arm against the first; z is below 0 where it has fewer events than expected."""

    score: float
    variance: float
    z: float
    p: float
    n: int
    events: int


def adjusted_log_rank(
    model: ArmModel,
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    *,
    strata: Int[np.ndarray, " patient"] | None = None,
    randomisation: Randomisation | None = None,
) -> AdjustedLogRank:
    """Compare the survival of two arms by a log-rank test that uses covariates; the p-value is two-sided.

    Without covariates this is the (stratified) log-rank test. With them it is valid under simple randomisation, and
    under permuted blocks and minimisation wherever the joint strata that were balanced are strata here or covariates.

    Parameters
    ----------
    model
        Two arms, and the covariates known before randomisation; all of them have a slope in each arm.
    time, event : shape (patient,)
        Times, and whether they ended in the event.
    strata : shape (patient,)
        Codes; arms are compared within each.
    randomisation
        Scheme and strata; simple where ``None``.

    Raises
    ------
    DataError
        If times are impossible, lengths differ, or there are not two arms.
    ConfigError
        If randomisation balanced strata that the analysis does not use.
    FitError
        If nobody has the event while both arms are at risk, covariates depend on each other within an arm, or no
        variance is left.

    Examples
    --------
    >>> from trialtwin.stats.modelmatrix import continuous_columns
    >>> age = continuous_columns({"age": np.array([71.0, 64, 58, 60, 66, 72, 59, 57, 69, 61, 54, 63])})
    >>> model = ArmModel(("control", "active"), np.tile([0, 1], 6), age)
    >>> found = adjusted_log_rank(model, np.arange(1.0, 13.0), np.ones(12, dtype=bool))
    >>> round(found.z, 3)
    -0.593
    """
    trial = _Trial.of(model, time, event, strata, randomisation)
    score, information = trial.score(0.0, tied=True)
    adjustment = trial.adjustment(0.0)
    variance = information - adjustment.variance
    if not variance > 1e-12 * information:
        raise FitError(
            "covariates leave the log-rank score no variance",
            do="adjust for fewer covariates than patients with the event",
        )
    value = score - adjustment.score
    z = value / np.sqrt(variance)
    return AdjustedLogRank(value, variance, float(z), float(2 * ndtr(-abs(z))), model.n, int(event.sum()))


def adjusted_hazard_ratio(
    model: ArmModel,
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    *,
    strata: Int[np.ndarray, " patient"] | None = None,
    randomisation: Randomisation | None = None,
    level: float = 0.95,
    estimand: Estimand | None = None,
) -> Estimate:
    """Estimate the unconditional log hazard ratio of the second arm to the first, using covariates.

    Without covariates this is Cox's estimate with Breslow's ties. Parameters are those of ``adjusted_log_rank``.

    Raises
    ------
    DataError, ConfigError
        As for ``adjusted_log_rank``.
    FitError
        As there, and if all events at which both arms are at risk are in one arm: the ratio is 0 or infinite.

    Examples
    --------
    >>> from trialtwin.stats.modelmatrix import continuous_columns
    >>> age = continuous_columns({"age": np.array([71.0, 64, 58, 60, 66, 72, 59, 57, 69, 61, 54, 63])})
    >>> model = ArmModel(("control", "active"), np.tile([0, 1], 6), age)
    >>> effect = adjusted_hazard_ratio(model, np.arange(1.0, 13.0), np.ones(12, dtype=bool))
    >>> round(effect.value, 3), round(effect.se, 3)
    (-0.346, 0.586)
    """
    trial = _Trial.of(model, time, event, strata, randomisation)
    adjustment = trial.adjustment(trial.root(0.0)) if model.covariates is not None else _Adjustment(0.0, 0.0)
    value = trial.root(adjustment.score)
    information = trial.score(value)[1]
    variance = information - adjustment.variance
    if not variance > 1e-12 * information:
        raise FitError(
            "covariates leave the log hazard ratio no variance",
            do="adjust for fewer covariates than patients with the event",
        )
    return wald_estimate(
        value,
        float(np.sqrt(variance) / information),
        contrast=f"{model.arms[1]} / {model.arms[0]}",
        n=model.n,
        level=level,
        method=f"{'stratified ' if strata is not None else ''}log-rank score"
        f"{', adjusted for ' + ', '.join(model.covariates.names) if model.covariates is not None else ''}",
        variance=(randomisation or Randomisation()).label,
        unit="log hazard ratio",
        estimand=estimand,
    )


class _Adjustment(NamedTuple):
    """What covariates take from the score and from its variance."""

    score: float
    variance: float


@dataclass(frozen=True, eq=False)
class _Trial:
    model: ArmModel
    strata: tuple[TwoArms, ...]

    @classmethod
    def of(
        cls,
        model: ArmModel,
        time: Float[np.ndarray, " patient"],
        event: Bool[np.ndarray, " patient"],
        strata: Int[np.ndarray, " patient"] | None,
        randomisation: Randomisation | None,
    ) -> "_Trial":
        """Split a trial into strata, after a look at it."""
        require_times(time, event)
        require_length("the times", time, model.n)
        if len(model.arms) != 2:
            raise DataError(
                f"a hazard ratio compares two arms, not {len(model.arms)}", exists=model.arms, do="pass two of them"
            )
        codes = np.zeros(model.n, dtype=int) if strata is None else strata
        require_length("the strata", codes, model.n)
        parts = [np.flatnonzero(codes == code) for code in np.unique(codes)]
        if randomisation is not None and randomisation.strata is not None:
            _require_balanced_used(model, parts, randomisation.strata)
        second = model.arm == 1
        trial = cls(model, tuple(TwoArms.of(rows, second[rows], time[rows], event[rows]) for rows in parts))
        if not trial.score(0.0)[1] > 0:
            raise FitError(
                "nobody has the event while both arms of a stratum are at risk: there is nothing to compare",
                do="pool strata, or check the coding of events",
            )
        return trial

    def score(self, theta: float, *, tied: bool = False) -> tuple[float, float]:
        """Return U and I, summed over strata."""
        parts = [stratum.score(theta, tied=tied) for stratum in self.strata]
        return sum(u for u, _ in parts), sum(i for _, i in parts)

    def root(self, shift: float) -> float:
        """Return the log hazard ratio at which the score is ``shift``."""
        compared = [(s, (s.at_risk > 0).all(axis=1)) for s in self.strata]
        most = sum(float(s.events_second[both].sum()) for s, both in compared)
        least = most - sum(float(s.events[both].sum()) for s, both in compared)
        if not least < shift < most:
            raise FitError(
                f"no hazard ratio has the score {shift:.3g}: with both arms at risk, {most:g} events are in "
                f"{self.model.arms[1]!r} and {-least:g} in {self.model.arms[0]!r}",
                do="report the test, or adjust for fewer covariates",
            )
        return solve_score(lambda theta: self.score(theta)[0], shift)

    def adjustment(self, theta: float) -> _Adjustment:
        """Return what covariates take away, by regression of derived outcomes at a log hazard ratio."""
        if self.model.covariates is None:
            return _Adjustment(0.0, 0.0)
        x = self.model.covariates.values
        outcomes = np.zeros(self.model.n)
        for stratum in self.strata:
            outcomes[stratum.rows] = stratum.outcomes(theta)
        slopes, score = [], 0.0
        for arm, sign in ((0, -1.0), (1, 1.0)):
            parts = [s.rows[s.second == bool(arm)] for s in self.strata]
            own = np.concatenate([x[rows] - x[rows].mean(axis=0) for rows in parts if len(rows)])
            slope = _slopes(own, np.concatenate([outcomes[rows] for rows in parts]), self.model, arm)
            slopes.append(slope)
            score += sign * sum(
                float(((x[rows] - x[s.rows].mean(axis=0)) @ slope).sum())
                for s, rows in zip(self.strata, parts, strict=True)
            )
        # A stratum of one patient has no covariance.
        several = [s.rows for s in self.strata if len(s.rows) > 1]
        size = sum(len(rows) for rows in several)
        both = slopes[0] + slopes[1]
        spread = sum(len(rows) / size * float(np.var(x[rows] @ both, ddof=1)) for rows in several)
        share = self.model.shares[1]
        return _Adjustment(score, float(self.model.n * share * (1 - share) * spread))


def _slopes(
    x: Float[np.ndarray, "patient column"], outcome: Float[np.ndarray, " patient"], model: ArmModel, arm: int
) -> Float[np.ndarray, " column"]:
    """Regress outcomes on centred covariates within an arm."""
    names = model.covariates.names if model.covariates is not None else ()
    where = f"arm {model.arms[arm]!r}, among {', '.join(names)}"
    scale = np.sqrt((x**2).sum(axis=0))
    if (scale == 0).any():
        raise FitError(
            f"covariate {names[int(np.argmin(scale))]!r} does not vary within strata of an arm",
            where=where,
            do="leave it out",
        )
    gram = (x / scale).T @ (x / scale)
    if np.linalg.eigvalsh(gram)[0] < _FLAT:
        raise FitError("covariates depend on each other within an arm", where=where, do="leave one of them out")
    return np.asarray(np.linalg.solve(gram, (x / scale).T @ outcome) / scale)


def _require_balanced_used(
    model: ArmModel, parts: Sequence[Int[np.ndarray, "..."]], balanced: Int[np.ndarray, " patient"]
) -> None:
    """Refuse an analysis that leaves out strata which randomisation balanced: its variance would not be known."""
    require_length("the strata of the randomisation", balanced, model.n)
    indicators = (balanced[:, None] == np.unique(balanced)).astype(float)
    x = np.zeros((model.n, 0)) if model.covariates is None else model.covariates.values
    centred = [np.zeros_like(indicators), np.zeros_like(x)]
    for rows in parts:
        for to, values in zip(centred, (indicators, x), strict=True):
            to[rows] = values[rows] - values[rows].mean(axis=0)
    target, own = centred
    if own.shape[1]:
        target = target - own @ np.linalg.lstsq(own, target, rcond=None)[0]
    left = (target**2).sum(axis=0)
    if (left > _EXPLAINED * model.n).any():
        raise ConfigError(
            "randomisation balanced strata that the analysis does not use, so that the test would not have its level",
            exists=[str(code) for code in np.unique(balanced)],
            do="give these strata to the test, or put an indicator of each joint stratum among the covariates",
        )
