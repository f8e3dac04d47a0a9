"""Gibbs sampling of the neural Boltzmann machine, and its training by contrastive divergence.

The gradient of minus the log density is that of the complete energy, averaged over the hidden units given the
measurements, less that of log π̃(h) averaged over the machine,

    −∇ log p(y | x) = −E[∇ log p(y | h) + ∇ log π̃(h) | y] + E_π[∇ log π̃(h)]

Measurements that are missing are integrated out, as p(y | h) is normal in those that are there. Both averages are
estimated by Gibbs sampling. The first chain turns one hidden unit at a time given the rest and the measurements. The
second starts where the first ends and makes ``STEPS`` sweeps of the whole grid given h, and of h given the grid:
contrastive divergence, Hinton GE (2002), doi:10.1162/089976602760128018.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.twins.boltzmann_machine import (
    LOG_2_PI,
    Constants,
    Law,
    Net,
    law,
    prior_scores,
    schur,
)
from trialtwin.twins.panel import Panel

WARM = 6  # sweeps of the hidden units given the measurements
STEPS = 3  # sweeps of the machine: CD-3
CHAINS = 4


def contrastive_loss(net: Net, panel: Panel, share: Array, key: Array, constants: Constants) -> Array:
    """Return a loss whose gradient is that of contrastive divergence; its value is not minus the log density."""

    def one(row: Panel, key: Array) -> Array:
        def chain(key: Array) -> Array:
            first, second = sample_phases(jax.lax.stop_gradient(net), row, key, constants)
            return phase_loss(net, row, constants, first, second)

        return jax.vmap(chain)(jax.random.split(key, CHAINS)).mean()

    return jnp.sum(share * jax.vmap(one)(panel, jax.random.split(key, len(panel.x))))


def phase_loss(
    net: Net, row: Panel, constants: Constants, first: Float[Array, " hidden"], second: Float[Array, " hidden"]
) -> Float[Array, ""]:
    """Return log π̃(second) − log π̃(first) − log p(y | first), whose gradient is sought on average over the phases."""
    on_grid = law(net, row.x, constants.grid)
    prior = prior_scores(on_grid, net.bias, constants, jnp.stack([first, second]))
    return prior[1] - prior[0] - log_complete(net, row, constants, first)


def log_complete(net: Net, row: Panel, constants: Constants, h: Float[Array, " hidden"]) -> Float[Array, ""]:
    """Return log p(y | h, x) of one patient's measurements."""
    at = law(net, row.x, row.phi)
    centre = at.mean + at.shift @ h
    numeric = row.weight * (1 - constants.binary)
    bent, _, _, log_det = schur(at, row.values - centre, numeric)
    coin = row.weight * constants.binary * (row.values * centre - jax.nn.softplus(centre))
    return -0.5 * (bent[-1, -1] + log_det + numeric.sum() * LOG_2_PI) + coin.sum()


def sample_phases(
    net: Net, row: Panel, key: Array, constants: Constants, *, warm: int = WARM, steps: int = STEPS
) -> tuple[Float[Array, " hidden"], Float[Array, " hidden"]]:
    """Return hidden units given one patient's measurements, and after ``steps`` sweeps of the machine from there."""
    start_key, first_key, second_key = jax.random.split(key, 3)
    on_grid = law(net, row.x, constants.grid)
    start = jax.random.rademacher(start_key, net.bias.shape).astype(float)
    score = _posterior_score(net, row, constants, on_grid)

    def turn(h: Array, key: Array) -> tuple[Array, None]:
        level = jax.random.uniform(key, h.shape)
        for j in range(len(h)):
            up = score(h.at[j].set(1.0)) - score(h.at[j].set(-1.0))
            h = h.at[j].set(jnp.where(level[j] < jax.nn.sigmoid(up), 1.0, -1.0))
        return h, None

    def sweep(h: Array, key: Array) -> tuple[Array, None]:
        visible_key, hidden_key = jax.random.split(key)
        values = grid_given_hidden(on_grid, constants, h, visible_key)
        return hidden_given_grid(on_grid, net.bias, constants, values, hidden_key), None

    first, _ = jax.lax.scan(turn, start, jax.random.split(first_key, warm))
    second, _ = jax.lax.scan(sweep, first, jax.random.split(second_key, steps))
    return first, second


def _posterior_score(net: Net, row: Panel, constants: Constants, on_grid: Law) -> Callable[[Array], Array]:
    """Return log π̃(h) + log p(y | h) up to a constant, as a function of h that costs no more matrix products."""
    at, hidden = law(net, row.x, row.phi), len(net.bias)
    numeric = row.weight * (1 - constants.binary)
    bent = schur(at, row.values - at.mean, numeric)[0]
    whole = schur(on_grid, jnp.zeros_like(on_grid.mean), jnp.broadcast_to(1 - constants.binary, on_grid.mean.shape))[0]
    pairs = whole[:hidden, :hidden] - bent[:hidden, :hidden]
    field = bent[:hidden, hidden] + net.bias
    coins = row.weight * constants.binary

    def score(h: Array) -> Array:
        logits, free = at.mean + at.shift @ h, on_grid.mean + on_grid.shift @ h
        coin = jnp.sum(coins * (row.values * logits - jax.nn.softplus(logits)))
        return 0.5 * h @ pairs @ h + field @ h + coin + jnp.sum(constants.binary * jax.nn.softplus(free))

    return score


def grid_given_hidden(
    on_grid: Law, constants: Constants, h: Float[Array, " hidden"], key: Array
) -> Float[Array, "knot outcome"]:
    """Draw all visible units on the grid given the hidden ones."""
    normal_key, noise_key, coin_key = jax.random.split(key, 3)
    centre = on_grid.mean + on_grid.shift @ h
    z = jax.random.normal(normal_key, on_grid.factor.shape[-1:])
    number = centre + on_grid.factor @ z + on_grid.noise * jax.random.normal(noise_key, centre.shape)
    flipped = (jax.random.uniform(coin_key, centre.shape) < jax.nn.sigmoid(centre)).astype(float)
    return jnp.where(constants.binary > 0, flipped, number)


def hidden_given_grid(
    on_grid: Law, bias: Array, constants: Constants, values: Float[Array, "knot outcome"], key: Array
) -> Float[Array, " hidden"]:
    """Draw the hidden units given all visible ones, which makes them independent: tanh(Wᵀ r + b) is their mean.

    A binary visible unit y adds C y to the field instead of W r.
    """
    numeric = jnp.broadcast_to(1 - constants.binary, values.shape)
    bent = schur(on_grid, values - on_grid.mean, numeric)[0]
    hidden = len(bias)
    coin = jnp.einsum("tqh,tq,q->h", on_grid.shift, values, constants.binary)
    field = bent[:hidden, hidden] + coin + bias
    return jnp.where(jax.random.uniform(key, bias.shape) < jax.nn.sigmoid(2 * field), 1.0, -1.0)
