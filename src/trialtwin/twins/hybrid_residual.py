r"""Which part of a mechanism the data call wrong, and by how much: a residual that the evidence has to pay for.

A channel (a multiplier among the mechanisms, or the slope of a state) may get a residual, whose weights ω have the
prior N(0, I) (``hybrid_disease.py``). For each channel, at ω = 0 the efficient scores sᵢ = ∂ log p(yᵢ | θ, ω)/∂ω of the
patients, with what the population parameters θ can account for projected out, have the sum u and the information
J = Σ sᵢ sᵢᵀ, and

    log evidence gained ≈ ½ uᵀ(J + I)⁻¹u − ½ log |J + I|

(a score test weighed by the prior: Rao CR (1948), doi:10.1017/S0305004100023987; MacKay DJC (1992),
doi:10.1162/neco.1992.4.3.448). The channel that gains most is fitted, if it gains more than log(number of channels), by
scoring steps and then together with the population; it stays if the evidence by Laplace's method says so too.
"""

from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.errors import ConvergenceError
from trialtwin.core.treatment import NoTreatment
from trialtwin.diseases.base import AbstractDisease
from trialtwin.engine.grid import Grid
from trialtwin.twins.course import METHOD, Instrument, Observations
from trialtwin.twins.hybrid_disease import AXES, TERMS, Corrected, Residual, blank, multipliers, weight_of
from trialtwin.twins.hybrid_reading import Reading, read
from trialtwin.twins.population import Learnt, marginals
from trialtwin.twins.posterior import PIECE, infer
from trialtwin.twins.system import Course, Person

AMPLITUDE = 0.5  # τ: what one weight of 1 does to the logarithm of a mechanism
STILL = 1e-6  # share of its range that a state must move, or differ between patients, to be looked along
ROUNDS = 40
SHORTER = 6
NEAR = 0.5  # the same, of all patients after some: a posterior draw lies half a nat a parameter below the maximum
FEW = PIECE  # patients that a residual is first fitted to
APART = 1e-3  # SD of an effect beyond which two searches ended in modes of their own
SETTLED = 0.05  # units of log density that a scoring step still promises


class Correction(NamedTuple):
    """The fit that was kept: with the residual of one channel, or without.

    ``gains`` are the approximate log evidence of each channel, in nats; ``gained`` is that of the fit, 0 without one;
    ``trouble`` says why a fit that was called for was not kept, empty where nothing was.
    """

    instrument: Instrument
    learnt: Learnt
    gains: dict[str, float]
    gained: float
    trouble: str
    reading: Reading | None = None


class Seen(NamedTuple):
    """States and slopes of patients along their most probable courses, one row a visit at which anything was seen.

    ``differ`` is how much patients differ in each state by the population, known or not: the SD over random patients.
    """

    states: Float[np.ndarray, "row state"]
    slopes: Float[np.ndarray, "row state"]
    differ: Float[np.ndarray, " state"]


def correct(instrument: Instrument, learnt: Learnt, data: Observations, grid: Grid, last: float) -> Correction:
    """Return the fit with the residual that the evidence pays for, or the one given.

    ``instrument`` has a corrected disease without channels, which is followed several times as fast as one with them.

    Raises
    ------
    ConvergenceError
        If patients cannot be inferred at the population given.
    """
    base, kept = corrected(instrument).base, Correction(instrument, learnt, {}, 0.0, "")
    wide = Instrument(Corrected(base, blank(base)), instrument.scales)
    start = learnt._replace(population=_widened(instrument, wide, learnt.population))
    seen = visited(instrument, learnt, data, grid)
    look = residual_at(base, seen, last)
    where = {
        name: place for place, name in enumerate(look.channels) if name in (*multipliers(base), *moving(base, seen))
    }
    if not where:
        return kept
    gains = {
        name: evidence_gain(_bent(wide, look, place), start.population, learnt.effects, data, grid)
        for name, place in where.items()
    }
    best = max(gains, key=lambda name: gains[name])
    if not gains[best] > np.log(len(gains)):
        return kept._replace(gains=gains)
    bent = _bent(wide, look, where[best])
    try:
        found = _fit_few_then_all(bent, start, data, grid)
    except ConvergenceError as error:
        return kept._replace(gains=gains, trouble=f"the fit of {best} did not converge ({error.what})")
    gained = _evidence(bent, found) - _evidence(instrument, learnt)
    if not gained > np.log(len(gains)):
        return kept._replace(gains=gains, trouble=f"fitted, {best} gained {gained:.1f} nats only")
    own = residual_columns(bent)
    reading = read(
        corrected(bent).residual,
        seen.states,
        base.states,
        found.population[own],
        found.covariance[np.ix_(own, own)],
        multiplies=best in multipliers(base),
    )
    return Correction(bent, found, gains, gained, "", reading)


