"""The log-rank test and the unconditional hazard ratio of each pair of arms, adjusted for covariates."""

from collections.abc import Sequence

from trialtwin.stats.adjusted_logrank import adjusted_hazard_ratio
from trialtwin.stats.adjusted_logrank import adjusted_log_rank as test_adjusted
from trialtwin.stats.armmodel import ArmModel
from trialtwin.trials.answer import Answer, Found, Summary, asked, exponentiated
from trialtwin.trials.outcomes import SurvivalOutcome


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
    words = (f" with {', '.join(covariates)}" if covariates else "") + (f", strata {', '.join(strata)}" * bool(strata))
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
