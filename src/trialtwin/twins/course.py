"""One patient's course under a disease and a treatment, and how probable measurements are along it."""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConvergenceError, DataError
from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.core.variables import Declared, Kind, Variable
from trialtwin.diseases.base import AbstractDisease, Prior
from trialtwin.engine.fixed import Fixed
from trialtwin.engine.grid import Grid
from trialtwin.engine.method import Solution
from trialtwin.twins import censored
from trialtwin.twins.system import Course, Person, fastest, typical_person

STEP = 28.0  # days; the longest step
SHARE = 0.5  # of a disease's fastest time constant that a step may last
CLOSE = 0.01  # of a state's tolerance: the error in a typical patient
MOST = 4096  # steps; more would take minutes, and are a sign of a stiff disease
METHOD = Fixed(order=3)  # at 28 days its error is far below the tolerances, and it compiles faster than order 5
PATIENTS_BUCKET = 32
STEPS_BUCKET = 3


class Observations(NamedTuple):
    """What is known of patients, as arrays with a leading patient axis; padding rows have nothing observed."""

    covariates: Mapping[str, Float[Array, " patient"]]
    times: Float[Array, "patient visit"]
    values: Float[Array, "patient visit scale"]
    observed: Bool[Array, "patient visit scale"]


class Instrument(eqx.Module):
    """A disease with the scales that were measured: the structure that functions are compiled for.

    Population parameters are one vector: the disease's own, then shift, log spread and log error multiplier of each
    scale. Random effects are one vector: the disease's own, then one offset a scale.
    """

    disease: AbstractDisease
    scales: tuple[str, ...]

    @property
    def priors(self) -> tuple[Prior, ...]:
        """Priors of all population parameters, in order."""
        own = [prior for scale in self.scales for prior in self.disease.scale_priors(scale)]
        return (*self.disease.priors, *own)

    @property
    def dimension(self) -> int:
        """Number of random effects of a patient."""
        return len(self.disease.effects) + len(self.scales)

    def course(
        self,
        population: Float[Array, " parameter"],
        effects: Float[Array, " effect"],
        covariates: Mapping[str, Float[Array, ""]],
        at: Float[Array, " time"],
        grid: Grid,
        treatment: AbstractTreatment,
        own: Float[Array, " own"],
    ) -> tuple[Float[Array, "time scale"], Float[Array, " state"]]:
        """Return expected scores at given days, and the solver's estimated error of each state over its tolerance.

        States of the treatment follow those of the disease; ``own`` are the treatment's random effects.
        """
        k = len(self.disease.effects)
        named = {prior.name: population[i] for i, prior in enumerate(self.disease.priors)}
        system = Course(self.disease, treatment)
        person = Person(self.disease.individual(named, effects[:k], covariates), treatment.individual(own, covariates))
        solution = METHOD.follow(system, person, grid, at)
        seen = jax.vmap(lambda t, state: system.apparent(t, state, person))(at, solution.values)
        columns = []
        for s, concept in enumerate(self.scales):
            shift, log_spread, _ = self._scale_parameters(population, s)
            offset = shift + jnp.exp(log_spread) * effects[k + s]
            columns.append(jax.vmap(lambda y, c=concept, o=offset: self.disease.scales[c].expected(y, o))(seen))
        error = jnp.stack([e / t for e, t in zip(solution.error, system.tolerances, strict=True)])
        return jnp.stack(columns, axis=1), error

    def spread(
        self, population: Float[Array, " parameter"], expected: Float[Array, "*batch scale"]
    ) -> Float[Array, "*batch scale"]:
        """Return the standard deviation of a measurement around each expected score."""
        columns = [
            jnp.exp(self._scale_parameters(population, s)[2]) * self.disease.scales[concept].spread(expected[..., s])
            for s, concept in enumerate(self.scales)
        ]
        return jnp.stack(columns, axis=-1)

    def bounds(self) -> tuple[Float[np.ndarray, " scale"], Float[np.ndarray, " scale"]]:
        """Return the lowest and highest possible score of each scale."""
        scales = [self.disease.scales[concept] for concept in self.scales]
        return np.array([s.lower for s in scales]), np.array([s.upper for s in scales])

    def log_joint(self, population: Array, effects: Array, data: tuple[Observations, Grid]) -> Float[Array, ""]:
        """Return log p(y, u | θ) of one patient without treatment; effects are standard normal."""
        mean, log_spread = self._moments(population, effects, data)
        heights = censored.expand(data[0].values, mean, log_spread, *self.bounds()).log_density
        return _sum(heights, data[0].observed) - 0.5 * jnp.sum(effects**2 + jnp.log(2 * jnp.pi))

    def expand(
        self, population: Array, effects: Array, data: tuple[Observations, Grid]
    ) -> tuple[Float[Array, ""], Float[Array, " effect"], Float[Array, "effect effect"]]:
        """Return the log joint of one patient, its gradient, and the information about the effects.

        One pass forward gives means f(u), log standard deviations and their Jacobians; what each measurement adds is in
        `trialtwin.twins.censored`, and the prior adds −u and the identity.
        """
        one = data[0]

        def moments(u: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
            both = self._moments(population, u, data)
            return both, both

        (by_mean, by_spread), (mean, log_spread) = jax.jacfwd(moments, has_aux=True)(effects)
        pieces = censored.expand(one.values, mean, log_spread, *self.bounds())
        gradient, information = censored.collect(pieces, by_mean, by_spread, one.observed)
        value = _sum(pieces.log_density, one.observed) - 0.5 * jnp.sum(effects**2 + jnp.log(2 * jnp.pi))
        return value, gradient - effects, information + jnp.eye(self.dimension)

    def log_prior(self, population: Float[Array, " parameter"]) -> Float[Array, ""]:
        """Return the log density of the normal priors, up to a constant."""
        mean = jnp.array([p.mean for p in self.priors])
        sd = jnp.array([p.sd for p in self.priors])
        return -0.5 * jnp.sum(((population - mean) / sd) ** 2)

    def _moments(self, population: Array, effects: Array, data: tuple[Observations, Grid]) -> tuple[Array, Array]:
        """Return mean and log standard deviation of each measurement, untreated."""
        one, grid = data
        mean, _ = self.course(population, effects, one.covariates, one.times, grid, NoTreatment(), jnp.zeros(0))
        return mean, jnp.log(self.spread(population, mean))

    def _scale_parameters(self, population: Array, index: int) -> tuple[Array, Array, Array]:
        first = len(self.disease.priors) + 3 * index
        return population[first], population[first + 1], population[first + 2]


def _sum(heights: Array, observed: Array) -> Float[Array, ""]:
    """Add up what was observed."""
    return jnp.where(observed, heights, 0.0).sum()


def longest_step(disease: AbstractDisease, last: float) -> float:
    """Return the longest step for a disease up to a day: 28 days, halved until a typical patient is followed closely.

    It begins at half the fastest time constant, and ends where the estimated error of every state is a hundredth of its
    tolerance, which leaves room for patients who are not typical.

    Raises
    ------
    ConvergenceError
        If the steps would be too many.
    """
    rate = fastest(disease)
    step = min(STEP, SHARE / rate) if rate > 0 else STEP
    while _typical_error(disease, time_grid(last, step)) > CLOSE:
        step /= 2
    return step


def _typical_error(disease: AbstractDisease, grid: Grid) -> float:
    """Return the largest estimated error of a state over its tolerance, in a typical patient without treatment."""
    course = Course(disease, NoTreatment())
    solution = _solved(course, typical_person(disease), grid)
    errors = [float(e) / t for e, t in zip(solution.error, course.tolerances, strict=True)]
    return max(errors) if np.isfinite(errors).all() else np.inf


@eqx.filter_jit
def _solved(course: Course, person: Person, grid: Grid) -> Solution:
    return METHOD.solve(course, person, grid)


def time_grid(last: float, step: float = STEP) -> Grid:
    """Return an untreated patient's grid of equal steps, its length rounded up so that few lengths are compiled.

    Raises
    ------
    ConvergenceError
        If the steps would be too many.
    """
    needed = max(1, int(np.ceil(last / step)))
    if needed > MOST:
        raise ConvergenceError(
            f"a disease that moves within {step:.2g} days would take {needed} steps over {last:g} days",
            do="ask over a shorter time, or use an account of the disease without its fast states",
        )
    bucket = STEPS_BUCKET if needed <= 16 * STEPS_BUCKET else 2 ** (needed.bit_length() - 4)
    steps = -(-needed // bucket) * bucket
    nothing = jnp.zeros((steps, 0))
    times = jnp.arange(steps + 1) * step
    return Grid(times, nothing, nothing, jnp.zeros(steps, dtype=bool), jnp.array([steps]))


def declared_covariates(declared: tuple[Declared, ...], cohort: Cohort) -> Mapping[str, Float[np.ndarray, " patient"]]:
    """Return the covariates that are declared, as numbers by concept, missing ones at their centre."""
    found = {}
    for one in declared:
        column = np.full(len(cohort), one.centre)
        for j, variable in enumerate(cohort.variables):
            if variable.concept == one.concept:
                raw = cohort.covariates[:, j]
                coded = _indicator(raw, variable, one.level) if one.level else _number(raw, variable)
                column = np.where(np.isnan(raw), one.centre, coded)
        found[one.concept] = column
    return found


def observe(
    instrument: Instrument,
    cohort: Cohort,
    outcomes: tuple[Variable, ...],
    *,
    pad: bool,
    also: tuple[Declared, ...] = (),
) -> Observations:
    """Return a cohort as arrays for an instrument, padded to a round number of patients where asked.

    ``also`` names covariates that a treatment uses beside those of the disease.

    Raises
    ------
    DataError
        If a measurement lies outside its scale.
    """
    rows = [cohort.outcome(variable.name) for variable in outcomes]
    values, observed = cohort.values[..., rows], cohort.observed[..., rows]
    lower, upper = instrument.bounds()
    outside = observed & ((values < lower) | (values > upper))
    if outside.any():
        i, v, k = (int(axis[0]) for axis in np.nonzero(outside))
        raise DataError(
            f"{outcomes[k].name} = {values[i, v, k]:g} lies outside {instrument.scales[k]},"
            f" {lower[k]:g} to {upper[k]:g}",
            where=f"subject {cohort.ids[i]}, {cohort.visits[v]}; {int(outside.sum())} value(s) in all",
            do="correct the value, or name the right concept for this outcome in the study file",
        )
    n = len(cohort)
    extra = -n % PATIENTS_BUCKET if pad else 0

    def padded(array: np.ndarray) -> Array:
        return jnp.asarray(np.concatenate([array, np.zeros((extra, *array.shape[1:]), dtype=array.dtype)]))

    return Observations(
        {
            concept: padded(column)
            for concept, column in declared_covariates((*also, *instrument.disease.declared), cohort).items()
        },
        padded(np.maximum(cohort.times, 0.0)),
        padded(np.where(observed, values, 0.0)),
        padded(observed),
    )


def _number(raw: np.ndarray, variable: Variable) -> np.ndarray:
    """Refuse a covariate that must be a number and is a category: its codes are positions of levels."""
    if variable.kind is Kind.CATEGORICAL:
        raise DataError(
            f"covariate {variable.name} ({variable.concept}) must be a number and is categorical",
            exists=variable.levels,
            do="declare it as a count or as continuous",
        )
    return raw


def _indicator(raw: np.ndarray, variable: Variable, level: str) -> np.ndarray:
    """Code a categorical covariate as 1 for one level."""
    if level not in variable.levels:
        raise DataError(
            f"covariate {variable.name} ({variable.concept}) has no level {level!r}",
            exists=variable.levels or ("none",),
        )
    return (raw == variable.levels.index(level)).astype(float)
