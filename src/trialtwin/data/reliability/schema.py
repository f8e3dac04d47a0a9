"""Rules on the shape of the tables: variables, storage, controlled terms, and what the layout promises."""

from collections.abc import Mapping

import polars as pl

from trialtwin.core.variables import Kind
from trialtwin.data.dataset import DTYPES
from trialtwin.data.reliability.rule import Examination, Frames, Severity, Trial, judge, merge, rule, skip
from trialtwin.data.reliability.standard import DERIVATIONS, TERMS, YES_NO, is_flag


@rule(
    "REL-S01",
    Severity.ERROR,
    title="Variables needed are present",
    examines="variables needed",
    states="Every variable that the layout or an analysis needs is there.",
)
def variables_absent(trial: Trial) -> Examination:
    """Check that every variable that the layout or an analysis needs is there."""
    rows = []
    for dataset, names in _needed(trial).items():
        frame = trial.raw.get(dataset)
        if frame is None:
            rows.append((dataset, "", True, f"data set {dataset} is absent"))
            continue
        rows += [(dataset, name, name not in frame.columns, f"{dataset} has no {name}") for name in names]
    return _judge_rows(rows)


@rule(
    "REL-S02",
    Severity.ERROR,
    title="Variables are stored as their names promise",
    examines="variables",
    states="Every variable is stored as its name promises: dates as dates, flags as characters, numbers as numbers.",
)
def storage_wrong(trial: Trial) -> Examination:
    """Check that dates are stored as dates, flags and codes as characters, numbers as numbers."""
    numeric = {v.name for v in trial.layout.covariates if v.kind in (Kind.CONTINUOUS, Kind.COUNT, Kind.ORDINAL)}
    numeric |= {o.variable.name for o in trial.layout.outcomes if not o.paramcd}
    rows = []
    for dataset, frame in trial.raw.items():
        for name, dtype in frame.schema.items():
            wanted = trial.storage(name)
            expected = DTYPES[wanted] if wanted is not None else None
            if expected is None and dataset in trial.adsl and name in numeric:
                expected = pl.Float64()
            if expected is not None:
                rows.append((dataset, name, dtype != expected, f"stored as {dtype}, not as {expected}"))
    return _judge_rows(rows)


@rule(
    "REL-S03",
    Severity.WARNING,
    title="Values are CDISC controlled terms",
    examines="coded values",
    states="Values with a CDISC code list are in it: sex, age unit, ethnicity, race, severity, outcome, DTYPE, flags.",
)
def terms_unknown(trial: Trial) -> Examination:
    """Check that values with a CDISC code list are in it."""
    parts = []
    for dataset, frame in _own_columns(trial).items():
        for name in frame.columns:
            if frame.schema[name] != pl.String() or name == trial.subject:
                continue
            terms = YES_NO if is_flag(name) else DERIVATIONS if name == "DTYPE" else TERMS.get(name)
            if terms is not None:
                parts.append(_in_terms(trial, dataset, frame, name, terms))
    return merge(*parts) if parts else skip("no variable has a CDISC code list")


@rule(
    "REL-S04",
    Severity.WARNING,
    title="Arms and terms are the layout's",
    examines="coded values",
    states="Arms and study-specific terms are those that the layout lists.",
)
def layout_terms_unknown(trial: Trial) -> Examination:
    """Check that arms and study-specific terms are those that the layout lists."""
    lists: dict[str, tuple[str, ...]] = {v.name: v.levels for v in trial.layout.covariates if v.levels}
    lists |= {name: tuple(terms) for name, terms in trial.layout.terms.items()}
    lists[trial.layout.arm] = trial.layout.arms
    parts = []
    for dataset, frame in _own_columns(trial).items():
        for name, terms in lists.items():
            if name in frame.columns and frame.schema[name] == pl.String():
                parts.append(_in_terms(trial, dataset, frame, name, terms))
    return merge(*parts) if parts else skip("no variable has terms in the layout")


