"""The algebra of the Gaussian-process twin: exact given its components, whatever was measured of which outcome.

    cov(f_k(s), f_l(u)) = h(s)ᵀ G_kl h(u) + c_k c_l R_kl m(|s − u| / ℓ),   h(s) = (1, s)
    m(d) = (1 + √3 d) exp(−√3 d)

G is the full covariance of all outcomes' levels and slopes, R the correlation of how outcomes wander, m the Matérn 3/2
correlation. Rows of a patient are (visit, outcome), visit by visit. Correlation matrices are built from partial
correlations, so that any components give one (Lewandowski et al. 2009, doi:10.1016/j.jmva.2009.04.008).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.core.backend import enable_float64

enable_float64()

FLAT = 10.0  # prior SD of the mean curve, in SDs of the outcome
FIXED = 3
JITTER = 1e-9
OWN = (
    ("log τ of covariates on level", -1.5, 1.0),
    ("log τ of covariates on slope", -1.5, 1.0),
    ("log SD of level", -0.3, 1.0),
    ("log SD of slope", -1.0, 1.0),
    ("log SD of wandering", -1.5, 1.0),
    ("log residual SD", -1.0, 1.0),
)
"""Components of each outcome with prior mean and SD, on standardised data."""


class Rows(NamedTuple):
    """Standardised measurements of all outcomes; ``weight`` is 1 where measured and 0 elsewhere.

    ``extra`` is what uncertain factors add to G of each patient; ``None`` where there are no factors.
    """

    covariates: Float[Array, "patient covariate"]
    times: Float[Array, "patient visit"]
    values: Float[Array, "patient visit outcome"]
    weight: Float[Array, "patient visit outcome"]
    extra: Float[Array, "patient effect effect"] | None = None


class Parts(NamedTuple):
    """Components on their natural scale."""

    tau: Float[Array, "outcome 2"]
    effects: Float[Array, "effect effect"]
    wander: Float[Array, "outcome outcome"]
    noise: Float[Array, " outcome"]
    length: Float[Array, ""]


def layout(outcomes: tuple[str, ...]) -> list[tuple[str, float, float]]:
    """Return name, prior mean and prior SD of every component."""
    found = [(f"{name}: {what}", mean, sd) for name in outcomes for what, mean, sd in OWN]
    found.append(("log length of wandering, horizons", -1.2, 0.5))
    effects = [f"{kind} of {name}" for name in outcomes for kind in ("level", "slope")]
    found += [
        (f"partial correlation, Fisher z: {effects[i]} and {effects[j]}", 0.0, 0.7)
        for i in range(len(effects))
        for j in range(i)
    ]
    found += [
        (f"partial correlation, Fisher z: wandering of {outcomes[i]} and {outcomes[j]}", 0.0, 0.7)
        for i in range(len(outcomes))
        for j in range(i)
    ]
    return found


def unpack(components: Float[Array, " component"], outcomes: int) -> Parts:
    """Turn components into covariances."""
    own = components[: 6 * outcomes].reshape(outcomes, 6)
    rest = components[6 * outcomes + 1 :]
    many = outcomes * (2 * outcomes - 1)
    sd = jnp.exp(own[:, 2:4]).reshape(-1)
    effects = _correlation(rest[:many], 2 * outcomes) * jnp.outer(sd, sd)
    drift = jnp.exp(own[:, 4])
    wander = _correlation(rest[many:], outcomes) * jnp.outer(drift, drift)
    return Parts(jnp.exp(own[:, :2]), effects, wander, jnp.exp(2 * own[:, 5]), jnp.exp(components[6 * outcomes]))


def _correlation(z: Float[Array, " pair"], size: int) -> Float[Array, "size size"]:
    """Return the correlation matrix of given partial correlations, row by row below the diagonal."""
    partial, rows, place = jnp.tanh(z), [], 0
    for i in range(size):
        left, row = jnp.ones(()), []
        for _ in range(i):
            row.append(partial[place] * jnp.sqrt(left))
            left = left * (1 - partial[place] ** 2)
            place += 1
        row.append(jnp.sqrt(left))
        rows.append(jnp.stack(row + [jnp.zeros(())] * (size - i - 1)))
    root = jnp.stack(rows)
    return root @ root.T


def _effects_basis(s: Float[Array, " time"], outcomes: int) -> Float[Array, "row effect"]:
    """Return which level and slope each (time, outcome) shows."""
    h = jnp.stack([jnp.ones_like(s), s], axis=-1)
    return jnp.einsum("tb,kl->tklb", h, jnp.eye(outcomes)).reshape(len(s) * outcomes, 2 * outcomes)


def _design(s: Float[Array, " time"], x: Float[Array, " covariate"], outcomes: int) -> Float[Array, "row coefficient"]:
    """Return the design of each outcome's (β, Γ level, Γ slope)."""
    one = jnp.concatenate([jnp.stack([jnp.ones_like(s), s, s**2], axis=-1), jnp.ones_like(s)[:, None] * x], axis=-1)
    one = jnp.concatenate([one, s[:, None] * x], axis=-1)
    return jnp.einsum("tc,kl->tklc", one, jnp.eye(outcomes)).reshape(len(s) * outcomes, -1)


