r"""The semiparametric-efficient log hazard ratio of two arms: the partial likelihood's score, augmented by covariates.

With Mᵢ the patient's part in the score of the hazard ratio, ±O of ``twoarms``, π the share of the second arm, K the
Kaplan–Meier curve of censoring and X̄(u) the mean covariates of those at risk at a time u of censoring, both by arm,

    Σᵢ Mᵢ(β) − (Aᵢ − π) fᵢ − gᵢ = 0,
    f = W [π (1 − π) WᵀW]⁻¹ Wᵀ (A − π) M,        W = (1, X),
    g = H (HᵀH)⁻¹ HᵀM,        Hᵢ = (1 − Δᵢ) (Xᵢ − X̄(Uᵢ)) / K(Uᵢ) − Σ_{u ≤ Uᵢ} c(u) (Xᵢ − X̄(u)) / (K(u) Y(u)),

c(u) the number censored and Y(u) at risk at u. The first augmentation uses what covariates tell of the events, the
second how those who are censored differ by chance; both take M at Cox's estimate. The variance is
Σ (M − (A − π) f − g)² / I².

Source: Lu X, Tsiatis AA (2008), Improving the efficiency of the log-rank test using auxiliary covariates, Biometrika
95:679–694; numbers as speff2trial's, which leaves out the 1 in W.
"""

import numpy as np
from jaxtyping import Bool, Float

from trialtwin.core.arrays import require_length
from trialtwin.core.errors import DataError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.cox import cox
from trialtwin.stats.modelmatrix import ModelMatrix, continuous_columns
from trialtwin.stats.survival import kaplan_meier, require_times
from trialtwin.stats.twoarms import TwoArms, solve_score
from trialtwin.stats.wald import wald_estimate


def efficient_hazard_ratio(
    model: ArmModel,
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    *,
    constant: bool = True,
    level: float = 0.95,
    estimand: Estimand | None = None,
) -> Estimate:
    """Estimate the unconditional log hazard ratio of the second arm to the first as well as covariates allow.

    For simple randomisation, and censoring that depends on the arm at most: where covariates tell of it, the interval
    is too short. It is a little short in small trials: 93.9 % instead of 95 % in 10,000 simulated ones of 250 patients.

    Parameters
    ----------
    model
        Two arms, and the covariates known before randomisation.
    time, event : shape (patient,)
        Times, and whether they ended in the event.
    constant
        Whether W holds a 1. Without it, as in speff2trial, the zero of covariates matters.

    Raises
    ------
    DataError
        If times are impossible, lengths differ, there are not two arms, or no covariates.
    FitError, ConvergenceError
        As for ``cox.cox``; if no hazard ratio solves the equation.

    Examples
    --------
    >>> age = continuous_columns({"age": np.array([71.0, 64, 58, 60, 66, 72, 59, 57, 69, 61, 54, 63])})
    >>> model = ArmModel(("control", "active"), np.tile([0, 1], 6), age)
    >>> round(efficient_hazard_ratio(model, np.arange(1.0, 13.0), np.arange(12) % 5 != 4).value, 3)
    -0.48
    """
    covariates = _require(model, time, event)
    x, second = covariates.values, model.arm == 1
    trial = TwoArms.of(np.arange(model.n), second, time, event)
    first = cox(continuous_columns({"arm": second.astype(float)}), time, event).coefficient("arm")
    sign, allocation = np.where(second, 1.0, -1.0), second - model.shares[1]
    part, w = sign * trial.outcomes(first), np.column_stack([np.ones(model.n), x]) if constant else x
    told = _projected(w, allocation * part) / (model.shares[0] * model.shares[1])
    lost = np.zeros_like(x)
    for rows in (~second, second):
        lost[rows] = _censoring(time[rows], ~event[rows], x[rows] - x.mean(axis=0))
    augmentation = allocation * told + _projected(lost, part)
    value = solve_score(lambda b: trial.score(b)[0], float(augmentation.sum()))
    return wald_estimate(
        value,
        float(np.linalg.norm(sign * trial.outcomes(value) - augmentation) / trial.score(value)[1]),
        contrast=f"{model.arms[1]} / {model.arms[0]}",
        n=model.n,
        level=level,
        method=f"semiparametric-efficient log hazard ratio, by {', '.join(covariates.names)}",
        variance="influence function, simple randomisation",
        unit="log hazard ratio",
        estimand=estimand,
    )


def _projected(
    x: Float[np.ndarray, "patient column"], y: Float[np.ndarray, " patient"]
) -> Float[np.ndarray, " patient"]:
    """Return the projection of y on columns, which may depend on each other or be all zero."""
    scale = np.sqrt((x**2).sum(axis=0))
    columns = x[:, scale > 0] / scale[scale > 0]
    return np.asarray(columns @ np.linalg.lstsq(columns, y, rcond=None)[0])


def _censoring(
    time: Float[np.ndarray, " member"], censored: Bool[np.ndarray, " member"], x: Float[np.ndarray, "member column"]
) -> Float[np.ndarray, "member column"]:
    """Return H within an arm."""
    if not censored.any():
        return np.zeros_like(x)
    curve = kaplan_meier(time, censored)
    # Where the last patients are all censored at once K is 0: half of what was before counts, as in speff2trial.
    before = np.append(1.0, curve.survival)[:-1]
    free = np.where(curve.survival > 0, curve.survival, before / 2)
    order = np.argsort(-time, kind="stable")
    mean = x[order].cumsum(axis=0)[curve.at_risk.astype(int) - 1] / curve.at_risk[:, None]
    rate = curve.events / (free * curve.at_risk)
    spent = np.append(0.0, rate.cumsum())
    drift = np.concatenate([np.zeros((1, x.shape[1])), (mean * rate[:, None]).cumsum(axis=0)])
    reached = np.searchsorted(curve.times, time, side="right")
    found = drift[reached] - x * spent[reached][:, None]
    at = reached[censored] - 1
    found[censored] += (x[censored] - mean[at]) / free[at][:, None]
    return found


def _require(model: ArmModel, time: np.ndarray, event: np.ndarray) -> ModelMatrix:
    """Return the covariates, or refuse what cannot be compared."""
    require_times(time, event)
    require_length("the times", time, model.n)
    if len(model.arms) != 2:
        raise DataError(
            f"a hazard ratio compares two arms, not {len(model.arms)}", exists=model.arms, do="pass two of them"
        )
    if model.covariates is None:
        raise DataError("no covariates to gain from", do="give some, or use cox")
    return model.covariates
