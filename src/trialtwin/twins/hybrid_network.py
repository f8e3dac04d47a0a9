"""A small network from covariates to a patient's effects, whose size the evidence decides.

    g(x) = A x + V tanh(B x + c),   uᵢ ~ N(g(xᵢ), diag s²),   s_k² = 1 − mean over patients of g_k² ≥ 0.05

so that over all patients an effect keeps the unit variance that the disease gives it: what covariates explain is taken
from what remains, and g is scaled down where it would vary more. Without that an effect that measurements say little of
is moved by several SD at no cost in the Gaussian approximation, and at a great one in the model. What measurements say
of patient i is Gaussian in u by Laplace's method: information Λᵢ and score hᵢ.
With it u is integrated out,

    log p(yᵢ | g) = −½ log |I + S Λᵢ S| + ½ qᵢᵀ (I + S Λᵢ S)⁻¹ qᵢ + hᵢᵀ gᵢ − ½ gᵢᵀ Λᵢ gᵢ,
    qᵢ = S (hᵢ − Λᵢ gᵢ),   S = diag s.

Weights are N(0, τ²) with one τ for the linear part of each effect and one for what the hidden layer adds to it; B and c
are N(0, 1). The τ maximise the evidence by MacKay's fixed point τ² = |w|² / (γ + 2), γ the number of weights that the
data determine and 2 from the prior of τ; with few patients, or covariates that say nothing, they go to 0 and the
network with them. Nothing, a line and a line with a hidden layer are compared by their evidence; more has to win by 2.

References
----------
MacKay DJC (1992), doi:10.1162/neco.1992.4.3.448 (networks), doi:10.1162/neco.1992.4.3.415 (evidence).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import optimize

from trialtwin.core.backend import enable_float64

enable_float64()

HIDDEN = 4
ROUNDS = 15
MOST = 60  # iterations for the weights in a round: the next round goes on from there
DOUBT = 1.0  # shape of the Gamma prior of 1/τ², of rate 0: what says little is rather switched off
START = 0.3  # τ at first: a covariate of one SD moves an effect by 0.3 SD
CLOSE = 0.05  # change of log τ that ends the search
MARGIN = 2.0  # log evidence by which more has to be better than less: there are more ways to find it by chance
STARTS = 3  # of the search for a hidden layer
ENOUGH = 50  # patients below whom a hidden layer is not looked for: it has never paid
LEAST = 1e-4  # τ below which weights are 0 to any purpose
FLOOR = 0.05  # of what remains of an effect's variance


class Messages(NamedTuple):
    """What each patient's measurements say of the effects: information Λ, and score h at 0, to second order."""

    information: Float[Array, "patient effect effect"]
    score: Float[Array, "patient effect"]


class Weights(NamedTuple):
    """The network's weights: linear, hidden to effect, covariates to hidden, and its constants."""

    linear: Float[Array, "effect column"]
    outer: Float[Array, "effect hidden"]
    inner: Float[Array, "hidden column"]
    constant: Float[Array, " hidden"]


class Network(eqx.Module):
    """A fitted network with the Laplace covariance of its weights and the variance s² that it leaves."""

    linear: Float[np.ndarray, "effect column"]
    outer: Float[np.ndarray, "effect hidden"]
    inner: Float[np.ndarray, "hidden column"]
    constant: Float[np.ndarray, " hidden"]
    covariance: Float[np.ndarray, "weight weight"]
    left: Float[np.ndarray, " effect"]
    tau: Float[np.ndarray, "part effect"]
    determined: Float[np.ndarray, "part effect"]

    def shift(self, x: Float[np.ndarray, "*patient column"]) -> Float[np.ndarray, "*patient effect"]:
        """Return g(x)."""
        hidden = np.tanh(x @ self.inner.T + self.constant) - np.tanh(self.constant)
        return x @ self.linear.T + hidden @ self.outer.T

    def slope(self, x: Float[np.ndarray, "patient column"]) -> Float[np.ndarray, "patient effect column"]:
        """Return the derivative of g with respect to x."""
        steep = 1.0 - np.tanh(x @ self.inner.T + self.constant) ** 2
        return self.linear + np.einsum("kh,nh,hc->nkc", self.outer, steep, self.inner)

    def doubt(self, x: Float[np.ndarray, "patient column"]) -> Float[np.ndarray, "patient effect"]:
        """Return the posterior variance of g(x), to first order in the weights."""
        n, (effects, columns) = len(x), self.linear.shape
        inside = x @ self.inner.T + self.constant
        hidden, steep = np.tanh(inside) - np.tanh(self.constant), 1.0 - np.tanh(inside) ** 2
        unit = np.eye(effects)
        by_inner = self.outer[None, :, :] * steep[:, None, :]
        rows = [
            np.einsum("kj,nc->nkjc", unit, x).reshape(n, effects, effects * columns),
            np.einsum("kj,nh->nkjh", unit, hidden).reshape(n, effects, effects * HIDDEN),
            np.einsum("nkh,nc->nkhc", by_inner, x).reshape(n, effects, HIDDEN * columns),
            by_inner - self.outer * (1.0 - np.tanh(self.constant) ** 2),
        ]
        by_weight = np.concatenate(rows, axis=2)
        return np.einsum("nkw,nkw->nk", by_weight @ self.covariance, by_weight)


