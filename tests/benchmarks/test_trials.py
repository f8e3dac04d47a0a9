"""The benchmark of many trials runs in small, and both programs say the same before they are timed."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "trials.py"


def test_the_benchmark_runs_in_small_and_checks_agreement(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", "--json", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())
    assert {(row["task"], row["program"]) for row in rows} == {
        (task, program) for task in ("ancova", "inference", "logistic") for program in ("trialtwin", "statsmodels loop")
    }
    assert all(row["error"] < 1e-9 for row in rows)
    assert "by CPU" in done.stdout
