"""Rules on what is missing: by arm and visit, between visits, items, covariates; and dropout by arm."""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Int
from scipy.special import betaincinv, gammaln
from scipy.stats import chi2_contingency

from trialtwin.core.finding import Cell, Column, Figure, Table
from trialtwin.data.layout import Outcome
from trialtwin.data.reliability.rule import (
    Examination,
    Severity,
    Summary,
    Trial,
    examine_each,
    judge,
    lacks,
    measured,
    merge,
    rule,
    skip,
)

MOST_TABLES = 2_000_000


@dataclass(frozen=True, eq=False)
class Presence:
    """Who was measured when: patients in the arms of the layout, by analysis visit."""

    subjects: tuple[str, ...]
    arms: tuple[str, ...]
    seen: Bool[np.ndarray, "patient visit"]

    @property
    def last(self) -> Int[np.ndarray, " patient"]:
        """Position of the last visit measured, −1 where there is none."""
        there = self.seen.shape[1] - 1 - np.argmax(self.seen[:, ::-1], axis=1)
        return np.where(self.seen.any(axis=1), there, -1)


def presence(trial: Trial, outcome: Outcome) -> Presence:
    """Tell which patients have a measured, analysed value of an outcome at which visits."""
    visits = [visit.name for visit in trial.layout.visits]
    rows = measured(trial.analysed(trial.findings[outcome.dataset]))
    rows = rows.filter((pl.col("PARAMCD") == outcome.paramcd) & pl.col("AVISIT").is_in(visits))
    people = trial.arms.sort("subject")
    row = {name: i for i, name in enumerate(people["subject"])}
    seen = np.zeros((len(people), len(visits)), dtype=bool)
    for name, visit in rows.select(trial.subject, "AVISIT").iter_rows():
        if name in row:
            seen[row[name], visits.index(visit)] = True
    return Presence(tuple(people["subject"]), tuple(people["arm"]), seen)


@rule(
    "REL-M01",
    Severity.NOTE,
    title="Missing by arm and visit",
    examines="patients",
    states="Percent without a measured value by arm and visit: gone for good (monotone), or seen again later.",
)
def missing_by_arm_and_visit(trial: Trial) -> Examination:
    """Describe percent without a measured value by arm and visit: gone for good (monotone), or seen again later."""
    columns = (
        Column(name="outcome", label="Outcome"),
        Column(name="arm", label="Arm"),
        Column(name="visit", label="Visit"),
        Column(name="patients", label="Patients"),
        Column(name="monotone", label="Missing, not seen again"),
        Column(name="intermittent", label="Missing, seen again later"),
        Column(name="percent", label="Missing", unit="%", decimals=1),
        Column(name="low", label="95 % limit, lower", unit="%", decimals=1),
        Column(name="high", label="95 % limit, upper", unit="%", decimals=1),
    )
    rows: list[tuple[Cell, ...]] = []
    skipped = []
    for outcome in trial.outcomes:
        if reason := _unusable(trial, outcome):
            skipped.append(skip(reason))
            continue
        who = presence(trial, outcome)
        later = np.arange(who.seen.shape[1]) < who.last[:, None]
        for arm in trial.layout.arms:
            mine = np.array([a == arm for a in who.arms], dtype=bool)
            for k, visit in enumerate(trial.layout.visits):
                gap = ~who.seen[mine, k]
                again = int((gap & later[mine, k]).sum())
                missing, n = int(gap.sum()), int(mine.sum())
                low, high = exact_limits(missing, n)
                share = 100 * missing / n if n else 0.0
                cells = (outcome.paramcd, arm, visit.name, n, missing - again, again, share, 100 * low, 100 * high)
                rows.append(cells)
    if not rows:
        return merge(*skipped) if skipped else skip("no outcome is measured over time")
    end = [row for row in rows if row[2] == trial.layout.visits[-1].name]
    words = "; ".join(f"{row[0]}, {row[1]}: {row[6]:.0f} % of {row[3]} at {row[2]}" for row in end)
    figure = Figure(
        kind="interval",
        encoding={"x": "visit", "y": "percent", "low": "low", "high": "high", "group": "arm", "panel": "outcome"},
        x_label="Analysis visit",
        y_label="Patients without a measured value (%)",
        alt=f"Percent of patients without a measured value by visit, one mark an arm. {words}.",
    )
    note = "Clopper–Pearson limits. Carried values (DTYPE) are not measured."
    summary = Summary(f"At the last visit: {words}.", Table(columns=columns, rows=tuple(rows), note=note), figure)
    return merge(_describe(trial.arms), *skipped, summary=summary)


