"""What an analysis of a trial answers: contrasts, means of arms, tests, curves, and facts about the fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.survival import KaplanMeier

MEANS = "difference in means"


class Found(NamedTuple):
    """An estimate, and the visit it is of; its estimand's summary says what measure it is."""

    estimate: Estimate
    visit: str = ""


@dataclass(frozen=True)
class Summary:
    """Statistics that are no estimate with a standard error: a test over several arms, a median with its limits.

    Parameters
    ----------
    contrast
        What they are of, such as "all arms" or the name of an arm.
    statistics
        By the names that an Analysis Results Dataset gives them; one that does not exist is left out.
    method, variance
        How they were come by.
    estimand
        The question.
    visit
        The visit, where there is one.
    """

    contrast: str
    statistics: Mapping[str, float]
    method: str
    variance: str
    estimand: Estimand
    visit: str = ""

    def __post_init__(self) -> None:
        known = {name: float(value) for name, value in self.statistics.items() if np.isfinite(value)}
        object.__setattr__(self, "statistics", MappingProxyType(known))


class Curve(NamedTuple):
    """The survival curve of an arm, with the level of its intervals."""

    arm: str
    estimate: KaplanMeier
    level: float


@dataclass(frozen=True)
class Answer:
    """What an analysis found; immutable.

    Parameters
    ----------
    contrasts
        Comparisons of arms.
    means
        Means of arms, under the model.
    summaries
        Tests over several arms, and descriptions of arms.
    curves
        Survival curves.
    facts
        Of the fit, such as its log-likelihood.
    """

    contrasts: tuple[Found, ...] = ()
    means: tuple[Found, ...] = ()
    summaries: tuple[Summary, ...] = ()
    curves: tuple[Curve, ...] = ()
    facts: Mapping[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))


def asked(question: Estimand, summary: str, visit: str = "") -> Estimand:
    """Return a question with its population-level summary, and its variable at a visit.

    Examples
    --------
    >>> question = Estimand(
    ...     treatment="B against A", population="all", variable="change", intercurrent_events=(), summary="?"
    ... )
    >>> str(asked(question, "difference in means", "week 8"))
    'difference in means in change at week 8, B against A, all (intercurrent: none)'
    """
    variable = f"{question.variable} at {visit}" if visit else question.variable
    return question.model_copy(update={"summary": summary, "variable": variable})


def is_ratio(summary: str) -> bool:
    """Tell whether a population-level summary is a ratio, whose value without an effect is 1.

    Examples
    --------
    >>> is_ratio("hazard ratio"), is_ratio("log hazard ratio"), is_ratio("risk difference")
    (True, False, False)
    """
    return summary.startswith("ratio of ") or (summary.endswith("ratio") and not summary.startswith("log "))


def exponentiated(estimate: Estimate, *, contrast: str, summary: str) -> Estimate:
    """Return a ratio from the estimate of its logarithm: value and limits exponentiated, test and p-value kept.

    The standard error is the delta method's, value × SE(log), and enters neither the test nor the interval.

    Parameters
    ----------
    estimate
        Of the logarithm.
    contrast, summary
        Name of the ratio, and its population-level summary, such as "hazard ratio".

    Examples
    --------
    >>> from trialtwin.stats.wald import wald_estimate
    >>> log = wald_estimate(0.0, 0.5, contrast="log", n=20, method="known", variance="known")
    >>> ratio = exponentiated(log, contrast="ratio", summary="hazard ratio")
    >>> ratio.value, round(ratio.upper, 3), ratio.p
    (1.0, 2.664, 1.0)
    """
    value = float(np.exp(estimate.value))
    estimand = estimate.estimand and estimate.estimand.model_copy(update={"summary": summary})
    return estimate.model_copy(
        update={
            "contrast": contrast,
            "value": value,
            "se": value * estimate.se,
            "lower": float(np.exp(estimate.lower)),
            "upper": float(np.exp(estimate.upper)),
            "method": estimate.method.replace(", log hazard ratio", ""),
            "unit": "",
            "estimand": estimand,
        }
    )
