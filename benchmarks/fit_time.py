"""How long each registered twin takes to learn from 1,000 patients with six visits each, and how much memory.

    uv run python benchmarks/fit_time.py                          # every model; those with a disease on alzheimer
    uv run python benchmarks/fit_time.py --models boltzmann hybrid
    uv run python benchmarks/fit_time.py --patients 100           # in small

Patients decline along logistic lines of their own on CDR-SB and MMSE, with three covariates and gaps. Compiling is
part of the time: a user waits for it as well.
"""

import argparse
import time

import jax
import numpy as np
from scipy.special import expit

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import TrialTwinError
from trialtwin.core.variables import Variable
from trialtwin.diseases.registry import find_disease
from trialtwin.twins.compare.cost import measured
from trialtwin.twins.registry import MODELS, build_model

DAYS = np.linspace(0.0, 910.0, 6)


def decline(patients: int, seed: int = 1) -> Cohort:
    """Draw patients who decline, measured on two scales at six visits."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(patients, 3))
    start = -1.3 + 0.3 * x[:, :1] + rng.normal(0, 0.4, (patients, 1))
    rate = np.exp(-1.0 + 0.3 * x[:, 1:2] + rng.normal(0, 0.5, (patients, 1)))
    z = start + rate * DAYS / 365.25
    cdr = np.round(np.clip(18 * expit(z) + rng.normal(0, 0.6, z.shape), 0, 18) * 2) / 2
    mmse = np.round(np.clip(30 * expit(-0.2 - 1.1 * z) + rng.normal(0, 1.5, z.shape), 0, 30))
    values = np.stack([cdr, mmse], axis=-1)
    values[rng.random(values.shape) < 0.08] = np.nan
    return Cohort(
        ids=tuple(f"P{i}" for i in range(patients)),
        variables=tuple(Variable(f"X{j}") for j in range(3)),
        covariates=x,
        outcomes=(
            Variable("CDRSB", unit="points", lower=0.0, upper=18.0, concept="CDR-SB"),
            Variable("MMSETOT", unit="points", lower=0.0, upper=30.0, concept="MMSE"),
        ),
        visits=tuple(f"visit {k}" for k in range(len(DAYS))),
        nominal=DAYS,
        times=np.tile(DAYS, (patients, 1)),
        values=values,
        observed=np.isfinite(values),
        treatments=("untreated",),
        received=np.zeros(patients, dtype=np.int64),
    )


def main() -> None:
    """Fit what is asked for, one after the other, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--disease", default="alzheimer")
    parser.add_argument("--patients", type=int, default=1000)
    asked = parser.parse_args()
    cohort = decline(asked.patients)
    print(f"{asked.patients} patients, {len(DAYS)} visits, 2 outcomes")
    print("| model | fit (s) | processor time (s) | memory (MiB) |\n|---|---:|---:|---:|")
    told = []
    for name in asked.models:
        model = build_model(name, find_disease(asked.disease) if MODELS[name].takes_disease else None)
        worked = time.process_time()
        try:
            with measured() as cost:
                twin = model.fit(cohort, key=jax.random.key(0))
        except TrialTwinError as error:
            print(f"| {name} | failed: {error.what} | | |", flush=True)
            continue
        print(
            f"| {name} | {cost.seconds:.1f} | {time.process_time() - worked:.1f} | {cost.mebibytes:.0f} |", flush=True
        )
        told += [f"{name}, {one.name}: {one.value}" for one in twin.assumptions if one.name.startswith("residual")]
    print("\n".join(told))


if __name__ == "__main__":
    main()
