"""Logistic g-computation with Ye's unconditional variance in many simulated trials at once.

Each trial's model, means and covariance are those of ``gcomputation`` with a binomial family and covariates that do not
interact with arm; only the order of the arithmetic differs (``trial_kernels``).
"""

import numpy as np
from jaxtyping import Bool, Float

from trialtwin.core.errors import ConfigError, ConvergenceError, DataError, FitError
from trialtwin.stats.ancova_trials import DEPENDENT, TrialEffects
from trialtwin.stats.marginal import CONTRASTS
from trialtwin.stats.trial_blocks import in_lanes, require_numbers, require_trials
from trialtwin.stats.trial_kernels import STEP, logistic_lanes


def logistic_gcomputation_trials(
    outcome: Float[np.ndarray, "trial patient"],
    treated: Bool[np.ndarray, "trials patients"],
    covariates: Float[np.ndarray, "all every column"],
    contrast: str = "difference",
    *,
    threads: int | None = None,
) -> TrialEffects:
    """Estimate a marginal contrast of two arms by logistic g-computation in each of many trials.

    Parameters
    ----------
    outcome, treated, covariates, threads
        As for ``ancova_trials``, with outcomes of 0 and 1.
    contrast
        "difference", "log ratio", "ratio", "log odds ratio" or "odds ratio" of treated to control.

    Raises
    ------
    ConfigError
        If there is no such contrast.
    DataError
        If shapes differ, a number is not finite, an outcome is neither 0 nor 1, or an arm has fewer than two patients.
    ConvergenceError
        If a trial has no maximum likelihood (separation, a singular design) or Newton's steps do not reach it in 25.
    FitError
        If no residual degrees of freedom are left, or a variance is not positive.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, treated = rng.normal(size=(500, 80, 2)), np.tile(np.arange(80) % 2 == 1, (500, 1))
    >>> y = (rng.random((500, 80)) < 0.3 + 0.2 * treated).astype(float)
    >>> effects = logistic_gcomputation_trials(y, treated, x)
    >>> round(float(effects.value.mean()), 1), round(float(effects.se.mean()), 1)
    (0.2, 0.1)
    """
    if contrast not in CONTRASTS["binary"]:
        raise ConfigError(f"a binary endpoint has no contrast {contrast!r}", exists=CONTRASTS["binary"])
    require_trials(outcome, treated, covariates)
    if not ((outcome == 0) | (outcome == 1)).all():
        raise DataError("an outcome is neither 0 nor 1", do="code the response as 0 and 1")
    if outcome.shape[1] <= covariates.shape[2] + 2:
        raise FitError(f"{outcome.shape[1]} patients leave no residual degrees of freedom")
    m0, m1, v00, v01, v11, change, pivot = in_lanes(logistic_lanes, outcome, treated, covariates, threads=threads)
    bad = ~(change < STEP) | ~(pivot > DEPENDENT)
    if bad.any():
        require_numbers(outcome, covariates)
        raise ConvergenceError(
            f"the logistic model has not converged in {int(bad.sum())} trial(s): separation or a singular design",
            where=f"trial {int(bad.argmax())}",
            do="fit that trial with fit_glm to learn which; use fewer covariates or larger trials",
        )
    value, square = _contrast(contrast, m0, m1, v00, v01, v11)
    if not (square > 0).all():
        raise FitError("a contrast has no positive variance", where=f"trial {int((~(square > 0)).argmax())}")
    return TrialEffects(value, np.sqrt(square), None, "Ye, decomposed, simple")


def _contrast(
    kind: str,
    m0: Float[np.ndarray, " trial"],
    m1: Float[np.ndarray, " trial"],
    v00: Float[np.ndarray, " trial"],
    v01: Float[np.ndarray, " trial"],
    v11: Float[np.ndarray, " trial"],
) -> tuple[Float[np.ndarray, " trial"], Float[np.ndarray, " trial"]]:
    """Return a contrast of two means and its variance, as ``marginal`` has them."""
    if kind == "difference":
        return m1 - m0, v11 - 2 * v01 + v00
    if "odds" in kind:
        value, a, b = np.log(m1 / (1 - m1) / (m0 / (1 - m0))), 1 / (m1 * (1 - m1)), 1 / (m0 * (1 - m0))
    else:
        value, a, b = np.log(m1 / m0), 1 / m1, 1 / m0
    square = a**2 * v11 - 2 * a * b * v01 + b**2 * v00
    if kind in ("ratio", "odds ratio"):
        value = np.exp(value)
        square = square * value**2
    return value, square
