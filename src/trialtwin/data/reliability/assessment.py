"""Is the data fit to use? Every rule put to the raw tables, its answer as a finding, and the scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from trialtwin.core.errors import DataError
from trialtwin.core.finding import Column, Evidence, Finding, Table, Verdict
from trialtwin.data.cdisc import TrialTables
from trialtwin.data.layout import Layout
from trialtwin.data.reliability.registry import RULES
from trialtwin.data.reliability.rule import Examination, Rule, Severity, Trial
from trialtwin.data.reliability.score import JUDGEMENT, WEIGHTS, Scores, score

MOST_ROWS = 200
SECTION = "data"


@dataclass(frozen=True, eq=False)
class Reliability:
    """What the rules found, and what follows.

    Parameters
    ----------
    fit
        Whether no rule of severity error is violated.
    score
        Score of the data set, 0 to 100.
    patients
        Columns ``subject``, ``score``, ``errors``, ``warnings``, ``lost_most_to``; lowest score first.
    violations
        Every violation, none left out: ``rule``, ``severity``, subject, dataset, variable, visit, value, detail.
    findings
        Fit for use, the scores, the patients, then one finding a rule.
    """

    fit: bool
    score: float
    patients: pl.DataFrame
    violations: pl.DataFrame
    findings: tuple[Finding, ...]


def assess(
    tables: TrialTables, layout: Layout, *, cutoff: date | None = None, rules: Sequence[Rule] = RULES
) -> Reliability:
    """Judge raw tables before any analysis; nothing in them is changed or left out.

    Verdicts: ``fail`` where a rule of severity error is violated; ``info`` where a warning is, where there is something
    to note, and where a rule could not be put to these data; ``pass`` otherwise.

    Parameters
    ----------
    tables
        The data sets as they were read.
    layout
        Which variable plays which role.
    cutoff
        Date after which there can be no data; without it no date is too late.
    rules
        The rules to apply.

    Raises
    ------
    MismatchError
        If ADSL does not have the variable that identifies subjects.
    DataError
        If it is not stored as characters.

    Examples
    --------
    >>> from trialtwin.core.variables import Variable
    >>> from trialtwin.data.examples import generate_trial
    >>> from trialtwin.data.layout import Outcome, Visit
    >>> layout = Layout(
    ...     arm="TRT01P", arms=("Placebo", "Low Dose", "High Dose"),
    ...     visits=(Visit("Baseline", 1.0, None, 1.0), Visit("Week 24", 169.0, 142.0, None)),
    ...     outcomes=(Outcome(Variable("ACTOT", lower=0.0, upper=70.0), "ADQSADAS", "ACTOT"),),
    ... )
    >>> found = assess(generate_trial(seed=1, patients=60), layout)
    >>> found.fit, found.findings[0].verdict
    (True, <Verdict.PASS: 'pass'>)
    """
    tables.subjects.require(layout.subject, purpose="to tell subjects apart")
    if tables.subjects.frame.schema[layout.subject] != pl.String():
        raise DataError(f"{layout.subject} of {tables.subjects.name} is not stored as characters")
    trial = Trial(tables, layout, cutoff)
    answers = [(rule, rule.check(trial)) for rule in rules]
    scores = score(answers, trial.subjects[layout.subject].drop_nulls().to_list())
    evidence = Evidence(data=tables.sources())
    findings = [_overall(answers, scores, evidence), _scores(scores, evidence), _patients(scores, evidence)]
    findings += [_finding(rule, answer, evidence) for rule, answer in answers]
    every = [
        answer.violations.select(pl.lit(rule.id).alias("rule"), pl.lit(rule.severity.value).alias("severity"), pl.all())
        for rule, answer in answers
    ]
    fit = findings[0].verdict is not Verdict.FAIL
    return Reliability(fit, scores.total, scores.patients, pl.concat(every), tuple(findings))


def _overall(answers: Sequence[tuple[Rule, Examination]], scores: Scores, evidence: Evidence) -> Finding:
    """Judge: fit for use, or not, and because of what."""
    rows = []
    for rule, answer in answers:
        if len(answer.violations) and rule.severity is not Severity.NOTE:
            who = _people(answer.violations)
            rows.append((rule.id, rule.title, rule.severity.value, len(answer.violations), len(who)))
    errors = [row for row in rows if row[2] == Severity.ERROR.value]
    warnings = [row for row in rows if row[2] == Severity.WARNING.value]
    silent = [rule.id for rule, answer in answers if _silent(answer)]
    if errors:
        words = "Not fit for use as it is: violated are " + "; ".join(
            f"{rule} ({title.lower()}: {_count(n, 'violation')}, {_count(who, 'patient')})"
            for rule, title, _, n, who in errors
        )
    else:
        words = f"No rule of severity error is violated, of {len(answers)} rules"
    text = (
        f"{words}. {_count(len(warnings), 'warning')}: {', '.join(row[0] for row in warnings) or 'none'}. "
        f"Score {scores.total:.1f} of 100. "
        + (f"Could not be examined: {', '.join(silent)}." if silent else "Every rule could be examined.")
    )
    columns = (
        Column(name="rule", label="Rule"),
        Column(name="title", label="Title"),
        Column(name="severity", label="Severity"),
        Column(name="violations", label="Violations"),
        Column(name="patients", label="Patients"),
    )
    return Finding(
        id="REL",
        section=SECTION,
        title="Is the data fit for use?",
        verdict=Verdict.FAIL if errors else Verdict.PASS,
        text=text,
        table=Table(columns=columns, rows=tuple(rows), note="Rules of severity error or warning that are violated."),
        evidence=evidence,
    )


def _scores(scores: Scores, evidence: Evidence) -> Finding:
    """Show the data set's score and its arithmetic."""
    text = (
        f"Score {scores.total:.1f} of 100: the mean over {_count(len(scores.patients), 'patient')} of 100 less, for "
        "each rule, its weight times the share of what it examined of the patient that violates it; less the same for "
        f"what belongs to no patient. {JUDGEMENT} The score orders patients for review; it decides nothing."
    )
    return Finding(
        id="REL-SCORE",
        section=SECTION,
        title="Reliability score",
        verdict=Verdict.INFO,
        text=text,
        table=scores.arithmetic,
        evidence=evidence,
    )