@rule(
    "REL-M02",
    Severity.NOTE,
    title="Visits missed and seen again",
    examines="visits up to the last",
    states="Visits without a measured value in patients who were measured later (intermittent missingness).",
)
def missed_visits(trial: Trial) -> Examination:
    """Describe visits without a measured value in patients who were measured later (intermittent missingness)."""
    parts = []
    for outcome in trial.outcomes:
        if reason := _unusable(trial, outcome):
            parts.append(skip(reason))
            continue
        who = presence(trial, outcome)
        inside = np.arange(who.seen.shape[1]) <= who.last[:, None]
        patient, visit = np.nonzero(inside)
        frame = pl.DataFrame(
            {
                "subject": [who.subjects[i] for i in patient],
                "visit": [trial.layout.visits[k].name for k in visit],
                "seen": who.seen[patient, visit],
            },
            schema={"subject": pl.String(), "visit": pl.String(), "seen": pl.Boolean()},
        )
        parts.append(
            judge(
                frame,
                ~pl.col("seen"),
                dataset=outcome.dataset,
                subject="subject",
                variable=outcome.paramcd,
                visit="visit",
                detail="not measured here, and measured later",
            )
        )
    return merge(*parts) if parts else skip("no outcome is measured over time")


@rule(
    "REL-M04",
    Severity.NOTE,
    title="Items not answered",
    examines="items",
    states="Items without an answer on a form of which other items were answered.",
)
def items_missing(trial: Trial) -> Examination:
    """Describe items without an answer on a form of which other items were answered."""
    if not trial.layout.totals:
        return skip("the layout names no scale total")

    def examine(dataset: str, frame: pl.DataFrame) -> Examination:
        parts = []
        rows = trial.analysed(frame).filter(pl.col("AVISIT").is_not_null())
        for total in trial.layout.totals:
            answers = rows.filter(pl.col("PARAMCD").is_in(list(total.items)) & pl.col("AVAL").is_not_null())
            answers = answers.select(trial.subject, "AVISIT", "PARAMCD").unique(maintain_order=True)
            forms = answers.select(trial.subject, "AVISIT").unique(maintain_order=True)
            wanted = forms.join(pl.DataFrame({"PARAMCD": list(total.items)}), how="cross", maintain_order="left_right")
            answers = answers.with_columns(pl.lit(value=True).alias("__answered"))
            key = [trial.subject, "AVISIT", "PARAMCD"]
            parts.append(
                judge(
                    wanted.join(answers, on=key, how="left", maintain_order="left"),
                    pl.col("__answered").is_null(),
                    dataset=dataset,
                    subject=trial.subject,
                    variable=pl.col("PARAMCD"),
                    visit="AVISIT",
                    detail=f"not answered, on a form of {total.paramcd}",
                )
            )
        return merge(*parts)

    needs = (trial.subject, "PARAMCD", "AVISIT", "AVAL")
    return examine_each(trial.findings, needs, examine, kind="findings data set")


@rule(
    "REL-M05",
    Severity.NOTE,
    title="Covariates missing",
    examines="covariate values",
    states="Covariates, and outcomes that stand in ADSL, without a value.",
)
def covariates_missing(trial: Trial) -> Examination:
    """Describe covariates, and outcomes that stand in ADSL, without a value."""
    names = [v.name for v in trial.layout.covariates]
    names += [o.variable.name for o in trial.layout.outcomes if not o.paramcd]
    frame = trial.subjects
    parts = [
        judge(
            frame,
            pl.col(name).is_null(),
            dataset=trial.tables.subjects.name,
            subject=trial.subject,
            variable=name,
            detail="no value",
        )
        for name in dict.fromkeys(names)
        if name in frame.columns and trial.subject in frame.columns
    ]
    return merge(*parts) if parts else skip("ADSL has none of the layout's covariates")


@rule(
    "REL-M03",
    Severity.NOTE,
    title="Dropout by arm",
    examines="patients",
    states="Dropout by arm, and whether it differs between arms (Fisher–Freeman–Halton exact test).",
)
def dropout_by_arm(trial: Trial) -> Examination:
    """Describe dropout by arm, and whether it differs between arms (Fisher–Freeman–Halton exact test)."""
    people, source = _dropped(trial)
    if people is None:
        return skip(source)
    rows: list[tuple[Cell, ...]] = []
    counts = []
    for arm in trial.layout.arms:
        mine = people.filter(pl.col("arm") == arm)
        n, left = len(mine), int(mine["left"].sum())
        low, high = exact_limits(left, n)
        counts.append((left, n))
        rows.append((arm, n, left, 100 * left / n if n else 0.0, 100 * low, 100 * high))
    columns = (
        Column(name="arm", label="Arm"),
        Column(name="patients", label="Patients"),
        Column(name="left", label="Left early"),
        Column(name="percent", label="Left early", unit="%", decimals=1),
        Column(name="low", label="95 % limit, lower", unit="%", decimals=1),
        Column(name="high", label="95 % limit, upper", unit="%", decimals=1),
    )
    p, method = exact_test(counts)
    differs = p < 0.05
    words = (
        f"Left early ({source}): " + ", ".join(f"{arm} {left} of {n}" for arm, n, left, *_ in rows) + f"; {method} "
        f"p {'< 0.0001' if p < 1e-4 else f'= {p:.4f}'}. "
    )
    words += (
        "Dropout differs between the arms: what is missing depends on treatment, and an analysis that takes the "
        "observed patients for all of them needs a defence."
        if differs
        else "No difference between the arms was shown, which does not show that there is none."
    )
    figure = Figure(
        kind="interval",
        encoding={"x": "arm", "y": "percent", "low": "low", "high": "high"},
        x_label="Arm",
        y_label="Patients who left early (%)",
        alt=words,
    )
    table = Table(columns=columns, rows=tuple(rows), note="Clopper–Pearson limits.")
    return merge(_describe(people), summary=Summary(words, table, figure))


