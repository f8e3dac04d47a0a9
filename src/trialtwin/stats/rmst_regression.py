r"""Restricted mean survival time adjusted for covariates: regression with inverse probability of censoring weights.

With Y = min(T, τ), D = 1 where the event or τ was seen, and G the Kaplan–Meier curve of censoring in the patient's arm,

    Σᵢ Dᵢ / G(Yᵢ) xᵢ (Yᵢ − μᵢ) = 0,      μ = xᵀβ (difference),  e^{xᵀβ} (ratio),

and τ − Y in place of Y for the ratio of time lost. With scores s of patients and, at a time of censoring u of the same
arm, R(u) the sum of s over those at risk and Y(u) their number, the variance is A⁻¹ (Σ κκᵀ) A⁻¹,

    κᵢ = sᵢ + (1 − Dᵢ) R(Yᵢ) / Y(Yᵢ) − Σ_{u ≤ Yᵢ} c(u) R(u) / Y(u)²,      A = Σ (∂μᵢ/∂η) xᵢ xᵢᵀ,

c(u) the number censored at u.

Source: Tian L, Zhao L, Wei LJ (2014), doi:10.1093/biostatistics/kxt050; numbers as survRM2's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from trialtwin.core.arrays import frozen, require_length
from trialtwin.core.errors import ConfigError, ConvergenceError, FitError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.modelmatrix import contrast_weights
from trialtwin.stats.survival import kaplan_meier, require_times
from trialtwin.stats.wald import wald_estimate

MEASURES = ("difference", "ratio", "ratio of time lost")
_STEPS, _DONE, _FLAT = 50, 1e-12, 1e-10


@dataclass(frozen=True, eq=False)
class RmstRegression:
    """A fitted regression of restricted survival time; immutable.

    Parameters
    ----------
    names, coefficients
        In units of time for a difference, logarithms for a ratio.
    covariance : shape (column, column)
        Of the coefficients.
    horizon, measure
        τ, and what is compared.
    n
        Number of patients.
    """

    names: tuple[str, ...]
    coefficients: Float[np.ndarray, " column"]
    covariance: Float[np.ndarray, "column column"]
    horizon: float
    measure: str
    n: int

    def __post_init__(self) -> None:
        for name in ("coefficients", "covariance"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def estimate(
        self,
        weights: Mapping[str, float],
        label: str,
        *,
        level: float = 0.95,
        unit: str = "",
        estimand: Estimand | None = None,
    ) -> Estimate:
        """Return a contrast of coefficients, with normal inference; exponentiate value and limits of a ratio.

        Raises
        ------
        MismatchError
            If a weight names a coefficient that the model does not have.
        """
        contrast = contrast_weights(self.names, weights)
        plain = self.measure == "difference"
        return wald_estimate(
            float(contrast @ self.coefficients),
            float(np.sqrt(contrast @ self.covariance @ contrast)),
            contrast=label,
            n=self.n,
            level=level,
            method=f"regression of restricted mean survival time to {self.horizon:g}, {'' if plain else 'log '}"
            f"{self.measure}",
            variance="inverse probability of censoring, by arm",
            unit=unit if plain else "log ratio",
            estimand=estimand,
        )


def rmst_regression(
    model: ArmModel,
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    horizon: float,
    *,
    measure: Literal["difference", "ratio", "ratio of time lost"] = "difference",
) -> RmstRegression:
    """Compare restricted mean survival times of arms at the same covariates.

    Censoring may depend on the arm, and on nothing else that tells of survival.

    Parameters
    ----------
    model
        Arms and covariates; a coefficient for each of its columns.
    time, event : shape (patient,)
        Times, and whether they ended in the event.
    horizon, measure
        τ, within the follow-up of every arm; differences, log ratios of mean survival time, or of mean time lost.

    Raises
    ------
    ConfigError
        If there is no such measure, or an arm was not followed up to the horizon.
    DataError
        If times are impossible or lengths differ.
    FitError
        If columns depend on each other among patients with an event or followed to the horizon.
    ConvergenceError
        If a ratio has no finite estimate.

    Examples
    --------
    >>> from trialtwin.stats.modelmatrix import continuous_columns
    >>> age = continuous_columns({"age": np.array([71.0, 64, 68, 60, 66, 62, 59, 57])})
    >>> model = ArmModel(("control", "active"), np.array([0, 1, 0, 1, 0, 1, 0, 1]), age)
    >>> fit = rmst_regression(model, np.arange(1.0, 9.0), np.arange(8) != 3, 6.0)
    >>> effect = fit.estimate({"arm[active]": 1.0}, "active − control")
    >>> round(effect.value, 3), round(effect.se, 3)
    (-0.887, 1.062)
    """
    _require(model, time, event, horizon, measure)
    design = model.design()
    y, seen = np.minimum(time, horizon), event | (time >= horizon)
    arms = [np.flatnonzero(model.arm == a) for a in range(len(model.arms))]
    weight = np.zeros(model.n)
    for rows in arms:
        weight[rows] = _weights(y[rows], seen[rows])
    target = y if measure != "ratio of time lost" else horizon - y
    scale = np.sqrt((design.values**2).mean(axis=0))
    x = design.values / scale
    beta, slope = _solve(x, target, weight, design.names, linear=measure == "difference")
    score = x * (weight * (target - (x @ beta if measure == "difference" else np.exp(x @ beta))))[:, None]
    kappa = score.copy()
    for rows in arms:
        kappa[rows] += _censoring(y[rows], ~seen[rows], score[rows])
    bread = np.linalg.inv((x * slope[:, None]).T @ x) / scale[:, None]
    covariance = bread @ (kappa.T @ kappa) @ bread.T
    return RmstRegression(design.names, beta / scale, covariance, float(horizon), measure, model.n)


def _weights(y: Float[np.ndarray, " member"], seen: Bool[np.ndarray, " member"]) -> Float[np.ndarray, " member"]:
    """Return D / G(Y) within an arm."""
    free = kaplan_meier(y, ~seen).at(y)
    return np.where(seen, 1 / np.where(seen, free, 1.0), 0.0)


def _solve(
    x: Float[np.ndarray, "patient column"],
    target: Float[np.ndarray, " patient"],
    weight: Float[np.ndarray, " patient"],
    names: tuple[str, ...],
    *,
    linear: bool,
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " patient"]]:
    """Return the coefficients, and ∂μ/∂η of each patient there."""
    if np.linalg.eigvalsh((x * weight[:, None]).T @ x / weight.sum())[0] < _FLAT:
        raise FitError(
            "columns depend on each other among patients with an event or followed to the horizon",
            where=", ".join(names),
            do="drop a column, or give an earlier horizon",
        )
    if linear:
        return np.linalg.solve((x * weight[:, None]).T @ x, x.T @ (weight * target)), np.ones(len(x))
    # Newton steps of Poisson's likelihood, from a first step of least squares at the mean
    mu = np.full(len(x), float(weight @ target / weight.sum()))
    beta = np.zeros(x.shape[1])
    eta = np.log(mu)
    for _ in range(_STEPS):
        working = weight * mu
        moved = np.linalg.solve((x * working[:, None]).T @ x, x.T @ (working * eta + weight * (target - mu)))
        step = np.abs(x @ moved - eta).max()
        beta, eta = moved, x @ moved
        if not np.abs(eta).max() < 300:
            break
        mu = np.exp(eta)
        if step < _DONE * max(1.0, np.abs(eta).max()):
            return beta, mu
    raise ConvergenceError(
        f"the log-linear model of restricted time did not converge in {_STEPS} steps",
        do="compare differences, or leave out a column that tells who lived to the horizon",
    )


def _censoring(
    y: Float[np.ndarray, " member"], censored: Bool[np.ndarray, " member"], score: Float[np.ndarray, "member column"]
) -> Float[np.ndarray, "member column"]:
    """Return what the estimated curve of censoring adds to each patient's score, within an arm."""
    times, place = np.unique(y, return_inverse=True)
    later = np.zeros((len(times), score.shape[1]))
    np.add.at(later, place, score)
    later = later[::-1].cumsum(axis=0)[::-1]
    at_risk = np.bincount(place)[::-1].cumsum()[::-1]
    drawn = np.bincount(place, weights=censored)
    paid = np.cumsum(later * (drawn / at_risk**2)[:, None], axis=0)
    return np.where(censored[:, None], (later / at_risk[:, None])[place], 0.0) - paid[place]


def _require(model: ArmModel, time: np.ndarray, event: np.ndarray, horizon: float, measure: str) -> None:
    """Refuse what cannot be compared."""
    require_times(time, event)
    require_length("the times", time, model.n)
    if measure not in MEASURES:
        raise ConfigError(f"no measure {measure!r}", exists=MEASURES)
    for arm, name in enumerate(model.arms):
        rows = model.arm == arm
        try:
            kaplan_meier(time[rows], event[rows]).rmst(horizon)
        except ConfigError as error:
            raise ConfigError(error.what, where=f"arm {name!r}", do=error.do) from None
