"""What analyses of a finished trial found, as findings: patients, effects, means, survival, tests, the fit."""

import numpy as np

from trialtwin.core.finding import Cell, Column, Evidence, Finding, Table, Verdict
from trialtwin.study.analyse.bought import bought_finding, has_score
from trialtwin.study.analyse.curves import curve_finding
from trialtwin.study.analyse.effects import decimals_of, effect_findings, mean_findings
from trialtwin.study.analyse.prepare import Prepared
from trialtwin.study.analyse.rows import Analysed, Tested
from trialtwin.study.analyse.spec import AnalyseSpec
from trialtwin.trials.answer import Summary

SECTIONS = {
    "effects": ("Effects", ""),
    "means": ("Means of the arms", ""),
    "survival": ("Survival", ""),
    "tests": ("Tests and descriptions", "Tests over several arms, and numbers that have no standard error."),
    "multiplicity": ("Several hypotheses", ""),
    "patients": ("Patients", "Who is in each analysis, and who is not."),
    "fit": ("The fits", ""),
    "estimates": ("Every estimate", "With its method, its variance estimator and its estimand."),
}


def findings_of(
    spec: AnalyseSpec, prepared: list[Prepared], analysed: list[Analysed], tested: list[Tested], evidence: Evidence
) -> list[Finding]:
    """Return the findings in the order of the report."""
    findings = effect_findings(spec, analysed, evidence)
    findings += [bought_finding(one, spec.level, evidence) for one in analysed if has_score(one)]
    for one in analysed:
        findings += mean_findings(one, evidence)
        if one.answer.curves:
            findings.append(curve_finding(one, evidence))
        tests = [s for s in one.answer.summaries if "p" in s.statistics]
        others = [s for s in one.answer.summaries if "p" not in s.statistics]
        findings += [
            _summaries(one, part, kind, evidence) for part, kind in ((others, "arms"), (tests, "tests")) if part
        ]
    if spec.multiplicity and tested:
        findings.append(_multiplicity(spec, tested, evidence))
    findings += [_flow(spec, one, evidence) for one in prepared]
    findings.append(_randomisation(spec, analysed, evidence))
    findings += [_facts(one, evidence) for one in analysed if one.answer.facts]
    return findings


def headline(spec: AnalyseSpec, primary: Analysed, tested: list[Tested]) -> list[str]:
    """Return the lines of the summary: the primary analysis at its last visit, and what the procedure rejects."""
    lines = []
    last = primary.answer.contrasts[-1].visit if primary.answer.contrasts else ""
    for estimate, visit in primary.answer.contrasts:
        if visit == last:
            at = f" at {visit}" if visit else ""
            unit = f" {estimate.unit}" if estimate.unit else ""
            d = decimals_of([estimate.se])
            summary = estimate.estimand.summary if estimate.estimand else ""
            lines.append(
                f"{primary.title}, {primary.endpoint.spec.words}{at}: {estimate.contrast},"
                f" {summary} {estimate.value:.{d}f}{unit} ({estimate.level:.0%} interval {estimate.lower:.{d}f} to"
                f" {estimate.upper:.{d}f}), {_p_words(estimate.p)}."
            )
    if not lines:
        lines += [
            f"{primary.title}, {primary.endpoint.spec.words}: {one.contrast}, statistic"
            f" {one.statistics['statistic']:.2f}, {_p_words(one.statistics['p'])}."
            for one in primary.answer.summaries
            if "p" in one.statistics
        ]
    if spec.multiplicity and tested:
        rejected = [test.hypothesis.name for test in tested if test.adjusted <= spec.multiplicity.alpha]
        words = ", ".join(rejected) if rejected else "none"
        lines.append(
            f"Of {len(tested)} hypotheses, rejected at an overall level of {spec.multiplicity.alpha:g}"
            f" ({spec.multiplicity.method}): {words}."
        )
    return lines


