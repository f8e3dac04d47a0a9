"""Analyses of a continuous outcome at one visit by linear models, each a plain function of one signature.

Every analysis takes ``(record, *, covariates, level)`` and its own options, and returns an `Answer`: the contrasts of
``trials.analyse``, and least-squares means beside them. Found by name in `CONTINUOUS`.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from trialtwin.core.errors import ConfigError
from trialtwin.core.estimate import Estimate
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.meanmodel import Factor as Coded
from trialtwin.stats.meanmodel import mean_model
from trialtwin.trials.analyse import ANALYSES, SCORE
from trialtwin.trials.analyse_marginal import aipw, gcomputation
from trialtwin.trials.answer import Answer, Found, asked
from trialtwin.trials.outcomes import SingleOutcome

_ARM = "arm"


def unadjusted(record: SingleOutcome, *, variance: str = "model", level: float = 0.95) -> Answer:
    """Compare means without covariates; with variance "Welch", each arm has its own.

    Raises
    ------
    ConfigError, DataError, FitError
        As for ``trials.analyse.unadjusted``.
    """
    contrasts = ANALYSES["unadjusted"](record.record(), variance=variance, level=level)
    return _answer(record, contrasts, () if variance == "Welch" else _means(record, (), variance, level))


def ancova(
    record: SingleOutcome, *, covariates: Sequence[str] = (), variance: str = "model", level: float = 0.95
) -> Answer:
    """Compare means adjusted for covariates.

    Raises
    ------
    ConfigError, DataError, FitError
        As for ``trials.analyse.ancova``.
    """
    record.patients.columns(covariates)
    found = ANALYSES["ancova"](record.record(), covariates=covariates, variance=variance, level=level)
    return _answer(record, found, _means(record, covariates, variance, level))


def procova(
    record: SingleOutcome,
    *,
    covariates: Sequence[str] = (),
    variance: str = "model",
    interaction: bool = False,
    interact_covariates: bool = False,
    level: float = 0.95,
) -> Answer:
    """Compare means adjusted for the prognostic score and covariates.

    Raises
    ------
    ConfigError, DataError, FitError
        As for ``trials.analyse.procova``; and if the record has no score.
    """
    if record.score is None:
        raise ConfigError("PROCOVA has no prognostic score", do="name its column as score, or use the method 'ancova'")
    record.patients.columns(covariates)
    found = ANALYSES["procova"](
        record.record(),
        score=record.score,
        covariates=covariates,
        variance=variance,
        level=level,
        interaction=interaction,
        interact_covariates=interact_covariates,
    )
    return _answer(record, found, () if interaction else _means(record, covariates, variance, level, score=True))


def dose_response(
    record: SingleOutcome, *, covariates: Sequence[str] = (), variance: str = "model", level: float = 0.95
) -> Answer:
    """Estimate the slope of the mean over dose.

    Raises
    ------
    ConfigError, DataError, FitError
        As for ``trials.analyse.dose_response``.
    """
    record.patients.columns(covariates)
    found = ANALYSES["dose_response"](record.record(), covariates=covariates, variance=variance, level=level)
    at = asked(record.estimand, found[0].estimand.summary if found[0].estimand else "slope", record.visit)
    return Answer(tuple(Found(one.model_copy(update={"estimand": at}), record.visit) for one in found))


type Analysis = Callable[..., Answer]

CONTINUOUS: Mapping[str, Analysis] = MappingProxyType(
    {
        "unadjusted": unadjusted,
        "ancova": ancova,
        "procova": procova,
        "dose_response": dose_response,
        "aipw": aipw,
        "gcomputation": gcomputation,
    }
)


def _answer(record: SingleOutcome, found: Sequence[Estimate], means: tuple[Found, ...]) -> Answer:
    """Return the contrasts that were asked for, with their question."""
    people = record.patients
    wanted = {people.label(i, j) for i, j in people.pairs()}
    at = asked(record.estimand, "difference in means", record.visit)
    kept = [one.model_copy(update={"estimand": at}) for one in found if one.contrast in wanted]
    return Answer(tuple(Found(one, record.visit) for one in kept), means)


def _means(
    record: SingleOutcome, covariates: Sequence[str], variance: str, level: float, *, score: bool = False
) -> tuple[Found, ...]:
    """Return least-squares means: covariates at their means, levels of factors weighted alike, as in SAS."""
    people = record.patients
    factors = {_ARM: Coded(people.arms, people.arm)}
    factors |= {name: Coded(*people.factors[name]) for name in covariates if name in people.factors}
    measured = {name: people.covariate(name) for name in covariates if name not in factors}
    if score and record.score is not None:
        measured[SCORE] = record.score
    model = mean_model([*factors, *measured], factors=factors, covariates=measured)
    fit = least_squares(model.matrix(), record.value, rows=people.ids, name=f"the endpoint {record.endpoint!r}")
    words = f" with {', '.join((*([SCORE] if score else []), *covariates))}" if covariates or score else ""
    at = asked(record.estimand, "least-squares mean" if words else "mean", record.visit)
    found = []
    for arm in people.arms:
        row = dict(zip(fit.names, model.mean_row({_ARM: arm}).tolist(), strict=True))
        one = fit.estimate(
            row, arm, variance=variance, level=level, method=f"linear model{words}", unit=record.unit, estimand=at
        )
        found.append(Found(one, record.visit))
    return tuple(found)
