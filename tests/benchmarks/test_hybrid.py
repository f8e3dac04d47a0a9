"""The dexamethasone benchmark: its simulator is the published one, its metric too, and it runs and resumes."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.integrate import solve_ivp

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import hybrid_simulator

    return hybrid_simulator


def test_independent_courses_by_scipy(simulator: ModuleType) -> None:
    """Three patients by LSODA, started anew at the day of the dose."""
    data = simulator.simulate(6)
    for i in range(3):
        day, amount = data.day[i], data.amount[i]

        def slope(t: float, y: np.ndarray, day: float = day, amount: float = amount) -> np.ndarray:
            dose = amount * np.exp(day - t) if t >= day else 0.0
            d, i_, m, x = y[:4]
            known = [d - d * m * m - d * i_, d - i_ + d * i_ + i_ * i_ / (1 + i_ * i_) - x * i_, i_, dose - x]
            return np.concatenate([known, np.tanh(y @ data.weights)])

        y, found = data.states[i, 0], [data.states[i, 0]]
        for whole in range(14):
            y = solve_ivp(slope, (whole, whole + 1), y, method="LSODA", rtol=1e-10, atol=1e-12, max_step=0.1).y[:, -1]
            found.append(y)
        np.testing.assert_allclose(data.states[i], np.array(found), rtol=1e-5, atol=1e-8)


def test_the_first_draws_are_those_of_the_published_generator(simulator: ModuleType) -> None:
    """NumPy's legacy generator with seed 666 gives these first coefficients on every machine."""
    data = simulator.simulate(6)
    first = np.random.RandomState(666).randn(20, 7)
    kept = data.coefficients[:, :7] != 0
    np.testing.assert_array_equal(data.coefficients[:, :7][kept], first[kept])
    assert 0.4 < kept.mean() < 0.6
    assert data.values.shape == (2100, 15, 20)
    np.testing.assert_allclose(data.values.mean(axis=(0, 1)), 0, atol=1e-12)
    np.testing.assert_allclose(data.values.std(axis=(0, 1), ddof=1), 1)
    assert abs(data.observed.mean() - 0.5) < 0.002


def test_the_truth_is_off_by_the_noise_and_more_noise_is_added_after_standardising(simulator: ModuleType) -> None:
    data, noisier = simulator.simulate(6), simulator.simulate(6, 0.8)
    test = data.part("test")
    truth = np.sqrt(simulator.errors(data.clean[test, 5:], data).mean())
    assert truth == pytest.approx(np.sqrt(np.mean(data.noise**2)), rel=0.01)
    added = noisier.values - data.values
    assert added.std() == pytest.approx(0.6, rel=0.01)


def test_the_floor_lies_between_the_noise_and_what_looks_at_no_patient(simulator: ModuleType) -> None:
    """Knowing all but the start errs by more than the noise; where the start is known as well, by the noise alone."""
    data = simulator.simulate(6)
    mean, size = simulator.oracle(data, points=512, patients=60)
    rows = slice(data.part("test").start, data.part("test").start + 60)
    seen = data.observed[rows, 5:]

    def root(predicted: np.ndarray) -> float:
        return float(np.sqrt((((predicted - data.values[rows, 5:]) ** 2) * seen).sum() / seen.sum()))

    assert root(data.clean[rows, 5:]) < root(mean) < 0.6 * root(np.zeros_like(mean))
    assert np.median(size) > 30


def test_a_table_is_made_of_the_cells_that_are_there(tmp_path: Path) -> None:
    for arm, value in (("hybrid", 0.25), ("expert", 0.49)):
        cell = {"arm": arm, "cell": "N10", "seed": 0, "rmse": value**0.5, "rmse_se": 0.01, "crps": 0.3, "crps_se": 0.01}
        (tmp_path / f"{arm}-N10-seed0.json").write_text(json.dumps(cell | {"square": [value, value + 0.1]}))
    command = [sys.executable, str(BENCHMARKS / "hybrid.py"), "--out", str(tmp_path), "--table"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| hybrid, published | | 0.618 |" in done.stdout
    assert "| expert | 0.240 ± 0.000 |" in done.stdout
    floor = {"floor": 0.44, "day_means": 0.86, "zero": 1.04}
    (tmp_path / "floor-N10.json").write_text(json.dumps(floor))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "| everything known but the start | | 0.440 |" in done.stdout


@pytest.mark.slow
def test_a_cell_runs_and_resumes_and_the_hybrid_is_best(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "hybrid.py"), "--out", str(tmp_path), "--cells", "N10", "--resume"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {p.name.split("-")[0]: json.loads(p.read_text())["rmse"] for p in tmp_path.iterdir()}
    assert found["hybrid"] == min(found.values()) < 0.6
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ".json" not in again.stdout
