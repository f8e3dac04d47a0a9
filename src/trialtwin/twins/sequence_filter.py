r"""A latent state that moves between irregular visits and is corrected at each: networks, filter, smoother and sampler.

For a patient with covariates x, at s = t / horizon, with standardised outcomes y,

    y(s) = μ(x, s) + C(x) z(s) + ε,   ε ~ N(0, D(x, s)),   D diagonal
    dz_j = −λ_j τ(x) z_j ds + √(q_j τ(x)) dW_j,   z_j(0) ~ N(0, p_j)

so that over a gap Δ the state is multiplied by e^(−λτΔ) and gains the variance q (1 − e^(−2λτΔ)) / (2λ). μ, log D, C
and the tempo τ are networks of x; a rate λ < 0 spreads patients out. Filter, smoother and draws are exact for any gaps
and whatever is missing, and cost time linear in the number of visits. Measurements of one visit enter one after the
other, which their independent errors allow, so that nothing is inverted.

Sources: continuous recurrent units, Schirmer M et al. (2022), arXiv:2111.11344; backward sampling, Frühwirth-Schnatter
S (1994), doi:10.1111/j.1467-9892.1994.tb00184.x; smoother, Rauch HE et al. (1965), doi:10.2514/3.3166.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.twins.boltzmann_machine import LOG_2_PI, NOISE_PRIOR
from trialtwin.twins.panel import Panel

JITTER = 1e-10
RATE_PRIOR = (0.5, 1.0)  # of λ, a horizon: mean and SD
START_PRIOR = (-1.0, 1.0)  # of log √p
DRIVE_PRIOR = (-1.5, 1.0)  # of log √q
STEEPEST = 20.0  # a rate beyond which a state is white noise between any two visits
PRIORS = (
    "log residual SD N(-1, 1²); constant parts of μ N(0, 1²), C N(0, 0.7²); linear effects of p covariates "
    "N(0, min(0.3, 1/√p)²); what the hidden layer adds to μ N(0, 0.5²), to log D N(0, 0.3²), to C N(0, 0.2²), to log τ "
    f"N(0, 0.5²); rates λ N({RATE_PRIOR[0]:g}, 1²) a horizon; log √p N({START_PRIOR[0]:g}, 1²); log √q "
    f"N({DRIVE_PRIOR[0]:g}, 1²)"
)


class Net(eqx.Module):
    """Weights of all networks: u(x) = tanh(x A + a) − tanh(a), then linear heads; x enters μ linearly too.

    A leading ``1 + …`` is the constant.
    """

    inner: Float[Array, "*m column width"]
    offset: Float[Array, "*m width"]
    linear: Float[Array, "*m column outcome term"]
    mean: Float[Array, "*m 1+width outcome term"]
    noise: Float[Array, "*m 1+width outcome term"]
    loading: Float[Array, "*m 1+width outcome state"]
    tempo: Float[Array, "*m width"]
    rate: Float[Array, "*m state"]
    start: Float[Array, "*m state"]
    drive: Float[Array, "*m state"]


class Law(NamedTuple):
    """Functions of one patient at some times: mean μ, noise SD √D, and what is the same at all: C, λτ, p, q/λ."""

    mean: Float[Array, "*b time outcome"]
    noise: Float[Array, "*b time outcome"]
    loading: Float[Array, "*b outcome state"]
    rate: Float[Array, "*b state"]
    start: Float[Array, "*b state"]
    drive: Float[Array, "*b state"]


class Filtered(NamedTuple):
    """The state at each time: foretold from all earlier measurements, and corrected by those of that time.

    ``decay`` is what the state is multiplied by from the time before.
    """

    decay: Float[Array, "time state"]
    foretold: Float[Array, "time state"]
    foretold_spread: Float[Array, "time state state"]
    corrected: Float[Array, "time state"]
    spread: Float[Array, "time state state"]


def start_net(key: Array, columns: int, outcomes: int, terms: int, *, states: int, width: int) -> Net:
    """Return where training begins: states in turn carry each outcome's level, slow change and quick change."""
    keys = jax.random.split(key, 4)
    place = np.arange(states)
    kind = place // outcomes  # 0: level, 1: grows apart, then: ever quicker forgetting
    rate = np.where(kind == 0, 0.02, np.where(kind == 1, -0.7, 2.0 * np.maximum(kind - 1, 1)))
    loading = 0.05 * jax.random.normal(keys[1], (1 + width, outcomes, states)).at[1:].set(0.0)
    loading = loading.at[0, place % outcomes, place].add(np.where(kind == 0, 0.8, 0.4))
    heads = jnp.zeros((1 + width, outcomes, terms))
    return Net(
        inner=jax.random.normal(keys[0], (columns, width)) / np.sqrt(max(columns, 1)),
        offset=0.5 * jax.random.normal(keys[2], (width,)),
        linear=jnp.zeros((columns, outcomes, terms)),
        mean=heads,
        noise=heads.at[0, :, 0].set(-0.7),
        loading=loading,
        tempo=jnp.zeros(width),
        rate=jnp.asarray(rate) + 0.1 * jax.random.normal(keys[3], (states,)),
        start=jnp.full(states, START_PRIOR[0]).at[: min(outcomes, states)].set(0.0),
        drive=jnp.full(states, DRIVE_PRIOR[0]),
    )


