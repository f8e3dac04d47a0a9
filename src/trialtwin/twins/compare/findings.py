"""A comparison as findings: which kind of twin deserves trust on this cohort, and on what that rests."""

from collections.abc import Mapping, Sequence

import numpy as np

from trialtwin.core.finding import Cell, Column, Evidence, Figure, Finding, Table, Verdict
from trialtwin.stats.calibration import Measure
from trialtwin.twins.compare.cases import LEVELS
from trialtwin.twins.compare.plan import Axis, Plan, Variation
from trialtwin.twins.compare.run import Comparison
from trialtwin.twins.compare.summary import Difference, Score, overall, rank, reasons
from trialtwin.twins.registry import MODELS

SECTION = "compare"
NINETY = LEVELS.index(0.9)
_PAIRED_NOTE = (
    "Paired over the same patients, visits and outcomes. Intervals are over patients, for the twins as fitted;"
    " p-values are of the corrected resampled t-test over folds (Nadeau and Bengio)."
)
_INTERVAL = (
    Column(name="low", label="95 % low", decimals=3),
    Column(name="high", label="95 % high", decimals=3),
)


_TRUST_COLUMNS = (
    Column(name="model", label="Model"),
    Column(name="architecture", label="Architecture"),
    Column(name="crps", label="Mean CRPS", unit="SD", decimals=3),
    Column(name="difference", label="Minus the winner's", unit="SD", decimals=3),
    *_INTERVAL,
    Column(name="p", label="p (Holm)", decimals=3),
    Column(name="n", label="Patients", decimals=0),
    Column(name="verdict", label="Verdict"),
)


def findings_of(found: Comparison, *, evidence: Evidence, told: Mapping[str, str] | None = None) -> list[Finding]:
    """Return the findings of a comparison, the answer first.

    Parameters
    ----------
    told
        By model, what it was told besides the data.
    """
    scores = found.scores()
    gaps = found.differences()
    made = [
        _trust(found, scores, gaps, evidence),
        _accuracy(found, scores, evidence),
        _calibration(found, scores, evidence),
        _plausibility(found, scores, evidence),
        *(_curve(found, axis, evidence) for axis in ("patients", "visits", "blocks") if _varied(found, axis)),
        _cost(found, told or {}, evidence),
    ]
    if found.failures():
        made.append(_failed(found, evidence))
    return made


def _trust(found: Comparison, scores: Sequence[Score], gaps: Sequence[Difference], evidence: Evidence) -> Finding:
    """Return the answer: the winner, who cannot be told from it, and whether it may be believed."""
    ranking = found.ranking()
    winner = ranking[0][0]
    best = next(one for name, one in rank(found.of(_whole(found)), [winner], found.scales, len(found.splits)))
    tied = [gap.model for gap in gaps if gap.p_holm >= 0.05 and gap.model in dict(ranking)]
    off = _miscalibrated([one for one in scores if one.model == winner], found)
    impossible = max((one.implausible for one in scores if one.model == winner), default=0.0)
    rows: list[tuple[Cell, ...]] = [(winner, *_place(winner), best.value, 0.0, None, None, None, best.n, "lowest")]
    for gap in sorted(gaps, key=lambda g: g.value):
        total = dict(ranking).get(gap.model)
        note = "cannot be told apart" if gap.p_holm >= 0.05 else "worse" if gap.value > 0 else "better"
        note = note if total is not None else "failed in a fold"
        row = (total, gap.value, gap.lower, gap.upper, gap.p_holm, gap.patients, note)
        rows.append((gap.model, *_place(gap.model), *row))
    others = (
        f"Cannot be told from it (Holm, 5 %): {', '.join(tied)}." if tied else "All others are worse beyond chance."
    )
    held = f"Its 90 % intervals are off for {'; '.join(off)}." if off else "Its 90 % intervals hold what they claim."
    plausible = f"{impossible:.2%} of its draws are impossible." if impossible else "None of its draws is impossible."
    first = (
        f"Of {len(found.models)} models, {winner} forecast unseen patients best: mean CRPS {best.value:.3f} SD of the"
        f" outcome (95 % interval {best.lower:.3f} to {best.upper:.3f}, {best.n} patients, {_how(found.plan)})."
    )
    return Finding(
        id=f"{SECTION}.trust",
        section=SECTION,
        title="Which kind of twin deserves trust on this cohort",
        verdict=Verdict.FAIL if off else Verdict.PASS,
        text=" ".join([first, *([others] if gaps else []), held, plausible]),
        table=Table(
            columns=_TRUST_COLUMNS,
            rows=tuple(rows),
            note=_PAIRED_NOTE,
        ),
        figure=Figure(
            kind="forest",
            encoding={"label": "model", "y": "difference", "low": "low", "high": "high", "group": "architecture"},
            x_label="Mean CRPS minus the winner's (SD of the outcome)",
            y_label="Model",
            reference=0.0,
            alt="Paired difference in mean CRPS of each model from the best, with 95 % intervals.",
        )
        if gaps
        else None,
        evidence=evidence,
    )


