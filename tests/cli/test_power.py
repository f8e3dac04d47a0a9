"""The commands that describe a design and simulate it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trialtwin.cli.app import app

RUN = CliRunner()


def test_design_writes_a_page_that_power_simulates(tmp_path: Path) -> None:
    page = tmp_path / "power.toml"
    wrote = RUN.invoke(app, ["design", str(page)])
    assert wrote.exit_code == 0, wrote.output
    assert "200 patients (Placebo 100, Active 100)" in wrote.output
    told = json.loads(RUN.invoke(app, ["design", str(page), "--json"]).stdout)
    assert told["written"] is False
    assert told["arms"] == {"Placebo": 100, "Active": 100}
    ran = RUN.invoke(app, ["power", str(page), "--trials", "100", "--out", str(tmp_path / "runs"), "--json"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert len(found["rows"]) == 16 * 4
    report = Path(found["report"]).read_text(encoding="utf-8")
    assert "What this design will do" in report
    assert "Type I error" in report
    assert "--trials 100 --seed 1" in report


def test_a_design_that_is_there_is_checked_and_not_written_over(tmp_path: Path) -> None:
    page = tmp_path / "power.toml"
    RUN.invoke(app, ["design", str(page)])
    page.write_text(page.read_text().replace("patients = 200", "patients = 90"))
    assert "90 patients (Placebo 45, Active 45)" in RUN.invoke(app, ["design", str(page)]).output
    page.write_text("patients = 90")
    failed = RUN.invoke(app, ["design", str(page)])
    assert "does not describe a design to simulate" in str(failed.exception)
    assert page.read_text() == "patients = 90"


@pytest.mark.parametrize("option", [["--trials", "1"], ["--seed", "-1"]])
def test_numbers_out_of_range_are_refused(tmp_path: Path, option: list[str]) -> None:
    page = tmp_path / "power.toml"
    RUN.invoke(app, ["design", str(page)])
    assert RUN.invoke(app, ["power", str(page), *option]).exit_code == 2


def test_simulate_writes_one_trial_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "power.toml"
    RUN.invoke(app, ["design", str(page)])
    call = ["simulate", str(page), "--truth", "effect", "--rho", "0.7", "--format", "csv", "--out", str(tmp_path)]
    told = json.loads(RUN.invoke(app, [*call, "--json"]).stdout)
    assert told["note"]["truth"]["effects"] == [-2.2]
    assert told["note"]["twin"]["rho"] == 0.7
    assert all(Path(file).is_file() for file in told["files"])
    said = RUN.invoke(app, [*call, "--trial", "3"])
    assert said.exit_code == 0, said.output
    assert "Trial 3 of" in said.output
    assert "Placebo 100, Active 100" in said.output
    failed = RUN.invoke(app, ["simulate", str(page), "--truth", "miracle", "--out", str(tmp_path)])
    assert "no truth 'miracle'" in str(failed.exception)
