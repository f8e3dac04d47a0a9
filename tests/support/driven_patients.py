"""Patients of the Alzheimer model whose severity and rate follow covariates that the disease does not know."""

import jax.numpy as jnp
import numpy as np
from alzheimer_patients import DAYS, INSTRUMENT, MEANS, SCALES, expected_scores

from trialtwin.core.cohort import Cohort
from trialtwin.core.variables import Variable


def driven_patients(patients: int, seed: int, drive: float, prefix: str = "T", noise: int = 1) -> Cohort:
    """Draw patients with two markers that move rate and severity by ``drive`` standard deviations, and pure noise.

    Each effect keeps its unit variance: what the markers explain is taken from the rest.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(patients, 2 + noise))
    effects = rng.normal(size=(patients, INSTRUMENT.dimension))
    left = np.sqrt(1 - drive**2)
    effects[:, 0] = drive * x[:, 0] + left * effects[:, 0]
    effects[:, 1] = drive * x[:, 1] + left * effects[:, 1]
    known = np.tile([75.0, 0.5, 0.72], (patients, 1))
    mean = expected_scores(jnp.asarray(MEANS), jnp.asarray(effects), jnp.asarray(known))
    spread = np.asarray(INSTRUMENT.spread(jnp.asarray(MEANS), mean))
    values = np.clip(np.asarray(mean) + spread * rng.normal(size=mean.shape), *INSTRUMENT.bounds())
    return Cohort(
        ids=tuple(f"{prefix}{i}" for i in range(patients)),
        variables=tuple(Variable(f"MARKER{j}") for j in range(2 + noise)),
        covariates=x,
        outcomes=tuple(
            Variable(name, concept=name, lower=low, upper=high)
            for name, low, high in zip(SCALES, *(b.tolist() for b in INSTRUMENT.bounds()), strict=True)
        ),
        visits=("Baseline", "Week 26", "Week 52", "Week 78"),
        nominal=DAYS,
        times=np.tile(DAYS, (patients, 1)),
        values=values,
        observed=np.ones(values.shape, dtype=bool),
        treatments=("Placebo",),
        received=np.zeros(patients, dtype=np.int64),
    )
