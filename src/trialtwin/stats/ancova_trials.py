"""ANCOVA with HC3 errors in many simulated trials at once, in microseconds a trial.

In each trial, with the columns of D = (covariates, arm, outcome) centred on their means and DᵀD = LLᵀ by Cholesky, the
rows of L⁻¹Dᵀ hold everything: the first q = p + 1 are the orthonormal columns of the design beside the constant, the
q-th the arm's part w that covariates leave, the last the residuals e over their length. Hence

    β̂ = L₍y,arm₎ / L₍arm,arm₎,    hᵢ = 1/n + Σⱼ (L⁻¹Dᵀ)ⱼᵢ²,    se² = Σᵢ [wᵢ eᵢ/(1 − hᵢ)]² / L₍arm,arm₎²,

which is ``least_squares`` with variance "HC3" (``ancova``), to rounding: the constant is taken out exactly, so that a
covariate's distance from zero costs no digits. ``ancova_batch`` fits any design, with missing outcomes, more slowly.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import FitError
from trialtwin.stats.trial_blocks import in_lanes, require_numbers, require_trials
from trialtwin.stats.trial_kernels import ancova_lanes

DEPENDENT = 1e-7  # as in ``ancova``: share of a column's own variation that those before it must leave
_EXACT = 1e-7  # residual over own spread, below which Cholesky cannot tell it from none
_SATURATED = 1e-10


@dataclass(frozen=True, eq=False)
class TrialEffects:
    """An effect and its standard error in every trial; immutable.

    Parameters
    ----------
    value, se : shape (trial,)
        Estimate and standard error.
    df
        Degrees of freedom of the t statistic, or ``None`` where it is normal.
    variance
        Variance estimator.
    """

    value: Float[np.ndarray, " trial"]
    se: Float[np.ndarray, " trial"]
    df: float | None
    variance: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", frozen(self.value))
        object.__setattr__(self, "se", frozen(self.se))


def ancova_trials(
    outcome: Float[np.ndarray, "trial patient"],
    treated: Bool[np.ndarray, "trials patients"],
    covariates: Float[np.ndarray, "all every column"],
    *,
    threads: int | None = None,
) -> TrialEffects:
    """Estimate the effect of an arm, adjusted for covariates, with its HC3 standard error in each of many trials.

    Parameters
    ----------
    outcome, treated : shape (trial, patient)
        Outcomes and who was treated.
    covariates : shape (trial, patient, column)
        Without a constant.
    threads
        How many to use; all cores where ``None``.

    Raises
    ------
    DataError
        If shapes differ, a number is not finite, or an arm of a trial has fewer than two patients.
    FitError
        If no residual degrees of freedom are left, a design is singular, a patient has leverage 1, or a model fits
        exactly; the message names the first such trial.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, treated = rng.normal(size=(1000, 50, 2)), np.tile(np.arange(50) % 2 == 1, (1000, 1))
    >>> y = x.sum(axis=2) + 0.5 * treated + rng.normal(size=(1000, 50))
    >>> effects = ancova_trials(y, treated, x)
    >>> round(effects.value.mean(), 1), round(effects.se.mean(), 1)
    (np.float64(0.5), np.float64(0.3))
    """
    require_trials(outcome, treated, covariates)
    n = outcome.shape[1]
    df = n - covariates.shape[2] - 2
    if df < 1:
        raise FitError(f"{n} patients leave no residual degrees of freedom for {n - df} coefficients")
    value, se, pivot, left, leverage = in_lanes(ancova_lanes, outcome, treated, covariates, threads=threads)
    for what, bad in (
        ("the design is singular", ~(pivot > DEPENDENT)),
        ("the covariates and the arm fit the outcome exactly", ~(left > _EXACT)),
        ("HC3 is undefined: a patient has leverage 1", ~(1 - leverage > _SATURATED)),
    ):
        if bad.any():
            require_numbers(outcome, covariates)
            raise FitError(
                f"{what} in {int(bad.sum())} trial(s)",
                where=f"trial {int(bad.argmax())}",
                do="drop a covariate, or leave such trials out and say how many",
            )
    return TrialEffects(value, se, float(df), "HC3")
