"""From tables to a cohort and an endpoint: what enters, and every structural fault that is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.variables import Kind, Variable
from trialtwin.data.cdisc import TrialTables, read_tables
from trialtwin.data.cohort import assemble
from trialtwin.data.dataset import DTYPES, DataSet, Field
from trialtwin.data.endpoint import endpoint
from trialtwin.data.layout import Layout, Outcome, Visit

PILOT = "data/cdiscpilot01/adam"
ARMS = ("Placebo", "Xanomeline Low Dose", "Xanomeline High Dose")
NAN = float("nan")


@pytest.fixture
def pilot_layout() -> Layout:
    return Layout(
        arm="TRT01P",
        arms=ARMS,
        visits=(
            Visit("Baseline", 1.0, None, 1.0),
            Visit("Week 8", 56.0, 2.0, 84.0),
            Visit("Week 16", 112.0, 85.0, 140.0),
            Visit("Week 24", 168.0, 141.0, None),
        ),
        outcomes=(Outcome(Variable("ACTOT"), "adqsadas", "ACTOT"), Outcome(Variable("MMSETOT"), "adsl")),
        covariates=(Variable("AGE"), Variable("SEX", kind=Kind.CATEGORICAL, levels=("F", "M"))),
    )


def edited(table: DataSet, change: Callable[[pl.DataFrame], pl.DataFrame]) -> DataSet:
    """Change the rows of a table; columns keep their types, or get those that the change gives them."""
    frame = change(table.frame)
    storage = {dtype: kind for kind, dtype in DTYPES.items()}
    fields = tuple(Field(name, storage[dtype]) for name, dtype in frame.schema.items())
    return replace(table, fields=fields, frame=frame)


def with_findings(trial: TrialTables, change: Callable[[pl.DataFrame], pl.DataFrame]) -> TrialTables:
    return replace(trial, findings={"adqs": edited(trial.finding("adqs"), change)})


def with_subjects(trial: TrialTables, change: Callable[[pl.DataFrame], pl.DataFrame]) -> TrialTables:
    return replace(trial, subjects=edited(trial.subjects, change))


def doubled(frame: pl.DataFrame, row: int) -> pl.DataFrame:
    return pl.concat([frame, frame.slice(row, 1)])


def put(column: str, row: int, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Make a change that sets one cell."""

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        values = frame[column].to_list()
        values[row] = value
        return frame.with_columns(pl.Series(column, values, dtype=frame.schema[column]))

    return change


def test_only_measured_records_enter(small_trial: TrialTables, small_layout: Layout) -> None:
    cohort = assemble(small_trial, small_layout)
    assert cohort.ids == ("01", "02", "03", "04")
    assert cohort.treatments == ("Placebo", "High")
    np.testing.assert_array_equal(cohort.received, [0, 0, 1, 1])
    wanted = [[10, 11, 13], [20, 22, NAN], [30, NAN, NAN], [40, NAN, 38.5]]
    np.testing.assert_array_equal(cohort.values[:, :, 0], wanted)
    np.testing.assert_array_equal(cohort.values[:, 0, 1], [20, NAN, 22, 23])
    assert not cohort.observed[:, 1:, 1].any()
    np.testing.assert_array_equal(cohort.nominal, [0, 56, 112])
    np.testing.assert_array_equal(cohort.times, [[0, 49, 114], [-2, 56, 112], [0, 59, 112], [0, 56, 112]])
    np.testing.assert_array_equal(cohort.covariates, [[70, 0], [71, 1], [NAN, 0], [73, NAN]])


def test_events_come_from_adtte_then_adae(small_trial: TrialTables, small_layout: Layout) -> None:
    events = assemble(small_trial, small_layout).events
    assert events is not None
    assert events.name == ("TTDE", "TTDE", "TTDE", "TTDE", "RASH", "FALL", "RASH")
    np.testing.assert_array_equal(events.patient, [0, 1, 2, 3, 0, 1, 3])
    np.testing.assert_array_equal(events.time, [4, 112, 59, 1, 4, -3, NAN])
    np.testing.assert_array_equal(events.observed, [True, False, False, True, True, True, True])
    without = assemble(replace(small_trial, events=None, times=None), small_layout)
    assert without.events is None


