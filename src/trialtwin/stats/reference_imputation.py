r"""Reference-based imputation by conditional means, with jackknife or bootstrap standard errors.

What is missing is imputed once, by its mean given what was seen under the patient's strategy (``imputation_model``),
plus a shift δ where asked for. Values seen after an event are set aside unless the strategy is MAR. The completed data
are analysed by ANCOVA at each visit. The standard error is that of the estimator over trials, every step repeated:

    jackknife   √[(n − 1)/n Σᵢ (θ̂₍₋ᵢ₎ − θ̄)²], each patient left out in turn
    bootstrap   √[Σ_b (θ̂_b − θ̄)² / (B − 1)], patients drawn with replacement within the arms

Rubin's rules give a larger one under JR, CR and CIR (``multiple_imputation``).

Sources: Wolbers M et al. (2022), doi:10.1002/pst.2234 (conditional means, jackknife, bootstrap); R package rbmi.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import ConfigError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.imputation_model import (
    Plan,
    Visits,
    compare,
    fill,
    fit_bootstrap,
    fit_everybody,
    fit_leaving_out,
    joined,
    plan_imputation,
    strategy_means,
)
from trialtwin.stats.wald import require_level, wald_estimate

RESAMPLING = ("jackknife", "bootstrap")


@dataclass(frozen=True, eq=False)
class Imputed:
    """Estimates from data completed by conditional means, with standard errors by resampling; immutable.

    Parameters
    ----------
    replicates : shape (fit, 3, visit)
        Difference (other arm minus reference) and least-squares means of the reference and of the other arm at the mean
        covariates: of all patients first, then of each resampled set.
    completed : shape (patient, visit)
        The completed data of all patients.
    plan, weights
        What was imputed, and how often each fit counts a patient.
    resampling
        "jackknife" or "bootstrap".
    failed
        Bootstrap samples that could not be fitted and were drawn again.
    """

    replicates: Float[np.ndarray, "fit 3 visit"]
    completed: Visits
    plan: Plan
    weights: Float[np.ndarray, "fit patient"]
    resampling: str
    failed: int = 0

    def __post_init__(self) -> None:
        for name in ("replicates", "completed", "weights"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def effect(self) -> Float[np.ndarray, " visit"]:
        """Difference at each visit, other arm minus reference."""
        return self.replicates[0, 0]

    @property
    def reference_mean(self) -> Float[np.ndarray, " visit"]:
        """Least-squares mean of the reference at each visit."""
        return self.replicates[0, 1]

    @property
    def other_mean(self) -> Float[np.ndarray, " visit"]:
        """Least-squares mean of the other arm at each visit."""
        return self.replicates[0, 2]

    @property
    def effect_se(self) -> Float[np.ndarray, " visit"]:
        """Standard error of the difference."""
        return self._errors[0]

    @property
    def reference_se(self) -> Float[np.ndarray, " visit"]:
        """Standard error of the reference's mean."""
        return self._errors[1]

    @property
    def other_se(self) -> Float[np.ndarray, " visit"]:
        """Standard error of the other arm's mean."""
        return self._errors[2]

    @property
    def _errors(self) -> Float[np.ndarray, "3 visit"]:
        again = self.replicates[1:]
        scale = (len(again) - 1) / len(again) if self.resampling == "jackknife" else 1 / (len(again) - 1)
        return np.asarray(np.sqrt(scale * ((again - again.mean(axis=0)) ** 2).sum(axis=0)))

    def shifted(self, delta: float | Float[np.ndarray, " patient"]) -> "Imputed":
        """Return the same with δ added to every imputed value; one number, or one a patient.

        ANCOVA is linear in the outcomes, so that no model is fitted again.
        """
        shift = np.where(self.plan.missing, np.broadcast_to(delta, len(self.completed))[:, None], 0.0)
        moved = compare(np.broadcast_to(shift, (len(self.weights), *shift.shape)), self.plan, self.weights).values
        return replace(self, replicates=self.replicates + moved, completed=self.completed + shift)

    def estimate(
        self, visit: int, *, contrast: str, level: float = 0.95, unit: str = "", estimand: Estimand | None = None
    ) -> Estimate:
        """Return the difference at a visit, with normal inference."""
        return wald_estimate(
            float(self.effect[visit]),
            float(self.effect_se[visit]),
            contrast=contrast,
            n=len(self.completed),
            level=level,
            method="conditional mean imputation, ANCOVA",
            variance=self.resampling,
            unit=unit,
            estimand=estimand,
        )

    def percentile_interval(self, visit: int, level: float = 0.95) -> tuple[float, float]:
        """Return the bootstrap's percentile interval of the difference at a visit.

        Raises
        ------
        ConfigError
            If the standard errors are not the bootstrap's, or there are too few samples for the level.
        """
        require_level(level)
        fewest, drawn = int(np.ceil(2 / (1 - level))), len(self.replicates) - 1
        if self.resampling != "bootstrap" or drawn < fewest:
            raise ConfigError(
                f"no percentile interval of level {level:g} from {drawn} {self.resampling} replicates",
                do=f"impute with resampling='bootstrap' and {fewest} samples or many more",
            )
        tail = (1 - level) / 2
        low, high = np.quantile(self.replicates[1:, 0, visit], [tail, 1 - tail], method="weibull")
        return float(low), float(high)


def conditional_mean(
    outcomes: Visits,
    arm: Int[np.ndarray, " patients"],
    covariates: Float[np.ndarray, "rows covariate"],
    *,
    event: Int[np.ndarray, " events"] | None = None,
    strategy: str | Sequence[str] = "MAR",
    reference: int = 0,
    delta: float | Float[np.ndarray, " shifts"] = 0.0,
    resampling: str = "jackknife",
    samples: int = 1000,
    seed: int = 0,
) -> Imputed:
    """Impute by conditional means under a strategy, analyse by ANCOVA at each visit, and resample for the errors.

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
    resampling, samples, seed
        "jackknife" or "bootstrap"; of the latter how many samples.

    Raises
    ------
    ConfigError, DataError, FitError
        As for ``imputation_model.plan_imputation``; and if there is no such resampling.
    ConvergenceError
        If a mixed model does not converge; of bootstrap samples, more than one in a hundred.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> arm, base = np.arange(60) % 2, rng.normal(size=(60, 1))
    >>> y = base + rng.normal(size=(60, 2)) + arm[:, None] * [1.0, 2.0]
    >>> y[arm * rng.random(60) > 0.7, 1] = np.nan
    >>> conditional_mean(y, arm, base).effect[1] > conditional_mean(y, arm, base, delta=-1.0).effect[1]
    np.True_
    """
    if resampling not in RESAMPLING:
        raise ConfigError(f"no standard errors by {resampling!r}", exists=RESAMPLING)
    plan = plan_imputation(outcomes, arm, covariates, event, strategy, reference)
    if resampling == "jackknife":
        failed, (weights, fit) = 0, fit_leaving_out(plan)
    else:
        drawn, samples_fit, failed = fit_bootstrap(plan, samples, np.random.default_rng(seed))
        weights, fit = np.vstack([np.ones(len(arm)), drawn]), joined([fit_everybody(plan), samples_fit])
    filled = fill(plan.kept, strategy_means(plan, fit), fit.covariance)
    return Imputed(compare(filled, plan, weights).values, filled[0], plan, weights, resampling, failed).shifted(delta)
