"""The savings certificate of a page: its correlation given baseline, its rows, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.study.power.test_power import page, run

from trialtwin.core.errors import ConfigError
from trialtwin.study.power.population import CourseSpec
from trialtwin.study.power.savings import forecast_given_baseline, given_baseline
from trialtwin.study.power.spec import PowerSpec, check_power
from trialtwin.trials.virtual_population import Forecast


@pytest.mark.parametrize("rho", [0.3, 0.7])
def test_independent_correlation_given_baseline_by_simulation(rho: float) -> None:
    spec = PowerSpec.model_validate(page())
    assert isinstance(spec.population, CourseSpec)
    people = spec.population.people(rho, 2.0, 0.5)
    drawn = people.recruit(200_000, np.random.default_rng(1))
    change = drawn.course[:, -1] - drawn.course[:, 0]
    base = np.column_stack([np.ones(len(change)), drawn.course[:, 0]])
    left = [y - base @ np.linalg.lstsq(base, y, rcond=None)[0] for y in (change, drawn.score)]
    sd, partial = given_baseline(spec.population, rho)
    assert sd == pytest.approx(left[0].std(), rel=0.01)  # four standard errors are 0.6 %
    assert partial == pytest.approx(np.corrcoef(*left)[0, 1], abs=4 / np.sqrt(len(change)))


def test_a_fitted_twin_is_certified_by_its_own_patients_and_draws() -> None:
    rng = np.random.default_rng(3)
    base, expected = rng.normal(20.0, 4.0, 400), rng.normal(2.0, 1.5, 400)
    course = np.stack([np.tile(base, (250, 1)), base + expected + rng.normal(0.0, 2.0, (250, 400))], axis=-1)
    sd, partial = forecast_given_baseline(Forecast(course, expected))
    # expected and baseline are nearly independent: the twin explains 1.5² of 1.5² + 2²
    assert sd == pytest.approx(2.5, rel=0.06)  # of 400 patients
    assert partial == pytest.approx(1.5 / 2.5, abs=0.03)


def test_the_certificate_has_a_row_an_effect_and_twin(tmp_path: Path) -> None:
    done = run(tmp_path / "run", methods=["procova"], twins={"rho": [0.0, 0.5]})
    found = done.dossier.findings[-1]
    assert found.title == "Savings certificate"
    assert found.table is not None
    names = [column.name for column in found.table.columns]
    rows = [dict(zip(names, row, strict=True)) for row in found.table.rows]
    assert [(row["scenario"], row["rho"]) for row in rows] == [("effect", 0.0), ("effect", 0.5)]
    assert rows[0]["saved"] == 0 < rows[1]["saved_controls"] < rows[1]["spared"]
    assert rows[1]["months"] == pytest.approx(rows[1]["saved"] / 20)
    assert "the fall-back is" in found.text
    assert found.text in done.dossier.summary


def test_nothing_is_certified_without_an_effect(tmp_path: Path) -> None:
    found = run(tmp_path / "run", truths=[{"name": "none", "effects": [0.0]}], twins={"rho": [0.5]}).dossier.findings[
        -1
    ]
    assert found.table is None
    assert "nothing to size a trial by" in found.text


@pytest.mark.parametrize(
    ("asked", "match"), [({"tolerated": 0.95}, "above the planned"), ({"deflation": 2}, "savings.deflation")]
)
def test_bad_certificates_are_refused(asked: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check_power(page(savings=asked), where="power.toml")
