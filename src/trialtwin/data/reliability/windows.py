"""Rules on analysis windows and on carried values: AVISIT against the day, LOCF against what was last observed."""

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


@rule(
    "REL-W01",
    Severity.ERROR,
    title="Records lie in their windows",
    examines="analysed records",
    states="A measured, analysed record lies in the window of its analysis visit, AWLO to AWHI.",
)
def outside_window(trial: Trial) -> Examination:
    """Check that a measured, analysed record lies in the window of its analysis visit, AWLO to AWHI."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        rows = measured(trial.analysed(frame)).drop_nulls(["AVISIT", "ADY"])
        rows = rows.filter(pl.col("AWLO").is_not_null() | pl.col("AWHI").is_not_null())
        return _judge_window(trial, dataset, rows, "AWLO", "AWHI")

    needs = (trial.subject, "PARAMCD", "AVISIT", "AVAL", "ADY", "AWLO", "AWHI")
    return examine_each(trial.findings, needs, examine, kind="findings data set")


@rule(
    "REL-W02",
    Severity.ERROR,
    title="Records lie in the layout's windows",
    examines="outcome records",
    states="A measured, analysed record of an outcome lies in the window that the layout gives its visit.",
)
def outside_layout_window(trial: Trial) -> Examination:
    """Check that a measured, analysed record of an outcome lies in the window that the layout gives its visit."""
    parts = []
    low = {v.name: float("-inf") if v.low is None else float(v.low) for v in trial.layout.visits}
    high = {v.name: float("inf") if v.high is None else float(v.high) for v in trial.layout.visits}
    if all(v.low is None and v.high is None for v in trial.layout.visits):
        return skip("the layout gives no visit a window")
    for outcome in trial.outcomes:
        frame = trial.findings[outcome.dataset]
        if reason := lacks(outcome.dataset, frame, trial.subject, "PARAMCD", "AVISIT", "AVAL", "ADY"):
            parts.append(skip(reason))
            continue
        rows = measured(trial.analysed(frame)).filter(pl.col("PARAMCD") == outcome.paramcd)
        rows = rows.filter(pl.col("AVISIT").is_in(list(low)) & pl.col("ADY").is_not_null())
        rows = rows.with_columns(
            pl.col("AVISIT").replace_strict(low, return_dtype=pl.Float64).alias("__low"),
            pl.col("AVISIT").replace_strict(high, return_dtype=pl.Float64).alias("__high"),
        )
        parts.append(_judge_window(trial, outcome.dataset, rows, "__low", "__high"))
    return merge(*parts) if parts else skip("no outcome is measured over time")


@rule(
    "REL-W03",
    Severity.NOTE,
    title="The record nearest to target counts",
    examines="analysed records",
    states="Of several records in a window, the analysed one is the nearest to the target day (AWTARGET).",
)
def not_nearest(trial: Trial) -> Examination:
    """Check that of several records in a window, the analysed one is the nearest to the target day (AWTARGET).

    Studies may choose otherwise (the last, the worst); then this rule says which records differ from the nearest.
    """

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        key = [trial.subject, "PARAMCD", "AVISIT"]
        rows = measured(frame).drop_nulls(["AVISIT", "ADY", "AWTARGET"])
        rows = rows.with_columns((pl.col("ADY") - pl.col("AWTARGET")).abs().alias("__off"))
        rows = rows.with_columns(pl.col("__off").min().over(key).alias("__nearest"))
        return judge(
            trial.analysed(rows),
            pl.col("__off") > pl.col("__nearest"),
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            visit="AVISIT",
            value=pl.col("ADY"),
            detail=pl.format("{} days from target, another record {}", pl.col("__off"), pl.col("__nearest")),
        )

    needs = (trial.subject, "PARAMCD", "AVISIT", "AVAL", "ADY", "AWTARGET")
    return examine_each(trial.findings, needs, examine, kind="findings data set")


@rule(
    "REL-W04",
    Severity.ERROR,
    title="Carried values are the last measured",
    examines="carried values",
    states="A LOCF record that counts has the value last measured up to the end of its window, and BOCF the baseline.",
)
def carried_wrong(trial: Trial) -> Examination:
    """Check that a LOCF record has the value last measured up to the end of its window, and BOCF the baseline value."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        rows = trial.analysed(frame).filter(pl.col("DTYPE").is_in(["LOCF", "BOCF"]) & pl.col("AVAL").is_not_null())
        rows = rows.with_columns(_window_end(trial, frame).alias("__end")).with_row_index("__row")
        source = (
            measured(frame)
            .drop_nulls(["ADY"])
            .select(trial.subject, "PARAMCD", pl.col("ADY").alias("__day"), pl.col("AVAL").alias("__last"))
        )
        pairs = rows.select("__row", trial.subject, "PARAMCD", "__end", "DTYPE").join(
            source, on=[trial.subject, "PARAMCD"], maintain_order="left"
        )
        baseline = pl.col("__day") <= 1
        pairs = pairs.filter(
            pl.when(pl.col("DTYPE") == "BOCF").then(baseline).otherwise(pl.col("__day") <= pl.col("__end"))
        )
        last = pairs.sort("__row", "__day", maintain_order=True).group_by("__row", maintain_order=True).last()
        rows = rows.join(last.select("__row", "__day", "__last"), on="__row", how="left", maintain_order="left")
        return judge(
            rows,
            pl.col("__last").is_null() | ((pl.col("AVAL") - pl.col("__last")).abs() > 1e-6),
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            visit="AVISIT",
            value=pl.col("AVAL"),
            detail=pl.format(
                "last measured: {} on day {}",
                pl.col("__last").round(4).cast(pl.String).fill_null("nothing"),
                pl.col("__day").cast(pl.Int64).cast(pl.String).fill_null("none"),
            ),
        )

    needs = (trial.subject, "PARAMCD", "AVISIT", "AVAL", "ADY", "DTYPE")
    return examine_each(trial.findings, needs, examine, kind="findings data set")


