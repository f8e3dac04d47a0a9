"""A disease that a hybrid twin steers: covariates move a patient's effects, and a small residual bends its mechanisms.

With u the standard-normal effects that the disease expects and v those that remain to be inferred,

    u = g + s ∘ v,   v ~ N(0, I),

where g and s are given for each patient as covariates. One channel may have a residual

    r(y, t) = L tanh( trust · near(y, t) · τ Σⱼ ω_j φ_j(y) / L ),   ω ~ N(0, I),   L = log 4,

of bounded features φ = (1, tanh a, tanh b, tanh² a) of the two leading directions a, b of the states that patients were
seen in. ``near`` is 1 where patients were seen and falls smoothly to 0 far from there and after the horizon. A channel
that is a mechanism (neutral value 1) is multiplied by exp(r): whatever holds of the disease for every value of its
mechanisms (bounds, monotonicity, conservation) holds of the corrected one. A channel that is a state k gets the slope
pace_k · tanh(room_k(y)) · r added, where room vanishes at both ends of the state's range, so that it cannot leave it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.errors import MismatchError
from trialtwin.core.variables import Declared
from trialtwin.diseases.base import AbstractDisease, AbstractScale, Constant, Mechanism, Prior, Route, State

LIMIT = float(np.log(4.0))  # of a residual: a mechanism is never more than four times as strong, or as weak
TERMS = ("constant", "first direction", "second direction", "first direction squared")
AXES = 2
FAR = 2.0  # ratio to the largest distance that was seen at which the residual has ended
LATE = 1.5  # ratio to the horizon at which the residual has ended
TRUST = "trust in the residual"
SOURCE = "hybrid twin: a correction that the evidence has to pay for"


class Residual(eqx.Module):
    """What a residual looks at: where patients were seen, and how large it may be.

    ``channels`` names what could be corrected, empty where nothing is, and ``chosen`` is 1 for the one that is, 0 for
    the others: a number, so that functions are compiled once for all. ``axes`` turn a state into the two leading
    directions, of SD 1 over the states seen; ``reach`` is the distance in them that counts as seen, ``horizon`` the
    last day, ``amplitude`` is τ, ``pace`` a typical slope of each state.
    """

    channels: tuple[str, ...] = eqx.field(static=True)
    chosen: Float[Array, " channel"]
    centre: Float[Array, " state"]
    axes: Float[Array, "state axis"]
    reach: Float[Array, ""]
    horizon: Float[Array, ""]
    amplitude: Float[Array, ""]
    pace: Float[Array, " state"]

    def directions(self, state: State) -> Float[Array, " axis"]:
        """Return where a state lies along the leading directions."""
        return (jnp.stack(list(state)) - self.centre) @ self.axes

    def near(self, t: Float[Array, ""], state: State) -> Float[Array, ""]:
        """Return 1 where and while patients were seen, 0 far from there or long after, smoothly between."""
        distance = jnp.sqrt(jnp.sum(self.directions(state) ** 2) + 1e-12)
        return fade(distance / self.reach, FAR) * fade(t / self.horizon, LATE)

    def features(self, state: State) -> Float[Array, " term"]:
        """Return the bounded features of a state."""
        first, second = jnp.tanh(self.directions(state))
        return jnp.stack([jnp.ones_like(first), first, second, first**2])

    def value(self, t: Float[Array, ""], state: State, weights: Float[Array, " term"]) -> Float[Array, ""]:
        """Return the residual, between −log 4 and log 4."""
        raw = self.near(t, state) * self.amplitude * (weights @ self.features(state))
        return LIMIT * jnp.tanh(raw / LIMIT)


def fade(ratio: Float[Array, "*batch"], end: float) -> Float[Array, "*batch"]:
    """Return 1 up to a ratio of 1 and 0 from ``end`` on, with a smooth cubic between."""
    s = jnp.clip((end - ratio) / (end - 1.0), 0.0, 1.0)
    return s**2 * (3.0 - 2.0 * s)


class Own(NamedTuple):
    """A patient's own parameters of the disease, and the weights of the residual times the trust in it."""

    base: Any
    weights: Float[Array, " term"]


