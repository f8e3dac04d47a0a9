"""Dexamethasone in COVID-19: a hybrid against either part alone, the published protocol in full.

    uv run python benchmarks/hybrid.py --out results/hybrid --resume          # all cells of the published table
    uv run python benchmarks/hybrid.py --out results/hybrid --cells N10 N100  # some of them
    uv run python benchmarks/hybrid.py --out results/hybrid --seeds 1 2 3     # how much starting weights matter
    uv run python benchmarks/hybrid.py --out results/hybrid --floor           # what knowing everything would reach
    uv run python benchmarks/hybrid.py --out results/hybrid --table           # the table of what is there

A cell is a number of training patients, of states and a noise; 100 validation and 1,000 test patients, known up to
t = 4, forecast from t = 5 to 14. Each cell of an arm is a file of its own, written when it is done. Metrics as
published: RMSE is the square root of the mean over patients of the mean square error over what was observed; CRPS is
over all values, of 50 draws taken as they are. Our draws hold measurement error, the published ones do not.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from hybrid_arms import ARMS, TOLD, Answer, answer
from hybrid_simulator import SEEN, Simulated, errors, oracle, simulate

from trialtwin.core.files import write_bytes
from trialtwin.stats.scoring import crps_ensemble


@dataclass(frozen=True)
class Cell:
    """A column of the published table; the bar is ours to reach with the hybrid, where one is set."""

    size: int
    states: int = 6
    noise: float = 0.2
    bar: float | None = None


CELLS = {
    "N10": Cell(10, bar=0.60),
    "N100": Cell(100, bar=0.58),
    "N500": Cell(500, bar=0.55),
    "states8": Cell(100, states=8, bar=0.70),
    "states12": Cell(100, states=12, bar=0.75),
    "noise.4": Cell(100, noise=0.4),
    "noise.8": Cell(100, noise=0.8),
}
PUBLISHED = {
    "neural": (0.842, 0.801, 0.774, 0.847, 0.837, 0.809, 1.005),
    "expert": (0.759, 0.730, 0.855, 0.823, 0.922, 0.899, 0.943),
    "residual": (0.804, 0.686, 0.835, 0.840, 0.904, 0.934, 0.956),
    "ensemble": (0.731, 0.713, 0.740, 0.785, 0.826, 0.794, 0.918),
    "hybrid": (0.618, 0.625, 0.621, 0.751, 0.797, 0.681, 0.850),
}
FLOOR_PATIENTS = 300
PUBLISHED_CRPS = {"neural": (0.557, 0.538, 0.528), "expert": (0.534, 0.512, 0.614), "hybrid": (0.413, 0.432, 0.433)}


def run_cell(name: str, seed: int, folder: Path, arms: list[str], *, resume: bool) -> None:
    """Run the arms of a cell that are not there yet."""
    cell = CELLS[name]
    paths = {arm: folder / f"{arm}-{name}-seed{seed}.json" for arm in ARMS}
    wanted = [arm for arm in arms if not (resume and paths[arm].is_file())]
    if not wanted:
        return
    # the ensemble is made of two others, which are run again for it
    needed = [arm for arm in ARMS if arm in wanted or ("ensemble" in wanted and arm in ("neural", "expert"))]
    simulated = simulate(cell.states, cell.noise)
    done: dict[str, Answer] = {}
    for arm in needed:
        begun = time.perf_counter()
        done[arm] = answer(arm, simulated, cell.states, cell.size, jax.random.key(seed), done)
        seconds = time.perf_counter() - begun
        if arm in wanted:
            content = judge(arm, name, seed, done[arm], simulated) | {"seconds": seconds}
            write_bytes(paths[arm], json.dumps(content).encode())
            print(
                f"{paths[arm].name}: rmse {content['rmse']:.4f}, crps {content['crps']:.4f}, {seconds:.0f} s",
                flush=True,
            )


def judge(arm: str, name: str, seed: int, found: Answer, simulated: Simulated) -> dict[str, object]:
    """Return the metrics of an arm in a cell; each patient's square error is kept, for paired differences."""
    square = errors(found.mean, simulated)
    target = simulated.values[simulated.part("test"), SEEN:]
    flat = crps_ensemble(found.draws.reshape(len(found.draws), -1), target.ravel()).reshape(len(target), -1)
    rmse = float(np.sqrt(square.mean()))
    # 50 draws from the right law hold 44.1/51 = 86.5 % between these two quantiles of theirs
    low, high = np.quantile(found.draws, [0.05, 0.95], axis=0)
    return {
        "arm": arm,
        "cell": name,
        "seed": seed,
        "rmse": rmse,
        "rmse_se": error_of_root(square),
        "coverage90": float(((low <= target) & (target <= high)).mean()),
        "crps": float(flat.mean()),
        "crps_se": float(flat.mean(axis=1).std(ddof=1) / np.sqrt(len(flat))),
        "effective_points": float(np.median(found.size)),
        "validation_by_states": found.tried,
        "square": square.tolist(),
    }


def error_of_root(square: np.ndarray) -> float:
    """Return the standard error of a root mean square, patients independent (delta method)."""
    return float(square.std(ddof=1) / np.sqrt(len(square)) / (2 * np.sqrt(square.mean())))


