"""Pharmacokinetics: one or two compartments with or without a depot, and the exposure at steady state.

Amounts in mg, volumes in L, clearances in L/day, time in days, so that concentrations are in mg/L = µg/mL:

    D'  = dose(depot) − ka D
    A1' = dose(central) + F ka D − (CL + Q)/V1 · A1 + Q/V2 · A2
    A2' = Q/V1 · A1 − Q/V2 · A2,          C = A1/V1

States are tuples of scalars, and the flow is plain arithmetic, which compilers fuse over patients.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.drugs.quantity import Quantities, Scalar

INSTANT = 1e-9  # days; an infusion as short as this is a bolus

type State = tuple[Scalar, ...]


class Rates(NamedTuple):
    """A patient's rates: volume of the central compartment, elimination, exchange, absorption, share absorbed."""

    volume: Scalar
    out: Scalar
    there: Scalar
    back: Scalar
    absorption: Scalar
    share: Scalar


class AbstractPharmacokinetics(eqx.Module):
    """How doses become a concentration.

    ``states`` names the amounts, ``inputs`` the places where a dose goes, ``quantities`` holds the parameters.
    """

    states: eqx.AbstractVar[tuple[str, ...]]
    inputs: eqx.AbstractVar[tuple[str, ...]]
    quantities: eqx.AbstractVar[Quantities]

    @abstractmethod
    def individual(self, effects: Float[Array, " effect"], covariates: Mapping[str, Scalar]) -> Any:
        """Return a patient's own rates."""

    @abstractmethod
    def initial(self, individual: Any) -> State:
        """Return the amounts before the first dose."""

    @abstractmethod
    def receive(self, state: State, amounts: tuple[Scalar, ...], individual: Any) -> State:
        """Return the amounts just after a bolus into each input."""

    @abstractmethod
    def flow(self, state: State, rates: tuple[Scalar, ...], individual: Any) -> State:
        """Return the time derivative, per day, with a steady input into each input."""

    @abstractmethod
    def drivers(self, state: State, individual: Any) -> dict[str, Scalar]:
        """Return what can drive an effect: ``"concentration"`` in µg/mL, and what else there is."""

    @abstractmethod
    def linear(self, individual: Any) -> Rates:
        """Return the rates of the part that is linear in dose, for exposures in closed form."""


@final
class Compartments(AbstractPharmacokinetics):
    """One or two compartments, with a depot where a dose is not given into the blood.

    ``inputs`` are among ``"central"`` and ``"depot"``; ``quantities`` are CL, V1, where there is a second compartment
    Q and V2, and where there is a depot ka and F. ``F`` is 1 where it is not given.
    """

    states: tuple[str, ...] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    quantities: Quantities

    def individual(self, effects: Float[Array, " effect"], covariates: Mapping[str, Scalar]) -> Rates:
        """Return a patient's own rates."""
        p = self.quantities.individual(effects, covariates)
        zero, one = jnp.zeros(()), jnp.ones(())
        q = p.get("Q", zero)
        # a share absorbed above 1 makes no sense, whatever its variability says
        share = jnp.minimum(p.get("F", one), 1.0)
        return Rates(p["V1"], p["CL"] / p["V1"], q / p["V1"], q / p.get("V2", one), p.get("ka", zero), share)

    def initial(self, individual: Any) -> State:
        """Return no drug."""
        del individual
        return tuple(jnp.zeros(()) for _ in self.states)

    def receive(self, state: State, amounts: tuple[Scalar, ...], individual: Any) -> State:
        """Add each amount to its compartment."""
        del individual
        given = dict(zip(self.inputs, amounts, strict=True))
        return tuple(a + given[name] if name in given else a for a, name in zip(state, self.states, strict=True))

    def flow(self, state: State, rates: tuple[Scalar, ...], individual: Any) -> State:
        """Return the time derivative, mg/day."""
        return linear_flow(self.states, state, dict(zip(self.inputs, rates, strict=True)), self.linear(individual))

    def drivers(self, state: State, individual: Any) -> dict[str, Scalar]:
        """Return the concentration; a solver's undershoot below zero counts as zero."""
        central = state[self.states.index("central")]
        return {"concentration": jnp.maximum(central, 0.0) / self.linear(individual).volume}

    def linear(self, individual: Any) -> Rates:
        """Return the rates."""
        return individual


def linear_flow(names: tuple[str, ...], state: State, given: Mapping[str, Scalar], p: Rates) -> State:
    """Return the time derivative of depot, central and peripheral amounts, those that there are, in their order."""
    amounts = dict(zip(names, state, strict=True))
    central = amounts["central"]
    change = -p.out * central
    if "central" in given:
        change = change + given["central"]
    flows = {}
    if "peripheral" in amounts:
        exchange = p.there * central - p.back * amounts["peripheral"]
        change = change - exchange
        flows["peripheral"] = exchange
    if "depot" in amounts:
        absorbed = p.absorption * amounts["depot"]
        change = change + p.share * absorbed
        flows["depot"] = (given["depot"] - absorbed) if "depot" in given else -absorbed
    flows["central"] = change
    return tuple(flows[name] for name in names)


