"""The mechanistic twin: a disease model whose population is learned from a cohort and whose patients are inferred."""

from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import FitError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin, Times, patient_times, require_mechanisms
from trialtwin.core.variables import Variable
from trialtwin.diseases.base import AbstractDisease
from trialtwin.engine.grid import Grid
from trialtwin.twins.course import STEP, Instrument, Observations, longest_step, observe, time_grid
from trialtwin.twins.population import learn_population
from trialtwin.twins.posterior import (
    find,
    infer,
    require_found,
    require_inferred,
    sample,
)
from trialtwin.twins.system import FINEST, dosing_grid, require_acts

POPULATION_DRAWS = 16


@final
class MechanisticTwin(AbstractTwin):
    """A disease with its population posterior, ready to infer any patient.

    ``population`` is the maximum a posteriori estimate of the population parameters and ``covariance`` its Laplace
    covariance, in the order of ``instrument.priors``.
    """

    instrument: Instrument
    outcomes: tuple[Variable, ...]
    population: Float[np.ndarray, " parameter"]
    covariance: Float[np.ndarray, "parameter parameter"]
    mechanisms: tuple[str, ...]
    assumptions: tuple[Assumption, ...]
    learned: tuple[Learned, ...]
    step: float = STEP

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return posterior-predictive trajectories given each patient's covariates and history.

        The history is taken to be untreated, and ``treatment`` to start at baseline. Draws carry population
        uncertainty (16 draws of the population, shared by all patients), each patient's own uncertainty (importance
        resampling given the population) and measurement error, censored at the ends of each scale. ``expected`` is the
        mean at the population estimate, over 256 weighted points of the patient's posterior that do not depend on the
        key.

        Raises
        ------
        DataError
            If there are no patients, or the times cannot be predicted at.
        MismatchError
            If the treatment acts on a mechanism that the disease lacks.
        ConvergenceError
            If a patient's posterior is not found, or the solver is not accurate enough.
        """
        require_mechanisms(self, treatment)
        require_acts(self.instrument.disease.mechanisms, treatment, self.instrument.disease.name)
        own_times = patient_times(patients, times, draws)
        data = observe(self.instrument, patients, self.outcomes, pad=True, also=treatment.declared)
        at = _padded(own_times, len(data.times))
        last = float(np.max(times))
        grid = time_grid(max(last, float(np.max(patients.times, where=seen_at(patients), initial=0.0))), self.step)
        population = jnp.asarray(self.population)
        mode = infer(self.instrument, population, _start(self.instrument, data), data, grid)
        require_inferred(mode, patients.ids)
        for finer in range(FINEST + 1):
            dosed = self._grid(treatment, last, finer)
            found = find(self.instrument, population, mode, data, at, grid, dosed, treatment)
            if bool((found.error <= 1.0).all()):
                break
        require_found(found, self.instrument, treatment, patients.ids)
        population_key, *keys = jax.random.split(key, 1 + POPULATION_DRAWS)
        root = np.linalg.cholesky(self.covariance)
        steps = np.asarray(jax.random.normal(population_key, (POPULATION_DRAWS, len(self.population))))
        per = -(-draws // POPULATION_DRAWS)
        sampled = []
        for step, draw_key in zip(steps, keys, strict=True):
            moved = jnp.asarray(self.population + root @ step)
            block = sample(self.instrument, moved, found.proposal, data, at, grid, dosed, treatment, draw_key, per)
            sampled.append(np.asarray(block)[:, : len(patients)])
        expected = np.asarray(found.expected)[: len(patients)]
        return Trajectories(patients.ids, self.outcomes, times, np.concatenate(sampled)[:draws], expected)

    def _grid(self, treatment: AbstractTreatment, last: float, finer: int) -> Grid:
        """Return the steps of a course under a treatment up to a day, halved so often."""
        if not treatment.states:
            return time_grid(last, self.step * 0.5**finer)
        return dosing_grid(treatment, np.array([max(last, self.step)]), finer=finer, longest=self.step)


@final
class Mechanistic(AbstractModel):
    """A disease model to be fitted to a cohort of untreated patients.

    Population parameters θ maximise Σᵢ log ∫ p(yᵢ, uᵢ | θ) duᵢ + log p(θ), the integrals by first-order conditional
    estimation with interaction (Laplace's method with the Fisher information as curvature) and its exact gradient.

    Parameters
    ----------
    disease
        The disease; outcomes whose ``concept`` is one of its scales are used, the others left aside.
    """

    disease: AbstractDisease

    def fit(self, cohort: Cohort, *, key: Array) -> MechanisticTwin:
        """Fit to every patient, taken to be untreated; deterministic, so ``key`` is not used.

        Raises
        ------
        FitError
            If no outcome is on a scale of the disease, or nobody was measured after baseline.
        ConvergenceError
            If the population or a patient cannot be inferred.
        """
        del key
        outcomes = usable_outcomes(self.disease, cohort)
        instrument = Instrument(self.disease, tuple(v.concept for v in outcomes))
        last = float(np.max(cohort.times, where=seen_at(cohort), initial=0.0))
        step = longest_step(self.disease, last)
        grid = time_grid(last, step)
        found = learn_population(instrument, observe(instrument, cohort, outcomes, pad=True), grid, cohort.ids)
        return mechanistic_twin(instrument, outcomes, found.population, found.covariance, step)


def mechanistic_twin(
    instrument: Instrument,
    outcomes: tuple[Variable, ...],
    population: Float[np.ndarray, " parameter"],
    covariance: Float[np.ndarray, "parameter parameter"],
    step: float,
) -> MechanisticTwin:
    """Return the twin of a population that was learned."""
    sd = np.sqrt(np.diag(covariance))
    return MechanisticTwin(
        instrument=instrument,
        outcomes=outcomes,
        population=population,
        covariance=covariance,
        mechanisms=tuple(m.name for m in instrument.disease.mechanisms),
        assumptions=(
            *(c.assumption() for c in instrument.disease.constants),
            *(p.assumption() for p in instrument.priors),
        ),
        learned=tuple(
            Learned(name=p.name, value=value, sd=error, prior_mean=p.mean, prior_sd=p.sd)
            for p, value, error in zip(instrument.priors, population.tolist(), sd.tolist(), strict=True)
        ),
        step=step,
    )


def usable_outcomes(disease: AbstractDisease, cohort: Cohort) -> tuple[Variable, ...]:
    """Return the measured outcomes that are on a scale of a disease.

    Raises
    ------
    FitError
        If there are none, or nobody was measured after baseline.
    """
    outcomes = tuple(
        v for k, v in enumerate(cohort.outcomes) if v.concept in disease.scales and cohort.observed[..., k].any()
    )
    if not outcomes:
        raise FitError(
            f"no measured outcome is on a scale of {disease.name!r}",
            where="concepts of the outcomes: " + (", ".join(v.concept or "none" for v in cohort.outcomes) or "none"),
            exists=disease.scales,
            do="give an outcome one of these concepts in the study file",
        )
    used = [cohort.outcome(v.name) for v in outcomes]
    if not (cohort.observed[..., used] & (cohort.times > 0)[..., None]).any():
        raise FitError("nobody was measured after baseline", do="give the twin a cohort with follow-up to learn from")
    return outcomes


def _start(instrument: Instrument, data: Observations) -> Float[Array, "patient effect"]:
    return jnp.zeros((len(data.times), instrument.dimension))


def _padded(times: Float[np.ndarray, "patient time"], rows: int) -> Array:
    """Add rows of zeros for the patients that pad the arrays."""
    return jnp.asarray(np.concatenate([times, np.zeros((rows - len(times), times.shape[1]))]))


def seen_at(cohort: Cohort) -> Bool[np.ndarray, "patient visit"]:
    """Tell at which visits anything was measured."""
    return cohort.observed.any(axis=2)