@final
class Corrected(AbstractDisease):
    """A disease with effects steered by covariates and mechanisms bent by a residual.

    Raises
    ------
    MismatchError
        If a channel is neither a multiplier among the mechanisms nor a state.
    """

    base: AbstractDisease
    residual: Residual

    name: str = eqx.field(static=True)
    states: tuple[str, ...] = eqx.field(static=True)
    tolerances: tuple[float, ...] = eqx.field(static=True)
    ranges: tuple[tuple[float, float], ...] = eqx.field(static=True)
    effects: tuple[str, ...] = eqx.field(static=True)
    declared: tuple[Declared, ...] = eqx.field(static=True)
    mechanisms: tuple[Mechanism, ...] = eqx.field(static=True)
    routes: tuple[Route, ...] = eqx.field(static=True)

    def __init__(self, base: AbstractDisease, residual: Residual) -> None:
        known = (*multipliers(base), *base.states)
        for channel in residual.channels:
            if channel not in known:
                raise MismatchError(f"{base.name!r} has no channel {channel!r} to correct", exists=known)
        self.base, self.residual = base, residual
        self.name, self.states, self.tolerances, self.ranges = base.name, base.states, base.tolerances, base.ranges
        self.effects, self.mechanisms, self.routes = base.effects, base.mechanisms, base.routes
        shifts = tuple(Declared(shift_of(effect), centre=0.0) for effect in base.effects)
        spreads = tuple(Declared(spread_of(effect), centre=1.0) for effect in base.effects)
        self.declared = (*base.declared, *shifts, *spreads, Declared(TRUST, centre=1.0))

    @property
    def priors(self) -> tuple[Prior, ...]:
        """Return the priors of the disease, then those of the residual's weights ω."""
        own = tuple(Prior(weight_of(term), 0.0, 1.0, SOURCE, "medium") for term in TERMS)
        return (*self.base.priors, *(own if self.residual.channels else ()))

    @property
    def scales(self) -> Mapping[str, AbstractScale]:
        """Return the instruments by concept."""
        return self.base.scales

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Return what is taken as given."""
        return self.base.constants

    def scale_priors(self, concept: str) -> tuple[Prior, Prior, Prior]:
        """Return priors of a scale's shift, log between-patient spread of its offset, and log error multiplier."""
        return self.base.scale_priors(concept)

    def individual(
        self,
        population: Mapping[str, Float[Array, ""]],
        effects: Float[Array, " effect"],
        covariates: Mapping[str, Float[Array, ""]],
    ) -> Own:
        """Return a patient's own parameters, the effects steered."""
        shift = [covariates[shift_of(effect)] for effect in self.effects]
        spread = [covariates[spread_of(effect)] for effect in self.effects]
        moved = jnp.stack(shift) + jnp.stack(spread) * effects if shift else effects
        weights = jnp.zeros(len(TERMS))
        if self.residual.channels:
            weights = jnp.stack([population[weight_of(term)] for term in TERMS])
        return Own(self.base.individual(population, moved, covariates), covariates[TRUST] * weights)

    def initial(self, individual: Own) -> State:
        """Return the state at baseline."""
        return self.base.initial(individual.base)

    def signals(
        self, t: Float[Array, ""], state: State, individual: Own, modulation: Mapping[str, Float[Array, ""]]
    ) -> dict[str, Any]:
        """Return what flows along each route, the mechanisms bent."""
        if self.residual.channels:
            modulation = self._bent(modulation, self.residual.value(t, state, individual.weights))
        return self.base.signals(t, state, individual.base, modulation)

    def flow(
        self,
        t: Float[Array, ""],
        state: State,
        individual: Own,
        modulation: Mapping[str, Float[Array, ""]],
        signals: Mapping[str, Any],
    ) -> State:
        """Return the time derivative, per day, the mechanisms bent and slopes added."""
        if not self.residual.channels:
            return self.base.flow(t, state, individual.base, modulation, signals)
        r = self.residual.value(t, state, individual.weights)
        slopes = list(self.base.flow(t, state, individual.base, self._bent(modulation, r), signals))
        for chosen, channel in zip(self.residual.chosen, self.residual.channels, strict=True):
            if channel in self.states:
                k = self.states.index(channel)
                slopes[k] = slopes[k] + chosen * self.residual.pace[k] * self._room(k, state[k]) * r
        return tuple(slopes)

    def apparent(self, state: State, individual: Own, signals: Mapping[str, Any]) -> State:
        """Return the patient as instruments see it."""
        return self.base.apparent(state, individual.base, signals)

    def _bent(self, modulation: Mapping[str, Float[Array, ""]], r: Float[Array, ""]) -> Mapping[str, Float[Array, ""]]:
        """Return the value of every mechanism, the one that is corrected multiplied by exp(r)."""
        bent, more = dict(modulation), jnp.expm1(r)
        for chosen, channel in zip(self.residual.chosen, self.residual.channels, strict=True):
            if channel in bent:
                bent[channel] = bent[channel] * (1.0 + chosen * more)
        return bent

    def _room(self, k: int, value: Float[Array, ""]) -> Float[Array, ""]:
        """Return 0 at both ends of a state's range, rising to 1 between, about as fast as from where patients were."""
        low, high = self.ranges[k]
        centre = self.residual.centre[k]
        room = jnp.maximum((value - low) * (high - value), 0.0) / ((centre - low) * (high - centre))
        return jnp.tanh(room)


def no_residual(disease: AbstractDisease) -> Residual:
    """Return a residual that corrects nothing and costs nothing: it has no channels."""
    return _empty(disease, ())


def blank(disease: AbstractDisease) -> Residual:
    """Return a residual that could correct every channel and has chosen none."""
    return _empty(disease, (*multipliers(disease), *disease.states))


def _empty(disease: AbstractDisease, channels: tuple[str, ...]) -> Residual:
    n, one = len(disease.states), jnp.ones(())
    centre = jnp.asarray([0.5 * (low + high) if np.isfinite(low + high) else 0.0 for low, high in disease.ranges])
    return Residual(channels, jnp.zeros(len(channels)), centre, jnp.zeros((n, AXES)), one, one, 0.0 * one, jnp.zeros(n))


def multipliers(disease: AbstractDisease) -> tuple[str, ...]:
    """Return the mechanisms whose value without treatment is 1."""
    return tuple(m.name for m in disease.mechanisms if m.neutral == 1.0)


def weight_of(term: str) -> str:
    """Return the name of the population parameter that is a weight of the residual."""
    return f"residual: {term}"


def shift_of(effect: str) -> str:
    """Return the concept under which a patient's shift of an effect is given."""
    return f"learned shift of {effect}"


def spread_of(effect: str) -> str:
    """Return the concept under which the spread that remains of an effect is given."""
    return f"learned spread of {effect}"
