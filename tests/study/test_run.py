"""Runs: the same bytes again, resumed where they were stopped, nothing half-written."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trialtwin.core.errors import DataError, MachineError
from trialtwin.study import run as run_module
from trialtwin.study.load import check_study
from trialtwin.study.prepare import Prepared, read_history, read_study
from trialtwin.study.run import run_study
from trialtwin.study.spec import StudySpec
from trialtwin.study.workspace import LOCK, MANIFEST

from .conftest import Recorder, plain


def go(prepared: Prepared, folder: Path, **options: Any) -> Recorder:
    recorder = Recorder()
    run_study(prepared, folder, render=plain, progress=recorder, command="test", **options)
    return recorder


def files_of(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}


@pytest.fixture(scope="session")
def finished(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "demo"
    go(prepared, folder)
    return folder


STEPS = ["check", "fit baseline", "validate", "analyse", "compose", "report"]


def test_same_seed_gives_the_same_bytes(prepared: Prepared, finished: Path, tmp_path: Path) -> None:
    go(prepared, tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(finished)


def test_a_finished_run_is_not_run_again(prepared: Prepared, finished: Path) -> None:
    before = files_of(finished)
    recorder = go(prepared, finished)
    assert recorder.ran == []
    assert recorder.kept == STEPS
    assert files_of(finished) == before


def test_another_seed_gives_other_forecasts(
    quick_study: StudySpec, example_data: Path, finished: Path, tmp_path: Path
) -> None:
    other = quick_study.model_copy(update={"study": quick_study.study.model_copy(update={"seed": 99})})
    go(read_study(other, example_data), tmp_path / "run")
    name = "forecast.baseline.npz"
    assert (tmp_path / "run" / name).read_bytes() != (finished / name).read_bytes()


def test_a_changed_analysis_does_not_fit_again(
    study_content: dict[str, Any], example_data: Path, tmp_path: Path
) -> None:
    go(read_study(check_study(study_content, where=""), example_data), tmp_path / "run")
    study_content["analyses"][0]["variance"] = "HC3"
    recorder = go(read_study(check_study(study_content, where=""), example_data), tmp_path / "run")
    assert recorder.kept == ["check", "fit baseline", "validate"]
    assert recorder.ran == ["analyse", "compose", "report"]


def test_a_damaged_file_is_made_again(prepared: Prepared, finished: Path, tmp_path: Path) -> None:
    go(prepared, tmp_path / "run")
    (tmp_path / "run" / "results.json").write_text("[]")
    recorder = go(prepared, tmp_path / "run")
    assert "analyse" in recorder.ran
    assert files_of(tmp_path / "run") == files_of(finished)


def test_ctrl_c_in_the_middle_is_resumed_to_the_same_bytes(
    prepared: Prepared, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "judge_twins", stop)
        with pytest.raises(KeyboardInterrupt):
            go(prepared, folder)
    assert not (folder / LOCK).exists()
    assert not (folder / "validation.json").exists()
    recorder = go(prepared, folder)
    assert recorder.kept == ["check", "fit baseline"]
    assert files_of(folder) == files_of(finished)


def test_a_full_disk_stops_the_step_and_leaves_no_part_of_it(
    prepared: Prepared, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    real = os.fsync
    calls = 0

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(MachineError, match="No space left on device"):
            go(prepared, folder)
    assert not [path for path in folder.iterdir() if path.name.endswith(".part") or path.name == LOCK]
    go(prepared, folder)
    assert files_of(folder) == files_of(finished)


def test_two_runs_do_not_share_a_folder(prepared: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK).write_text(str(os.getpid()))
    with pytest.raises(MachineError, match="another run"):
        go(prepared, folder)


def test_the_lock_of_a_dead_run_is_taken_over(prepared: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK).write_text("999999999")
    go(prepared, folder)
    assert not (folder / LOCK).exists()


def test_a_folder_that_cannot_be_made_is_an_error(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot make the folder"):
        go(prepared, tmp_path / "file" / "run")


def test_manifest_says_what_the_run_rests_on(finished: Path, prepared: Prepared) -> None:
    manifest = json.loads((finished / MANIFEST).read_text())
    assert manifest["data"] == prepared.tables.sources()
    assert manifest["seed"] == prepared.spec.study.seed
    assert manifest["packages"]["trialtwin"]
    assert len(manifest["lock"]) == 64
    assert list(manifest["steps"]) == STEPS
    assert all(step["seconds"] >= 0 and step["started"] for step in manifest["steps"].values())


def test_analysis_results_dataset_has_one_row_a_statistic(finished: Path) -> None:
    rows = json.loads((finished / "ard.json").read_text())
    frame = pl.read_parquet(finished / "ard.parquet")
    assert frame.to_dicts() == rows
    wanted = ["analysis", "endpoint", "visit", "population", "method", "variance", "contrast", "stat", "value"]
    assert frame.columns[:9] == wanted
    assert set(frame["stat"]) == {"n", "estimate", "se", "df", "statistic", "p", "lower", "upper"}
    assert frame.select("analysis", "contrast", "stat").is_unique().all()
    assert frame["value"].is_finite().all()
    assert frame["estimand"].str.contains("while on treatment").all()


def test_scores_come_from_twins_that_have_not_seen_the_patient(prepared: Prepared, tmp_path: Path) -> None:
    """A patient's own later outcomes change nothing about that patient's forecast."""
    from dataclasses import replace

    from trialtwin.study.fit import ask_twin, fit_twin

    cohort, spec = prepared.cohort, prepared.spec
    entry = spec.twins[0]
    who = int(cohort.arm("Placebo").nonzero()[0][0])
    values = cohort.values.copy()
    values[who, 1:, 0] = 69.0 * cohort.observed[who, 1:, 0] + values[who, 1:, 0] * 0
    changed = replace(cohort, values=values)
    before, after = (
        ask_twin(spec, entry, fit_twin(spec, entry, patients, None, lambda *_: None), patients).expected
        for patients in (cohort, changed)
    )
    assert (before[who] == after[who]).all()
    assert (before != after).any()


def test_history_teaches_the_twin_instead_of_the_control_arm(
    study_content: dict[str, Any], example_data: Path, tmp_path: Path
) -> None:
    from trialtwin.study.example import make_example

    past = make_example(tmp_path / "past", seed=11, patients=120)
    study_content["scoring"]["history"] = "past"
    spec = check_study(study_content, where="")
    history = read_history(spec, past)
    assert set(history.treatments) == {"Placebo"}
    go(read_study(spec, example_data), tmp_path / "run", history=history)
    dossier = json.loads((tmp_path / "run" / "dossier.json").read_text())
    assert dossier["study"]["Fitted to"] == "past"


def test_bad_input_is_refused_before_anything_is_written(prepared: Prepared, tmp_path: Path) -> None:
    from dataclasses import replace

    rows = prepared.tables.findings["adqsadas"]
    twice = replace(rows, frame=pl.concat([rows.frame, rows.frame.filter(pl.col("PARAMCD") == "ACTOT").head(2)]))
    broken = Prepared(prepared.spec, replace(prepared.tables, findings={"adqsadas": twice}))
    with pytest.raises(DataError):
        go(broken, tmp_path / "run")
    assert not (tmp_path / "run").exists()
