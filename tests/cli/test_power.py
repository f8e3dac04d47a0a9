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
