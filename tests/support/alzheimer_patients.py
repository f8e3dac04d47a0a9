"""Patients drawn from the mechanistic Alzheimer model itself, so that its laws can be told by simulation."""

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from trialtwin.core.cohort import Cohort
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.variables import Kind, Variable
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.twins.course import Instrument, time_grid

PATIENTS = 32
DAYS = np.array([0.0, 182.0, 364.0, 546.0])
SCALES = ("CDR-SB", "MMSE")
INSTRUMENT = Instrument(Alzheimer(), SCALES)
NAMES = [p.name for p in INSTRUMENT.priors]
MEANS = np.array([p.mean for p in INSTRUMENT.priors])
SEVERITY = NAMES.index("mean severity, logit CDR-SB/18")


@eqx.filter_jit
def expected_scores(population: jax.Array, effects: jax.Array, x: jax.Array) -> jax.Array:
    """Return untreated patients' scores without error: patient × visit × scale."""
    grid, days = time_grid(float(DAYS[-1])), jnp.asarray(DAYS)
    none = jnp.zeros(0)

    def scores(u: jax.Array, c: jax.Array) -> jax.Array:
        known = {"age": c[0], "sex": c[1], "APOE4": c[2], "genetic risk score": jnp.zeros(())}
        return INSTRUMENT.course(population, u, known, days, grid, NoTreatment(), none)[0]

    return jax.vmap(scores)(effects, x)


def alzheimer_patients(rng: np.random.Generator, population: np.ndarray, prefix: str) -> Cohort:
    """Draw 32 patients, given the model's population parameters; scores beyond the end of a scale stand at its end."""
    x = np.column_stack(
        [rng.normal(75, 7, PATIENTS), rng.integers(0, 2, PATIENTS), rng.choice(3, PATIENTS, p=[0.4, 0.48, 0.12])]
    ).astype(float)
    effects = rng.normal(size=(PATIENTS, INSTRUMENT.dimension))
    mean = expected_scores(jnp.asarray(population), jnp.asarray(effects), jnp.asarray(x))
    spread = np.asarray(INSTRUMENT.spread(jnp.asarray(population), mean))
    values = np.clip(np.asarray(mean) + spread * rng.normal(size=mean.shape), *INSTRUMENT.bounds())
    return Cohort(
        ids=tuple(f"{prefix}{i}" for i in range(PATIENTS)),
        variables=(
            Variable("AGE", concept="age"),
            Variable("SEX", kind=Kind.CATEGORICAL, levels=("M", "F"), concept="sex"),
            Variable("APOE", concept="APOE4"),
        ),
        covariates=x,
        outcomes=tuple(Variable(name, concept=name) for name in SCALES),
        visits=("Baseline", "Week 26", "Week 52", "Week 78"),
        nominal=DAYS,
        times=np.tile(DAYS, (PATIENTS, 1)),
        values=values,
        observed=np.ones(values.shape, dtype=bool),
        treatments=("Placebo",),
        received=np.zeros(PATIENTS, dtype=np.int64),
    )


def alzheimer_studies(
    studies: int, seed: int, *, severity: tuple[float, float] | None = None
) -> Iterator[tuple[np.ndarray, Cohort, Cohort]]:
    """Draw populations from the prior, each with patients to learn from and others to forecast.

    ``severity`` is a mean and SD of mean severity that replace the prior's.
    """
    for k in range(studies):
        rng = np.random.default_rng([seed, k])
        population = np.array([rng.normal(p.mean, p.sd) for p in INSTRUMENT.priors])
        if severity is not None:
            population[SEVERITY] = rng.normal(*severity)
        yield population, alzheimer_patients(rng, population, "T"), alzheimer_patients(rng, population, "N")
