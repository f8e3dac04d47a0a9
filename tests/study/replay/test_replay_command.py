"""The command: a trial of the user's own, what is written, and errors before any work."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trialtwin.cli.app import app
from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.study.replay.load import parse_trial
from trialtwin.study.replay.observe import mean_change
from trialtwin.study.replay.parameters import shipped_calibration
from trialtwin.study.replay.predict import asked_rows, predict
from trialtwin.study.replay.simulate import EngineSimulator

TRIAL = """
id = "MY-TRIAL"
title = "Lecanemab again, smaller"
control = "placebo"
visits = [13, 26, 39, 52, 65, 78]
endpoints = ["CDR-SB", "amyloid_CL", "amyloid<24.1CL", "ARIA-E"]
readouts = [
    { arm = "lecanemab", endpoint = "CDR-SB", week = 78, stat = "diff_vs_placebo", value = -0.4, se = 0.3 },
    { arm = "lecanemab", endpoint = "PACC", week = 78, stat = "change", value = -1.0 },
]

[population.scores]
"MMSE" = { mean = 25.5, sd = 2.0, min = 22, max = 30 }

[[arms]]
name = "placebo"
n = 120

[[arms]]
name = "lecanemab"
n = 120
drug = "lecanemab"
regimen = "10 mg/kg over 1h q2w x 39"
"""


SUBGROUP_READOUTS = """stat = "change", value = -1.0 },
    { arm = "lecanemab", endpoint = "CDR-SB", week = 26, stat = "diff_vs_placebo", value = -0.3, \
population = "APOE4 noncarrier" },
"""


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """Return the path of a trial file."""
    path = tmp_path / "my-trial.toml"
    path.write_text(TRIAL)
    return path


def _run(*words: str):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(app, ["replay", *words])


def test_a_trial_of_ones_own_is_foretold_and_judged(trial: Path, tmp_path: Path) -> None:
    """Severity from MMSE, the unmodelled endpoint listed, the same bytes twice."""
    done = _run(str(trial), "--out", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    numbers = json.loads(Path(said["predictions"]).read_text())
    wanted = ("lecanemab", "CDR-SB", "diff_vs_placebo", 78.0)
    asked = [n for n in numbers if (n["arm"], n["endpoint"], n["stat"], n["week"]) == wanted]
    assert {n["use"] for n in asked} == {None, "prediction"}
    assert all(-0.8 < n["expected"] < -0.1 for n in asked)  # as CLARITY-AD's, whose patients these are about
    assert all(n["low"] < n["expected"] < n["high"] for n in numbers)
    report = Path(said["report"]).read_text()
    assert "PACC" in report
    assert "MY-TRIAL, lecanemab, week 78: CDR-SB" in report
    first = report.encode()
    assert _run(str(trial), "--out", str(tmp_path), "--json").exit_code == 0
    assert Path(said["report"]).read_bytes() == first


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"),
    [
        ('drug = "lecanemab"', 'drug = "lecanumab"', MismatchError, "no drug 'lecanumab'"),
        ("10 mg/kg over 1h q2w x 39", "10 mg/kg over 1h sometimes", ConfigError, "sometimes"),
        ('id = "MY-TRIAL"', 'id = "MY-TRIAL"\ndisease = "diabetes"', ConfigError, "a trial of 'diabetes'"),
        (
            '"MMSE" = { mean = 25.5, sd = 2.0, min = 22',
            '"MMSE" = { mean = 25.5, sd = 9.0, min = 22',
            ConfigError,
            "MMSE",
        ),
    ],
)
def test_mistakes_end_before_anything_is_written(
    trial: Path, tmp_path: Path, old: str, new: str, kind: type[Exception], words: str
) -> None:
    """Unknown drug, unreadable regimen, another disease, an impossible law."""
    trial.write_text(TRIAL.replace(old, new))
    done = _run(str(trial), "--out", str(tmp_path / "runs"), "--json")
    assert isinstance(done.exception, kind)
    assert words in str(done.exception)
    assert not (tmp_path / "runs").exists()


def test_a_drug_file_beside_the_trial_file_is_found(trial: Path, tmp_path: Path) -> None:
    """A missing one is named with its whole path, relative to the trial file."""
    trial.write_text(TRIAL.replace('drug = "lecanemab"', 'drug = "own.toml"'))
    done = _run(str(trial), "--out", str(tmp_path / "runs"), "--json")
    assert done.exception is not None
    assert "own.toml" in str(done.exception)


def test_what_ships_is_listed_and_the_schema_printed() -> None:
    """--list and --schema do no work."""
    assert "trailblazer-alz-2" in _run("--list").stdout
    assert json.loads(_run("--schema").stdout)["title"] == "Trial"


def test_aria_that_no_file_tells_of_is_listed_not_taken_as_zero(trial: Path, tmp_path: Path) -> None:
    """Donepezil's file has no ARIA: nothing is foretold, and the report says so."""
    text = TRIAL.replace('drug = "lecanemab"\nregimen = "10 mg/kg over 1h q2w x 39"', 'drug = "donepezil"')
    trial.write_text(
        text.replace("visits = [13, 26, 39, 52, 65, 78]", "visits = [26]").replace("week = 78", "week = 26")
    )
    done = _run(str(trial), "--out", str(tmp_path), "--patients", "32", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    numbers = json.loads(Path(said["predictions"]).read_text())
    assert not [n for n in numbers if n["endpoint"] == "ARIA-E"]
    assert "no risk of ARIA-E in the drug" in Path(said["report"]).read_text()
    score = [n for n in numbers if (n["arm"], n["endpoint"], n["stat"]) == ("lecanemab", "CDR-SB", "diff_vs_placebo")]
    assert all(n["expected"] < 0 for n in score)  # an effect on symptoms


def test_a_subgroup_that_nobody_belongs_to_is_listed_not_averaged(trial: Path, tmp_path: Path) -> None:
    """One arm enrols homozygotes only: no share among its noncarriers, and no difference in them."""
    text = TRIAL.replace("visits = [13, 26, 39, 52, 65, 78]", "visits = [26]").replace("week = 78", "week = 26")
    text = text.replace('stat = "change", value = -1.0 },', SUBGROUP_READOUTS)
    trial.write_text(text + "population = { apoe4 = { noncarrier = 0, heterozygote = 0, homozygote = 1 } }\n")
    done = _run(str(trial), "--out", str(tmp_path), "--patients", "32", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    numbers = json.loads(Path(said["predictions"]).read_text())
    aria = {(n["arm"], n["population"]) for n in numbers if n["endpoint"] == "ARIA-E"}
    assert ("placebo", "APOE4 noncarrier") in aria
    assert {who for arm, who in aria if arm == "lecanemab"} == {"all", "APOE4 homozygote"}
    told = {n["population"] for n in numbers if n["stat"] == "diff_vs_placebo" and n["observed"] is not None}
    assert "APOE4 noncarrier" not in told
    assert "is &#39;APOE4 noncarrier&#39;" in Path(said["report"]).read_text()


def test_a_subgroup_is_told_among_the_patients_of_each_arm() -> None:
    """A difference in homozygotes is that of the two arms' own homozygotes, who differ where the arms do."""
    ages = "[population]\nage = { mean = 72, sd = 7 }\n\n[population.scores]"
    own = 'regimen = "10 mg/kg over 1h q2w x 39"\npopulation = { apoe4 = { carrier = 0.9 } }'
    text = TRIAL.replace("[population.scores]", ages).replace('regimen = "10 mg/kg over 1h q2w x 39"', own)
    found = parse_trial(text.replace("visits = [13, 26, 39, 52, 65, 78]", "visits = [26, 78]"), where="x.toml")
    simulator = EngineSimulator(seed=1, patients=64)
    calibration = shipped_calibration()
    row = next(row for row in asked_rows(found) if row.difference and row.readout.week == 26)
    told = predict([replace(row, subgroup="APOE4 homozygote")], simulator, calibration)[0]
    values = calibration.natural()
    links = simulator.links(values)

    def change(arm: str) -> float:
        courses = simulator.courses(found, "all", found.arm(arm), values)  # type: ignore[arg-type]
        both = courses.entry.alleles == 2
        return mean_change(courses, "CDR-SB", 26, both, links)

    assert told.expected == pytest.approx(change("lecanemab") - change("placebo"), abs=1e-12)
