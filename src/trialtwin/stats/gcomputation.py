"""G-computation: fit a working model, predict everybody under every arm, average (standardisation).

    m̂ₐ = (1/n) Σᵢ μ(ηᵢ with A = a),

for continuous, binary and count endpoints and any number of arms. Two families of variances:

- Ge: V = J Σ̂ Jᵀ with Jₐ = (1/n) Σᵢ dμ/dη · xᵢ(a) and Σ̂ the covariance of the coefficients ("model", "HC0"–"HC3").
  Covariates count as fixed: the error is that of the effect in these patients, too small for the population's.
- Ye: unconditional, over samples of patients as well; see ``randomisation``.

Sources: Ge et al. (2011), doi:10.1177/009286151104500409; Ye, Bannick, Yi and Shao (2023),
doi:10.1080/24754269.2023.2205802; FDA (2023), Adjusting for Covariates in Randomized Clinical Trials.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import ConfigError, FitError
from trialtwin.core.estimate import Estimand
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.families import AbstractFamily
from trialtwin.stats.glm import GLM_VARIANCES, GLMFit, fit_glm, fit_negative_binomial
from trialtwin.stats.marginal import MarginalMeans
from trialtwin.stats.randomisation import Randomisation, unconditional_covariance

type Working = AbstractFamily | str

NEGATIVE_BINOMIAL = "negative binomial"
_UNBIASED = 1e-7


def fit_working(
    model: ArmModel,
    response: Float[np.ndarray, " row"],
    family: Working,
    *,
    offset: Float[np.ndarray, " row"] | None = None,
    rows: Sequence[str] = (),
    name: str = "the response",
) -> GLMFit:
    """Fit the working model of an arm comparison.

    Parameters
    ----------
    model
        Arms and covariates.
    response : shape (row,)
        Outcomes.
    family
        A family, or "negative binomial" to estimate its dispersion as well.
    offset : shape (row,)
        Added to the linear predictor.
    rows, name
        Names of the rows and of the response, for messages.

    Raises
    ------
    ConfigError
        If the family is a word other than "negative binomial".
    DataError, FitError, ConvergenceError
        As for ``fit_glm``.
    """
    if isinstance(family, str):
        if family != NEGATIVE_BINOMIAL:
            raise ConfigError(
                f"no family {family!r}", exists=(NEGATIVE_BINOMIAL,), do="give a family such as Poisson()"
            )
        return fit_negative_binomial(model.design(), response, offset=offset, rows=rows, name=name)
    return fit_glm(model.design(), response, family, offset=offset, rows=rows, name=name)


def predict_arms(model: ArmModel, fit: GLMFit) -> Float[np.ndarray, "row arm"]:
    """Return the working model's mean of each patient under each arm."""
    return np.column_stack([fit.predict(model.design_under(arm)) for arm in model.arms])


def gcomputation(
    model: ArmModel,
    response: Float[np.ndarray, " row"],
    family: Working,
    *,
    variance: str = "Ye",
    strata: Randomisation | None = None,
    decomposed: bool = True,
    exposure: Float[np.ndarray, " row"] | None = None,
    rows: Sequence[str] = (),
    name: str = "the response",
    unit: str = "",
    estimand: Estimand | None = None,
) -> MarginalMeans:
    """Estimate the marginal mean of every arm by standardisation.

    Parameters
    ----------
    model, response, family
        As for ``fit_working``.
    variance
        "Ye" (unconditional), or Ge's with one of "model", "HC0", "HC1", "HC2", "HC3" (covariates fixed).
    strata, decomposed
        Of Ye's variance: the randomisation, simple where ``None``; and its decomposed form, as in beeca and RobinCar.
    exposure : shape (row,)
        Time at risk of a count endpoint; means are rates for one unit of it. Ge's variances only.
    rows, name, unit, estimand
        Names for messages; unit and question for results.

    Raises
    ------
    ConfigError
        If the variance does not exist, is combined with what it does not use, or the endpoint has no exposure.
    FitError
        As for ``fit_glm``; and for Ye's variance if the working model is biased in an arm (``aipw`` takes that out).

    Examples
    --------
    >>> from trialtwin.stats.families import Binomial
    >>> from trialtwin.stats.modelmatrix import continuous_columns
    >>> x = continuous_columns({"x": np.array([0.0, 1, 2, 3, 0, 1, 2, 3])})
    >>> model = ArmModel(("control", "active"), np.array([0, 0, 0, 0, 1, 1, 1, 1]), x)
    >>> gcomputation(model, np.array([0.0, 0, 1, 0, 0, 1, 0, 1]), Binomial()).means.round(3).tolist()
    [0.25, 0.5]
    """
    offset = _offset(family, variance, strata, exposure=exposure)
    fit = fit_working(model, response, family, offset=offset, rows=rows, name=name)
    predictions = predict_arms(model, fit)
    covariance, label = _covariance(model, response, fit, predictions, variance, strata or Randomisation(), decomposed)
    return MarginalMeans(
        model.arms,
        predictions.mean(axis=0),
        covariance,
        model.n,
        endpoint=fit.family.endpoint,
        method=f"g-computation, {fit.family.name}",
        variance=label,
        unit=unit,
        estimand=estimand,
    )


