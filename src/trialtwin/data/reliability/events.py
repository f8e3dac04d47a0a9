"""Rules on adverse events: their dates, flags, seriousness and outcomes."""

import polars as pl

from trialtwin.data.reliability.rule import Examination, Severity, Trial, examine_each, judge, rule
from trialtwin.data.reliability.standard import SERIOUS

LONG_BEFORE = 365


@rule(
    "REL-A01",
    Severity.ERROR,
    title="Adverse events end after they start",
    examines="adverse events",
    states="An adverse event does not end before it starts.",
)
def event_ends_before_start(trial: Trial) -> Examination:
    """Check that an adverse event does not end before it starts."""
    return _judge_events(
        trial,
        ("ASTDT", "AENDT"),
        pl.col("AENDT") < pl.col("ASTDT"),
        variable="AENDT",
        detail=pl.format("starts {}", pl.col("ASTDT").cast(pl.String)),
    )


@rule(
    "REL-A02",
    Severity.WARNING,
    title="Adverse events have a start",
    examines="adverse events",
    states="The start of an adverse event is known, so that it can be placed before or after the first dose.",
)
def event_start_unknown(trial: Trial) -> Examination:
    """Check that the start of an adverse event is known, so that it can be placed before or after the first dose."""
    return _judge_events(
        trial, (), pl.col("ASTDT").is_null(), wants=("ASTDT", "AEDECOD"), variable="ASTDT", detail=pl.col("AEDECOD")
    )


@rule(
    "REL-A03",
    Severity.WARNING,
    title="Treatment emergence agrees with dates",
    examines="adverse events",
    states="The treatment-emergent flag agrees with the dates: not Y before the first dose, not N while on treatment.",
)
def emergence_wrong(trial: Trial) -> Examination:
    """Check that the treatment-emergent flag is not Y before the first dose, and not N while on treatment."""
    before = pl.col("ASTDT") < pl.col("TRTSDT")
    during = (pl.col("ASTDT") >= pl.col("TRTSDT")) & (pl.col("ASTDT") <= pl.col("TRTEDT"))
    yes = pl.col("TRTEMFL").eq_missing("Y")
    return _judge_events(
        trial,
        ("ASTDT", "TRTSDT", "TRTEDT"),
        (before & yes) | (during & ~yes),
        wants=("TRTEMFL",),
        variable="TRTEMFL",
        detail=pl.format("starts {}, first dose {}", pl.col("ASTDT").cast(pl.String), pl.col("TRTSDT").cast(pl.String)),
    )


@rule(
    "REL-A04",
    Severity.WARNING,
    title="Adverse events are not history",
    examines="adverse events",
    states="An adverse event that began more than a year before the first dose belongs to the medical history.",
)
def event_long_before_treatment(trial: Trial) -> Examination:
    """Check that an adverse event that began more than a year before the first dose belongs to the medical history."""
    days = (pl.col("TRTSDT") - pl.col("ASTDT")).dt.total_days()
    return _judge_events(
        trial,
        ("ASTDT", "TRTSDT"),
        days > LONG_BEFORE,
        variable="ASTDT",
        detail=pl.format("{} days before the first dose", days),
    )


@rule(
    "REL-A05",
    Severity.WARNING,
    title="Seriousness agrees with its criteria",
    examines="adverse events",
    states="An event is serious if, and only if, it meets a criterion of seriousness (ICH E2A).",
)
def seriousness_contradicted(trial: Trial) -> Examination:
    """Check that an event is serious if, and only if, it meets a criterion of seriousness (ICH E2A)."""
    parts = [name for name in SERIOUS if all(name in frame.columns for frame in trial.events.values())]
    met = pl.any_horizontal([pl.col(name).eq_missing("Y") for name in parts]) if parts else pl.lit(value=False)
    serious = pl.col("AESER").eq_missing("Y")
    met_names = [pl.when(pl.col(name).eq_missing("Y")).then(pl.lit(name)) for name in parts]
    named = pl.concat_str(met_names, separator=", ", ignore_nulls=True) if parts else pl.lit("")
    return _judge_events(
        trial,
        ("AESER",),
        serious != met,
        wants=("AESER", "AESDTH"),
        variable="AESER",
        detail=pl.when(serious).then(pl.lit("serious, and meets no criterion")).otherwise(pl.format("meets {}", named)),
    )


@rule(
    "REL-A06",
    Severity.WARNING,
    title="Deaths are told in one way",
    examines="adverse events",
    states="A fatal outcome, the criterion of death, and the death flag of ADSL agree.",
)
def death_contradicted(trial: Trial) -> Examination:
    """Check that a fatal outcome, the criterion of death, and the death flag of ADSL agree."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        dead = trial.subjects.filter(pl.col("DTHFL") == "Y") if "DTHFL" in trial.subjects.columns else None
        fatal, criterion = pl.col("AEOUT") == "FATAL", pl.col("AESDTH").eq_missing("Y")
        bad, rows = fatal != criterion, frame.filter(pl.col("AEOUT").is_not_null())
        if dead is not None:
            bad = bad | (fatal & ~pl.col(trial.subject).is_in(dead[trial.subject].to_list()))
        return judge(
            rows,
            bad,
            dataset=dataset,
            subject=trial.subject,
            variable="AEOUT",
            value=pl.col("AEOUT"),
            detail=pl.format("AESDTH is {}; the death flag of ADSL must agree", pl.col("AESDTH").fill_null("blank")),
        )

    needs = (trial.subject, "AEOUT", "AESDTH")
    return examine_each(trial.events, needs, examine, kind="adverse event data set")


@rule(
    "REL-A07",
    Severity.WARNING,
    title="Outcome agrees with the end date",
    examines="adverse events",
    states="An event with an end is not 'not recovered', and one that has recovered has an end.",
)
def ended_not_resolved(trial: Trial) -> Examination:
    """Check that an event with an end is not 'not recovered', and one that has recovered has an end."""
    ended = pl.col("AENDT").is_not_null()
    open_ended = pl.col("AEOUT") == "NOT RECOVERED/NOT RESOLVED"
    closed = pl.col("AEOUT").is_in(["RECOVERED/RESOLVED", "RECOVERED/RESOLVED WITH SEQUELAE", "FATAL"])
    return _judge_events(
        trial,
        ("AEOUT",),
        (ended & open_ended) | (~ended & closed),
        wants=("AENDT",),
        variable="AEOUT",
        detail=pl.when(ended)
        .then(pl.format("ended {}", pl.col("AENDT").cast(pl.String)))
        .otherwise(pl.lit("has no end date")),
    )


def _judge_events(
    trial: Trial,
    known: tuple[str, ...],
    bad: pl.Expr,
    *,
    variable: str,
    detail: pl.Expr,
    wants: tuple[str, ...] = (),
) -> Examination:
    """Judge the rows of the adverse event data set in which the variables named in ``known`` are not blank."""

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        return judge(
            frame.drop_nulls(list(known)) if known else frame,
            bad,
            dataset=dataset,
            subject=trial.subject,
            variable=variable,
            value=pl.col(variable),
            detail=detail,
        )

    return examine_each(trial.events, (trial.subject, *known, *wants), examine, kind="adverse event data set")
