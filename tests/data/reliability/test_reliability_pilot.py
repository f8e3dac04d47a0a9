"""The rules on the CDISC pilot: what they find there is there, by another road."""

import time
from pathlib import Path

import polars as pl
import pyreadstat
import pytest

from trialtwin.core.finding import Finding, Verdict
from trialtwin.core.variables import Kind, Variable
from trialtwin.data.cdisc import TrialTables, read_tables
from trialtwin.data.layout import Layout, Outcome, ScaleTotal, Visit
from trialtwin.data.reliability import RULES, Reliability, assess

MAXIMA = dict(zip((1, 2, 4, 5, 6, 7, 8, 11, 12, 13, 14), (10, 5, 5, 5, 5, 8, 12, 5, 5, 5, 5), strict=True))
LAYOUT = Layout(
    arm="TRT01P",
    arms=("Placebo", "Xanomeline Low Dose", "Xanomeline High Dose"),
    visits=(
        Visit("Baseline", 1.0, None, 1.0),
        Visit("Week 8", 56.0, 2.0, 84.0),
        Visit("Week 16", 112.0, 85.0, 140.0),
        Visit("Week 24", 168.0, 141.0, None),
    ),
    outcomes=(
        Outcome(Variable("ACTOT", "ADAS-Cog (11)", lower=0.0, upper=70.0), "adqsadas", "ACTOT"),
        Outcome(Variable("MMSETOT", "MMSE", lower=0.0, upper=30.0), "ADSL"),
    ),
    covariates=(
        Variable("AGE", "Age", unit="years", lower=40.0, upper=100.0),
        Variable("SEX", "Sex", kind=Kind.CATEGORICAL, levels=("F", "M")),
        Variable("HEIGHTBL", "Height", unit="cm", lower=130.0, upper=210.0),
        Variable("WEIGHTBL", "Weight", unit="kg", lower=30.0, upper=160.0),
        Variable("BMIBL", "Body mass index", unit="kg/m2", lower=13.0, upper=50.0),
    ),
    totals=(ScaleTotal("ACTOT", {f"ACITM{k:02d}": float(most) for k, most in MAXIMA.items()}),),
)


@pytest.fixture(scope="module")
def tables(shared: Path) -> TrialTables:
    return read_tables(shared / "data/cdiscpilot01/adam", findings=["adqsadas"], events="adae", times="adtte")


@pytest.fixture(scope="module")
def pilot(tables: TrialTables) -> Reliability:
    return assess(tables, LAYOUT)


def finding(reliability: Reliability, name: str) -> Finding:
    return next(f for f in reliability.findings if f.id == name)


def violations(reliability: Reliability, rule: str) -> pl.DataFrame:
    return reliability.violations.filter(pl.col("rule") == rule)


def test_assessment_takes_less_than_five_seconds(tables: TrialTables) -> None:
    start = time.perf_counter()
    assess(tables, LAYOUT)
    assert time.perf_counter() - start < 5


def test_only_totals_carried_over_measurements_make_the_pilot_unfit(pilot: Reliability) -> None:
    failed = [f.id for f in pilot.findings if f.verdict is Verdict.FAIL]
    assert failed == ["REL", "REL-T02"]


def test_every_rule_but_the_cut_off_can_be_put_to_the_pilot(pilot: Reliability) -> None:
    silent = [f.id for f in pilot.findings if "Not examined: " in f.text]
    assert silent == ["REL-D06"]


@pytest.mark.reference
def test_reference_totals_carried_over_measurements_are_those_that_sdtm_contradicts(
    pilot: Reliability, tables: TrialTables, shared: Path
) -> None:
    """SDTM's QS (SAS, by the study's owners) has the total that was measured on the day; ADaM has another one."""
    source = shared / "data/cdiscpilot01/sdtm/qs.xpt"
    columns = ["USUBJID", "QSTESTCD", "QSDY", "VISIT", "QSSTRESN"]
    qs, _ = pyreadstat.read_xport(source, usecols=columns, output_format="polars")
    qs = qs.filter(pl.col("QSTESTCD") == "ACTOT")
    measured = qs.select("USUBJID", "VISIT", pl.col("QSDY").alias("ADY"), pl.col("QSSTRESN").alias("measured"))
    totals = tables.finding("adqsadas").frame.filter(pl.col("PARAMCD") == "ACTOT")
    both = totals.join(measured, on=["USUBJID", "VISIT", "ADY"])
    assert len(both) == len(totals)
    differ = both.filter((pl.col("AVAL") - pl.col("measured")).abs() > 0.01)
    found = violations(pilot, "REL-T02")
    key = [pl.col("USUBJID").alias("subject"), pl.col("AVISIT").alias("visit")]
    assert sorted(differ.select(key).rows()) == sorted(found.select("subject", "visit").rows())
    assert (len(found), found["subject"].n_unique()) == (47, 19)
    analysed = found.filter(pl.col("detail").str.ends_with("(analysed record)"))
    assert (len(analysed), analysed["subject"].n_unique()) == (28, 17)


@pytest.mark.reference
def test_reference_dropout_is_that_of_the_study_report(pilot: Reliability) -> None:
    """Completed 58, 25 and 27 of 86, 84 and 84 (CDISC pilot, disposition)."""
    table = finding(pilot, "REL-M03").table
    assert table is not None
    assert [row[1] - row[2] for row in table.rows] == [58, 25, 27]  # type: ignore[operator]
    assert "p < 0.0001" in finding(pilot, "REL-M03").text


@pytest.mark.reference
def test_reference_measured_at_week_24(pilot: Reliability) -> None:
    """SAS's MMRM has 539 totals after baseline, and one patient outside its population has another; 65 on placebo."""
    table = finding(pilot, "REL-M01").table
    assert table is not None
    seen = {(row[1], row[2]): row[3] - row[4] - row[5] for row in table.rows}  # type: ignore[operator]
    assert seen[("Placebo", "Week 24")] == 65
    assert sum(n for (_, visit), n in seen.items() if visit != "Baseline") == 539 + 1


def test_totals_are_prorated_as_stated(pilot: Reliability) -> None:
    assert finding(pilot, "REL-T01").verdict is Verdict.PASS
    assert "Examined: 799 measured totals" in finding(pilot, "REL-T01").text
    assert len(violations(pilot, "REL-T04")) == 21


def test_known_quirks_are_warnings_and_notes(pilot: Reliability) -> None:
    counts = dict(pilot.violations.group_by("rule", maintain_order=True).agg(pl.len()).rows())
    assert counts["REL-A02"] == 11  # adverse events without a start
    assert counts["REL-A04"] == 8  # adverse events that began long before, one in 1994
    assert counts["REL-A05"] == 36  # hospitalised, life-threatened or dead, and not serious
    assert counts["REL-U04"] == 230  # the same event again, mostly with another outcome
    assert counts["REL-D07"] == 1  # last dose a day after death
    assert counts["REL-M05"] == 2  # one patient without weight


def test_scores_lie_between_0_and_100_and_the_worst_have_wrong_totals(pilot: Reliability) -> None:
    assert pilot.patients["score"].is_between(0, 100).all()
    assert len(pilot.patients) == 254
    assert set(pilot.patients.head(17)["lost_most_to"]) == {"REL-T02"}
    assert 90 < pilot.score < 93


def test_every_finding_rests_on_the_four_files(pilot: Reliability) -> None:
    assert len(pilot.findings) == len(RULES) + 3
    assert all(set(f.evidence.data) == {"ADSL", "ADQSADAS", "ADAE", "ADTTE"} for f in pilot.findings)
