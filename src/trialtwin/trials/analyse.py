"""Analyses of a finished trial, each a plain function of one signature, found by name.

Every analysis takes ``(record, *, covariates, variance, level)`` and its own options, and returns one `Estimate` a
contrast with the record's estimand and unit, so that a study names its analyses and a report shows any of them. To
add one, write such a function and enter it in `ANALYSES`.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.core.estimate import Estimate
from trialtwin.stats.ancova import LinearFit, least_squares
from trialtwin.stats.modelmatrix import (
    ModelMatrix,
    centred,
    continuous_columns,
    crossed,
    factor_columns,
    intercept,
    join,
)
from trialtwin.stats.twosample import two_sample_t
from trialtwin.trials.record import Record

type Analysis = Callable[..., tuple[Estimate, ...]]

SCORE = "prognostic score"


def unadjusted(
    record: Record, *, covariates: Sequence[str] = (), variance: str = "model", level: float = 0.95
) -> tuple[Estimate, ...]:
    """Compare arms without covariates.

    With variance "Welch" each contrast uses its two arms only, each with a variance of its own. With any other, one
    model holds all arms ("model": one variance for all of them).

    Raises
    ------
    ConfigError
        If covariates are named: an analysis with covariates is ``ancova``.
    """
    if covariates:
        raise ConfigError(
            f"the unadjusted analysis was given covariates: {', '.join(covariates)}", do="use the analysis 'ancova'"
        )
    if variance != "Welch":
        fit = _fit(record, intercept(len(record)), _arms(record))
        return _contrasts(record, fit, variance=variance, level=level, method="difference in means")
    return tuple(
        two_sample_t(
            record.value[record.arm == treated],
            record.value[record.arm == control],
            record.label(control, treated),
            level=level,
            unit=record.unit,
            estimand=record.estimand,
        )
        for control, treated in record.pairs()
    )


def ancova(
    record: Record, *, covariates: Sequence[str] = (), variance: str = "model", level: float = 0.95
) -> tuple[Estimate, ...]:
    """Compare arms adjusted for baseline covariates, without interactions: all pairwise contrasts.

    Raises
    ------
    ConfigError
        If no covariate is named.
    MismatchError
        If the record has no such covariate.
    FitError
        If the design is singular, or the variance is undefined.
    """
    if not covariates:
        raise ConfigError(
            "ANCOVA was given no covariates",
            exists=(*record.covariates, *record.factors),
            do="name some, or use the analysis 'unadjusted'",
        )
    fit = _fit(record, intercept(len(record)), _arms(record), *covariate_parts(record, covariates))
    return _contrasts(record, fit, variance=variance, level=level, method=f"ANCOVA with {', '.join(covariates)}")


def dose_response(
    record: Record, *, covariates: Sequence[str] = (), variance: str = "model", level: float = 0.95
) -> tuple[Estimate, ...]:
    """Estimate the slope of the endpoint over dose, linear in dose, adjusted for covariates.

    The estimand is the record's with the slope as its summary.

    Raises
    ------
    DataError
        If the record has no dose, or all patients the same.
    MismatchError, FitError
        As for ``ancova``.
    """
    if record.dose is None:
        raise DataError("the trial has no dose for each patient", do="give the column that holds it")
    if record.dose.min() == record.dose.max():
        raise DataError(f"all patients have dose {record.dose[0]:g}: there is no dose response to estimate")
    per = record.dose_unit or "unit of dose"
    parts = [intercept(len(record)), continuous_columns({"dose": record.dose})]
    fit = _fit(record, *parts, *covariate_parts(record, covariates))
    words = f" with {', '.join(covariates)}" if covariates else ""
    return (
        fit.estimate(
            {"dose": 1.0},
            f"slope per {per}",
            variance=variance,
            level=level,
            method=f"linear dose response{words}",
            unit=f"{record.unit}/{per}",
            estimand=record.estimand.model_copy(update={"summary": f"linear slope of means per {per}"}),
        ),
    )


def procova(
    record: Record,
    *,
    score: Float[np.ndarray, " patient"],
    covariates: Sequence[str] = (),
    variance: str = "model",
    level: float = 0.95,
    interaction: bool = False,
    interact_covariates: bool = False,
) -> tuple[Estimate, ...]:
    """Compare arms adjusted for a prognostic score, and for covariates: all pairwise contrasts.

    With ``interaction``, the score centred at the mean of the whole sample enters times arm, and each contrast is the
    effect at that mean; ``interact_covariates`` does the same for the covariates (ANHECOVA). The mean counts as
    known: where the effect depends on the score, the variance is that of the effect for patients like these.

    The score must not have seen the patient's own outcome; it may be biased or useless, and the test keeps its level.

    Parameters
    ----------
    score : shape (patient,)
        Expected outcome under control, of the patients in the order of ``record.ids``.

    Raises
    ------
    DataError
        If the score has another length, or is missing or infinite for a subject, or is constant.
    ConfigError
        If covariates are to interact and the score is not.
    MismatchError, FitError
        As for ``ancova``.
    """
    if interact_covariates and not interaction:
        raise ConfigError("interact_covariates was set without interaction", do="set interaction as well")
    _check_score(record, score)
    prognosis = continuous_columns({SCORE: score})
    adjusters = covariate_parts(record, covariates)
    arms = _arms(record)
    parts = [intercept(len(record)), arms, prognosis, *adjusters]
    if interaction:
        effect_modifiers = join(prognosis, *adjusters) if interact_covariates else prognosis
        parts.append(crossed(arms, centred(effect_modifiers)))
    words = ", ".join((SCORE, *covariates))
    modified = {(True, True): " and all of them × arm", (True, False): " and score × arm"}
    method = f"PROCOVA with {words}{modified.get((interaction, interact_covariates), '')}"
    return _contrasts(record, _fit(record, *parts), variance=variance, level=level, method=method)


ANALYSES: Mapping[str, Analysis] = MappingProxyType(
    {"unadjusted": unadjusted, "ancova": ancova, "dose_response": dose_response, "procova": procova}
)


def find_analysis(name: str) -> Analysis:
    """Return an analysis by name.

    Raises
    ------
    MismatchError
        With the names that exist.

    Examples
    --------
    >>> find_analysis("ancova") is ancova
    True
    """
    if name not in ANALYSES:
        raise MismatchError(f"no analysis {name!r}", exists=ANALYSES)
    return ANALYSES[name]


def covariate_parts(record: Record, covariates: Sequence[str]) -> list[ModelMatrix]:
    """Return the columns of each covariate: continuous ones as they are, factors by treatment contrasts.

    Raises
    ------
    MismatchError
        If the record has no such covariate; the message lists those that it has.
    """
    parts = []
    for name in covariates:
        if name in record.covariates:
            parts.append(continuous_columns({name: record.covariates[name]}))
        elif name in record.factors:
            parts.append(factor_columns(name, *record.factors[name]))
        else:
            raise MismatchError(f"no covariate {name!r}", exists=(*record.covariates, *record.factors))
    return parts


def arm_parts(record: Record) -> list[ModelMatrix]:
    """Return the columns that hold the arms' means: the intercept and the arms but the control."""
    return [intercept(len(record)), _arms(record)]


