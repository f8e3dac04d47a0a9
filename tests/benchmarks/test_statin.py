"""The statin benchmark runs, resumes, and its simulator agrees with SciPy's integrator."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import integrate

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import statin_simulator
    import statin_twins

    return statin_simulator, statin_twins


def test_a_cell_runs_and_resumes(tmp_path: Path):
    cell = ["--arms", "none", "--controls", "200", "--shares", "0.5", "--resume"]
    command = [sys.executable, str(BENCHMARKS / "statin.py"), "--out", str(tmp_path), *cell]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    errors = json.loads(path.read_text())["errors"]
    assert errors["denoised"]["mae"] < 0.04 < errors["nothing"]["mae"]
    assert 0.07 < errors["published"]["mae"] < 0.12
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ".json" not in again.stdout
    assert "| SyncTwin |" in again.stdout


def test_independent_integration_by_scipy(modules: tuple[ModuleType, ModuleType]):
    """P and R day by day, treated from day 6, equal DOP853 started anew every day."""
    simulator, _ = modules
    inflow = np.random.default_rng(1).normal(size=(2, 11))
    p, r = simulator.respond(inflow, treated_from=6)
    for i in range(2):
        state = np.array([0.5, 0.5, 0.0])
        for day in range(10):

            def slope(_: float, y: np.ndarray, day: int = day, i: int = i) -> list[float]:
                drug = y[2] / (y[2] + 0.1)
                return [
                    inflow[i, day] - 0.18 * y[0],
                    0.18 * y[0] - drug * 0.18 * y[1],
                    float(day >= 6) - 0.1 * y[2],
                ]

            found = integrate.solve_ivp(slope, (0, 1), state, method="DOP853", rtol=1e-11, atol=1e-12)
            state = found.y[:, -1]
            # steep where the drug starts: Runge and Kutta's error is largest on that day
            np.testing.assert_allclose([p[i, day], r[i, day]], state[:2], atol=1e-9 if day < 6 else 5e-7)


def test_clusters_and_standardisation(modules: tuple[ModuleType, ModuleType]):
    simulator, _ = modules
    fold = simulator.simulate_fold(simulator.Design(200, 0.25), np.random.default_rng(2))
    assert fold.history.shape == (400, 25, 3)
    assert fold.outcome.shape == (400, 5)
    assert fold.effect.shape == (200, 5)
    raw = fold.history * fold.sd + fold.mean
    # cluster 1 has one term, x = day/30: its Kin is 0 on day 0 but for noise, which the treated cluster's is not
    noise = 0.1 * fold.sd[0]
    assert abs(raw[50:200, 0, 0].std() - noise) < 0.2 * noise
    assert raw[200:, 0, 0].std() > 5 * noise


def test_the_mechanism_is_found(modules: tuple[ModuleType, ModuleType]):
    """The arm that is told the equations finds K and the starting values, and errs less than 0.02."""
    simulator, twins = modules
    folds = simulator.simulate(simulator.Design(200, 0.5), 3)
    answer = twins.answer_known(folds)
    found = answer.learned
    np.testing.assert_allclose(found["K"], 0.18, rtol=0.01)
    np.testing.assert_allclose([found["P0"], found["R0"]], 0.5, rtol=0.15)
    np.testing.assert_allclose(found["D50"], 0.1, rtol=0.4)  # five noisy days after the start say little of it
    np.testing.assert_allclose(found["noise"], 0.1, rtol=0.02)
    assert np.abs(answer.effect - folds[0].effect).mean() < 0.02
