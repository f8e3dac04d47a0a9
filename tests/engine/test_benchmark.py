"""The benchmark runs, in small, and says what it measured."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "engine.py"


def test_the_benchmark_runs_in_small_and_checks_accuracy(tmp_path: Path):
    out = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", "--problems", "i", "--json", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = {row["program"]: row for row in json.loads(out.read_text())}
    assert {"trialtwin", "scipy LSODA"} <= set(rows)
    assert all(row["error"] <= 1e-5 for row in rows.values())
    assert rows["scipy LSODA"]["cpu"] > 50 * rows["trialtwin"]["cpu"]
    assert "% of the measured peak" in done.stdout.replace("\n", " ")