def _accuracy(found: Comparison, scores: Sequence[Score], evidence: Evidence) -> Finding:
    rows = [
        (
            *_who(found, one),
            one.patients,
            one.cases,
            *_three(one.rmse),
            one.crps.value,
            one.log_score.value,
            None if one.r is None else one.r.value,
            *_three(one.r_change),
        )
        for one in scores
    ]
    return Finding(
        id=f"{SECTION}.accuracy",
        section=SECTION,
        title="Accuracy on patients that no twin had seen",
        verdict=Verdict.INFO,
        text=(
            f"Out of fold ({_how(found.plan)}). R is the correlation of expected and measured values, R of change"
            " that of changes from baseline, at the last visit with at least 20 patients: R² is the share of variance"
            " that adjusting a trial for the score can take away."
        ),
        table=Table(
            columns=(
                *_WHO,
                Column(name="patients", label="Patients", decimals=0),
                Column(name="cases", label="Values", decimals=0),
                Column(name="rmse", label="RMSE", decimals=3),
                *_INTERVAL,
                Column(name="crps", label="CRPS", decimals=3),
                Column(name="log_score", label="Log score", decimals=2),
                Column(name="r", label="R", decimals=2),
                Column(name="r_change", label="R of change", decimals=2),
                Column(name="r_low", label="95 % low", decimals=2),
                Column(name="r_high", label="95 % high", decimals=2),
            ),
            rows=tuple(rows),
            note=f"RMSE and CRPS in the unit of the outcome ({_units(found)}), lower is better; log score: mean log"
            " predictive density, higher is better. Intervals of RMSE with patients as clusters, of R by Fisher's z.",
        ),
        evidence=evidence,
    )


def _calibration(found: Comparison, scores: Sequence[Score], evidence: Evidence) -> Finding:
    rows = [
        (*_who(found, one), f"{level:.0%} intervals", level, *_three(share), one.uniform_p)
        for one in scores
        for level, share in zip(LEVELS, one.coverage, strict=True)
        if level in (0.5, 0.9)
    ]
    off = _miscalibrated(scores, found)
    return Finding(
        id=f"{SECTION}.calibration",
        section=SECTION,
        title="Do prediction intervals hold what they claim?",
        verdict=Verdict.FAIL if off else Verdict.PASS,
        text=(
            f"Off for 90 % intervals, beyond a 99 % interval of the share: {'; '.join(off)}."
            if off
            else "No model's 90 % intervals hold another share than they claim, beyond chance."
        ),
        table=Table(
            columns=(
                *_WHO,
                Column(name="level", label="Intervals"),
                Column(name="nominal", label="Claim", decimals=2),
                Column(name="share", label="Share inside", decimals=3),
                *_INTERVAL,
                Column(name="pit", label="p of PIT", decimals=3),
            ),
            rows=tuple(rows),
            note="Intervals with patients as clusters; p of a uniform PIT at the last visit, by Neyman's smooth test.",
        ),
        figure=Figure(
            kind="interval",
            encoding={
                "x": "model",
                "y": "share",
                "low": "low",
                "high": "high",
                "reference": "nominal",
                "group": "level",
                "panel": "asked",
            },
            x_label="Model",
            y_label="Share of measured values inside",
            alt="Share of measured values inside 50 % and 90 % intervals, by model, with 95 % limits.",
        ),
        evidence=evidence,
    )


