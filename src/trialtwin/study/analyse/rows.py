"""What analyses found as results and as rows of an Analysis Results Dataset, with the randomisation in every row."""

from dataclasses import dataclass

import numpy as np
import orjson
import polars as pl

from trialtwin.core.dossier import Result
from trialtwin.core.errors import MismatchError
from trialtwin.core.estimate import Estimand
from trialtwin.stats.multiplicity import Graph, adjusted_p
from trialtwin.study.analyse.prepare import Prepared
from trialtwin.study.analyse.spec import AnalyseSpec, AnalysisSpec, HypothesisSpec, MultiplicitySpec
from trialtwin.study.ard import COLUMNS, parquet, result_rows
from trialtwin.trials.answer import Answer, Found, Summary


@dataclass(frozen=True, eq=False)
class Analysed:
    """An analysis with the endpoint that it is of, and what it found."""

    spec: AnalysisSpec
    title: str
    endpoint: Prepared
    answer: Answer

    @property
    def scheme(self) -> str:
        """How patients were randomised, in words."""
        return self.endpoint.outcome.patients.scheme_words

    def results(self, found: tuple[Found, ...]) -> list[Result]:
        """Return estimates as results."""
        return [
            Result(
                analysis=self.spec.id,
                endpoint=self.endpoint.spec.words,
                visit=visit,
                population=self.endpoint.outcome.patients.population,
                estimate=estimate,
            )
            for estimate, visit in found
        ]


@dataclass(frozen=True)
class Tested:
    """A hypothesis with its p-value, and the smallest overall level at which the procedure rejects it."""

    hypothesis: HypothesisSpec
    where: str
    visit: str
    p: float
    adjusted: float


def ard_rows(analysed: list[Analysed], tested: list[Tested]) -> list[dict[str, str | float]]:
    """Return one row a statistic: contrasts, means of arms, tests and descriptions, adjusted p-values."""
    rows: list[dict[str, str | float]] = []
    for one in analysed:
        estimates = result_rows(one.results(one.answer.contrasts)) + _mean_rows(one)
        own = [*estimates, *(row for summary in one.answer.summaries for row in _summary_rows(one, summary))]
        rows += [row | {"randomisation": one.scheme} for row in own]
    for test in tested:
        key = (test.hypothesis.analysis, test.where, test.visit)
        match = next(row for row in rows if (row["analysis"], row["contrast"], row["visit"]) == key)
        rows.append(match | {"stat": "adjusted p", "value": test.adjusted})
    return rows


def together(analysed: list[Analysed]) -> list[Result]:
    """Return contrasts for a report, with one estimand for the last visit of an endpoint and one for those before.

    Summaries that one endpoint has, such as risk difference and ratio, stand together in it; rows of the Analysis
    Results Dataset have each its own.
    """
    results = [result for one in analysed for result in one.results(one.answer.contrasts)]
    merged: dict[tuple[str, bool], Estimand] = {}
    for result in results:
        merged.setdefault(_place(result, results), _merged(result, results))
    return [
        result.model_copy(
            update={"estimate": result.estimate.model_copy(update={"estimand": merged[_place(result, results)]})}
        )
        for result in results
    ]


def _place(result: Result, results: list[Result]) -> tuple[str, bool]:
    """Return the endpoint of a result, and whether it is of the endpoint's last visit."""
    visits = [other.visit for other in results if other.endpoint == result.endpoint]
    return result.endpoint, result.visit == visits[-1]


def _merged(result: Result, results: list[Result]) -> Estimand:
    alike = [r for r in results if _place(r, results) == _place(result, results)]
    estimands = [r.estimate.estimand for r in alike if r.estimate.estimand is not None]
    visits = list(dict.fromkeys(r.visit for r in alike if r.visit))
    variable = result.endpoint + (f" at {', '.join(visits)}" if visits else "")
    return estimands[0].model_copy(
        update={"summary": ", ".join(dict.fromkeys(e.summary for e in estimands)), "variable": variable}
    )


