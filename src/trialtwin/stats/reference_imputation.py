r"""Reference-based imputation by conditional means, with jackknife standard errors.

A mixed model of all visits (arm, covariates and intercept by visit, unstructured Σ) gives each patient a mean by the
own arm, μ, and by the reference arm, μ^ref. After an intercurrent event at visit e a strategy replaces the mean:

    MAR    μ throughout                               (missing at random)
    JR     μ before e, μ^ref from e on                (jump to reference)
    CR     μ^ref throughout                           (copy reference)
    CIR    μ before e, μ^ref + (μ − μ^ref)_{e−1} after (copy increments in reference)
    LMCF   μ before e, μ_{e−1} after                  (last mean carried forward)

and what is missing is imputed by its mean given what was seen, μ_m + Σ_mo Σ_oo⁻¹ (y_o − μ_o), plus a shift δ where
asked for. Values seen from e on are set aside unless the strategy is MAR. The completed data are analysed by ANCOVA at
each visit; the standard error is the jackknife's over patients, every step repeated. It is that of the estimator over
trials, where Rubin's rules give a larger one.

Sources: Carpenter JR, Roger JH, Kenward MG (2013), doi:10.1080/10543406.2013.834911; Wolbers M et al. (2022),
doi:10.1002/pst.2234 (conditional means and jackknife); R package rbmi.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import ConfigError, ConvergenceError, DataError, FitError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.mmrm_batch import batch_mmrm
from trialtwin.stats.wald import wald_estimate

type Visits = Float[np.ndarray, "patient visit"]

STRATEGIES: Mapping[str, str] = MappingProxyType(
    {
        "MAR": "missing at random",
        "JR": "jump to reference",
        "CR": "copy reference",
        "CIR": "copy increments in reference",
        "LMCF": "last mean carried forward",
    }
)


@dataclass(frozen=True, eq=False)
class Imputed:
    """Estimates from completed data, with the jackknife's standard errors; immutable.

    Parameters
    ----------
    effect, reference_mean, other_mean : shape (visit,)
        Difference, other arm minus reference, and least-squares means at the mean covariates, at each visit.
    effect_se, reference_se, other_se : shape (visit,)
        Jackknife standard errors.
    completed : shape (patient, visit)
        The completed data.
    """

    effect: Float[np.ndarray, " visit"]
    effect_se: Float[np.ndarray, " visit"]
    reference_mean: Float[np.ndarray, " visit"]
    reference_se: Float[np.ndarray, " visit"]
    other_mean: Float[np.ndarray, " visit"]
    other_se: Float[np.ndarray, " visit"]
    completed: Visits

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def estimate(self, visit: int, *, contrast: str, unit: str = "", estimand: Estimand | None = None) -> Estimate:
        """Return the difference at a visit, with normal inference."""
        return wald_estimate(
            float(self.effect[visit]),
            float(self.effect_se[visit]),
            contrast=contrast,
            n=len(self.completed),
            method="conditional mean imputation, ANCOVA",
            variance="jackknife",
            unit=unit,
            estimand=estimand,
        )


def conditional_mean(
    outcomes: Visits,
    arm: Int[np.ndarray, " patient"],
    covariates: Float[np.ndarray, "patient covariate"],
    *,
    event: Int[np.ndarray, " patient"] | None = None,
    strategy: str | Sequence[str] = "MAR",
    reference: int = 0,
    delta: float | Float[np.ndarray, " patient"] = 0.0,
) -> Imputed:
    """Impute by conditional means under a strategy, analyse by ANCOVA at each visit, and jackknife.

    Parameters
    ----------
    outcomes : shape (patient, visit)
        NaN where missing.
    arm : shape (patient,)
        0 or 1.
    covariates : shape (patient, covariate)
        Baseline covariates of the imputation model (by visit) and of the analysis.
    event : shape (patient,)
        First visit after the intercurrent event, from 0; the number of visits or more where there was none.
    strategy
        One of ``STRATEGIES`` for all patients with an event, or one a patient.
    reference
        Arm whose mean the others take over; its difference to the other arm is other minus reference.
    delta
        Added to every imputed value; one number, or one a patient, such as for one arm only.

    Raises
    ------
    ConfigError
        If there is no such strategy, or no such arm.
    DataError
        If lengths differ or a covariate is missing.
    FitError
        If an arm has no outcome at a visit.
    ConvergenceError
        If a mixed model does not converge, with or without one of the patients.
    """
    n, visits = outcomes.shape
    plan = _plan(n, visits, arm, covariates, event, strategy, reference)
    kept = np.where((plan.event[:, None] <= np.arange(visits)) & (plan.strategy != "MAR")[:, None], np.nan, outcomes)
    _require_outcomes(kept, arm)
    shift = np.broadcast_to(delta, n)[:, None]
    trials, z, covariance = _fit_each(kept, arm != reference, covariates)
    found, completed = [], kept
    for k in range(n + 1):
        mean = _means(trials[k], z, covariance[k])
        filled = _fill(kept, mean, plan, covariance[k]) + np.where(np.isnan(kept), shift, 0.0)
        completed = filled if k == 0 else completed
        rows = np.ones(n, dtype=bool) if k == 0 else np.arange(n) != k - 1
        found.append(_analyse(filled[rows], arm[rows] != reference, covariates[rows]))
    whole, left = found[0], np.array(found[1:])
    se = np.sqrt((n - 1) / n * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    return Imputed(whole[0], se[0], whole[1], se[1], whole[2], se[2], completed)


def _fit_each(
    kept: Visits, other: np.ndarray, covariates: Float[np.ndarray, "patient covariate"]
) -> tuple[Float[np.ndarray, "fit patient visit"], Float[np.ndarray, "patient column"], np.ndarray]:
    """Fit the imputation model to everybody, and without each patient: data, columns and covariance of each fit."""
    n = len(kept)
    z = np.column_stack([other.astype(float), covariates - covariates.mean(axis=0)])
    # trial 0 is whole; in trial i + 1 patient i is left out
    trials = np.tile(kept, (n + 1, 1, 1))
    trials[np.arange(1, n + 1), np.arange(n)] = np.nan
    names = [f"column {k}" for k in range(z.shape[1])]
    fit = batch_mmrm(np.tile(z, (n + 1, 1, 1)), trials, names=names, columns=names[:1])
    if not fit.converged.all():
        bad = np.flatnonzero(~fit.converged)
        raise ConvergenceError(
            f"the imputation model did not converge in {len(bad)} of {n + 1} fits",
            where="all patients" if bad[0] == 0 else f"without patient {bad[0] - 1}",
            do="use fewer covariates or visits",
        )
    return trials, z, fit.covariance


@dataclass(frozen=True, eq=False)
class _Plan:
    """Who had an event when, and what becomes of the mean afterwards."""

    event: Int[np.ndarray, " patient"]
    strategy: np.ndarray
    other: np.ndarray


def _plan(
    n: int,
    visits: int,
    arm: np.ndarray,
    covariates: np.ndarray,
    event: np.ndarray | None,
    strategy: str | Sequence[str],
    reference: int,
) -> _Plan:
    """Return the plan after a look at what was given."""
    if reference not in (0, 1) or not np.isin(arm, (0, 1)).all():
        raise ConfigError(f"arms {np.unique(arm).tolist()} with reference {reference}", do="code two arms as 0 and 1")
    names = np.array([strategy] * n if isinstance(strategy, str) else list(strategy), dtype=object)
    unknown = sorted(set(names) - set(STRATEGIES))
    if unknown:
        raise ConfigError(f"no imputation strategy {unknown[0]!r}", exists=STRATEGIES)
    when = np.full(n, visits) if event is None else np.asarray(event)
    if not len(arm) == len(covariates) == len(when) == len(names) == n:
        raise DataError(f"{n} patients, {len(arm)} arms, {len(covariates)} rows of covariates, {len(when)} events")
    if not np.isfinite(covariates).all():
        raise DataError("a baseline covariate of the imputation model is missing", do="give every patient a value")
    return _Plan(when, names, arm != reference)


def _require_outcomes(kept: Visits, arm: np.ndarray) -> None:
    for a in (0, 1):
        empty = np.flatnonzero(np.isnan(kept[arm == a]).all(axis=0))
        if len(empty):
            raise FitError(
                f"arm {a} has no outcome at visit {empty[0]}",
                do="leave the visit out; there is nothing to impute it from",
            )


def _means(
    seen: Visits, z: Float[np.ndarray, "patient column"], covariance: Float[np.ndarray, "visit visit"]
) -> Float[np.ndarray, "arm patient visit"]:
    """Return each patient's means under the reference (0) and the other arm (1), by generalised least squares."""
    x = np.column_stack([np.ones(len(z)), z])
    known = np.isfinite(seen)
    precision = _precision(known, covariance)
    visits, columns = seen.shape[1], x.shape[1]
    gram = np.einsum("ivw,ip,iq->vpwq", precision, x, x, optimize=True).reshape(visits * columns, -1)
    right = np.einsum("ivw,iw,ip->vp", precision, np.where(known, seen, 0.0), x, optimize=True).ravel()
    beta = np.linalg.solve(gram, right).reshape(visits, columns)
    both = [np.column_stack([x[:, 0], np.full(len(x), value), x[:, 2:]]) for value in (0.0, 1.0)]
    return np.stack([one @ beta.T for one in both])