def learn_network(messages: Messages, x: Float[np.ndarray, "patient column"], *, seed: int = 3) -> Network:
    """Fit the network to what patients' measurements say, by evidence; the same data give the same network.

    Parameters
    ----------
    messages
        Of the first effects of a patient, the others integrated out.
    x
        Standardised covariates, missing ones 0.
    """
    effects, columns = messages.score.shape[1], x.shape[1]
    nothing = np.zeros(effects * (columns + HIDDEN) + HIDDEN * (columns + 1))
    off = np.full(effects, LEAST)
    best = _Settled(nothing, np.zeros((len(nothing),) * 2), np.stack([off, off]), np.zeros((2, effects)), 0.0)
    straight = _settle(nothing, np.stack([np.full(effects, START), off]), messages, x)
    best = straight if straight.evidence > best.evidence + MARGIN else best
    outer = slice(effects * columns, effects * (columns + HIDDEN))
    for start in range(STARTS if len(x) >= ENOUGH else 0):
        rng = np.random.default_rng([seed, start])
        flat = straight.flat.copy()
        flat[outer.start :] = rng.normal(size=len(flat) - outer.start) / np.sqrt(max(columns, 1))
        flat[outer] = 0.1 * rng.normal(size=effects * HIDDEN)
        bent = _settle(flat, np.full((2, effects), START), messages, x)
        best = bent if bent.evidence > max(best.evidence, straight.evidence + MARGIN) else best
    weights = _whole(jnp.asarray(best.flat), effects, columns)
    shift = _network(weights, jnp.asarray(x))
    left, scale = np.asarray(_left(_scale(shift) * shift)), np.asarray(_scale(shift))
    linear, up, inner, constant = (np.asarray(a) for a in weights)
    each = np.concatenate([np.repeat(scale, columns), np.repeat(scale, HIDDEN), np.ones(HIDDEN * (columns + 1))])
    covariance = best.covariance * np.outer(each, each)
    return Network(
        scale[:, None] * linear, scale[:, None] * up, inner, constant, covariance, left, best.tau, best.determined
    )


class _Settled(NamedTuple):
    """Weights at the τ of highest evidence, their covariance, and the log evidence."""

    flat: Float[np.ndarray, " weight"]
    covariance: Float[np.ndarray, "weight weight"]
    tau: Float[np.ndarray, "part effect"]
    determined: Float[np.ndarray, "part effect"]
    evidence: float


def _settle(
    flat: Float[np.ndarray, " weight"],
    tau: Float[np.ndarray, "part effect"],
    messages: Messages,
    x: Float[np.ndarray, "patient column"],
) -> _Settled:
    """Alternate between weights and their τ; parts that begin switched off stay so."""
    effects, columns = messages.score.shape[1], x.shape[1]
    off = tau <= LEAST
    for _ in range(ROUNDS):
        precision = _precisions(tau, columns)
        flat, height = _maximise(flat, precision, messages, x)
        information = np.asarray(_curvature(jnp.asarray(flat), jnp.asarray(x), messages))
        inverse = _positive(information) + np.diag(precision)
        covariance = np.linalg.inv(inverse)
        evidence = height + 0.5 * np.log(precision).sum() - 0.5 * float(np.linalg.slogdet(inverse)[1])
        found, determined = _next_tau(flat, covariance, precision, tau, effects, columns)
        found = np.where(off, tau, found)
        settled = _Settled(flat, covariance, tau, determined, evidence)
        if np.abs(np.log(found / tau)).max(initial=0.0) < CLOSE:
            break
        tau = found
    return settled


def _network(weights: Weights, x: Float[Array, "*patient column"]) -> Float[Array, "*patient effect"]:
    hidden = jnp.tanh(x @ weights.inner.T + weights.constant) - jnp.tanh(weights.constant)
    return x @ weights.linear.T + hidden @ weights.outer.T


def _scale(shift: Float[Array, "patient effect"]) -> Float[Array, " effect"]:
    """Return what shifts are multiplied by, so that they vary no more than the effect itself: 1 where they do not."""
    most = 1.0 - FLOOR
    return jnp.sqrt(most / jnp.maximum(jnp.mean(shift**2, axis=0), most))


def _left(shift: Float[Array, "patient effect"]) -> Float[Array, " effect"]:
    """Return the variance of each effect that the network does not explain."""
    return jnp.maximum(1.0 - jnp.mean(shift**2, axis=0), FLOOR)


