"""Scores of 0 to 100, one a patient and one a data set, with the arithmetic that leads to them.

A patient starts with 100 points. A rule takes from them its weight times the share of what it examined of this patient
that violates it:

    score_i = max(0, 100 − Σ_r w_r · v_ir / e_ir)

with e_ir units examined (records, forms, dates) and v_ir of them in violation. The data set's score is the mean over
the patients, less the same sum over what belongs to no patient (variables, sites):

    score = max(0, mean_i score_i − Σ_r w_r · v_0r / e_0r)

A share, so that a rule that examines many records (values) does not drown one that examines few (a baseline); a sum and
not a mean over rules, so that rules that a patient satisfies do not thin out those that the patient violates, and
adding a rule never raises a score. The weights are a judgement, not estimated: an error through and through costs half
of the points, a warning a tenth, a note nothing. The score orders patients for review; it decides nothing. What decides
is whether any rule of severity error is violated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from trialtwin.core.finding import Column, Table
from trialtwin.data.reliability.rule import EXAMINED, Examination, Rule, Severity

WEIGHTS: Mapping[Severity, float] = {Severity.ERROR: 50.0, Severity.WARNING: 10.0, Severity.NOTE: 0.0}

JUDGEMENT = "Weights are a judgement, not estimated: error 50, warning 10, note 0 points."

type Answers = Sequence[tuple[Rule, Examination]]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores with their arithmetic.

    Parameters
    ----------
    total
        Score of the data set.
    patients
        Columns ``subject``, ``score``, ``errors``, ``warnings``, ``lost_most_to``; lowest score first.
    arithmetic
        One row a rule: weight, examined, violations, points lost in patients (mean) and in the data set.
    """

    total: float
    patients: pl.DataFrame
    arithmetic: Table


def score(answers: Answers, subjects: Sequence[str]) -> Scores:
    """Score patients and the data set; ``subjects`` are those of ADSL, scored even where no rule examined them."""
    losses = pl.concat([_losses(rule, answer) for rule, answer in answers])
    known = [name for name in dict.fromkeys([*subjects, *losses["subject"]]) if name]
    people = pl.DataFrame({"subject": known}, schema={"subject": pl.String()})
    own = losses.filter(pl.col("subject") != "")
    lost = own.group_by("subject").agg(
        pl.col("points").sum().alias("lost"),
        pl.col("violated").filter(pl.col("severity") == Severity.ERROR.value).sum().alias("errors"),
        pl.col("violated").filter(pl.col("severity") == Severity.WARNING.value).sum().alias("warnings"),
    )
    worst = own.filter(pl.col("points") > 0).sort("points", "rule", descending=[True, False])
    worst = worst.unique("subject", keep="first").select("subject", pl.col("rule").alias("lost_most_to"))
    lost = lost.join(worst, on="subject", how="left")
    people = people.join(lost, on="subject", how="left", maintain_order="left").with_columns(
        pl.col("lost").fill_null(0.0), pl.col("errors").fill_null(0), pl.col("warnings").fill_null(0)
    )
    people = people.with_columns((100 - pl.col("lost")).clip(lower_bound=0.0).alias("score"))
    whole = float(losses.filter(pl.col("subject") == "")["points"].sum())
    mean = float(people["score"].to_numpy().mean()) if len(people) else 100.0
    total = max(0.0, mean - whole)
    floor = float(np.maximum(people["lost"].to_numpy() - 100, 0).mean()) if len(people) else 0.0
    table = _arithmetic(answers, losses, max(len(people), 1), floor + total - (mean - whole))
    shown = people.select("subject", "score", "errors", "warnings", "lost_most_to").sort("score", "subject")
    return Scores(total, shown, table)


def _losses(rule: Rule, answer: Examination) -> pl.DataFrame:
    """Points that each subject loses to one rule; the subject ``""`` stands for the data set as a whole."""
    violated = answer.violations.group_by("subject").agg(pl.len().cast(pl.Int64).alias("violations"))
    rows = answer.examined.match_to_schema(EXAMINED).join(violated, on="subject", how="left", maintain_order="left")
    share = (pl.col("violations").fill_null(0) / pl.col("examined")).clip(upper_bound=1.0)
    return rows.select(
        "subject",
        pl.lit(rule.id).alias("rule"),
        pl.lit(rule.severity.value).alias("severity"),
        pl.col("violations").fill_null(0).alias("violated"),
        (WEIGHTS[rule.severity] * share).alias("points"),
    )


def _arithmetic(answers: Answers, losses: pl.DataFrame, patients: int, floor: float) -> Table:
    """One row a rule, adding up to 100 less the score."""
    rows = []
    for rule, answer in answers:
        mine = losses.filter(pl.col("rule") == rule.id)
        own = float(mine.filter(pl.col("subject") != "")["points"].sum()) / patients
        whole = float(mine.filter(pl.col("subject") == "")["points"].sum())
        examined, found = int(answer.examined["examined"].sum()), len(answer.violations)
        rows.append((rule.id, rule.title, WEIGHTS[rule.severity], examined, found, own, whole, own + whole))
    rows.append(("", "Given back, as no score is below 0", 0.0, 0, 0, -floor, 0.0, -floor))
    columns = (
        Column(name="rule", label="Rule"),
        Column(name="title", label="Title"),
        Column(name="weight", label="Weight", unit="points", decimals=0),
        Column(name="examined", label="Examined"),
        Column(name="violations", label="Violations"),
        Column(name="patients", label="Lost by patients, mean", unit="points", decimals=3),
        Column(name="whole", label="Lost by the data set", unit="points", decimals=3),
        Column(name="contribution", label="Contribution to 100 − score", unit="points", decimals=3),
    )
    note = f"The last column adds up to 100 less the data set's score. {JUDGEMENT}"
    return Table(columns=columns, rows=tuple(rows), note=note)
