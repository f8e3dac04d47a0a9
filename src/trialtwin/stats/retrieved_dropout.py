r"""Multiple imputation from retrieved dropouts: who stopped treatment and was still seen informs about who left.

Visit by visit, with D_j = 1 from the first visit after the stop of treatment on,

    y_j = α + τ·arm + xᵀβ + Σ_{k<j} φ_k y_k + D_j (γ_reference or γ_other) + ε,    ε ~ N(0, σ_j²)

is fitted to all patients seen at that visit, on and off treatment, so that γ is learned from retrieved dropouts. With
history, D_j is split into the visit at which the stop is first felt and later ones. For each imputation σ_j² and the
coefficients are drawn from their posterior under a flat prior (σ² = RSS/χ²), and what is missing from the predictive
distribution; the visit then serves as a predictor of the next. Values missed before a later visit was seen are drawn
first, under missing at random by the joint normal model (``imputation_model``, approximate Bayes). Completed data are
analysed by ANCOVA at each visit, and pooled by Rubin's rules.

Nothing about patients who stop is assumed from the reference arm; the price is variance. Where too few were retrieved
to learn γ from, that is an error.

Sources: Drury T, Abellan JJ, Best N, White IR (2023), doi:10.48550/arXiv.2308.10857; Rubin DB (1987),
doi:10.1002/9780470316696 (draws of a normal linear regression).
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.core.errors import ConfigError, FitError
from trialtwin.stats.imputation_model import Filled, Plan, Visits, fill, fit_bootstrap, plan_imputation, strategy_means
from trialtwin.stats.multiple_imputation import MultiplyImputed, pool_completed

_DEPENDENT = 1e-10

type Columns = Float[np.ndarray, "patient column"]


def retrieved_dropout(
    outcomes: Visits,
    arm: Int[np.ndarray, " patients"],
    covariates: Float[np.ndarray, "rows covariate"],
    *,
    stopped: Int[np.ndarray, " stops"],
    by_arm: bool = True,
    history: bool = False,
    fewest: int = 5,
    reference: int = 0,
    delta: float | Float[np.ndarray, " shifts"] = 0.0,
    imputations: int = 250,
    seed: int = 0,
) -> MultiplyImputed:
    """Impute those who stopped and left from those who stopped and stayed, analyse by ANCOVA and pool.

    Parameters
    ----------
    outcomes, arm, covariates, reference, delta, imputations, seed
        As for ``multiple_imputation``; values after the stop of treatment are used.
    stopped : shape (patient,)
        First visit after the stop of treatment, from 0; the number of visits or more where there was none. Patients
        who left without a stop are imputed as on treatment.
    by_arm, history
        Whether γ differs by arm, and between the first visit off treatment and later ones.
    fewest
        Retrieved patients from whom each γ that is needed must be learned, at least.

    Raises
    ------
    ConfigError, DataError, ConvergenceError
        As for ``multiple_imputation``; and if ``fewest`` is below 2.
    FitError
        If too few patients were retrieved, or a regression is singular or has no degrees of freedom.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> arm, base = np.arange(200) % 2, rng.normal(size=(200, 1))
    >>> stopped = np.where(rng.random(200) < 0.4, 1, 2)
    >>> y = base + rng.normal(size=(200, 2)) + (2.0 * arm * (stopped > 1))[:, None]
    >>> y[(stopped == 1) & (rng.random(200) < 0.5), 1] = np.nan
    >>> found = retrieved_dropout(y, arm, base, stopped=stopped, imputations=50)
    >>> found.estimate(1, contrast="active − control").value < 1.6
    True
    """
    if fewest < 2:
        raise ConfigError(
            f"{fewest} retrieved patients as the fewest", do="ask for two at least; five or more is wiser"
        )
    plan = plan_imputation(outcomes, arm, covariates, np.asarray(stopped), "MAR", reference)
    rng = np.random.default_rng(seed)
    completed, failed = _between(plan, imputations, rng)
    for k in range(outcomes.shape[1]):
        lost = np.isnan(completed[0, :, k])
        if lost.any():
            off = _off_treatment(plan, k, lost, by_arm=by_arm, history=history, fewest=fewest)
            completed[:, lost, k] = _draw_visit(plan, completed, k, off, rng)
    found = pool_completed(completed, plan, failed=failed, label="multiple imputation from retrieved dropouts")
    return found.shifted(delta) if np.any(delta) else found


def _between(plan: Plan, imputations: int, rng: np.random.Generator) -> tuple[Filled, int]:
    """Return the data as often as they are imputed, with draws where a later visit was seen."""
    known = ~plan.missing
    later = np.logical_or.accumulate(known[:, ::-1], axis=1)[:, ::-1]
    gaps = plan.missing & later
    if imputations < 2:
        raise ConfigError(f"{imputations} imputation(s)", do="impute twice at least; 50 times or more for a report")
    completed = np.tile(plan.kept, (imputations, 1, 1))
    if not gaps.any():
        return completed, 0
    _, fit, failed = fit_bootstrap(plan, imputations, rng)
    drawn = fill(plan.kept, strategy_means(plan, fit), fit.covariance, rng)
    return np.where(gaps, drawn, completed), failed


def _off_treatment(
    plan: Plan, visit: int, lost: Bool[np.ndarray, " patient"], *, by_arm: bool, history: bool, fewest: int
) -> Columns:
    """Return the columns of being off treatment that the visit needs, after a count of whom they are learned from."""
    off = plan.event <= visit
    parts = {"off treatment": off}
    if history:
        new = off & (plan.event >= visit)
        parts = {"off treatment for the first time": new, "off treatment for longer": off & ~new}
    arms = {" in the reference arm": ~plan.other, " in the other arm": plan.other} if by_arm else {"": off}
    columns = []
    for what, who in parts.items():
        for where, own in arms.items():
            member = who & own
            seen, asked = int((member & ~lost).sum()), int((member & lost).sum())
            if asked and seen < fewest:
                raise FitError(
                    f"{seen} patient(s) {what}{where} were seen at visit {visit}, from whom {asked} who left are to be "
                    f"imputed; {fewest} are the fewest",
                    where=f"visit {visit}",
                    do=_advice(by_arm, history),
                )
            if seen:
                columns.append(member.astype(float))
    return np.column_stack(columns) if columns else np.zeros((len(off), 0))


def _advice(by_arm: bool, history: bool) -> str:
    simpler = [*(["history=False"] if history else []), *(["by_arm=False"] if by_arm else [])]
    other = "a reference-based strategy (multiple_imputation with 'JR' or 'CIR')"
    return f"let them share what is learned ({', '.join(simpler)}), or assume {other}" if simpler else f"assume {other}"


def _draw_visit(
    plan: Plan, completed: Filled, visit: int, off: Columns, rng: np.random.Generator
) -> Float[np.ndarray, "imputation lost"]:
    """Draw what is missing at a visit from a Bayesian regression on what came before, in each imputation."""
    fixed = np.column_stack([np.ones(len(off)), plan.design, off])
    earlier = completed[:, :, :visit]
    x = np.concatenate([np.broadcast_to(fixed, (len(completed), *fixed.shape)), earlier], axis=2)
    lost = np.isnan(completed[0, :, visit])
    own, y = x[:, ~lost], completed[:, ~lost, visit]
    rows, columns = own.shape[1:]
    if rows <= columns:
        raise FitError(
            f"{rows} patients seen at visit {visit} leave no degrees of freedom for {columns} coefficients",
            do="leave covariates or visits out",
        )
    q, r = np.linalg.qr(own)
    size = np.abs(np.diagonal(r, axis1=1, axis2=2)) / np.sqrt((own**2).sum(axis=1))
    if (size < _DEPENDENT).any():
        raise FitError(f"the regression of visit {visit} is singular", do="drop a covariate that depends on the others")
    inverse = np.linalg.inv(r)
    projected = (q.mT @ y[..., None])[..., 0]
    rest = ((y - (q @ projected[..., None])[..., 0]) ** 2).sum(axis=1)
    sigma = np.sqrt(rest / rng.chisquare(rows - columns, len(rest)))[:, None]
    beta = (inverse @ (projected + sigma * rng.normal(size=projected.shape))[..., None])[..., 0]
    mean = (x[:, lost] @ beta[..., None])[..., 0]
    return np.asarray(mean + sigma * rng.normal(size=mean.shape))
