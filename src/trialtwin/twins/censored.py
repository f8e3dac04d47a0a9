"""Normal measurements that a scale cuts off at its ends: density, what it adds to an inference, and the mean.

A score at the end of its scale says that the measurement would have lain there or beyond, and counts as censored.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

_cdf, _pdf = jax.scipy.stats.norm.cdf, jax.scipy.stats.norm.pdf
_log_cdf, _log_pdf = jax.scipy.stats.norm.logcdf, jax.scipy.stats.norm.logpdf


class Pieces(NamedTuple):
    """What each measurement adds: its log density, and how that bends with mean f and log standard deviation ℓ.

    ``by_mean`` and ``by_spread`` are the first derivatives; the information is
    ``mean_mean`` · f′f′ᵀ + ``mean_spread`` · (f′ℓ′ᵀ + ℓ′f′ᵀ) + ``spread_spread`` · ℓ′ℓ′ᵀ.
    """

    log_density: Float[Array, "*batch"]
    by_mean: Float[Array, "*batch"]
    by_spread: Float[Array, "*batch"]
    mean_mean: Float[Array, "*batch"]
    mean_spread: Float[Array, "*batch"]
    spread_spread: Float[Array, "*batch"]


def expand(
    value: Float[Array, "*batch scale"],
    mean: Float[Array, "*batch scale"],
    log_spread: Float[Array, "*batch scale"],
    lower: Float[np.ndarray, " scale"],
    upper: Float[np.ndarray, " scale"],
) -> Pieces:
    """Return what each measurement adds to a log density, its gradient and the information.

    Inside the scale, with r = (y − f)/s: log φ(r) − ℓ; derivatives r/s and r² − 1; expected information 1/s², 0 and 2.
    At an end, with a the distance of the end from the mean in standard deviations, signed so that the chance of lying
    beyond is Φ(a): log Φ(a), and curvature λ(λ + a) along a, where λ = φ(a)/Φ(a).
    """
    spread = jnp.exp(log_spread)
    residual = (value - mean) / spread
    side = jnp.where(value >= upper, 1.0, -1.0)
    end = jnp.where(value >= upper, upper, lower)
    beyond = side * (mean - end) / spread
    ratio = jnp.exp(_log_pdf(beyond) - _log_cdf(beyond))
    bend = ratio * (ratio + beyond)
    inside = (value > lower) & (value < upper)
    return Pieces(
        jnp.where(inside, _log_pdf(residual) - log_spread, _log_cdf(beyond)),
        jnp.where(inside, residual / spread, ratio * side / spread),
        jnp.where(inside, residual**2 - 1, -ratio * beyond),
        jnp.where(inside, 1.0, bend) / spread**2,
        jnp.where(inside, 0.0, -bend * side * beyond / spread),
        jnp.where(inside, 2.0, bend * beyond**2),
    )


def collect(
    pieces: Pieces,
    by_mean: Float[Array, "visit scale effect"],
    by_spread: Float[Array, "visit scale effect"],
    observed: Bool[Array, "visit scale"],
) -> tuple[Float[Array, " effect"], Float[Array, "effect effect"]]:
    """Return gradient and information of what was observed, given how means and log spreads move with the effects."""
    _, to_mean, to_spread, mean_mean, mean_spread, spread_spread = (jnp.where(observed, x, 0.0) for x in pieces)
    gradient = jnp.einsum("vk,vki->i", to_mean, by_mean) + jnp.einsum("vk,vki->i", to_spread, by_spread)
    mixed = jnp.einsum("vki,vk,vkj->ij", by_mean, mean_spread, by_spread)
    information = (
        jnp.einsum("vki,vk,vkj->ij", by_mean, mean_mean, by_mean)
        + mixed
        + mixed.T
        + jnp.einsum("vki,vk,vkj->ij", by_spread, spread_spread, by_spread)
    )
    return gradient, information


def censored_mean(
    mean: Float[Array, "*batch scale"],
    spread: Float[Array, "*batch scale"],
    lower: Float[np.ndarray, " scale"],
    upper: Float[np.ndarray, " scale"],
) -> Float[Array, "*batch scale"]:
    """Return the mean of a normal measurement that is censored at both ends.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np
    >>> ends = np.array([0.0]), np.array([30.0])
    >>> round(float(censored_mean(jnp.array([30.0]), jnp.array([1.5]), *ends)[0]), 4)
    29.4016
    """
    a, b = (lower - mean) / spread, (upper - mean) / spread
    inside = mean * (_cdf(b) - _cdf(a)) + spread * (_pdf(a) - _pdf(b))
    return lower * _cdf(a) + inside + upper * _cdf(-b)