def law(net: Net, x: Float[Array, " column"], phi: Float[Array, "time term"]) -> Law:
    """Return a patient's functions at times whose terms are ``phi``."""
    u = jnp.tanh(x @ net.inner + net.offset) - jnp.tanh(net.offset)
    tempo = jnp.exp(jnp.clip(u @ net.tempo, -2.0, 2.0))
    u = jnp.concatenate([jnp.ones(1), u])
    mean = jnp.einsum("p,pqk->qk", x, net.linear) + jnp.einsum("p,pqk->qk", u, net.mean)
    noise = jnp.einsum("p,pqk->qk", u, net.noise)
    return Law(
        jnp.einsum("tk,qk->tq", phi, mean),
        # between a hundredth of an SD and e² of them, in which a clip keeps a far x from overflow
        jnp.exp(jnp.clip(jnp.einsum("tk,qk->tq", phi, noise), -4.6, 2.0)),
        jnp.einsum("p,pqs->qs", u, net.loading),
        tempo * jnp.clip(net.rate, -2.0, STEEPEST),
        jnp.exp(2 * net.start),
        tempo * jnp.exp(2 * net.drive),
    )


def filtered(
    at: Law, times: Float[Array, " time"], values: Float[Array, "time outcome"], weight: Float[Array, "time outcome"]
) -> tuple[Filtered, Float[Array, ""]]:
    """Return the state at each of some times in ascending order, and the log density of what was measured."""
    gaps = jnp.diff(times, prepend=jnp.minimum(0.0, times[:1]))[:, None]
    decay = jnp.exp(-at.rate * gaps)
    gain = at.drive * gaps * _shrink(2 * at.rate * gaps)
    residual = values - at.mean

    def visit(carry: tuple[Array, Array], step: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        decay, gain, residual, noise, weight = step
        location = decay * carry[0]
        spread = decay[:, None] * carry[1] * decay + jnp.diag(gain)
        foretold = (location, spread)
        log_density = jnp.zeros(())
        for k in range(len(residual)):
            loading = at.loading[k] * weight[k]
            reach = spread @ loading
            variance = loading @ reach + noise[k] ** 2
            surprise = weight[k] * residual[k] - loading @ location
            location = location + reach * surprise / variance
            spread = spread - jnp.outer(reach, reach) / variance
            log_density -= 0.5 * weight[k] * (surprise**2 / variance + jnp.log(variance) + LOG_2_PI)
        return (location, spread), (*foretold, location, spread, log_density)

    states = at.loading.shape[1]
    begin = (jnp.zeros(states), jnp.diag(at.start))
    _, found = jax.lax.scan(visit, begin, (decay, gain, residual, at.noise, weight))
    return Filtered(decay, *found[:4]), found[4].sum()


def log_density(net: Net, panel: Panel) -> Float[Array, " patient"]:
    """Return log p(y | x) of each patient's measurements."""

    def one(row: Panel) -> Array:
        order = jnp.argsort(row.times)
        return filtered(law(net, row.x, row.phi[order]), row.times[order], row.values[order], row.weight[order])[1]

    return jax.vmap(one)(panel)


def backward(known: Filtered, white: Float[Array, "draw time state"]) -> tuple[Array, Array]:
    """Return the state expected at each time given all measurements, and draws of it: (time state), (draw time state).

    From the last time back, z_i | z_{i+1} ~ N(m_i + J (z_{i+1} − foretold_{i+1}), P_i − J Q_{i+1} Jᵀ) with the foretold
    covariance Q and J = P_i diag(decay_{i+1}) Q_{i+1}⁻¹.
    """
    small = JITTER * jnp.eye(known.decay.shape[1])
    # padded by a last step of its own, whose successor tells nothing
    decay = jnp.concatenate([known.decay[1:], jnp.zeros_like(known.decay[:1])])
    later = jnp.concatenate([known.foretold[1:], jnp.zeros_like(known.foretold[:1])])
    wide = jnp.concatenate([known.foretold_spread[1:], jnp.eye(len(small))[None]])
    cross = known.spread * decay[:, None, :]
    J = jnp.swapaxes(jnp.linalg.solve(wide + small, jnp.swapaxes(cross, 1, 2)), 1, 2)
    left = known.spread - J @ jnp.swapaxes(cross, 1, 2)
    root = jnp.linalg.cholesky(0.5 * (left + jnp.swapaxes(left, 1, 2)) + small)

    def back(carry: tuple[Array, Array], step: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        mean, drawn = carry
        J, root, corrected, later, white = step
        mean = corrected + J @ (mean - later)
        drawn = corrected + (drawn - later) @ J.T + white @ root.T
        return (mean, drawn), (mean, drawn)

    states = known.decay.shape[1]
    begin = (jnp.zeros(states), jnp.zeros((len(white), states)))
    steps = (J, root, known.corrected, later, jnp.moveaxis(white, 1, 0))
    _, (mean, drawn) = jax.lax.scan(back, begin, steps, reverse=True)
    return mean, jnp.moveaxis(drawn, 0, 1)


def penalty(net: Net) -> Float[Array, ""]:
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
        _normal(net.loading[0], 0.7) + _normal(net.loading[1:], 0.2 * small),
        _normal(net.tempo, 0.5 * small),
        _normal(net.rate - RATE_PRIOR[0], RATE_PRIOR[1]),
        _normal(net.start - START_PRIOR[0], START_PRIOR[1]),
        _normal(net.drive - DRIVE_PRIOR[0], DRIVE_PRIOR[1]),
    )
    return sum(terms, jnp.zeros(()))


def _shrink(a: Array) -> Array:
    """Return (1 − e^(−a)) / a, which is 1 at 0."""
    near = jnp.abs(a) < 1e-4
    safe = jnp.where(near, 1.0, a)
    return jnp.where(near, 1 - a / 2 + a**2 / 6, -jnp.expm1(-safe) / safe)


def _normal(weights: Array, sd: float) -> Array:
    return 0.5 * jnp.sum((weights / sd) ** 2)
