"""Rules on dates: orders that cannot be otherwise, study days, visits in order, and nothing after the cut-off."""

import polars as pl

from trialtwin.data.reliability.rule import (
    Examination,
    Severity,
    Trial,
    date_of,
    examine_each,
    judge,
    lacks,
    measured,
    merge,
    rule,
    skip,
)

# Pairs of ADSL dates, the first not after the second; each is examined where both variables exist.
ORDERS = (
    ("BRTHDT", "RFICDT"),
    ("BRTHDT", "DISONSDT"),
    ("DISONSDT", "RANDDT"),
    ("DISONSDT", "TRTSDT"),
    ("RFICDT", "RANDDT"),
    ("RFICDT", "TRTSDT"),
    ("VISIT1DT", "RANDDT"),
    ("VISIT1DT", "TRTSDT"),
    ("RANDDT", "TRTSDT"),
    ("TRTSDT", "RFENDT"),
    ("TRTSDT", "EOSDT"),
    ("TRTEDT", "RFENDT"),
    ("TRTEDT", "EOSDT"),
    ("TRTEDT", "DTHDT"),
)
STUDY_DAYS = (("ADY", "ADT"), ("ASTDY", "ASTDT"), ("AENDY", "AENDT"))


@rule(
    "REL-D01",
    Severity.ERROR,
    title="Treatment ends after it starts",
    examines="patients",
    states="The last dose is not before the first.",
)
def treatment_ends_before_start(trial: Trial) -> Examination:
    """Check that the last dose is not before the first."""
    needs = (trial.subject, "TRTSDT", "TRTEDT")
    return examine_each(trial.adsl, needs, lambda name, frame: _order(trial, name, frame, "TRTSDT", "TRTEDT"))


@rule(
    "REL-D03",
    Severity.ERROR,
    title="Subject-level dates in order",
    examines="pairs of dates",
    states="Birth, onset, consent, randomisation, first dose, end of study and death follow each other.",
)
def subject_dates_out_of_order(trial: Trial) -> Examination:
    """Check that birth, onset, consent, randomisation, first dose, end of study and death follow each other."""
    parts = []
    for dataset, frame in trial.adsl.items():
        pairs = [pair for pair in ORDERS if not lacks(dataset, frame, *pair)]
        parts += [_order(trial, dataset, frame, *pair) for pair in pairs]
    return merge(*parts) if parts else skip("ADSL has no two of the dates that this rule compares")


@rule(
    "REL-D02",
    Severity.ERROR,
    title="Study days agree with dates",
    examines="study days",
    states="Study days agree with dates and the first dose: day 1 is the first dose, and there is no day 0.",
)
def study_days_wrong(trial: Trial) -> Examination:
    """Check that study days agree with dates and the first dose: day 1 is the first dose, and there is no day 0."""
    parts = []
    for dataset, raw in trial.records.items():
        if lacks(dataset, raw, trial.subject):
            continue
        frame = _with_subject_dates(trial, raw, "TRTSDT")
        for day, when in STUDY_DAYS:
            if lacks(dataset, frame, day, when, "TRTSDT"):
                continue
            rows = frame.drop_nulls([day, when, "TRTSDT"]).with_columns(study_day(when).alias("expected"))
            parts.append(
                judge(
                    rows,
                    pl.col(day) != pl.col("expected"),
                    dataset=dataset,
                    subject=trial.subject,
                    variable=day,
                    visit="AVISIT",
                    value=pl.col(day),
                    detail=pl.format("{} is day {}", pl.col(when).cast(pl.String), pl.col("expected")),
                )
            )
    return merge(*parts) if parts else skip("no data set has a study day with its date")