def visited(instrument: Instrument, learnt: Learnt, data: Observations, grid: Grid) -> Seen:
    """Return states and slopes at the visits of all patients, at their most probable effects."""
    population, rows = jnp.asarray(learnt.population), np.asarray(data.observed.any(axis=2))
    states, slopes = _along(instrument, population, learnt.effects, data, grid)
    anybody = jnp.asarray(np.random.default_rng(0).normal(size=learnt.effects.shape))
    others, _ = _along(instrument, population, anybody, data, grid)
    return Seen(np.asarray(states)[rows], np.asarray(slopes)[rows], np.asarray(others)[rows].std(axis=0))


def residual_at(disease: AbstractDisease, seen: Seen, last: float) -> Residual:
    """Return a residual that looks along the two directions in which the states seen differ most.

    Each state is in units of how much patients differ in it: one of which the data tell little differs little between
    the most probable courses, and is not looked along.
    """
    spread = seen.differ
    ranges = np.array(disease.ranges)
    moves = seen.states.std(axis=0) > STILL * np.maximum(np.abs(seen.states).max(axis=0), 1e-12)
    moves &= spread > 0
    centre = seen.states.mean(axis=0)
    inside = np.clip(centre, ranges[:, 0], ranges[:, 1])
    axes = np.zeros((len(spread), AXES))
    if moves.any():
        scaled = (seen.states[:, moves] - centre[moves]) / spread[moves]
        values, vectors = np.linalg.eigh(np.cov(scaled.T).reshape(scaled.shape[1], -1))
        order = np.argsort(-values)[: min(AXES, len(values))]
        kept = vectors[:, order] * np.sign(vectors[np.abs(vectors[:, order]).argmax(axis=0), order])
        sd = np.sqrt(np.maximum(values[order], 1e-12))
        axes[np.ix_(moves, np.arange(len(order)))] = kept / sd / spread[moves][:, None]
    reach = float(np.sqrt((((seen.states - inside) @ axes) ** 2).sum(axis=1)).max())
    pace = np.sqrt((seen.slopes**2).mean(axis=0))
    channels = (*multipliers(disease), *disease.states)
    numbers = (np.zeros(len(channels)), inside, axes, max(reach, 1e-6), last, AMPLITUDE, pace)
    return Residual(channels, *(jnp.asarray(a, dtype=float) for a in numbers))


def evidence_gain(
    bent: Instrument, population: Float[np.ndarray, " parameter"], modes: Array, data: Observations, grid: Grid
) -> float:
    """Return the approximate log evidence that the residual of the chosen channel would gain, in nats."""
    _, scores = _at(bent, population, modes, data, grid)
    own = residual_columns(bent)
    sd = np.array([prior.sd for prior in bent.priors])[~own]
    nuisance = scores[:, ~own]
    information = nuisance.T @ nuisance + np.diag(1 / sd**2)
    efficient = scores[:, own] - nuisance @ np.linalg.solve(information, nuisance.T @ scores[:, own])
    u, J = efficient.sum(axis=0), efficient.T @ efficient + np.eye(len(TERMS))
    return float(0.5 * u @ np.linalg.solve(J, u) - 0.5 * np.linalg.slogdet(J)[1])


