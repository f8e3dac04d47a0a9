"""The analyse step: every analysis of the study file, what the score bought, and published numbers reproduced."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from trialtwin.core.dossier import Result
from trialtwin.core.errors import MismatchError
from trialtwin.core.finding import Cell, Column, Evidence, Figure, Finding, Table, Verdict
from trialtwin.study.spec import AnalysisSpec, StudySpec
from trialtwin.trials.analyse import find_analysis
from trialtwin.trials.gain import Gain, Plan, gain, squared_left
from trialtwin.trials.record import Record

SECTION = "analysis"
type Scores = Mapping[str, Float[np.ndarray, " patient"]]


def run_analyses(spec: StudySpec, record: Record, scores: Scores) -> list[Result]:
    """Run every analysis of the study file on the analysis set."""
    results = []
    for entry in spec.analyses:
        estimates = find_analysis(entry.method)(record, **_options(entry, scores))
        results += [
            Result(
                analysis=entry.id,
                endpoint=record.endpoint,
                visit=record.visit,
                population=record.population,
                estimate=estimate,
            )
            for estimate in estimates
        ]
    return results


def judge_results(
    spec: StudySpec, record: Record, scores: Scores, results: Sequence[Result], evidence: Evidence
) -> list[Finding]:
    """Return findings: reproduction of published numbers, effects side by side, precision, what the score bought."""
    findings = [_reproduction(spec, results, evidence)] if spec.expected else []
    findings += [_effects(spec, record, results, evidence), _precision(spec, record, results, evidence)]
    for entry in spec.analyses:
        if entry.method == "procova" and entry.twin == (spec.scoring.score or spec.twins[0].name):
            gains = gain(
                record,
                score=scores[entry.twin],
                covariates=entry.covariates,
                variance=entry.variance,
                level=entry.level,
                interaction=entry.interaction,
                plan=None if spec.plan is None else Plan(**spec.plan.model_dump()),
            )
            findings.append(_bought(spec, entry, gains, evidence))
    return findings


def _options(entry: AnalysisSpec, scores: Scores) -> dict[str, object]:
    """Return an analysis's arguments."""
    options: dict[str, object] = {
        "covariates": entry.covariates,
        "variance": entry.variance,
        "level": entry.level,
    }
    if entry.twin is not None:
        options |= {"score": scores[entry.twin], "interaction": entry.interaction}
    return options


def _reproduction(spec: StudySpec, results: Sequence[Result], evidence: Evidence) -> Finding:
    """Compare results with numbers published elsewhere, rounded to the decimals that were published."""
    rows: list[tuple[Cell, ...]] = []
    for wanted in spec.expected:
        found = [r.estimate for r in results if r.analysis == wanted.analysis]
        contrast = wanted.contrast.replace(" - ", " − ")
        match = [e for e in found if e.contrast == contrast]
        if not match:
            raise MismatchError(
                f"no contrast {wanted.contrast!r} in analysis {wanted.analysis!r}",
                where="[[expected]] of the study file",
                exists=[e.contrast for e in found],
            )
        value = match[0].statistics()[wanted.stat]
        same = f"{value:.{wanted.decimals}f}" == f"{wanted.value:.{wanted.decimals}f}"
        place = (wanted.analysis, contrast, wanted.stat)
        rows.append((*place, wanted.value, round(value, wanted.decimals), "yes" if same else "no", wanted.source))
    good = sum(row[5] == "yes" for row in rows)
    decimals = max(wanted.decimals for wanted in spec.expected)
    return Finding(
        id=f"{SECTION}.reproduction",
        section=SECTION,
        title="Published numbers reproduced",
        verdict=Verdict.PASS if good == len(rows) else Verdict.FAIL,
        text=f"{good} of {len(rows)} published numbers are reproduced to all published decimals.",
        table=Table(
            columns=(
                Column(name="analysis", label="Analysis"),
                Column(name="contrast", label="Contrast"),
                Column(name="stat", label="Statistic"),
                Column(name="published", label="Published", decimals=decimals),
                Column(name="here", label="Here", decimals=decimals),
                Column(name="same", label="Same"),
                Column(name="source", label="Source"),
            ),
            rows=tuple(rows),
        ),
        evidence=evidence,
    )


def _effects(spec: StudySpec, record: Record, results: Sequence[Result], evidence: Evidence) -> Finding:
    """Show each contrast by every analysis in a forest plot."""
    titles = {entry.id: entry.title or entry.id for entry in spec.analyses if entry.method != "dose_response"}
    contrasts = [record.label(control, treated) for control, treated in record.pairs()]
    rows = [
        (r.estimate.contrast, titles[r.analysis], r.estimate.n, r.estimate.value, r.estimate.lower, r.estimate.upper)
        for contrast in contrasts
        for r in results
        if r.analysis in titles and r.estimate.contrast == contrast
    ]
    unit = record.unit
    better = "favour the treated arm" if spec.endpoint.better == "lower" else "favour the control"
    return Finding(
        id=f"{SECTION}.effects",
        section=SECTION,
        title=f"Treatment effects on {record.endpoint} at {record.visit}",
        verdict=Verdict.INFO,
        text=(
            f"Difference in means with 95 % interval, {record.population} population, by each analysis. Values below 0"
            f" {better}. All analyses address the same estimand."
        ),
        table=Table(
            columns=(
                Column(name="contrast", label="Contrast"),
                Column(name="analysis", label="Analysis"),
                Column(name="n", label="n", decimals=0),
                Column(name="estimate", label="Difference", unit=unit, decimals=2),
                Column(name="lower", label="95 % lower", unit=unit, decimals=2),
                Column(name="upper", label="95 % upper", unit=unit, decimals=2),
            ),
            rows=tuple(rows),
        ),
        figure=Figure(
            kind="forest",
            encoding={"label": "analysis", "y": "estimate", "low": "lower", "high": "upper", "group": "contrast"},
            x_label=f"Difference in {record.endpoint} ({unit})",
            y_label="Analysis",
            reference=0.0,
            alt="Forest plot of the differences between arms by each analysis, with 95 percent intervals.",
        ),
        evidence=evidence,
    )


