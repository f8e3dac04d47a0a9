r"""Tests of proportional hazards: whether coefficients of Cox's model change with time.

With β(t) = β + θ (g(t) − ḡ) for a transformed time g, the score test of θ = 0 at the fitted β. Where uₜ and Vₜ are the
gradient and the information that event time t adds to the partial likelihood,

    u = Σ g(t) uₜ,      χ² = uᵀ [Σ g² Vₜ − (Σ g Vₜ) (Σ Vₜ)⁻¹ (Σ g Vₜ)]⁻¹ u,

for one term in its own columns only, for all together in all.

Sources: Grambsch PM, Therneau TM (1994), doi:10.1093/biomet/81.3.515, whose test this is without the approximation that
Vₜ is constant, as in R survival from version 3.0.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import chi2, rankdata

from trialtwin.core.errors import ConfigError, DataError, FitError, MismatchError
from trialtwin.stats.cox import CoxFit, Overall, cox
from trialtwin.stats.cox_likelihood import RiskSets
from trialtwin.stats.modelmatrix import ModelMatrix
from trialtwin.stats.survival import kaplan_meier

TRANSFORMS = ("Kaplan-Meier", "rank", "log", "identity")
_FLAT = 1e-10  # of an eigenvalue of the information on changes, columns standardised


class ProportionalHazards(NamedTuple):
    """A test for each term, and one of all together."""

    terms: dict[str, Overall]
    overall: Overall


def proportional_hazards(
    design: ModelMatrix,
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    *,
    strata: Int[np.ndarray, " patient"] | None = None,
    ties: str = "Efron",
    transform: str = "Kaplan-Meier",
    terms: Mapping[str, Sequence[str]] | None = None,
) -> ProportionalHazards:
    """Fit Cox's model and test whether its coefficients are constant over time.

    Parameters
    ----------
    design, time, event, strata, ties
        As for ``cox.cox``.
    transform
        "Kaplan-Meier" (1 − Ŝ(t−) of all patients), "rank", "log" or "identity".
    terms
        Names of terms, and the columns of each; every column by itself if not given.

    Raises
    ------
    ConfigError
        If there is no such transform, or a time of 0 is to be taken the logarithm of.
    MismatchError
        If a term has a column that the model does not have.
    DataError, FitError, ConvergenceError
        As for ``cox.cox``, if a term has no column, and if there are too few event times.

    Examples
    --------
    >>> from trialtwin.stats.modelmatrix import continuous_columns
    >>> arm = continuous_columns({"arm": np.array([0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0])})
    >>> found = proportional_hazards(arm, np.arange(1.0, 9.0), np.ones(8, dtype=bool))
    >>> round(found.terms["arm"].statistic, 3), found.overall.df
    (3.254, 1)
    """
    places = _places(design.names, terms)
    g = _transformed(time, event, transform)
    fit = cox(design, time, event, strata=strata, ties=ties)
    u, moments = _changes(fit, design, time, event, np.zeros(len(time), int) if strata is None else strata, g)
    spread = moments[2] - moments[1] @ np.linalg.solve(moments[0], moments[1])
    if not np.linalg.eigvalsh(spread)[0] > _FLAT * np.linalg.eigvalsh(moments[2])[-1]:
        raise FitError(
            "too few distinct event times to tell whether coefficients change", do="test fewer columns, or pool strata"
        )

    def score(chosen: Sequence[int]) -> Overall:
        statistic = float(u[chosen] @ np.linalg.solve(spread[np.ix_(chosen, chosen)], u[chosen]))
        return Overall(statistic, len(chosen), float(chi2.sf(statistic, len(chosen))))

    return ProportionalHazards({name: score(own) for name, own in places.items()}, score(range(len(u))))


def _changes(
    fit: CoxFit,
    design: ModelMatrix,
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    strata: Int[np.ndarray, " patient"],
    g: dict[float, float],
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, "3 column column"]]:
    """Return Σ g uₜ, and Σ gᵏ Vₜ for k = 0, 1, 2, of columns with mean 0 and variance 1."""
    scale = design.values.std(axis=0)
    x = (design.values - design.values.mean(axis=0)) / scale
    u, moments = np.zeros(len(scale)), np.zeros((3, len(scale), len(scale)))
    for code in np.unique(strata[event]):
        rows = strata == code
        sets = RiskSets(x[rows], time[rows], event[rows], fit.ties)
        terms, at = sets.terms(fit.coefficients * scale), np.array([g[t] for t in sets.times])
        u += at @ terms.gradients
        moments += np.einsum("kt,tij->kij", at ** np.arange(3)[:, None], terms.informations)
    return u, moments


def _places(names: tuple[str, ...], terms: Mapping[str, Sequence[str]] | None) -> dict[str, list[int]]:
    """Return the positions of each term's columns."""
    columns = {name: (name,) for name in names} if terms is None else {k: tuple(v) for k, v in terms.items()}
    for name, own in columns.items():
        if not own:
            raise DataError(f"term {name!r} has no column", exists=names)
        if missing := [column for column in own if column not in names]:
            raise MismatchError(f"term {name!r} has the column {missing[0]!r}", exists=names)
    return {name: [names.index(column) for column in own] for name, own in columns.items()}


def _transformed(
    time: Float[np.ndarray, " patient"], event: Bool[np.ndarray, " patient"], transform: str
) -> dict[float, float]:
    """Return g at each event time, less its mean over events."""
    curve = kaplan_meier(time, event)
    match transform:
        case "Kaplan-Meier":
            values = 1 - np.append(1.0, curve.survival)[np.searchsorted(curve.times, time, side="left")]
        case "rank":
            values = rankdata(time)
        case "log":
            if not (time[event] > 0).all():
                raise ConfigError("an event at time 0 has no logarithm", do="take another transform of time")
            values = np.log(np.where(time > 0, time, 1.0))
        case "identity":
            values = time
        case _:
            raise ConfigError(f"no transform of time {transform!r}", exists=TRANSFORMS)
    return dict(zip(time[event].tolist(), (values - values[event].mean())[event].tolist(), strict=True))
