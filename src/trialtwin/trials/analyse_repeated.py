"""Analyses of an outcome over visits, each a plain function of one signature, found by name in `REPEATED`.

Every analysis takes ``(record, *, covariates, level)`` and its own options, and returns an `Answer`.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.stats.imputation_model import STRATEGIES
from trialtwin.stats.meanmodel import Factor as Coded
from trialtwin.stats.meanmodel import MeanModel, mean_model
from trialtwin.stats.mmrm import mmrm as fit_mmrm
from trialtwin.stats.mmrm_result import RepeatedFit
from trialtwin.stats.reference_imputation import conditional_mean
from trialtwin.stats.wald import wald_estimate
from trialtwin.trials.analyse import SCORE
from trialtwin.trials.answer import Answer, Found, Summary, asked
from trialtwin.trials.outcomes import RepeatedOutcome

MEANS = "difference in means"
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


def reference_based(
    record: RepeatedOutcome,
    *,
    covariates: Sequence[str] = (),
    strategies: Mapping[str, str] | None = None,
    delta: Mapping[str, float] | None = None,
    level: float = 0.95,
) -> Answer:
    """Compare arms after imputation by conditional means under a strategy for each intercurrent event.

    Each treated arm is analysed with the control alone. Standard errors are the jackknife's over patients.

    Parameters
    ----------
    record
        The outcome over visits, and each patient's intercurrent event.
    covariates
        Names of covariates and factors of the imputation model and of the ANCOVA.
    strategies
        Strategy of each intercurrent event by its name (``stats.imputation_model.STRATEGIES``).
    delta
        Added to imputed values, by arm.
    level
        Of the intervals.

    Raises
    ------
    ConfigError
        If a strategy or an arm does not exist, or patients have an event without a strategy.
    DataError, FitError, ConvergenceError
        As for ``conditional_mean``.
    """
    plans, shifts = dict(strategies or {}), dict(delta or {})
    _require_plans(record, plans, shifts)
    if record.patients.every_pair:
        raise ConfigError("imputation compares arms with the control only", do="set contrasts to 'control'")
    contrasts: list[Found] = []
    means: dict[tuple[str, str], Found] = {}
    for _, treated in record.patients.pairs():
        for one in _imputed(record.pair(0, treated), covariates, plans, shifts, level):
            if one.estimate.estimand and one.estimate.estimand.summary == MEANS:
                contrasts.append(one)
            else:
                means.setdefault((one.visit, one.estimate.contrast), one)
    return Answer(contrasts=tuple(contrasts), means=tuple(means.values()))


type Analysis = Callable[..., Answer]

REPEATED: Mapping[str, Analysis] = MappingProxyType(
    {"mmrm": mmrm, "procova_mmrm": procova_mmrm, "reference_based": reference_based}
)


def _imputed(
    both: RepeatedOutcome,
    covariates: Sequence[str],
    plans: Mapping[str, str],
    shifts: Mapping[str, float],
    level: float,
) -> list[Found]:
    """Impute and analyse two arms: their difference and means at each visit."""
    people = both.patients
    columns = people.columns(covariates)
    found = conditional_mean(
        both.value,
        people.arm,
        np.zeros((len(people), 0)) if columns is None else columns.values,
        event=both.event,
        strategy=[plans.get(name, "MAR") for name in both.event_name],
        delta=np.array([shifts.get(people.arms[arm], 0.0) for arm in people.arm]),
    )
    words = ", ".join(f"{event}: {plan}" for event, plan in plans.items()) or "MAR"
    shifted = f", shifted by {', '.join(f'{arm} {by:g}' for arm, by in shifts.items())}" if shifts else ""
    method = f"conditional mean imputation ({words}{shifted}), ANCOVA by visit"
    settings = {"n": len(people), "level": level, "method": method, "variance": "jackknife", "unit": both.unit}
    estimates = []
    for k, visit in enumerate(both.visits):
        for name, summary, value, se in (
            (people.label(0, 1), MEANS, found.effect[k], found.effect_se[k]),
            (people.arms[0], "mean", found.reference_mean[k], found.reference_se[k]),
            (people.arms[1], "mean", found.other_mean[k], found.other_se[k]),
        ):
            at = asked(both.estimand, summary, visit)
            one = wald_estimate(float(value), float(se), contrast=name, estimand=at, **settings)  # type: ignore[arg-type]
            estimates.append(Found(one, visit))
    return estimates


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


def _require_plans(record: RepeatedOutcome, plans: Mapping[str, str], shifts: Mapping[str, float]) -> None:
    """Refuse strategies and shifts that do not exist, and events without a strategy."""
    events = dict.fromkeys(name for name in record.event_name if name)
    for event, plan in plans.items():
        if plan not in STRATEGIES:
            raise ConfigError(f"no imputation strategy {plan!r} for {event!r}", exists=STRATEGIES)
    without = [event for event in events if event not in plans]
    if without:
        raise ConfigError(
            f"patients have the intercurrent event {without[0]!r}, and no strategy imputes after it",
            exists=STRATEGIES,
            do=f'write strategies = {{"{without[0]}" = "JR"}}, or "MAR"',
        )
    for arm in shifts:
        if arm not in record.patients.arms:
            raise MismatchError(f"a shift for an arm {arm!r} that does not exist", exists=record.patients.arms)