def _bent(instrument: Instrument, look: Residual, channel: int) -> Instrument:
    """Return the instrument with a residual on one channel."""
    chosen = replace(look, chosen=jnp.asarray(np.arange(len(look.channels)) == channel, dtype=float))
    return Instrument(Corrected(corrected(instrument).base, chosen), instrument.scales)


def _fit_few_then_all(bent: Instrument, learnt: Learnt, data: Observations, grid: Grid) -> Learnt:
    """Fit to some of the patients first where there are many, then step on from there with all.

    Most steps are taken while they are cheap. From an estimate by a quarter of the patients one scoring step with all
    of them is as good as the maximum, to first order (Le Cam's one-step estimator), so that the last steps end sooner.
    """
    start, n = learnt.population, len(data.times)
    if n < 2 * FEW:
        return _fit(bent, start, learnt.effects, data, grid)
    some = np.linspace(0, n - 1, FEW).astype(int)
    few = jax.tree.map(lambda a: a[some], data)
    start = _fit(bent, start, learnt.effects[some], few, grid).population
    return _fit(bent, start, learnt.effects, data, grid, settled=NEAR)


def _fit(
    bent: Instrument,
    start: Float[np.ndarray, " parameter"],
    modes: Array,
    data: Observations,
    grid: Grid,
    *,
    settled: float = SETTLED,
) -> Learnt:
    """Maximise the marginal posterior over the population and the residual's weights by scoring steps.

    The outer products of the patients' scores stand for the curvature (Berndt ER et al., 1974, Annals of Economic and
    Social Measurement 3:653): positive definite, and without differences, which a patient with two modes upsets.
    """
    mean, sd = (np.array([getattr(prior, name) for prior in bent.priors]) for name in ("mean", "sd"))

    def height(population: np.ndarray, values: np.ndarray) -> float:
        return float(values.sum() - 0.5 * (((population - mean) / sd) ** 2).sum())

    population, anchor, length = start, modes, 1.0
    modes, (values, scores) = _inferred(bent, start, (modes, anchor), data, grid)
    if not np.isfinite(values).all():
        raise ConvergenceError(f"{np.count_nonzero(~np.isfinite(values))} patient(s) were not found at the start")
    for _ in range(ROUNDS):
        gradient = scores.sum(axis=0) - (population - mean) / sd**2
        information = scores.T @ scores + np.diag(sd**-2.0)
        step = np.linalg.solve(information, gradient)
        before, slope = height(population, values), float(gradient @ step)
        if 0.5 * slope < settled:
            return Learnt(population, np.linalg.inv(information), -before, modes)
        for _ in range(SHORTER):
            moved = population + length * step
            found, (values, scores) = _inferred(bent, moved, (modes, anchor), data, grid)
            after = height(moved, values)
            if after > before:
                break
            # the top of the parabola through both heights and the slope
            short = slope * length**2 / (2.0 * (before + slope * length - after)) if np.isfinite(after) else 0.0
            length = min(max(short, 0.1 * length), 0.5 * length)
        else:
            raise ConvergenceError("no step raises the density")
        population, modes, length = moved, found, min(1.0, 2.0 * length)
    raise ConvergenceError(f"the density still rose after {ROUNDS} scoring steps")