def disposition(p: Rates, *, depot: bool) -> tuple[Float[Array, " term"], Float[Array, " term"]]:
    """Return rates λ and coefficients c of the concentration after a unit dose, C(t) = Σ c e^(−λ t).

    Two terms after a dose into the blood, three after one into the depot. Rates that coincide are set apart by a
    relative 1e-6, which moves the concentration by less than that.
    """
    total = p.out + p.there + p.back
    root = jnp.sqrt(jnp.maximum(total**2 - 4 * p.out * p.back, 0.0))
    fast = (total + root) / 2
    # the product of both is out · back: no digits are lost where they lie far apart
    slow = jnp.where(p.back > 0, p.out * p.back / fast, 0.0)
    one = p.back == 0  # a single compartment: the slow term has no weight, and any positive rate will do
    slow = jnp.where(one, fast / 2, slow)
    slow = jnp.where(fast - slow < 1e-6 * fast, fast * (1 - 1e-6), slow)
    weight_fast = jnp.where(one, 1.0, (fast - p.back) / (fast - slow))
    weights = jnp.stack([weight_fast, 1 - weight_fast]) / p.volume
    lambdas = jnp.stack([fast, slow])
    if not depot:
        return lambdas, weights
    ka = p.absorption
    apart = jnp.where(jnp.abs(ka - lambdas) < 1e-6 * ka, 1e-6 * ka, ka - lambdas)
    terms = p.share * weights * ka / apart
    return jnp.append(lambdas, ka), jnp.append(terms, -terms.sum())


def steady_peak(
    p: Rates,
    amount: Scalar | float,
    interval: Scalar | float,
    duration: Scalar | float,
    *,
    depot: bool,
    points: int = 256,
) -> Scalar:
    """Return the highest concentration at steady state of equal doses at equal intervals, µg/mL.

    Superposition of C(t) = Σ c e^(−λ t) over all earlier doses; its maximum over a grid of the interval, denser
    towards its start, that contains the end of the infusion, where it lies after infusions into the blood.

    Parameters
    ----------
    p
        Rates of a patient.
    amount
        Of a dose, mg.
    interval
        Between doses, days; infinite for a single dose.
    duration
        Of the infusion, days; 0 for a bolus.
    depot
        Whether the dose goes into the depot.
    points
        Of the grid.

    Examples
    --------
    >>> one = Rates(*map(jnp.asarray, (2.0, 0.1, 0.0, 0.0, 0.0, 1.0)))
    >>> round(float(steady_peak(one, 10.0, 7.0, 0.0, depot=False)), 4)  # 5 / (1 − e^(−0.7))
    9.9322
    """
    lambdas, weights = disposition(p, depot=depot)
    slowest = jnp.log(2.0) / jnp.min(lambdas)
    span = jnp.where(jnp.isinf(interval), 10 * slowest, interval)
    times = jnp.append(jnp.linspace(0.0, 1.0, points + 1) ** 3 * span, duration)[:, None]
    repeated = 1 / -jnp.expm1(-lambdas * interval)
    length = jnp.maximum(duration, INSTANT)
    # during the infusion: what has come in of this one, and what is left of those before
    during = -jnp.expm1(-lambdas * jnp.minimum(times, length)) / (lambdas * length)
    after = jnp.exp(-lambdas * jnp.maximum(times - length, 0.0))
    left = during[-1:] * jnp.exp(-lambdas * (times + jnp.where(jnp.isinf(interval), 0.0, interval) - length)) * repeated
    left = jnp.where(jnp.isinf(interval), 0.0, left)
    infused = (weights * (during * after + left)).sum(axis=1)
    bolus = (weights * repeated * jnp.exp(-lambdas * times)).sum(axis=1)
    return amount * jnp.max(jnp.where(duration > INSTANT, infused, bolus))


def half_life(p: Rates) -> Scalar:
    """Return the terminal half-life without absorption, ln 2 over the smallest rate, in days."""
    lambdas, weights = disposition(p, depot=False)
    return jnp.log(2.0) / jnp.min(jnp.where(weights == 0, jnp.inf, lambdas))


def mean_concentration(p: Rates, per_day: Scalar | float, *, depot: bool) -> Scalar:
    """Return the average concentration at steady state: input per day, times the share absorbed, over clearance."""
    clearance = p.out * p.volume
    return per_day * (p.share if depot else jax.numpy.ones(())) / clearance