def _arms(record: Record) -> ModelMatrix:
    return factor_columns("arm", record.arms, record.arm)


def _fit(record: Record, *parts: ModelMatrix) -> LinearFit:
    return least_squares(join(*parts), record.value, rows=record.ids, name=f"the endpoint {record.endpoint!r}")


def _contrasts(record: Record, fit: LinearFit, *, variance: str, level: float, method: str) -> tuple[Estimate, ...]:
    """Estimate every pairwise difference between arms."""
    estimates = []
    for control, treated in record.pairs():
        weights = {f"arm[{record.arms[treated]}]": 1.0}
        if control > 0:
            weights[f"arm[{record.arms[control]}]"] = -1.0
        estimates.append(
            fit.estimate(
                weights,
                record.label(control, treated),
                variance=variance,
                level=level,
                method=method,
                unit=record.unit,
                estimand=record.estimand,
            )
        )
    return tuple(estimates)


def _check_score(record: Record, score: Float[np.ndarray, " patient"]) -> None:
    """Refuse a score that does not belong to these patients."""
    if score.shape != (len(record),):
        raise DataError(
            f"the prognostic score has shape {score.shape} for {len(record)} subjects",
            do="give one score a subject, in the order of record.ids",
        )
    bad = np.flatnonzero(~np.isfinite(score))
    if len(bad):
        names = ", ".join(record.ids[i] for i in bad[:10])
        raise DataError(f"the prognostic score is missing or infinite for {len(bad)} subjects", where=names)
    if score.min() == score.max():
        raise DataError("the prognostic score is the same for all patients", do="check what the twin was told of them")
