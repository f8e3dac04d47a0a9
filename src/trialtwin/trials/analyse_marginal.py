"""Analyses of one outcome a patient by marginal means or within strata, each a plain function of one signature.

Every analysis takes ``(record, *, covariates, level)`` and its own options, and returns an `Answer`. Which endpoints
admit which is in `BINARY` and `COUNT`, and of continuous ones in `analyse_continuous.CONTINUOUS`.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from trialtwin.core.errors import ConfigError
from trialtwin.stats import binary
from trialtwin.stats.aipw import aipw as fit_aipw
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.cmh import KINDS as CMH_KINDS
from trialtwin.stats.cmh import cmh_test, mantel_haenszel
from trialtwin.stats.families import Binomial, Gaussian, Poisson
from trialtwin.stats.gcomputation import NEGATIVE_BINOMIAL, Working
from trialtwin.stats.gcomputation import gcomputation as fit_gcomputation
from trialtwin.stats.marginal import MarginalMeans
from trialtwin.trials.answer import Answer, Found, Summary, asked, exponentiated
from trialtwin.trials.outcomes import SingleOutcome

MEASURES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "continuous": {"difference": "difference in means"},
        "binary": {"difference": "risk difference", "ratio": "risk ratio", "odds ratio": "odds ratio"},
        "count": {"ratio": "rate ratio", "difference": "difference in rates"},
    }
)
WORKING: Mapping[str, Mapping[str, Working]] = MappingProxyType(
    {
        "continuous": {"linear": Gaussian()},
        "binary": {"logistic": Binomial()},
        "count": {NEGATIVE_BINOMIAL: NEGATIVE_BINOMIAL, "Poisson": Poisson()},
    }
)
_MEAN = {"continuous": "marginal mean", "binary": "marginal risk", "count": "marginal rate"}


def gcomputation(
    record: SingleOutcome,
    *,
    covariates: Sequence[str] = (),
    working: str = "",
    interact: bool = False,
    variance: str = "Ye",
    measures: Sequence[str] = (),
    level: float = 0.95,
) -> Answer:
    """Compare marginal means by standardising a working model over all patients.

    Parameters
    ----------
    record
        The outcome.
    covariates
        Names of covariates and factors.
    working
        "logistic" for a binary outcome, "negative binomial" or "Poisson" for a count, "linear" for a continuous one;
        the first of its kind if not given.
    interact
        Whether covariates differ in their effect by arm.
    variance
        "Ye" (over samples of patients and the randomisation), or Ge's "model", "HC0"–"HC3" (covariates fixed).
    measures
        "difference", "ratio", "odds ratio"; all that the outcome has if none is given.
    level
        Of the intervals.

    Raises
    ------
    ConfigError
        If an option does not exist for this outcome.
    DataError, FitError, ConvergenceError
        As for ``stats.gcomputation.gcomputation``.
    """
    family, model = _working(record, working), _arm_model(record, covariates, interact=interact)
    scheme = record.patients.randomisation() if variance == "Ye" else None
    found = fit_gcomputation(
        model,
        record.value,
        family,
        variance=variance,
        strata=scheme,
        exposure=record.exposure,
        rows=record.patients.ids,
        name=record.endpoint,
        unit=record.unit,
    )
    return _marginal(record, found, measures, covariates, level)


def aipw(
    record: SingleOutcome,
    *,
    covariates: Sequence[str] = (),
    working: str = "",
    interact: bool = False,
    measures: Sequence[str] = (),
    level: float = 0.95,
) -> Answer:
    """Compare marginal means by augmented inverse probability weighting, with the variance of the randomisation.

    With a linear working model and ``interact`` this is ANHECOVA. The parameters are those of ``gcomputation``.

    Raises
    ------
    ConfigError
        If an option does not exist for this outcome, or patients have exposure times.
    DataError, FitError, ConvergenceError
        As for ``stats.aipw.aipw``.
    """
    if record.exposure is not None:
        raise ConfigError(
            "AIPW has no exposure time", do="use 'gcomputation' with variance 'model', or leave the exposure out"
        )
    found = fit_aipw(
        _arm_model(record, covariates, interact=interact),
        record.value,
        _working(record, working),
        randomisation=record.patients.randomisation(),
        rows=record.patients.ids,
        name=record.endpoint,
        unit=record.unit,
    )
    if interact and record.kind == "continuous":
        found = MarginalMeans(**(vars(found) | {"method": "ANHECOVA (AIPW, gaussian)"}))
    return _marginal(record, found, measures, covariates, level)


def miettinen_nurminen(
    record: SingleOutcome,
    *,
    strata: Sequence[str] = (),
    measures: Sequence[str] = ("difference",),
    weights: str = "CMH",
    corrected: bool = True,
    level: float = 0.95,
) -> Answer:
    """Compare proportions by score intervals, over strata where they are named.

    Parameters
    ----------
    record
        A binary outcome.
    strata
        Names of factors.
    measures
        "difference", "ratio", "odds ratio".
    weights, corrected
        "CMH" or "size"; Farrington and Manning's variance if not corrected.
    level
        Of the intervals.

    Raises
    ------
    ConfigError
        If a measure or the weights do not exist.
    DataError
        If a stratum holds one arm only.
    FitError
        If a measure is undefined for these counts.
    """
    found = []
    for reference, treated in record.patients.pairs():
        responders, patients = _counts(record, strata, reference, treated)
        table = binary.TwoByTwo(responders[:, 1], patients[:, 1], responders[:, 0], patients[:, 0])
        for measure in measures:
            summary = _summary(record, measure)
            label = _label(record, reference, treated, measure)
            estimand = asked(record.estimand, summary, record.visit)
            settings = {"weights": weights, "corrected": corrected, "level": level}
            one = binary.miettinen_nurminen(table, measure, label=label, estimand=estimand, **settings)  # type: ignore[arg-type]
            if strata:
                one = one.model_copy(update={"method": f"{one.method} ({', '.join(strata)})"})
            found.append(Found(one, record.visit))
    return Answer(tuple(found))


def cmh(
    record: SingleOutcome,
    *,
    strata: Sequence[str] = (),
    kind: str = "general association",
    one_arm_strata: str = "refuse",
    level: float = 0.95,
) -> Answer:
    """Test association of arm and response within strata, and estimate the common odds ratio of each pair.

    Parameters
    ----------
    record
        A binary outcome.
    strata
        Names of factors.
    kind
        "general association", "row means" or "correlation", of the test over all arms.
    one_arm_strata
        "refuse", or "leave out" as SAS does: they say nothing.
    level
        Of the intervals.

    Raises
    ------
    ConfigError
        If the kind does not exist.
    DataError
        If a stratum holds one arm only.
    FitError
        If there is nothing to test.
    """
    if kind not in CMH_KINDS:
        raise ConfigError(f"no CMH statistic {kind!r}", exists=CMH_KINDS)
    people = record.patients
    groups = people.compared(strata, lone=one_arm_strata)
    tables = np.zeros((len(groups.names), len(people.arms), 2))
    np.add.at(tables, (groups.codes, people.arm, (record.value == 0).astype(int)), 1)
    test = cmh_test(tables, kind)
    words = f" within {', '.join(strata)}" if strata else ""
    summary = Summary(
        contrast="all arms" if len(people.arms) > 2 else people.label(0, 1),
        statistics={"n": len(people), "statistic": test.statistic, "df": test.df, "p": test.p, "strata": test.strata},
        method=test.method + words,
        variance="hypergeometric",
        estimand=asked(record.estimand, "association within strata" if strata else "association", record.visit),
        visit=record.visit,
    )
    found = []
    for reference, treated in people.pairs():
        label = _label(record, reference, treated, "odds ratio")
        estimand = asked(record.estimand, "conditional odds ratio" if strata else "odds ratio", record.visit)
        one = mantel_haenszel(tables[:, [treated, reference]], label, level=level, estimand=estimand)
        found.append(Found(one.model_copy(update={"method": one.method + words}), record.visit))
    return Answer(tuple(found), summaries=(summary,))


type Analysis = Callable[..., Answer]

BINARY: Mapping[str, Analysis] = MappingProxyType(
    {"gcomputation": gcomputation, "aipw": aipw, "miettinen_nurminen": miettinen_nurminen, "cmh": cmh}
)
COUNT: Mapping[str, Analysis] = MappingProxyType({"gcomputation": gcomputation, "aipw": aipw})


def _working(record: SingleOutcome, name: str) -> Working:
    known = WORKING[record.kind]
    chosen = name or next(iter(known))
    if chosen not in known:
        raise ConfigError(f"no working model {chosen!r} of a {record.kind} outcome", exists=known)
    return known[chosen]


def _arm_model(record: SingleOutcome, covariates: Sequence[str], *, interact: bool) -> ArmModel:
    columns = record.patients.columns(covariates)
    if interact and columns is None:
        raise ConfigError("covariates are to interact with arm, and none is named", exists=record.patients.covariates)
    return ArmModel(record.patients.arms, record.patients.arm, columns, columns.names if columns and interact else ())


def _summary(record: SingleOutcome, measure: str) -> str:
    known = MEASURES[record.kind]
    if measure not in known:
        raise ConfigError(f"no measure {measure!r} of a {record.kind} outcome", exists=known)
    return known[measure]


def _label(record: SingleOutcome, reference: int, treated: int, measure: str) -> str:
    if measure == "difference":
        return record.patients.label(reference, treated)
    return f"{record.patients.label(reference, treated, '/')} ({_summary(record, measure)})"


def _counts(
    record: SingleOutcome, strata: Sequence[str], reference: int, treated: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return responders and patients by stratum of two arms, the reference first."""
    two, rows = record.patients.pair(reference, treated)
    groups = two.compared(strata)
    patients, responders = (np.zeros((len(groups.names), 2)) for _ in range(2))
    np.add.at(patients, (groups.codes, two.arm), 1)
    np.add.at(responders, (groups.codes, two.arm), record.value[rows])
    return responders, patients


def _marginal(
    record: SingleOutcome, found: MarginalMeans, measures: Sequence[str], covariates: Sequence[str], level: float
) -> Answer:
    """Ask marginal means for contrasts; ratios have intervals from their logarithms."""
    people = record.patients
    words = f" with {', '.join(covariates)}" if covariates else ""
    contrasts, means = [], []
    for measure in measures or tuple(MEASURES[record.kind]):
        summary = _summary(record, measure)
        for reference, treated in people.pairs():
            arms = people.arms[treated], people.arms[reference]
            label, at = _label(record, reference, treated, measure), asked(record.estimand, summary, record.visit)
            if measure == "difference":
                one = found.contrast(*arms, level=level)
            else:
                log = found.contrast(*arms, f"log {measure}", level=level)
                one = exponentiated(log, contrast=label, summary=summary)
            update = {"method": found.method + words, "estimand": at}
            contrasts.append(Found(one.model_copy(update=update), record.visit))
    for arm in people.arms:
        at = asked(record.estimand, _MEAN[record.kind], record.visit)
        one = found.mean(arm, level=level)
        means.append(Found(one.model_copy(update={"method": found.method + words, "estimand": at}), record.visit))
    return Answer(tuple(contrasts), tuple(means))
