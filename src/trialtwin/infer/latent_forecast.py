"""Forecasts of patients with latent dynamics: the posterior of each patient's start given what was measured so far."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.errors import ConvergenceError
from trialtwin.infer.importance import (
    Proposal,
    adapt,
    effective_size,
    importance_weights,
    laplace_proposal,
    resample,
    student_points,
)
from trialtwin.infer.laplace import find_mode
from trialtwin.infer.latent_dynamics import Fit, Panel, expected, follow, log_likelihood

POINTS = 512
ROUNDS = 2  # times that a proposal is moved to what it found
CHUNK = 50  # patients at once
WIDEN = 1.3  # of the Laplace approximation's scale, so that its tails are covered


class LatentForecast(eqx.Module):
    """What is expected of patients, draws of it, and how many equally weighted points each posterior is worth."""

    expected: Float[np.ndarray, "patient time output"]
    draws: Float[np.ndarray, "draw patient time output"]
    size: Float[np.ndarray, " patient"]


def forecast_latent_dynamics(fit: Fit, panel: Panel, *, times: int, draws: int, key: Array) -> LatentForecast:
    """Forecast patients at times 0, 1, … given what the panel holds of each.

    The posterior of a start is found around its mode by importance sampling with points that do not depend on the
    key. ``expected`` is its mean; draws are of what would be measured, noise included.

    Parameters
    ----------
    panel
        What was measured so far; inputs are known for all the times asked.

    Raises
    ------
    ConvergenceError
        If a patient has no mode.

    Examples
    --------
    See ``fit_latent_dynamics``.
    """
    means, sampled, sizes = [], [], []
    for first in range(0, len(panel.values), CHUNK):
        part = panel.take(slice(first, first + CHUNK))
        keys = jax.random.split(jax.random.fold_in(key, first), len(part.values))
        mean, sample, size, found = _forecast(fit, part, times, draws, keys)
        if not bool(found.all()):
            raise ConvergenceError(
                f"the start of {int((~found).sum())} patient(s) was not found",
                where=f"among patients {first} to {first + len(part.values) - 1}",
            )
        means.append(np.asarray(mean))
        sampled.append(np.asarray(sample))
        sizes.append(np.asarray(size))
    return LatentForecast(np.concatenate(means), np.concatenate(sampled, axis=1), np.concatenate(sizes))


@eqx.filter_jit
def _forecast(fit: Fit, panel: Panel, times: int, draws: int, keys: Array) -> tuple[Array, Array, Array, Array]:
    structure, parameters = fit.structure, fit.parameters
    seen = panel.values.shape[1]
    points = jnp.asarray(student_points(POINTS, structure.states))

    def patient(one: Panel, key: Array) -> tuple[Array, Array, Array, Array]:
        def mean_of(u: Array, count: int) -> Array:
            return expected(parameters, follow(structure, parameters.network, u, one.inputs, count))

        def log_joint(_: None, u: Array, data: Panel) -> Array:
            return log_likelihood(parameters, mean_of(u, seen), data.values, data.observed) - 0.5 * jnp.sum(u**2)

        def expand(_: None, u: Array, data: Panel) -> tuple[Array, Array, Array]:
            mean, slopes = mean_of(u, seen), jax.jacfwd(partial(mean_of, count=seen))(u)
            weight = jnp.where(data.observed, jnp.exp(-2 * parameters.log_noise), 0.0)
            gradient = jnp.einsum("to,toe->e", weight * (data.values - mean), slopes) - u
            curvature = jnp.einsum("to,toe,tof->ef", weight, slopes, slopes) + jnp.eye(len(u))
            return log_joint(None, u, data), gradient, curvature

        mode = find_mode(log_joint, expand, None, jnp.zeros(structure.states), one, tolerance=1e-6)
        proposal = laplace_proposal(mode.position, mode.precision)
        proposal = Proposal(proposal.centre, WIDEN * proposal.root)

        def density(u: Array) -> Array:
            return log_joint(None, u, one)

        for _ in range(ROUNDS):
            proposal = adapt(proposal, points, importance_weights(density, proposal, points))
        weights = importance_weights(density, proposal, points)
        means = jax.vmap(lambda u: mean_of(u, times))(proposal.place(points))
        choice_key, noise_key = jax.random.split(key)
        chosen = means[resample(choice_key, weights, draws)]
        noise = jax.random.normal(noise_key, chosen.shape) * jnp.exp(parameters.log_noise)
        return jnp.tensordot(weights, means, 1), chosen + noise, effective_size(weights), mode.converged

    mean, sample, size, found = jax.vmap(patient)(panel, keys)
    return mean, jnp.swapaxes(sample, 0, 1), size, found