def test_arm_may_be_a_number_and_binary_a_flag(small_trial: TrialTables, small_layout: Layout) -> None:
    layout = replace(small_layout, arm="TRT01PN", arms=("0", "54"), covariates=(Variable("EFFFL", kind=Kind.BINARY),))
    cohort = assemble(small_trial, layout)
    np.testing.assert_array_equal(cohort.received, [0, 0, 1, 1])
    np.testing.assert_array_equal(cohort.covariates[:, 0], [1, 1, 1, 0])


def test_population_chooses_subjects_and_their_events(small_trial: TrialTables, small_layout: Layout) -> None:
    more = with_subjects(small_trial, lambda f: pl.concat([f, f.slice(2, 1).with_columns(USUBJID=pl.lit("05"))]))
    cohort = assemble(more, small_layout, population=("EFFFL", "Y"))
    assert cohort.ids == ("01", "02", "03", "05")
    assert cohort.events is not None
    assert set(cohort.events.patient.tolist()) == {0, 1, 2}


def test_study_day_is_counted_from_dates_where_there_is_none(small_trial: TrialTables, small_layout: Layout) -> None:
    def dated(frame: pl.DataFrame) -> pl.DataFrame:
        start = pl.lit("2014-03-01").str.to_date()
        days = pl.when(pl.col("ADY") >= 1).then(pl.col("ADY") - 1).otherwise(pl.col("ADY")).cast(pl.Int64)
        return frame.with_columns(TRTSDT=start, ADT=start + pl.duration(days=days)).drop("ADY")

    wanted = assemble(small_trial, small_layout)
    assert assemble(with_findings(small_trial, dated), small_layout).digest() == wanted.digest()


FINDINGS = [
    (lambda f: f.with_columns(USUBJID=pl.col("USUBJID").replace("04", "99")), DataError, r"not in ADSL[\s\S]*99"),
    (lambda f: doubled(f, 1), DataError, r"several ACTOT records of a subject and visit[\s\S]*01 Week 8 \(2 rows\)"),
    (put("ANL01FL", 2, "Y"), DataError, r"several ACTOT records[\s\S]*01 Week 8"),
    (put("ABLFL", 1, "Y"), DataError, r"two baselines[\s\S]*01 ACTOT \(2 rows\)"),
    (
        lambda f: put("AVAL", 3, "n/a")(f.with_columns(pl.col("AVAL").cast(pl.String))),
        DataError,
        r"AVAL of ADQS is stored as characters, and 1 value[\s\S]*row 4 \(01\): 'n/a'",
    ),
    (put("ADY", 1, None), DataError, r"1 row\(s\) of ADQS have no study day[\s\S]*01"),
    (lambda f: f.drop("ADY"), MismatchError, "no variable ADT, TRTSDT"),
    (lambda f: f.drop("ANL01FL"), MismatchError, "no variable ANL01FL"),
    (lambda f: f.drop("PARAMCD"), MismatchError, "no variable PARAMCD"),
    (lambda f: f.filter(pl.col("PARAMCD") == "OTHER"), MismatchError, r"no parameter ACTOT[\s\S]*exists: OTHER"),
    (lambda f: f.filter(pl.col("AVISIT") != "Week 8"), MismatchError, r"visit Week 8[\s\S]*exists: Baseline, Week 16"),
    (lambda f: f.with_columns(ANL01FL=pl.lit(None, pl.String)), MismatchError, "no analysed record at visit Baseline"),
    (put("USUBJID", 1, None), DataError, r"rows without USUBJID[\s\S]*row 2"),
]


@pytest.mark.parametrize(("change", "error", "words"), FINDINGS)
def test_faults_of_measurements_are_refused(
    small_trial: TrialTables, small_layout: Layout, change: Callable, error: type[DataError], words: str
) -> None:
    with pytest.raises(error, match=words):
        assemble(with_findings(small_trial, change), small_layout)


