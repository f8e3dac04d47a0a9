"""The linear algebra of the baseline twin: Gaussian given its six variance components, whatever was measured."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.core.backend import enable_float64

enable_float64()

FLAT = 10.0  # prior SD of the mean curve, in SDs of the outcome


class Records(NamedTuple):
    """Standardised data of one outcome, with a leading patient axis; ``weight`` is 1 where measured and 0 elsewhere.

    ``extra`` is what a patient's uncertain factors add to G; ``None`` where there are no factors.
    """

    covariates: Float[Array, "patient covariate"]
    times: Float[Array, "patient visit"]
    values: Float[Array, "patient visit"]
    weight: Float[Array, "patient visit"]
    extra: Float[Array, "patient 2 2"] | None = None


def _mean_basis(s: Array) -> Array:
    return jnp.stack([jnp.ones_like(s), s, s**2], axis=-1)


def _own_basis(s: Array) -> Array:
    return jnp.stack([jnp.ones_like(s), s], axis=-1)


def _design(s: Float[Array, "*p visit"], x: Float[Array, "*p covariate"]) -> Float[Array, "*p visit coefficient"]:
    """Return the design of (β, Γ row by row)."""
    own = _own_basis(s)
    products = own[..., :, :, None] * x[..., None, None, :]
    return jnp.concatenate([_mean_basis(s), products.reshape(*products.shape[:-2], -1)], axis=-1)


def _prior_variance(components: Array, covariates: int) -> Float[Array, " coefficient"]:
    tau = jnp.exp(2 * components[:2])
    return jnp.concatenate([jnp.full(3, FLAT**2), jnp.repeat(tau, covariates)])


def _effects_covariance(components: Array) -> Float[Array, "2 2"]:
    a, b, r = jnp.exp(components[2]), jnp.exp(components[3]), jnp.tanh(components[4])
    return jnp.array([[a**2, r * a * b], [r * a * b, b**2]])


def _own_covariance(components: Array, records: Records) -> Float[Array, "*p 2 2"]:
    """Return the covariance of a patient's own effects: of all, or of each where factors are uncertain."""
    shared = _effects_covariance(components)
    return shared if records.extra is None else shared + records.extra


def _whiten(components: Array, records: Records) -> tuple[Array, Array, Array]:
    """Return design and values whitened by each patient's Cholesky factor, and the diagonal of that factor.

    Unmeasured rows get unit variance, no covariance and zero design: they carry nothing.
    """
    w = records.weight
    own = _own_basis(records.times) * w[..., None]
    noise = jnp.where(w > 0, jnp.exp(2 * components[5]), 1.0)
    covariance = own @ _own_covariance(components, records) @ jnp.swapaxes(own, -1, -2) + noise[..., None] * jnp.eye(
        w.shape[-1]
    )
    root = jnp.linalg.cholesky(covariance)
    design = _design(records.times, records.covariates) * w[..., None]
    both = jnp.concatenate([design, (records.values * w)[..., None]], axis=-1)
    white = jax.scipy.linalg.solve_triangular(root, both, lower=True)
    return white[..., :-1], white[..., -1], jnp.diagonal(root, axis1=-2, axis2=-1)


def posterior_coefficients(components: Array, records: Records) -> tuple[Array, Array, Array]:
    """Return the posterior mean of the coefficients, the Cholesky factor of their precision, and the log evidence."""
    design, values, diagonal = _whiten(components, records)
    variance = _prior_variance(components, records.covariates.shape[1])
    precision = jnp.einsum("nvp,nvq->pq", design, design) + jnp.diag(1 / variance)
    root = jnp.linalg.cholesky(precision)
    projected = jax.scipy.linalg.solve_triangular(root, jnp.einsum("nvp,nv->p", design, values), lower=True)
    mean = jax.scipy.linalg.solve_triangular(root.T, projected, lower=False)
    log_evidence = (
        -0.5 * (jnp.sum(values**2) - jnp.sum(projected**2))
        - jnp.sum(jnp.log(diagonal))
        - jnp.sum(jnp.log(jnp.diagonal(root)))
        - 0.5 * jnp.sum(jnp.log(variance))
        - 0.5 * jnp.log(2 * jnp.pi) * jnp.sum(records.weight)
    )
    return mean, root, log_evidence


def conditional(components: Array, coefficients: Array, history: Records, at: Array) -> tuple[Array, Array]:
    """Return each patient's expected future and a root R of what its own effects add, given coefficients and history.

    Future measurements have covariance R Rᵀ + σ² I.
    """
    g, noise = _own_covariance(components, history), jnp.exp(2 * components[5])
    past = _own_basis(history.times) * history.weight[..., None]
    gap = jnp.where(history.weight > 0, noise, 1.0)
    covariance = past @ g @ jnp.swapaxes(past, -1, -2) + gap[..., None] * jnp.eye(past.shape[1])
    residual = (history.values - _design(history.times, history.covariates) @ coefficients) * history.weight
    gain = jnp.swapaxes(jnp.linalg.solve(covariance, past @ g), -1, -2)
    effects = (gain @ residual[..., None])[..., 0]
    left = g - gain @ past @ g
    future = _own_basis(at)
    mean = _design(at, history.covariates) @ coefficients + (future @ effects[..., None])[..., 0]
    # nothing but rounding can make what is left of a small covariance indefinite
    guard = 1e-12 * jnp.trace(g, axis1=-2, axis2=-1)[..., None, None] * jnp.eye(2)
    return mean, future @ jnp.linalg.cholesky(left + guard)


def response(components: Array, history: Records, at: Array) -> Float[Array, "patient time coefficient"]:
    """Return how each patient's expected future moves with the coefficients, history held fixed."""

    def mean(coefficients: Array) -> Array:
        return conditional(components, coefficients, history, at)[0]

    return jax.jacfwd(mean)(jnp.zeros(3 + 2 * history.covariates.shape[1]))
