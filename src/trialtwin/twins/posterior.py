"""Patients inferred: their most probable effects, the posterior around them, and what would be measured of them."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtri
from scipy.stats import qmc

from trialtwin.core.errors import ConvergenceError
from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.engine.grid import Grid
from trialtwin.engine.method import require_accuracy
from trialtwin.infer.importance import (
    Proposal,
    adapt,
    effective_size,
    importance_weights,
    laplace_proposal,
    random_points,
    resample,
    student_points,
)
from trialtwin.infer.laplace import Mode, find_mode
from trialtwin.twins.censored import censored_mean
from trialtwin.twins.course import Instrument, Observations

POINTS = 256  # fixed points of each patient's posterior that expectations are taken over
PROPOSED = 96  # random points of each patient's posterior, for each draw of the population
PIECE = 256  # patients inferred together
LEAST = 12.0  # effective points below which a patient's posterior counts as not found


class Found(eqx.Module):
    """A posterior: a proposal, what it is worth, and what is expected of the patient; under `vmap`, of all patients."""

    proposal: Proposal
    size: Float[Array, "*patient"]
    expected: Float[Array, "*patient time scale"]
    error: Float[Array, "*patient state"]


@cache
def normal_points(count: int, dimension: int) -> Float[np.ndarray, "point effect"]:
    """Return points of a standard normal distribution that fill space evenly, the same at every call."""
    if dimension == 0:
        return np.zeros((count, 0))
    sobol = qmc.Sobol(dimension, scramble=True, rng=np.random.default_rng(21))
    return np.asarray(ndtri(sobol.random_base2(int(np.log2(count)))))


def by_pieces[T](function: Callable[..., T], *patients: Any) -> T:
    """Call a function of arrays of patients for 256 patients at a time, on all processors, and join what it returns.

    Whatever the number of patients beyond that, one shape is compiled, and a patient whose search is long holds up only
    those beside. The last piece is filled up with zeros: nothing observed.
    """
    n = len(jax.tree.leaves(patients)[0])
    if n <= PIECE:
        return function(*patients)

    def piece(first: int) -> T:
        def cut(array: Array) -> Array:
            own = array[first : first + PIECE]
            return jnp.concatenate([own, jnp.zeros((PIECE - len(own), *array.shape[1:]), array.dtype)])

        found: T = jax.tree.map(lambda a: a.block_until_ready(), function(*jax.tree.map(cut, patients)))
        return found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(piece, range(0, n, PIECE)))
    joined: T = jax.tree.map(lambda *parts: jnp.concatenate(parts)[:n], *found)
    return joined


def infer(instrument: Instrument, population: Array, start: Array, data: Observations, grid: Grid) -> Mode:
    """Find every patient's most probable effects."""
    return by_pieces(lambda u, one: _modes(instrument, population, u, one, grid), start, data)


@eqx.filter_jit
def _modes(instrument: Instrument, population: Array, start: Array, data: Observations, grid: Grid) -> Mode:
    def patient(u: Array, one: Observations) -> Mode:
        return find_mode(instrument.log_joint, instrument.expand, population, u, (one, grid))

    return jax.vmap(patient)(start, data)


@eqx.filter_jit
def solver_errors(
    instrument: Instrument,
    population: Array,
    modes: Array,
    data: Observations,
    grid: Grid,
) -> Float[Array, "patient state"]:
    """Return the solver's error over its tolerance along every patient's most probable course without treatment."""

    def patient(u: Array, one: Observations) -> Array:
        return instrument.course(population, u, one.covariates, one.times, grid, NoTreatment(), jnp.zeros(0))[1]

    return jax.vmap(patient)(modes, data)


@eqx.filter_jit
def find(
    instrument: Instrument,
    population: Array,
    mode: Mode,
    data: Observations,
    at: Array,
    grid: Grid,
    dosed: Grid,
    treatment: AbstractTreatment,
) -> Found:
    """Find every patient's posterior around the mode, and expect over it, by importance sampling at fixed points.

    ``grid`` is that of the history, which is untreated, and ``dosed`` that of the course under the treatment.
    """
    points = jnp.asarray(student_points(POINTS, instrument.dimension))
    owns = jnp.asarray(normal_points(POINTS, len(treatment.effects)))
    lower, upper = instrument.bounds()

    def patient(position: Array, precision: Array, one: Observations, t: Array) -> Found:
        def log_density(u: Array) -> Array:
            return instrument.log_joint(population, u, (one, grid))

        proposal = _adapted(log_density, position, precision, points)
        weights = importance_weights(log_density, proposal, points)

        def mean(u: Array, own: Array) -> tuple[Array, Array]:
            expected, error = instrument.course(population, u, one.covariates, t, dosed, treatment, own)
            return censored_mean(expected, instrument.spread(population, expected), lower, upper), error

        means, errors = jax.vmap(mean)(proposal.place(points), owns)
        heavy = jnp.where(weights[:, None] > 1e-3 / POINTS, errors, 0.0)
        return Found(proposal, effective_size(weights), jnp.tensordot(weights, means, 1), jnp.max(heavy, axis=0))

    return jax.vmap(patient)(mode.position, mode.precision, data, at)


