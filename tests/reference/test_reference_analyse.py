"""The xanomeline trial through the command: SAS's table of repeated measures, and the log-rank test of Table 14-7."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trialtwin.cli.app import app

pytestmark = pytest.mark.reference

PAGE = """
id = "xanomeline"
title = "Xanomeline"
data = {records = "adqsadas"}
population = {name = "efficacy population", variable = "EFFFL"}

[arms]
variable = "TRTP"
names = ["Placebo", "Xanomeline Low Dose", "Xanomeline High Dose"]
labels = ["Placebo", "Low", "High"]

[[endpoints]]
id = "adas"
kind = "repeated"
parameter = "ACTOT"
visits = ["Week 8", "Week 16", "Week 24"]

[[analyses]]
id = "mmrm"
primary = true
endpoint = "adas"
method = "mmrm"
covariates = ["SITEGR1", "BASE"]
by_visit = ["BASE"]
"""
SURVIVAL = """
id = "skin"
title = "Time to a skin event"
data = {records = "adtte"}

[arms]
variable = "TRTP"
names = ["Placebo", "Xanomeline Low Dose", "Xanomeline High Dose"]
labels = ["Placebo", "Low", "High"]

[[endpoints]]
id = "skin"
kind = "time to event"
parameter = "TTDE"

[[analyses]]
id = "log-rank"
primary = true
endpoint = "skin"
method = "log_rank"
"""


def results(text: str, shared: Path, folder: Path) -> dict[tuple[str, str, str], float]:
    """Run the command on a page, and return numbers by contrast, visit and statistic."""
    page = folder / "page.toml"
    page.write_text(text, encoding="utf-8")
    data = str(shared / "data" / "cdiscpilot01" / "adam")
    ran = CliRunner().invoke(app, ["analyse", str(page), "--data", data, "--out", str(folder), "--json"])
    assert ran.exit_code == 0, ran.output
    rows: list[dict[str, Any]] = json.loads(ran.stdout)["rows"]
    return {(row["contrast"], row["visit"], row["stat"]): row["value"] for row in rows}


def test_reference_table_14_3_11_through_the_command(shared: Path, tmp_path: Path) -> None:
    found = results(PAGE, shared, tmp_path)
    means = [round(found[arm, "Week 24", "estimate"], 4) for arm in ("Placebo", "Low", "High")]
    assert means == [2.3291, 1.7352, 1.5009]
    for label, effect, p in (("High − Placebo", -0.8282, 0.4403), ("Low − Placebo", -0.5939, 0.5600)):
        assert (round(found[label, "Week 24", "estimate"], 4), round(found[label, "Week 24", "p"], 4)) == (effect, p)


def test_reference_table_14_7_through_the_command(shared: Path, tmp_path: Path) -> None:
    found = results(SURVIVAL, shared, tmp_path)
    assert (round(found["all arms", "", "statistic"], 2), found["all arms", "", "df"]) == (60.27, 2)
