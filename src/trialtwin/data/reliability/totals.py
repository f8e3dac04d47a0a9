"""Rules on scale totals: each total against the items answered on the same day, with the rule of proration."""

from collections.abc import Callable

import polars as pl

from trialtwin.data.layout import ScaleTotal
from trialtwin.data.reliability.rule import Examination, Severity, Trial, date_of, judge, lacks, merge, rule, skip

TOLERANCE = 1e-3


@rule(
    "REL-T01",
    Severity.ERROR,
    title="Totals are the sum of their items",
    examines="measured totals",
    states="A measured total is the sum of the items answered that day × all maxima / maxima of the items answered.",
)
def total_wrong(trial: Trial) -> Examination:
    """Check that a measured total is the prorated sum of the items answered that day."""
    return _over_totals(trial, lambda total, dataset, frame: _judge_totals(trial, total, dataset, frame, derived=False))


@rule(
    "REL-T02",
    Severity.ERROR,
    title="No total carried over its items",
    examines="imputed totals",
    states="No imputed total stands on a day on which the items were answered and give another total.",
)
def total_carried_over_items(trial: Trial) -> Examination:
    """Check that no imputed total stands on a day on which the items were answered and give another total.

    Such a record was measured: its own items say so. Carrying an earlier total over it throws a measurement away.
    """
    return _over_totals(trial, lambda total, dataset, frame: _judge_totals(trial, total, dataset, frame, derived=True))


@rule(
    "REL-T03",
    Severity.ERROR,
    title="Totals where enough items",
    examines="forms",
    states="A total is there where enough items were answered, and is not where too few were.",
)
def total_presence_wrong(trial: Trial) -> Examination:
    """Check that a total is there where enough items were answered, and is not where too few were."""

    def examine(total: ScaleTotal, dataset: str, frame: pl.DataFrame) -> Examination:
        key = _occasion(trial, frame)
        rows = frame.filter((pl.col("PARAMCD") == total.paramcd) & pl.col("AVAL").is_not_null())
        measured = rows.filter(pl.col("DTYPE").is_null()) if "DTYPE" in rows.columns else rows
        there = rows.select(key).unique().with_columns(pl.lit(value=True).alias("__any"))
        own = measured.select(key).unique().with_columns(pl.lit(value=True).alias("__own"))
        forms = expected_totals(total, frame, key)
        if forms.is_empty():
            return skip(f"{dataset} has no items of {total.paramcd}")
        forms = forms.join(there, on=key, how="left", maintain_order="left")
        forms = forms.join(own, on=key, how="full", coalesce=True, maintain_order="left_right")
        forms = forms.with_columns(pl.col("__answered").fill_null(0))
        enough = pl.col("__total").is_not_null()
        return judge(
            forms,
            (enough & pl.col("__any").is_null()) | (~enough & pl.col("__own").is_not_null()),
            dataset=dataset,
            subject=trial.subject,
            variable=total.paramcd,
            visit="VISIT" if "VISIT" in key else None,
            value=pl.col("__total"),
            detail=pl.format(
                "{} of {} items answered: {}",
                pl.col("__answered"),
                pl.lit(len(total.items)),
                pl.when(enough).then(pl.lit("enough, and there is no total")).otherwise(pl.lit("too few for a total")),
            ),
        )

    return _over_totals(trial, examine)


@rule(
    "REL-T04",
    Severity.NOTE,
    title="Prorated totals",
    examines="totals",
    states="Totals that were prorated, because some items were not answered.",
)
def total_prorated(trial: Trial) -> Examination:
    """Describe totals that were prorated, because some items were not answered."""

    def examine(total: ScaleTotal, dataset: str, frame: pl.DataFrame) -> Examination:
        forms = expected_totals(total, frame, _occasion(trial, frame)).filter(pl.col("__total").is_not_null())
        return judge(
            forms,
            pl.col("__answered") < len(total.items),
            dataset=dataset,
            subject=trial.subject,
            variable=total.paramcd,
            visit="VISIT" if "VISIT" in forms.columns else None,
            value=pl.col("__total"),
            detail=pl.format("{} of {} items answered", pl.col("__answered"), pl.lit(len(total.items))),
        )

    return _over_totals(trial, examine)


