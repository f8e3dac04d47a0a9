"""Posterior modes and Laplace approximations of many small problems at once.

A problem is a log joint density of data and effects, and its expansion: value, gradient and curvature at a point. The
curvature is the caller's to choose: the Fisher information of the measurements plus that of the prior, which is always
positive definite, gives first-order conditional estimation with interaction (FOCEI); minus the exact Hessian
(``exact_expansion``) gives Laplace's method proper.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from trialtwin.core.backend import enable_float64

enable_float64()

LONGEST = 3.0  # of a step, in standard deviations of an effect

# log p(data, effects | parameters), for one patient
type LogJoint = Callable[[Any, Float[Array, " effect"], Any], Float[Array, ""]]
# value, gradient and curvature (of minus the log joint) with respect to the effects, for one patient
type Expansion = Callable[
    [Any, Float[Array, " effect"], Any],
    tuple[Float[Array, ""], Float[Array, " effect"], Float[Array, "effect effect"]],
]


class Mode(eqx.Module):
    """A maximum of a log density: where it is, the curvature there, and whether the search reached it."""

    position: Float[Array, " effect"]
    precision: Float[Array, "effect effect"]
    converged: Bool[Array, ""]


def exact_expansion(log_joint: LogJoint) -> Expansion:
    """Return value, gradient and minus the exact Hessian of a log joint density, for Laplace's method proper."""

    def expand(parameters: Any, effects: Array, data: Any) -> tuple[Array, Array, Array]:
        value, gradient = jax.value_and_grad(log_joint, argnums=1)(parameters, effects, data)
        return value, gradient, -jax.hessian(log_joint, argnums=1)(parameters, effects, data)

    return expand


def find_mode(
    log_joint: LogJoint,
    expand: Expansion,
    parameters: Any,
    start: Float[Array, " effect"],
    data: Any,
    *,
    tolerance: float = 1e-12,
    steps: int = 200,
) -> Mode:
    """Find the maximum of u ↦ log p(y, u | θ) by scoring steps with a line search.

    Converged means that the curvature C is positive definite and ½ gᵀC⁻¹g is below ``tolerance``: what a further step
    would gain, in units of log likelihood. Map over patients with ``jax.vmap``; the caller looks at ``converged``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> peak = lambda theta, u, y: -0.5 * jnp.sum((u - theta) ** 2)
    >>> mode = find_mode(peak, exact_expansion(peak), 2.0, jnp.zeros(1), None)
    >>> round(float(mode.position[0]), 6), bool(mode.converged)
    (2.0, True)
    """

    def going(carry: tuple[Array, Array, Array]) -> Array:
        _, count, gain = carry
        return (gain > tolerance) & (count < steps)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        u, count, _ = carry
        _, gradient, curvature = expand(parameters, u, data)
        direction = jnp.linalg.solve(curvature, gradient)
        gain = 0.5 * gradient @ direction
        # effects are standard normal: a step of more than a few units is the linearisation's fault, and may end in a
        # far valley with a mode of its own
        direction = direction * jnp.minimum(1.0, LONGEST / jnp.maximum(jnp.max(jnp.abs(direction)), LONGEST))
        candidates = u + jnp.array([0.0, 1.0, 2.5, 0.3, 0.05])[:, None] * direction
        heights = jax.vmap(lambda candidate: log_joint(parameters, candidate, data))(candidates)
        best = candidates[jnp.argmax(jnp.where(jnp.isfinite(heights), heights, -jnp.inf))]
        # the last step is not taken: the gain was measured where the search ends
        return jnp.where(gain > tolerance, best, u), count + 1, jnp.where(gain >= 0, gain, jnp.inf)

    position, _, gain = jax.lax.while_loop(going, step, (start, jnp.asarray(0), jnp.asarray(jnp.inf)))
    _, _, precision = expand(parameters, position, data)
    return Mode(position, precision, (gain <= tolerance) & jnp.isfinite(_log_determinant(precision)))


def log_marginal(
    log_joint: LogJoint, expand: Expansion, parameters: Any, mode: Float[Array, " effect"], data: Any
) -> Float[Array, ""]:
    """Approximate log p(y | θ) = log ∫ p(y, u | θ) du at the mode.

    log p(y | θ) ≈ log p(y, û | θ) + (d/2) log 2π − ½ log |C(û, θ)|, with C the curvature.

    One Newton step from the mode, by the exact Hessian held fixed, makes û a function of θ whose derivative is the
    implicit one; ``jax.grad`` of this function is then the exact gradient of the approximation, the dependence of the
    mode on θ included.

    References
    ----------
    Tierney L, Kadane JB (1986), doi:10.1080/01621459.1986.10478240. Almquist J, Leander J, Jirstrand M (2015), exact
    gradients for FOCE and FOCEI: doi:10.1007/s10928-015-9409-1.
    """
    anchor = jax.lax.stop_gradient(mode)
    hessian = jax.hessian(log_joint, argnums=1)(jax.lax.stop_gradient(parameters), anchor, data)
    _, gradient, _ = expand(parameters, anchor, data)
    value, _, curvature = expand(parameters, anchor - jnp.linalg.solve(hessian, gradient), data)
    return value + 0.5 * len(anchor) * jnp.log(2 * jnp.pi) - 0.5 * _log_determinant(curvature)


def _log_determinant(matrix: Float[Array, "effect effect"]) -> Float[Array, ""]:
    """Return the log determinant of a positive definite matrix, NaN for any other."""
    return 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(matrix))))
