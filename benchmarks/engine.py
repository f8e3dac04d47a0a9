"""The engine and its peers in turn, on three problems, at the same accuracy: time per patient, ratios, share of peak.

Run with ``uv run python benchmarks/engine.py``; ``uv run --with heyoka python benchmarks/engine.py`` brings heyoka in.
Every program gets the coarsest of its settings whose largest error, over states, outputs and checked patients and
relative to the largest value of the state in that patient's course, is at most 1e-5. Times are CPU seconds of the whole
process, all threads, without compilation; medians of repeats that take turns.
"""

import argparse
import json
import math
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from engine_contestants import OURS, PEERS, SINGLE, Contestant, Solver, equations, fixed_grid
from engine_problems import CASCADE, PROBLEMS, Problem, discrepancy, reference

from trialtwin.engine.ensemble import solve_ensemble
from trialtwin.engine.fixed import Fixed
from trialtwin.engine.stream import stream_ensemble

ACCURACY = 1e-5
NUMBERS = (1_000, 10_000, 100_000)
# printed by others on a machine like this, for context where R is absent (microseconds per patient)
RECORDED = {"i": {"mrgsolve": 300.0}, "ii": {"mrgsolve": 600.0}, "iii": {"mrgsolve": 1235.0}}
BARS = {
    "i": {"diffrax": 25.0, "mrgsolve": 25.0},
    "ii": {"diffrax": 5.0, "mrgsolve": 10.0, "heyoka": 4.0, "scipy LSODA": 500.0},
    "iii": {"diffrax": 20.0, "mrgsolve": 1.0},
}


class Ready(NamedTuple):
    """A contestant made ready at a setting, and its error there."""

    contestant: Contestant
    solve: Solver
    setting: Any
    error: float


class Row(NamedTuple):
    """One line of a table: microseconds per patient."""

    problem: str
    program: str
    patients: int
    setting: str
    error: float
    cpu: float
    wall: float


def make_ready(contestant: Contestant, problem: Problem, truth: np.ndarray, n: int) -> Ready | None:
    """Return a contestant at the coarsest of its settings that is accurate enough, or none."""
    patients = problem.patients(n)
    for setting in contestant.settings(problem):
        solve = contestant.prepare(problem, setting)
        error = discrepancy(solve(patients)[: len(truth)], truth[:n])
        if error <= ACCURACY:
            return Ready(contestant, solve, setting, error)
    return None


def take_turns(problem: Problem, ready: Sequence[Ready], n: int, repeats: int, patience: float) -> list[Row]:
    """Time every contestant ``repeats`` times, in turn; one that takes longer than ``patience`` seconds, once."""
    sizes = [min(n, r.contestant.most(problem)) for r in ready]
    times: list[list[tuple[float, float]]] = [[] for _ in ready]
    for _ in range(repeats):
        for r, size, kept in zip(ready, sizes, times, strict=True):
            if kept and kept[0][1] > patience:
                continue
            patients = problem.patients(size)
            if not kept:
                r.solve(patients)  # compiles this size
            cpu, wall = time.process_time(), time.perf_counter()
            r.solve(patients)
            kept.append((time.process_time() - cpu, time.perf_counter() - wall))
    rows = []
    for r, size, kept in zip(ready, sizes, times, strict=True):
        cpu, wall = np.median(np.array(kept), axis=0) / size * 1e6
        rows.append(Row(problem.key, r.contestant.name, size, str(r.setting), r.error, float(cpu), float(wall)))
    return rows


def peak_flops() -> float:
    """Return float64 operations per CPU second of a matrix product of 2,000 rows: the machine's measured peak."""
    a = jnp.asarray(np.random.default_rng(0).standard_normal((2000, 2000)))
    product = jax.jit(lambda x: x @ x)
    product(a).block_until_ready()
    rates = []
    for _ in range(5):
        cpu = time.process_time()
        product(a).block_until_ready()
        rates.append(2 * 2000**3 / (time.process_time() - cpu))
    return float(np.median(rates))