def _whole(flat: Array, effects: int, columns: int) -> Weights:
    shapes = ((effects, columns), (effects, HIDDEN), (HIDDEN, columns), (HIDDEN,))
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return Weights(*(part.reshape(shape) for part, shape in zip(jnp.split(flat, ends), shapes, strict=True)))


def _precisions(tau: Float[np.ndarray, "part effect"], columns: int) -> Float[np.ndarray, " weight"]:
    """Return the prior precision of each weight."""
    linear, outer = 1.0 / tau**2
    return np.concatenate([np.repeat(linear, columns), np.repeat(outer, HIDDEN), np.ones(HIDDEN * (columns + 1))])


def _next_tau(
    flat: Float[np.ndarray, " weight"],
    covariance: Float[np.ndarray, "weight weight"],
    precision: Float[np.ndarray, " weight"],
    tau: Float[np.ndarray, "part effect"],
    effects: int,
    columns: int,
) -> tuple[Float[np.ndarray, "part effect"], Float[np.ndarray, "part effect"]]:
    """Return MacKay's next τ, and how many weights of each part the data determine."""
    share = np.clip(1.0 - precision * np.diag(covariance), 0.0, 1.0)
    found, determined = tau.copy(), np.zeros_like(tau)
    ends = (effects * columns, effects * (columns + HIDDEN))
    for part, (first, last) in enumerate(((0, ends[0]), ends)):
        squares = (flat[first:last] ** 2).reshape(effects, -1).sum(axis=1)
        determined[part] = share[first:last].reshape(effects, -1).sum(axis=1)
        found[part] = np.sqrt(squares / (determined[part] + 2 * DOUBT))
    return np.clip(found, LEAST, 1.0), determined


def log_likelihood(flat: Array, x: Array, messages: Messages) -> Float[Array, ""]:
    """Return log p(y | g) up to a constant, effects integrated out."""
    effects, columns = messages.score.shape[1], x.shape[1]
    shift = _network(_whole(flat, effects, columns), x)
    shift = _scale(shift) * shift
    root = jnp.sqrt(_left(shift))

    def patient(g: Array, information: Array, score: Array) -> Array:
        inside = jnp.eye(effects) + root[:, None] * information * root
        log_root, square = _whitened(inside, root * (score - information @ g))
        return -log_root + 0.5 * square + score @ g - 0.5 * g @ information @ g

    return jax.vmap(patient)(shift, messages.information, messages.score).sum()


def _whitened(matrix: Float[Array, "effect effect"], vector: Float[Array, " effect"]) -> tuple[Array, Array]:
    """Return ½ log |M| and vᵀ M⁻¹ v, by a Cholesky factor written out in scalars, which fuse over patients.

    Library routines for many small matrices take a hundred times as long.
    """
    n = len(vector)
    rows: list[list[Array]] = []
    solved: list[Array] = []
    log_root, square = jnp.zeros(()), jnp.zeros(())
    for i in range(n):
        row: list[Array] = []
        for j in range(i):
            row.append((matrix[i, j] - sum(row[k] * rows[j][k] for k in range(j))) / rows[j][j])
        diagonal = jnp.sqrt(matrix[i, i] - sum(one**2 for one in row))
        solved.append((vector[i] - sum(one * y for one, y in zip(row, solved, strict=True))) / diagonal)
        rows.append([*row, diagonal])
        log_root, square = log_root + jnp.log(diagonal), square + solved[i] ** 2
    return log_root, square


@jax.jit
def _value(flat: Array, precision: Array, x: Array, messages: Messages) -> tuple[Array, Array]:
    def objective(w: Array) -> Array:
        return -log_likelihood(w, x, messages) + 0.5 * jnp.sum(precision * w**2)

    return jax.value_and_grad(objective)(flat)


@jax.jit
def _curvature(flat: Array, x: Array, messages: Messages) -> Float[Array, "weight weight"]:
    return -jax.hessian(log_likelihood)(flat, x, messages)


def _maximise(
    flat: Float[np.ndarray, " weight"], precision: Float[np.ndarray, " weight"], messages: Messages, x: np.ndarray
) -> tuple[Float[np.ndarray, " weight"], float]:
    """Return the best weights and the height there, found in units of the prior's SD."""
    scale = 1.0 / np.sqrt(precision)
    given = (jnp.asarray(precision), jnp.asarray(x), messages)

    def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _value(jnp.asarray(scale * z), *given)
        return float(value), scale * np.asarray(gradient)

    found = optimize.minimize(objective, flat / scale, jac=True, method="L-BFGS-B", options={"maxiter": MOST})
    return np.asarray(scale * found.x), -float(found.fun)


def _positive(matrix: Float[np.ndarray, "weight weight"]) -> Float[np.ndarray, "weight weight"]:
    """Return the matrix without its negative curvature, where the prior is left to hold a weight."""
    eigenvalues, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.maximum(eigenvalues, 0.0)) @ vectors.T