@rule(
    "REL-S05",
    Severity.ERROR,
    title="Visits, parameters, arms of the layout occur",
    examines="things promised",
    states="Every parameter, analysis visit and arm of the layout occurs in the data.",
)
def promised_absent(trial: Trial) -> Examination:
    """Check that every parameter, analysis visit and arm of the layout occurs in the data."""
    rows = []
    for outcome in trial.outcomes:
        frame = trial.findings[outcome.dataset]
        if not {"PARAMCD", "AVISIT"} <= set(frame.columns):
            continue
        mine = frame.filter(pl.col("PARAMCD") == outcome.paramcd)
        wanted = f"{outcome.dataset} has no record of {outcome.paramcd}"
        rows.append((outcome.dataset, "PARAMCD", mine.is_empty(), wanted))
        visits = set(trial.analysed(mine)["AVISIT"])
        rows += [
            (outcome.dataset, "AVISIT", v.name not in visits, f"no analysed {outcome.paramcd} at {v.name!r}")
            for v in trial.layout.visits
        ]
    present = set(trial.arms["arm"])
    rows += [("ADSL", trial.layout.arm, arm not in present, f"nobody in arm {arm!r}") for arm in trial.layout.arms]
    return _judge_rows(rows)


@rule(
    "REL-S06",
    Severity.WARNING,
    title="Names and numbers go one to one",
    examines="pairs",
    states="A name and its number or code (AVISIT and AVISITN, PARAM and PARAMCD, TRTP and TRTPN) go one to one.",
)
def names_and_numbers_mixed(trial: Trial) -> Examination:
    """Check that a name and its number or code go together one to one."""
    parts = []
    for dataset, frame in trial.everything.items():
        pairs = [(name, f"{name}N") for name in frame.columns if frame.schema[name] == pl.String()]
        pairs += [("PARAMCD", "PARAMN"), ("PARAM", "PARAMCD")]
        for name, other in dict.fromkeys(pairs):
            if name in frame.columns and other in frame.columns:
                parts.append(_one_to_one(dataset, frame, name, other))
    return merge(*parts)


def _needed(trial: Trial) -> Mapping[str, tuple[str, ...]]:
    """Variables that an analysis reads, by data set."""
    layout = trial.layout
    adsl = [layout.subject, layout.arm, layout.site, "TRTSDT"]
    adsl += [v.name for v in layout.covariates]
    adsl += [o.variable.name for o in layout.outcomes if not o.paramcd]
    needed = {name: tuple(dict.fromkeys(adsl)) for name in trial.adsl}
    bds = (layout.subject, "PARAMCD", "AVISIT", "AVAL", layout.record_flag)
    needed |= {o.dataset.upper(): bds for o in layout.outcomes if o.paramcd}
    needed |= dict.fromkeys(trial.events, (layout.subject, "AEDECOD", "ASTDT"))
    needed |= dict.fromkeys(trial.times, (layout.subject, "PARAMCD", "AVAL", "CNSR"))
    return needed


def _own_columns(trial: Trial) -> Frames:
    """Return data sets without the columns that are copies of ADSL's, which another rule compares with ADSL."""
    copies = [name for name in trial.subjects.columns if name != trial.subject]
    return {**trial.adsl, **{name: frame.drop(copies, strict=False) for name, frame in trial.records.items()}}


def _in_terms(trial: Trial, dataset: str, frame: pl.DataFrame, name: str, terms: tuple[str, ...]) -> Examination:
    """Judge the values of one column, blanks left out."""
    return judge(
        frame.filter(pl.col(name).is_not_null()),
        ~pl.col(name).is_in(list(terms)),
        dataset=dataset,
        subject=trial.subject if trial.subject in frame.columns else None,
        variable=name,
        visit="AVISIT",
        value=pl.col(name),
        detail="not among " + ", ".join(terms[:8]) + (" …" if len(terms) > 8 else ""),
    )


def _one_to_one(dataset: str, frame: pl.DataFrame, name: str, other: str) -> Examination:
    """Judge the distinct pairs of two columns."""
    pairs = frame.select(name, pl.col(other).cast(pl.String)).drop_nulls().unique(maintain_order=True)
    twice = pl.col(name).is_duplicated() | pl.col(other).is_duplicated()
    return judge(
        pairs,
        twice,
        dataset=dataset,
        subject=None,
        variable=name,
        value=pl.col(name),
        detail=pl.concat_str(pl.lit(f"goes with {other} "), pl.col(other), pl.lit(", not one to one")),
    )


def _judge_rows(rows: list[tuple[str, str, bool, str]]) -> Examination:
    """Judge things of the data set as a whole, given as (data set, variable, bad, detail)."""
    frame = pl.DataFrame(rows, schema=["dataset", "variable", "bad", "detail"], orient="row")
    parts = [
        judge(
            mine, pl.col("bad"), dataset=str(name), subject=None, variable=pl.col("variable"), detail=pl.col("detail")
        )
        for (name,), mine in frame.group_by("dataset", maintain_order=True)
    ]
    return merge(*parts) if parts else skip("there is nothing to examine")
