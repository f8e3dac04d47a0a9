"""Rules on uniqueness: subjects, analysed records, rows, adverse events, and patients who look like copies."""

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

PROFILE_VALUES = 10


@rule(
    "REL-U01",
    Severity.ERROR,
    title="One row a subject in ADSL",
    examines="rows of ADSL",
    states="A subject has one row in ADSL.",
)
def subjects_repeated(trial: Trial) -> Examination:
    """Check that a subject has one row in ADSL."""
    return examine_each(
        trial.adsl,
        (trial.subject,),
        lambda dataset, frame: judge(
            frame,
            pl.col(trial.subject).is_duplicated() | pl.col(trial.subject).is_null(),
            dataset=dataset,
            subject=trial.subject,
            variable=trial.subject,
            detail="more than one row, or no identifier",
        ),
    )


@rule(
    "REL-U02",
    Severity.ERROR,
    title="One analysed record a visit",
    examines="analysed records",
    states="A subject has one analysed record of a parameter at a visit, and one time to each event.",
)
def records_repeated(trial: Trial) -> Examination:
    """Check that a subject has one analysed record of a parameter at a visit, and one time to each event."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        key = [c for c in (trial.subject, "PARAMCD", "AVISIT", "ATPT", "BASETYPE") if c in frame.columns]
        rows = trial.analysed(frame)
        if "AVISIT" in frame.columns:
            rows = rows.filter(pl.col("AVISIT").is_not_null())
        return judge(
            rows,
            pl.struct(key).is_duplicated(),
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            visit="AVISIT",
            value=pl.col("AVAL"),
            detail=f"another analysed record has the same {', '.join(key)}",
        )

    needs = (trial.subject, "PARAMCD", "AVAL")
    return examine_each({**trial.findings, **trial.times}, needs, examine, kind="findings data set")


@rule(
    "REL-U03",
    Severity.ERROR,
    title="No row twice",
    examines="rows",
    states="No two rows of a data set are the same in every variable.",
)
def rows_repeated(trial: Trial) -> Examination:
    """Check that no two rows of a data set are the same in every variable."""
    return examine_each(
        trial.everything,
        (trial.subject,),
        lambda dataset, frame: judge(
            frame,
            ~pl.struct(pl.all()).is_first_distinct(),
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD") if "PARAMCD" in frame.columns else pl.lit(""),
            visit="AVISIT",
            detail="an earlier row is the same in every variable",
        ),
    )


@rule(
    "REL-U04",
    Severity.WARNING,
    title="No adverse event recorded twice",
    examines="adverse events",
    states="An adverse event (term, start, end, severity) is recorded once.",
)
def events_repeated(trial: Trial) -> Examination:
    """Check that an adverse event (term, start, end, severity) is recorded once."""
    needs = (trial.subject, "AEDECOD", "ASTDT", "AENDT")

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        key = [*needs, *(c for c in ("AETERM", "AELLT", "AESEV") if c in frame.columns)]
        rows = frame.filter(pl.col("ASTDT").is_not_null())
        return judge(
            rows,
            ~pl.struct(key).is_first_distinct(),
            dataset=dataset,
            subject=trial.subject,
            variable="AEDECOD",
            value=pl.col("AEDECOD"),
            detail=pl.format("an earlier record is of the same event, start {}", pl.col("ASTDT").cast(pl.String)),
        )

    return examine_each(trial.events, needs, examine, kind="adverse event data set")


@rule(
    "REL-U05",
    Severity.WARNING,
    title="No two patients with the same values",
    examines="patients",
    states="No two patients have the same measured values at every visit.",
)
def profiles_repeated(trial: Trial) -> Examination:
    """Check that no two patients have the same measured values at every visit.

    Judged on all parameters of a data set together, for patients with at least ten values that are not all equal:
    fewer can agree by chance.
    """

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        rows = measured(trial.analysed(frame)).sort(trial.subject, "PARAMCD", "AVISIT", "AVAL")
        cell = pl.concat_str("PARAMCD", "AVISIT", pl.col("AVAL").cast(pl.String), separator="|", ignore_nulls=True)
        people = rows.group_by(trial.subject, maintain_order=True).agg(
            cell.str.join(";").alias("profile"), pl.len().alias("n"), pl.col("AVAL").n_unique().alias("distinct")
        )
        people = people.filter((pl.col("n") >= PROFILE_VALUES) & (pl.col("distinct") > 1))
        twins = pl.col(trial.subject).str.join(", ").over("profile")
        return judge(
            people,
            pl.col("profile").is_duplicated(),
            dataset=dataset,
            subject=trial.subject,
            variable="AVAL",
            value=pl.col("n"),
            detail=pl.format("all measured values the same in {}", twins),
        )

    needs = (trial.subject, "PARAMCD", "AVISIT", "AVAL")
    return examine_each(trial.findings, needs, examine, kind="findings data set")


@rule(
    "REL-U06",
    Severity.NOTE,
    title="No form copied forward",
    examines="pairs of forms",
    states="No patient has all items of a scale the same at two visits running (a form copied forward).",
)
def assessments_copied(trial: Trial) -> Examination:
    """Check that no patient has all items of a scale the same at two visits running (a form copied forward).

    Judged where at least ten items were answered at both visits and they are not all 0 or all at one value.
    """
    totals = [total for total in trial.layout.totals if len(total.items) >= PROFILE_VALUES]
    if not totals:
        return skip(f"the layout names no scale of {PROFILE_VALUES} items or more")
    parts = []
    for dataset, frame in trial.findings.items():
        if reason := lacks(dataset, frame, trial.subject, "PARAMCD", "AVISIT", "AVAL", "ADY"):
            parts.append(skip(reason))
            continue
        for total in totals:
            rows = measured(trial.analysed(frame)).filter(pl.col("PARAMCD").is_in(list(total.items)))
            if rows.is_empty():
                continue
            forms = rows.sort(trial.subject, "ADY", "PARAMCD").group_by(
                trial.subject, "AVISIT", "ADY", maintain_order=True
            )
            parts.append(_copies(trial, dataset, total.paramcd, forms.agg("PARAMCD", "AVAL")))
    return merge(*parts) if parts else skip("the layout's scales have no items in the data")


def _copies(trial: Trial, dataset: str, paramcd: str, forms: pl.DataFrame) -> Examination:
    """Judge each form against the one before it."""
    same = ["PARAMCD", "AVAL"]
    before = [pl.col(c).shift(1).over(trial.subject).alias(f"{c}_before") for c in same]
    pairs = forms.with_columns(before).filter(
        pl.col("AVAL_before").is_not_null()
        & (pl.col("PARAMCD") == pl.col("PARAMCD_before"))
        & (pl.col("AVAL").list.len() >= PROFILE_VALUES)
        & (pl.col("AVAL").list.n_unique() > 1)
    )
    return judge(
        pairs,
        pl.col("AVAL") == pl.col("AVAL_before"),
        dataset=dataset,
        subject=trial.subject,
        variable=paramcd,
        visit="AVISIT",
        value=pl.col("AVAL").list.sum(),
        detail="every item the same as at the visit before",
    )
