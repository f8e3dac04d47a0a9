"""A design simulated with the patients of a saved twin, and what is refused of one."""

import shutil
import tomllib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest

from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.core.treatment import NoTreatment
from trialtwin.study.example import example_text
from trialtwin.study.power.fitted import load_fitted
from trialtwin.study.power.population import Fitted
from trialtwin.study.power.run import run_power
from trialtwin.study.power.simulate import write_trial
from trialtwin.study.power.spec import EXAMPLE, PowerSpec, check_power
from trialtwin.study.prepare import Prepared
from trialtwin.twins.baseline import Baseline
from trialtwin.twins.card import make_card
from trialtwin.twins.saving import load_twin, save_twin

POPULATION = {"twin": "twin", "study": "study.toml", "data": "data", "outcome": "ACTOT", "draws": 64}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, prepared: Prepared, example_data: Path) -> Path:
    """Return a folder with a saved baseline twin of the control arm, the study file and its data."""
    folder = tmp_path_factory.mktemp("fitted")
    control = prepared.cohort.take(prepared.cohort.arm(prepared.spec.arms.control))
    twin = Baseline().fit(control, key=jax.random.key(1))
    card = make_card(twin, control, name="baseline", architecture="data-driven", summary="of the example's controls")
    save_twin(twin, folder / "twin", card)
    shutil.copytree(example_data, folder / "data")
    (folder / "study.toml").write_text(example_text(), encoding="utf-8")
    return folder


def page(**changes: Any) -> dict[str, Any]:
    content = tomllib.loads(EXAMPLE)
    content["design"] |= {"visits": [0, 56, 112, 168]} | changes.pop("design", {})
    del content["twins"]
    base: dict[str, Any] = {"population": POPULATION, "methods": ["ancova", "procova"], "trials": 200}
    return content | base | changes


def loaded(base: Path, **changes: Any) -> Fitted:
    spec = check_power(page(**changes), where="here")
    assert spec.fitted is not None
    return load_fitted(spec.fitted, spec.design, base, seed=1)


def test_patients_start_where_they_were_measured_and_go_as_the_twin_says(base: Path, prepared: Prepared) -> None:
    found = loaded(base)
    measured = prepared.cohort.values[:, 0, prepared.cohort.outcome("ACTOT")]
    known = np.isfinite(measured)
    assert (found.patients, found.left_out) == (known.sum(), (~known).sum())
    course = found.forecast.course
    assert course.shape == (64, known.sum(), 4)
    np.testing.assert_array_equal(course[..., 0], np.broadcast_to(measured[known], course.shape[:2]))
    twin, _ = load_twin(base / "twin")
    patients = prepared.cohort.until(0.0).take(known)
    days = np.array([0.0, 56.0, 112.0, 168.0])
    asked = twin.predict(patients, NoTreatment(), days, draws=64, key=jax.random.key(0))
    level = asked.expected[:, -1, prepared.cohort.outcome("ACTOT")]
    np.testing.assert_allclose(found.forecast.expected, level - measured[known], rtol=1e-6)
    assert 0.1 < found.rho < 0.95


def test_a_page_with_a_fitted_twin_runs_to_its_report(base: Path, tmp_path: Path) -> None:
    """One twin, whose score buys what its own correlation says; the same bytes again."""
    spec = PowerSpec.model_validate(page())
    done = run_power(spec, tmp_path / "a", render=lambda dossier: dossier.title, base=base)
    assert spec.scenarios == 2
    assert len(done.rows) == 2 * 2
    assert done.rows["rho"].unique().to_list() == [loaded(base).rho]
    errors = {row["method"]: row["model_se"] for row in done.rows.filter("null").iter_rows(named=True)}
    assert errors["procova"] < errors["ancova"]
    assert "as baseline foresees them" in done.dossier.study["Patients drawn from"]
    assert set(done.dossier.findings[0].evidence.data) == {"twin", "patients"}
    certificate = done.dossier.findings[-1]
    assert certificate.title == "Savings certificate"
    assert certificate.table is not None
    again = run_power(spec, tmp_path / "b", render=lambda dossier: dossier.title, base=base)
    for name in ("operating.parquet", "dossier.json"):
        assert (again.folder / name).read_bytes() == (done.folder / name).read_bytes()


def test_one_trial_of_a_fitted_twin_is_written_and_takes_no_other_twin(base: Path, tmp_path: Path) -> None:
    spec = PowerSpec.model_validate(page())
    written = write_trial(spec, tmp_path / "one", truth="effect", twin={}, trial=1, suffix=".parquet", base=base)
    assert written.note["scenario"] == "effect; baseline"
    first = pl.read_parquet(tmp_path / "one" / "adqs.parquet").filter(pl.col("ABLFL") == "Y")["AVAL"]
    course = loaded(base).forecast.course
    assert set(first.to_list()) <= set(course[0, :, 0].tolist())
    with pytest.raises(ConfigError, match="the page's twin is a fitted one"):
        write_trial(spec, tmp_path / "two", truth=None, twin={"rho": 0.5}, trial=1, suffix=".csv", base=base)


def test_what_the_twin_cannot_say_is_refused(base: Path) -> None:
    with pytest.raises(MismatchError, match="does not know the outcome 'CDRSB'") as caught:
        loaded(base, population=POPULATION | {"outcome": "CDRSB"})
    assert "ACTOT" in caught.value.exists
    with pytest.raises(MismatchError, match=r"learned up to day \d+, and the design has visits after it: 9999"):
        loaded(base, design={"visits": [0, 84, 9999]})
    with pytest.raises(MismatchError, match="endpoint is in 'metres', the twin's ACTOT in 'points'"):
        loaded(base, design={"endpoint": {"name": "x", "unit": "metres"}})
    with pytest.raises(DataError, match="no twin here"):
        loaded(base, population=POPULATION | {"twin": "nowhere"})
    with pytest.raises(ConfigError, match="cannot read the study file"):
        loaded(base, population=POPULATION | {"study": "none.toml"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"twins": {"rho": [0.5]}}, r"leave out \[twins\]"),
        ({"design": {"endpoint": {"name": "x", "kind": "count"}}, "methods": ["rates"]}, "is not made of them"),
        ({"population": {"twin": "twin"}}, "missing; it is needed"),
        ({"population": POPULATION | {"draws": 2}}, "greater than or equal to 32"),
    ],
)
def test_a_page_that_cannot_be_is_refused_before_anything_is_loaded(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_power(page(**change), where="here")