def operations(problem: Problem, setting: Any) -> int:
    """Count the arithmetic operations of one patient on the fixed grid, from the traced program."""
    p = {name: jnp.asarray(value) for name, value in problem.typical.items()}
    grid = fixed_grid(problem, setting)
    return _count(jax.make_jaxpr(lambda q: Fixed(8).solve(equations(problem), q, grid))(p).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        inner = [x for x in equation.params.values() if hasattr(x, "jaxpr") or hasattr(x, "eqns")]
        for one in inner:
            total += _count(getattr(one, "jaxpr", one)) * equation.params.get("length", 1)
        if not inner and equation.primitive.name in {"add", "add_any", "sub", "mul", "div", "neg", "abs"}:
            total += math.prod(equation.outvars[0].aval.shape)
    return total


def gradient(n: int, repeats: int) -> tuple[float, float, float]:
    """Return seconds of a forward pass, of a gradient for 30 parameters, and their ratio, on problem ii.

    The parameters are a typical value and the effects of covariates and scales behind it, 30 in all; the gradient is
    of a sum of squares over ``n`` patients, states and outputs, by reverse differentiation.
    """
    names = list(CASCADE.typical)
    count = len(names)
    spread = jnp.asarray(np.random.default_rng(1).standard_normal((n, count)))
    age = jnp.asarray(np.random.default_rng(2).standard_normal(n))
    grid = fixed_grid(CASCADE, (4.7, 1.0, 4.7, 1))
    system = equations(CASCADE)
    typical = jnp.log(jnp.array(list(CASCADE.typical.values())))

    def loss(theta: Any) -> Any:
        # log of each parameter; effects of age on the first of them
        slopes = jnp.zeros(count).at[: 30 - count].set(theta[count:])
        logs = theta[:count] + 0.2 * spread + age[:, None] * slopes
        p = {name: jnp.exp(logs[:, c]) for c, name in enumerate(names)}
        return sum((v**2).sum() for v in solve_ensemble(system, p, grid, Fixed(8)).values)

    theta = jnp.concatenate([typical, jnp.full(30 - count, 0.01)])
    forward, backward = jax.jit(loss), jax.jit(jax.grad(loss))
    seconds: tuple[list[float], list[float]] = ([], [])
    forward(theta).block_until_ready(), backward(theta).block_until_ready()
    for _ in range(repeats):
        for f, kept in zip((forward, backward), seconds, strict=True):
            cpu = time.process_time()
            f(theta).block_until_ready()
            kept.append(time.process_time() - cpu)
    one, other = (float(np.median(kept)) for kept in seconds)
    return one, other, other / one


def stream(n: int) -> None:
    """Stream ``n`` virtual patients of problem ii to Parquet, and print wall time, memory and size of the files."""
    names, key = list(CASCADE.typical), jax.random.key(0)
    typical = jnp.array(list(CASCADE.typical.values()))

    @jax.jit
    def draw(numbers: Any) -> Any:
        z = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (len(names),)))(numbers)
        return dict(zip(names, (typical * jnp.exp(0.2 * z)).T, strict=True))

    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        files = stream_ensemble(
            equations(CASCADE),
            draw,
            fixed_grid(CASCADE, (4.7, 1.0, 4.7, 1)),
            Fixed(8),
            Path(folder),
            patients=n,
            purpose="benchmark",
            progress=lambda p: print(f"\r{p.done:,} of {p.total:,}", end="", flush=True),
        )
        seconds, size = time.perf_counter() - begin, sum(file.stat().st_size for file in files)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"\r{n:,} patients of (ii) streamed in {seconds:.0f} s; {memory:.2f} GB of memory, {size / 1e6:.0f} MB of files"
    )


