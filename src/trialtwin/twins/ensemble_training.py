"""Training of small ensembles of networks: Adam on each member's patients, stopped on those it did not learn from.

Member m of M leaves out every M-th patient of a shuffle that the key fixes. All members train at once, in one compiled
loop. A member keeps the weights of the round at which its held-out log density was best, and all stop when none has
got better for ``PATIENCE`` rounds. Deep ensembles: Lakshminarayanan B et al. (2017), arXiv:1612.01474; Adam: Kingma DP,
Ba J (2015), arXiv:1412.6980.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from trialtwin.core.errors import ConvergenceError
from trialtwin.twins.panel import Panel

type Weights = Any
type Objective = Callable[[Weights, Panel, Array, Array, Any], Array]
"""Weights, patients, weight of each patient, key, constants → mean loss a patient."""

ROUND = 25  # steps between looks at the held-out patients
PATIENCE = 8
MOST = 80  # rounds
BATCH = 256
RATE = 0.02
SETTLED = 0.02  # nats a patient that held-out patients may still gain over the last tenth of the rounds


class Trained(NamedTuple):
    """Weights with a leading member axis, held-out loss at the start and of the round kept, and rounds done."""

    weights: Weights
    first: Float[Array, " member"]
    best: Float[Array, " member"]
    recent: Float[Array, " member"]
    rounds: Int[Array, " member"]


class _State(NamedTuple):
    weights: Weights
    optimiser: Any
    best: Weights
    value: Array
    recent: Array
    since: Array
    round: Array


def split(patients: int, padded: int, members: int, key: Array) -> Bool[np.ndarray, "member padded"]:
    """Tell whom each member leaves out: every ``members``-th patient of a shuffle."""
    order = np.asarray(jax.random.permutation(key, patients))
    held = np.zeros((members, padded), dtype=bool)
    for m in range(members):
        held[m, order[m::members]] = True
    return held


def train(
    objective: Objective,
    judge: Objective,
    penalty: Callable[[Weights, Any], Array],
    start: Weights,
    panel: Panel,
    patients: int,
    constants: Any,
    key: Array,
    *,
    rate: float = RATE,
) -> Trained:
    """Train every member by ``objective`` and ``penalty``, and stop it by ``judge`` of its held-out patients.

    ``start`` has a leading member axis; ``panel`` is padded beyond ``patients``.

    Raises
    ------
    ConvergenceError
        If a loss is not finite, or held-out patients were still gaining when the rounds were used up.
    """
    members = len(jax.tree.leaves(start)[0])
    split_key, train_key = jax.random.split(key)
    held = jnp.asarray(split(patients, len(panel.x), members, split_key))
    real = jnp.arange(len(panel.x)) < patients
    measured = (panel.weight.sum(axis=(1, 2)) > 0) & real
    keys = jax.random.split(train_key, members)
    trained = _train(objective, judge, penalty, start, panel, held & measured, ~held & measured, constants, keys, rate)
    best, recent, rounds = (np.asarray(a) for a in (trained.best, trained.recent, trained.rounds))
    if not np.isfinite(best).all():
        raise ConvergenceError(
            "the loss of held-out patients is not finite",
            where=f"members {np.flatnonzero(~np.isfinite(best)).tolist()} of {members}",
            do="look for measurements or covariates far from all others",
        )
    if (rounds >= MOST).all() and (recent - best > SETTLED).all():
        raise ConvergenceError(
            f"held-out patients still gained {np.min(recent - best):.3f} nats over the last {MOST // 10} rounds",
            where=f"{MOST * ROUND} steps of Adam",
            do="raise the rate of learning",
        )
    return trained


@partial(jax.jit, static_argnums=(0, 1, 2))
def _train(
    objective: Objective,
    judge: Objective,
    penalty: Callable[[Weights, Any], Array],
    start: Weights,
    panel: Panel,
    held: Bool[Array, "member padded"],
    kept: Bool[Array, "member padded"],
    constants: Any,
    keys: Array,
    rate: float | Array,
) -> Trained:
    """Train all members in one loop."""

    def one(weights: Weights, out: Array, within: Array, key: Array) -> Trained:
        return _train_member(objective, judge, penalty, weights, panel, out, within, constants, key, rate)

    return jax.vmap(one)(start, held, kept, keys)


def _train_member(
    objective: Objective,
    judge: Objective,
    penalty: Callable[[Weights, Any], Array],
    start: Weights,
    panel: Panel,
    out: Array,
    within: Array,
    constants: Any,
    key: Array,
    rate: float | Array,
) -> Trained:
    held_key, step_key = jax.random.split(key)
    share = within / jnp.maximum(within.sum(), 1)
    optimiser = optax.chain(optax.clip_by_global_norm(10.0), optax.scale_by_adam(b2=0.99))

    def held_out(weights: Weights) -> Array:
        return judge(weights, panel, out / jnp.maximum(out.sum(), 1), held_key, constants)

    def loss(weights: Weights, key: Array) -> Array:
        draw_key, own_key = jax.random.split(key)
        rows, weight = panel, share
        if len(panel.x) > BATCH:
            chosen = jax.random.choice(draw_key, len(panel.x), (BATCH,), p=share)
            rows, weight = jax.tree.map(lambda a: a[chosen], panel), jnp.full(BATCH, 1 / BATCH)
        prior = penalty(weights, constants) / jnp.maximum(within.sum(), 1)
        return objective(weights, rows, weight, own_key, constants) + prior

    def step(carry: tuple[Weights, Any], at: tuple[Array, Array]) -> tuple[tuple[Weights, Any], None]:
        weights, memory = carry
        key, slower = at
        updates, memory = optimiser.update(jax.grad(loss)(weights, key), memory)
        return (optax.apply_updates(weights, jax.tree.map(lambda u: -slower * u, updates)), memory), None

    def once(state: _State) -> _State:
        keys = jax.random.split(jax.random.fold_in(step_key, state.round), ROUND)
        done = (state.round * ROUND + jnp.arange(ROUND)) / (ROUND * MOST)
        slower = rate * (0.05 + 0.95 * 0.5 * (1 + jnp.cos(jnp.pi * done)))
        (weights, memory), _ = jax.lax.scan(step, (state.weights, state.optimiser), (keys, slower))
        value = held_out(weights)
        better = value < state.value
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), weights, state.best)
        lowest = jnp.minimum(value, state.value)
        recent = jnp.where(state.round == MOST - MOST // 10, state.value, state.recent)
        # a gain of less than a thousandth of a nat a patient is no reason to go on
        gained = value < state.value - 1e-3
        return _State(weights, memory, best, lowest, recent, jnp.where(gained, 0, state.since + 1), state.round + 1)

    first = held_out(start)
    zero = jnp.zeros((), dtype=int)
    begin = _State(start, optimiser.init(start), start, first, first, zero, zero)
    end = jax.lax.while_loop(lambda s: (s.round < MOST) & (s.since < PATIENCE), once, begin)
    return Trained(end.best, first, end.value, end.recent, end.round)
