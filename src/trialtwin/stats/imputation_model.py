r"""The imputation model of trials with intercurrent events: whose mean a patient follows, and what is filled in.

A mixed model of all visits (arm, covariates and intercept by visit, unstructured Σ) gives each patient a mean by the
own arm, μ, and by the reference arm, μ^ref. After an intercurrent event at visit e a strategy replaces the mean:

    MAR    μ throughout                               (missing at random)
    JR     μ before e, μ^ref from e on                (jump to reference)
    CR     μ^ref throughout                           (copy reference)
    CIR    μ before e, μ^ref + (μ − μ^ref)_{e−1} after (copy increments in reference)
    LMCF   μ before e, μ_{e−1} after                  (last mean carried forward)

What is missing has the mean μ_m + Σ_mo Σ_oo⁻¹ (y_o − μ_o) given what was seen. A draw from its distribution is made
without a decomposition for each pattern of visits: with ε ~ N(0, Σ), the missing part of
(μ + ε) + Σ_·o Σ_oo⁻¹ (y_o − μ_o − ε_o) has the conditional mean and the conditional covariance.

Everything is done for many fits at once: the first axis is the fit. A fit counts patients by weights, which are 0 and 1
where patients are left out and how often a patient was drawn in a bootstrap sample.

Source: Carpenter JR, Roger JH, Kenward MG (2013), doi:10.1080/10543406.2013.834911; R package rbmi.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.core.errors import ConfigError, ConvergenceError, DataError, FitError
from trialtwin.stats.mmrm_batch import BatchFit, batch_mmrm

type Visits = Float[np.ndarray, "patient visit"]
type Filled = Float[np.ndarray, "fit patient visit"]

STRATEGIES: Mapping[str, str] = MappingProxyType(
    {
        "MAR": "missing at random",
        "JR": "jump to reference",
        "CR": "copy reference",
        "CIR": "copy increments in reference",
        "LMCF": "last mean carried forward",
    }
)
FAILING = 0.01  # share of bootstrap samples that may fail and be drawn again, as in rbmi


@dataclass(frozen=True, eq=False)
class Plan:
    """What is known, who had an event when, and what becomes of the mean afterwards.

    Parameters
    ----------
    kept : shape (patient, visit)
        Outcomes, NaN where missing or set aside.
    other : shape (patient,)
        Whether a patient is in the arm that is not the reference.
    covariates : shape (patient, covariate)
        Baseline covariates.
    event : shape (patient,)
        First visit after the event, from 0; the number of visits or more where there was none.
    strategy : shape (patient,)
        Names of the strategies.
    """

    kept: Visits
    other: Bool[np.ndarray, " patient"]
    covariates: Float[np.ndarray, "patient covariate"]
    event: Int[np.ndarray, " patient"]
    strategy: np.ndarray

    @property
    def missing(self) -> Bool[np.ndarray, "patient visit"]:
        """Where a value is imputed."""
        return np.isnan(self.kept)

    @property
    def design(self) -> Float[np.ndarray, "patient column"]:
        """Columns of the imputation model without the intercept: the other arm, and covariates about their means."""
        return np.column_stack([self.other.astype(float), self.covariates - self.covariates.mean(axis=0)])


def plan_imputation(
    outcomes: Visits,
    arm: Int[np.ndarray, " patients"],
    covariates: Float[np.ndarray, "rows covariate"],
    event: Int[np.ndarray, " events"] | None,
    strategy: str | Sequence[str],
    reference: int,
) -> Plan:
    """Look at what was given, and set values aside that were seen after an event whose strategy is not MAR.

    Raises
    ------
    ConfigError
        If there is no such strategy, or no such arm.
    DataError
        If lengths differ or a covariate is missing.
    FitError
        If an arm has no outcome at a visit.
    """
    n, visits = outcomes.shape
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
    kept = np.where((when[:, None] <= np.arange(visits)) & (names != "MAR")[:, None], np.nan, outcomes)
    for a in (0, 1):
        empty = np.flatnonzero(np.isnan(kept[arm == a]).all(axis=0))
        if len(empty):
            raise FitError(
                f"arm {a} has no outcome at visit {empty[0]}",
                do="leave the visit out; there is nothing to impute it from",
            )
    return Plan(kept, arm != reference, covariates, when, names)


def fit_everybody(plan: Plan) -> BatchFit:
    """Fit the imputation model to everybody, as a batch of one.

    Raises
    ------
    ConvergenceError
        If the fit does not converge.
    """
    fit = _fit(plan.design[None], plan.kept[None])
    if not fit.converged.all():
        raise ConvergenceError("the imputation model did not converge", do="use fewer covariates or visits")
    return fit


def fit_leaving_out(plan: Plan) -> tuple[Float[np.ndarray, "fit patient"], BatchFit]:
    """Fit the imputation model to everybody, and then without each patient in turn.

    Raises
    ------
    ConvergenceError
        If a fit does not converge.
    """
    n = len(plan.kept)
    weights = np.vstack([np.ones(n), 1.0 - np.eye(n)])
    trials = np.tile(plan.kept, (n + 1, 1, 1))
    trials[weights == 0] = np.nan
    fit = _fit(np.tile(plan.design, (n + 1, 1, 1)), trials)
    if not fit.converged.all():
        bad = np.flatnonzero(~fit.converged)
        raise ConvergenceError(
            f"the imputation model did not converge in {len(bad)} of {n + 1} fits",
            where="all patients" if bad[0] == 0 else f"without patient {bad[0] - 1}",
            do="use fewer covariates or visits",
        )
    return weights, fit


def fit_bootstrap(
    plan: Plan, samples: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "fit patient"], BatchFit, int]:
    """Fit the imputation model to bootstrap samples of patients, drawn within the arms.

    Samples to which it cannot be fitted are drawn again, and counted in what is returned.

    Raises
    ------
    ConfigError
        If fewer than two samples are asked for.
    ConvergenceError
        If more than one sample in a hundred cannot be fitted.
    """
    if samples < 2:
        raise ConfigError(f"{samples} bootstrap sample(s)", do="draw two at least; 200 or more for a report")
    n, arms = len(plan.kept), [np.flatnonzero(plan.other == a) for a in (False, True)]
    chosen: list[np.ndarray] = []
    fits: list[BatchFit] = []
    failed, wanted = 0, samples
    while wanted:
        rows = np.concatenate([rng.choice(own, size=(wanted, len(own))) for own in arms], axis=1)
        fit = _fit(plan.design[rows], plan.kept[rows])
        failed += int((~fit.converged).sum())
        if failed > max(1.0, FAILING * samples):
            raise ConvergenceError(
                f"the imputation model cannot be fitted to {failed} of {samples} bootstrap samples",
                where=f"{n} patients, {plan.kept.shape[1]} visits, {plan.design.shape[1]} columns",
                do="use fewer covariates or visits, or conditional means with the jackknife",
            )
        chosen.append(rows[fit.converged])
        fits.append(fit)
        wanted -= int(fit.converged.sum())
    drawn = np.concatenate(chosen)
    weights = np.zeros((samples, n))
    np.add.at(weights, (np.arange(samples)[:, None], drawn), 1.0)
    return weights, joined(fits), failed


def _fit(design: Float[np.ndarray, "fit patient column"], outcomes: Filled) -> BatchFit:
    names = [f"column {k}" for k in range(design.shape[2])]
    return batch_mmrm(design, outcomes, names=names, columns=[])


def joined(fits: Sequence[BatchFit]) -> BatchFit:
    """Return the fits of several batches that converged as one."""
    names = ("converged", "estimate", "se", "df", "covariance", "coefficients")
    parts = {name: np.concatenate([getattr(fit, name)[fit.converged] for fit in fits]) for name in names}
    return BatchFit((), **parts)


def strategy_means(plan: Plan, fit: BatchFit) -> Filled:
    """Return the mean that each patient follows in each fit, under the patient's own strategy."""
    design, visits = plan.design, plan.kept.shape[1]
    slope = fit.coefficients[:, :, 2:] @ design[:, 1:].T
    reference = (fit.coefficients[:, :, :1] + slope).swapaxes(1, 2)
    own = reference + plan.other[:, None] * fit.coefficients[:, None, :, 1]
    event = plan.event[:, None]
    before = np.clip(event - 1, 0, visits - 1)
    last, last_reference = (np.take_along_axis(mean, before[None], axis=2) for mean in (own, reference))
    # an event before the first visit leaves no mean to carry: what follows is the reference's
    after = {
        "JR": reference,
        "CR": reference,
        "CIR": reference + np.where(event > 0, last - last_reference, 0.0),
        "LMCF": np.where(event > 0, last, reference),
    }
    chosen = own.copy()
    for name, later in after.items():
        rows = plan.strategy == name
        changed = (np.arange(visits) >= event) | (name == "CR") & (event < visits)
        chosen[:, rows] = np.where(changed, later, own)[:, rows]
    return chosen


