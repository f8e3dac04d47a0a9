"""Augmented inverse probability weighting in randomised trials, with the variance of the randomisation used.

    m̂ₐ = (1/n) Σᵢ μₐ(xᵢ) + (1/nₐ) Σ_{Aᵢ = a} (yᵢ − μₐ(xᵢ)),

the mean prediction plus the mean residual: unbiased whatever the working model, since randomisation fixes the
probability of an arm. With a gaussian model in which all covariates interact with arm this is ANHECOVA, which is never
less efficient than the unadjusted difference. Canonical models with an arm effect have no mean residual, so that the
second term is zero and m̂ₐ is g-computation's. The covariance is ``randomisation``'s, in its decomposed form.

Sources: Ye, Shao, Yi and Zhao (2023), doi:10.1080/01621459.2022.2049278; Tsiatis, Davidian, Zhang and Lu (2008),
doi:10.1002/sim.3113; Bannick et al. (2025), doi:10.1093/biomet/asaf029.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from trialtwin.core.arrays import require_finite, require_length
from trialtwin.core.errors import DataError
from trialtwin.core.estimate import Estimand
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.families import Endpoint
from trialtwin.stats.gcomputation import Working, fit_working, predict_arms
from trialtwin.stats.marginal import MarginalMeans
from trialtwin.stats.randomisation import Randomisation, unconditional_covariance


def aipw(
    model: ArmModel,
    response: Float[np.ndarray, " row"],
    family: Working,
    *,
    randomisation: Randomisation | None = None,
    decomposed: bool = True,
    rows: Sequence[str] = (),
    name: str = "the response",
    unit: str = "",
    estimand: Estimand | None = None,
) -> MarginalMeans:
    """Estimate the marginal mean of every arm by AIPW with a generalised linear working model.

    Parameters
    ----------
    model
        Arms and covariates; all covariates interacted and a gaussian family make ANHECOVA.
    response : shape (row,)
        Outcomes.
    family
        A family, or "negative binomial" to estimate its dispersion as well.
    randomisation
        Scheme and strata; simple where ``None``.
    decomposed
        See ``unconditional_covariance``.
    rows, name, unit, estimand
        Names of the rows and of the response for messages; unit and question for the results.

    Raises
    ------
    DataError, ConfigError, FitError, ConvergenceError
        As for ``fit_working`` and ``unconditional_covariance``.

    Examples
    --------
    >>> from trialtwin.stats.families import Gaussian
    >>> from trialtwin.stats.modelmatrix import continuous_columns
    >>> x = continuous_columns({"x": np.array([1.0, 2, 3, 4, 1, 2, 3, 4])})
    >>> model = ArmModel(("control", "active"), np.array([0, 0, 0, 0, 1, 1, 1, 1]), x, interacted=("x",))
    >>> effect = aipw(model, np.array([1.0, 3, 3, 4, 2, 3, 6, 7]), Gaussian()).contrast("active", "control")
    >>> round(effect.value, 3), round(effect.se, 3)
    (1.75, 0.277)
    """
    fit = fit_working(model, response, family, rows=rows, name=name)
    return augmented_means(
        model,
        response,
        predict_arms(model, fit),
        fit.family.endpoint,
        randomisation=randomisation,
        decomposed=decomposed,
        method=f"AIPW, {fit.family.name}",
        unit=unit,
        estimand=estimand,
    )


def augmented_means(
    model: ArmModel,
    response: Float[np.ndarray, " row"],
    predictions: Float[np.ndarray, "row arm"],
    endpoint: Endpoint,
    *,
    randomisation: Randomisation | None = None,
    decomposed: bool = True,
    method: str = "AIPW",
    unit: str = "",
    estimand: Estimand | None = None,
) -> MarginalMeans:
    """Estimate the marginal means from predictions of any origin, such as a twin's forecasts under each arm.

    Parameters
    ----------
    model
        Arms and who is in them; its covariates are not used.
    response : shape (row,)
        Outcomes.
    predictions : shape (row, arm)
        Prediction of each patient under each arm. They must not have been fitted to these outcomes by a method that
        can follow single patients, unless by cross-fitting.
    endpoint
        "continuous", "binary" or "count".
    randomisation, decomposed, method, unit, estimand
        As for ``aipw``.

    Raises
    ------
    DataError
        If shapes differ or a number is not finite.
    DataError, ConfigError
        As for ``unconditional_covariance``.
    """
    require_length("the response", response, model.n)
    require_finite("the response", response)
    require_length("the predictions", predictions, model.n)
    require_finite("the predictions", predictions)
    if predictions.shape[1] != len(model.arms):
        raise DataError(f"predictions under {predictions.shape[1]} arm(s) for a trial of {len(model.arms)}")
    scheme = randomisation or Randomisation()
    residuals = response - predictions[np.arange(model.n), model.arm]
    bias = np.bincount(model.arm, weights=residuals, minlength=len(model.arms)) / model.counts
    unbiased = predictions + bias
    return MarginalMeans(
        arms=model.arms,
        means=unbiased.mean(axis=0),
        covariance=unconditional_covariance(model, response, unbiased, scheme, decomposed=decomposed),
        n=model.n,
        endpoint=endpoint,
        method=method,
        variance=("decomposed, " if decomposed else "") + scheme.label,
        unit=unit,
        estimand=estimand,
    )