def run_floor(name: str, folder: Path, *, resume: bool) -> None:
    """Judge what is expected by somebody who knows all but a patient's initial states, on the first test patients."""
    path = folder / f"floor-{name}.json"
    if resume and path.is_file():
        return
    cell = CELLS[name]
    simulated = simulate(cell.states, cell.noise)
    begun = time.perf_counter()
    mean, size = oracle(simulated, patients=FLOOR_PATIENTS)
    square = errors(mean, simulated)
    truth, seen = simulated.values[: cell.size], simulated.observed[: cell.size]
    days = (truth * seen).sum(0)[SEEN:] / np.maximum(seen.sum(0)[SEEN:], 1)
    content = {
        "floor": float(np.sqrt(square.mean())),
        "se": error_of_root(square),
        "effective_points": float(np.median(size)),
        "zero": float(np.sqrt(errors(np.zeros((1, *days.shape)), simulated).mean())),
        "day_means": float(np.sqrt(errors(days[None], simulated).mean())),
        "seconds": time.perf_counter() - begun,
    }
    write_bytes(path, json.dumps(content).encode())
    print(f"{path.name}: {content}", flush=True)


def floor_rows(folder: Path, cells: list[str]) -> list[str]:
    """Return rows of the table: the floor, and two forecasts that look at no patient."""
    found = [
        json.loads((folder / f"floor-{c}.json").read_text()) if (folder / f"floor-{c}.json").is_file() else None
        for c in cells
    ]
    rows = []
    for title, name in (
        ("everything known but the start", "floor"),
        ("mean of the day", "day_means"),
        ("zero", "zero"),
    ):
        shown = ["" if one is None else f"{one[name]:.3f}" for one in found]
        rows.append(f"| {title} | | " + " | ".join(shown) + " |")
    return rows


def table(folder: Path, seed: int) -> str:
    """Return published and own numbers side by side, and the hybrid's paired differences from every other arm."""
    found = {}
    for path in sorted(folder.glob(f"*-seed{seed}.json")):
        one = json.loads(path.read_text())
        found[one["arm"], one["cell"]] = one
    cells = [name for name in CELLS if any((arm, name) in found for arm in ARMS)]
    lines = [f"| RMSE | told | {' | '.join(cells)} |", "|---|---|" + "---:|" * len(cells)]
    for arm in ARMS:
        theirs = dict(zip(CELLS, PUBLISHED[arm], strict=True))
        lines.append(f"| {arm}, published | | " + " | ".join(f"{theirs[c]:.3f}" for c in cells) + " |")
        ours = [found.get((arm, c)) for c in cells]
        shown = ["" if one is None else f"**{one['rmse']:.3f}** ± {one['rmse_se']:.3f}" for one in ours]
        lines.append(f"| {arm}, ours | {TOLD[arm]} | " + " | ".join(shown) + " |")
    bars = ["–" if CELLS[c].bar is None else f"{CELLS[c].bar:.2f}" for c in cells]
    lines += [*floor_rows(folder, cells), "| bar for the hybrid | | " + " | ".join(bars) + " |", ""]
    lines += [f"| CRPS | {' | '.join(cells)} |", "|---|" + "---:|" * len(cells)]
    for arm in ARMS:
        if arm in PUBLISHED_CRPS:
            theirs = dict(zip(CELLS, PUBLISHED_CRPS[arm], strict=False))
            lines.append(
                f"| {arm}, published | " + " | ".join(f"{theirs[c]:.3f}" if c in theirs else "" for c in cells) + " |"
            )
        ours = [found.get((arm, c)) for c in cells]
        lines.append(
            f"| {arm}, ours | "
            + " | ".join("" if one is None else f"{one['crps']:.3f} ± {one['crps_se']:.3f}" for one in ours)
            + " |"
        )
    lines += ["", f"| share between 5 % and 95 % of draws | {' | '.join(cells)} |", "|---|" + "---:|" * len(cells)]
    for arm in ARMS:
        ours = [found.get((arm, c), {}).get("coverage90") for c in cells]
        lines.append(f"| {arm} | " + " | ".join("" if one is None else f"{one:.1%}" for one in ours) + " |")
    lines += [
        "",
        f"| mean square error minus the hybrid's, paired | {' | '.join(cells)} |",
        "|---|" + "---:|" * len(cells),
    ]
    for arm in ARMS[:-1]:
        shown = [paired(found.get((arm, c)), found.get(("hybrid", c))) for c in cells]
        lines.append(f"| {arm} | {' | '.join(shown)} |")
    return "\n".join(lines)


def paired(other: dict[str, object] | None, hybrid: dict[str, object] | None) -> str:
    """Return the mean of the patients' differences in square error with its standard error."""
    if other is None or hybrid is None:
        return ""
    gap = np.asarray(other["square"]) - np.asarray(hybrid["square"])
    return f"{gap.mean():.3f} ± {gap.std(ddof=1) / np.sqrt(len(gap)):.3f}"


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of starting weights; the data are the same")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--floor", action="store_true", help="what somebody who knows everything would reach")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.cells if asked.floor else ():
        run_floor(name, asked.out, resume=asked.resume)
    for seed in asked.seeds:
        if not (asked.table or asked.floor):
            for name in asked.cells:
                run_cell(name, seed, asked.out, asked.arms, resume=asked.resume)
        print(table(asked.out, seed))


if __name__ == "__main__":
    main()
