"""Derivations of ADaM: windows, the record that counts, baseline, change, LOCF."""

from pathlib import Path

import polars as pl
import pytest

from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage
from trialtwin.data.derive import DERIVED, add_study_day, derive
from trialtwin.data.layout import Visit
from trialtwin.data.xport import read_xport

WEEKS = (
    Visit("Baseline", 1.0, None, 1.0),
    Visit("Week 8", 56.0, 2.0, 84.0),
    Visit("Week 16", 112.0, 85.0, 140.0),
    Visit("Week 24", 168.0, 141.0, None),
)
COLUMNS = {"USUBJID": Storage.CHAR, "PARAMCD": Storage.CHAR, "ADY": Storage.NUM, "AVAL": Storage.NUM}


def records(*rows: tuple, columns: dict[str, Storage] = COLUMNS) -> DataSet:
    fields = tuple(Field(name, storage) for name, storage in columns.items())
    schema = {name: DTYPES[storage] for name, storage in columns.items()}
    return DataSet("ADX", fields, pl.DataFrame(list(rows), schema=schema, orient="row"))


@pytest.fixture(scope="module")
def pilot(shared: Path) -> DataSet:
    return read_xport(shared / "data/cdiscpilot01/adam/adqsadas.xpt")


def raw_records(file: DataSet) -> DataSet:
    """Return what was measured: rows not carried, and rows marked LOCF that lie in the window of their own visit.

    The file marks 19 measured records LOCF (they are not flagged for analysis, and their day lies in the visit's
    window); the rows that were carried are all flagged and come from before the window.
    """
    keep = pl.col("DTYPE").is_null() | (pl.col("ADY") >= pl.col("AWLO"))
    fields = tuple(field for field in file.fields if field.name not in DERIVED)
    return DataSet(file.name, fields, file.frame.filter(keep).select(field.name for field in fields))


@pytest.mark.reference
def test_reference_adqsadas_of_the_cdisc_pilot_is_derived_again_row_by_row(pilot: DataSet) -> None:
    raw = raw_records(pilot)
    assert raw.frame.height == 12463 - 222
    done = derive(raw, WEEKS, numbers=(0.0, 8.0, 16.0, 24.0), carry=("ACTOT",)).frame
    keys = ["USUBJID", "PARAMCD", "AVISIT", "ADY", "QSSEQ"]
    assert done.height == pilot.frame.height == 12463
    both = pilot.frame.join(done, on=keys, how="inner", suffix="_new", validate="1:1")
    assert both.height == 12463
    differing = {name: int(both[name].ne_missing(both[f"{name}_new"]).sum()) for name in DERIVED if name not in keys}
    odd = both.filter(pl.col("DTYPE").ne_missing(pl.col("DTYPE_new")))
    assert differing == dict.fromkeys(differing, 0) | {"DTYPE": 19}
    assert odd["DTYPE"].to_list() == ["LOCF"] * 19
    assert odd["ANL01FL"].null_count() == 19
    assert (odd["ADY"] >= odd["AWLO"]).all()


def test_reference_pilot_has_no_two_records_equally_close_to_a_target(pilot: DataSet) -> None:
    measured = raw_records(pilot).frame.select("USUBJID", "PARAMCD", "QSSEQ", "ADY")
    joined = measured.join(pilot.frame.select("USUBJID", "PARAMCD", "QSSEQ", "AVISIT", "AWTDIFF", "AWLO", "ADY"),
                           on=["USUBJID", "PARAMCD", "QSSEQ", "ADY"])  # fmt: skip
    own = joined.filter((pl.col("ADY") >= pl.col("AWLO")) | pl.col("AWLO").is_null())
    counts = own.group_by("USUBJID", "PARAMCD", "AVISIT", "AWTDIFF").len()
    assert counts["len"].max() == 1


def small(*rows: tuple) -> list[tuple]:
    done = derive(records(*rows), WEEKS).frame
    return done.select("ADY", "AVISIT", "AWTDIFF", "ANL01FL").rows()


def test_the_record_closest_to_the_target_counts() -> None:
    rows = small(("1", "X", 30.0, 1.0), ("1", "X", 58.0, 2.0), ("1", "X", 84.0, 3.0))
    assert rows == [(30.0, "Week 8", 26.0, None), (58.0, "Week 8", 2.0, "Y"), (84.0, "Week 8", 28.0, None)]


def test_of_two_equally_close_the_later_counts_then_the_one_further_down() -> None:
    assert [row[3] for row in small(("1", "X", 54.0, 1.0), ("1", "X", 58.0, 2.0))] == [None, "Y"]
    assert [row[3] for row in small(("1", "X", 58.0, 2.0), ("1", "X", 54.0, 1.0))] == [None, "Y"]
    assert [row[3] for row in small(("1", "X", 56.0, 2.0), ("1", "X", 56.0, 1.0))] == [None, "Y"]