def _p_words(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"


_STATS = {
    "n": Column(name="n", label="n", decimals=0),
    "events": Column(name="events", label="Events", decimals=0),
    "observed": Column(name="observed", label="Observed", decimals=1),
    "expected": Column(name="expected", label="Expected", decimals=1),
    "strata": Column(name="strata", label="Strata", decimals=0),
    "median": Column(name="median", label="Median", decimals=1),
    "lower": Column(name="lower", label="Lower", decimals=1),
    "upper": Column(name="upper", label="Upper", decimals=1),
    "statistic": Column(name="statistic", label="Statistic", decimals=2),
    "numerator_df": Column(name="numerator_df", label="Numerator df", decimals=0),
    "df": Column(name="df", label="df", decimals=0),
    "p": Column(name="p", label="p"),
}


def _summaries(one: Analysed, found: list[Summary], kind: str, evidence: Evidence) -> Finding:
    stats = [name for name in _STATS if any(name in s.statistics for s in found)]
    if "median" in stats:
        stats = ["n", "events", "median", "lower", "upper"]
    several = len({s.visit for s in found}) > 1
    methods = list(dict.fromkeys(s.method for s in found))
    rows = []
    for s in found:
        own: list[Cell] = [s.contrast, s.visit] if several else [s.contrast]
        own += [s.method] if len(methods) > 1 else []
        rows.append((*own, *(s.statistics.get(name) for name in stats)))
    columns = [Column(name="contrast", label="Arm" if kind == "arms" else "Of")]
    columns += [Column(name="visit", label="Visit")] if several else []
    columns += [Column(name="method", label="Method")] if len(methods) > 1 else []
    shown = [_STATS[name] for name in stats]
    if "numerator_df" in stats:
        shown = [
            c.model_copy(update={"label": "Denominator df", "decimals": 1}) if c.name == "df" else c for c in shown
        ]
    method = f"Method: {methods[0]}. " if len(methods) == 1 else ""
    return Finding(
        id=f"{kind}.{one.spec.id}",
        section="survival" if one.endpoint.spec.kind == "time to event" else "tests",
        title=f"{one.title}: {one.endpoint.spec.words}, by arm"
        if kind == "arms"
        else f"{one.title}: {one.endpoint.spec.words}",
        verdict=Verdict.INFO,
        text=f"{method}Variance: {found[0].variance}. Randomisation: {one.scheme}.",
        table=Table(columns=(*columns, *shown), rows=tuple(rows)),
        evidence=evidence,
    )


def _multiplicity(spec: AnalyseSpec, tested: list[Tested], evidence: Evidence) -> Finding:
    plan = spec.multiplicity
    alpha = plan.alpha if plan else 0.05
    rows = tuple(
        (
            test.hypothesis.name,
            test.hypothesis.analysis,
            test.where,
            test.visit,
            test.p,
            test.adjusted,
            "yes" if test.adjusted <= alpha else "no",
        )
        for test in tested
    )
    rejected = sum(row[-1] == "yes" for row in rows)
    return Finding(
        id="multiplicity.hypotheses",
        section="multiplicity",
        title=f"Hypotheses tested together ({plan.method if plan else ''})",
        verdict=Verdict.INFO,
        text=(
            f"{rejected} of {len(rows)} hypotheses are rejected at an overall two-sided level of {alpha:g}. The"
            " adjusted p-value is the smallest overall level at which the procedure rejects the hypothesis."
        ),
        table=Table(
            columns=(
                Column(name="hypothesis", label="Hypothesis"),
                Column(name="analysis", label="Analysis"),
                Column(name="contrast", label="Contrast"),
                Column(name="visit", label="Visit"),
                Column(name="p", label="p"),
                Column(name="p_value", label="Adjusted p"),
                Column(name="rejected", label=f"Rejected at {alpha:g}"),
            ),
            rows=rows,
        ),
        evidence=evidence,
    )


def _flow(spec: AnalyseSpec, one: Prepared, evidence: Evidence) -> Finding:
    arms = one.outcome.patients.arms
    total = sum(one.flow[0][1])
    return Finding(
        id=f"patients.{one.spec.id}",
        section="patients",
        title=f"From the population to the analysis: {one.spec.words}",
        verdict=Verdict.INFO,
        text=f"{total} subjects in the population “{spec.population.name}”, by arm."
        + (f" {one.others} more are in none of these arms, and left out." if one.others else ""),
        table=Table(
            columns=(
                Column(name="what", label="Patients"),
                *(Column(name=f"arm{k}", label=arm, decimals=0) for k, arm in enumerate(arms)),
                Column(name="all", label="All", decimals=0),
            ),
            rows=tuple((what, *counts, int(np.sum(counts))) for what, counts in one.flow),
        ),
        evidence=evidence,
    )


def _randomisation(spec: AnalyseSpec, analysed: list[Analysed], evidence: Evidence) -> Finding:
    """Say for each analysis whether it knows of the strata that were balanced."""
    strata = spec.randomisation.strata
    rows = []
    for one in analysed:
        known = {*(one.spec.covariates or ()), *(one.spec.strata or ())}
        designed = one.spec.method == "aipw" or (
            one.spec.method == "gcomputation" and one.spec.variance in (None, "Ye")
        )
        adjusted = designed or set(strata) <= known
        rows.append((one.title, one.scheme, "by its variance" if designed else "yes" if adjusted else "no"))
    left_out = [row[0] for row in rows if strata and row[2] == "no"]
    text = f"Patients were randomised by: {analysed[0].scheme}."
    if left_out:
        text += (
            f" {', '.join(left_out)}: the balanced factors are not in the model, so that standard errors tend to be too"
            " large and tests conservative (Kahan and Morris 2012, doi:10.1002/sim.4431)."
        )
    return Finding(
        id="patients.randomisation",
        section="patients",
        title="Randomisation and analysis",
        verdict=Verdict.INFO,
        text=text,
        table=Table(
            columns=(
                Column(name="analysis", label="Analysis"),
                Column(name="scheme", label="Randomisation"),
                Column(name="used", label="Balanced factors taken into account"),
            ),
            rows=tuple(rows),
        )
        if strata
        else None,
        evidence=evidence,
    )


def _facts(one: Analysed, evidence: Evidence) -> Finding:
    return Finding(
        id=f"fit.{one.spec.id}",
        section="fit",
        title=f"Fit of {one.title}: {one.endpoint.spec.words}",
        verdict=Verdict.INFO,
        text="To compare with another program's output.",
        table=Table(
            columns=(Column(name="fact", label="Of the fit"), Column(name="value", label="Value")),
            rows=tuple(
                (name, f"{value:.4f}" if isinstance(value, float) else str(value))
                for name, value in one.answer.facts.items()
            ),
        ),
        evidence=evidence,
    )