def fill(
    kept: Visits,
    mean: Filled,
    covariance: Float[np.ndarray, "fit visit visit"],
    rng: np.random.Generator | None = None,
) -> Filled:
    """Fill in what is missing: by its mean given what was seen, or, with random numbers, by a draw."""
    if rng is not None:
        mean = mean + rng.normal(size=mean.shape) @ np.linalg.cholesky(covariance).mT
    known = np.isfinite(kept)
    gap = np.where(known, kept - mean, 0.0)
    filled = np.broadcast_to(kept, mean.shape).copy()
    patterns, of_patient = np.unique(known, axis=0, return_inverse=True)
    for g, seen in enumerate(patterns):
        rows = np.flatnonzero(of_patient.ravel() == g)
        if seen.all():
            continue
        pull = np.linalg.solve(covariance[:, seen][:, :, seen], covariance[:, seen][:, :, ~seen])
        at = np.ix_(np.arange(len(mean)), rows, np.flatnonzero(~seen))
        filled[at] = mean[at] + gap[:, rows][:, :, seen] @ pull
    return filled


@dataclass(frozen=True, eq=False)
class Compared:
    """Effect and least-squares means at the mean covariates by ANCOVA, with model-based variances.

    Parameters
    ----------
    values, variances : shape (fit, 3, visit)
        Other minus reference, reference mean, other mean.
    df
        Residual degrees of freedom, were nothing missing.
    """

    values: Float[np.ndarray, "fit 3 visit"]
    variances: Float[np.ndarray, "fit 3 visit"]
    df: int