def ard_files(rows: list[dict[str, str | float]]) -> dict[str, bytes]:
    """Return the rows as JSON and as Parquet."""
    schema = {name: pl.Float64() if name == "value" else pl.String() for name in (*COLUMNS, "randomisation")}
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {"ard.json": orjson.dumps(rows, option=options), "ard.parquet": parquet(pl.DataFrame(rows, schema=schema))}


def test_hypotheses(spec: AnalyseSpec, analysed: list[Analysed]) -> list[Tested]:
    """Adjust the p-values of the page's hypotheses.

    Raises
    ------
    MismatchError
        If a hypothesis names no single contrast of its analysis; with those that there are.
    """
    plan = spec.multiplicity
    if plan is None:
        return []
    found = [_p_value(one, next(a for a in analysed if a.spec.id == one.analysis)) for one in plan.hypotheses]
    p = np.array([value for _, _, value in found])
    adjusted = _adjust(plan, p)
    return [
        Tested(hypothesis, where, visit, raw, float(value))
        for hypothesis, (where, visit, raw), value in zip(plan.hypotheses, found, adjusted, strict=True)
    ]


def _adjust(plan: MultiplicitySpec, p: np.ndarray) -> np.ndarray:
    names = tuple(one.name for one in plan.hypotheses)
    if plan.method not in ("graph", "fixed sequence"):
        return adjusted_p(p, plan.method)
    m = len(names)
    weights, transitions = np.zeros(m), np.zeros((m, m))
    if plan.method == "fixed sequence":
        weights[0] = 1.0
        transitions[np.arange(m - 1), np.arange(1, m)] = 1.0
    else:
        weights = np.array([one.weight or 0.0 for one in plan.hypotheses])
        for start, row in plan.transitions.items():
            for end, share in row.items():
                transitions[names.index(start), names.index(end)] = share
    return Graph(names, weights, transitions).adjusted_p(p)


def _p_value(hypothesis: HypothesisSpec, one: Analysed) -> tuple[str, str, float]:
    """Return the contrast of a hypothesis, its visit and its p-value."""
    choices = [(e.contrast, visit, e.p) for e, visit in one.answer.contrasts]
    tests = [(s.contrast, s.visit, s.statistics["p"]) for s in one.answer.summaries if "p" in s.statistics]
    wanted = hypothesis.contrast.replace(" - ", " − ")
    choices += tests if wanted or not choices else []
    match = [c for c in choices if wanted in ("", c[0]) and hypothesis.visit in ("", c[1])]
    if len(match) != 1:
        raise MismatchError(
            f"hypothesis {hypothesis.name!r} is of {len(match)} results of analysis {one.spec.id!r}",
            where="[[multiplicity.hypotheses]]",
            exists=[f"contrast = {c[0]!r}" + (f", visit = {c[1]!r}" if c[1] else "") for c in choices],
            do="name the contrast, and the visit where there are several",
        )
    return match[0]


def _mean_rows(one: Analysed) -> list[dict[str, str | float]]:
    """Return rows of the arms' means; only a mean that could be zero is tested against it, as in SAS."""
    rows = result_rows(one.results(one.answer.means))
    if one.endpoint.spec.kind in ("continuous", "repeated"):
        return rows
    return [row for row in rows if row["stat"] not in ("statistic", "p")]


def _summary_rows(one: Analysed, summary: Summary) -> list[dict[str, str | float]]:
    return [
        {
            "analysis": one.spec.id,
            "endpoint": one.endpoint.spec.words,
            "visit": summary.visit,
            "population": one.endpoint.outcome.patients.population,
            "method": summary.method,
            "variance": summary.variance,
            "contrast": summary.contrast,
            "stat": stat,
            "value": value,
            "estimand": str(summary.estimand),
        }
        for stat, value in summary.statistics.items()
    ]
