"""What a hybrid's residual buys where the mechanism is wrong: amyloid that grows under a model that holds it still.

    uv run python benchmarks/residual.py                 # learned from 10, 32, 96 and 300 patients
    uv run python benchmarks/residual.py --right 40      # and cohorts of 32 and 96 whose mechanism is right

Patients follow S' = 0.25 (S − 1)(2.4 − S) per year, PET error 4 %, five visits over two years, simulated without the
house's code; `amyloid-turnover-kandadi` says that S stays where it is. Scored are 300 new patients at the last visit,
given nothing but baseline, and half a year; the gain over the mechanistic twin of the same patients is paired.
"""

import argparse

import jax
import numpy as np

from trialtwin.core.cohort import Cohort
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.variables import Variable
from trialtwin.diseases.amyloid_turnover import AmyloidTurnover
from trialtwin.stats.calibration import crps
from trialtwin.twins.hybrid import Hybrid
from trialtwin.twins.mechanistic import Mechanistic

CONCEPT = "amyloid-PET-SUVR"
DISEASE = AmyloidTurnover("amyloid-turnover-kandadi")
DAYS = np.array([0.0, 182.0, 364.0, 546.0, 728.0])
KEY = jax.random.key(4)


def growing(patients: int, seed: int, growth: float = 0.25) -> Cohort:
    """Draw patients whose amyloid grows logistically, in steps of a day."""
    rng = np.random.default_rng(seed)
    suvr = np.clip(1.45 * np.exp(0.15 * rng.normal(size=patients)), 1.02, 2.38)
    course = [suvr]
    for _ in range(int(DAYS[-1])):
        suvr = suvr + growth * (suvr - 1.0) * (2.4 - suvr) / 365.25
        course.append(suvr)
    mean = np.stack(course, axis=1)[:, DAYS.astype(int)]
    values = (mean * (1 + 0.04 * rng.normal(size=mean.shape)))[..., None]
    return Cohort(
        ids=tuple(f"{seed}-{i}" for i in range(patients)),
        variables=(),
        covariates=np.zeros((patients, 0)),
        outcomes=(Variable("SUVR", lower=0.0, upper=5.0, concept=CONCEPT),),
        visits=tuple(f"day {day:g}" for day in DAYS),
        nominal=DAYS,
        times=np.tile(DAYS, (patients, 1)),
        values=values,
        observed=np.isfinite(values),
        treatments=("placebo",),
        received=np.zeros(patients, dtype=np.int64),
    )


def main() -> None:
    """Fit both twins to ever more patients, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[10, 32, 96, 300])
    parser.add_argument("--new", type=int, default=300)
    parser.add_argument("--right", type=int, default=0, help="cohorts whose amyloid holds still, as the model says")
    asked = parser.parse_args()
    others = growing(asked.new, 1000)
    truth = others.values[:, -1, 0]
    print("| learned from | known of a patient | mechanistic | hybrid | gain (SE) |\n|---:|---|---:|---:|---:|")
    told = []
    for n in asked.patients:
        cohort = growing(n, 1)
        twins = [model.fit(cohort, key=KEY) for model in (Mechanistic(DISEASE), Hybrid(DISEASE))]
        told.append(f"{n}: {next(a.value for a in twins[1].assumptions if a.name.startswith('residual'))}")
        for day, words in ((0.0, "baseline"), (182.0, "half a year")):
            courses = [t.predict(others.until(day), NoTreatment(), DAYS, draws=128, key=KEY) for t in twins]
            plain, hybrid = (crps(course.values[:, :, -1, 0], truth) for course in courses)
            gain = plain - hybrid
            se = gain.std(ddof=1) / np.sqrt(len(gain))
            row = f"| {n} | {words} | {plain.mean():.3f} | {hybrid.mean():.3f} | {gain.mean():.3f} ({se:.3f}) |"
            print(row, flush=True)
    print("\n".join(["", *told]), flush=True)
    for n in (32, 96) if asked.right else ():
        fits = (Hybrid(DISEASE).fit(growing(n, 10_000 + seed, 0.0), key=KEY) for seed in range(asked.right))
        kept = sum(fit.reading is not None for fit in fits)
        print(f"of {asked.right} cohorts of {n} patients under a right mechanism, {kept} got a residual", flush=True)


if __name__ == "__main__":
    main()