SUBJECTS = [
    (lambda f: doubled(f, 0), DataError, r"5 rows for 4 subjects[\s\S]*01"),
    (put("TRT01P", 3, "Medium"), DataError, r"'Medium', not declared[\s\S]*exists: Placebo, High, Medium"),
    (put("TRT01P", 3, None), DataError, r"have no arm[\s\S]*04"),
    (lambda f: f.filter(pl.col("TRT01P") == "Placebo"), DataError, r"no subject of 'High', declared"),
    (put("TRT01P", 3, "Placebo"), DataError, r"at least 2 patients: High \(1\)"),
    (put("SEX", 1, "U"), DataError, r"SEX holds 'U'[\s\S]*02[\s\S]*exists: F, M"),
    (lambda f: f.drop("AGE"), MismatchError, "no variable AGE, needed as a covariate"),
    (lambda f: f.with_columns(AGE=pl.lit("old")), DataError, r"AGE of ADSL is stored as characters"),
    (lambda f: f.drop("TRT01P"), MismatchError, "no variable TRT01P, needed as treatment arm"),
    (lambda f: f.drop("MMSETOT"), MismatchError, "no variable MMSETOT"),
    (lambda f: f.clear(), DataError, "no subject of ADSL is left"),
    (lambda f: f.drop("USUBJID"), MismatchError, "no variable USUBJID"),
]


@pytest.mark.parametrize(("change", "error", "words"), SUBJECTS)
def test_faults_of_subjects_are_refused(
    small_trial: TrialTables, small_layout: Layout, change: Callable, error: type[DataError], words: str
) -> None:
    with pytest.raises(error, match=words):
        assemble(with_subjects(small_trial, change), small_layout)


def test_a_declared_arm_without_patients_is_refused(small_trial: TrialTables, small_layout: Layout) -> None:
    with pytest.raises(DataError, match=r"no subject of 'Low', declared[\s\S]*exists: Placebo, High"):
        assemble(small_trial, replace(small_layout, arms=("Placebo", "Low", "High")))


def test_faults_of_the_population_are_refused(small_trial: TrialTables, small_layout: Layout) -> None:
    with pytest.raises(MismatchError, match="no variable ITTFL, needed as population flag"):
        assemble(small_trial, small_layout, population=("ITTFL", "Y"))
    with pytest.raises(DataError, match=r"no subject of ADSL is left where EFFFL is 'YES'[\s\S]*exists: Y, N"):
        assemble(small_trial, small_layout, population=("EFFFL", "YES"))
    with pytest.raises(DataError, match=r"High \(1\)"):
        assemble(small_trial, small_layout, population=("EFFFL", "Y"))


def test_a_binary_covariate_of_other_values_is_refused(small_trial: TrialTables, small_layout: Layout) -> None:
    with pytest.raises(DataError, match=r"AGE is declared binary[\s\S]*exists: 70, 71, 73"):
        assemble(small_trial, replace(small_layout, covariates=(Variable("AGE", kind=Kind.BINARY),)))


@pytest.mark.parametrize(
    ("role", "change", "words"),
    [
        ("times", put("CNSR", 0, None), r"CNSR of ADTTE is missing in 1 row[\s\S]*01"),
        ("times", put("USUBJID", 0, "99"), "not in ADSL"),
        ("times", lambda f: f.drop("CNSR"), "no variable CNSR"),
        ("events", put("AEDECOD", 0, None), "AEDECOD of ADAE is missing"),
        ("events", lambda f: f.drop("ASTDY"), "no variable ASTDY"),
        ("events", put("USUBJID", 0, "99"), "not in ADSL"),
    ],
)
def test_faults_of_events_are_refused(
    small_trial: TrialTables, small_layout: Layout, role: str, change: Callable, words: str
) -> None:
    faulty = replace(small_trial, **{role: edited(getattr(small_trial, role), change)})
    with pytest.raises(DataError, match=words):
        assemble(faulty, small_layout)


