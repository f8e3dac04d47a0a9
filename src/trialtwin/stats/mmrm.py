"""Mixed models for repeated measures (MMRM): one mean model over visits, a structured covariance, missing at random.

    yᵢ = Xᵢ β + εᵢ,    εᵢ ~ N(0, Σ over the visits that subject i has),

fitted by restricted (or full) maximum likelihood. Default inference is Kenward and Roger's with the linear
adjustment, which is what SAS prints for ``ddfm=kr`` with an unstructured covariance.

Sources: Mallinckrodt et al. (2008), doi:10.1177/009286150804200402; Kenward and Roger (1997), doi:10.2307/2533558.

Examples
--------
>>> from trialtwin.stats.meanmodel import Factor, mean_model
>>> rng = np.random.default_rng(1)
>>> subject = np.repeat(np.arange(40), 3)
>>> factors = {
...     "arm": Factor.of(["placebo" if i < 20 else "active" for i in subject], levels=["placebo", "active"]),
...     "week": Factor.of(["4", "8", "12"] * 40, levels=["4", "8", "12"]),
... }
>>> change = rng.normal(size=120) + np.repeat(rng.normal(size=40), 3) + 2 * factors["arm"].codes
>>> fit = mmrm(mean_model(["arm*week"], factors=factors), change, subjects=subject, visit="week")
>>> effect = fit.difference("arm", "active", "placebo", at={"week": "12"})
>>> effect.contrast, effect.lower < 2 < effect.upper, fit.visit_covariance().shape
('active − placebo, week 12', True, (3, 3))
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.meanmodel import Factor, MeanModel
from trialtwin.stats.mmrm_covariance import Structure, find_structure
from trialtwin.stats.mmrm_data import RepeatedMeasures, find_patterns, repeated_measures
from trialtwin.stats.mmrm_fit import likelihood_constant, maximise, maximise_as_r, padded, start_values
from trialtwin.stats.mmrm_likelihood import CovarianceModel, Likelihood, find_moments
from trialtwin.stats.mmrm_result import RepeatedFit

OPTIMISERS = ("Newton", "L-BFGS-B")


def mmrm(
    model: MeanModel,
    response: Float[np.ndarray, " row"],
    *,
    subjects: Sequence[str] | Shaped[np.ndarray, " row"],
    visit: str,
    structure: str = "unstructured",
    group: str | None = None,
    weights: Float[np.ndarray, " row"] | None = None,
    times: Float[np.ndarray, " row"] | None = None,
    restricted: bool = True,
    optimiser: str = "Newton",
) -> RepeatedFit:
    """Fit a mixed model for repeated measures.

    Parameters
    ----------
    model
        Terms of the mean.
    response : shape (row,)
        Outcomes; a row whose outcome is NaN was not observed and is left out. Rows may come in any order.
    subjects
        Which subject each row belongs to.
    visit
        Factor of the model that holds the visits, in order.
    structure
        Name of the covariance structure, see ``mmrm_covariance.STRUCTURES``.
    group
        Factor whose levels have covariance parameters of their own, such as the arm.
    weights, times : shape (row,)
        The variance of a row is divided by its weight; times of the visits, for the spatial structure.
    restricted
        Restricted maximum likelihood, or full maximum likelihood.
    optimiser
        "Newton" ends at the optimum; "L-BFGS-B" stops short of it where R mmrm does, see ``mmrm_fit``.

    Raises
    ------
    ConfigError
        If there is no such structure or optimiser, or a spatial structure comes without times.
    DataError
        If rows cannot be repeated measures, such as two outcomes of a subject at a visit, or a factor does not exist.
    FitError
        If the design is singular, an arm or a visit has no outcome, or the fit fails.
    """
    if optimiser not in OPTIMISERS:
        raise ConfigError(f"no optimiser {optimiser!r}", exists=OPTIMISERS)
    family = find_structure(structure)
    if family.spatial and times is None:
        raise ConfigError("a spatial covariance depends on times", do="give the times of the visits")
    data = repeated_measures(
        model.matrix(),
        response,
        subjects=np.asarray(subjects),
        visits=_factor(model, visit),
        groups=_factor(model, group) if group else None,
        weights=weights,
        times=times if family.spatial else None,
    )
    return _fitted(model, data, ~np.isnan(response), family, restricted=restricted, optimiser=optimiser)


def _fitted(
    model: MeanModel,
    data: RepeatedMeasures,
    used: Bool[np.ndarray, " row"],
    family: Structure,
    *,
    restricted: bool,
    optimiser: str,
) -> RepeatedFit:
    """Fit a model to checked rows."""
    patterns = find_patterns(data, spatial=family.spatial)
    ordinary = least_squares(data.design, data.response)
    z = padded(data, patterns, np.column_stack([ordinary.orthonormal, ordinary.residuals]))
    moments = find_moments(z, patterns.of_subject, patterns.observed)
    likelihood = Likelihood(moments, CovarianceModel(family, patterns, len(data.groups)), restricted)
    if optimiser == "Newton":
        optimum = maximise(likelihood, start_values(family, data, patterns, ordinary))
    else:
        optimum = maximise_as_r(likelihood, likelihood_constant(data, ordinary, restricted=restricted))
    return RepeatedFit(model, used, data, patterns, ordinary, likelihood, optimum, family)


def _factor(model: MeanModel, name: str) -> Factor:
    """Return a factor of the model."""
    if name not in model.factors:
        raise MismatchError(f"no factor {name!r} in the model", exists=model.factors)
    return model.factors[name]