def _inferred(
    bent: Instrument,
    population: Float[np.ndarray, " parameter"],
    starts: tuple[Array, Array],
    data: Observations,
    grid: Grid,
) -> tuple[Array, tuple[Float[np.ndarray, " patient"], Float[np.ndarray, "patient parameter"]]]:
    """Return patients' modes, values and scores; of a patient with two modes the one that counts for more.

    Searched from where the modes were and from where they were without a residual, so that the density does not depend
    on the way that led there. The value of a patient who is not found is NaN.
    """
    first = infer(bent, jnp.asarray(population), starts[0], data, grid)
    second = first if starts[1] is starts[0] else infer(bent, jnp.asarray(population), starts[1], data, grid)
    values, scores = (a.copy() for a in _at(bent, population, first.position, data, grid))
    values[~(np.asarray(first.converged) & np.isfinite(values))] = -np.inf
    position = np.array(first.position)
    apart = np.abs(position - np.asarray(second.position)).max(axis=1)
    other = np.flatnonzero(np.asarray(second.converged) & ~(apart < APART))
    if len(other):
        # as many rows as one piece has, so that nothing is compiled for their number
        rows = np.resize(other, -(-len(other) // PIECE) * PIECE if len(position) > PIECE else len(position))
        own = jax.tree.map(lambda a: a[rows], data)
        there, slopes = _at(bent, population, second.position[rows], own, grid)
        chosen = there > values[rows]
        better = rows[chosen]
        values[better], scores[better] = there[chosen], slopes[chosen]
        position[better] = np.asarray(second.position)[better]
    return jnp.asarray(position), (np.where(np.isfinite(values), values, np.nan), scores)


def _at(
    bent: Instrument, population: Float[np.ndarray, " parameter"], modes: Array, data: Observations, grid: Grid
) -> tuple[Float[np.ndarray, " patient"], Float[np.ndarray, "patient parameter"]]:
    values, scores = marginals(bent, jnp.asarray(population), modes, data, grid)
    return np.asarray(values), np.asarray(scores)


def _evidence(instrument: Instrument, learnt: Learnt) -> float:
    """Return the log evidence by Laplace's method, up to a constant that all fits share."""
    sd = np.array([prior.sd for prior in instrument.priors])
    return float(-learnt.value + 0.5 * np.linalg.slogdet(learnt.covariance)[1] - np.log(sd).sum())


def corrected(instrument: Instrument) -> Corrected:
    """Return the corrected disease of a hybrid twin's instrument."""
    assert isinstance(instrument.disease, Corrected)  # noqa: S101 - made so by Hybrid.fit
    return instrument.disease


def residual_columns(instrument: Instrument) -> Bool[np.ndarray, " parameter"]:
    """Tell which population parameters are weights of the residual."""
    own = {weight_of(term) for term in TERMS}
    return np.array([prior.name in own for prior in instrument.priors])


def _widened(
    narrow: Instrument, wide: Instrument, population: Float[np.ndarray, " parameter"]
) -> Float[np.ndarray, " wide"]:
    """Return a population with weights of 0 where the residual's are."""
    named = {prior.name: value for prior, value in zip(narrow.priors, population.tolist(), strict=True)}
    return np.array([named.get(prior.name, 0.0) for prior in wide.priors])


def moving(disease: AbstractDisease, seen: Seen) -> tuple[str, ...]:
    """Return the states that move: the slope of one that stands still is left alone."""
    size = np.maximum(np.abs(seen.states).max(axis=0), 1e-12)
    pace = np.sqrt((seen.slopes**2).mean(axis=0)) * 365.25
    return tuple(name for name, moves in zip(disease.states, pace > STILL * size, strict=True) if moves)


@eqx.filter_jit
def _along(
    instrument: Instrument, population: Array, modes: Array, data: Observations, grid: Grid
) -> tuple[Float[Array, "patient visit state"], Float[Array, "patient visit state"]]:
    """Return states and slopes of every patient at the own visits."""
    disease = instrument.disease
    named = {prior.name: population[i] for i, prior in enumerate(disease.priors)}
    neutral = disease.neutral()

    def patient(u: Array, one: Observations) -> tuple[Array, Array]:
        own = disease.individual(named, u[: len(disease.effects)], one.covariates)
        person = Person(own, NoTreatment().individual(jnp.zeros(0), one.covariates))
        states = METHOD.follow(Course(disease, NoTreatment()), person, grid, one.times).values

        def slope(t: Array, state: tuple[Array, ...]) -> Array:
            return jnp.stack(disease.flow(t, state, own, neutral, disease.signals(t, state, own, neutral)))

        return jnp.stack(states, axis=-1), jax.vmap(slope)(one.times, states)

    return jax.vmap(patient)(modes, data)
