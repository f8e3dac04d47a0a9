"""How long forecasts of very many patients take, and how much memory: 1,000 draws × 100,000 patients × 10 visits.

    uv run python benchmarks/streaming.py                     # the baseline twin, draws made and thrown away
    uv run python benchmarks/streaming.py --model boltzmann
    uv run python benchmarks/streaming.py --write out.parquet # expectation, SD and quantiles kept as well
    uv run python benchmarks/streaming.py --patients 2000     # in small

The twin is fitted to 1,000 simulated patients with six visits and five covariates. The first chunk, which compiles, is
timed apart: it is paid once a process.
"""

import argparse
import resource
import time
from pathlib import Path

import jax
import numpy as np

from trialtwin.core.backend import enable_compilation_cache
from trialtwin.core.cohort import Cohort
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.variables import Variable
from trialtwin.twins.registry import MODELS, build_model
from trialtwin.twins.stream import CHUNK, stream_predict, write_forecasts

VISITS = np.linspace(0.0, 900.0, 6)
ASKED = np.linspace(90.0, 900.0, 10)


def simulate(patients: int, seed: int) -> Cohort:
    """Draw patients on lines of their own that covariates tell of."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(patients, 5))
    level, slope = 0.5 * x[:, :1] + rng.normal(size=(patients, 1)), 0.3 * x[:, 1:2] + rng.normal(0, 0.5, (patients, 1))
    values = level + slope * VISITS / 900 + rng.normal(0, 0.4, (patients, len(VISITS)))
    return Cohort(
        ids=tuple(f"S{seed}-{i}" for i in range(patients)),
        variables=tuple(Variable(f"X{j}") for j in range(5)),
        covariates=x,
        outcomes=(Variable("Y", unit="points"),),
        visits=tuple(f"visit {k}" for k in range(len(VISITS))),
        nominal=VISITS,
        times=np.tile(VISITS, (patients, 1)),
        values=values[..., None],
        observed=np.ones((patients, len(VISITS), 1), dtype=bool),
        treatments=("untreated",),
        received=np.zeros(patients, dtype=np.int64),
    )


def main() -> None:
    """Fit, warm up, stream, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[n for n, e in MODELS.items() if not e.needs_disease], default="baseline")
    parser.add_argument("--patients", type=int, default=100_000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    enable_compilation_cache()
    begun = time.perf_counter()
    twin = build_model(asked.model).fit(simulate(1000, 0), key=jax.random.key(0))
    fitted = time.perf_counter() - begun
    patients, options = simulate(asked.patients, 1).until(0.0), {"draws": asked.draws, "key": jax.random.key(1)}
    begun = time.perf_counter()
    for _ in stream_predict(twin, patients.take(range(min(CHUNK, asked.patients))), NoTreatment(), ASKED, **options):
        pass
    first = time.perf_counter() - begun
    begun, worked = time.perf_counter(), time.process_time()
    if asked.write is None:
        total = sum(part.values.size for part in stream_predict(twin, patients, NoTreatment(), ASKED, **options))
    else:
        write_forecasts(asked.write, twin, patients, NoTreatment(), ASKED, **options)
        total = asked.patients * asked.draws * len(ASKED)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{asked.model}: fit {fitted:.1f} s; first chunk {first:.1f} s; {total:.2e} values in {seconds:.1f} s")
    print(f"({cpu:.0f} s of processor time, {1e9 * seconds / total:.1f} ns a value); peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
