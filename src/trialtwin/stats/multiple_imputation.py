r"""Reference-based multiple imputation by draws, pooled by Rubin's rules.

Draws of the parameters are approximate Bayes: the mixed model is fitted to bootstrap samples of the patients, drawn
within the arms. For each, what is missing is drawn from its normal distribution given what was seen, under the
patient's strategy (``imputation_model``), plus a shift δ where asked for. Each completed data set is analysed by
ANCOVA at each visit, and the results are pooled with Barnard and Rubin's degrees of freedom.

Under MAR Rubin's variance is that of the estimator over trials. Under JR, CR and CIR it is larger: it keeps the
information of a patient who jumps at what it would be under MAR (Cro S, Carpenter JR, Kenward MG (2019),
doi:10.1111/rssa.12423), where the variance over trials falls with each such patient (Bartlett 2023,
doi:10.1080/19466315.2021.1983455). ``reference_imputation`` gives the latter.

Sources: Little RJA, Rubin DB (2002), doi:10.1002/9781119013563, section 10.2.3 (draws by the bootstrap); Carpenter JR,
Roger JH, Kenward MG (2013), doi:10.1080/10543406.2013.834911; R package rbmi, ``method_approxbayes``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trialtwin.core.arrays import frozen
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.imputation import Pooled, pool
from trialtwin.stats.imputation_model import (
    Filled,
    Plan,
    Visits,
    compare,
    fill,
    fit_bootstrap,
    plan_imputation,
    strategy_means,
)


@dataclass(frozen=True, eq=False)
class MultiplyImputed:
    """Completed data sets, and what ANCOVA and Rubin's rules make of them; immutable.

    Parameters
    ----------
    completed : shape (imputation, patient, visit)
        The completed data.
    plan
        What was imputed.
    effect, reference_mean, other_mean
        Difference (other arm minus reference) and least-squares means at the mean covariates, one a visit.
    failed
        Bootstrap samples that could not be fitted and were drawn again.
    label
        What the imputation is called in an estimate.
    """

    completed: Filled
    plan: Plan
    effect: tuple[Pooled, ...]
    reference_mean: tuple[Pooled, ...]
    other_mean: tuple[Pooled, ...]
    failed: int
    label: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "completed", frozen(self.completed))

    def shifted(self, delta: float | Float[np.ndarray, " patient"]) -> "MultiplyImputed":
        """Return the same with δ added to every imputed value; one number, or one a patient."""
        shift = np.where(self.plan.missing, np.broadcast_to(delta, len(self.plan.kept))[:, None], 0.0)
        return pool_completed(self.completed + shift, self.plan, failed=self.failed, label=self.label)

    def estimate(
        self, visit: int, *, contrast: str, level: float = 0.95, unit: str = "", estimand: Estimand | None = None
    ) -> Estimate:
        """Return the difference at a visit, with t inference on Barnard and Rubin's degrees of freedom."""
        return self.effect[visit].estimate(
            contrast,
            n=len(self.plan.kept),
            method=f"{self.label}, ANCOVA",
            level=level,
            unit=unit,
            estimand=estimand,
        )


def pool_completed(completed: Filled, plan: Plan, *, failed: int, label: str) -> MultiplyImputed:
    """Analyse completed data sets by ANCOVA at each visit, and pool.

    Raises
    ------
    ConfigError
        If there are fewer than two.
    FitError
        If the ANCOVA's design is singular or leaves no degrees of freedom.
    """
    found = compare(completed, plan)
    effect, reference_mean, other_mean = (
        tuple(
            pool(found.values[:, part, k], found.variances[:, part, k], df_complete=found.df)
            for k in range(completed.shape[2])
        )
        for part in range(3)
    )
    return MultiplyImputed(completed, plan, effect, reference_mean, other_mean, failed, label)


def multiple_imputation(
    outcomes: Visits,
    arm: Int[np.ndarray, " patients"],
    covariates: Float[np.ndarray, "rows covariate"],
    *,
    event: Int[np.ndarray, " events"] | None = None,
    strategy: str | Sequence[str] = "MAR",
    reference: int = 0,
    delta: float | Float[np.ndarray, " shifts"] = 0.0,
    imputations: int = 250,
    seed: int = 0,
) -> MultiplyImputed:
    """Impute by draws under a strategy, analyse by ANCOVA at each visit, and pool by Rubin's rules.

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
        One of ``imputation_model.STRATEGIES`` for all patients with an event, or that of each patient's event.
    reference
        Arm whose mean the others take over; the difference is other minus reference.
    delta
        Added to every imputed value; one number, or one a patient, such as for one arm only.
    imputations, seed
        Number of draws; same seed, same draws.

    Raises
    ------
    ConfigError, DataError, FitError
        As for ``imputation_model.plan_imputation``; and if there are fewer than two imputations.
    ConvergenceError
        If more than one bootstrap sample in a hundred cannot be fitted.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> arm, base = np.arange(60) % 2, rng.normal(size=(60, 1))
    >>> y = base + rng.normal(size=(60, 2)) + arm[:, None] * [1.0, 2.0]
    >>> event = np.where(arm * rng.random(60) > 0.7, 1, 2)
    >>> y[event == 1, 1] = np.nan
    >>> jump = multiple_imputation(y, arm, base, event=event, strategy="JR", imputations=50)
    >>> 0.8 < jump.estimate(1, contrast="active − control").value < 1.8
    True
    """
    plan = plan_imputation(outcomes, arm, covariates, event, strategy, reference)
    rng = np.random.default_rng(seed)
    _, fit, failed = fit_bootstrap(plan, imputations, rng)
    completed = fill(plan.kept, strategy_means(plan, fit), fit.covariance, rng)
    found = pool_completed(completed, plan, failed=failed, label="multiple imputation by approximate Bayes")
    return found.shifted(delta) if np.any(delta) else found