def _precision(spec: StudySpec, record: Record, results: Sequence[Result], evidence: Evidence) -> Finding:
    """Compare the standard errors of all analyses with the pre-specified one's."""
    primary = spec.endpoint.primary
    titles = {entry.id: entry.title or entry.id for entry in spec.analyses}
    contrasts = [record.label(control, treated) for control, treated in record.pairs()]
    rows: list[tuple[Cell, ...]] = []
    for contrast in contrasts:
        here = [r for r in results if r.estimate.contrast == contrast]
        base = next(r.estimate.se for r in here if r.analysis == primary)
        for r in here:
            ratio = (r.estimate.se / base) ** 2
            place = (contrast, titles[r.analysis], r.estimate.variance, r.estimate.n, r.estimate.df)
            rows.append((*place, r.estimate.se, ratio, r.estimate.n / ratio))
    shown = contrasts[min(1, len(contrasts) - 1)]
    errors = sorted((float(row[5] or 0), str(row[1])) for row in rows if row[0] == shown)
    listed = "; ".join(f"{se:.4f} {name}" for se, name in errors)
    return Finding(
        id=f"{SECTION}.precision",
        section=SECTION,
        title="Standard errors side by side",
        verdict=Verdict.INFO,
        text=(
            f"Standard error of {shown}, smallest first: {listed}. Variance ratio is (SE / SE of the pre-specified"
            " analysis)²; below 1 the analysis is more precise. Standard errors are estimates: a ratio near 1 is no"
            " evidence of a gain or of a loss."
        ),
        table=Table(
            columns=(
                Column(name="contrast", label="Contrast"),
                Column(name="analysis", label="Analysis"),
                Column(name="variance", label="Variance estimator"),
                Column(name="n", label="n", decimals=0),
                Column(name="df", label="df", decimals=1),
                Column(name="se", label="SE", unit=record.unit, decimals=4),
                Column(name="ratio", label="Variance ratio", decimals=3),
                Column(name="effective", label="Effective n", decimals=0),
            ),
            rows=tuple(rows),
            note="Effective n: patients that the pre-specified analysis would need for the same standard error.",
        ),
        evidence=evidence,
    )


def _bought(spec: StudySpec, entry: AnalysisSpec, gains: Sequence[Gain], evidence: Evidence) -> Finding:
    """Say what the score bought in standard error and patients, and what it would buy in the next trial."""
    rows: list[tuple[Cell, ...]] = []
    for each in gains:
        for c in each.comparisons:
            errors, ratios = (c.comparator.se, each.estimate.se), (c.variance_ratio, c.expected_ratio)
            rows.append((each.contrast, c.against, *errors, *ratios, c.effective_n, c.saved_total, c.saved_control))
    first = gains[0]
    rho, left = first.rho, first.rho_adjusted
    expected = squared_left(left)
    words = (
        f"Score of the {entry.twin} twin. Correlation with the endpoint within arms: {rho.value:.3f} (95 % interval"
        f" {rho.lower:.3f} to {rho.upper:.3f}, n = {rho.n}); given the covariates as well: {left.value:.3f}"
        f" ({left.lower:.3f} to {left.upper:.3f}). Against the same covariates without the score, the expected variance"
        f" ratio therefore lies between {expected[0]:.3f} and {expected[1]:.3f}."
    )
    if first.prospect is not None and spec.plan is not None:
        p = first.prospect
        words += (
            f" The next two-arm trial, to detect {spec.plan.effect:g} with power {spec.plan.power:.0%} at two-sided"
            f" {spec.plan.alpha:g}, correlation × {spec.plan.deflation:g} and SD × {spec.plan.inflation:g}:"
            f" {sum(p.unadjusted.whole)} patients unadjusted, {sum(p.with_score.whole)} with the score"
            f" ({p.saved} saved)."
        )
    return Finding(
        id=f"{SECTION}.bought.{entry.id}",
        section=SECTION,
        title=f"What the score bought: {entry.title or entry.id}",
        verdict=Verdict.INFO,
        text=words,
        table=Table(columns=_BOUGHT_COLUMNS, rows=tuple(rows), note=_BOUGHT_NOTE),
        evidence=evidence,
    )


_BOUGHT_COLUMNS = (
    Column(name="contrast", label="Contrast"),
    Column(name="against", label="Against"),
    Column(name="se_without", label="SE without score", decimals=4),
    Column(name="se_with", label="SE with score", decimals=4),
    Column(name="ratio", label="Variance ratio", decimals=3),
    Column(name="expected", label="Expected ratio", decimals=3),
    Column(name="effective", label="Effective n", decimals=0),
    Column(name="saved", label="Patients saved", decimals=1),
    Column(name="saved_control", label="Saved in control arm only", decimals=1),
)
_BOUGHT_NOTE = (
    "Expected ratio is 1 − R² of the terms that the comparator lacks. Effective n and patients saved are of the two"
    " arms of the contrast; negative savings are patients that the score cost, and savings in the control arm alone are"
    " empty then."
)