@rule(
    "REL-W05",
    Severity.ERROR,
    title="No carried value beside a measured one",
    examines="carried values",
    states="No analysed carried value stands at a visit at which an analysed value was measured.",
)
def carried_beside_measured(trial: Trial) -> Examination:
    """Check that no analysed carried value stands at a visit at which an analysed value was measured."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        key = [trial.subject, "PARAMCD", "AVISIT"]
        rows = trial.analysed(frame).filter(pl.col("AVISIT").is_not_null() & pl.col("AVAL").is_not_null())
        have = measured(rows).select(key).unique().with_columns(pl.lit(value=True).alias("__measured"))
        carried = rows.filter(pl.col("DTYPE").is_not_null()).join(have, on=key, how="left", maintain_order="left")
        return judge(
            carried,
            pl.col("__measured").is_not_null(),
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            visit="AVISIT",
            value=pl.col("AVAL"),
            detail=pl.format("{} beside a measured value", pl.col("DTYPE")),
        )

    needs = (trial.subject, "PARAMCD", "AVISIT", "AVAL", "DTYPE")
    return examine_each(trial.findings, needs, examine, kind="findings data set")


def _judge_window(trial: Trial, dataset: str, rows: pl.DataFrame, low: str, high: str) -> Examination:
    """Judge study days against a window with both ends inside; a null end is open."""
    ends = [pl.col(end).round(0).cast(pl.String).str.strip_suffix(".0").fill_null("open") for end in (low, high)]
    return judge(
        rows,
        (pl.col("ADY") < pl.col(low)).fill_null(value=False) | (pl.col("ADY") > pl.col(high)).fill_null(value=False),
        dataset=dataset,
        subject=trial.subject,
        variable=pl.col("PARAMCD"),
        visit="AVISIT",
        value=pl.col("ADY"),
        detail=pl.format("outside day {} to {}", *ends),
    )


def _window_end(trial: Trial, frame: pl.DataFrame) -> pl.Expr:
    """Last day of a record's window: AWHI, else the layout's, else open."""
    high = {v.name: float(v.high) for v in trial.layout.visits if v.high is not None}
    end = (
        pl.col("AVISIT").replace_strict(high, default=None, return_dtype=pl.Float64)
        if high
        else pl.lit(None, pl.Float64)
    )
    if "AWHI" in frame.columns and frame.schema["AWHI"].is_numeric():
        end = pl.coalesce(pl.col("AWHI"), end)
    return end.fill_null(float("inf"))
