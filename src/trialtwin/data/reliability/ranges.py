"""Rules on values: plausible ranges, the instrument's maxima, body mass index, and jumps between visits."""

import polars as pl
from scipy.special import ndtri

from trialtwin.core.variables import Kind, Variable
from trialtwin.data.reliability.rule import (
    Examination,
    Severity,
    Trial,
    examine_each,
    judge,
    lacks,
    measured,
    merge,
    rule,
    skip,
)

JUMP_ALPHA = 0.05
JUMPS_NEEDED = 30


@rule(
    "REL-R01",
    Severity.WARNING,
    title="Covariates are plausible",
    examines="covariate values",
    states="Covariates, and outcomes that stand in ADSL, lie in their plausible ranges.",
)
def covariates_implausible(trial: Trial) -> Examination:
    """Check that covariates, and outcomes that stand in ADSL, lie in their plausible ranges."""
    frame = trial.subjects
    variables = [v for v in trial.layout.covariates if v.kind is not Kind.CATEGORICAL]
    variables += [o.variable for o in trial.layout.outcomes if not o.paramcd]
    parts = []
    for variable in dict.fromkeys(variables):
        if variable.name not in frame.columns:
            parts.append(skip(f"ADSL has no {variable.name}"))
        elif frame.schema[variable.name].is_numeric() and _bounded(variable):
            rows = frame.filter(pl.col(variable.name).is_not_null())
            parts.append(_in_range(trial, trial.tables.subjects.name, rows, variable, variable.name))
    return merge(*parts) if parts else skip("no covariate has a plausible range")


@rule(
    "REL-R02",
    Severity.WARNING,
    title="Outcomes are plausible",
    examines="outcome values",
    states="Outcomes lie in their plausible ranges.",
)
def outcomes_implausible(trial: Trial) -> Examination:
    """Check that outcomes lie in their plausible ranges."""
    parts = []
    for outcome in trial.outcomes:
        frame = trial.findings[outcome.dataset]
        if reason := lacks(outcome.dataset, frame, trial.subject, "PARAMCD", "AVAL"):
            parts.append(skip(reason))
        elif _bounded(outcome.variable):
            rows = frame.filter((pl.col("PARAMCD") == outcome.paramcd) & pl.col("AVAL").is_not_null())
            parts.append(_in_range(trial, outcome.dataset, rows, outcome.variable, "AVAL"))
    return merge(*parts) if parts else skip("no outcome has a plausible range")


@rule(
    "REL-R03",
    Severity.ERROR,
    title="Items and totals lie within the scale",
    examines="items and totals",
    states="Items lie between 0 and their maxima, and totals between 0 and the sum of the maxima.",
)
def items_out_of_scale(trial: Trial) -> Examination:
    """Check that items lie between 0 and their maxima, and totals between 0 and the sum of the maxima."""
    maxima: dict[str, float] = {}
    for total in trial.layout.totals:
        maxima |= {name: float(most) for name, most in total.items.items()}
        maxima[total.paramcd] = float(sum(total.items.values()))
    if not maxima:
        return skip("the layout names no scale total")

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        rows = frame.filter(pl.col("PARAMCD").is_in(list(maxima)) & pl.col("AVAL").is_not_null())
        rows = rows.with_columns(pl.col("PARAMCD").replace_strict(maxima, return_dtype=pl.Float64).alias("maximum"))
        return judge(
            rows,
            (pl.col("AVAL") < 0) | (pl.col("AVAL") > pl.col("maximum") + 1e-9),
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            visit="AVISIT",
            value=pl.col("AVAL"),
            detail=pl.format("outside 0 to {}", pl.col("maximum")),
        )

    return examine_each(trial.findings, (trial.subject, "PARAMCD", "AVAL"), examine, kind="findings data set")


