"""Bad input: each kind ends with a clear error, an exit code of its own, and nothing written."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from trialtwin.cli.app import run_app
from trialtwin.data.cdisc import TrialTables, write_tables
from trialtwin.data.dataset import DataSet
from trialtwin.data.examples import generate_trial
from trialtwin.study.example import example_text

type Spoil = Callable[[TrialTables], TrialTables]
BDS = "ADQSADAS"


def bds(tables: TrialTables, change: Callable[[pl.DataFrame], pl.DataFrame]) -> TrialTables:
    table = tables.findings[BDS]
    return replace(tables, findings={BDS: replace(table, frame=change(table.frame))})


def adsl(tables: TrialTables, change: Callable[[pl.DataFrame], pl.DataFrame]) -> TrialTables:
    return replace(tables, subjects=replace(tables.subjects, frame=change(tables.subjects.frame)))


def total(visit: str) -> pl.Expr:
    return (pl.col("PARAMCD") == "ACTOT") & (pl.col("AVISIT") == visit) & (pl.col("ANL01FL") == "Y")


def twice(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame, frame.filter(total("Week 8")).head(1)])


def two_baselines(frame: pl.DataFrame) -> pl.DataFrame:
    row = frame.filter(total("Baseline")).head(1)
    return pl.concat([frame, row.with_columns(AVISIT=pl.lit("Screening"), ANL01FL=pl.lit(None, pl.String))])


def without(table: DataSet, column: str) -> DataSet:
    fields = tuple(field for field in table.fields if field.name != column)
    return DataSet(table.name, fields, table.frame.drop(column), table.label)


def one_left(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat(
        [frame.filter(pl.col("TRT01P") != "High Dose"), frame.filter(pl.col("TRT01P") == "High Dose").head(1)]
    )


def known_to(tables: TrialTables) -> TrialTables:
    """Keep the records of subjects in ADSL."""
    known = tables.subjects.frame["USUBJID"]
    kept = bds(tables, lambda f: f.filter(pl.col("USUBJID").is_in(known)))
    return replace(kept, events=None, times=None)


CASES: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "a subject who is not in ADSL": (lambda t: adsl(t, lambda f: f.slice(1)), ("TWINEX1-101-1001", "ADSL")),
    "duplicate subject-visit rows": (lambda t: bds(t, twice), ("ACTOT", "Week 8")),
    "two baselines": (lambda t: bds(t, two_baselines), ("baseline", "TWINEX1-")),
    "an unknown variable": (
        lambda t: replace(t, subjects=without(t.subjects, "MMSETOT")),
        ("MMSETOT", "AGE"),
    ),
    "an arm with one patient": (lambda t: known_to(adsl(t, one_left)), ("High Dose",)),
    "an arm that was not declared": (
        lambda t: adsl(t, lambda f: f.with_columns(TRT01P=pl.col("TRT01P").replace("Low Dose", "Middle Dose"))),
        ("Middle Dose", "Low Dose"),
    ),
    "no record at a visit": (lambda t: bds(t, lambda f: f.filter(pl.col("AVISIT") != "Week 16")), ("Week 16",)),
}


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], tuple[int, str]]:
    """Run the study on what lies in the data folder."""
    (tmp_path / "study.toml").write_text(example_text(), encoding="utf-8")

    def call() -> tuple[int, str]:
        words = ["run", tmp_path / "study.toml", "--data", tmp_path / "data", "--out", tmp_path / "runs"]
        monkeypatch.setattr(sys, "argv", ["trialtwin", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            run_app()
        return int(stopped.value.code or 0), capsys.readouterr().err

    return call


@pytest.fixture(scope="module")
def trial() -> TrialTables:
    return generate_trial(seed=3, patients=72)


@pytest.mark.parametrize("case", list(CASES))
def test_bad_data_end_in_a_clear_error_and_nothing_written(
    case: str, trial: TrialTables, run: Callable[[], tuple[int, str]], tmp_path: Path
) -> None:
    spoil, words = CASES[case]
    tables = spoil(trial)
    if tables.events is None:
        study = tmp_path / "study.toml"
        text = study.read_text(encoding="utf-8").replace('events = "adae"\n', "").replace('times = "adtte"\n', "")
        study.write_text(text, encoding="utf-8")
    (tmp_path / "data").mkdir()
    write_tables(tables, tmp_path / "data")
    code, said = run()
    assert code == 3, said
    for word in words:
        assert word in said
    assert not (tmp_path / "runs").exists()


def test_the_wrong_data_set_under_a_name_is_told(
    trial: TrialTables, run: Callable[[], tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    write_tables(trial, tmp_path / "data")
    (tmp_path / "data" / "adsl.xpt").write_bytes((tmp_path / "data" / "adae.xpt").read_bytes())
    code, said = run()
    assert code == 3
    assert "ADAE" in said
    assert "ADSL" in said
    assert not (tmp_path / "runs").exists()


def test_a_value_that_is_no_number_is_told_with_its_row(
    trial: TrialTables, run: Callable[[], tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    write_tables(trial, tmp_path / "data", suffix=".csv")
    path = tmp_path / "data" / "adqsadas.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    column = lines[0].split(",").index("AVAL")
    cells = lines[5].split(",")
    cells[column] = "twelve"
    lines[5] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, said = run()
    assert code == 3
    assert "twelve" in said
    assert "AVAL" in said
    assert not (tmp_path / "runs").exists()
