"""Tumour growth under chemo- and radiotherapy: the published protocol in full, four arms, beside published numbers.

    uv run python benchmarks/tumour.py --out results/tumour --resume             # every cell that is not there yet
    uv run python benchmarks/tumour.py --out results/tumour --arms known --gammas 0 --seeds 10
    uv run python benchmarks/tumour.py --out results/tumour --table              # the table of what is there
    uv run python benchmarks/tumour.py --out somewhere --quick                   # in small, as the tests run it

A cell is an arm, a γ and a seed: 10,000 training patients, 1,000 patients for each of three test sets (one-step
counterfactuals, random plans, single sliding treatments). The 1,000 validation patients are not used: nothing is tuned
within a cell. Each cell is a file of its own, written when it is done.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tumour_simulator import DEATH, Plans, simulate_test, simulate_training
from tumour_twins import ARMS, forecast, learn

from trialtwin.core.files import write_bytes

SEEDS = (10, 101, 1010, 10101, 101010)
GAMMAS = (0, 1, 2, 3, 4)
MODES = ("one_step", "random", "sliding")
TRAIN, TEST = 10_000, 1_000
QUICK = (300, 20)
PUBLISHED = {  # mean of five runs, the best of MSM, RMSN, CRN, G-Net, CT without balancing, CT; γ = 0..4
    "τ=1": (0.755, 0.783, 0.862, 1.057, 1.319),
    "random τ=2": (0.761, 0.760, 0.805, 0.944, 1.163),
    "random τ=3": (0.762, 0.777, 0.826, 0.996, 1.267),
    "random τ=4": (0.726, 0.743, 0.802, 0.983, 1.169),
    "random τ=5": (0.669, 0.692, 0.747, 0.922, 1.057),
    "random τ=6": (0.605, 0.631, 0.675, 0.847, 0.947),
    "sliding τ=2": (0.671, 0.666, 0.713, 0.875, 1.072),
    "sliding τ=3": (0.700, 0.692, 0.770, 0.969, 1.261),
    "sliding τ=4": (0.726, 0.722, 0.822, 1.053, 1.416),
    "sliding τ=5": (0.756, 0.755, 0.870, 1.118, 1.434),
    "sliding τ=6": (0.789, 0.790, 0.909, 1.177, 1.436),
}


def rows_of(mode: str) -> list[str]:
    """Return the rows of the table that a test set fills."""
    return ["τ=1"] if mode == "one_step" else [f"{mode} τ={k}" for k in range(2, 7)]


def normalised_rmse(plans: Plans, predicted: np.ndarray) -> np.ndarray:
    """Return 100 · √(pooled mean squared error) / vol(13 cm), for each step."""
    return 100 * np.sqrt(((plans.truth - predicted) ** 2).mean(0)) / DEATH


def run_cell(arm: str, gamma: int, seed: int, sizes: tuple[int, int]) -> dict[str, object]:
    """Return the errors of one cell, with the seconds it took and how many questions were asked."""
    begun = time.perf_counter()
    populations = learn(ARMS[arm], simulate_training(sizes[0], gamma, np.random.default_rng([seed, gamma, 0])))
    learned = time.perf_counter()
    errors: dict[str, float] = {}
    asked: dict[str, int] = {}
    for number, mode in enumerate(MODES, start=1):
        courses, plans = simulate_test(sizes[1], gamma, mode, np.random.default_rng([seed, gamma, number]))
        found = normalised_rmse(plans, forecast(ARMS[arm], populations, courses, plans))
        errors |= dict(zip(rows_of(mode), found.tolist(), strict=True))
        asked[mode] = len(plans.day)
    seconds = {"learn": learned - begun, "forecast": time.perf_counter() - learned}
    noise = {str(kind): p.noise for kind, p in populations.items()}
    return {"arm": arm, "gamma": gamma, "seed": seed, "errors": errors, "asked": asked, "noise": noise} | seconds


def run(
    folder: Path, arms: Sequence[str], gammas: Sequence[int], seeds: Sequence[int], *, resume: bool, quick: bool
) -> None:
    """Run cells one at a time and write each as it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    for arm in arms:
        for seed in seeds:
            for gamma in gammas:
                path = folder / f"{arm}-gamma{gamma}-seed{seed}.json"
                if resume and path.exists():
                    continue
                cell = run_cell(arm, gamma, seed, QUICK if quick else (TRAIN, TEST))
                write_bytes(path, json.dumps(cell, indent=1).encode())
                print(f"{path.name}: {cell['learn']:.0f} s to learn, {cell['forecast']:.0f} s to forecast", flush=True)


def read(folder: Path, arm: str) -> dict[tuple[str, int], np.ndarray]:
    """Return errors over seeds by row and γ, of cells that have every seed."""
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{arm}-gamma*-seed*.json"))]
    found: dict[tuple[str, int], np.ndarray] = {}
    for gamma in GAMMAS:
        of = [cell["errors"] for cell in cells if cell["gamma"] == gamma]
        if len(of) == len(SEEDS):
            found |= {(row, gamma): np.array([errors[row] for errors in of]) for row in PUBLISHED}
    return found


def table(folder: Path, arm: str) -> list[str]:
    """Return a Markdown table of an arm: published best, then ours, mean ± SD over seeds; and how many are below."""
    found = read(folder, arm)
    lines = ["| |" + "".join(f" γ={g}: published | ours |" for g in GAMMAS), "|---|" + "---:|---:|" * len(GAMMAS)]
    below, sure, ratios = 0, 0, []
    for row, published in PUBLISHED.items():
        cells = []
        for gamma, best in zip(GAMMAS, published, strict=True):
            ours = found.get((row, gamma))
            if ours is None:
                cells.append(f" {best:.3f} | – |")
                continue
            below += bool(ours.mean() < best)
            sure += bool(ours.mean() + 2 * ours.std(ddof=1) / np.sqrt(len(ours)) < best)
            ratios.append(ours.mean() / best)
            cells.append(f" {best:.3f} | {ours.mean():.3f} ± {ours.std(ddof=1):.3f} |")
        lines.append(f"| {row} |" + "".join(cells))
    mean = f"; mean ratio of ours to the best {np.mean(ratios):.3f}, worst {np.max(ratios):.3f}" if ratios else ""
    surely = f", by more than twice the error of our mean in {sure}" if ratios else ""
    return [*lines, "", f"Below the best published mean in {below} of {len(ratios)} cells{surely}{mean}."]


def main() -> None:
    """Run cells, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of results, a file a cell")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--gammas", nargs="+", type=int, default=list(GAMMAS), choices=GAMMAS)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--resume", action="store_true", help="skip cells that are there")
    parser.add_argument("--quick", action="store_true", help="few patients")
    parser.add_argument("--table", action="store_true", help="print the tables and run nothing")
    args = parser.parse_args()
    if not args.table:
        run(args.out, args.arms, args.gammas, args.seeds, resume=args.resume, quick=args.quick)
    for arm in args.arms:
        print(f"\n### {arm}\n")
        print("\n".join(table(args.out, arm)))


if __name__ == "__main__":
    main()
