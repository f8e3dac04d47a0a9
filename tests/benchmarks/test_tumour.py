"""The tumour benchmark runs in small, resumes, and its simulator obeys the equations and the published rollout."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import tumour_simulator

    return tumour_simulator


def _run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "tumour.py"), "--out", str(folder), "--quick", "--seeds", "10", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_benchmark_runs_in_small_and_resumes(tmp_path: Path):
    done = _run(tmp_path, "--gammas", "2", "--arms", "known", "none")
    assert done.returncode == 0, done.stderr
    cells = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert set(cells) == {"known-gamma2-seed10.json", "none-gamma2-seed10.json"}
    for cell in cells.values():
        assert len(cell["errors"]) == 11
        assert all(0 < error < 5 for error in cell["errors"].values())
        assert cell["asked"]["sliding"] > 3000
    assert all(abs(noise - 0.01) < 0.001 for noise in cells["known-gamma2-seed10.json"]["noise"].values())
    again = _run(tmp_path, "--gammas", "2", "--arms", "known", "none", "--resume")
    assert "to forecast" not in again.stdout
    assert "random τ=6" in again.stdout


def test_independent_course_in_a_plain_loop(simulator: ModuleType):
    """Plans replayed one at a time from recorded courses, with the patient's parameters and noise, give the truths."""
    rng = np.random.default_rng(3)
    p = simulator.draw_patients(40, rng)
    chains = simulator._roll(p, 3.0, rng, np.zeros((40, 65)), "sliding")
    plans = simulator._branch(chains, *simulator._pairs(chains), "sliding", rng)
    assert set(plans.chemo.sum(1) + plans.radio.sum(1)) == {1}
    for q in rng.choice(len(plans.day), 200, replace=False):
        i, day = plans.course[q], plans.day[q]
        chemo = [*chains.chemo[i, : day + 1], *plans.chemo[q]]
        radio = [*chains.radio[i, : day + 1], *plans.radio[q]]
        volume, level = p.start[i], 0.0
        for t in range(day + 6):
            level = level / 2 + 5 * chemo[t]
            killed = p.beta_c[i] * level + (2 * p.alpha[i] + 4 * p.alpha[i] / 10) * radio[t]
            volume = volume * (1 + p.rho[i] * np.log(simulator.CAPACITY / volume) - killed + chains.noise[i, t + 1])
            if t <= day:
                volume = min(max(volume, 0.0), simulator.DEATH)
            else:
                np.testing.assert_allclose(plans.truth[q, t - day - 1], volume, rtol=1e-4, atol=1e-5)


def test_the_policy_reads_another_row(simulator: ModuleType):
    """As published: who is large is not who is treated in a test rollout; in training he is."""
    rng = np.random.default_rng(4)
    training = simulator.simulate_training(2000, 10.0, rng)
    courses, plans = simulator.simulate_test(1000, 10.0, "one_step", rng)
    long = training.last == 59
    seen = np.corrcoef(np.log(training.volume[long, 0]), training.chemo[long, 1:6].mean(1))[0, 1]
    unseen = np.corrcoef(np.log(courses.volume[:, 0]), courses.chemo[:, 1:6].mean(1))[0, 1]
    assert seen > 0.7
    assert abs(unseen) < 0.2
    assert plans.truth.shape[1] == 1
    assert (np.bincount(plans.course * 60 + plans.day)[plans.course * 60 + plans.day] == 4).all()
