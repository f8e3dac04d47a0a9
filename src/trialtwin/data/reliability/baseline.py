"""Rules on baseline and change: one baseline, before treatment; BASE, CHG and PCHG as they are defined."""

from collections.abc import Callable

import polars as pl

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

TOLERANCE = 1e-6


@rule(
    "REL-B01",
    Severity.WARNING,
    title="Patients have a baseline",
    examines="patients in an arm",
    states="Every patient in an arm has a baseline of each outcome.",
)
def baseline_absent(trial: Trial) -> Examination:
    """Check that every patient in an arm has a baseline of each outcome."""
    parts = []
    for outcome in trial.outcomes:
        frame = trial.findings[outcome.dataset]
        if reason := lacks(outcome.dataset, frame, trial.subject, "PARAMCD", "AVAL", "ABLFL"):
            parts.append(skip(reason))
            continue
        rows = frame.filter(pl.col("ABLFL").eq_missing("Y") & pl.col("AVAL").is_not_null())
        have = rows.filter(pl.col("PARAMCD") == outcome.paramcd)[trial.subject].to_list()
        parts.append(
            judge(
                trial.arms,
                ~pl.col("subject").is_in(have),
                dataset=outcome.dataset,
                subject="subject",
                variable=outcome.paramcd,
                detail="no baseline (ABLFL = Y with a value)",
            )
        )
    return merge(*parts) if parts else skip("no outcome is measured over time")


@rule(
    "REL-B02",
    Severity.ERROR,
    title="One baseline a parameter",
    examines="baseline records",
    states="A subject has one baseline of a parameter.",
)
def baseline_repeated(trial: Trial) -> Examination:
    """Check that a subject has one baseline of a parameter."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        return judge(
            frame.filter(pl.col("ABLFL").eq_missing("Y")),
            pl.struct(_key(trial, frame)).is_duplicated(),
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            visit="AVISIT",
            value=pl.col("AVAL"),
            detail="more than one record with ABLFL = Y",
        )

    return _examine_findings(trial, ("ABLFL",), examine)


@rule(
    "REL-B03",
    Severity.ERROR,
    title="Baseline before treatment",
    examines="baseline records",
    states="Baseline is measured before treatment, on study day 1 at the latest.",
)
def baseline_after_start(trial: Trial) -> Examination:
    """Check that baseline is measured before treatment, on study day 1 at the latest."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        return judge(
            frame.filter(pl.col("ABLFL").eq_missing("Y") & pl.col("ADY").is_not_null()),
            pl.col("ADY") > 1,
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            visit="AVISIT",
            value=pl.col("ADY"),
            detail="study day of the baseline, after the first dose",
        )

    return _examine_findings(trial, ("ABLFL", "ADY"), examine)


@rule(
    "REL-B04",
    Severity.WARNING,
    title="Baseline is the last before treatment",
    examines="baseline records",
    states="Baseline is the last value measured up to study day 1.",
)
def baseline_not_last(trial: Trial) -> Examination:
    """Check that baseline is the last value measured up to study day 1."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        key = _key(trial, frame)
        early = measured(frame).filter(pl.col("ADY") <= 1)
        last = early.group_by(key, maintain_order=True).agg(pl.col("ADY").max().alias("__last"))
        flagged = _single(trial, frame).drop_nulls(["ADY", "AVAL"]).join(last, on=key, maintain_order="left")
        return judge(
            flagged,
            pl.col("ADY") < pl.col("__last"),
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            visit="AVISIT",
            value=pl.col("ADY"),
            detail=pl.format("measured again on day {}, before or at the first dose", pl.col("__last").cast(pl.Int64)),
        )

    return _examine_findings(trial, ("ABLFL", "ADY"), examine)


@rule(
    "REL-B05",
    Severity.ERROR,
    title="BASE is the baseline value",
    examines="records",
    states="BASE is the value of the baseline record, on every record of the parameter.",
)
def base_wrong(trial: Trial) -> Examination:
    """Check that BASE is the value of the baseline record, on every record of the parameter."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        key = _key(trial, frame)
        flagged = _single(trial, frame).select(*key, pl.col("AVAL").alias("__base"))
        rows = frame.join(flagged, on=key, maintain_order="left")
        differs = ((pl.col("BASE") - pl.col("__base")).abs() > TOLERANCE).fill_null(value=False)
        return judge(
            rows,
            differs | (pl.col("BASE").is_null() != pl.col("__base").is_null()),
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            visit="AVISIT",
            value=pl.col("BASE"),
            detail=pl.format("the baseline is {}", pl.col("__base").round(4).cast(pl.String).fill_null("missing")),
        )

    return _examine_findings(trial, ("ABLFL", "BASE"), examine)


@rule(
    "REL-B06",
    Severity.ERROR,
    title="CHG and PCHG by definition",
    examines="changes",
    states="CHG is AVAL − BASE after baseline, and PCHG is 100 × CHG / BASE; both are there where their parts are.",
)
def change_wrong(trial: Trial) -> Examination:
    """Check that CHG is AVAL − BASE after baseline, and PCHG is 100 × CHG / BASE."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        later = ~pl.col("ABLFL").eq_missing("Y") if "ABLFL" in frame.columns else pl.lit(value=True)
        rows = frame.filter(later).drop_nulls(["AVAL", "BASE"])
        change = pl.col("AVAL") - pl.col("BASE")
        parts = [_judge_change(trial, dataset, rows, "CHG", change)]
        if not lacks(dataset, frame, "PCHG"):
            rows = rows.filter((pl.col("BASE") != 0) & pl.col("PCHG").is_not_null())
            parts.append(_judge_change(trial, dataset, rows, "PCHG", 100 * change / pl.col("BASE")))
        return merge(*parts)

    return _examine_findings(trial, ("BASE", "CHG"), examine)


def _judge_change(trial: Trial, dataset: str, rows: pl.DataFrame, name: str, expected: pl.Expr) -> Examination:
    """Judge a derived change against its definition."""
    return judge(
        rows,
        pl.col(name).is_null() | ((pl.col(name) - expected).abs() > TOLERANCE * (1 + expected.abs())),
        dataset=dataset,
        subject=trial.subject,
        variable=pl.concat_str("PARAMCD", pl.lit(f" {name}")),
        visit="AVISIT",
        value=pl.col(name),
        detail=pl.format("by definition {}", expected.round(4)),
    )


def _examine_findings(
    trial: Trial, needs: tuple[str, ...], examine: Callable[[str, pl.DataFrame], Examination]
) -> Examination:
    """Examine each findings data set that has the variables of a baseline rule."""
    wanted = (trial.subject, "PARAMCD", "AVAL", *needs)
    return examine_each(trial.findings, wanted, examine, kind="findings data set")


def _key(trial: Trial, frame: pl.DataFrame) -> list[str]:
    """Return what a baseline belongs to: subject, parameter, and type of baseline where there are several."""
    return [name for name in (trial.subject, "PARAMCD", "BASETYPE") if name in frame.columns]


def _single(trial: Trial, frame: pl.DataFrame) -> pl.DataFrame:
    """Baseline records of the subjects and parameters that have exactly one; the others are another rule's matter."""
    flagged = frame.filter(pl.col("ABLFL").eq_missing("Y"))
    return flagged.filter(~pl.struct(_key(trial, frame)).is_duplicated())
