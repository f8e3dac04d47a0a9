"""One trial of a page as data sets: what they say is what was simulated, and the trial is that of ``power``."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.data.cdisc import read_tables
from trialtwin.study.power.simulate import write_trial
from trialtwin.study.power.spec import EXAMPLE, PowerSpec
from trialtwin.trials.simulate import simulate


def page(**changes: Any) -> PowerSpec:
    return PowerSpec.model_validate(tomllib.loads(EXAMPLE) | changes)


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet", ".xpt"])
def test_data_sets_hold_the_trial_that_power_simulates(tmp_path: Path, suffix: str) -> None:
    """Scenario 12 of the page: read back, patient for patient the trial of that cell."""
    spec = page()
    done = write_trial(spec, tmp_path, truth="effect", twin={"rho": 0.5, "drift": 0.0}, trial=7, suffix=suffix)
    place = 12
    cell = spec.cells()[place][2]
    assert done.note["scenario"] == cell.name
    found = simulate(cell.design, cell.population, cell.truth, trials=range(7, 8), seed=spec.seed, cell=place)
    tables = read_tables(tmp_path, findings=["adqs"], times="adtte")
    subjects, scores = tables.subjects.frame, tables.finding("adqs").frame
    assert subjects["TRT01P"].to_list() == [cell.design.names[a] for a in found.arm[0]]
    np.testing.assert_allclose(subjects["PROGSCR"].to_numpy(), found.score[0], rtol=1e-12)
    np.testing.assert_array_equal(subjects["EOSSTT"].to_numpy() == "COMPLETED", found.left[0] > 252)
    np.testing.assert_allclose(scores["AVAL"].to_numpy(), found.measured[0][np.isfinite(found.measured[0])], rtol=1e-12)
    last = scores.filter(pl.col("AVISIT") == "Week 36")
    np.testing.assert_allclose((last["AVAL"] - last["BASE"]).to_numpy(), last["CHG"].to_numpy(), atol=1e-9)
    assert last["ADY"].unique().to_list() == [253.0]
    assert scores.filter(pl.col("ABLFL") == "Y").height == 200
    stops = tables.times.frame if tables.times is not None else pl.DataFrame()
    happened = np.isfinite(found.events[0, :, 0])
    np.testing.assert_array_equal(stops["CNSR"].to_numpy() == 0, happened)
    off = scores.filter(pl.col("ONTRTFL").is_null())
    assert 0 < off["USUBJID"].n_unique() <= happened.sum()


def test_the_note_says_seed_design_and_what_the_files_are(tmp_path: Path) -> None:
    done = write_trial(page(), tmp_path / "a", truth=None, twin={}, trial=0, suffix=".csv")
    note = json.loads((tmp_path / "a" / "trial.json").read_text())
    assert note == done.note
    assert note["seed"] == 1
    assert note["truth"]["name"] == "no effect"
    assert note["twin"] == {"rho": 0.0, "drift": 0.0, "scale": 1.0}
    assert set(note["files"]) == {"adsl.csv", "adqs.csv", "adtte.csv"}
    again = write_trial(page(), tmp_path / "b", truth=None, twin={}, trial=0, suffix=".csv")
    assert again.note["files"] == note["files"]
    other = write_trial(page(seed=2), tmp_path / "c", truth=None, twin={}, trial=0, suffix=".csv")
    assert other.note["files"] != note["files"]


def test_values_that_the_estimand_sets_aside_are_there_without_the_analysis_flag(tmp_path: Path) -> None:
    design = tomllib.loads(EXAMPLE)["design"]
    design["intercurrent"][0]["strategy"] = "hypothetical"
    write_trial(page(design=design), tmp_path, truth=None, twin={}, trial=0, suffix=".parquet")
    scores = pl.read_parquet(tmp_path / "adqs.parquet")
    aside = scores.filter(pl.col("ANL01FL").is_null())
    assert aside.height > 0
    assert aside["ONTRTFL"].is_null().all()


def test_what_the_page_does_not_have_is_refused(tmp_path: Path) -> None:
    def write(**changes: Any) -> None:
        given: dict[str, Any] = {"truth": None, "twin": {}, "trial": 0, "suffix": ".csv"} | changes
        write_trial(page(), tmp_path, **given)

    with pytest.raises(MismatchError, match="no truth 'miracle'"):
        write(truth="miracle")
    with pytest.raises(MismatchError, match=r"no twin with rho 0\.9"):
        write(twin={"rho": 0.9})
    with pytest.raises(ConfigError, match=r"no format '\.doc'"):
        write(suffix=".doc")
    with pytest.raises(ConfigError, match="no trial -1"):
        write(trial=-1)
    assert not list(tmp_path.iterdir())
    write()
    with pytest.raises(ConfigError, match=r"in another format than \.json"):
        write(suffix=".json")


ENDPOINTS: dict[str, dict[str, Any]] = {
    "binary": {"risk": 0.4, "prognosis": 1.0},
    "count": {"rate": 2.0, "dispersion": 0.5},
    "time to event": {"hazard": [0.8, 0.4], "cuts": [90]},
}


@pytest.mark.parametrize("kind", list(ENDPOINTS))
def test_other_endpoints_are_written_as_what_they_are(tmp_path: Path, kind: str) -> None:
    """Of a time to event only those who entered before the 25th event; read back, each is what was simulated."""
    design = tomllib.loads(EXAMPLE)["design"] | {"accrual": 20}
    design["endpoint"] = {"name": "relapse", "kind": kind, "better": "lower"}
    if kind == "time to event":
        design["endpoint"]["events"] = 25
    methods = {"binary": "proportions", "count": "rates", "time to event": "cox"}[kind]
    spec = page(design=design, population=ENDPOINTS[kind], methods=[methods])
    done = write_trial(spec, tmp_path, truth="effect", twin={}, trial=2, suffix=".parquet")
    place = next(k for k, (truth, _, _) in enumerate(spec.cells()) if truth.name == "effect")
    cell = spec.cells()[place][2]
    found = simulate(cell.design, cell.population, cell.truth, trials=range(2, 3), seed=1, cell=place)
    inside = found.exposure[0] > 0
    assert sum(done.note["patients"].values()) == inside.sum() == pl.read_parquet(tmp_path / "adsl.parquet").height
    times = pl.read_parquet(tmp_path / "adtte.parquet")
    if kind == "time to event":
        own = times.filter(pl.col("PARAMCD") == "ENDPOINT")
        np.testing.assert_array_equal(own["AVAL"].to_numpy(), found.exposure[0][inside])
        assert (own["CNSR"] == 0).sum() == 25
        assert inside.sum() < 200
        assert not (tmp_path / "adqs.parquet").exists()
        return
    scores = pl.read_parquet(tmp_path / "adqs.parquet")
    own = scores.filter(pl.col("PARAMCD") == "ENDPOINT")["AVAL"].to_numpy()
    np.testing.assert_array_equal(own, found.outcome[0][np.isfinite(found.outcome[0])])
    days = scores.filter(pl.col("PARAMCD") == "DAYSRISK")["AVAL"].to_numpy()
    assert len(days) == (200 if kind == "count" else 0)


def test_a_responder_has_its_criterion_at_the_last_visit(tmp_path: Path) -> None:
    design = tomllib.loads(EXAMPLE)["design"]
    design["endpoint"] |= {"kind": "responder", "threshold": 0.0}
    write_trial(page(design=design, methods=["logistic"]), tmp_path, truth=None, twin={}, trial=0, suffix=".parquet")
    scores = pl.read_parquet(tmp_path / "adqs.parquet")
    last = scores.filter(pl.col("AVISITN") == 252)
    np.testing.assert_array_equal(last["CRIT1FL"].to_numpy() == "Y", last["CHG"].to_numpy() <= 0)
    assert scores.filter(pl.col("AVISITN") < 252)["CRIT1FL"].is_null().all()
