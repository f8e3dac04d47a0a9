"""Covariates as a standardised matrix, encoded the same way for every cohort once it was learned from one.

Blocks of features (omics, wearables) enter as the joint latent factors that they and the covariates share.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import MismatchError
from trialtwin.core.variables import Kind, Variable, position
from trialtwin.infer.factors import Factors
from trialtwin.twins.latent import Latent, latent_factors, learn_latent


@dataclass(frozen=True)
class Encoder:
    """How to turn covariates, and baseline values of outcomes, into columns of mean 0 and SD 1.

    ``names`` are covariates and outcomes by name; ``levels`` the level that a column indicates, empty for a numeric
    column; ``centres`` and ``scales`` standardise; ``seen`` are the levels that occurred, by covariate. The first level
    of a categorical covariate has no column. Columns that were constant in the cohort learned from are left out.
    ``latent`` is the latent space of the cohort's blocks, ``None`` where it had none that varied together.
    """

    names: tuple[str, ...]
    levels: tuple[str, ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]
    seen: dict[str, tuple[str, ...]]
    latent: Latent | None = None

    @classmethod
    def learn(cls, cohort: Cohort, *, modelled: tuple[str, ...] = ()) -> "Encoder":
        """Learn the encoding of a cohort.

        Parameters
        ----------
        modelled
            Outcomes whose baseline value is part of the history and therefore no covariate.
        """
        found = []
        for variable in cohort.variables:
            levels = variable.levels[1:] if variable.kind is Kind.CATEGORICAL else ("",)
            found += [(variable.name, level) for level in levels]
        found += [(v.name, "") for v in cohort.outcomes if v.name not in modelled]
        seen = {v.name: _seen(cohort, v) for v in cohort.variables if v.kind is Kind.CATEGORICAL}
        kept = []
        for name, level in found:
            column = _column(cohort, name, level)
            known = column[np.isfinite(column)]
            if len(known) and np.std(known) > 1e-12:
                kept.append((name, level, float(np.mean(known)), float(np.std(known))))
        names, levels, centres, scales = zip(*kept, strict=True) if kept else ((), (), (), ())
        plain = cls(names, levels, centres, scales, seen)
        if not cohort.blocks:
            return plain
        return replace(plain, latent=learn_latent(cohort, _standard(plain, cohort)))


def encode(encoder: Encoder, cohort: Cohort) -> Float[np.ndarray, "patient column"]:
    """Encode a cohort; a missing value becomes 0, the mean of the cohort that the encoding was learned from.

    A level that did not occur there is taken as missing: nothing is known of it, least of all that it is the first one.

    A column for each latent factor follows: the posterior mean given the blocks and covariates that the patient has,
    and so 0 where nothing is known. ``factors_of`` tells how uncertain it is.

    Raises
    ------
    MismatchError
        If the cohort lacks a covariate that the encoding needs, or shares no feature with a block that it has.
    """
    standard = _standard(encoder, cohort)
    columns = np.where(np.isfinite(standard), standard, 0.0)
    if encoder.latent is None:
        return columns
    return np.concatenate([columns, latent_factors(encoder.latent, cohort, standard).mean], axis=1)


def known_columns(encoder: Encoder, cohort: Cohort) -> Bool[np.ndarray, "patient column"]:
    """Tell which columns of ``encode`` were measured; those of latent factors count as known, see ``factors_of``.

    Raises
    ------
    MismatchError
        As ``encode``.
    """
    measured = np.isfinite(_standard(encoder, cohort))
    latent = 0 if encoder.latent is None else len(encoder.latent.columns)
    return np.concatenate([measured, np.ones((len(cohort), latent), dtype=bool)], axis=1)


def factors_of(encoder: Encoder, cohort: Cohort) -> Factors | None:
    """Return the latent factors of each patient with their uncertainty; ``None`` where no blocks were learned from.

    Their means are the last columns of ``encode``. ``known`` is the share of what could be known of the factors that
    this patient's blocks and covariates tell: lower where a block is missing.

    Raises
    ------
    MismatchError
        As ``encode``.
    """
    if encoder.latent is None:
        return None
    return latent_factors(encoder.latent, cohort, _standard(encoder, cohort))


def missing_share(encoder: Encoder, cohort: Cohort) -> Float[np.ndarray, " patient"]:
    """Return the share of each patient's covariate columns that are missing; 0 where there are no columns."""
    standard = _standard(encoder, cohort)
    return 1.0 - np.isfinite(standard).mean(axis=1) if standard.shape[1] else np.zeros(len(cohort))


def _standard(encoder: Encoder, cohort: Cohort) -> Float[np.ndarray, "patient column"]:
    """Return the standardised covariates, NaN where missing or of a level that was never seen."""
    columns = []
    for name, level, centre, scale in zip(encoder.names, encoder.levels, encoder.centres, encoder.scales, strict=True):
        column = _column(cohort, name, level)
        if name in encoder.seen:
            column = np.where(_unseen(cohort, name, encoder.seen[name]), np.nan, column)
        columns.append((column - centre) / scale)
    return np.stack(columns, axis=1) if columns else np.zeros((len(cohort), 0))


def _seen(cohort: Cohort, variable: Variable) -> tuple[str, ...]:
    """Return the levels of a categorical covariate that occur."""
    codes = cohort.covariate(variable.name)
    return tuple(level for i, level in enumerate(variable.levels) if (codes == i).any())


def _unseen(cohort: Cohort, name: str, seen: tuple[str, ...]) -> Bool[np.ndarray, " patient"]:
    """Tell whose level of a categorical covariate is not among those seen."""
    variable = cohort.variables[position(cohort.variables, name)]
    new = [i for i, level in enumerate(variable.levels) if level not in seen]
    return np.isin(cohort.covariate(name), new)


def _column(cohort: Cohort, name: str, level: str) -> Float[np.ndarray, " patient"]:
    """Return a covariate, an indicator of one level, or an outcome measured at baseline; NaN where missing."""
    covariates = [v.name for v in cohort.variables]
    if name not in covariates:
        if name not in [v.name for v in cohort.outcomes]:
            raise MismatchError(
                f"the twin needs {name!r}, which these patients do not have",
                exists=[*covariates, *(v.name for v in cohort.outcomes)],
                do="add it to the patients, as missing (NaN) if it was not measured",
            )
        return np.where(cohort.times[:, 0] <= 0, cohort.values[:, 0, cohort.outcome(name)], np.nan)
    raw = cohort.covariate(name)
    if not level:
        return raw
    variable = cohort.variables[covariates.index(name)]
    if level not in variable.levels:
        raise MismatchError(f"covariate {name!r} has no level {level!r} in these patients", exists=variable.levels)
    return np.where(np.isnan(raw), np.nan, (raw == variable.levels.index(level)).astype(float))
