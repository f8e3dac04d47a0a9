"""The population of a disease, learned from patients by the Laplace marginal likelihood and its exact gradient."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.treatment import NoTreatment
from trialtwin.engine.grid import Grid
from trialtwin.infer.laplace import log_marginal
from trialtwin.infer.optimise import minimise
from trialtwin.twins.course import Instrument, Observations
from trialtwin.twins.posterior import by_pieces, infer, require_solved, solver_errors


class Learnt(NamedTuple):
    """Where the marginal posterior of the population is highest.

    ``covariance`` is the Laplace covariance, ``value`` minus the log posterior at the maximum, and ``effects`` the
    patients' most probable effects there.
    """

    population: Float[np.ndarray, " parameter"]
    covariance: Float[np.ndarray, "parameter parameter"]
    value: float
    effects: Array


def learn_population(
    instrument: Instrument,
    data: Observations,
    grid: Grid,
    ids: tuple[str, ...],
    *,
    start: Float[np.ndarray, " parameter"] | None = None,
) -> Learnt:
    """Maximise Σᵢ log ∫ p(yᵢ, uᵢ | θ) duᵢ + log p(θ).

    The integrals are by first-order conditional estimation with interaction. ``start`` is the prior mean where nothing
    is said.

    Raises
    ------
    ConvergenceError
        If the population or a patient cannot be inferred, or the solver is not accurate enough.
    """
    priors = instrument.priors
    whole = np.array([prior.mean for prior in priors]) if start is None else np.array(start)
    modes = jnp.zeros((len(data.times), instrument.dimension))
    means, sds = np.array([prior.mean for prior in priors]), np.array([prior.sd for prior in priors])
    begin = infer(instrument, jnp.asarray(whole), modes, data, grid)
    # outer products of scores are what the Hessian is about, so that the search begins with steps of the right size
    scores = np.asarray(marginals(instrument, jnp.asarray(whole), begin.position, data, grid)[1])
    guess = scores.T @ scores + np.diag(sds**-2)
    inverse = np.linalg.inv(guess) if np.isfinite(guess).all() else np.eye(len(guess))

    def objective(part: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal modes
        theta = jnp.asarray(part)
        mode = infer(instrument, theta, modes, data, grid)
        if not bool(mode.converged.all()):
            return float("nan"), np.full_like(part, np.nan)
        modes = mode.position
        values, scores = marginals(instrument, theta, modes, data, grid)
        off = (np.asarray(theta) - means) / sds
        value = -float(values.sum()) + 0.5 * float(off @ off)
        return value, (off / sds - np.asarray(scores).sum(axis=0))

    names = tuple(prior.name for prior in priors)
    optimum = minimise(objective, whole, names=names, inverse=(inverse + inverse.T) / 2)
    found = optimum.position
    errors = solver_errors(instrument, jnp.asarray(found), modes, data, grid)
    require_solved(np.asarray(errors)[: len(ids)], instrument, NoTreatment(), ids)
    return Learnt(found, np.linalg.inv(optimum.hessian), optimum.value, modes)


def marginals(
    instrument: Instrument, population: Array, modes: Array, data: Observations, grid: Grid
) -> tuple[Float[Array, " patient"], Float[Array, "patient parameter"]]:
    """Return each patient's log marginal density at the own mode, and its exact gradient, the score."""
    return by_pieces(lambda u, one: _marginals(instrument, population, u, one, grid), modes, data)


@eqx.filter_jit
def _marginals(
    instrument: Instrument, population: Array, modes: Array, data: Observations, grid: Grid
) -> tuple[Float[Array, " patient"], Float[Array, "patient parameter"]]:
    def patient(mode: Array, one: Observations) -> tuple[Array, Array]:
        def value(theta: Array) -> Array:
            return log_marginal(instrument.log_joint, instrument.expand, theta, mode, (one, grid))

        return jax.value_and_grad(value)(population)

    return jax.vmap(patient)(modes, data)