def print_problem(problem: Problem, rows: Sequence[Row], peak: float, setting: Any, *, bars: bool) -> None:
    """Print one problem's table, ratios to ours, the share of peak, and the bars at 10,000 patients of ours."""
    print(f"\n## ({problem.key}) {problem.title}\n")
    print("| program | patients | setting | largest error | CPU µs/patient | wall µs/patient | CPU, ours = 1 |")
    print("|---|---:|---|---:|---:|---:|---:|")
    ours = {r.patients: r.cpu for r in rows if r.program == OURS.name}
    for r in sorted(rows, key=lambda r: (r.patients not in ours, r.patients, r.cpu)):
        base = ours.get(r.patients) or ours[max(ours)]
        print(
            f"| {r.program} | {r.patients:,} | {r.setting} | {r.error:.1e} | {r.cpu:,.1f} | {r.wall:,.1f} "
            f"| {r.cpu / base:,.1f} |"
        )
    cpu = ours[min(ours, key=lambda n: abs(n - 10_000))]
    if setting is not None:
        flops = operations(problem, setting)
        print(
            f"\n{flops:,} operations a patient: {flops / cpu / 1e3:.1f} Gflop/s, {flops / cpu * 1e6 / peak:.0%} of the "
            f"measured peak of {peak / 1e9:.0f} Gflop/s (float64 matrix product, one core)."
        )
    if not bars:
        return
    print()
    times = {r.program: r.cpu for r in rows if r.program != OURS.name}
    for peer, bar in BARS[problem.key].items():
        where, value = "", times.get(peer)
        if value is None and peer in RECORDED[problem.key]:
            where, value = " (recorded elsewhere, not in this run)", RECORDED[problem.key][peer]
        if value is None:
            print(f"- {peer}: not in this run; bar {bar:g}×")
        else:
            print(
                f"- {peer}: {value / cpu:,.1f}× ours{where}; bar {bar:g}× {'met' if value / cpu >= bar else 'MISSED'}"
            )


def run(problem: Problem, options: argparse.Namespace, peak: float) -> list[Row]:
    """Make everyone ready for a problem, check accuracy, take turns, print."""
    checked = 2 if options.quick else 16
    truth = reference(problem, problem.patients(checked), checked)
    peers = [c for c in PEERS if not options.peers or c.name in options.peers]
    ready = []
    for contestant in (OURS, SINGLE, *peers):
        if not contestant.installed:
            print(f"{contestant.name}: not installed")
            continue
        if not contestant.settings(problem):
            continue
        made = make_ready(contestant, problem, truth, min(checked, contestant.most(problem)))
        if made is None:
            print(f"{contestant.name}: no setting reaches {ACCURACY:g} on ({problem.key})")
        else:
            ready.append(made)
    rows: list[Row] = []
    for n in sorted(options.patients):
        # a peer whose most was reached with fewer patients has had its turn
        done = {row.program for row in rows if row.patients < n and row.program != OURS.name}
        turns = [r for r in ready if r.contestant.name not in done or r.contestant.most(problem) >= n]
        rows += take_turns(problem, turns, n, options.repeats, patience=20.0)
    setting = None if problem.key == "iii" else next(r.setting for r in ready if r.contestant is OURS)
    print_problem(problem, rows, peak, setting, bars=not options.quick)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=[p.key for p in PROBLEMS], default=[p.key for p in PROBLEMS])
    parser.add_argument("--patients", nargs="+", type=int, default=list(NUMBERS))
    parser.add_argument("--peers", nargs="+", choices=[c.name for c in PEERS], help="only these")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few patients, to see that it runs")
    parser.add_argument("--stream", type=int, metavar="N", help="only stream N patients of (ii) to Parquet")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args(arguments)
    if options.stream:
        stream(options.stream)
        return 0
    if options.quick:
        options.patients, options.repeats = [64], 1
        options.peers = options.peers or ["scipy LSODA"]
    peak = peak_flops()
    print(f"JAX {jax.__version__} on {jax.devices()[0].platform}; peak {peak / 1e9:.0f} Gflop/s a core (float64)")
    for program in ("mrgsolve", "rxode2"):
        print(f"{program}: {'R is here, but not driven' if shutil.which('Rscript') else 'not installed (no R)'}")
    rows = [row for p in PROBLEMS if p.key in options.problems for row in run(p, options, peak)]
    if "ii" in options.problems:
        n = 64 if options.quick else 1000
        forward, backward, ratio = gradient(n, options.repeats)
        print(
            f"\nGradient of a sum of squares for 30 parameters, {n:,} patients of (ii): {backward:.3f} s, "
            f"{ratio:.1f} forward passes of {forward:.3f} s (bar: 10)"
        )
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in rows], indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
