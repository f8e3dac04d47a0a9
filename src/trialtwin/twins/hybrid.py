"""The hybrid twin: a disease steered by covariates and bent where data call it wrong, which knows when not to be.

The mechanism is fitted first. What each patient's measurements then say of the patient's effects is regressed on
covariates and latent factors by a small network whose size the evidence decides (``hybrid_network.py``); with it the
population is fitted again. Then every mechanism is asked whether the data call it wrong, and the worst gets a residual
if the evidence pays for it (``hybrid_residual.py``), read in a few terms (``hybrid_reading.py``). A patient's history
enters as in the mechanistic twin, by the exact posterior of the effects. Far from the patients learned from, network
and residual fade, and what is left is the mechanism (``hybrid_steering.py``).
"""

from typing import final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.cohort import Cohort
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin, Times, require_mechanisms
from trialtwin.diseases.base import AbstractDisease
from trialtwin.twins.course import Instrument, longest_step, observe, time_grid
from trialtwin.twins.features import Encoder, encode
from trialtwin.twins.hybrid_disease import Corrected, no_residual
from trialtwin.twins.hybrid_network import Messages, learn_network
from trialtwin.twins.hybrid_reading import Reading
from trialtwin.twins.hybrid_residual import Correction, correct, corrected, residual_columns
from trialtwin.twins.hybrid_steering import Steering, learn_steering
from trialtwin.twins.latent_effects import assumption_of
from trialtwin.twins.mechanistic import MechanisticTwin, mechanistic_twin, seen_at, usable_outcomes
from trialtwin.twins.population import learn_population
from trialtwin.twins.posterior import infer, require_inferred


@final
class HybridTwin(AbstractTwin):
    """A mechanistic twin of the corrected disease, what steers its patients, and what its residual says.

    ``reading`` is ``None`` where no residual was called for.
    """

    core: MechanisticTwin
    steering: Steering
    reading: Reading | None
    mechanisms: tuple[str, ...]
    assumptions: tuple[Assumption, ...]
    learned: tuple[Learned, ...]

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return posterior-predictive trajectories given each patient's covariates and history.

        As the mechanistic twin, with the patient's effects N(g(x), s²) before anything is measured; see there for what
        draws carry, and for errors. Of a patient far from those learned from it is the mechanistic twin's forecast:
        ``handed_over`` tells how far.
        """
        require_mechanisms(self, treatment)
        return self.core.predict(self.steering.steer(patients), treatment, times, draws=draws, key=key)

    def handed_over(self, patients: Cohort) -> Float[np.ndarray, " patient"]:
        """Return how far each patient's forecast is left to the mechanism alone: 0 among those seen, 1 far away."""
        return 1.0 - self.steering.weight(patients)

    def mechanism(self) -> MechanisticTwin:
        """Return the mechanistic twin with the same population: what patients are handed over to."""
        instrument = Instrument(corrected(self.core.instrument).base, self.core.instrument.scales)
        kept = np.flatnonzero(~residual_columns(self.core.instrument))
        covariance = self.core.covariance[np.ix_(kept, kept)]
        return mechanistic_twin(instrument, self.core.outcomes, self.core.population[kept], covariance, self.core.step)


@final
class Hybrid(AbstractModel):
    """A disease model to be fitted to a cohort of untreated patients, with a network of covariates and a residual.

    Parameters
    ----------
    disease
        The disease; outcomes whose ``concept`` is one of its scales are used, and the baseline values of the others
        are covariates.
    """

    disease: AbstractDisease

    def fit(self, cohort: Cohort, *, key: Array) -> HybridTwin:
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
        last = float(np.max(cohort.times, where=seen_at(cohort), initial=0.0))
        instrument = Instrument(Corrected(self.disease, no_residual(self.disease)), tuple(v.concept for v in outcomes))
        step = longest_step(self.disease, last)
        grid = time_grid(last, step)
        plain = observe(instrument, cohort, outcomes, pad=True)
        first = learn_population(instrument, plain, grid, cohort.ids)
        mode = infer(instrument, jnp.asarray(first.population), first.effects, plain, grid)
        require_inferred(mode, cohort.ids)
        encoder = Encoder.learn(cohort, modelled=tuple(v.name for v in outcomes))
        messages = _messages(
            np.asarray(mode.position)[: len(cohort)],
            np.asarray(mode.precision)[: len(cohort)],
            len(self.disease.effects),
        )
        network = learn_network(messages, encode(encoder, cohort))
        steering = learn_steering(self.disease.effects, encoder, cohort, network)
        steered = observe(instrument, steering.steer(cohort), outcomes, pad=True)
        steady = learn_population(instrument, steered, grid, cohort.ids, start=first.population)
        kept = correct(instrument, steady, steered, grid, last)
        found = kept.learnt
        core = mechanistic_twin(kept.instrument, outcomes, found.population, found.covariance, step)
        return HybridTwin(
            core=core,
            steering=steering,
            reading=kept.reading,
            mechanisms=core.mechanisms,
            assumptions=(*core.assumptions, *_told(steering), _said(kept), *assumption_of(encoder.latent)),
            learned=core.learned,
        )


def _messages(
    position: Float[np.ndarray, "patient all"], precision: Float[np.ndarray, "patient all all"], effects: int
) -> Messages:
    """Return what measurements say of the disease's effects, the offsets of scales integrated out.

    The posterior of all effects is N(m, C) by Laplace's method and their prior N(0, I): what the measurements say of
    the first ones has information C₁₁⁻¹ − I and score C₁₁⁻¹ m₁.
    """
    covariance = np.linalg.inv(precision)[:, :effects, :effects]
    inverse = np.linalg.inv(covariance)
    score = np.einsum("nij,nj->ni", inverse, position[:, :effects])
    return Messages(jnp.asarray(inverse - np.eye(effects)), jnp.asarray(score))


def _said(kept: Correction) -> Assumption:
    """Say which mechanism the data call wrong, or that they call none, and what came of it."""
    asked = ", ".join(f"{name} {gain:+.1f}" for name, gain in kept.gains.items())
    found = str(kept.reading) if kept.reading else f"none{': ' + kept.trouble if kept.trouble else ''}"
    return Assumption(
        name="residual on the mechanism",
        value=f"{found}; log evidence gained {kept.gained:.1f}; foretold by channel: {asked or 'none could be asked'}",
        source="score test of each channel and evidence by Laplace's method (doi:10.1162/neco.1992.4.3.448)",
        confidence="medium" if kept.reading else "high",
    )


def _told(steering: Steering) -> tuple[Assumption, ...]:
    """Say what the network learned, and where it ends."""
    network = steering.network
    shares = ", ".join(f"{e} {1 - left:.0%}" for e, left in zip(steering.effects, network.left, strict=True))
    size = ", ".join(f"{e} {d:.1f}" for e, d in zip(steering.effects, network.determined.sum(axis=0), strict=True))
    return (
        Assumption(
            name="share of each effect's variance that covariates explain",
            value=f"{shares}; weights that the data determine: {size}",
            source="network of covariates, its size by evidence (doi:10.1162/neco.1992.4.3.448)",
            confidence="medium",
        ),
        Assumption(
            name="hand-over to the mechanism",
            value=f"from a Mahalanobis distance of {steering.reach:.3g} among covariates on, complete at twice that",
            source="99th percentile in the cohort learned from; twice by hand",
            confidence="low",
            provisional=True,
        ),
    )