def test_a_record_with_a_value_counts_before_a_closer_one_without() -> None:
    assert [row[3] for row in small(("1", "X", 56.0, None), ("1", "X", 80.0, 2.0))] == [None, "Y"]
    assert [row[3] for row in small(("1", "X", 56.0, None))] == ["Y"]


def test_subjects_and_parameters_do_not_mix() -> None:
    done = derive(records(("1", "X", 1.0, 5.0), ("2", "X", 1.0, 7.0), ("2", "Y", 50.0, 9.0)), WEEKS, carry=["X"]).frame
    carried = done.filter(pl.col("DTYPE") == "LOCF").select("USUBJID", "PARAMCD", "AVISIT", "AVAL", "CHG").rows()
    assert carried == [
        (who, "X", f"Week {w}", aval, 0.0) for who, aval in (("1", 5.0), ("2", 7.0)) for w in (8, 16, 24)
    ]
    assert done.filter(pl.col("PARAMCD") == "Y").select("BASE", "CHG", "ABLFL").rows() == [(None, None, None)]


def test_a_missing_value_is_filled_and_no_longer_counts() -> None:
    done = derive(records(("1", "X", 1.0, 5.0), ("1", "X", 56.0, None)), WEEKS[:2], carry=["X"]).frame
    week_8 = done.filter(pl.col("AVISIT") == "Week 8").select("ADY", "AVAL", "ANL01FL", "DTYPE").rows()
    assert week_8 == [(1.0, 5.0, "Y", "LOCF"), (56.0, None, None, None)]


def test_percent_change_of_zero_is_missing() -> None:
    done = derive(records(("1", "X", 1.0, 0.0), ("1", "X", 56.0, 3.0)), WEEKS[:2]).frame
    assert done.select("BASE", "CHG", "PCHG").rows() == [(0.0, None, None), (0.0, 3.0, None)]


def test_study_days_have_no_zero() -> None:
    dated = records(columns={"USUBJID": Storage.CHAR, "ADT": Storage.DATE, "TRTSDT": Storage.DATE})
    frame = pl.DataFrame({"USUBJID": ["1"] * 3, "TRTSDT": ["2014-03-02"] * 3,
                          "ADT": ["2014-03-01", "2014-03-02", "2014-03-09"]})  # fmt: skip
    frame = frame.with_columns(pl.col("TRTSDT", "ADT").str.to_date()).select(dated.frame.columns)
    days = add_study_day(DataSet(dated.name, dated.fields, frame))
    assert days.frame["ADY"].to_list() == [-1.0, 1.0, 8.0]


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ([], "no analysis visits"),
        ([Visit("A", 1.0, None, 1.0), Visit("A", 56.0, 2.0, None)], "repeat"),
        ([Visit("A", 1.0, None, 10.0), Visit("B", 56.0, 10.0, None)], r"A \(<=10\) and B \(10-|overlap"),
        ([Visit("B", 56.0, 2.0, None), Visit("A", 1.0, None, 1.0)], "overlap"),
        ([Visit("A", 5.0, None, 1.0)], r"A \(<=1\) does not hold its target 5"),
    ],
)
def test_windows_that_make_no_sense_are_refused(windows: list[Visit], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        derive(records(("1", "X", 1.0, 1.0)), windows)


def test_faults_of_raw_records_are_refused() -> None:
    good = records(("1", "X", 1.0, 1.0))
    with pytest.raises(
        DataError, match=r"1 record\(s\) lie in no analysis window[\s\S]*7 day 90[\s\S]*Week 8 \(2-84\)"
    ):
        derive(records(("7", "X", 90.0, 1.0)), WEEKS[:2])
    with pytest.raises(DataError, match=r"no parameter Z to carry[\s\S]*exists: X"):
        derive(good, WEEKS, carry=["Z"])
    with pytest.raises(DataError, match="have no study day"):
        derive(records(("1", "X", None, 1.0)), WEEKS)
    with pytest.raises(ConfigError, match="2 visit numbers for 4 visits"):
        derive(good, WEEKS, numbers=(0.0, 8.0))
    with pytest.raises(MismatchError, match="no variable AVAL"):
        derive(DataSet("A", good.fields[:3], good.frame.drop("AVAL")), WEEKS)
    texts = {**COLUMNS, "AVAL": Storage.CHAR}
    with pytest.raises(DataError, match=r"stored as characters[\s\S]*row 1 \(1\): 'x'"):
        derive(records(("1", "X", 1.0, "x"), columns=texts), WEEKS)
    again = derive(records(("1", "X", 1.0, 1.0)), WEEKS, carry=["X"])
    with pytest.raises(DataError, match=r"3 row\(s\) of ADX are derived already[\s\S]*LOCF"):
        derive(again, WEEKS)