@rule(
    "REL-R04",
    Severity.WARNING,
    title="Body mass index fits weight and height",
    examines="patients",
    states="Body mass index is weight over squared height, to the precision that it is written with.",
)
def body_mass_index_wrong(trial: Trial) -> Examination:
    """Check that body mass index is weight over squared height, to the precision that it is written with."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        rows = frame.drop_nulls(["HEIGHTBL", "WEIGHTBL", "BMIBL"])
        rows = rows.with_columns((pl.col("WEIGHTBL") / (pl.col("HEIGHTBL") / 100) ** 2).alias("expected"))
        return judge(
            rows,
            (pl.col("BMIBL") - pl.col("expected")).abs() > 0.1,
            dataset=dataset,
            subject=trial.subject,
            variable="BMIBL",
            value=pl.col("BMIBL"),
            detail=pl.format("weight and height give {}", pl.col("expected").round(1)),
        )

    return examine_each(trial.adsl, (trial.subject, "HEIGHTBL", "WEIGHTBL", "BMIBL"), examine)


@rule(
    "REL-R05",
    Severity.NOTE,
    title="Jumps between visits",
    examines="changes between visits",
    states="Changes of an outcome from one measured visit to the next, against the trial's own spread of them.",
)
def jumps(trial: Trial) -> Examination:
    """Describe changes of an outcome from one measured visit to the next, against the trial's own spread of them.

    A change is remarked on where its distance from the median exceeds z times 1.4826 × the median absolute deviation,
    with z = Φ⁻¹(1 − 0.05 / 2m) for m changes, so that normal changes would be remarked on in one trial of twenty.
    """
    parts = []
    for outcome in trial.outcomes:
        frame = trial.findings[outcome.dataset]
        if reason := lacks(outcome.dataset, frame, trial.subject, "PARAMCD", "AVAL", "AVISIT", "ADY"):
            parts.append(skip(reason))
            continue
        rows = measured(trial.analysed(frame)).filter(pl.col("PARAMCD") == outcome.paramcd).sort(trial.subject, "ADY")
        last = pl.col("AVAL").shift(1).over(trial.subject)
        rows = rows.with_columns((pl.col("AVAL") - last).alias("step")).filter(pl.col("step").is_not_null())
        if len(rows) < JUMPS_NEEDED:
            parts.append(skip(f"{outcome.paramcd} has {len(rows)} changes between visits, fewer than {JUMPS_NEEDED}"))
            continue
        off = (pl.col("step") - pl.col("step").median()).abs()
        z = float(-ndtri(JUMP_ALPHA / 2 / len(rows)))
        rows = rows.with_columns(off.alias("off"), (off.median() * 1.4826).alias("scale"))
        if rows["scale"][0] == 0:
            parts.append(
                skip(f"more than half of the changes of {outcome.paramcd} are the same, which leaves no spread")
            )
            continue
        parts.append(
            judge(
                rows,
                pl.col("off") > z * pl.col("scale"),
                dataset=outcome.dataset,
                subject=trial.subject,
                variable=outcome.paramcd,
                visit="AVISIT",
                value=pl.col("AVAL"),
                detail=pl.format("{} from the visit before", pl.col("step").round(2)),
            )
        )
    return merge(*parts) if parts else skip("no outcome is measured over time")


def _bounded(variable: Variable) -> bool:
    """Tell whether a variable has a plausible range at all."""
    return variable.lower is not None or variable.upper is not None


def _in_range(trial: Trial, dataset: str, rows: pl.DataFrame, variable: Variable, column: str) -> Examination:
    """Judge one variable's values against its range."""
    low = float("-inf") if variable.lower is None else variable.lower
    high = float("inf") if variable.upper is None else variable.upper
    unit = f" {variable.unit}" if variable.unit else ""
    return judge(
        rows,
        (pl.col(column) < low) | (pl.col(column) > high),
        dataset=dataset,
        subject=trial.subject,
        variable=variable.name,
        visit="AVISIT",
        value=pl.col(column),
        detail=f"outside the plausible {low:g} to {high:g}{unit}",
    )
