"""Where half of the patients lack a block: using what there is, dropping the patients, dropping the block.

Each repetition draws a world, patients to learn from and others to forecast, who lack the block at the same share. The
same baseline twin learns three ways, and forecasts the last visit from the first. Differences are paired by repetition.

    uv run python benchmarks/blocks.py
    uv run python benchmarks/blocks.py --by-age --out blocks-by-age.jsonl   # resumes where it was stopped
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from blocks_simulator import DAYS, WIDTHS, drop, lose, make_world, simulate

from trialtwin.core.backend import enable_compilation_cache
from trialtwin.core.cohort import Cohort
from trialtwin.core.treatment import NoTreatment
from trialtwin.twins.baseline import Baseline, BaselineTwin
from trialtwin.twins.features import factors_of

NEW = 600
LEVEL = 0.9
WAYS = ("all that there is", "patients dropped", "block dropped", "no blocks at all", "nothing missing")


def learn(cohort: Cohort) -> BaselineTwin:
    """Fit the twin; it is deterministic."""
    return Baseline().fit(cohort, key=jax.random.key(0))


def errors(twin: BaselineTwin, patients: Cohort) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return error of each forecast, whether the 90 % interval covers, and its width."""
    course = twin.predict(patients.until(0), NoTreatment(), DAYS[-1:], draws=320, key=jax.random.key(1))
    truth = patients.values[:, -1, 0]
    low, high = np.quantile(course.values[:, :, 0, 0], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return course.expected[:, 0, 0] - truth, (low <= truth) & (truth <= high), high - low


def repetition(seed: int, patients: int, block: str, *, by_age: bool) -> dict[str, np.ndarray]:
    """Return squared errors and intervals of every way, patient by patient, and who has the block."""
    world = make_world(seed)
    whole = simulate(world, patients, 10_000 + seed, "T")
    whole_new = simulate(world, NEW, 20_000 + seed, "N")
    training = lose(whole, block, 0.5, 30_000 + seed, by_age=by_age)
    new = lose(whole_new, block, 0.5, 40_000 + seed, by_age=by_age)
    asked = {
        "all that there is": (training, new),
        "patients dropped": (training.take(training.blocks[block].present), new),
        "block dropped": (drop(training, block), drop(new, block)),
        "no blocks at all": (_bare(training), _bare(new)),
        "nothing missing": (whole, whole_new),
    }
    found = {"has": new.blocks[block].present}
    for way, (teachers, others) in asked.items():
        twin = learn(teachers)
        error, covered, width = errors(twin, others)
        found |= {way: error**2, f"{way}, covered": covered, f"{way}, width": width}
        if way == "all that there is":
            factors = factors_of(twin.encoder, others)
            found["known"] = np.zeros(NEW) if factors is None else factors.known
    return found


def _bare(cohort: Cohort) -> Cohort:
    for name in WIDTHS:
        cohort = drop(cohort, name)
    return cohort


def summary(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Return root mean squared errors, coverage and widths of one repetition, by who was asked."""
    out: dict[str, float] = {}
    for group, rows in (("all", found["has"] | True), ("have", found["has"]), ("lack", ~found["has"])):
        for way in WAYS:
            out[f"{group}: {way}"] = float(np.sqrt(found[way][rows].mean()))
        out[f"{group}: covered"] = float(found[f"{WAYS[0]}, covered"][rows].mean())
        out[f"{group}: width"] = float(found[f"{WAYS[0]}, width"][rows].mean())
        out[f"{group}: known"] = float(found["known"][rows].mean())
    return out


GROUPS = {"all": "all", "have": "who have the block", "lack": "who lack it"}


def table(found: list[dict[str, float]]) -> Iterator[str]:
    """Yield the lines of a table: root mean squared error of each way, and its difference from using all there is."""
    yield "| asked of | way | RMSE | RMSE − that of all there is | MC error | worse in |"
    yield "|---|---|---:|---:|---:|---:|"
    for group, words in GROUPS.items():
        for way in WAYS:
            rmse = np.array([one[f"{group}: {way}"] for one in found])
            apart = rmse - np.array([one[f"{group}: {WAYS[0]}"] for one in found])
            error = apart.std(ddof=1) / np.sqrt(len(apart))
            beside = f"{apart.mean():+.4f} | {error:.4f} | {(apart > 0).sum()}/{len(apart)}" if apart.any() else "| |"
            yield f"| {words} | {way} | {rmse.mean():.4f} | {beside} |"


def intervals(found: list[dict[str, float]]) -> Iterator[str]:
    """Yield how the twin that uses all there is covers, how wide its intervals are, and how much is known."""
    yield "| asked of | coverage of 90 % intervals | MC error | mean width | share of the factors known |"
    yield "|---|---:|---:|---:|---:|"
    for group, words in GROUPS.items():
        covered = np.array([one[f"{group}: covered"] for one in found])
        error = covered.std(ddof=1) / np.sqrt(len(covered))
        width, known = (np.mean([one[f"{group}: {what}"] for one in found]) for what in ("width", "known"))
        yield f"| {words} | {covered.mean():.3f} | {error:.3f} | {width:.2f} | {known:.2f} |"


def main() -> None:
    """Run the repetitions that are not done yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--block", choices=WIDTHS, default="proteome")
    parser.add_argument("--by-age", action="store_true", help="lacking mostly in older patients, not by chance")
    parser.add_argument("--out", type=Path, help="JSON lines, one a repetition; those that are there are not repeated")
    given = parser.parse_args()
    enable_compilation_cache()
    done: dict[int, dict[str, float]] = {}
    if given.out is not None and given.out.exists():
        done = {line["seed"]: line["found"] for line in map(json.loads, given.out.read_text().splitlines())}
    for seed in range(given.repetitions):
        if seed not in done:
            done[seed] = summary(repetition(seed, given.patients, given.block, by_age=given.by_age))
            if given.out is not None:
                with given.out.open("a") as stream:
                    stream.write(json.dumps({"seed": seed, "found": done[seed]}) + "\n")
    found = [done[seed] for seed in range(given.repetitions)]
    how = "mostly in older patients" if given.by_age else "by chance"
    print(f"{given.block} missing for 50 % {how}; {given.patients} patients, {given.repetitions} repetitions\n")
    print("\n".join([*table(found), "", *intervals(found)]))


if __name__ == "__main__":
    main()
