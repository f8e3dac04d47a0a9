"""Rules on what binds the data sets together: subjects, copies of ADSL's variables, populations and disposition."""

import re

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

TREATMENT_COPIES = {"TRTP": "TRT01P", "TRTPN": "TRT01PN", "TRTA": "TRT01A", "TRTAN": "TRT01AN"}


@rule(
    "REL-K01",
    Severity.ERROR,
    title="Subjects stand in ADSL",
    examines="subjects by data set",
    states="Every subject of a data set stands in ADSL.",
)
def subjects_unknown(trial: Trial) -> Examination:
    """Check that every subject of a data set stands in ADSL."""
    known = trial.subjects[trial.subject].drop_nulls().to_list()
    return examine_each(
        trial.records,
        (trial.subject,),
        lambda dataset, frame: judge(
            frame.select(trial.subject).unique(maintain_order=True),
            ~pl.col(trial.subject).is_in(known) | pl.col(trial.subject).is_null(),
            dataset=dataset,
            subject=trial.subject,
            variable=trial.subject,
            value=pl.col(trial.subject),
            detail=f"{dataset} has records of a subject whom ADSL does not list",
        ),
    )


@rule(
    "REL-K02",
    Severity.WARNING,
    title="Patients have endpoint records",
    examines="patients in an arm",
    states="Every patient in an arm has a measured record of each outcome.",
)
def endpoint_absent(trial: Trial) -> Examination:
    """Check that every patient in an arm has a measured record of each outcome."""
    parts = []
    for outcome in trial.outcomes:
        frame = trial.findings[outcome.dataset]
        if reason := lacks(outcome.dataset, frame, trial.subject, "PARAMCD", "AVAL"):
            parts.append(skip(reason))
            continue
        have = measured(frame).filter(pl.col("PARAMCD") == outcome.paramcd)[trial.subject].to_list()
        parts.append(
            judge(
                trial.arms,
                ~pl.col("subject").is_in(have),
                dataset=outcome.dataset,
                subject="subject",
                variable=outcome.paramcd,
                detail=pl.format("in arm {}, never measured", pl.col("arm")),
            )
        )
    return merge(*parts) if parts else skip("no outcome is measured over time")


@rule(
    "REL-K03",
    Severity.ERROR,
    title="Copies of ADSL's variables agree",
    examines="subject-level values copied",
    states="Variables that a data set copies from ADSL have ADSL's values.",
)
def copies_differ(trial: Trial) -> Examination:
    """Check that variables that a data set copies from ADSL have ADSL's values."""
    parts = []
    adsl = trial.subjects
    for dataset, frame in trial.records.items():
        if lacks(dataset, frame, trial.subject):
            continue
        sources = {name: TREATMENT_COPIES.get(name, name) for name in frame.columns if name != trial.subject}
        for name, source in sources.items():
            if source not in adsl.columns or adsl.schema[source] != frame.schema[name]:
                continue
            truth = adsl.select(trial.subject, pl.col(source).alias("__adsl")).unique(trial.subject)
            rows = frame.select(trial.subject, name).unique(maintain_order=True)
            parts.append(
                judge(
                    rows.join(truth, on=trial.subject, maintain_order="left"),
                    pl.col(name).ne_missing(pl.col("__adsl")),
                    dataset=dataset,
                    subject=trial.subject,
                    variable=name,
                    value=pl.col(name),
                    detail=pl.format("ADSL has {}", pl.col("__adsl").cast(pl.String).fill_null("a blank")),
                )
            )
    return merge(*parts) if parts else skip("no data set copies a variable of ADSL")


