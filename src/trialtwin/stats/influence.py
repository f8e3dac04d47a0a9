"""Plug-in marginal means with an influence-function variance at the KNOWN probability of each arm.

    m̂ₐ = (1/n) Σᵢ μₐ(xᵢ),    φₐᵢ = 1{Aᵢ = a}/πₐ (yᵢ − μₐ(xᵢ)) + μₐ(xᵢ) − m̂ₐ,    V = cov(φ)/n,

with πₐ as the protocol fixed it, not as it came out, and the divisor n − 1 in the covariance. A prognostic score enters
the working model as a covariate on the link scale: the forecast mean turned into a linear predictor.

Sources: Højbjerre-Frandsen, van der Laan and Schuler (2025), arXiv:2503.22284; Schuler et al. (2022),
doi:10.1515/ijb-2021-0072.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import ConfigError
from trialtwin.core.estimate import Estimand
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.families import AbstractFamily
from trialtwin.stats.gcomputation import Working, fit_working, predict_arms
from trialtwin.stats.marginal import MarginalMeans
from trialtwin.stats.modelmatrix import ModelMatrix, join

SCORE = "score"


def link_score(forecast: Float[np.ndarray, " row"], family: AbstractFamily, *, name: str = SCORE) -> ModelMatrix:
    """Return a forecast of each patient's mean as a covariate on the link scale.

    Parameters
    ----------
    forecast : shape (row,)
        Forecast mean under control: of the outcome's unit, a probability, or a rate.
    family
        Whose link is taken.
    name
        Of the column.

    Raises
    ------
    DataError
        If a forecast probability lies outside (0, 1) or a forecast rate is not positive.

    Examples
    --------
    >>> from trialtwin.stats.families import Poisson
    >>> link_score(np.array([1.0, 10.0]), Poisson()).values.ravel().round(4).tolist()
    [0.0, 2.3026]
    """
    return ModelMatrix((name,), family.link(forecast)[:, None])


def with_score(model: ArmModel, score: ModelMatrix, *, interaction: bool = False) -> ArmModel:
    """Return an arm model with a score among its covariates, and with an arm interaction of its own where asked."""
    covariates = score if model.covariates is None else join(model.covariates, score)
    return ArmModel(model.arms, model.arm, covariates, (*model.interacted, *(score.names if interaction else ())))


def plugin_means(
    model: ArmModel,
    response: Float[np.ndarray, " row"],
    family: Working,
    probabilities: Float[np.ndarray, " arm"],
    *,
    rows: Sequence[str] = (),
    name: str = "the response",
    unit: str = "",
    estimand: Estimand | None = None,
) -> MarginalMeans:
    """Estimate the marginal mean of every arm, with the variance at the protocol's allocation probabilities.

    Parameters
    ----------
    model
        Arms and covariates, the score among them.
    response : shape (row,)
        Outcomes.
    family
        A family, or "negative binomial" to estimate its dispersion as well.
    probabilities : shape (arm,)
        Probability with which a patient was put into each arm.
    rows, name, unit, estimand
        Names of the rows and of the response for messages; unit and question for the results.

    Raises
    ------
    ConfigError
        If a probability lies outside (0, 1), they do not add up to 1, or their number is not that of the arms.
    DataError, FitError, ConvergenceError
        As for ``fit_glm``.

    Examples
    --------
    >>> from trialtwin.stats.families import Gaussian
    >>> model = ArmModel(("control", "active"), np.array([0, 0, 1, 1]))
    >>> means = plugin_means(model, np.array([1.0, 3.0, 4.0, 8.0]), Gaussian(), np.array([0.5, 0.5]))
    >>> effect = means.contrast("active", "control")
    >>> round(effect.value, 4), round(effect.se, 4)
    (4.0, 1.8257)
    """
    require_probabilities(model.arms, probabilities)
    fit = fit_working(model, response, family, rows=rows, name=name)
    predictions = predict_arms(model, fit)
    means = predictions.mean(axis=0)
    received = model.arm[:, None] == np.arange(len(model.arms))
    influence = received / probabilities * (response[:, None] - predictions) + predictions - means
    return MarginalMeans(
        arms=model.arms,
        means=means,
        covariance=np.cov(influence, rowvar=False) / model.n,
        n=model.n,
        endpoint=fit.family.endpoint,
        method=f"plug-in, {fit.family.name}",
        variance="influence function, known allocation",
        unit=unit,
        estimand=estimand,
    )


def require_probabilities(arms: Sequence[str], probabilities: Float[np.ndarray, " arm"]) -> None:
    """Refuse allocation probabilities that are not those of a randomised trial.

    Raises
    ------
    ConfigError
        If one lies outside (0, 1), they do not add up to 1, or their number is not that of the arms.
    """
    if len(probabilities) != len(arms):
        raise ConfigError(f"{len(probabilities)} allocation probabilities for {len(arms)} arms", exists=arms)
    for arm, p in zip(arms, probabilities, strict=True):
        if not 0 < p < 1:
            raise ConfigError(
                f"the allocation probability {p:g} of arm {arm!r} is not between 0 and 1",
                do="give the probability that the protocol fixed",
            )
    if abs(float(probabilities.sum()) - 1) > 1e-9:
        raise ConfigError(f"the allocation probabilities add up to {probabilities.sum():g}, not 1")
