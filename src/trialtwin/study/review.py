"""The check command: the reliability of a study's tables, and where two versions of them differ."""

from dataclasses import replace

import polars as pl

from trialtwin.core.finding import Cell, Column, Evidence, Finding, Table, Verdict
from trialtwin.data.compare import Cause, Difference, compare
from trialtwin.data.dataset import DataSet
from trialtwin.data.layout import Outcome
from trialtwin.data.reliability.assessment import Reliability, assess
from trialtwin.study.prepare import Prepared

SECTION = "versions"


def review(prepared: Prepared) -> Reliability:
    """Judge the tables of a study by every rule."""
    return assess(prepared.tables, prepared.layout)


def compare_studies(left: Prepared, right: Prepared) -> list[Finding]:
    """Compare two versions of a study's tables: subjects with their arms, types, and every analysed outcome value.

    Raises
    ------
    DataError, MismatchError
        If the tables cannot be matched row by row.
    """
    evidence = Evidence(data=left.tables.sources() | {f"{k} (other)": v for k, v in right.tables.sources().items()})
    findings = [_types(left, right, evidence), _subjects(left, right, evidence)]
    findings += [_outcome(left, right, outcome, evidence) for outcome in left.layout.outcomes if outcome.paramcd]
    return findings


def _types(left: Prepared, right: Prepared, evidence: Evidence) -> Finding:
    """Compare how shared variables are stored."""
    rows: list[tuple[Cell, ...]] = []
    shared = 0
    for ours, theirs in _pairs(left, right):
        other = {field.name: field.storage for field in theirs.fields}
        for field in ours.fields:
            if field.name in other:
                shared += 1
                if other[field.name] is not field.storage:
                    rows.append((ours.name, field.name, field.storage.value, other[field.name].value))
    return Finding(
        id=f"{SECTION}.types",
        section=SECTION,
        title="Types of shared variables",
        verdict=Verdict.FAIL if rows else Verdict.PASS,
        text=f"{shared} variables stand in both versions; {len(rows)} are stored differently.",
        table=Table(
            columns=tuple(Column(name=name) for name in ("data set", "variable", "here", "there")), rows=tuple(rows)
        ),
        evidence=evidence,
    )


def _pairs(left: Prepared, right: Prepared) -> list[tuple[DataSet, DataSet]]:
    """Pair the data sets of two versions."""
    pairs = [(left.tables.subjects, right.tables.subjects)]
    pairs += [(left.tables.finding(name), right.tables.finding(name)) for name in left.spec.data.findings]
    for ours, theirs in ((left.tables.events, right.tables.events), (left.tables.times, right.tables.times)):
        if ours is not None and theirs is not None:
            pairs.append((ours, theirs))
    return pairs


def _subjects(left: Prepared, right: Prepared, evidence: Evidence) -> Finding:
    """Compare subjects, arms, population and covariates."""
    spec = left.spec
    columns = [spec.arms.variable, *(c.name for c in spec.covariates)]
    columns += [spec.population.variable] if spec.population.variable else []
    columns += [outcome.name for outcome in spec.outcomes if not outcome.dataset]
    subject = left.layout.subject
    found = compare(left.tables.subjects, right.tables.subjects, keys=[subject], columns=list(dict.fromkeys(columns)))
    return _finding(f"{SECTION}.subjects", "Subjects, arms and covariates", found, evidence)


def _outcome(left: Prepared, right: Prepared, outcome: Outcome, evidence: Evidence) -> Finding:
    """Compare the analysed values of one outcome."""
    ours, theirs = (_analysed(side, outcome) for side in (left, right))
    found = compare(ours, theirs, keys=[left.layout.subject, "AVISIT"], columns=["AVAL"])
    title = f"Analysed values of {outcome.variable.label or outcome.paramcd}"
    return _finding(f"{SECTION}.{outcome.paramcd}", title, found, evidence)


def _analysed(side: Prepared, outcome: Outcome) -> DataSet:
    """Return the analysed records of an outcome, values carried forward included."""
    table, flag = side.tables.finding(outcome.dataset), side.layout.record_flag
    table.require("PARAMCD", "AVISIT", "AVAL", flag, side.layout.subject, purpose="to compare analysed values")
    rows = table.frame.filter((pl.col("PARAMCD") == outcome.paramcd) & (pl.col(flag) == "Y"))
    return replace(table, frame=rows)


def _finding(name: str, title: str, found: Difference, evidence: Evidence) -> Finding:
    """Turn a difference into a finding that lists every row."""
    rounded, changed = found.count(Cause.ROUNDING), found.count(Cause.VALUE)
    rows: list[tuple[Cell, ...]] = [
        (*map(str, key), "(row)", "present", "absent", None, "row") for key in found.only_left
    ]
    rows += [(*map(str, key), "(row)", "absent", "present", None, "row") for key in found.only_right]
    rows += [
        (*map(str, cell.key), cell.column, _cell(cell.left), _cell(cell.right), cell.difference, cell.cause.value)
        for cell in found.cells
    ]
    text = (
        f"{found.matched} rows matched, {len(found.only_left)} only here, {len(found.only_right)} only there;"
        f" {len(found.cells)} values differ, {rounded} of them by rounding beyond 12 significant digits and"
        f" {changed} in value."
    )
    names = [*found.keys, "variable", "here", "there", "difference", "cause"]
    return Finding(
        id=name,
        section=SECTION,
        title=title,
        verdict=Verdict.PASS if found.same else Verdict.FAIL,
        text=text,
        table=Table(columns=tuple(Column(name=column) for column in names), rows=tuple(rows)),
        evidence=evidence,
    )


def _cell(value: object) -> Cell:
    """Return a value as a cell of a table, numbers as they are."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