def test_endpoint_includes_what_was_carried_and_says_who_is_absent(
    small_trial: TrialTables, small_layout: Layout
) -> None:
    rows = endpoint(small_trial, small_layout, paramcd="ACTOT", visit="Week 16")
    assert rows.ids == ("01", "02", "04")
    np.testing.assert_array_equal(rows.value, [3, 2, -1.5])
    np.testing.assert_array_equal(rows.base, [10, 20, 40])
    assert rows.dtype == ("", "LOCF", "")
    assert rows.absent == {"03": "no record at Week 16"}
    assert endpoint(small_trial, small_layout, paramcd="ACTOT", visit="Week 8").absent == {
        "03": "CHG is missing at Week 8",
        "04": "no record at Week 8",
    }
    other = endpoint(small_trial, small_layout, paramcd="OTHER", visit="Week 16", column="AVAL")
    assert (other.ids, other.absent["04"]) == ((), "BASE is missing at Week 16")


def test_faults_of_an_endpoint_are_refused(small_trial: TrialTables, small_layout: Layout) -> None:
    with pytest.raises(MismatchError, match=r"at visit 'Week 24'[\s\S]*exists: Baseline, Week 8, Week 16"):
        endpoint(small_trial, small_layout, paramcd="ACTOT", visit="Week 24")
    with pytest.raises(MismatchError, match=r"parameter CDRSB[\s\S]*exists: ACTOT, OTHER"):
        endpoint(small_trial, small_layout, paramcd="CDRSB", visit="Week 16")
    with pytest.raises(MismatchError, match="no variable PCHG, needed for the endpoint"):
        endpoint(small_trial, small_layout, paramcd="ACTOT", visit="Week 16", column="PCHG")
    twice = with_findings(small_trial, lambda f: doubled(f, 3))
    with pytest.raises(DataError, match="several ACTOT records of a subject at Week 16"):
        endpoint(twice, small_layout, paramcd="ACTOT", visit="Week 16")


@pytest.mark.reference
def test_reference_pilot_cohort_and_endpoint_agree_with_table_14_3_01(shared: Path, pilot_layout: Layout) -> None:
    tables = read_tables(shared / PILOT, events="adae", times="adtte")
    cohort = assemble(tables, pilot_layout, population=("EFFFL", "Y"))
    np.testing.assert_array_equal(np.bincount(cohort.received), [79, 81, 74])
    rows = endpoint(tables, pilot_layout, paramcd="ACTOT", visit="Week 24", population=("EFFFL", "Y"))
    assert rows.ids == cohort.ids
    assert dict(rows.absent) == {}
    means = [rows.value[cohort.received == arm].mean() for arm in range(3)]
    spreads = [rows.value[cohort.received == arm].std(ddof=1) for arm in range(3)]
    assert [f"{mean:.1f} ({sd:.2f})" for mean, sd in zip(means, spreads, strict=True)] == [
        "2.5 (5.80)",
        "2.0 (5.55)",
        "1.5 (4.26)",
    ]
    measured = cohort.observed[:, 3, 0] & cohort.observed[:, 0, 0]
    assert int(measured.sum()) == rows.dtype.count("") == 155
    change = cohort.values[measured, 3, 0] - cohort.values[measured, 0, 0]
    np.testing.assert_array_equal(change, rows.value[np.array(rows.dtype) == ""])


@pytest.mark.reference
def test_reference_pilot_events_agree_with_the_published_counts(shared: Path, pilot_layout: Layout) -> None:
    cohort = assemble(read_tables(shared / PILOT, times="adtte"), pilot_layout)
    assert cohort.events is not None
    arms = cohort.received[cohort.events.patient]
    np.testing.assert_array_equal(np.bincount(arms, weights=cohort.events.observed), [29, 62, 61])
    np.testing.assert_array_equal(np.bincount(arms), [86, 84, 84])