@rule(
    "REL-K04",
    Severity.WARNING,
    title="Population flags agree with the data",
    examines="flags",
    states="Population flags agree with treatment, randomisation and measurements.",
)
def populations_contradicted(trial: Trial) -> Examination:
    """Check that population flags agree with treatment, randomisation and measurements."""
    parts = []
    frame, subject = trial.subjects, trial.subject
    post = pl.concat([_measured_later(trial), pl.DataFrame(schema={"subject": pl.String()})])["subject"].to_list()
    claims = (
        ("SAFFL", "TRTSDT", pl.col("TRTSDT").is_null(), "and has no first dose"),
        ("ITTFL", trial.layout.arm, pl.col(trial.layout.arm).is_null(), "and is in no arm"),
        ("EFFFL", subject, ~pl.col(subject).is_in(post), "and has no outcome measured after baseline"),
    )
    for flag, needed, bad, words in claims:
        if flag not in frame.columns or needed not in frame.columns:
            parts.append(skip(f"ADSL has no {flag if flag not in frame.columns else needed}"))
            continue
        rows = frame.filter(pl.col(flag) == "Y")
        parts.append(judge(rows, bad, dataset="ADSL", subject=subject, variable=flag, value=pl.col(flag), detail=words))
    return merge(*parts)


@rule(
    "REL-K05",
    Severity.WARNING,
    title="Disposition is told in one way",
    examines="flags",
    states="Completion, discontinuation and death say the same in every variable of ADSL.",
)
def disposition_contradicted(trial: Trial) -> Examination:
    """Check that completion, discontinuation and death say the same in every variable of ADSL."""
    frame, subject = trial.subjects, trial.subject
    if lacks("ADSL", frame, subject, "DCDECOD"):
        return skip("ADSL has no DCDECOD")
    done = pl.col("DCDECOD") == "COMPLETED"
    claims = [
        ("DISCONFL", done == pl.col("DISCONFL").eq_missing("Y"), "DISCONFL does not agree with the disposition"),
        ("DTHFL", (pl.col("DCDECOD") == "DEATH") & ~pl.col("DTHFL").eq_missing("Y"), "left by death, without DTHFL"),
    ]
    claims += [
        (name, done & ~pl.col(name).eq_missing("Y"), f"completed, and {name} is not Y")
        for name in frame.columns
        if re.fullmatch(r"COMP\d+FL", name)
    ]
    parts = []
    for name, bad, words in claims:
        if name in frame.columns:
            rows = frame.drop_nulls(["DCDECOD"])
            parts.append(
                judge(rows, bad, dataset="ADSL", subject=subject, variable=name, value=pl.col("DCDECOD"), detail=words)
            )
    return merge(*parts) if parts else skip("ADSL has DCDECOD and no flag to compare it with")


@rule(
    "REL-K06",
    Severity.NOTE,
    title="Treatment received is the one planned",
    examines="patients",
    states="Patients who received another treatment than was planned for them.",
)
def planned_not_received(trial: Trial) -> Examination:
    """Describe patients who received another treatment than was planned for them."""
    return examine_each(
        trial.adsl,
        (trial.subject, "TRT01P", "TRT01A"),
        lambda dataset, frame: judge(
            frame.drop_nulls(["TRT01P", "TRT01A"]),
            pl.col("TRT01P") != pl.col("TRT01A"),
            dataset=dataset,
            subject=trial.subject,
            variable="TRT01A",
            value=pl.col("TRT01A"),
            detail=pl.format("planned {}", pl.col("TRT01P")),
        ),
    )


def _measured_later(trial: Trial) -> pl.DataFrame:
    """Subjects with an outcome measured at a visit after the first."""
    first = trial.layout.visits[0].name
    parts = [pl.DataFrame(schema={"subject": pl.String()})]
    for outcome in trial.outcomes:
        frame = trial.findings[outcome.dataset]
        if lacks(outcome.dataset, frame, trial.subject, "PARAMCD", "AVISIT", "AVAL"):
            continue
        rows = measured(frame).filter((pl.col("PARAMCD") == outcome.paramcd) & (pl.col("AVISIT") != first))
        parts.append(rows.select(subject=trial.subject))
    return pl.concat(parts).unique(maintain_order=True)
