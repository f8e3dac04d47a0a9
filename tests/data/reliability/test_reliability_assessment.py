"""What follows from the rules: verdicts, texts, tables, scores; and nothing in the data is changed."""

from dataclasses import replace
from itertools import product

import polars as pl
import pytest

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.finding import Finding, Verdict
from trialtwin.data.reliability import RULES, Reliability, Rule, Severity, Trial, assess
from trialtwin.data.reliability.assessment import MOST_ROWS
from trialtwin.data.reliability.rule import Examination, judge

from .reliability_trial import LAYOUT, SUBJECTS, both, cast_column, change, clean, drop_column, of, put, repeat_rows

P03 = pl.col("USUBJID") == "P03"


@pytest.fixture(scope="module")
def good() -> Reliability:
    return assess(clean(), LAYOUT)


def finding(reliability: Reliability, name: str) -> Finding:
    return next(f for f in reliability.findings if f.id == name)


def fixed(name: str, severity: Severity, examined: dict[str, int], violated: dict[str, int]) -> Rule:
    """Make a rule with a known answer."""

    def check(trial: Trial) -> Examination:
        rows = [(who, k < violated.get(who, 0)) for who, n in examined.items() for k in range(n)]
        frame = pl.DataFrame(rows, schema={"who": pl.String, "bad": pl.Boolean}, orient="row")
        return judge(frame, pl.col("bad"), dataset="X", subject="who", variable="X", detail="planted")

    return Rule(name, f"Rule {name}", severity, "things", check, "Things are so.")


def test_clean_trial_is_fit_for_use(good: Reliability) -> None:
    assert good.fit
    assert good.findings[0].verdict is Verdict.PASS
    assert good.score == 100
    assert good.violations.is_empty()


def test_findings_come_one_a_rule_after_the_overall_ones(good: Reliability) -> None:
    names = ["REL", "REL-SCORE", "REL-PATIENTS", *(rule.id for rule in RULES)]
    assert [f.id for f in good.findings] == names
    assert {f.section for f in good.findings} == {"data"}


def test_findings_survive_json(good: Reliability) -> None:
    assert all(Finding.model_validate_json(f.model_dump_json()) == f for f in good.findings)


def test_a_violated_error_makes_the_data_unfit() -> None:
    bad = assess(change("ADQS", P03 & (pl.col("AVISIT") == "Week 4"), BASE=39.0)(clean()), LAYOUT)
    assert not bad.fit
    assert bad.findings[0].verdict is Verdict.FAIL
    assert "REL-B05" in bad.findings[0].text
    assert finding(bad, "REL-B05").verdict is Verdict.FAIL


def test_a_violated_warning_is_for_information_and_leaves_the_data_fit() -> None:
    bad = assess(change("ADSL", P03, MMSETOT=31.0)(clean()), LAYOUT)
    assert bad.fit
    assert finding(bad, "REL-R01").verdict is Verdict.INFO
    assert "REL-R01" in bad.findings[0].text


def test_text_says_what_was_examined_and_found() -> None:
    bad = assess(change("ADSL", P03, MMSETOT=31.0)(clean()), LAYOUT)
    text = finding(bad, "REL-R01").text
    assert "Examined: 108 covariate values of 36 subjects." in text
    assert "1 violation in 1 subject (P03)" in text
    table = finding(bad, "REL-R01").table
    assert table is not None
    assert table.rows == (("P03", "ADSL", "MMSETOT", None, "31", "outside the plausible 0 to 30"),)


def test_a_rule_that_could_not_be_put_to_the_data_says_so() -> None:
    partial = assess(replace(clean(), events=None), LAYOUT)
    silent = finding(partial, "REL-A01")
    assert silent.verdict is Verdict.INFO
    assert "Not examined: there is no adverse event data set." in silent.text
    assert "REL-A01" in partial.findings[0].text


def test_more_violations_than_a_table_shows_are_counted_and_kept() -> None:
    many = assess(change("ADQS", pl.lit(value=True), BASE=39.5)(clean()), LAYOUT)
    shown = finding(many, "REL-B05")
    n = len(many.violations.filter(pl.col("rule") == "REL-B05"))
    assert n == of(clean(), "ADQS").frame.height > MOST_ROWS
    assert shown.table is not None
    assert len(shown.table.rows) == MOST_ROWS
    assert f"{n - MOST_ROWS} more are not shown" in shown.text


def test_nothing_in_the_tables_is_changed() -> None:
    tables = both(change("ADSL", P03, MMSETOT=31.0), repeat_rows("ADQS", P03))(clean())
    before = {name: of(tables, name).frame.clone() for name in ("ADSL", "ADQS", "ADAE", "ADTTE")}
    assess(tables, LAYOUT)
    assert all(of(tables, name).frame.equals(frame) for name, frame in before.items())


def test_same_tables_give_the_same_bytes(good: Reliability) -> None:
    again = assess(clean(), LAYOUT)
    assert [f.model_dump_json() for f in again.findings] == [f.model_dump_json() for f in good.findings]


def test_evidence_names_the_files() -> None:
    tables = clean()
    hashed = replace(tables, subjects=replace(tables.subjects, sha256="0" * 64))
    assert all(f.evidence.data == {"ADSL": "0" * 64} for f in assess(hashed, LAYOUT).findings)


