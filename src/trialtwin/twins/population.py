"""The population of a disease, learned from patients by the Laplace marginal likelihood and its exact gradient."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.treatment import NoTreatment
from trialtwin.engine.grid import Grid
from trialtwin.infer.laplace import log_marginal
from trialtwin.infer.optimise import minimise
from trialtwin.twins.course import Instrument, Observations
from trialtwin.twins.posterior import infer, require_solved, solver_errors


class Learnt(NamedTuple):
    """Where the marginal posterior of the population is highest.

    ``covariance`` is the Laplace covariance of the parameters that were free, ``value`` minus the log posterior at the
    maximum, and ``effects`` the patients' most probable effects there.
    """

    population: Float[np.ndarray, " parameter"]
    covariance: Float[np.ndarray, "free free"]
    value: float
    effects: Array


def learn_population(
    instrument: Instrument,
    data: Observations,
    grid: Grid,
    ids: tuple[str, ...],
    *,
    start: Float[np.ndarray, " parameter"] | None = None,
    free: Bool[np.ndarray, " parameter"] | None = None,
    effects: Array | None = None,
) -> Learnt:
    """Maximise Σᵢ log ∫ p(yᵢ, uᵢ | θ) duᵢ + log p(θ) over the free parameters, the others held where they start.

    The integrals are by first-order conditional estimation with interaction. ``start`` is the prior mean and all
    parameters are free where nothing is said; ``effects`` is where the search for the patients' effects begins.

    Raises
    ------
    ConvergenceError
        If the population or a patient cannot be inferred, or the solver is not accurate enough.
    """
    priors = instrument.priors
    whole = np.array([prior.mean for prior in priors]) if start is None else np.array(start)
    moving = np.ones(len(priors), dtype=bool) if free is None else free
    modes = jnp.zeros((len(data.times), instrument.dimension)) if effects is None else effects

    def objective(part: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal modes
        theta = jnp.asarray(_with(whole, moving, part))
        mode = infer(instrument, theta, modes, data, grid)
        if not bool(mode.converged.all()):
            return float("nan"), np.full_like(part, np.nan)
        modes = mode.position
        value, gradient = _negative_log_posterior(instrument, theta, modes, data, grid)
        return float(value), np.asarray(gradient)[moving]

    names = tuple(prior.name for prior, moves in zip(priors, moving, strict=True) if moves)
    optimum = minimise(objective, whole[moving], names=names)
    found = _with(whole, moving, optimum.position)
    errors = solver_errors(instrument, jnp.asarray(found), modes, data, grid)
    require_solved(np.asarray(errors)[: len(ids)], instrument, NoTreatment(), ids)
    return Learnt(found, np.linalg.inv(optimum.hessian), optimum.value, modes)


def _with(
    whole: Float[np.ndarray, " parameter"], moving: Bool[np.ndarray, " parameter"], part: Float[np.ndarray, " free"]
) -> Float[np.ndarray, " parameter"]:
    """Return all parameters, the free ones replaced."""
    theta = whole.copy()
    theta[moving] = part
    return theta


@eqx.filter_jit
def _negative_log_posterior(
    instrument: Instrument, population: Array, modes: Array, data: Observations, grid: Grid
) -> tuple[Array, Array]:
    """Return minus the log posterior of the population parameters and its exact gradient."""

    def value(theta: Array) -> Array:
        def marginal(mode: Array, one: Observations) -> Array:
            return log_marginal(instrument.log_joint, instrument.expand, theta, mode, (one, grid))

        return -jax.vmap(marginal)(modes, data).sum() - instrument.log_prior(theta)

    return jax.value_and_grad(value)(population)