def _covariance(
    model: ArmModel,
    response: Float[np.ndarray, " row"],
    fit: GLMFit,
    predictions: Float[np.ndarray, "row arm"],
    variance: str,
    scheme: Randomisation,
    decomposed: bool,
) -> tuple[Float[np.ndarray, "arm arm"], str]:
    """Return the covariance of the means that was asked for, and its name."""
    if variance == "Ye":
        _require_unbiased(model, fit)
        covariance = unconditional_covariance(model, response, predictions, scheme, decomposed=decomposed)
        return covariance, "Ye, " + ("decomposed, " if decomposed else "") + scheme.label
    jacobian = np.stack([_gradient(model, fit, arm) for arm in model.arms])
    return jacobian @ fit.covariance(variance) @ jacobian.T, f"Ge, {variance}"


def _gradient(model: ArmModel, fit: GLMFit, arm: str) -> Float[np.ndarray, " column"]:
    """Return the derivative of one arm's mean by the coefficients."""
    design = model.design_under(arm)
    return fit.family.slope(fit.predict(design)) @ design.values / model.n


def _require_unbiased(model: ArmModel, fit: GLMFit) -> None:
    """Refuse Ye's variance where the predictions of an arm do not average to its outcomes."""
    bias = np.bincount(model.arm, weights=fit.residuals) / model.counts
    if np.abs(bias).max() > _UNBIASED * max(1.0, float(np.abs(fit.fitted).max())):
        raise FitError(
            f"the {fit.family.name} working model is biased by {bias[np.abs(bias).argmax()]:.3g} in an arm",
            where=model.arms[int(np.abs(bias).argmax())],
            do="use aipw, which takes the bias out, or one of Ge's variances",
        )


def _offset(
    family: Working,
    variance: str,
    strata: Randomisation | None,
    *,
    exposure: Float[np.ndarray, " row"] | None,
) -> Float[np.ndarray, " row"] | None:
    """Refuse settings that do not exist or do not go together, and return the offset."""
    if variance != "Ye" and variance not in GLM_VARIANCES:
        raise ConfigError(f"no variance {variance!r} of g-computation", exists=("Ye", *GLM_VARIANCES))
    if variance != "Ye" and strata is not None:
        raise ConfigError(
            f"Ge's variance {variance!r} takes covariates as fixed and uses no randomisation", do="use variance 'Ye'"
        )
    if exposure is None:
        return None
    if not isinstance(family, str) and family.endpoint != "count":
        raise ConfigError(f"a {family.endpoint} endpoint has no exposure time", do="leave out exposure")
    if variance == "Ye":
        raise ConfigError("Ye's variance is not defined with an exposure time", exists=GLM_VARIANCES)
    if not (np.isfinite(exposure) & (exposure > 0)).all():
        raise ConfigError("an exposure time is not a positive number", do="leave out patients who were never at risk")
    return np.log(exposure)
