"""The benchmark on real data runs in small, resumes, and no forecast sees what it is asked for."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def learners(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import real_data_learners

    return real_data_learners


@pytest.fixture
def glucose(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import real_data_glucose

    return real_data_glucose


@pytest.mark.slow
def test_the_benchmark_runs_in_small_and_resumes(tmp_path: Path, shared: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "real_data.py"), "--shared", str(shared), "--out", str(tmp_path)]
    command += ["--quick", "--seeds", "0", "--resume", "--data", "xanomeline", "paquid", "ad_csf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {path.name.split("-")[0]: json.loads(path.read_text())["found"] for path in tmp_path.glob("*.json")}
    assert found["xanomeline"]["asked"] == 65
    assert found["paquid"]["asked"] == 1170
    assert found["paquid"]["stack"]["rmse"] < found["paquid"]["carried forward"]["rmse"] - 0.3
    assert 0.85 < found["paquid"]["coverage"]["questions"] < 0.95
    assert 0.8 < found["ad_csf"]["stack"]["auc"] < 1.0
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert " s\n" not in again.stdout
    assert "| stack, auc |" in again.stdout


def test_patients_left_out_were_not_seen(learners: ModuleType) -> None:
    """Answers of a patient that nothing can foretell are not foretold, though other rows of the patient tell all."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(100), 5)
    code = rng.normal(size=100)[patient]
    answer = rng.normal(size=100)[patient]
    x = np.column_stack([code, rng.normal(size=500)])
    fit = learners.left_out(lambda: RandomForestRegressor(20, random_state=0))
    predict, held = fit(x, answer, patient)
    assert np.corrcoef(predict(x), answer)[0, 1] > 0.9
    assert abs(np.corrcoef(held, answer)[0, 1]) < 0.3
    with pytest.raises(AssertionError):
        learners.out_of_bag(lambda: RandomForestRegressor(20, oob_score=True))(x, answer, patient)


def test_the_stack_prefers_who_is_right(learners: ModuleType) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 2))
    y = x[:, 0] + 0.1 * rng.normal(size=200)
    both = {name: learners.left_out(LinearRegression, np.array([k])) for k, name in enumerate(("right", "wrong"))}
    stacked = learners.stack(both, x, y, np.arange(200))
    assert stacked.best == "right"
    assert np.abs(stacked.predict(x) - y).mean() < 0.12


@pytest.mark.parametrize("ahead", [2, 4, 8])
def test_what_glucose_will_be_is_not_among_what_is_known(glucose: ModuleType, ahead: int) -> None:
    """Other readings after an origin leave the columns of that origin, and of all before it, as they were."""
    rng = np.random.default_rng(2)
    grid = 120 + rng.normal(size=400).cumsum()
    times = np.arange(400) / 96
    changed = grid.copy()
    changed[201:] += 50.0
    first, second = (glucose._rows(times, one, ahead) for one in (grid, changed))
    known = first[2] <= 200
    np.testing.assert_array_equal(first[0][known], second[0][known])
    np.testing.assert_array_equal(first[1], grid[first[2] + ahead])
    assert (first[0][~known] != second[0][~known]).any()


def test_arima_forecasts_are_those_of_statsmodels(glucose: ModuleType) -> None:
    """From one origin, all horizons; and no reading after the origin matters."""
    from statsmodels.tsa.arima.model import ARIMA

    rng = np.random.default_rng(3)
    noise = rng.normal(size=160)
    grid = 120 + np.convolve(noise, 0.7 ** np.arange(20))[:160].cumsum()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = glucose.arima_forecasts(grid, 120)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of starting values, which the fit leaves behind
        best = min((ARIMA(grid[:120], order=order).fit() for order in glucose.ORDERS), key=lambda one: one.aic)
    wanted = best.apply(grid[:141]).forecast(8)
    for h in glucose.HORIZONS:
        np.testing.assert_allclose(found[h][140], wanted[h - 1], rtol=1e-6)
