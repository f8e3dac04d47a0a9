"""Forecasts of real patients beside their peers: a trial's placebo arm, MMSE of the old, proteins, glucose.

    uv run python benchmarks/real_data.py --shared ../shared --out results/real --resume
    uv run python benchmarks/real_data.py --shared ../shared --out results/real --data paquid --seeds 0 1 2
    uv run python benchmarks/real_data.py --shared ../shared --out results/real --table
    uv run python benchmarks/real_data.py --shared ../shared --out somewhere --quick --seeds 0

A cell is a data set and a seed: one repetition of its folds or splits, in a file of its own, written when it is done.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from real_data_csf import run_csf
from real_data_glucose import run_glucose
from real_data_trials import run_paquid, run_xanomeline

from trialtwin.core.files import write_bytes

DATA = {"xanomeline": run_xanomeline, "paquid": run_paquid, "ad_csf": run_csf, "shanghai": run_glucose}
SEEDS = {"xanomeline": 10, "paquid": 5, "ad_csf": 20, "shanghai": 1}


def run(args: argparse.Namespace) -> None:
    """Run the cells that are asked for."""
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.data:
        for seed in args.seeds or range(SEEDS[name]):
            path = args.out / f"{name}-seed{seed}.json"
            if args.resume and path.exists():
                continue
            begun = time.perf_counter()
            with warnings.catch_warnings():
                # LightGBM names columns for scikit-learn, which then misses them in arrays
                warnings.filterwarnings("ignore", message="X does not have valid feature names")
                cell = DATA[name](args.shared, seed, args.quick)
            seconds = time.perf_counter() - begun
            write_bytes(path, json.dumps({"seconds": seconds, "found": cell}, indent=1).encode())
            print(f"{path.name}: {seconds:.0f} s", flush=True)


def flat(found: dict, before: str = "") -> dict[str, float]:
    """Return nested numbers by their path."""
    result: dict[str, float] = {}
    for name, value in found.items():
        here = f"{before}{name}"
        result |= flat(value, f"{here} | ") if isinstance(value, dict) else {here: float(value)}
    return result


def table(folder: Path, name: str) -> list[str]:
    """Return a Markdown table: each number's mean over repetitions, its range, and how many there are."""
    cells = [flat(json.loads(path.read_text())["found"]) for path in sorted(folder.glob(f"{name}-seed*.json"))]
    if not cells:
        return [f"No results of {name} yet."]
    lines = [
        f"| {name}, {len(cells)} repetition(s) | mean | SD over repetitions | least | most |",
        "|---|" + "---:|" * 4,
    ]
    for row in cells[0]:
        values = np.array([cell[row] for cell in cells if row in cell])
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        lines.append(
            f"| {row.replace(' | ', ', ')} | "
            + " | ".join(f"{v:.3f}" for v in (values.mean(), spread, values.min(), values.max()))
            + " |"
        )
    return lines


def main() -> None:
    """Run cells and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder that holds the data")
    parser.add_argument("--out", type=Path, required=True, help="folder of results, a file a cell")
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=None, help="repetitions; by default 10, 5, 20 and 1")
    parser.add_argument("--resume", action="store_true", help="skip cells that are there")
    parser.add_argument("--quick", action="store_true", help="few folds and trees")
    parser.add_argument("--table", action="store_true", help="print the tables and run nothing")
    args = parser.parse_args()
    if not args.table:
        run(args)
    for name in args.data:
        print("\n" + "\n".join(table(args.out, name)))


if __name__ == "__main__":
    main()