def _patients(scores: Scores, evidence: Evidence) -> Finding:
    """Show patients, those with the lowest scores first."""
    everyone = scores.patients
    low = everyone.head(MOST_ROWS)
    flawless = int((everyone["score"] >= 100).sum())
    left = len(everyone) - len(low)
    text = f"{flawless} of {_count(len(everyone), 'patient')} have 100 points. " + (
        f"The table shows the {len(low)} lowest; {left} more are not shown." if left else "The table shows all."
    )
    columns = (
        Column(name="subject", label="Subject"),
        Column(name="score", label="Score", decimals=1),
        Column(name="errors", label="Error violations"),
        Column(name="warnings", label="Warning violations"),
        Column(name="lost_most_to", label="Lost most to"),
    )
    return Finding(
        id="REL-PATIENTS",
        section=SECTION,
        title="Reliability of each patient",
        verdict=Verdict.INFO,
        text=text,
        table=Table(columns=columns, rows=tuple(low.iter_rows()), note=JUDGEMENT),
        evidence=evidence,
    )


def _finding(rule: Rule, answer: Examination, evidence: Evidence) -> Finding:
    """Turn one rule's answer into a finding."""
    table = answer.summary.table if answer.summary else _violation_table(answer.violations)
    return Finding(
        id=rule.id,
        section=SECTION,
        title=rule.title,
        verdict=_verdict(rule, answer),
        text=_text(rule, answer),
        table=table,
        figure=answer.summary.figure if answer.summary else None,
        evidence=evidence,
    )


def _verdict(rule: Rule, answer: Examination) -> Verdict:
    """Fail for violated errors, info for what needs eyes, pass for the rest."""
    if len(answer.violations):
        return Verdict.FAIL if rule.severity is Severity.ERROR else Verdict.INFO
    described = answer.summary is not None and rule.severity is Severity.NOTE
    return Verdict.INFO if described or _silent(answer) else Verdict.PASS


def _text(rule: Rule, answer: Examination) -> str:
    """Say what was examined, in how many, and what was found."""
    if _silent(answer):
        reasons = "; ".join(dict.fromkeys(answer.skipped)) or "there is nothing of the kind"
        return f"{rule.states} Not examined: {reasons}."
    examined = int(answer.examined["examined"].sum())
    people = len(answer.examined.filter(pl.col("subject") != ""))
    of = f" of {_count(people, 'subject')}" if 0 < people < examined else ""
    parts = [f"{rule.states} Examined: {examined} {rule.examines}{of}."] if examined else [rule.states]
    found = len(answer.violations)
    if found:
        who = _people(answer.violations)
        named = f" in {_count(len(who), 'subject')} ({_few(who)})" if who else ""
        parts.append(f"Found, severity {rule.severity}: {_count(found, 'violation')}{named}.")
        if not answer.summary and found > MOST_ROWS:
            parts.append(f"The table shows the first {MOST_ROWS}; {found - MOST_ROWS} more are not shown.")
    elif examined and not answer.summary:
        parts.append("Found: none.")
    if answer.summary:
        parts.append(answer.summary.text)
    if answer.skipped:
        parts.append(f"Not examined: {'; '.join(dict.fromkeys(answer.skipped))}.")
    return " ".join(parts)


def _violation_table(violations: pl.DataFrame) -> Table | None:
    """Show the first violations, by subject."""
    if violations.is_empty():
        return None
    columns = (
        Column(name="subject", label="Subject"),
        Column(name="dataset", label="Data set"),
        Column(name="variable", label="Variable"),
        Column(name="visit", label="Visit"),
        Column(name="value", label="Value"),
        Column(name="detail", label="Detail"),
    )
    rows = violations.sort("subject", "dataset", "variable", maintain_order=True).head(MOST_ROWS)
    return Table(columns=columns, rows=tuple(rows.iter_rows()))


def _silent(answer: Examination) -> bool:
    """Tell whether a rule examined nothing at all."""
    return answer.examined.is_empty() and answer.summary is None


def _people(violations: pl.DataFrame) -> list[str]:
    """Subjects with a violation, in order."""
    return sorted({name for name in violations["subject"] if name})


def _few(names: list[str], most: int = 5) -> str:
    """Join the first few names."""
    return ", ".join(names[:most]) + (f", … {len(names) - most} more" if len(names) > most else "")


def _count(n: int, word: str) -> str:
    """Write a number with its noun."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


__all__ = ["WEIGHTS", "Reliability", "assess"]
