"""A study file to start from: the example's, or one filled in from a folder of ADaM data sets."""

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.data.cdisc import SUFFIXES, read_dataset
from trialtwin.data.dataset import DataSet, Storage
from trialtwin.study.example import example_text

MOST_COVARIATES = 8
_CONCEPTS = {"AGE": "age", "SEX": "sex", "APOE4": "APOE4"}
_COVARIATES = ("AGE", "SEX", "EDUCLVL", "DURDIS", "BMIBL", "APOE4", "WEIGHTBL", "HEIGHTBL")


@dataclass(frozen=True)
class _Found:
    """The data sets of a folder by the role that their columns give them."""

    subjects: tuple[str, DataSet]
    findings: dict[str, DataSet]
    events: str | None
    times: str | None


def fill_in(folder: Path | None, paramcd: str | None) -> str:
    """Return the text of a study file.

    Without a folder it is the example trial's. With one, arms, visits and windows, a population flag, covariates and
    the parameter are read from the data sets, and what only people know is marked EDIT.

    Raises
    ------
    DataError
        If the folder has no subject data set, or none with parameters over visits.
    MismatchError
        If the parameter does not exist; the message lists those that do.
    """
    if folder is None:
        return example_text()
    found = _look(folder)
    name, bds = _endpoint_set(found, paramcd)
    code = paramcd or _likeliest(bds)
    rows = bds.frame.filter(pl.col("PARAMCD") == code)
    label = str(rows["PARAM"][0]) if "PARAM" in rows.columns else code
    visits = _visits(rows)
    last = visits[-1][0]
    sections = [
        _head(found, name),
        _arms(found.subjects[1]),
        _population(found.subjects[1]),
        *(_visit(*visit) for visit in visits),
        _outcome(code, name, label),
        *_covariates(found.subjects[1]),
        _tail(code, last, label),
    ]
    return "\n".join(sections)


def _look(folder: Path) -> _Found:
    """Read every data set of a folder and tell ADSL, BDS, ADAE and ADTTE apart by their columns."""
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not files:
        raise DataError(f"no data sets in {folder}", do=f"give a folder with files in one of {', '.join(SUFFIXES)}")
    subjects: tuple[str, DataSet] | None = None
    findings: dict[str, DataSet] = {}
    events = times = None
    for file in files:
        dataset = read_dataset(file)
        columns, name = set(dataset.frame.columns), file.stem
        if {"PARAMCD", "AVAL", "CNSR"} <= columns:
            times = name
        elif {"PARAMCD", "AVAL", "AVISIT"} <= columns:
            findings[name] = dataset
        elif {"USUBJID", "AEDECOD"} <= columns:
            events = name
        elif "USUBJID" in columns and {"TRT01P", "ARM"} & columns and dataset.frame["USUBJID"].is_unique().all():
            subjects = (name, dataset)
    if subjects is None or not findings:
        missing = (
            "subject data set (USUBJID once, TRT01P or ARM)" if subjects is None else "data set with AVISIT and AVAL"
        )
        raise DataError(f"no {missing} in {folder}", exists=[file.name for file in files])
    return _Found(subjects, findings, events, times)


def _endpoint_set(found: _Found, paramcd: str | None) -> tuple[str, DataSet]:
    """Choose the data set that has the parameter; without one, the first whose records have changes from baseline."""
    if paramcd is not None:
        for name, dataset in found.findings.items():
            if paramcd in dataset.frame["PARAMCD"]:
                return name, dataset
        known = [str(c) for d in found.findings.values() for c in d.frame["PARAMCD"].unique(maintain_order=True)]
        raise MismatchError(f"no parameter {paramcd!r} in the folder", exists=known)
    with_change = [(n, d) for n, d in found.findings.items() if {"BASE", "CHG"} <= set(d.frame.columns)]
    return (with_change or list(found.findings.items()))[0]


def _likeliest(dataset: DataSet) -> str:
    """Choose a parameter whose code looks like a total, else the one with most records."""
    codes = dataset.frame["PARAMCD"].drop_nulls().value_counts(sort=True, name="n")["PARAMCD"].to_list()
    return str(next((code for code in codes if "TOT" in code), codes[0]))


def _visits(rows: pl.DataFrame) -> list[tuple[str, float, float | None, float | None]]:
    """Return name, target, low and high of each visit, by AVISITN or by target."""
    order = "AVISITN" if "AVISITN" in rows.columns else "ADY"
    columns = {"target": "AWTARGET", "low": "AWLO", "high": "AWHI"}
    terms = [pl.col(c).median().alias(n) for n, c in columns.items() if c in rows.columns]
    found = rows.drop_nulls("AVISIT").group_by("AVISIT").agg(pl.col(order).median().alias("_order"), *terms)
    named = found.sort("_order").to_dicts()
    return [(v["AVISIT"], v.get("target") or _day(v["_order"], order), v.get("low"), v.get("high")) for v in named]


def _day(value: float | None, order: str) -> float:
    """Guess a target day: weeks where visits are numbered, the median day where they are not."""
    number = value or 0.0
    return max(1.0, 7 * number + 1) if order == "AVISITN" else max(1.0, number)


