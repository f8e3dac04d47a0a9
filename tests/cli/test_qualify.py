"""The command that qualifies an installation."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trialtwin.cli.app import app
from trialtwin.core.errors import FitError
from trialtwin.study import qualify
from trialtwin.study.qualify import CASES

RUN = CliRunner()


def test_every_number_agrees_and_the_table_is_written(tmp_path: Path) -> None:
    file = tmp_path / "iq.md"
    done = RUN.invoke(app, ["qualify", "--file", str(file)])
    assert done.exit_code == 0, done.output
    assert f"{len(CASES)} of {len(CASES)} numbers agree" in done.output
    page = file.read_text()
    assert page.count("| pass |") == len(CASES)
    assert "NIST StRD, Norris, certified" in page
    assert "| numpy |" in page


def _break() -> float:
    raise FitError("the design is singular")


@pytest.mark.parametrize("broken", [replace(CASES[0], expected=1.01), replace(CASES[0], compute=_break)])
def test_a_number_that_is_off_or_missing_fails(
    broken: qualify.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qualify, "CASES", (broken, CASES[1]))
    done = RUN.invoke(app, ["qualify", "--file", str(tmp_path / "iq.md"), "--json"])
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["failed"] == [CASES[0].name]
    assert told["passed"] == 1
    assert "**FAIL**" in (tmp_path / "iq.md").read_text()


def test_names_are_unique_and_tolerances_tight() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.tolerance <= 1e-5 for case in CASES)