@rule(
    "REL-D04",
    Severity.ERROR,
    title="Nothing before birth or entry",
    examines="dates",
    states="Nothing is dated before birth, and no assessment before consent or the first visit.",
)
def assessments_before_entry(trial: Trial) -> Examination:
    """Check that nothing is dated before birth, and no assessment before consent or the first visit."""
    parts = []
    floors = [name for name in ("BRTHDT", "RFICDT", "VISIT1DT") if name in trial.subjects.columns]
    for dataset, raw in trial.records.items():
        if lacks(dataset, raw, trial.subject):
            continue
        frame = _with_subject_dates(trial, raw, *floors)
        for floor in floors:
            # Adverse events may have begun before consent (then they are not treatment-emergent), not before birth.
            whens = ("ADT", "STARTDT", *(("ASTDT", "AENDT") if floor == "BRTHDT" else ()))
            parts += [_order(trial, dataset, frame, floor, w) for w in whens if not lacks(dataset, frame, w, floor)]
    return merge(*parts) if parts else skip("ADSL has none of BRTHDT, RFICDT, VISIT1DT")


@rule(
    "REL-D05",
    Severity.ERROR,
    title="Visits follow each other in time",
    examines="pairs of visits",
    states="A later analysis visit was measured on a later date.",
)
def visits_out_of_order(trial: Trial) -> Examination:
    """Check that a later analysis visit was measured on a later date."""
    order = {visit.name: float(i) for i, visit in enumerate(trial.layout.visits)}

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        when = date_of(frame)
        if not when:
            return skip(f"{dataset} has neither ADT nor ADY")
        rows = measured(trial.analysed(frame)).filter(pl.col("AVISIT").is_in(list(order)) & pl.col(when).is_not_null())
        rows = rows.with_columns(pl.col("AVISIT").replace_strict(order, return_dtype=pl.Float64).alias("__order"))
        key = [trial.subject, "PARAMCD"]
        rows = rows.sort(*key, "__order", maintain_order=True)
        before = pl.col(when).shift(1).over(key)
        rows = rows.with_columns(before.alias("__before"), pl.col("AVISIT").shift(1).over(key).alias("__visit"))
        return judge(
            rows.filter(pl.col("__before").is_not_null() & (pl.col("AVISIT") != pl.col("__visit"))),
            pl.col(when) <= pl.col("__before"),
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            visit="AVISIT",
            value=pl.col(when),
            detail=pl.format("not after {} of {}", pl.col("__before").cast(pl.String), pl.col("__visit")),
        )

    needs = (trial.subject, "PARAMCD", "AVISIT", "AVAL")
    return examine_each(trial.findings, needs, examine, kind="findings data set")


@rule(
    "REL-D06",
    Severity.ERROR,
    title="No date after the cut-off",
    examines="dates",
    states="No date lies after the data cut-off.",
)
def dates_after_cutoff(trial: Trial) -> Examination:
    """Check that no date lies after the data cut-off."""
    if trial.cutoff is None:
        return skip("no data cut-off was given")
    parts = []
    for dataset, frame in trial.everything.items():
        if lacks(dataset, frame, trial.subject):
            continue
        for name, dtype in frame.schema.items():
            if dtype == pl.Date() and (dataset in trial.adsl or name not in trial.subjects.columns):
                parts.append(
                    judge(
                        frame.drop_nulls([name]),
                        pl.col(name) > trial.cutoff,
                        dataset=dataset,
                        subject=trial.subject,
                        variable=name,
                        visit="AVISIT",
                        value=pl.col(name),
                        detail=f"after the cut-off {trial.cutoff.isoformat()}",
                    )
                )
    return merge(*parts) if parts else skip("there are no dates")


@rule(
    "REL-D07",
    Severity.WARNING,
    title="Nothing after death",
    examines="dates of patients who died",
    states="Nobody is treated or assessed after dying: death is DTHDT, or the end of a fatal adverse event.",
)
def activity_after_death(trial: Trial) -> Examination:
    """Check that nobody is treated or assessed after dying: death is DTHDT, or the end of a fatal adverse event."""
    deaths = _deaths(trial)
    if deaths.is_empty():
        return skip("no date of death: no DTHDT, and no fatal adverse event with an end")
    parts = []
    for dataset, frame in trial.everything.items():
        for when in ("TRTEDT", "ADT", "ASTDT"):
            copied = dataset not in trial.adsl and when in trial.subjects.columns
            if copied or dataset in trial.times or lacks(dataset, frame, trial.subject, when):
                continue
            parts.append(
                judge(
                    frame.join(deaths, on=trial.subject, maintain_order="left").drop_nulls([when]),
                    pl.col(when) > pl.col("__death"),
                    dataset=dataset,
                    subject=trial.subject,
                    variable=when,
                    visit="AVISIT",
                    value=pl.col(when),
                    detail=pl.format("died {}", pl.col("__death").cast(pl.String)),
                )
            )
    return merge(*parts) if parts else skip("no data set dates treatment or assessments")