def _text(value: str) -> str:
    """Quote a string for TOML, whose basic strings are JSON's."""
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    return f"{value:g}"


def _head(found: _Found, name: str) -> str:
    dataset = found.subjects[1]
    study = dataset.frame["STUDYID"][0] if "STUDYID" in dataset.frame.columns else "study"
    lines = ["# Written by 'trialtwin init' from the data sets; look at every line, above all those marked EDIT.", ""]
    lines += ["[study]", f"id = {_text(str(study).lower())}", 'title = "EDIT: title of the study"', "seed = 1", ""]
    lines += ["[data]", f"subjects = {_text(found.subjects[0])}", f"findings = [{_text(name)}]"]
    lines += [f"events = {_text(found.events)}"] if found.events else []
    lines += [f"times = {_text(found.times)}"] if found.times else []
    return "\n".join(lines) + "\n"


def _arms(dataset: DataSet) -> str:
    variable = "TRT01P" if "TRT01P" in dataset.frame.columns else "ARM"
    number = f"{variable}N"
    frame = dataset.frame.drop_nulls(variable)
    doses = number in frame.columns
    order = frame.sort(number if doses else variable, maintain_order=True)
    names = [str(arm) for arm in order[variable].unique(maintain_order=True)]
    words = ("placebo", "control", "vehicle")
    control = next((arm for arm in names if any(word in arm.lower() for word in words)), names[0])
    treated = [arm for arm in names if arm != control]
    lines = ["[arms]", f"variable = {_text(variable)}", f"control = {_text(control)}"]
    lines.append(f"treated = [{', '.join(map(_text, treated))}]")
    if doses:
        pairs = {arm: order.filter(pl.col(variable) == arm)[number][0] for arm in (control, *treated)}
        given = ", ".join(f"{_text(arm)} = {_number(dose)}" for arm, dose in pairs.items())
        lines += [f"# dose = {{ {given} }}   # EDIT: {number}, if it is the dose", '# dose_unit = "mg"']
    return "\n".join(lines) + "\n"


def _population(dataset: DataSet) -> str:
    flags = [flag for flag in ("EFFFL", "FASFL", "ITTFL") if flag in dataset.frame.columns]
    lines = ["[population]", f"name = {_text(flags[0] if flags else 'all subjects')}"]
    lines += [f"variable = {_text(flags[0])}"] if flags else []
    return "\n".join(lines) + "\n"


def _visit(name: str, target: float, low: float | None, high: float | None) -> str:
    lines = ["[[visits]]", f"name = {_text(name)}", f"target = {_number(target)}"]
    lines += [f"low = {_number(low)}"] if low is not None else []
    lines += [f"high = {_number(high)}"] if high is not None else []
    return "\n".join(lines) + "\n"


def _outcome(code: str, name: str, label: str) -> str:
    lines = ["[[outcomes]]", f"name = {_text(code)}", f"dataset = {_text(name)}", f"label = {_text(label)}"]
    lines += ['unit = "points"   # EDIT', "# lower = 0.0      # EDIT: bounds of the scale", "# upper = 70.0"]
    lines += ['# concept = "ADAS-Cog11"   # for mechanistic twins: the name by which the disease knows the scale']
    return "\n".join(lines) + "\n"


def _covariates(dataset: DataSet) -> list[str]:
    """Declare well-known baseline covariates that the subject data set has, and a site factor."""
    storage = {field.name: field.storage for field in dataset.fields}
    labels = {field.name: field.label for field in dataset.fields}
    sections = []
    for name in [c for c in _COVARIATES if c in storage][:MOST_COVARIATES]:
        lines = ["[[covariates]]", f"name = {_text(name)}", f"label = {_text(labels[name] or name)}"]
        lines += ['kind = "categorical"'] if storage[name] is Storage.CHAR else []
        lines += [f"concept = {_text(_CONCEPTS[name])}"] if name in _CONCEPTS else []
        sections.append("\n".join(lines) + "\n")
    site = next((s for s in ("SITEGR1", "SITEID") if s in storage), None)
    if site:
        lines = ["[[covariates]]", f"name = {_text(site)}", 'kind = "categorical"', "twin = false"]
        sections.append("\n".join(lines) + "\n")
    return sections


def _tail(code: str, last: str, label: str) -> str:
    return f"""[endpoint]
outcome = {_text(code)}
visit = {_text(last)}
column = "CHG"
better = "lower"   # EDIT
primary = "primary"

[estimand]
treatment = "EDIT: the conditions that are compared"
population = "EDIT: the patients whom the question is about"
variable = {_text(f"change of {label} from baseline to {last}")}
summary = "difference in means"

[[estimand.intercurrent_events]]
event = "EDIT: such as discontinuation of treatment"
strategy = "treatment policy"   # EDIT

[[twins]]
name = "baseline"
model = "baseline"

[[analyses]]
id = "unadjusted"
title = "Unadjusted"
method = "unadjusted"

[[analyses]]
id = "primary"
title = "ANCOVA with baseline"
method = "ancova"
covariates = ["BASE"]

[[analyses]]
id = "procova"
title = "PROCOVA with baseline"
method = "procova"
twin = "baseline"
covariates = ["BASE"]
"""
