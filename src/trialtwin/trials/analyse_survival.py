"""Analyses of a time to an event, each a plain function of one signature, found by name in `SURVIVAL`.

Every analysis takes ``(record, *, level)`` and its own options, and returns an `Answer`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from trialtwin.core.errors import ConfigError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.cox import CoxFit
from trialtwin.stats.cox import cox as fit_cox
from trialtwin.stats.logrank import LogRank, fleming_harrington
from trialtwin.stats.logrank import log_rank as test_log_rank
from trialtwin.stats.logrank import max_combo as test_max_combo
from trialtwin.stats.modelmatrix import factor_columns, join
from trialtwin.stats.survival import KaplanMeier, rmst_difference
from trialtwin.stats.survival import kaplan_meier as fit_kaplan_meier
from trialtwin.stats.wald import wald_estimate
from trialtwin.trials.analyse_adjusted import adjusted_log_rank
from trialtwin.trials.answer import Answer, Curve, Found, Summary, asked, exponentiated
from trialtwin.trials.outcomes import SurvivalOutcome

RMST_MEASURES = ("difference", "ratio")


def kaplan_meier(
    record: SurvivalOutcome, *, at: Sequence[float] = (), scale: str = "log-log", level: float = 0.95
) -> Answer:
    """Describe each arm by its survival curve and median, and compare survival at some times.

    Parameters
    ----------
    record
        Times to an event.
    at
        Times at which the arms are compared by their difference, with Greenwood's variance.
    scale
        Of the intervals: "log-log", "log" or "plain".
    level
        Of the intervals.

    Raises
    ------
    ConfigError
        If there is no such scale, or a time lies beyond the follow-up of an arm.
    FitError
        If a survival has no standard error at a time.
    """
    people, curves = record.patients, _curves(record)
    contrasts, means = [], []
    for time in at:
        each = [_survival(record, arm, curve, time, level) for arm, curve in zip(people.arms, curves, strict=True)]
        means += [Found(one) for one in each]
        for reference, treated in people.pairs():
            first, second = each[reference], each[treated]
            one = wald_estimate(
                second.value - first.value,
                float(np.hypot(first.se, second.se)),
                contrast=people.label(reference, treated),
                n=first.n + second.n,
                level=level,
                method=first.method,
                variance="Greenwood",
                estimand=asked(record.estimand, f"difference in survival at {time:g} {record.unit}"),
            )
            contrasts.append(Found(one))
    shown = tuple(Curve(arm, curve, level) for arm, curve in zip(people.arms, curves, strict=True))
    return Answer(tuple(contrasts), tuple(means), tuple(_median(record, curve, scale) for curve in shown), shown)


def log_rank(
    record: SurvivalOutcome,
    *,
    strata: Sequence[str] = (),
    one_arm_strata: str = "refuse",
    rho: float = 0.0,
    gamma: float = 0.0,
    level: float = 0.95,
) -> Answer:
    """Test whether arms differ in survival: all of them together, and each pair alone.

    Parameters
    ----------
    record
        Times to an event.
    strata
        Names of factors within which arms are compared.
    one_arm_strata
        "refuse", or "leave out" as R and SAS do: they say nothing.
    rho, gamma
        Exponents of Fleming and Harrington's weights; all events alike if both are 0.
    level
        Not used: a test has no interval.

    Raises
    ------
    DataError
        If a stratum holds one arm only.
    FitError
        If there is nothing to compare.
    """
    del level
    people = record.patients
    weighting = fleming_harrington(rho, gamma)
    groups = people.compared(strata, lone=one_arm_strata)
    words = (f", {weighting.name} weights" if rho or gamma else "") + (f", strata {', '.join(strata)}" * bool(strata))
    overall = test_log_rank(
        record.time, record.event, people.arm, weighting=weighting, strata=groups.codes if strata else None
    )
    everybody = "all arms" if len(people.arms) > 2 else people.label(0, 1)
    found = [_test(record, everybody, f"log-rank χ²{words}", len(people), overall)]
    for k, arm in enumerate(people.arms):
        seen = {"observed": float(overall.observed[k]), "expected": float(overall.expected[k])}
        found.append(replace(found[0], contrast=arm, statistics=seen, method=f"log-rank{words}"))
    for reference, treated in people.pairs() if len(people.arms) > 2 else ():
        two, rows = people.pair(reference, treated)
        codes = two.compared(strata, lone=one_arm_strata).codes if strata else None
        one = test_log_rank(record.time[rows], record.event[rows], two.arm, weighting=weighting, strata=codes)
        label = people.label(reference, treated)
        found.append(_test(record, label, f"log-rank χ², these two arms{words}", len(two), one))
    return Answer(summaries=tuple(found))


def max_combo(
    record: SurvivalOutcome,
    *,
    strata: Sequence[str] = (),
    weightings: Sequence[Sequence[float]] = ((0, 0), (0, 1), (1, 0)),
    level: float = 0.95,
) -> Answer:
    """Test each pair by the largest of several weighted log-rank statistics; one-sided, for fewer events.

    Parameters
    ----------
    record
        Times to an event.
    strata
        Names of factors within which arms are compared.
    weightings
        Exponents (ρ, γ) of Fleming and Harrington's weights.
    level
        Not used: a test has no interval.

    Raises
    ------
    ConfigError
        If fewer than two weightings are given.
    DataError, FitError
        As for ``log_rank``.
    """
    del level
    people, found = record.patients, []
    weights = [fleming_harrington(*pair) for pair in weightings]
    for reference, treated in people.pairs():
        two, rows = people.pair(reference, treated)
        codes = two.compared(strata).codes if strata else None
        one = test_max_combo(record.time[rows], record.event[rows], two.arm, weights, strata=codes)
        found.append(
            Summary(
                contrast=people.label(reference, treated),
                statistics={"n": len(two), "statistic": float(one.z.min()), "p": one.p},
                method=f"MaxCombo of {', '.join(w.name for w in weights)}, one-sided"
                + (f", strata {', '.join(strata)}" if strata else ""),
                variance="hypergeometric",
                estimand=asked(record.estimand, "difference in survival curves"),
            )
        )
    return Answer(summaries=tuple(found))


def cox(
    record: SurvivalOutcome,
    *,
    covariates: Sequence[str] = (),
    strata: Sequence[str] = (),
    one_arm_strata: str = "refuse",
    ties: str = "Efron",
    variance: str = "model",
    level: float = 0.95,
) -> Answer:
    """Estimate hazard ratios under proportional hazards.

    Parameters
    ----------
    record
        Times to an event.
    covariates
        Names of covariates and factors; the hazard ratio is then conditional on them.
    strata
        Names of factors with a baseline hazard in each stratum.
    one_arm_strata
        "refuse", or "leave out" as R and SAS do: they say nothing.
    ties, variance
        "Efron" or "Breslow"; "model" or "robust".
    level
        Of the intervals.

    Raises
    ------
    ConfigError
        If an option does not exist.
    DataError
        If a covariate is missing, or a stratum holds one arm only.
    FitError, ConvergenceError
        As for ``stats.cox.cox``.
    """
    people = record.patients
    columns = people.columns(covariates)
    arms = factor_columns("arm", people.arms, people.arm)
    codes = people.compared(strata, lone=one_arm_strata).codes if strata else None
    fit = fit_cox(arms if columns is None else join(arms, columns), record.time, record.event, strata=codes, ties=ties)
    words = (f" with {', '.join(covariates)}" if covariates else "") + (f", strata {', '.join(strata)}" * bool(strata))
    summary = "conditional hazard ratio" if covariates else "hazard ratio"
    found, at = [], asked(record.estimand, summary)
    for reference, treated in people.pairs():
        weights = {f"arm[{people.arms[treated]}]": 1.0}
        if reference:
            weights[f"arm[{people.arms[reference]}]"] = -1.0
        label = people.label(reference, treated, "/")
        log = fit.estimate(weights, label, variance=variance, level=level, estimand=at)
        one = exponentiated(log, contrast=f"{label} (hazard ratio)", summary=summary)
        method = one.method.replace("Cox model", f"Cox model{words}", 1)
        found.append(Found(one.model_copy(update={"method": method})))
    overall = _overall(fit, f"Cox model{words}, ties after {ties}, likelihood ratio", at)
    facts: dict[str, float | str] = {"Log partial likelihood": fit.log_likelihood, "Events": fit.events}
    return Answer(tuple(found), summaries=(overall,), facts=facts)


def rmst(
    record: SurvivalOutcome, *, horizon: float, measures: Sequence[str] = RMST_MEASURES, level: float = 0.95
) -> Answer:
    """Compare restricted mean survival times up to a horizon.

    Parameters
    ----------
    record
        Times to an event.
    horizon
        In the unit of time, within the follow-up of every arm.
    measures
        "difference", "ratio".
    level
        Of the intervals.

    Raises
    ------
    ConfigError
        If a measure does not exist, or an arm was not followed up to the horizon.
    """
    unknown = [name for name in measures if name not in RMST_MEASURES]
    if unknown:
        raise ConfigError(f"no measure {unknown[0]!r} of restricted means", exists=RMST_MEASURES)
    people, curves = record.patients, _curves(record)
    words = f"restricted mean time to {horizon:g} {record.unit}"
    method = f"Kaplan–Meier, {words}"
    settings = {"level": level, "method": method, "variance": "Greenwood", "unit": record.unit}
    means, contrasts = [], []
    for arm, curve in zip(people.arms, curves, strict=True):
        _require_followed(arm, curve, horizon)
        value, se = curve.rmst(horizon)
        own = wald_estimate(value, se, contrast=arm, n=curve.n, estimand=asked(record.estimand, words), **settings)  # type: ignore[arg-type]
        means.append(Found(own))
    for measure in measures:
        for reference, treated in people.pairs():
            one = rmst_difference(
                curves[reference],
                curves[treated],
                horizon,
                contrast=people.label(reference, treated),
                measure="ratio" if measure == "ratio" else "difference",
                level=level,
                unit=record.unit,
                estimand=asked(record.estimand, f"difference in {words}"),
            )
            if measure == "ratio":
                label = f"{people.label(reference, treated, '/')} (ratio of restricted means)"
                one = exponentiated(one, contrast=label, summary=f"{words}, ratio")
            contrasts.append(Found(one.model_copy(update={"method": method})))
    return Answer(tuple(contrasts), tuple(means))


type Analysis = Callable[..., Answer]

SURVIVAL: Mapping[str, Analysis] = MappingProxyType(
    {
        "kaplan_meier": kaplan_meier,
        "log_rank": log_rank,
        "max_combo": max_combo,
        "cox": cox,
        "adjusted_log_rank": adjusted_log_rank,
        "rmst": rmst,
    }
)


def _curves(record: SurvivalOutcome) -> list[KaplanMeier]:
    people = record.patients
    return [
        fit_kaplan_meier(record.time[people.arm == k], record.event[people.arm == k]) for k in range(len(people.arms))
    ]


def _require_followed(arm: str, curve: KaplanMeier, time: float) -> None:
    if (time > curve.last and len(curve.survival) and curve.survival[-1] > 0) or time <= 0:
        raise ConfigError(
            f"arm {arm!r} was followed to {curve.last:g}, and survival is asked for at {time:g}",
            do="give a time within the follow-up of every arm",
        )


def _test(record: SurvivalOutcome, contrast: str, method: str, n: int, test: LogRank) -> Summary:
    return Summary(
        contrast=contrast,
        statistics={"n": n, "statistic": test.chi2, "df": test.df, "p": test.p},
        method=method,
        variance="hypergeometric",
        estimand=asked(record.estimand, "difference in survival curves"),
    )


def _overall(fit: CoxFit, method: str, estimand: Estimand) -> Summary:
    test = fit.likelihood_ratio
    return Summary(
        contrast="all coefficients",
        statistics={"n": fit.n, "events": fit.events, "statistic": test.statistic, "df": test.df, "p": test.p},
        method=method,
        variance="likelihood",
        estimand=estimand,
    )


def _median(record: SurvivalOutcome, curve: Curve, scale: str) -> Summary:
    """Describe an arm: patients, events and the median time with its limits."""
    median, lower, upper = curve.estimate.quantile(0.5, scale=scale, level=curve.level)
    events = float(curve.estimate.events.sum())
    return Summary(
        contrast=curve.arm,
        statistics={"n": curve.estimate.n, "events": events, "median": median, "lower": lower, "upper": upper},
        method=f"Kaplan–Meier, interval on the {scale} scale",
        variance="Greenwood",
        estimand=asked(record.estimand, "median time"),
    )


def _survival(record: SurvivalOutcome, arm: str, curve: KaplanMeier, time: float, level: float) -> Estimate:
    _require_followed(arm, curve, time)
    t = np.array([time])
    return wald_estimate(
        float(curve.at(t)[0]),
        float(curve.se(t)[0]),
        contrast=arm,
        n=curve.n,
        level=level,
        method=f"Kaplan–Meier at {time:g} {record.unit}",
        variance="Greenwood",
        estimand=asked(record.estimand, f"survival at {time:g} {record.unit}"),
    )
