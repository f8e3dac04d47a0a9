"""Analyses of an outcome over visits, each a plain function of one signature, found by name in `REPEATED`.

Every analysis takes ``(record, *, covariates, level)`` and its own options, and returns an `Answer`.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.stats.meanmodel import Factor as Coded
from trialtwin.stats.meanmodel import MeanModel, mean_model
from trialtwin.stats.mmrm import mmrm as fit_mmrm
from trialtwin.stats.mmrm_result import RepeatedFit
from trialtwin.trials.analyse import SCORE
from trialtwin.trials.analyse_imputed import reference_based
from trialtwin.trials.answer import MEANS, Answer, Found, Summary, asked
from trialtwin.trials.outcomes import RepeatedOutcome

_ARM, _VISIT = "arm", "visit"


def mmrm(
    record: RepeatedOutcome,
    *,
    covariates: Sequence[str] = (),
    by_visit: Sequence[str] = (),
    covariance: str = "unstructured",
    by_arm: bool = False,
    df: str = "Kenward-Roger-linear",
    variance: str = "model",
    likelihood: str = "REML",
    margins: str = "equal",
    level: float = 0.95,
) -> Answer:
    """Compare arms at every visit by a mixed model: arm by visit, covariates, and a covariance over visits.

    Parameters
    ----------
    record
        The outcome over visits.
    covariates
        Names of covariates and factors.
    by_visit
        Those among them whose effect may differ by visit, such as the baseline.
    covariance, by_arm
        Structure (``stats.mmrm_covariance.STRUCTURES``), and whether each arm has parameters of its own.
    df, variance
        Degrees of freedom and variance of the coefficients (``stats.mmrm_result``).
    likelihood
        "REML" or "ML".
    margins
        Of least-squares means: "equal" as in SAS, or "observed".
    level
        Of the intervals.

    Raises
    ------
    ConfigError
        If an option does not exist, or there is one visit only.
    DataError
        If a covariate is missing for a patient with an outcome.
    FitError
        If the design is singular or the fit fails.
    """
    return _analysed(record, covariates, by_visit, covariance, by_arm, df, variance, likelihood, margins, level)


def procova_mmrm(
    record: RepeatedOutcome,
    *,
    covariates: Sequence[str] = (),
    by_visit: Sequence[str] = (),
    covariance: str = "unstructured",
    by_arm: bool = False,
    df: str = "Kenward-Roger-linear",
    variance: str = "model",
    likelihood: str = "REML",
    margins: str = "equal",
    level: float = 0.95,
) -> Answer:
    """Compare arms as ``mmrm`` does, adjusted for the prognostic score by visit as well.

    The parameters are those of ``mmrm``.

    Raises
    ------
    ConfigError
        As for ``mmrm``; and if the record has no score.
    DataError, FitError
        As for ``mmrm``.
    """
    if record.score is None:
        raise ConfigError("PROCOVA has no prognostic score", do="name its column as score, or use the method 'mmrm'")
    return _analysed(
        record, covariates, by_visit, covariance, by_arm, df, variance, likelihood, margins, level, score=True
    )


type Analysis = Callable[..., Answer]

REPEATED: Mapping[str, Analysis] = MappingProxyType(
    {"mmrm": mmrm, "procova_mmrm": procova_mmrm, "reference_based": reference_based}
)


def _analysed(
    record: RepeatedOutcome,
    covariates: Sequence[str],
    by_visit: Sequence[str],
    covariance: str,
    by_arm: bool,
    df: str,
    variance: str,
    likelihood: str,
    margins: str,
    level: float,
    *,
    score: bool = False,
) -> Answer:
    """Fit the mixed model and answer contrasts, least-squares means and joint tests at each visit."""
    if likelihood not in ("REML", "ML"):
        raise ConfigError(f"no likelihood {likelihood!r}", exists=("REML", "ML"))
    if len(record.visits) < 2:
        raise ConfigError("a mixed model of one visit", do="name more visits, or make the endpoint 'continuous'")
    seen = np.isfinite(record.value)
    model = _model(record, seen, covariates, by_visit, score=score)
    patient, visit = np.nonzero(seen)
    fit = fit_mmrm(
        model,
        record.value[seen],
        subjects=np.array(record.patients.ids)[patient],
        visit=_VISIT,
        structure=covariance,
        group=_ARM if by_arm else None,
        times=None if record.times is None else record.times[visit],
        restricted=likelihood == "REML",
    )
    settings = {"df": df, "variance": variance, "level": level, "unit": record.unit}
    words = ", ".join((*([SCORE] if score else []), *covariates))
    prefix = ("PROCOVA-" if score else "") + "MMRM" + (f" with {words}" if words else "")
    return _answer(record, fit, settings, margins, prefix)


def _answer(
    record: RepeatedOutcome, fit: RepeatedFit, settings: Mapping[str, object], margins: str, prefix: str
) -> Answer:
    """Ask the fit for everything, visit by visit."""
    people = record.patients
    contrasts: list[Found] = []
    means: list[Found] = []
    tests: list[Summary] = []
    for visit in record.visits:
        rows = [fit.mean_row({_ARM: arm, _VISIT: visit}, margins=margins) for arm in people.arms]
        asks = [(people.label(i, j), rows[j] - rows[i], MEANS) for i, j in people.pairs()]
        asks += [(arm, row, "least-squares mean") for arm, row in zip(people.arms, rows, strict=True)]
        for label, row, summary in asks:
            estimate = fit.estimate(row, label, estimand=asked(record.estimand, summary, visit), **settings)  # type: ignore[arg-type]
            estimate = estimate.model_copy(update={"method": estimate.method.replace("MMRM", prefix, 1)})
            (contrasts if summary == MEANS else means).append(Found(estimate, visit))
        if len(people.arms) > 2:
            tests.append(_joint(record, fit, np.array([row - rows[0] for row in rows[1:]]), settings, visit, prefix))
    facts: dict[str, float | str] = {
        "Subjects": fit.n,
        "Observations": fit.rows,
        "−2 log-likelihood": -2 * fit.log_likelihood,
        "AIC": fit.aic,
        "BIC": fit.bic,
        "Covariance parameters": len(fit.theta),
    }
    facts |= _covariance(fit, record)
    return Answer(tuple(contrasts), tuple(means), tuple(tests), facts=facts)


def _covariance(fit: RepeatedFit, record: RepeatedOutcome) -> dict[str, float]:
    """Return SD of each visit and correlations of neighbours, of each group of the covariance."""
    facts: dict[str, float] = {}
    for group in fit.data.groups:
        matrix = fit.visit_covariance(group, times=record.times)
        sd, of = np.sqrt(np.diag(matrix)), f", {group}" if group else ""
        facts |= {f"SD at {visit}{of}": float(s) for visit, s in zip(record.visits, sd, strict=True)}
        for k, (one, two) in enumerate(pairwise(record.visits)):
            facts[f"Correlation of {one} and {two}{of}"] = float(matrix[k, k + 1] / (sd[k] * sd[k + 1]))
    return facts


def _joint(
    record: RepeatedOutcome,
    fit: RepeatedFit,
    rows: np.ndarray,
    settings: Mapping[str, object],
    visit: str,
    prefix: str,
) -> Summary:
    """Test that all arms are the same at a visit."""
    test = fit.joint_test(rows, "all arms the same", df=str(settings["df"]), variance=str(settings["variance"]))
    structure = f"{prefix}, {fit.structure.name} covariance, F test"
    return Summary(
        contrast="all arms",
        statistics={
            "n": test.n,
            "statistic": test.statistic,
            "numerator_df": test.numerator_df,
            "df": test.denominator_df,
            "p": test.p,
        },
        method=f"{structure}, {test.df_method}",
        variance=test.variance,
        estimand=asked(record.estimand, "any difference in means", visit),
        visit=visit,
    )


def _model(
    record: RepeatedOutcome, seen: np.ndarray, covariates: Sequence[str], by_visit: Sequence[str], *, score: bool
) -> MeanModel:
    """Return the terms of the mean over the observed rows."""
    stray = [name for name in by_visit if name not in covariates]
    if stray:
        raise ConfigError(f"{stray[0]!r} is to differ by visit and is no covariate", exists=covariates)
    people, (patient, visit) = record.patients, np.nonzero(seen)
    inside = people.chosen(seen.any(axis=1))
    place = np.cumsum(seen.any(axis=1)) - 1
    factors = {_ARM: Coded(people.arms, people.arm[patient]), _VISIT: Coded(record.visits, visit)}
    measured: dict[str, np.ndarray] = {}
    for name in covariates:
        if name in factors or name == SCORE:
            raise ConfigError(f"a covariate is called {name!r}, as a term of the model is", do="rename the column")
        if name in inside.factors:
            levels, codes = inside.factors[name]
            if len(levels) < 2:
                raise DataError(f"factor {name!r} has one level only", exists=levels, do="leave it out")
            factors[name] = Coded(levels, codes[place[patient]])
        elif name in inside.covariates:
            measured[name] = inside.covariate(name)[place[patient]]
        else:
            raise MismatchError(f"no covariate {name!r}", exists=(*inside.covariates, *inside.factors))
    terms = [name for name in covariates if name not in by_visit]
    terms += [f"{_ARM}*{_VISIT}", *(f"{name}*{_VISIT}" for name in by_visit)]
    if score and record.score is not None:
        measured[SCORE] = record.score[seen]
        if not np.isfinite(measured[SCORE]).all():
            bad = sorted({people.ids[i] for i in patient[~np.isfinite(measured[SCORE])]})
            raise DataError("the prognostic score is missing where an outcome is not", where=", ".join(bad[:10]))
        terms.append(f"{SCORE}*{_VISIT}")
    return mean_model(terms, factors=factors, covariates=measured)
