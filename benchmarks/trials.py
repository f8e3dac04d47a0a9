"""Analyses of many simulated trials, ours and a loop over statsmodels in turn: microseconds a trial, and the ratio.

Run with ``uv run python benchmarks/trials.py``. Three tasks, each on trials of 200 patients with six covariates:

    ancova      effect of the arm and its HC3 standard error
    inference   the same with p-value and 95 % interval
    logistic    difference of marginal risks by logistic g-computation, with Ye's unconditional standard error

Both programs get the same arrays and give the same numbers, which is checked before anything is timed. Times are CPU
seconds of the whole process, all threads, without compilation, and wall seconds beside them; medians of repeats that
take turns. Ours may use every core, the loop uses one: the ratio of CPU times says what the code saves, the ratio of
wall times what a user waits less.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import statsmodels.api as sm
from scipy.special import stdtr, stdtrit

from trialtwin.stats.ancova_trials import ancova_trials
from trialtwin.stats.gcomputation_trials import logistic_gcomputation_trials

PATIENTS, COVARIATES = 200, 6
BARS = {"ancova": 100.0, "inference": 100.0, "logistic": 50.0}
# what the bars were written from: the loop's microseconds a trial on the machine of that day
RECORDED = {"ancova": 344.0, "logistic": 923.0}


class Trials(NamedTuple):
    """Outcomes, arms and covariates of many trials."""

    outcome: np.ndarray
    treated: np.ndarray
    covariates: np.ndarray

    def first(self, n: int) -> "Trials":
        """Return the first trials."""
        return Trials(*(part[:n] for part in self))


class Row(NamedTuple):
    """One line of the table: microseconds a trial."""

    task: str
    program: str
    trials: int
    error: float
    cpu: float
    wall: float


type Analysis = Callable[[Trials], np.ndarray]


def simulate(n: int, *, binary: bool, seed: int = 1) -> Trials:
    """Draw trials with a treatment effect and six prognostic covariates."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, PATIENTS, COVARIATES))
    treated = rng.permuted(np.tile(np.arange(PATIENTS) % 2 == 1, (n, 1)), axis=1)
    eta = 0.3 * x.sum(axis=2) + 0.5 * treated
    if binary:
        return Trials((rng.random(eta.shape) < 1 / (1 + np.exp(-eta))).astype(float), treated, x)
    return Trials(eta + rng.normal(size=eta.shape), treated, x)


def ours_ancova(trials: Trials) -> np.ndarray:
    """Return effect and error [trial, 2]."""
    effects = ancova_trials(*trials)
    return np.column_stack([effects.value, effects.se])


def ours_inference(trials: Trials) -> np.ndarray:
    """Return effect, error, p-value and interval [trial, 5]."""
    effects = ancova_trials(*trials)
    half = stdtrit(effects.df, 0.975) * effects.se
    p = 2 * stdtr(effects.df, -np.abs(effects.value / effects.se))
    return np.column_stack([effects.value, effects.se, p, effects.value - half, effects.value + half])


def ours_logistic(trials: Trials) -> np.ndarray:
    """Return difference and error [trial, 2]."""
    effects = logistic_gcomputation_trials(*trials)
    return np.column_stack([effects.value, effects.se])


def _designs(trials: Trials) -> np.ndarray:
    ones = np.ones_like(trials.outcome)
    return np.concatenate([ones[..., None], trials.treated[..., None].astype(float), trials.covariates], axis=2)


def loop_ancova(trials: Trials) -> np.ndarray:
    """Return effect and error by ``OLS(...).fit(cov_type="HC3")``."""
    found = np.empty((len(trials.outcome), 2))
    for k, X in enumerate(_designs(trials)):
        fit = sm.OLS(trials.outcome[k], X).fit(cov_type="HC3", use_t=True)
        found[k] = fit.params[1], fit.bse[1]
    return found


def loop_inference(trials: Trials) -> np.ndarray:
    """Return effect, error, p-value and interval by the same fit."""
    found = np.empty((len(trials.outcome), 5))
    for k, X in enumerate(_designs(trials)):
        fit = sm.OLS(trials.outcome[k], X).fit(cov_type="HC3", use_t=True)
        found[k] = fit.params[1], fit.bse[1], fit.pvalues[1], *fit.conf_int()[1]
    return found


