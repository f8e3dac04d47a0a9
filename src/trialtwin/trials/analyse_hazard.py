"""Hazard ratios: Cox's model with a test of proportional hazards, and the log-rank test adjusted for covariates."""

from collections.abc import Sequence

import numpy as np

from trialtwin.core.errors import FitError
from trialtwin.core.estimate import Estimand
from trialtwin.stats.adjusted_logrank import adjusted_hazard_ratio
from trialtwin.stats.adjusted_logrank import adjusted_log_rank as test_adjusted
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.cox import CoxFit
from trialtwin.stats.cox import cox as fit_cox
from trialtwin.stats.modelmatrix import ModelMatrix, factor_columns, join
from trialtwin.stats.proportional_hazards import proportional_hazards
from trialtwin.trials.answer import Answer, Found, Summary, asked, exponentiated
from trialtwin.trials.outcomes import SurvivalOutcome


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
    """Estimate hazard ratios under proportional hazards, and test whether hazards are proportional.

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
        "Efron", "Breslow" or "exact"; "model" or "robust".
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
    design = arms if columns is None else join(arms, columns)
    fit = fit_cox(design, record.time, record.event, strata=codes, ties=ties)
    words = _words(covariates, strata)
    summary = "conditional hazard ratio" if covariates else "hazard ratio"
    found, at, method = [], asked(record.estimand, summary), f"Cox model{words}, ties after {ties}"
    for reference, treated in people.pairs():
        weights = {f"arm[{people.arms[treated]}]": 1.0}
        if reference:
            weights[f"arm[{people.arms[reference]}]"] = -1.0
        label = people.label(reference, treated, "/")
        log = fit.estimate(weights, label, variance=variance, level=level, estimand=at)
        one = exponentiated(log, contrast=f"{label} (hazard ratio)", summary=summary)
        found.append(Found(one.model_copy(update={"method": method})))
    summaries = [_overall(fit, f"{method}, likelihood ratio", at)]
    facts: dict[str, float | str] = {"Log partial likelihood": fit.log_likelihood, "Events": fit.events}
    try:
        summaries += _proportional(record, design, covariates, codes, ties, at)
    except FitError as error:
        facts["Test of proportional hazards"] = f"none: {error.what}"
    return Answer(tuple(found), summaries=tuple(summaries), facts=facts)


def adjusted_log_rank(
    record: SurvivalOutcome, *, covariates: Sequence[str] = (), strata: Sequence[str] = (), level: float = 0.95
) -> Answer:
    """Compare each pair of arms by Ye, Shao and Yi's log-rank test and hazard ratio, which use covariates.

    The hazard ratio is the same, unconditional, one as without covariates.

    Parameters
    ----------
    record
        Times to an event.
    covariates
        Names of covariates and factors; all have a slope in each arm.
    strata
        Names of factors within which arms are compared.
    level
        Of the intervals.

    Raises
    ------
    DataError, ConfigError, FitError
        As for ``stats.adjusted_logrank``; and if a stratum holds one arm only.
    """
    found, tests = [], []
    words = _words(covariates, strata)
    for reference, treated in record.patients.pairs():
        two, rows = record.patients.pair(reference, treated)
        model = ArmModel(two.arms, two.arm, two.columns(covariates))
        codes = two.compared(strata).codes if strata else None
        scheme = two.randomisation()
        time, event = record.time[rows], record.event[rows]
        test = test_adjusted(model, time, event, strata=codes, randomisation=scheme)
        tests.append(
            Summary(
                contrast=two.label(0, 1),
                statistics={"n": test.n, "events": test.events, "statistic": test.z, "p": test.p},
                method=f"covariate-adjusted log-rank z{words}",
                variance=scheme.label,
                estimand=asked(record.estimand, "difference in survival curves"),
            )
        )
        at = asked(record.estimand, "hazard ratio")
        log = adjusted_hazard_ratio(model, time, event, strata=codes, randomisation=scheme, level=level, estimand=at)
        ratio = exponentiated(log, contrast=f"{two.label(0, 1, '/')} (hazard ratio)", summary="hazard ratio")
        found.append(Found(ratio.model_copy(update={"method": f"covariate-adjusted log-rank score{words}"})))
    return Answer(tuple(found), summaries=tuple(tests))


def _words(covariates: Sequence[str], strata: Sequence[str]) -> str:
    return (f" with {', '.join(covariates)}" * bool(covariates)) + (f", strata {', '.join(strata)}" * bool(strata))


def _overall(fit: CoxFit, method: str, estimand: Estimand) -> Summary:
    test = fit.likelihood_ratio
    return Summary(
        contrast="all coefficients",
        statistics={"n": fit.n, "events": fit.events, "statistic": test.statistic, "df": test.df, "p": test.p},
        method=method,
        variance="likelihood",
        estimand=estimand,
    )


def _proportional(
    record: SurvivalOutcome,
    design: ModelMatrix,
    covariates: Sequence[str],
    strata: np.ndarray | None,
    ties: str,
    estimand: Estimand,
) -> list[Summary]:
    """Test whether each term's effect changes with time, and all together, as R's cox.zph."""
    terms = {"arm": [name for name in design.names if name.startswith("arm[")]}
    terms |= {name: [c for c in design.names if c == name or c.startswith(f"{name}[")] for name in covariates}
    test = proportional_hazards(design, record.time, record.event, strata=strata, ties=ties, terms=terms)
    named = {f"proportional hazards: {name}": one for name, one in test.terms.items()}
    if len(named) > 1:
        named["proportional hazards: all"] = test.overall
    return [
        Summary(
            contrast=name,
            statistics={"statistic": one.statistic, "df": one.df, "p": one.p},
            method="score test over time, Kaplan–Meier scale",
            variance="information",
            estimand=estimand,
        )
        for name, one in named.items()
    ]
