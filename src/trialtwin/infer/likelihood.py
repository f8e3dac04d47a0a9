"""Joint densities of one patient's measurements and effects, and their expansions for FOCEI and Laplace.

A row below the limit of quantification counts with the probability of being so (Beal's M3 method).
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from trialtwin.infer.laplace import Expansion, LogJoint, exact_expansion
from trialtwin.infer.model import Model, Patients

LOG_2PI = float(jnp.log(2 * jnp.pi))
type Method = Literal["focei", "laplace"]


def patient_moments(
    model: Model, x: Float[Array, " parameter"], u: Float[Array, " effect"], one: Patients
) -> tuple[Float[Array, " row"], Float[Array, " row"]]:
    """Return location and log SD of each row of one patient; 1 stands where there is only padding."""
    theta, root, between, sigma = model.unpack(x)
    mean = model.predict(theta, model.effects(root, between, u), one.inputs)
    return model.sigma.moments(jnp.where(one.measured, mean, 1.0), sigma)


def log_joint(model: Model) -> LogJoint:
    """Return log p(y, u | θ) of one patient."""

    def joint(x: Array, u: Array, one: Patients) -> Array:
        location, log_sd = patient_moments(model, x, u, one)
        value = jnp.where(one.measured, one.value, 1.0)
        z = (model.sigma.transform(value) - location) * jnp.exp(-log_sd)
        seen = -0.5 * (z**2 + LOG_2PI) - log_sd + model.sigma.log_jacobian(value)
        rows = jnp.where(one.below, norm.logcdf(z), seen)
        return jnp.sum(jnp.where(one.measured, rows, 0.0)) - 0.5 * jnp.sum(u**2 + LOG_2PI)

    return joint


def expected_expansion(model: Model) -> Expansion:
    """Return value, gradient and Fisher's information, residual variances that depend on the effects included.

    A row below the limit of quantification counts with the curvature of log Φ along its standardised distance, which
    is concave: the matrix is positive definite in every case.
    """
    joint = log_joint(model)

    def parts(x: Array, u: Array, one: Patients) -> tuple[Array, Array, Array]:
        location, log_sd = patient_moments(model, x, u, one)
        return location, log_sd, (model.sigma.transform(one.value) - location) * jnp.exp(-log_sd)

    def expand(x: Any, u: Array, one: Any) -> tuple[Array, Array, Array]:
        value, gradient = jax.value_and_grad(joint, argnums=1)(x, u, one)
        _, log_sd, z = parts(x, u, one)
        slope, log_slope, distance = jax.jacfwd(lambda v: parts(x, v, one))(u)
        seen = one.measured & ~one.below
        weight = jnp.where(seen, jnp.exp(-2 * log_sd), 0.0)
        curvature = slope.T @ (weight[:, None] * slope) + 2 * log_slope.T @ (seen[:, None] * log_slope)
        ratio = jnp.exp(norm.logpdf(z) - norm.logcdf(z))
        bend = jnp.where(one.measured & one.below, ratio * (ratio + z), 0.0)
        return value, gradient, curvature + distance.T @ (bend[:, None] * distance) + jnp.eye(len(u))

    return expand


def expansion(model: Model, method: Method) -> Expansion:
    """Return the expansion that a method takes its curvature from."""
    return expected_expansion(model) if method == "focei" else exact_expansion(log_joint(model))