def loop_logistic(trials: Trials) -> np.ndarray:
    """Return difference and error by ``GLM(..., Binomial())``, predictions under both arms, and covariances."""
    found = np.empty((len(trials.outcome), 2))
    for k, X in enumerate(_designs(trials)):
        y, treated = trials.outcome[k], trials.treated[k]
        fit = sm.GLM(y, X, family=sm.families.Binomial()).fit(tol=1e-12)
        under = []
        for arm in (0.0, 1.0):
            X[:, 1] = arm
            under.append(fit.predict(X))
        found[k] = under[1].mean() - under[0].mean(), _ye(y, treated, *under)
    return found


def _ye(y: np.ndarray, treated: np.ndarray, m0: np.ndarray, m1: np.ndarray) -> float:
    """Return the decomposed unconditional error of a difference, from four covariance matrices."""
    all_of = np.cov(m0, m1)
    zero, one = (np.cov(np.stack([y[arm], m0[arm], m1[arm]])) for arm in (~treated, treated))
    share = treated.mean()
    v0 = (zero[0, 0] - 2 * zero[0, 1] + all_of[0, 0]) / (1 - share) + 2 * zero[0, 1] - all_of[0, 0]
    v1 = (one[0, 0] - 2 * one[0, 2] + all_of[1, 1]) / share + 2 * one[0, 2] - all_of[1, 1]
    both = zero[0, 2] + one[0, 1] - all_of[0, 1]
    return float(np.sqrt((v0 + v1 - 2 * both) / len(y)))


TASKS: dict[str, tuple[Analysis, Analysis]] = {
    "ancova": (ours_ancova, loop_ancova),
    "inference": (ours_inference, loop_inference),
    "logistic": (ours_logistic, loop_logistic),
}


def take_turns(task: str, n: int, peer_n: int, repeats: int) -> tuple[Row, Row]:
    """Check that both say the same, and time them in turn."""
    ours, loop = TASKS[task]
    trials = simulate(n, binary=task == "logistic")
    few = trials.first(peer_n)
    error = float(np.abs(ours(few) - loop(few)).max())
    ours(trials)  # compiles this size
    times: dict[str, list[tuple[float, float]]] = {"trialtwin": [], "statsmodels loop": []}
    for _ in range(repeats):
        for name, analyse, given in (("trialtwin", ours, trials), ("statsmodels loop", loop, few)):
            cpu, wall = time.process_time(), time.perf_counter()
            analyse(given)
            spent = time.process_time() - cpu, time.perf_counter() - wall
            times[name].append(tuple(1e6 * s / len(given.outcome) for s in spent))
    medians = {name: np.median(np.array(kept), axis=0) for name, kept in times.items()}
    first, second = (
        Row(task, name, size, error, float(medians[name][0]), float(medians[name][1]))
        for name, size in (("trialtwin", n), ("statsmodels loop", peer_n))
    )
    return first, second


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--peer-trials", type=int, default=1_000, help="trials of the loop, which is slow")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few trials, to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args(arguments)
    if options.quick:
        options.trials, options.peer_trials, options.repeats = 512, 50, 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{options.trials:,} trials of {PATIENTS} patients and {COVARIATES} covariates, {cores} core(s)\n")
    print("| task | program | trials | largest difference | CPU µs/trial | wall µs/trial |")
    print("|---|---|---:|---:|---:|---:|")
    rows: list[Row] = []
    for task in options.tasks:
        rows += take_turns(task, options.trials, options.peer_trials, options.repeats)
        for r in rows[-2:]:
            print(
                f"| {r.task} | {r.program} | {r.trials:,} | {r.error:.0e} | {r.cpu:,.2f} | {r.wall:,.2f} |", flush=True
            )
    print()
    for ours, loop in zip(rows[::2], rows[1::2], strict=True):
        bar = BARS[ours.task]
        line = f"- {ours.task}: {loop.cpu / ours.cpu:,.0f}× by CPU, {loop.wall / ours.wall:,.0f}× by wall; bar {bar:g}×"
        print(line + (" met" if loop.wall / ours.wall >= bar else " MISSED"), end="")
        recorded = RECORDED.get(ours.task)
        print(f" ({recorded / ours.wall:,.0f}× by wall to the {recorded:g} µs recorded elsewhere)" if recorded else "")
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in rows], indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
