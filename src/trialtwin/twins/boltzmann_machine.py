r"""The conditional neural Boltzmann machine: its networks, its exact density, and what a history says.

Visible units are the standardised measurements y of a patient with covariates x, r = y − μ(x), on the grid of visits:

    E(y | x) = ½ rᵀ P(x) r − Σ_j log cosh(W_j(x)ᵀ r + b_j),        p(y | x) ∝ exp(−E)

(with b = 0 the machine of Fisher CK et al. (2023), arXiv:2305.08337, and Walsh JR et al. (2020), arXiv:2012.13455).
Here P⁻¹ = D + F Fᵀ: D is diagonal, the columns of F stand for normal hidden units z, which carry that a patient is high
or steep throughout; P is diagonal without them. With hidden units h ∈ {−1, 1}^H made visible again,

    y | h, x ~ N(μ + C h, P⁻¹),   C = P⁻¹ W,        π(h | x) ∝ exp(½ hᵀ Cᵀ P C h + bᵀ h)

so that y is a mixture of 2^H normals, and likelihood, missing values and conditioning are exact for small H. μ, log D,
F and C are functions of time as well as of x, so that a visit between the grid's has the same law given (z, h), and a
visit that did not take place is left out. π is that of the grid. A binary outcome is a Bernoulli visible unit with
logit μ + C h, and adds Σ log(1 + exp(μ + C h)) over the grid to log π.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.twins.panel import Frame, Panel, time_terms

LOG_2_PI = float(np.log(2 * np.pi))


class Net(eqx.Module):
    """Weights of all networks: u(x) = tanh(x A + a) − tanh(a), then linear heads; x enters μ linearly too.

    Heads end in (outcome, term); ``factor`` and ``shift`` also in a hidden unit. A leading ``1 + …`` is the constant.
    """

    inner: Float[Array, "*m column width"]
    offset: Float[Array, "*m width"]
    linear: Float[Array, "*m column outcome term"]
    mean: Float[Array, "*m 1+width outcome term"]
    noise: Float[Array, "*m 1+width outcome term"]
    factor: Float[Array, "*m 1+width outcome term normal"]
    shift: Float[Array, "*m 1+width outcome term hidden"]
    bias: Float[Array, "*m hidden"]


class Constants(NamedTuple):
    """What networks do not learn: φ on the grid, the 2^H states of the hidden units, and which outcomes are binary."""

    grid: Float[Array, "knot term"]
    signs: Float[Array, "state hidden"]
    binary: Float[Array, " outcome"]


class Law(NamedTuple):
    """Functions of one patient at some times: mean μ, noise SD √D, loadings F of z and shifts C of h."""

    mean: Float[Array, "*b time outcome"]
    noise: Float[Array, "*b time outcome"]
    factor: Float[Array, "*b time outcome normal"]
    shift: Float[Array, "*b time outcome hidden"]


class Known(NamedTuple):
    """What one patient's measurements say: log p(y, h) of each state, and z | h, y ~ N(location + slope h, spread).

    ``root`` is the lower Cholesky factor of the precision of z.
    """

    log_joint: Float[Array, "*b state"]
    location: Float[Array, "*b normal"]
    slope: Float[Array, "*b normal hidden"]
    root: Float[Array, "*b normal normal"]


def constants_of(frame: Frame, hidden: int) -> Constants:
    """Return the constants of a machine with ``hidden`` binary hidden units."""
    codes = (np.arange(2**hidden)[:, None] >> np.arange(hidden)) & 1
    grid = time_terms(frame, frame.knots)
    return Constants(*map(jnp.asarray, (grid, 2.0 * codes - 1.0, np.array(frame.binary, dtype=float))))


def start_net(key: Array, columns: int, outcomes: int, terms: int, *, normal: int, hidden: int, width: int) -> Net:
    """Return where training begins: normal hidden units carry each outcome's level and slope, all else is near 0."""
    keys = jax.random.split(key, 4)
    k = min(terms, 2)
    factor = 0.05 * jax.random.normal(keys[1], (1 + width, outcomes, terms, normal)).at[1:].set(0.0)
    for j in range(min(normal, k * outcomes)):
        factor = factor.at[0, j % outcomes, j // outcomes, j].add(0.7 if j < outcomes else 0.2)
    heads = jnp.zeros((1 + width, outcomes, terms))
    return Net(
        inner=jax.random.normal(keys[0], (columns, width)) / np.sqrt(max(columns, 1)),
        offset=0.5 * jax.random.normal(keys[3], (width,)),
        linear=jnp.zeros((columns, outcomes, terms)),
        mean=heads,
        noise=heads.at[0, :, 0].set(-0.7),
        factor=factor,
        shift=jnp.zeros((1 + width, outcomes, terms, hidden))
        .at[0]
        .set(0.15 * jax.random.normal(keys[2], (outcomes, terms, hidden))),
        bias=jnp.zeros(hidden),
    )


def law(net: Net, x: Float[Array, " column"], phi: Float[Array, "time term"]) -> Law:
    """Return a patient's functions at times whose terms are ``phi``."""
    u = jnp.concatenate([jnp.ones(1), jnp.tanh(x @ net.inner + net.offset) - jnp.tanh(net.offset)])
    mean = jnp.einsum("p,pqk->qk", x, net.linear) + jnp.einsum("p,pqk->qk", u, net.mean)
    noise = jnp.einsum("p,pqk->qk", u, net.noise)
    factor = jnp.einsum("p,pqkr->qkr", u, net.factor)
    shift = jnp.einsum("p,pqkh->qkh", u, net.shift)
    return Law(
        jnp.einsum("tk,qk->tq", phi, mean),
        # between a hundredth of an SD and e² of them, in which a clip keeps a far x from overflow
        jnp.exp(jnp.clip(jnp.einsum("tk,qk->tq", phi, noise), -4.6, 2.0)),
        jnp.einsum("tk,qkr->tqr", phi, factor),
        jnp.einsum("tk,qkh->tqh", phi, shift),
    )


def log_prior(net: Net, x: Float[Array, " column"], constants: Constants) -> Float[Array, " state"]:
    """Return log π(h | x) of all states."""
    scores = prior_scores(law(net, x, constants.grid), net.bias, constants, constants.signs)
    return jax.nn.log_softmax(scores)


def prior_scores(
    on_grid: Law, bias: Array, constants: Constants, signs: Float[Array, "state hidden"]
) -> Float[Array, " state"]:
    """Return log π(h | x) up to a constant."""
    numeric = jnp.broadcast_to(1 - constants.binary, on_grid.mean.shape)
    bent = schur(on_grid, jnp.zeros_like(on_grid.mean), numeric)[0]
    hidden = signs.shape[-1]
    pairs = 0.5 * jnp.einsum("sh,hg,sg->s", signs, bent[:hidden, :hidden], signs)
    logits = on_grid.mean[..., None] + jnp.einsum("tqh,sh->tqs", on_grid.shift, signs)
    free = jnp.einsum("tqs,q->s", jax.nn.softplus(logits), constants.binary)
    return pairs + signs @ bias + free


def schur(at: Law, residual: Float[Array, "time outcome"], weight: Float[Array, "time outcome"]) -> tuple[Array, ...]:
    """Return [C r]ᵀ P [C r] of the coordinates with weight 1, A⁻¹ Fᵀ D⁻¹ [C r], A's root and log|P⁻¹| + log|…|.

    A = I + Fᵀ D⁻¹ F is the precision of z given those coordinates, and P = (D + F Fᵀ)⁻¹ by Woodbury's identity.
    """
    normal = at.factor.shape[-1]
    columns = jnp.concatenate([at.factor, at.shift, residual[..., None]], axis=-1).reshape(residual.size, -1)
    precise = (weight / at.noise**2).reshape(-1, 1)
    inner = columns.T @ (precise * columns)
    root = jnp.linalg.cholesky(inner[:normal, :normal] + jnp.eye(normal))
    cross = inner[:normal, normal:]
    solved = jax.scipy.linalg.cho_solve((root, True), cross)
    log_det = 2 * jnp.sum(weight * jnp.log(at.noise)) + 2 * jnp.sum(jnp.log(jnp.diag(root)))
    return inner[normal:, normal:] - cross.T @ solved, solved, root, log_det


def condition(
    net: Net,
    constants: Constants,
    x: Float[Array, " column"],
    phi: Float[Array, "visit term"],
    values: Float[Array, "visit outcome"],
    weight: Float[Array, "visit outcome"],
) -> Known:
    """Return what one patient's measurements say of z and h; exact, whatever is missing."""
    at = law(net, x, phi)
    numeric = weight * (1 - constants.binary)
    bent, solved, root, log_det = schur(at, values - at.mean, numeric)
    hidden = constants.signs.shape[-1]
    normal_part = -0.5 * (bent[hidden, hidden] + log_det + numeric.sum() * LOG_2_PI)
    linear = constants.signs @ bent[:hidden, hidden]
    pairs = 0.5 * jnp.einsum("sh,hg,sg->s", constants.signs, bent[:hidden, :hidden], constants.signs)
    logits = at.mean[..., None] + jnp.einsum("tqh,sh->tqs", at.shift, constants.signs)
    bernoulli = values[..., None] * logits - jax.nn.softplus(logits)
    coin = jnp.einsum("tqs,tq->s", bernoulli, weight * constants.binary)
    joint = log_prior(net, x, constants) + normal_part + linear - pairs + coin
    return Known(joint, solved[:, hidden], -solved[:, :hidden], root)


def log_density(net: Net, constants: Constants, panel: Panel) -> Float[Array, " patient"]:
    """Return log p(y | x) of each patient's measurements, by enumeration of the hidden units."""

    def one(row: Panel) -> Array:
        return jax.nn.logsumexp(condition(net, constants, row.x, row.phi, row.values, row.weight).log_joint)

    return jax.vmap(one)(panel)


def penalty(net: Net, constants: Constants) -> Float[Array, ""]:
    """Return minus the log prior of the weights, up to a constant: normal, on standardised data, see ``PRIORS``."""
    columns, width = net.inner.shape
    small = 1 / np.sqrt(width)
    noise = net.noise.at[0, :, 0].add(-NOISE_PRIOR[0])
    terms = (
        _normal(net.inner, 1 / np.sqrt(max(columns, 1))),
        _normal(net.offset, 1.0),
        _normal(net.linear, min(0.3, 1 / np.sqrt(max(columns, 1)))),
        _normal(net.mean[0], 1.0) + _normal(net.mean[1:], 0.5 * small),
        _normal(noise[0, :, :1], NOISE_PRIOR[1]) + _normal(noise[0, :, 1:], 0.3) + _normal(noise[1:], 0.3 * small),
        _normal(net.factor[0], 0.7) + _normal(net.factor[1:], 0.2 * small),
        _normal(net.shift[0], 0.5) + _normal(net.shift[1:], 0.2 * small),
        _normal(net.bias, 0.5),
    )
    del constants
    return sum(terms, jnp.zeros(()))


NOISE_PRIOR = (-1.0, 1.0)  # of log residual SD: mean and SD
PRIORS = (
    "log residual SD N(-1, 1²); constant parts of μ N(0, 1²), F N(0, 0.7²), C N(0, 0.5²), b N(0, 0.5²); linear effects "
    "of p covariates N(0, min(0.3, 1/√p)²); what the hidden layer adds to μ N(0, 0.5²), to log D N(0, 0.3²), "
    "to F and C N(0, 0.2²)"
)


def _normal(weights: Array, sd: float) -> Array:
    return 0.5 * jnp.sum((weights / sd) ** 2)