@rule(
    "REL-D08",
    Severity.NOTE,
    title="Assessments after treatment",
    examines="outcome records",
    states="Assessments more than a week after the last dose count for a treatment policy, and may not otherwise.",
)
def assessments_after_treatment(trial: Trial) -> Examination:
    """Describe assessments more than a week after the last dose."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        wanted = [outcome.paramcd for outcome in trial.outcomes if outcome.dataset == dataset]
        rows = measured(trial.analysed(frame)).filter(pl.col("PARAMCD").is_in(wanted))
        rows = _with_subject_dates(trial, rows, "TRTEDT")
        if lacks(dataset, rows, "TRTEDT"):
            return skip("no data set has TRTEDT")
        rows = rows.drop_nulls(["ADT", "TRTEDT"])
        rows = rows.with_columns((pl.col("ADT") - pl.col("TRTEDT")).dt.total_days().alias("late"))
        return judge(
            rows,
            pl.col("late") > 7,
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            visit="AVISIT",
            value=pl.col("ADT"),
            detail=pl.format("{} days after the last dose", pl.col("late")),
        )

    needs = (trial.subject, "PARAMCD", "AVAL", "ADT")
    return examine_each(trial.findings, needs, examine, kind="findings data set")


def study_day(when: str, start: str = "TRTSDT") -> pl.Expr:
    """Study day of a date as ADaM counts: the first dose is day 1, the day before it is day −1."""
    days = (pl.col(when) - pl.col(start)).dt.total_days()
    return pl.when(days >= 0).then(days + 1).otherwise(days)


def _with_subject_dates(trial: Trial, frame: pl.DataFrame, *names: str) -> pl.DataFrame:
    """Add dates of ADSL to a data set that does not carry copies of them."""
    absent = [name for name in names if name not in frame.columns and name in trial.subjects.columns]
    if not absent or trial.subject not in trial.subjects.columns:
        return frame
    dates = trial.subjects.select(trial.subject, *absent).unique(trial.subject, maintain_order=True)
    return frame.join(dates, on=trial.subject, how="left", maintain_order="left")


def _order(trial: Trial, dataset: str, frame: pl.DataFrame, early: str, late: str) -> Examination:
    """Judge that the second date is not before the first, where both are known."""
    return judge(
        frame.drop_nulls([early, late]),
        pl.col(late) < pl.col(early),
        dataset=dataset,
        subject=trial.subject,
        variable=late,
        visit="AVISIT",
        value=pl.col(late),
        detail=pl.format("before {} {}", pl.lit(early), pl.col(early).cast(pl.String)),
    )


def _deaths(trial: Trial) -> pl.DataFrame:
    """Subjects with the date on which they died."""
    parts = []
    for dataset, frame in trial.adsl.items():
        if not lacks(dataset, frame, trial.subject, "DTHDT"):
            parts.append(frame.select(trial.subject, pl.col("DTHDT").alias("__death")))
    for dataset, frame in trial.events.items():
        if not lacks(dataset, frame, trial.subject, "AEOUT", "AENDT"):
            fatal = frame.filter(pl.col("AEOUT") == "FATAL")
            parts.append(fatal.select(trial.subject, pl.col("AENDT").alias("__death")))
    if not parts:
        return pl.DataFrame()
    rows = pl.concat(parts).drop_nulls()
    return rows.group_by(trial.subject, maintain_order=True).agg(pl.col("__death").min())