def _plausibility(found: Comparison, scores: Sequence[Score], evidence: Evidence) -> Finding:
    shown = {(one.model, one.outcome): one for one in scores}
    rows = [
        (one.model, *_place(one.model), found.cohort.outcomes[one.outcome].name, one.draws, 100 * one.implausible)
        for one in shown.values()
    ]
    bound = [one for one in shown.values() if _place(one.model)[0] in ("mechanistic", "hybrid") and one.implausible > 0]
    return Finding(
        id=f"{SECTION}.plausibility",
        section=SECTION,
        title="Draws that no patient can have",
        verdict=Verdict.FAIL if bound else Verdict.PASS if all(not r[-1] for r in rows) else Verdict.INFO,
        text="Share of all draws outside the plausible range of the variable, or of what the disease allows."
        + (f" A mechanism should make this impossible: {', '.join(one.model for one in bound)}." if bound else ""),
        table=Table(
            columns=(
                Column(name="model", label="Model"),
                Column(name="architecture", label="Architecture"),
                Column(name="outcome", label="Outcome"),
                Column(name="draws", label="Draws", decimals=0),
                Column(name="share", label="Impossible", unit="%", decimals=3),
            ),
            rows=tuple(rows),
        ),
        evidence=evidence,
    )


def _curve(found: Comparison, axis: Axis, evidence: Evidence) -> Finding:
    """Return a learning curve: the whole as its last point."""
    points = [one for one in found.variations if one.axis == axis]
    first = [cell for cell in found.of(_whole(found)) if cell.split.startswith("repeat 1 ")]
    full = round(float(np.mean([cell.teachers for cell in first]))) if axis == "patients" else len(_later(found))
    rows: list[tuple[Cell, ...]] = []
    for model in found.models:
        for point in points:
            one = overall(found.of(point), model, found.scales)
            x: Cell = point.size if axis != "blocks" else ", ".join(point.blocks) or "none"
            if one is not None:
                rows.append((model, x, *_three(one), one.n))
        whole = overall(first, model, found.scales)
        if whole is not None:
            rows.append((model, full if axis != "blocks" else "all", *_three(whole), whole.n))
    names = {"patients": "Patients to learn from", "visits": "Visits after baseline to learn from", "blocks": "Blocks"}
    return Finding(
        id=f"{SECTION}.curve.{axis}",
        section=SECTION,
        title=f"Learning curve: {names[axis].lower()}",
        verdict=Verdict.INFO,
        text="Mean CRPS of the same unseen patients as there is less to learn from, on the folds of the first repeat.",
        table=Table(
            columns=(
                Column(name="model", label="Model"),
                Column(name="size", label=names[axis]),
                Column(name="crps", label="Mean CRPS", unit="SD", decimals=3),
                *_INTERVAL,
                Column(name="n", label="Patients forecast", decimals=0),
            ),
            rows=tuple(rows),
        ),
        figure=Figure(
            kind="interval",
            encoding={"x": "size", "y": "crps", "low": "low", "high": "high", "group": "model"},
            x_label=names[axis],
            y_label="Mean CRPS (SD of the outcome)",
            alt=f"Mean CRPS of each model by {names[axis].lower()}, with 95 % intervals.",
        ),
        evidence=evidence,
    )


