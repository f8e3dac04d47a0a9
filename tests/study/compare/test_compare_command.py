"""The comparison of a study: from the command line to the report, the scores and the winner that can be asked again."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest

from trialtwin.cli.app import run_app
from trialtwin.core.dossier import Dossier
from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.core.treatment import NoTreatment
from trialtwin.study.compare.ask import ask
from trialtwin.study.compare.run import untreated
from trialtwin.study.example import example_text
from trialtwin.study.load import load_study
from trialtwin.study.prepare import read_study
from trialtwin.study.spec import StudySpec
from trialtwin.twins.compare.plan import Plan
from trialtwin.twins.registry import MODELS
from trialtwin.twins.saving import load_twin

type Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in this process."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trialtwin", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            run_app()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare") / "study.toml"
    path.write_text(example_text(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def spec(study: Path) -> StudySpec:
    return load_study(study)


def test_from_the_command_line_to_a_winner_that_can_be_asked(
    call: Call, study: Path, example_data: Path, tmp_path: Path
) -> None:
    command = ["compare", study, "--data", example_data, "--model", "baseline", "--folds", 2, "--draws", 64]
    command += ["--known", 0, "--known", 90, "--curve-patients", 8, "--out", tmp_path, "--json"]
    code, out, err = call(*command)
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["winner"] == "baseline"
    folder = Path(said["folder"])
    dossier = Dossier.model_validate_json((folder / "dossier.json").read_bytes())
    assert {"compare.trust", "compare.accuracy", "compare.calibration", "compare.curve.patients"} <= {
        finding.id for finding in dossier.findings
    }
    assert "--model baseline" in dossier.provenance.command
    assert "--curve-patients 8" in dossier.provenance.command
    assert "<svg" in (folder / "report.html").read_text(encoding="utf-8")
    scores = pl.read_parquet(folder / "scores.parquet")
    assert set(scores["known"]) == {0.0, 90.0}
    assert {"RMSE", "CRPS", "log score", "R of change", "implausible share"} <= set(scores["measure"])
    twin, card = load_twin(said["twin"])
    rmse = scores.filter((pl.col("measure") == "RMSE") & (pl.col("known") == 0.0))["value"].item()
    assert card.measures[0].value == rmse
    prepared = read_study(load_study(study), example_data)
    cohort = untreated(prepared, None)
    course = twin.predict(cohort.until(0.0), NoTreatment(), np.array([180.0]), draws=32, key=jax.random.key(0))
    assert course.ids == cohort.ids

    cells = {path: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    assert len(cells) == 4
    code, again, _ = call(*command)
    assert code == 0
    assert json.loads(again) == said
    assert {path: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()} == cells


def test_the_study_says_which_models_fit(spec: StudySpec) -> None:
    assert ask(spec, (), None, Plan(), None).models == tuple(MODELS)
    bare = spec.model_copy(update={"twins": tuple(t for t in spec.twins if t.disease is None)})
    assert ask(bare, (), None, Plan(), None).models == tuple(n for n, e in MODELS.items() if not e.needs_disease)
    asked = ask(spec, ("baseline", "mechanistic"), None, Plan(), 5)
    assert (asked.disease, asked.seed) == ("alzheimer", 5)
    assert asked.told()["baseline"] == "the data alone"
    assert "alzheimer" in asked.told()["mechanistic"]


def test_bounds_are_those_of_the_disease(spec: StudySpec, example_data: Path) -> None:
    cohort = untreated(read_study(spec, example_data), None)
    bounds = ask(spec, ("mechanistic",), None, Plan(), None).bounds(cohort)
    assert bounds["ACTOT"] == (0.0, 70.0)
    assert ask(spec, ("baseline",), None, Plan(), None).bounds(cohort) == bounds


def test_what_cannot_be_compared_is_refused(spec: StudySpec, example_data: Path) -> None:
    with pytest.raises(MismatchError, match=r"no model 'oracle'[\s\S]*baseline"):
        ask(spec, ("oracle",), None, Plan(), None)
    with pytest.raises(MismatchError, match=r"no disease 'flu'"):
        ask(spec, (), "flu", Plan(), None)
    with pytest.raises(ConfigError, match="named twice"):
        ask(spec, ("baseline", "baseline"), None, Plan(), None)
    bare = spec.model_copy(update={"twins": tuple(t for t in spec.twins if t.disease is None)})
    with pytest.raises(MismatchError, match="give --disease"):
        ask(bare, ("mechanistic",), None, Plan(), None)
    prepared = read_study(spec, example_data)
    with pytest.raises(DataError, match="5 untreated patients are too few"):
        untreated(prepared, prepared.cohort.take(range(5)))


@pytest.mark.parametrize(
    ("words", "message", "expected"),
    [
        (["--model", "oracle"], "no model 'oracle'", 3),
        (["--by", "moon"], "comparison by 'moon'", 2),
        (["--by", "site"], "a site is given", 2),
        (["--known", "-3"], "known up to", 2),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    call: Call, study: Path, example_data: Path, tmp_path: Path, words: list[str], message: str, expected: int
) -> None:
    code, _, err = call("compare", study, "--data", example_data, "--out", tmp_path / "runs", "--json", *words)
    assert code == expected
    assert message in json.loads(err)["error"]["what"]
    assert not (tmp_path / "runs").exists()
