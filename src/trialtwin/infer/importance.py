"""Importance sampling from a multivariate t distribution around a mode: posteriors that are not normal.

A Laplace approximation puts a normal distribution at the mode; where the posterior is skewed its mean is elsewhere, and
forecasts from it are biased. Here draws from a t distribution with 7 degrees of freedom around the mode are weighted by
the exact density, and the t distribution is moved to the weighted mean and covariance before it is used.
"""

from collections.abc import Callable
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import ndtri
from scipy.stats import chi2, qmc

from trialtwin.core.backend import enable_float64

enable_float64()

FREEDOM = 7.0


class Proposal(eqx.Module):
    """A multivariate t distribution with 7 degrees of freedom: its centre, and a root of its scale matrix."""

    centre: Float[Array, "*patient effect"]
    root: Float[Array, "*patient effect effect"]

    def place(self, points: Float[Array, "point effect"]) -> Float[Array, "point effect"]:
        """Turn standard points into points of this distribution."""
        return self.centre + points @ self.root.T


def laplace_proposal(mode: Float[Array, " effect"], precision: Float[Array, "effect effect"]) -> Proposal:
    """Return the t distribution around a mode with the inverse curvature as its scale matrix."""
    return Proposal(mode, jnp.linalg.inv(jnp.linalg.cholesky(precision)).T)


@cache
def student_points(count: int, dimension: int) -> Float[np.ndarray, "point effect"]:
    """Return points of a standard t distribution that fill space evenly (scrambled Sobol, the same at every call).

    Raises
    ------
    ValueError
        If ``count`` is not a power of 2.

    Examples
    --------
    >>> bool(abs(student_points(256, 3).mean()) < 0.01)
    True
    """
    uniform = qmc.Sobol(dimension + 1, scramble=True, rng=np.random.default_rng(20)).random_base2(int(np.log2(count)))
    if len(uniform) != count:
        raise ValueError(f"{count} points: give a power of 2")
    normal = ndtri(uniform[:, :-1])
    return np.asarray(normal * np.sqrt(FREEDOM / chi2.ppf(uniform[:, -1:], FREEDOM)))


def random_points(key: Array, count: int, dimension: int) -> Float[Array, "point effect"]:
    """Return random points of a standard t distribution."""
    normal_key, scale_key = jax.random.split(key)
    normal = jax.random.normal(normal_key, (count, dimension))
    scale = 2 * jax.random.gamma(scale_key, FREEDOM / 2, (count, 1))
    return normal * jnp.sqrt(FREEDOM / scale)


def importance_weights(
    log_density: Callable[[Float[Array, " effect"]], Float[Array, ""]],
    proposal: Proposal,
    points: Float[Array, "point effect"],
) -> Float[Array, " point"]:
    """Return the weights of a proposal's points under a density, summing to 1; a point without density weighs 0."""
    heights = jax.vmap(log_density)(proposal.place(points))
    half = (FREEDOM + points.shape[1]) / 2
    raw = heights + half * jnp.log1p(jnp.sum(points**2, axis=1) / FREEDOM)
    return jax.nn.softmax(jnp.where(jnp.isfinite(raw), raw, -jnp.inf))


def adapt(proposal: Proposal, points: Float[Array, "point effect"], weights: Float[Array, " point"]) -> Proposal:
    """Move a proposal to the weighted mean and covariance of its points, the more so the more points count."""
    placed = proposal.place(points)
    centre = weights @ placed
    gap = placed - centre
    covariance = (gap * weights[:, None]).T @ gap
    size, old = effective_size(weights), 2.0 * points.shape[1]
    blended = (size * covariance + old * proposal.root @ proposal.root.T) / (size + old)
    return Proposal(centre, jnp.linalg.cholesky(blended))


def effective_size(weights: Float[Array, " point"]) -> Float[Array, ""]:
    """Return how many equally weighted points the weights are worth: 1 / Σ w² (Kong 1992).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(effective_size(jnp.full(4, 0.25)))
    4.0
    """
    return 1 / jnp.sum(weights**2)


def resample(key: Array, weights: Float[Array, " point"], count: int) -> Int[Array, " chosen"]:
    """Choose points by systematic resampling, in random order: each as often as its weight says, to within one.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> sorted(resample(jax.random.key(0), jnp.array([0.5, 0.0, 0.5]), 4).tolist())
    [0, 0, 2, 2]
    """
    place_key, order_key = jax.random.split(key)
    marks = (jnp.arange(count) + jax.random.uniform(place_key)) / count
    chosen = jnp.searchsorted(jnp.cumsum(weights), marks)
    return jax.random.permutation(order_key, jnp.clip(chosen, 0, len(weights) - 1))
