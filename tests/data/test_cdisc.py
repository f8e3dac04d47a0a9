"""Data sets found by name, read in any format, and refused where they are not what they should be."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.data.cdisc import TrialTables, read_dataset, read_folder, read_tables, write_dataset, write_tables
from trialtwin.data.compare import Cause, compare
from trialtwin.data.dataset import DataSet, Field, Storage
from trialtwin.data.tabular import write_csv

SUFFIXES = (".xpt", ".json", ".ndjson", ".csv", ".parquet")
PILOT = "data/cdiscpilot01"


def test_missing_file_lists_what_is_in_the_folder(small_trial: TrialTables, tmp_path: Path) -> None:
    write_tables(small_trial, tmp_path)
    with pytest.raises(DataError, match=r"no file adlb.xpt[\s\S]*adae.xpt, adqs.xpt, adsl.xpt, adtte.xpt"):
        read_dataset(tmp_path / "adlb.xpt")


def test_missing_folder_lists_the_folders_beside_it(tmp_path: Path) -> None:
    (tmp_path / "adam").mkdir()
    with pytest.raises(DataError, match=r"no folder adm[\s\S]*exists: adam"):
        read_folder(tmp_path / "adm", ["adsl"])
    with pytest.raises(DataError, match=r"no folder adm"):
        read_dataset(tmp_path / "adm" / "adsl.xpt")


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    (tmp_path / "adsl.xpt").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        read_dataset(tmp_path / "adsl.xpt")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        read_folder(tmp_path / "file", ["adsl"])


def test_unknown_suffix_lists_the_formats(tmp_path: Path) -> None:
    (tmp_path / "adsl.sas7bdat").write_text("x")
    with pytest.raises(DataError, match=r"unknown format '.sas7bdat'[\s\S]*\.xpt, \.json, \.ndjson, \.csv, \.parquet"):
        read_dataset(tmp_path / "adsl.sas7bdat")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_tables_and_a_hash(small_trial: TrialTables, tmp_path: Path, suffix: str) -> None:
    write_tables(small_trial, tmp_path, suffix=suffix)
    back = read_tables(tmp_path, findings=["adqs"], events="adae", times="adtte")
    for wanted, table in (
        (small_trial.subjects, back.subjects),
        (small_trial.finding("adqs"), back.finding("ADQS")),
        (small_trial.events, back.events),
        (small_trial.times, back.times),
    ):
        assert table is not None
        assert wanted is not None
        assert table.name == wanted.name
        assert table.frame.equals(wanted.frame)
        assert [field.storage for field in table.fields] == [field.storage for field in wanted.fields]
    assert set(back.sources()) == {"ADSL", "ADQS", "ADAE", "ADTTE"}
    assert all(len(sha256) == 64 for sha256 in back.sources().values())


@pytest.mark.parametrize("suffix", [".xpt", ".json", ".ndjson"])
def test_another_data_set_under_the_name_is_refused(small_trial: TrialTables, tmp_path: Path, suffix: str) -> None:
    write_dataset(small_trial.subjects, tmp_path / f"adqs{suffix}")
    with pytest.raises(DataError, match="holds the data set ADSL, where ADQS is wanted"):
        read_dataset(tmp_path / f"adqs{suffix}", expect="adqs")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_without_an_internal_name_the_content_decides(small_trial: TrialTables, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_dataset(small_trial.finding("adqs"), path)
    with pytest.raises(DataError, match="ADSL has 12 rows for 4 subjects"):
        read_dataset(path, expect="ADSL")
    with pytest.raises(MismatchError, match="no variable CNSR"):
        read_dataset(path, expect="ADTTE")
    with pytest.raises(MismatchError, match="no variable AETERM, AEDECOD"):
        read_dataset(path, expect="ADAE")
    write_dataset(small_trial.subjects, path)
    with pytest.raises(MismatchError, match="no variable PARAMCD, AVAL"):
        read_dataset(path, expect="ADQS")


def test_rows_without_a_subject_are_refused(tmp_path: Path) -> None:
    table = DataSet("ADSL", (Field("USUBJID", Storage.CHAR), Field("AGE", Storage.NUM)),
                    pl.DataFrame({"USUBJID": ["1", None], "AGE": [1.0, 2.0]}))  # fmt: skip
    write_dataset(table, tmp_path / "adsl.json")
    with pytest.raises(DataError, match=r"rows without USUBJID[\s\S]*row 2"):
        read_dataset(tmp_path / "adsl.json", expect="ADSL")


def test_two_formats_of_one_data_set_ask_to_choose(small_trial: TrialTables, tmp_path: Path) -> None:
    write_dataset(small_trial.subjects, tmp_path / "ADSL.XPT")
    write_dataset(small_trial.subjects, tmp_path / "adsl.json")
    with pytest.raises(DataError, match=r"adsl lies there in 2 files[\s\S]*ADSL.XPT, adsl.json[\s\S]*choose"):
        read_folder(tmp_path, ["adsl"])


def test_names_are_found_in_upper_and_lower_case(small_trial: TrialTables, tmp_path: Path) -> None:
    write_dataset(small_trial.subjects, tmp_path / "ADSL.XPT")
    assert list(read_folder(tmp_path, ["adsl"])) == ["adsl"]


def test_missing_data_set_lists_those_that_are_there(small_trial: TrialTables, tmp_path: Path) -> None:
    write_tables(small_trial, tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        DataError, match=r"no data set adqsadas[\s\S]*exists: adae.xpt, adqs.xpt, adsl.xpt, adtte.xpt\n"
    ):
        read_folder(tmp_path, ["adqsadas"])
    with pytest.raises(DataError, match="no data set 'adqsadas' was read"):
        small_trial.finding("adqsadas")


def test_mapping_is_for_tables_without_cdisc_names(small_trial: TrialTables, tmp_path: Path) -> None:
    frame = small_trial.subjects.frame.rename({"USUBJID": "subject_id"})
    renamed = tuple(
        Field("subject_id" if f.name == "USUBJID" else f.name, f.storage) for f in small_trial.subjects.fields
    )
    write_csv(DataSet("X", renamed, frame), tmp_path / "adsl.csv")
    read = read_folder(tmp_path, ["adsl"], mappings={"ADSL": {"USUBJID": "subject_id"}})
    assert read["adsl"].frame["USUBJID"].to_list() == ["01", "02", "03", "04"]
    write_dataset(small_trial.subjects, tmp_path / "adsl.xpt")
    with pytest.raises(DataError, match="mapping of columns is for CSV and Parquet"):
        read_dataset(tmp_path / "adsl.xpt", mapping={"USUBJID": "subject_id"})


def test_missing_texts_and_encoding_reach_the_file(tmp_path: Path) -> None:
    (tmp_path / "adsl.csv").write_bytes("USUBJID,AGE,ARM\n1,NA,caf\u00e9\n2,70,\n".encode("latin-1"))
    read = read_folder(tmp_path, ["adsl"], missing=("NA",), encoding="latin-1")
    assert read["adsl"].frame.rows() == [("1", None, "caf\u00e9"), ("2", 70.0, None)]
    with pytest.raises(DataError, match="AGE holds 1 value"):
        read_folder(tmp_path, ["adsl"], encoding="latin-1")
    with pytest.raises(DataError, match=r"not in utf-8[\s\S]*line 2"):
        read_folder(tmp_path, ["adsl"])


def test_roles_are_checked_whatever_the_names(small_trial: TrialTables, tmp_path: Path) -> None:
    write_csv(small_trial.finding("adqs"), tmp_path / "patients.csv")
    write_csv(small_trial.subjects, tmp_path / "scores.csv")
    with pytest.raises(DataError, match="PATIENTS has 12 rows for 4 subjects"):
        read_tables(tmp_path, subjects="patients", findings=["scores"])
    with pytest.raises(MismatchError, match="no variable PARAMCD, AVAL"):
        read_tables(tmp_path, subjects="scores", findings=["scores"])


def test_pilot_xpt_and_dataset_json_have_the_same_subjects_arms_and_types(shared: Path) -> None:
    xpt = read_dataset(shared / PILOT / "adam/adsl.xpt", expect="ADSL")
    json = read_dataset(shared / PILOT / "datasetjson/adsl.json", expect="ADSL")
    ours, theirs = ({field.name: field.storage for field in table.fields} for table in (xpt, json))
    both = [name for name in ours if name in theirs]
    assert len(both) == 46
    assert {name: ours[name] for name in both} == {name: theirs[name] for name in both}
    found = compare(xpt, json, keys=["USUBJID"])
    assert found.matched == 254
    assert found.same
    assert {"TRT01P", "TRT01A", "TRT01PN", "ARM"} <= set(found.columns)


def test_pilot_adas_versions_differ_in_30_analysed_totals_by_rounding_alone(shared: Path) -> None:
    xpt = read_tables(shared / PILOT / "adam", findings=["adqsadas"]).finding("adqsadas")
    json = read_tables(shared / PILOT / "datasetjson", findings=["adadas"]).finding("adadas")
    assert [(f.name, f.storage) for f in xpt.fields] == [(f.name, f.storage) for f in json.fields]
    analysed = (pl.col("PARAMCD") == "ACTOT") & (pl.col("ANL01FL") == "Y")
    left, right = (DataSet(t.name, t.fields, t.frame.filter(analysed), source=t.source) for t in (xpt, json))
    found = compare(left, right, keys=["USUBJID", "AVISIT"], columns=["AVAL"])
    assert (found.matched, len(found.only_left), len(found.only_right)) == (1016, 0, 0)
    assert len(found.cells) == found.count(Cause.ROUNDING) == 30
    assert max(cell.difference for cell in found.cells if cell.difference) < 5e-11
    every = compare(xpt, json, keys=["USUBJID", "PARAMCD", "QSSEQ", "AVISIT"])
    assert every.matched == 12463
    assert every.count(Cause.VALUE) == 0


@pytest.mark.parametrize("name", ["adsl", "adqsadas", "adqscibc", "adae", "adtte"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pilot_data_sets_survive_every_format(shared: Path, tmp_path: Path, name: str, suffix: str) -> None:
    table = read_dataset(shared / PILOT / f"adam/{name}.xpt", expect=name)
    write_dataset(table, tmp_path / f"{name}{suffix}")
    back = read_dataset(tmp_path / f"{name}{suffix}", expect=name)
    assert back.frame.columns == table.frame.columns
    odd = [column for column in table.frame.columns if not back.frame[column].equals(table.frame[column])]
    if suffix == ".csv":
        assert all(table.frame[column].null_count() == table.frame.height for column in odd)
    else:
        assert odd == []


def test_pilot_file_under_the_other_name_is_refused(shared: Path, tmp_path: Path) -> None:
    shutil.copy(shared / PILOT / "adam/adtte.xpt", tmp_path / "adsl.xpt")
    with pytest.raises(DataError, match="holds the data set ADTTE, where ADSL is wanted"):
        read_tables(tmp_path, findings=[])
