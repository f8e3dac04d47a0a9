"""The command that analyses a finished trial."""

import json
from pathlib import Path

from typer.testing import CliRunner

from trialtwin.cli.app import app

RUN = CliRunner()


def test_analyse_writes_a_page_that_it_then_runs(tmp_path: Path) -> None:
    page = tmp_path / "page.toml"
    wrote = RUN.invoke(app, ["analyse", str(page)])
    assert wrote.exit_code == 0, wrote.output
    assert (tmp_path / "example-data" / "adtte.xpt").is_file()
    ran = RUN.invoke(app, ["analyse", str(page), "--out", str(tmp_path / "runs"), "--json"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert {row["analysis"] for row in found["rows"]} == {
        *("mmrm", "jump-to-reference", "g-computation", "cmh", "kaplan-meier", "log-rank", "cox")
    }
    assert "rejected at an overall level of 0.05 (Holm)" in found["summary"][-1]
    report = Path(found["report"]).read_text(encoding="utf-8")
    for words in ("Kaplan–Meier curves: first skin event", "At risk", "least-squares mean", "permuted block"):
        assert words.lower() in report.lower(), words


def test_a_page_is_checked_and_not_written_over(tmp_path: Path) -> None:
    page = tmp_path / "page.toml"
    page.write_text("id = 'x'")
    failed = RUN.invoke(app, ["analyse", str(page)])
    assert "does not describe analyses of a trial" in str(failed.exception)
    assert page.read_text() == "id = 'x'"