def expected_totals(total: ScaleTotal, frame: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Total that the answered items give, one row an occasion; null where too many items are missing.

    total = Σ answered items × Σ all maxima / Σ maxima of answered items.
    """
    items = measured_items(total, frame).unique([*key, "PARAMCD"], maintain_order=True)
    forms = items.group_by(key, maintain_order=True).agg(
        pl.col("AVAL").sum().alias("__sum"), pl.col("__maximum").sum(), pl.len().alias("__answered")
    )
    missing = 1 - pl.col("__answered") / len(total.items)
    prorated = pl.col("__sum") * sum(total.items.values()) / pl.col("__maximum")
    # 3 of 10 items missing is 30 %, whatever floating point makes of 0.3.
    return forms.with_columns(pl.when(missing <= total.most_missing + 1e-9).then(prorated).alias("__total"))


def measured_items(total: ScaleTotal, frame: pl.DataFrame) -> pl.DataFrame:
    """Answered items of a scale with their maxima."""
    rows = frame.filter(pl.col("PARAMCD").is_in(list(total.items)) & pl.col("AVAL").is_not_null())
    if "DTYPE" in rows.columns:
        rows = rows.filter(pl.col("DTYPE").is_null())
    maximum = pl.col("PARAMCD").replace_strict({k: float(v) for k, v in total.items.items()}, return_dtype=pl.Float64)
    return rows.with_columns(maximum.alias("__maximum"))


def _judge_totals(trial: Trial, total: ScaleTotal, dataset: str, frame: pl.DataFrame, *, derived: bool) -> Examination:
    """Judge the totals that were measured, or those that were imputed, against the items of the same occasion."""
    key = _occasion(trial, frame)
    rows = frame.filter((pl.col("PARAMCD") == total.paramcd) & pl.col("AVAL").is_not_null()).drop_nulls(key)
    if "DTYPE" in rows.columns:
        rows = rows.filter(pl.col("DTYPE").is_not_null() if derived else pl.col("DTYPE").is_null())
    elif derived:
        return skip(f"{dataset} has no DTYPE")
    forms = expected_totals(total, frame, key).filter(pl.col("__total").is_not_null())
    rows = rows.join(forms, on=key, maintain_order="left")
    flag = trial.layout.record_flag
    counts = pl.col(flag).eq_missing("Y") if flag in frame.columns else pl.lit(value=True)
    return judge(
        rows,
        (pl.col("AVAL") - pl.col("__total")).abs() > TOLERANCE,
        dataset=dataset,
        subject=trial.subject,
        variable=total.paramcd,
        visit="AVISIT",
        value=pl.col("AVAL"),
        detail=pl.format(
            "{} items answered on {} {} give {} ({})",
            pl.col("__answered"),
            pl.lit(key[1]),
            pl.col(key[1]).cast(pl.String),
            pl.col("__total").round(2),
            pl.when(counts).then(pl.lit("analysed record")).otherwise(pl.lit("record not analysed")),
        ),
    )


def _occasion(trial: Trial, frame: pl.DataFrame) -> list[str]:
    """Return what identifies an occasion: subject, date (or study day) and, where recorded, the visit."""
    return [name for name in (trial.subject, date_of(frame), "VISIT") if name in frame.columns]


def _over_totals(trial: Trial, examine: Callable[[ScaleTotal, str, pl.DataFrame], Examination]) -> Examination:
    """Examine every total of the layout in each data set that has it."""
    if not trial.layout.totals:
        return skip("the layout names no scale total")
    parts = []
    for dataset, frame in trial.findings.items():
        if reason := lacks(dataset, frame, trial.subject, "PARAMCD", "AVAL"):
            parts.append(skip(reason))
        elif not date_of(frame):
            parts.append(skip(f"{dataset} has neither ADT nor ADY to tell occasions apart"))
        else:
            codes = set(frame["PARAMCD"])
            parts += [examine(t, dataset, frame) for t in trial.layout.totals if codes & {t.paramcd, *t.items}]
    return merge(*parts) if parts else skip("no data set has the layout's totals")