def _precision(known: np.ndarray, covariance: np.ndarray) -> Float[np.ndarray, "patient visit visit"]:
    """Return the inverse covariance of each patient's seen visits, 0 elsewhere."""
    both = known[:, :, None] & known[:, None, :]
    padded = np.where(both, covariance, 0.0) + np.eye(known.shape[1]) * ~known[:, :, None]
    return np.where(both, np.linalg.inv(padded), 0.0)


def _fill(
    kept: Visits,
    mean: Float[np.ndarray, "arm patient visit"],
    plan: _Plan,
    covariance: Float[np.ndarray, "visit visit"],
) -> Visits:
    """Return the data with what is missing at its mean given what was seen."""
    reference, own = mean[0], np.where(plan.other[:, None], mean[1], mean[0])
    visit, event = np.arange(kept.shape[1]), plan.event[:, None]
    before = np.clip(event - 1, 0, kept.shape[1] - 1)
    last, last_reference = np.take_along_axis(own, before, axis=1), np.take_along_axis(reference, before, axis=1)
    # an event before the first visit leaves no mean to carry: what follows is the reference's
    gained = np.where(event > 0, last - last_reference, 0.0)
    after = {
        "MAR": own,
        "JR": reference,
        "CR": reference,
        "CIR": reference + gained,
        "LMCF": np.where(event > 0, last, reference),
    }
    chosen = own.copy()
    for name, later in after.items():
        rows = plan.strategy == name
        changed = np.where((visit >= event) | (name == "CR") & (event < kept.shape[1]), later, own)
        chosen[rows] = changed[rows]
    known = np.isfinite(kept)
    pull = np.einsum("ivw,iw->iv", _precision(known, covariance), np.where(known, kept - chosen, 0.0))
    return np.where(known, kept, chosen + pull @ covariance)


def _analyse(
    completed: Visits, other: np.ndarray, covariates: Float[np.ndarray, "patient covariate"]
) -> Float[np.ndarray, "3 visit"]:
    """Return effect and least-squares means of both arms at the mean covariates, at each visit, by ANCOVA."""
    x = np.column_stack([np.ones(len(other)), other.astype(float), covariates - covariates.mean(axis=0)])
    beta = np.linalg.lstsq(x, completed, rcond=None)[0]
    return np.stack([beta[1], beta[0], beta[0] + beta[1]])
