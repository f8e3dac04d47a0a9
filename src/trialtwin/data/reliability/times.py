"""Rules on times to event: whole, not negative, in step with their dates, and traceable to their source."""

import polars as pl

from trialtwin.data.reliability.rule import Examination, Severity, Trial, examine_each, judge, lacks, merge, rule, skip

# Days a unit, and whether the day of start counts: the ways in which ADTTE writes a time.
CONVENTIONS = tuple((days, extra) for days in (1.0, 7.0, 30.4375, 365.25) for extra in (1.0, 0.0))


@rule(
    "REL-E01",
    Severity.ERROR,
    title="Times to event are well formed",
    examines="times to event",
    states="A time to event is known, not negative and not before the start; its censoring is a whole number from 0.",
)
def times_malformed(trial: Trial) -> Examination:
    """Check that a time to event is known, not negative and not before the start, and its censoring a whole number."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        cnsr = pl.col("CNSR")
        bad = pl.col("AVAL").is_null() | (pl.col("AVAL") < 0)
        bad = bad | cnsr.is_null() | (cnsr < 0) | (cnsr != cnsr.floor())
        if not lacks(dataset, frame, "ADT", "STARTDT"):
            bad = bad | (pl.col("ADT") < pl.col("STARTDT")).fill_null(value=False)
        return judge(
            frame,
            bad,
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            value=pl.col("AVAL"),
            detail=pl.format(
                "censoring {}; a time before the start, unknown, or with an unknown censoring",
                cnsr.cast(pl.String).fill_null("blank"),
            ),
        )

    needs = (trial.subject, "PARAMCD", "AVAL", "CNSR")
    return examine_each(trial.times, needs, examine, kind="time-to-event data set")


@rule(
    "REL-E02",
    Severity.ERROR,
    title="No event before randomisation",
    examines="times to event",
    states="No event or censoring is dated before randomisation (before the first dose where that is all ADSL knows).",
)
def event_before_randomisation(trial: Trial) -> Examination:
    """Check that no event or censoring is dated before randomisation, or before the first dose without RANDDT."""
    start = next((name for name in ("RANDDT", "TRTSDT") if name in trial.subjects.columns), "")
    if not start:
        return skip("ADSL has neither RANDDT nor TRTSDT")

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        dates = trial.subjects.select(trial.subject, pl.col(start).alias("__start")).unique(trial.subject)
        rows = frame.join(dates, on=trial.subject, how="left", maintain_order="left").drop_nulls(["ADT", "__start"])
        return judge(
            rows,
            pl.col("ADT") < pl.col("__start"),
            dataset=dataset,
            subject=trial.subject,
            variable=pl.col("PARAMCD"),
            value=pl.col("ADT"),
            detail=pl.format("before {} {}", pl.lit(start), pl.col("__start").cast(pl.String)),
        )

    return examine_each(trial.times, (trial.subject, "PARAMCD", "ADT"), examine, kind="time-to-event data set")


@rule(
    "REL-E03",
    Severity.ERROR,
    title="Times to event agree with dates",
    examines="times to event",
    states="Times agree with their dates, in the convention that most records of the parameter follow.",
)
def times_off_their_dates(trial: Trial) -> Examination:
    """Check that times agree with their dates, in the convention that most records of the parameter follow.

    Conventions tried: days, weeks, months (30.4375 days) or years (365.25 days) from start, the first day counted or
    not. A parameter that follows none in at least half of its records is not judged, and that is said.
    """

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        rows = frame.drop_nulls(["AVAL", "ADT", "STARTDT"])
        parts = []
        for (paramcd,), mine in rows.group_by("PARAMCD", maintain_order=True):
            days = (pl.col("ADT") - pl.col("STARTDT")).dt.total_days()
            ways = [(days + extra) / unit for unit, extra in CONVENTIONS]
            fits = [
                float(mine.select(_close(way, unit).mean()).item())
                for way, (unit, _) in zip(ways, CONVENTIONS, strict=True)
            ]
            best = max(range(len(ways)), key=fits.__getitem__)
            if fits[best] < 0.5:
                parts.append(skip(f"{paramcd}: times follow no known convention of their dates"))
                continue
            parts.append(
                judge(
                    mine,
                    ~_close(ways[best], CONVENTIONS[best][0]),
                    dataset=dataset,
                    subject=trial.subject,
                    variable=pl.col("PARAMCD"),
                    value=pl.col("AVAL"),
                    detail=pl.format("dates give {}", ways[best].round(2)),
                )
            )
        return merge(*parts)

    needs = (trial.subject, "PARAMCD", "AVAL", "ADT", "STARTDT")
    return examine_each(trial.times, needs, examine, kind="time-to-event data set")


@rule(
    "REL-E04",
    Severity.ERROR,
    title="Events are traced to their source",
    examines="events with a source",
    states="An event traced to a record of another data set (SRCDOM, SRCVAR, SRCSEQ) has its date from that record.",
)
def event_source_absent(trial: Trial) -> Examination:
    """Check that an event traced to an adverse event (SRCDOM, SRCVAR, SRCSEQ) has its date from that record."""
    sources = {
        name: frame
        for name, frame in trial.events.items()
        if not lacks(name, frame, trial.subject, "AESEQ", "ASTDT", "AENDT")
    }

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        parts = []
        for name, source in sources.items():
            for variable in ("ASTDT", "AENDT"):
                mine = frame.filter(
                    (pl.col("SRCDOM") == name) & (pl.col("SRCVAR") == variable) & pl.col("SRCSEQ").is_not_null()
                )
                dates = source.select(trial.subject, pl.col("AESEQ").alias("SRCSEQ"), pl.col(variable).alias("__date"))
                dates = dates.unique([trial.subject, "SRCSEQ"], maintain_order=True)
                rows = mine.join(dates, on=[trial.subject, "SRCSEQ"], how="left", maintain_order="left")
                parts.append(
                    judge(
                        rows,
                        pl.col("__date").ne_missing(pl.col("ADT")),
                        dataset=dataset,
                        subject=trial.subject,
                        variable=pl.col("PARAMCD"),
                        value=pl.col("ADT"),
                        detail=pl.format(
                            "its source {} is dated {}",
                            pl.format("{} {}", pl.lit(name), pl.col("SRCSEQ").cast(pl.Int64)),
                            pl.col("__date").cast(pl.String).fill_null("nothing"),
                        ),
                    )
                )
        return merge(*parts) if parts else skip("no adverse event data set to trace to")

    needs = (trial.subject, "PARAMCD", "ADT", "SRCDOM", "SRCVAR", "SRCSEQ")
    return examine_each(trial.times, needs, examine, kind="time-to-event data set")


def _close(expected: pl.Expr, unit: float) -> pl.Expr:
    """Within the rounding that times in this unit are written with."""
    return (pl.col("AVAL") - expected).abs() <= (1e-6 if unit == 1.0 else 0.06)