@eqx.filter_jit
def propose(
    instrument: Instrument, population: Array, mode: Mode, data: Observations, grid: Grid
) -> tuple[Proposal, Float[Array, " patient"]]:
    """Return a proposal of every patient's posterior, and how many equally weighted points it is worth."""
    points = jnp.asarray(student_points(POINTS, instrument.dimension))

    def patient(position: Array, precision: Array, one: Observations) -> tuple[Proposal, Array]:
        def log_density(u: Array) -> Array:
            return instrument.log_joint(population, u, (one, grid))

        proposal = _adapted(log_density, position, precision, points)
        return proposal, effective_size(importance_weights(log_density, proposal, points))

    return jax.vmap(patient)(mode.position, mode.precision, data)


@eqx.filter_jit
def sample_effects(
    instrument: Instrument,
    population: Array,
    proposal: Proposal,
    data: Observations,
    grid: Grid,
    key: Array,
    draws: int,
) -> Float[Array, "draw patient effect"]:
    """Draw every patient's effects for one draw of the population, by importance resampling."""

    def patient(own: Proposal, one: Observations, own_key: Array) -> Array:
        points_key, choice_key = jax.random.split(own_key)
        points = random_points(points_key, PROPOSED, instrument.dimension)
        weights = importance_weights(lambda u: instrument.log_joint(population, u, (one, grid)), own, points)
        return own.place(points)[resample(choice_key, weights, draws)]

    drawn = jax.vmap(patient)(proposal, data, jax.random.split(key, len(data.times)))
    return jnp.swapaxes(drawn, 0, 1)


@eqx.filter_jit
def sample(
    instrument: Instrument,
    population: Array,
    proposal: Proposal,
    data: Observations,
    at: Array,
    grid: Grid,
    dosed: Grid,
    treatment: AbstractTreatment,
    key: Array,
    draws: int,
) -> Float[Array, "draw patient time scale"]:
    """Draw what would be measured of each patient, for one draw of the population, by importance resampling.

    A patient and a drug meet at random: the treatment's own effects are drawn apart, so that other draws stay the same.
    """
    lower, upper = instrument.bounds()

    def patient(own: Proposal, one: Observations, t: Array, own_key: Array) -> Array:
        points_key, choice_key, noise_key = jax.random.split(own_key, 3)
        points = random_points(points_key, PROPOSED, instrument.dimension)
        weights = importance_weights(lambda u: instrument.log_joint(population, u, (one, grid)), own, points)
        chosen = own.place(points)[resample(choice_key, weights, draws)]
        noise = jax.random.normal(noise_key, (draws, len(t), len(instrument.scales)))
        owns = jax.random.normal(jax.random.fold_in(own_key, 1), (draws, len(treatment.effects)))

        def measure(u: Array, e: Array, effects: Array) -> Array:
            expected, _ = instrument.course(population, u, one.covariates, t, dosed, treatment, effects)
            return jnp.clip(expected + instrument.spread(population, expected) * e, lower, upper)

        return jax.vmap(measure)(chosen, noise, owns)

    drawn = jax.vmap(patient)(proposal, data, at, jax.random.split(key, len(at)))
    return jnp.swapaxes(drawn, 0, 1)


def _adapted(
    log_density: Callable[[Array], Array], position: Array, precision: Array, points: Float[Array, "point effect"]
) -> Proposal:
    """Move the Laplace proposal twice to what its points weigh."""
    proposal = laplace_proposal(position, precision)
    for _ in range(2):
        proposal = adapt(proposal, points, importance_weights(log_density, proposal, points))
    return proposal


def require_inferred(mode: Mode, ids: tuple[str, ...]) -> None:
    """Refuse patients whose most probable effects were not found.

    Raises
    ------
    ConvergenceError
        Naming the patients.
    """
    _refuse(np.asarray(mode.converged)[: len(ids)], ids, "the most probable course")


def require_found(found: Found, instrument: Instrument, treatment: AbstractTreatment, ids: tuple[str, ...]) -> None:
    """Refuse patients whose posterior was not found, or whose course was not solved accurately.

    Raises
    ------
    ConvergenceError
        Naming the patients, and the states that were not solved.
    """
    require_solved(np.asarray(found.error)[: len(ids)], instrument, treatment, ids)
    require_worth(found.size, ids)


def require_worth(size: Float[Array, " patient"], ids: tuple[str, ...]) -> None:
    """Refuse patients whose posterior was not found: whose proposal is worth too few points."""
    _refuse(np.asarray(size)[: len(ids)] >= LEAST, ids, "the posterior")


def require_solved(
    error: Float[np.ndarray, "patient state"],
    instrument: Instrument,
    treatment: AbstractTreatment,
    ids: tuple[str, ...],
) -> None:
    """Refuse courses whose solver error exceeds the tolerance of a state."""
    states = (*instrument.disease.states, *treatment.states)
    require_accuracy(error, states, ids, tuple(1.0 for _ in states))


def _refuse(good: np.ndarray, ids: tuple[str, ...], what: str) -> None:
    bad = np.flatnonzero(~good)
    if len(bad):
        raise ConvergenceError(
            f"{what} of {len(bad)} patient(s) was not found",
            where=", ".join(ids[i] for i in bad[:10]),
            do="look for measurements of these patients that contradict each other or their covariates",
        )