def _kernel(
    parts: Parts, effects: Float[Array, "effect effect"], a: Float[Array, " time"], b: Float[Array, " later"]
) -> Float[Array, "row column"]:
    """Return the covariance of two lists of times without noise."""
    q = len(parts.noise)
    apart = jnp.sqrt(3.0) * jnp.abs(a[:, None] - b) / parts.length
    wander = jnp.kron((1 + apart) * jnp.exp(-apart), parts.wander)
    return _effects_basis(a, q) @ effects @ _effects_basis(b, q).T + wander


def _past(parts: Parts, effects: Array, s: Array, w: Float[Array, " row"]) -> Float[Array, "row row"]:
    """Return the covariance of what was measured; what was not has unit variance and nothing to do with anything."""
    noise = jnp.tile(parts.noise, len(s))
    return _kernel(parts, effects, s, s) * w[:, None] * w + jnp.diag(jnp.where(w > 0, noise, 1.0))


def _own(parts: Parts, rows: Rows) -> tuple[Array, int | None]:
    """Return the covariance of levels and slopes, and along which axis it differs between patients."""
    return (parts.effects, None) if rows.extra is None else (parts.effects + rows.extra, 0)


def posterior(components: Array, rows: Rows) -> tuple[Array, Array, Array]:
    """Return the posterior mean of the coefficients, the Cholesky factor of their precision, and the log evidence."""
    q = rows.values.shape[-1]
    parts = unpack(components, q)
    effects, axis = _own(parts, rows)

    def one(x: Array, s: Array, y: Array, w: Array, g: Array) -> tuple[Array, Array]:
        w = w.reshape(-1)
        root = jnp.linalg.cholesky(_past(parts, g, s, w))
        both = jnp.concatenate([_design(s, x, q), y.reshape(-1, 1)], axis=1) * w[:, None]
        return jax.scipy.linalg.solve_triangular(root, both, lower=True), jnp.sum(jnp.log(jnp.diagonal(root)))

    mapped = jax.vmap(one, in_axes=(0, 0, 0, 0, axis))
    white, logs = mapped(rows.covariates, rows.times, rows.values, rows.weight, effects)
    design, values = white[..., :-1], white[..., -1]
    p = rows.covariates.shape[1]
    tau = jnp.repeat(parts.tau**2, p, axis=1)
    variance = jnp.concatenate([jnp.full((q, FIXED), FLAT**2), tau], axis=1).reshape(-1)
    root = jnp.linalg.cholesky(jnp.einsum("nrc,nrd->cd", design, design) + jnp.diag(1 / variance))
    projected = jax.scipy.linalg.solve_triangular(root, jnp.einsum("nrc,nr->c", design, values), lower=True)
    mean = jax.scipy.linalg.solve_triangular(root.T, projected, lower=False)
    evidence = (
        -0.5 * (jnp.sum(values**2) - jnp.sum(projected**2))
        - jnp.sum(logs)
        - jnp.sum(jnp.log(jnp.diagonal(root)))
        - 0.5 * jnp.sum(jnp.log(variance))
        - 0.5 * jnp.log(2 * jnp.pi) * jnp.sum(rows.weight)
    )
    return mean, root, evidence


class Future(NamedTuple):
    """What is forecast of patients: mean, covariance, and how the mean moves with the coefficients."""

    mean: Float[Array, "patient row"]
    covariance: Float[Array, "patient row row"]
    response: Float[Array, "patient row coefficient"]


def conditional(
    components: Array, coefficients: Float[Array, " coefficient"], history: Rows, at: Float[Array, "patient time"]
) -> Future:
    """Return each patient's future measurements given coefficients and history, rows (time, outcome)."""
    q = history.values.shape[-1]
    parts = unpack(components, q)
    effects, axis = _own(parts, history)

    def one(x: Array, s: Array, y: Array, w: Array, u: Array, g: Array) -> tuple[Array, Array, Array]:
        w, y = w.reshape(-1), y.reshape(-1)
        cross = _kernel(parts, g, u, s) * w
        gain = jnp.linalg.solve(_past(parts, g, s, w), cross.T).T
        moved = _design(u, x, q) - gain @ (_design(s, x, q) * w[:, None])
        noise = jnp.tile(parts.noise, len(u)) + JITTER
        return moved @ coefficients + gain @ (y * w), _kernel(parts, g, u, u) - gain @ cross.T + jnp.diag(noise), moved

    mapped = jax.vmap(one, in_axes=(0, 0, 0, 0, 0, axis))
    found = mapped(history.covariates, history.times, history.values, history.weight, at, effects)
    return Future(*found)