def test_subjects_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(MismatchError, match="no variable USUBJID"):
        assess(drop_column("ADSL", "USUBJID")(clean()), LAYOUT)
    numbered = put(clean(), "ADSL", of(clean(), "ADSL").frame.with_columns(pl.lit(1.0).alias("USUBJID")))
    with pytest.raises(DataError, match="not stored as characters"):
        assess(numbered, LAYOUT)


COLUMNS = [
    (name, column)
    for name in ("ADSL", "ADQS", "ADAE", "ADTTE")
    for column in of(clean(), name).frame.columns
    if (name, column) != ("ADSL", "USUBJID")
]


USED = ("PARAMCD", "AVISIT", "AVAL", "ADT", "ADY", "ABLFL", "ANL01FL", "TRT01P", "TRTSDT", "ASTDT")


def test_no_variable_that_rules_use_can_break_the_assessment() -> None:
    places = [place for place in COLUMNS if place[1] in USED]
    spoil(places[::2], "absent")
    spoil(places[1::2], "other storage")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["absent", "other storage", "blank"])
def test_no_single_variable_can_break_the_assessment(way: str) -> None:
    spoil(COLUMNS, way)


def spoil(columns: list[tuple[str, str]], way: str) -> None:
    """Put every rule to the trial with one variable after the other spoilt."""
    for name, column in columns:
        frame = of(clean(), name).frame
        dtype = frame.schema[column]
        if way == "absent":
            tables = drop_column(name, column)(clean())
        elif way == "blank":
            tables = put(clean(), name, frame.with_columns(pl.lit(None, dtype).alias(column)))
        elif dtype == pl.String():
            tables = put(clean(), name, frame.with_columns(pl.lit(1.0).alias(column)))
        else:
            tables = cast_column(name, column, pl.String())(clean())
        trial = Trial(tables, LAYOUT)
        for rule in RULES:
            rule.check(trial)


@pytest.mark.parametrize("name", ["ADQS", "ADAE", "ADTTE"])
def test_an_empty_data_set_does_not_break_the_assessment(name: str) -> None:
    assess(put(clean(), name, of(clean(), name).frame.clear()), LAYOUT)


def test_independent_score_of_known_answers() -> None:
    rules = (
        fixed("E", Severity.ERROR, {"P01": 4, "P02": 4, "": 10}, {"P01": 1, "": 2}),
        fixed("W", Severity.WARNING, {"P01": 5, "P03": 2}, {"P01": 5, "P03": 1}),
        fixed("N", Severity.NOTE, {"P02": 1}, {"P02": 1}),
    )
    result = assess(clean(), LAYOUT, rules=rules)
    scores = dict(result.patients.select("subject", "score").rows())
    assert scores["P01"] == pytest.approx(100 - 50 / 4 - 10)
    assert scores["P02"] == 100
    assert scores["P03"] == pytest.approx(100 - 10 / 2)
    assert result.score == pytest.approx(100 - (22.5 + 5) / 36 - 50 * 2 / 10)
    assert result.patients["subject"].to_list()[:2] == ["P01", "P03"]
    assert result.patients.row(0, named=True)["lost_most_to"] == "E"


def test_arithmetic_adds_up_to_the_score() -> None:
    everything = dict.fromkeys(SUBJECTS, 1)
    rules = tuple(fixed(f"E{k}", Severity.ERROR, everything, dict(list(everything.items())[: 8 * k])) for k in range(4))
    result = assess(clean(), LAYOUT, rules=rules)
    table = finding(result, "REL-SCORE").table
    assert table is not None
    lost = sum(float(value) for value in table.column("contribution") if isinstance(value, (int, float)))
    assert 100 - lost == pytest.approx(result.score)
    assert result.patients["score"].min() == 0  # three errors would take 150 points: the floor is needed here


def test_a_rule_that_everybody_satisfies_changes_no_score() -> None:
    rules = (fixed("E", Severity.ERROR, {"P01": 4}, {"P01": 1}),)
    more = (*rules, *(fixed(f"P{k}", Severity.ERROR, dict.fromkeys(SUBJECTS, 100), {}) for k in range(5)))
    assert assess(clean(), LAYOUT, rules=rules).score == assess(clean(), LAYOUT, rules=more).score


def test_strangers_are_scored_too() -> None:
    result = assess(repeat_rows("ADAE", P03 | (pl.col("USUBJID") == "P02"), USUBJID="P99")(clean()), LAYOUT)
    assert result.patients.row(0, named=True)["subject"] == "P99"
    assert len(result.patients) == len(SUBJECTS) + 1


def test_figures_draw_columns_of_their_tables(good: Reliability) -> None:
    drawn = {f.id: f.figure for f in good.findings if f.figure}
    assert {"REL-M01", "REL-M03", "REL-C01", "REL-C02", "REL-C03"} == set(drawn)
    assert all(figure.alt for figure in drawn.values())


def test_missingness_table_counts_every_arm_and_visit(good: Reliability) -> None:
    table = finding(good, "REL-M01").table
    assert table is not None
    visits = [visit.name for visit in LAYOUT.visits]
    assert [(row[1], row[2]) for row in table.rows] == list(product(LAYOUT.arms, visits))
    by_place = {(row[1], row[2]): row for row in table.rows}
    assert by_place[("Active", "Week 8")][3:6] == (18, 2, 0)
    assert by_place[("Placebo", "Week 8")][3:6] == (18, 0, 0)