def _describe(people: pl.DataFrame) -> Examination:
    """Count the patients described, none of whom violates anything."""
    nothing = pl.lit(value=False)
    return judge(people, nothing, dataset="ADSL", subject="subject", variable="", detail="")


def exact_limits(count: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Confidence limits of a proportion (Clopper and Pearson, 1934; doi:10.1093/biomet/26.4.404).

    Examples
    --------
    >>> [round(x, 4) for x in exact_limits(2, 10)]
    [0.0252, 0.5561]
    """
    if n == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, n - count + 1, tail))
    high = 1.0 if count == n else float(betaincinv(count + 1, n - count, 1 - tail))
    return low, high


def exact_test(counts: list[tuple[int, int]]) -> tuple[float, str]:
    """Test that proportions are the same in all groups; returns the p-value and the name of the test.

    Freeman and Halton's (1951) extension of Fisher's test: the probability, given the margins, of tables no more
    probable than the observed one (doi:10.1093/biomet/38.1-2.141). Where there would be too many tables to
    enumerate, Pearson's χ², and the name says so.

    Examples
    --------
    >>> round(exact_test([(3, 10), (7, 10)])[0], 4)
    0.1789
    """
    groups = [(count, n) for count, n in counts if n > 0]
    total = sum(count for count, _ in groups)
    size = sum(n for _, n in groups)
    if len(groups) < 2 or total in (0, size):
        return 1.0, "no test possible,"
    *free, (_, n_last) = groups
    if math.prod(n + 1 for _, n in free) > MOST_TABLES:
        table = np.array([[count, n - count] for count, n in groups])
        return float(chi2_contingency(table, correction=False).pvalue), "Pearson χ²"
    # Log probability of every split of the free groups, up to the constant of the margins.
    logp, used = np.zeros(1), np.zeros(1, dtype=np.int64)
    for _, n in free:
        k = np.arange(n + 1)
        logp = (logp[:, None] + _log_choose(n, k)).ravel()
        used = (used[:, None] + k).ravel()
    rest = total - used
    possible = (rest >= 0) & (rest <= n_last)
    logp = logp[possible] + _log_choose(n_last, rest[possible]) - float(_log_choose(size, np.array(total)))
    observed = sum(float(_log_choose(n, np.array(count))) for count, n in groups)
    observed -= float(_log_choose(size, np.array(total)))
    p = float(np.exp(logp[logp <= observed + 1e-7]).sum())
    return min(p, 1.0), "Fisher–Freeman–Halton exact test"


def _log_choose(n: int, k: Int[np.ndarray, "..."]) -> np.ndarray:
    """Logarithm of the binomial coefficient."""
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def _dropped(trial: Trial) -> tuple[pl.DataFrame | None, str]:
    """Patients with arm and whether they left early, and from which variable that is known."""
    frame = trial.subjects
    finished = sorted(name for name in frame.columns if name.startswith("COMP") and name.endswith("FL"))
    if "DCDECOD" in frame.columns:
        left, source = pl.col("DCDECOD").ne_missing("COMPLETED"), "DCDECOD is not COMPLETED"
    elif "DISCONFL" in frame.columns:
        left, source = pl.col("DISCONFL").eq_missing("Y"), "DISCONFL is Y"
    elif finished:
        name = max(finished, key=lambda flag: int("".join(filter(str.isdigit, flag)) or 0))
        left, source = pl.col(name).ne_missing("Y"), f"{name} is not Y"
    else:
        usable = [o for o in trial.outcomes if not _unusable(trial, o)]
        if not usable:
            return None, "neither disposition nor visits tell who left early"
        who = presence(trial, usable[0])
        gone = who.last < len(trial.layout.visits) - 1
        source = f"no {usable[0].paramcd} at the last visit"
        return pl.DataFrame({"subject": who.subjects, "arm": who.arms, "left": gone}), source
    if trial.subject not in frame.columns:
        return None, f"ADSL has no {trial.subject}"
    flags = frame.select(pl.col(trial.subject).alias("subject"), left.alias("left")).unique("subject")
    return trial.arms.join(flags, on="subject", maintain_order="left"), source


def _unusable(trial: Trial, outcome: Outcome) -> str:
    """Say why an outcome's visits cannot be counted; empty if they can."""
    needs = (trial.subject, "PARAMCD", "AVISIT", "AVAL")
    return lacks(outcome.dataset, trial.findings[outcome.dataset], *needs)
