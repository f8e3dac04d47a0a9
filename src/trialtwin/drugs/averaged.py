"""A slow equivalent of fast pharmacokinetics, for daily doses over years: the same average, without the daily waves.

One compartment with the drug's clearance and its terminal half-life, fed steadily:

    A' = F · dose rate − λ A,       C = A λ/CL

At steady state C is the average concentration. The waves within a day, and the first hours, are not followed: use it
for effects that take weeks. A patient's parameters, random effects and covariates are those of the full model.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.drugs.pk import AbstractPharmacokinetics, Compartments, Rates, State, half_life
from trialtwin.drugs.quantity import Quantities, Scalar


class Slow(NamedTuple):
    """A patient's slow rates: volume CL/λ, and λ, the share absorbed of each input; and the full rates."""

    volume: Scalar
    out: Scalar
    shares: tuple[Scalar, ...]
    full: Rates


@final
class Averaged(AbstractPharmacokinetics):
    """The slow equivalent of compartments."""

    states: tuple[str, ...] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    quantities: Quantities
    of: Compartments

    def individual(self, effects: Float[Array, " effect"], covariates: Mapping[str, Scalar]) -> Slow:
        """Return a patient's slow rates."""
        p = self.of.individual(effects, covariates)
        out = jnp.log(2.0) / half_life(p)
        shares = tuple(p.share if name == "depot" else jnp.ones(()) for name in self.inputs)
        return Slow(p.out * p.volume / out, out, shares, p)

    def initial(self, individual: Any) -> State:
        """Return no drug."""
        del individual
        return (jnp.zeros(()),)

    def receive(self, state: State, amounts: tuple[Scalar, ...], individual: Any) -> State:
        """Add what is absorbed of each amount."""
        return (state[0] + _absorbed(amounts, individual),)

    def flow(self, state: State, rates: tuple[Scalar, ...], individual: Any) -> State:
        """Return the time derivative, mg/day."""
        return (_absorbed(rates, individual) - individual.out * state[0],)

    def drivers(self, state: State, individual: Any) -> dict[str, Scalar]:
        """Return the concentration."""
        return {"concentration": jnp.maximum(state[0], 0.0) / individual.volume}

    def linear(self, individual: Any) -> Rates:
        """Return the rates of the full model, so that a highest concentration is the real one."""
        return individual.full


def averaged(of: Compartments) -> Averaged:
    """Return the slow equivalent of compartments, a single amount with the same inputs and parameters."""
    return Averaged(states=("central",), inputs=of.inputs, quantities=of.quantities, of=of)


def _absorbed(amounts: tuple[Scalar, ...], individual: Any) -> Scalar:
    total = jnp.zeros(())
    for amount, share in zip(amounts, individual.shares, strict=True):
        total = total + amount * share
    return total