def _cost(found: Comparison, told: Mapping[str, str], evidence: Evidence) -> Finding:
    rows = []
    for model in found.models:
        cells = [cell for cell in found.of(_whole(found)) if cell.model == model and cell.cases is not None]
        if cells:
            fit, ask, memory = (
                float(np.median([getattr(c, name) for c in cells]))
                for name in ("fit_seconds", "predict_seconds", "mebibytes")
            )
            peak = max(cell.mebibytes for cell in cells)
            teachers = round(float(np.mean([cell.teachers for cell in cells])))
            rows.append((model, told.get(model, "the data alone"), teachers, fit, ask, memory, peak))
    return Finding(
        id=f"{SECTION}.cost",
        section=SECTION,
        title="What each model was told, and what it cost",
        verdict=Verdict.INFO,
        text="Medians over folds, on this machine; the first fold of a model also compiles it.",
        table=Table(
            columns=(
                Column(name="model", label="Model"),
                Column(name="told", label="Told besides the data"),
                Column(name="n", label="Patients learned from", decimals=0),
                Column(name="fit", label="Fit", unit="s", decimals=1),
                Column(name="ask", label="Forecast", unit="s", decimals=1),
                Column(name="memory", label="Memory", unit="MiB", decimals=0),
                Column(name="peak", label="Most memory", unit="MiB", decimals=0),
            ),
            rows=tuple(rows),
        ),
        evidence=evidence,
    )


def _failed(found: Comparison, evidence: Evidence) -> Finding:
    cells = found.failures()
    rows = tuple((c.model, c.split, c.variation, c.teachers, c.failure.splitlines()[0]) for c in cells)
    return Finding(
        id=f"{SECTION}.failures",
        section=SECTION,
        title="Models that could not be fitted",
        verdict=Verdict.FAIL,
        text=f"{len(cells)} of {len(found.cells)} fits failed; a model that failed in any fold has no rank."
        f" {reasons(cells)}.",
        table=Table(
            columns=(
                Column(name="model", label="Model"),
                Column(name="split", label="Split"),
                Column(name="variation", label="Learned from"),
                Column(name="n", label="Patients", decimals=0),
                Column(name="why", label="Why"),
            ),
            rows=rows,
        ),
        evidence=evidence,
    )


_WHO = (
    Column(name="model", label="Model"),
    Column(name="asked", label="Forecast"),
)


def _who(found: Comparison, one: Score) -> tuple[Cell, ...]:
    """Return the model, and what was asked: the outcome, and up to when patients were known."""
    return one.model, f"{found.cohort.outcomes[one.outcome].name}, known to day {found.known[one.known]:g}"


def _place(model: str) -> tuple[str]:
    """Return the architecture of a registered model, or a dash for one of the user's own."""
    return (MODELS[model].architecture if model in MODELS else "–",)


def _units(found: Comparison) -> str:
    return ", ".join(f"{v.name}: {v.unit or 'none'}" for v in found.cohort.outcomes)


def _three(one: Measure | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if one is None else (one.value, one.lower, one.upper)


def _whole(found: Comparison) -> Variation:
    return next(one for one in found.variations if one.axis == "whole")


def _varied(found: Comparison, axis: str) -> bool:
    return any(one.axis == axis for one in found.variations)


def _later(found: Comparison) -> np.ndarray:
    return np.flatnonzero(found.cohort.nominal > 0)


def _miscalibrated(scores: Sequence[Score], found: Comparison) -> list[str]:
    """Return whose share inside 90 % intervals differs from 90 % by more than its 99 % interval allows."""
    off = []
    for one in scores:
        share = one.coverage[NINETY]
        # a share of all or none has no spread of its own: that of the claim stands in
        se = max(share.se, float(np.sqrt(0.9 * 0.1 / one.cases)))
        if abs(share.value - 0.9) > 2.576 * se:
            outcome = found.cohort.outcomes[one.outcome].name
            off.append(f"{one.model}, {outcome}, known up to day {found.known[one.known]:g}: {share.value:.1%}")
    return off


def _how(plan: Plan) -> str:
    repeated = f"{plan.repeats} × " if plan.repeats > 1 else ""
    of = {"patient": "by patient", "site": "by whole sites", "time": "by patient and time"}[plan.by]
    return f"{repeated}{plan.folds} folds {of}"
