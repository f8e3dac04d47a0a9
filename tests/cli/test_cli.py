"""The command line: what it prints, what it writes, and the exit codes that scripts rely on."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from trialtwin.cli.app import run_app
from trialtwin.study.example import example_text, make_example
from trialtwin.study.load import load_study

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


type Call = Callable[..., Said]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in this process."""

    def run(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["trialtwin", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            run_app()
        captured = capsys.readouterr()
        return Said(int(stopped.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_example(tmp_path_factory.mktemp("cli") / "data", seed=7, patients=90)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write the example's study file with the quick twin only."""
    import tomllib

    text = example_text().split("# Twins: forecasts")[0]
    assert tomllib.loads(text)["study"]["id"] == "demo"
    path = tmp_path / "study.toml"
    path.write_text(
        text
        + """
[[twins]]
name = "baseline"
model = "baseline"

[scoring]
folds = 3
draws = 64

[[analyses]]
id = "primary"
method = "ancova"
covariates = ["SITEGR1", "BASE"]

[[analyses]]
id = "procova"
method = "procova"
twin = "baseline"
covariates = ["SITEGR1", "BASE"]
""",
        encoding="utf-8",
    )
    return path


def test_help_answers_within_a_second() -> None:
    command = [str(Path(sys.executable).with_name("trialtwin")), "--help"]
    subprocess.run(command, check=True, capture_output=True)  # the first run may write bytecode
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        times.append(time.perf_counter() - start)
    assert "demo" in done.stdout
    assert min(times) < 1.0


def test_version_is_printed(call: Call) -> None:
    assert call("--version").out.startswith("trialtwin 0.")


def test_schema_is_json_schema(call: Call, tmp_path: Path) -> None:
    said = call("schema")
    assert json.loads(said.out)["title"] == "StudySpec"
    assert call("schema", "--out", tmp_path / "schema.json").code == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == json.loads(said.out)


def test_init_writes_the_example_and_does_not_overwrite(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    assert call("init", path).code == 0
    assert load_study(path).study.id == "demo"
    path.write_text("mine")
    said = call("init", path)
    assert said.code == 2
    assert "exists already" in said.err
    assert path.read_text() == "mine"


def test_init_fills_a_study_in_from_data_and_it_runs(call: Call, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    assert call("init", path, "--data", data).code == 0
    spec = load_study(path)
    assert spec.arms.names == ("Placebo", "Low Dose", "High Dose")
    assert [v.name for v in spec.visits] == ["Baseline", "Week 8", "Week 16", "Week 24"]
    assert spec.endpoint.outcome == "ACTOT"
    assert (spec.visits[3].target, spec.visits[3].low) == (169, 142)
    said = call("run", path, "--data", data, "--out", tmp_path / "runs", "--json")
    assert said.code == 0, said.err
    assert Path(json.loads(said.out)["report"]).is_file()


def test_init_with_an_unknown_parameter_lists_those_that_exist(call: Call, data: Path, tmp_path: Path) -> None:
    said = call("init", tmp_path / "study.toml", "--data", data, "--paramcd", "NOPE")
    assert said.code == 3
    assert "ACTOT" in said.err
    assert not (tmp_path / "study.toml").exists()


def test_check_judges_and_writes_nothing(call: Call, study: Path, data: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    said = call("check", study, "--data", data)
    assert said.code == 0, said.out
    assert "Score of the data" in said.out
    assert sorted(tmp_path.rglob("*")) == before
    content = json.loads(call("check", study, "--data", data, "--json").out)
    assert content["fit"] is True
    assert 0 <= content["score"] <= 100


def test_check_of_bad_data_exits_with_1(call: Call, study: Path, data: Path, tmp_path: Path) -> None:
    import polars as pl

    from trialtwin.data.cdisc import read_dataset, write_dataset
    from trialtwin.data.dataset import DataSet

    for file in data.glob("*.xpt"):
        dataset = read_dataset(file)
        if dataset.name == "ADQSADAS":
            worse = dataset.frame.with_columns(
                pl.when(pl.int_range(pl.len()) == 5).then(999.0).otherwise(pl.col("AVAL")).alias("AVAL")
            )
            dataset = DataSet(dataset.name, dataset.fields, worse, dataset.label)
        write_dataset(dataset, tmp_path / file.name)
    said = call("check", study, "--data", tmp_path)
    assert said.code == 1
    assert "NOT fit" in said.out
    assert "999" in said.out


def test_check_against_the_same_data_finds_no_difference(call: Call, study: Path, data: Path) -> None:
    assert call("check", study, "--data", data, "--against", data).code == 0


def test_run_report_and_resume(call: Call, study: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    said = call("run", study, "--data", data, "--out", out, "--json")
    assert said.code == 0, said.err
    content = json.loads(said.out)
    report = Path(content["report"])
    first = report.read_bytes()
    assert b"<!doctype html>" in first[:100].lower()
    report.unlink()
    assert call("report", out / "demo").code == 0
    assert report.read_bytes() == first
    words = call("run", study, "--data", data, "--out", out)
    assert words.code == 0
    assert f"Report: {report}" in words.out
    assert report.read_bytes() == first


def test_report_without_a_run_says_what_to_give(call: Call, tmp_path: Path) -> None:
    said = call("report", tmp_path)
    assert said.code == 2
    assert "dossier.json" in said.err


def test_missing_data_lists_what_is_there_and_writes_nothing(
    call: Call, study: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "adsl.xpt").write_bytes((data / "adsl.xpt").read_bytes())
    said = call("run", study, "--data", tmp_path / "other", "--out", tmp_path / "runs")
    assert said.code == 3
    assert "adqsadas" in said.err
    assert "adsl.xpt" in said.err
    assert not (tmp_path / "runs").exists()


def test_truncated_data_is_refused_and_nothing_is_written(call: Call, study: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    for file in data.glob("*.xpt"):
        content = file.read_bytes()
        (tmp_path / "cut" / file.name).write_bytes(content[:-1000] if file.stem == "adqsadas" else content)
    said = call("run", study, "--data", tmp_path / "cut", "--out", tmp_path / "runs")
    assert said.code == 3
    assert "adqsadas" in said.err
    assert not (tmp_path / "runs").exists()


def test_a_typing_error_in_the_study_exits_with_2(call: Call, study: Path, data: Path, tmp_path: Path) -> None:
    study.write_text(study.read_text().replace("control =", "contrl ="))
    said = call("run", study, "--data", data, "--out", tmp_path / "runs")
    assert said.code == 2
    assert "did you mean 'control'" in said.err
    assert not (tmp_path / "runs").exists()


def test_errors_are_json_where_asked(call: Call, study: Path, tmp_path: Path) -> None:
    said = call("run", study, "--data", tmp_path / "nowhere", "--json")
    assert said.code == 3
    error = json.loads(said.err)["error"]
    assert error["exit_code"] == 3
    assert "nowhere" in (error["where"] or "") + error["what"]


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(
    call: Call, study: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trialtwin.study import run as run_module

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "judge_twins", stop)
        said = call("run", study, "--data", data, "--out", tmp_path / "runs")
    assert said.code == 130
    assert "same command again" in said.err
    assert call("run", study, "--data", data, "--out", tmp_path / "runs").code == 0


@pytest.mark.reference
def test_reference_table_14_3_01_is_reproduced_by_the_shipped_study(call: Call, shared: Path, tmp_path: Path) -> None:
    """CDISC pilot, Table 14-3.01 (SAS): to four decimals, and said so in the report."""
    text = (EXAMPLES / "cdiscpilot01.toml").read_text(encoding="utf-8")
    study = tmp_path / "pilot.toml"
    study.write_text(text.replace("folds = 10", "folds = 3").replace("draws = 512", "draws = 64"), encoding="utf-8")
    said = call("run", study, "--data", shared / "data/cdiscpilot01/adam", "--out", tmp_path, "--json")
    assert said.code == 0, said.err
    folder = Path(json.loads(said.out)["folder"])
    rows = json.loads((folder / "ard.json").read_text())
    value = {(r["analysis"], r["contrast"], r["stat"]): r["value"] for r in rows}
    high, low = "Xanomeline High Dose", "Xanomeline Low Dose"
    assert round(value["dose-response", "slope per mg", "p"], 4) == 0.2447
    wanted = {
        (low, "Placebo"): (-0.4668, 0.8180),
        (high, "Placebo"): (-1.0060, 0.8405),
        (high, low): (-0.5392, 0.8361),
    }
    for (treated, control), (estimate, se) in wanted.items():
        contrast = f"{treated} − {control}"
        assert round(value["primary", contrast, "estimate"], 4) == estimate
        assert round(value["primary", contrast, "se"], 4) == se
    assert round(value["extended", f"{high} − Placebo", "se"], 3) == 0.817
    assert ("procova-mechanistic", f"{high} − Placebo", "se") in value
    assert "7 of 7 published numbers are reproduced" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.reference
def test_reference_two_published_versions_differ_in_30_rows(call: Call, shared: Path) -> None:
    """The two versions of the pilot's ADAS data: 30 of 1,016 analysed totals differ, all by rounding."""
    pilot = shared / "data/cdiscpilot01"
    study = EXAMPLES / "cdiscpilot01.toml"
    said = call("check", study, "--data", pilot / "adam", "--against", pilot / "datasetjson", "--json")
    assert said.code == 1
    findings = {f["id"]: f for f in json.loads(said.out)["findings"]}
    assert findings["versions.types"]["verdict"] == "pass"
    assert findings["versions.subjects"]["verdict"] == "pass"
    totals = findings["versions.ACTOT"]
    assert "1016 rows matched" in totals["text"]
    assert len(totals["table"]["rows"]) == 30
    assert {row[-1] for row in totals["table"]["rows"]} == {"rounding"}