def compare(completed: Filled, plan: Plan, weights: Float[np.ndarray, "fit patient"] | None = None) -> Compared:
    """Analyse each completed data set by ANCOVA at each visit, patients counted by their weights.

    Raises
    ------
    FitError
        If there are no residual degrees of freedom, or a design is singular.
    """
    n, x = len(plan.kept), plan.covariates
    columns = x.shape[1] + 2
    df = n - columns
    if df < 1:
        raise FitError(f"{n} patients leave no residual degrees of freedom for {columns} coefficients")
    w = np.ones((1, n)) if weights is None else weights
    share = w / w.sum(axis=1, keepdims=True)
    centred = x - (share @ x)[:, None]
    arm = np.broadcast_to(plan.other.astype(float)[:, None], (len(w), n, 1))
    root = np.sqrt(w)[:, :, None]
    q, r = np.linalg.qr(np.concatenate([np.ones((len(w), n, 1)), arm, centred], axis=2) * root)
    size = np.abs(np.diagonal(r, axis1=1, axis2=2))
    if (size.min(axis=1) < 1e-10 * size.max(axis=1)).any():
        raise FitError("the design of the ANCOVA is singular", do="drop a covariate that depends on the others")
    inverse = np.linalg.inv(r)
    projected = q.mT @ (completed * root)
    beta = inverse @ projected
    rest = ((completed * root - q @ projected) ** 2).sum(axis=1) / (w.sum(axis=1, keepdims=True) - columns)
    rows = np.zeros((3, r.shape[-1]))
    rows[[0, 1, 2, 2], [1, 0, 0, 1]] = 1.0
    square = ((rows @ inverse) ** 2).sum(axis=2)
    return Compared(rows @ beta, square[:, :, None] * rest[:, None], df)
