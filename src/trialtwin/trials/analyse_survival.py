"""Analyses of a time to an event, each a plain function of one signature, found by name in `SURVIVAL`.

Every analysis takes ``(record, *, level)`` and its own options, and returns an `Answer`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from trialtwin.core.errors import ConfigError
from trialtwin.core.estimate import Estimate
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.logrank import LogRank, fleming_harrington
from trialtwin.stats.logrank import log_rank as test_log_rank
from trialtwin.stats.logrank import max_combo as test_max_combo
from trialtwin.stats.rmst_regression import rmst_regression
from trialtwin.stats.survival import KaplanMeier, rmst_difference
from trialtwin.stats.survival import kaplan_meier as fit_kaplan_meier
from trialtwin.stats.wald import wald_estimate
from trialtwin.trials.analyse_hazard import adjusted_log_rank, cox
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
        each = [
            _survival(record, arm, curve, time, scale, level) for arm, curve in zip(people.arms, curves, strict=True)
        ]
        means += [Found(one) for one in each]
        for reference, treated in people.pairs():
            first, second = each[reference], each[treated]
            one = wald_estimate(
                second.value - first.value,
                float(np.hypot(first.se, second.se)),
                contrast=people.label(reference, treated),
                n=first.n + second.n,
                level=level,
                method=f"Kaplan–Meier at {time:g} {record.unit}",
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


def rmst(
    record: SurvivalOutcome,
    *,
    horizon: float,
    covariates: Sequence[str] = (),
    measures: Sequence[str] = RMST_MEASURES,
    level: float = 0.95,
) -> Answer:
    """Compare restricted mean survival times up to a horizon; with covariates, at the same covariates.

    Parameters
    ----------
    record
        Times to an event.
    horizon
        In the unit of time, within the follow-up of every arm.
    covariates
        Names of covariates and factors: a regression of the restricted time on arm and these.
    measures
        "difference", "ratio".
    level
        Of the intervals.

    Raises
    ------
    ConfigError
        If a measure does not exist, or an arm was not followed up to the horizon.
    DataError, FitError
        If a covariate is missing, or columns depend on each other.
    """
    unknown = [name for name in measures if name not in RMST_MEASURES]
    if unknown:
        raise ConfigError(f"no measure {unknown[0]!r} of restricted means", exists=RMST_MEASURES)
    people, curves = record.patients, _curves(record)
    words = f"restricted mean time to {horizon:g} {record.unit}"
    settings = {"level": level, "method": f"Kaplan–Meier, {words}", "variance": "Greenwood", "unit": record.unit}
    means, contrasts = [], []
    for arm, curve in zip(people.arms, curves, strict=True):
        _require_followed(arm, curve, horizon)
        value, se = curve.rmst(horizon)
        own = wald_estimate(value, se, contrast=arm, n=curve.n, estimand=asked(record.estimand, words), **settings)  # type: ignore[arg-type]
        means.append(Found(own))
    for measure in measures:
        for reference, treated in people.pairs():
            one = _restricted(record, curves, (reference, treated), horizon, measure, covariates, level)
            if measure == "ratio":
                label = f"{people.label(reference, treated, '/')} (ratio of restricted means)"
                one = exponentiated(one, contrast=label, summary=f"ratio of {words.replace('time', 'times', 1)}")
            contrasts.append(Found(one))
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


def _survival(record: SurvivalOutcome, arm: str, curve: KaplanMeier, time: float, scale: str, level: float) -> Estimate:
    """Estimate survival at a time, with the curve's own interval."""
    _require_followed(arm, curve, time)
    t = np.array([time])
    one = wald_estimate(
        float(curve.at(t)[0]),
        float(curve.se(t)[0]),
        contrast=arm,
        n=curve.n,
        level=level,
        method=f"Kaplan–Meier at {time:g} {record.unit}, interval on the {scale} scale",
        variance="Greenwood",
        estimand=asked(record.estimand, f"survival at {time:g} {record.unit}"),
    )
    bounds = curve.interval(t, scale=scale, level=level)
    return one.model_copy(update={"lower": float(bounds.lower[0]), "upper": float(bounds.upper[0])})


def _restricted(
    record: SurvivalOutcome,
    curves: Sequence[KaplanMeier],
    pair: tuple[int, int],
    horizon: float,
    measure: str,
    covariates: Sequence[str],
    level: float,
) -> Estimate:
    """Compare restricted means of two arms: a difference, or the logarithm of a ratio."""
    people, (reference, treated) = record.patients, pair
    kind: Literal["ratio", "difference"] = "ratio" if measure == "ratio" else "difference"
    words = f"restricted mean time to {horizon:g} {record.unit}"
    label, at = people.label(reference, treated), asked(record.estimand, f"difference in {words}")
    if not covariates:
        one = rmst_difference(
            curves[reference], curves[treated], horizon, contrast=label, measure=kind, level=level, unit=record.unit,
            estimand=at,
        )  # fmt: skip
        return one.model_copy(update={"method": f"Kaplan–Meier, {words}"})
    model = ArmModel(people.arms, people.arm, people.columns(covariates))
    fit = rmst_regression(model, record.time, record.event, horizon, measure=kind)
    weights = {f"arm[{people.arms[treated]}]": 1.0} | ({f"arm[{people.arms[reference]}]": -1.0} if reference else {})
    one = fit.estimate(weights, label, level=level, unit=record.unit, estimand=at)
    return one.model_copy(update={"method": f"regression of {words} with {', '.join(covariates)}"})
