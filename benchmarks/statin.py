"""LDL under a statin: the published protocol in full, two arms, beside published numbers.

    uv run python benchmarks/statin.py --out results/statin --resume             # the six published cells, seed 100
    uv run python benchmarks/statin.py --out results/statin --windows 15/20 45/50 --resume
    uv run python benchmarks/statin.py --out results/statin --seeds 1 2 3 4 5    # how much a seed matters
    uv run python benchmarks/statin.py --out results/statin --table              # the table of what is there

A cell is a number of controls, a share of them from the treated cluster, a window (days before treatment / all days)
and a seed: 200 treated units and the controls, drawn three times (test, validation, training). Each cell is a file of
its own, written when it is done. Two estimands: the published one, outcome seen minus outcome expected untreated, whose
error is at least E|N(0, 0.1)| = 0.0798 on average where the expectation does not use that outcome, and a denoised one.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from statin_simulator import Design, simulate
from statin_twins import ARMS

from trialtwin.core.files import write_bytes

CONTROLS = (200, 1000)
SHARES = (0.10, 0.25, 0.50)
SEED = 100
FLOOR = 0.1 * float(np.sqrt(2 / np.pi))
PUBLISHED = {
    "SyncTwin": (0.324, 0.144, 0.128, 0.178, 0.107, 0.094),
    "SyncTwin-Lr": (0.353, 0.171, 0.135, 0.256, 0.146, 0.102),
    "SyncTwin-Ls": (0.336, 0.171, 0.119, 0.147, 0.114, 0.127),
    "synthetic control": (0.341, 0.151, 0.150, 0.258, 0.166, 0.214),
    "robust synthetic control": (0.842, 0.361, 0.322, 0.310, 0.298, 0.302),
    "MC-NNM": (1.161, 0.613, 0.226, 0.528, 0.160, 0.125),
    "CFR-Net": (0.903, 0.387, 0.291, 0.399, 0.178, 0.104),
    "CRN": (0.527, 0.539, 0.291, 1.131, 0.624, 0.391),
    "RMSN": (0.418, 0.391, 0.345, 0.478, 0.415, 0.390),
    "CGP": (0.660, 0.610, 0.561, 0.826, 0.693, 0.602),
    "1NN": (1.866, 1.722, 1.614, 2.447, 1.746, 1.384),
}


def run_cell(arm: str, design: Design, seed: int) -> dict[str, object]:
    """Return the mean absolute errors of one cell, with their Monte-Carlo error over units."""
    folds = simulate(design, seed)
    begun = time.perf_counter()
    answer = ARMS[arm](folds)
    seconds = time.perf_counter() - begun
    test = folds[0]
    errors = {
        "published": np.abs(test.outcome[test.treated] - answer.untreated - test.effect),
        "denoised": np.abs(answer.effect - test.effect),
        "nothing": np.abs(test.effect),
    }
    found = {name: {"mae": float(e.mean()), "se": _error_of_mean(e)} for name, e in errors.items()}
    return {"arm": arm, "design": asdict(design), "seed": seed, "errors": found, "seconds": seconds} | {
        "learned": answer.learned
    }


def _error_of_mean(errors: np.ndarray) -> float:
    """Return the standard error of the mean, units independent."""
    return float(errors.mean(1).std(ddof=1) / np.sqrt(len(errors)))


def name_of(arm: str, design: Design, seed: int) -> str:
    """Return the name of a cell's file."""
    share = round(100 * design.share)
    return f"{arm}-controls{design.controls}-share{share}-days{design.before}of{design.days}-seed{seed}.json"


def designs(window: str) -> list[Design]:
    """Return the six designs of a window, such as 25/30."""
    before, days = (int(part) for part in window.split("/"))
    return [Design(n, share, before=before, days=days) for n in CONTROLS for share in SHARES]


def run(folder: Path, arms: Sequence[str], chosen: Sequence[Design], seeds: Sequence[int], *, resume: bool) -> None:
    """Run cells one at a time and write each as it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    for arm in arms:
        for seed in seeds:
            for design in chosen:
                path = folder / name_of(arm, design, seed)
                if resume and path.exists():
                    continue
                cell = run_cell(arm, design, seed)
                write_bytes(path, json.dumps(cell, indent=1).encode())
                print(f"{path.name}: {cell['seconds']:.0f} s", flush=True)


def table(folder: Path, window: str, seeds: Sequence[int]) -> list[str]:
    """Return a Markdown table: published numbers (of window 25/30), then ours, mean over seeds."""
    chosen = designs(window)
    heads = "".join(f" N0={d.controls}: {d.share:.0%} |" for d in chosen)
    lines = ["| mean absolute error of the effect |" + heads, "|---|" + "---:|" * len(chosen)]
    if window == "25/30":
        lines += [f"| {name} |" + "".join(f" {v:.3f} |" for v in row) for name, row in PUBLISHED.items()]
    for arm in ARMS:
        for estimand in ("published", "denoised"):
            values = [_mean_over_seeds(folder, arm, d, seeds, estimand) for d in chosen]
            lines.append(f"| **ours, {arm}**, {estimand} estimand |" + "".join(f" {v} |" for v in values))
    lines.append(
        "| saying that there is no effect |"
        + "".join(f" {_mean_over_seeds(folder, 'known', d, seeds, 'nothing')} |" for d in chosen)
    )
    return lines


def _mean_over_seeds(folder: Path, arm: str, design: Design, seeds: Sequence[int], estimand: str) -> str:
    """Return mean ± standard error: over units for one seed, over seeds for more."""
    paths = [folder / name_of(arm, design, seed) for seed in seeds]
    found = [json.loads(path.read_text())["errors"][estimand] for path in paths if path.exists()]
    if len(found) < len(seeds):
        return "–"
    means = np.array([f["mae"] for f in found])
    error = found[0]["se"] if len(found) == 1 else means.std(ddof=1) / np.sqrt(len(found))
    return f"{means.mean():.4f} ± {error:.4f}"


def main() -> None:
    """Run cells, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of results, a file a cell")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--windows", nargs="+", default=["25/30"], choices=["25/30", "15/20", "45/50"])
    parser.add_argument("--controls", nargs="+", type=int, default=list(CONTROLS), choices=CONTROLS)
    parser.add_argument("--shares", nargs="+", type=float, default=list(SHARES), choices=SHARES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[SEED])
    parser.add_argument("--resume", action="store_true", help="skip cells that are there")
    parser.add_argument("--table", action="store_true", help="print the tables and run nothing")
    args = parser.parse_args()
    for window in args.windows:
        if not args.table:
            chosen = [d for d in designs(window) if d.controls in args.controls and d.share in args.shares]
            run(args.out, args.arms, chosen, args.seeds, resume=args.resume)
        print(f"\n### {window}, {len(args.seeds)} seed(s); floor of the published estimand {FLOOR:.4f}\n")
        print("\n".join(table(args.out, window, args.seeds)))


if __name__ == "__main__":
    main()
