"""From a concentration to the value of a mechanism: size, delay, direction.

The size E of an effect at a concentration (or dose rate, or share of target bound) C:

    linear      slope · C
    power       slope · C^h
    emax        emax · C/(ec50 + C)
    sigmoid     emax · C^h/(ec50^h + C^h)
    threshold   emax · σ(ln(C/ec50)/width)

With an onset, the size reads a delayed C: Ce' = ln 2/onset · (C − Ce). With an indirect response, the mechanism follows
a turnover of baseline 1, R' = kout (i − o R), where the size changes the production i = 1 ± E or the loss o = 1 ± E.
A mechanism that multiplies gets 1 + E, or 1 − E but never below 0 (or R); one that adds gets +E or −E (or R − 1).
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.core.errors import ConfigError
from trialtwin.core.variables import Declared
from trialtwin.drugs.pk import State
from trialtwin.drugs.quantity import Quantities, Scalar

type Shape = Literal["linear", "power", "emax", "sigmoid", "threshold"]
type Way = Literal["multiply", "add"]
type Indirect = Literal["", "stimulate production", "inhibit production", "stimulate loss", "inhibit loss"]
_TINY = 1e-12


class Own(NamedTuple):
    """A patient's own parameters of one effect."""

    size: Scalar
    half: Scalar
    power: Scalar
    width: Scalar
    onset: Scalar
    turnover: Scalar


@final
class Effect(eqx.Module):
    """One effect of a drug on one mechanism.

    Parameters
    ----------
    mechanism
        The name by which a disease knows it.
    way
        Whether the disease multiplies by its value or adds it.
    lowers
        Whether the effect lowers the value.
    shape
        How size depends on the driver.
    driver
        What drives it: ``"concentration"``, or with a target ``"site"``, ``"occupancy"`` or ``"suppression"``.
    delayed
        Whether it has an onset.
    indirect
        Which turnover rate the size changes; ``""`` for none.
    quantities
        Parameters: size, half, power, width, onset (rate, 1/day), turnover (kout, 1/day), those that there are.
    """

    mechanism: str = eqx.field(static=True)
    way: Way = eqx.field(static=True)
    lowers: bool = eqx.field(static=True)
    shape: Shape = eqx.field(static=True)
    driver: str = eqx.field(static=True)
    delayed: bool = eqx.field(static=True)
    indirect: Indirect = eqx.field(static=True)
    quantities: Quantities

    @property
    def states(self) -> tuple[str, ...]:
        """Names of its own states."""
        delay = (f"onset of {self.mechanism}",) if self.delayed else ()
        return delay + ((f"response of {self.mechanism}",) if self.indirect else ())

    @property
    def effects(self) -> tuple[str, ...]:
        """Names of its random effects."""
        return self.quantities.effects

    @property
    def declared(self) -> tuple[Declared, ...]:
        """Covariates that it depends on."""
        return self.quantities.declared

    def individual(self, effects: Float[Array, " effect"], covariates: Mapping[str, Scalar]) -> Own:
        """Return a patient's own parameters."""
        p = self.quantities.individual(effects, covariates)
        one = jnp.ones(())
        names = ("size", "half", "power", "width", "onset", "turnover")
        return Own(*(p.get(name, one) for name in names))

    def initial(self) -> State:
        """Return the states before the first dose: nothing has arrived, and the response is at 1."""
        return ((jnp.zeros(()),) if self.delayed else ()) + ((jnp.ones(()),) if self.indirect else ())

    def flow(self, state: State, drivers: Mapping[str, Scalar], own: Own) -> State:
        """Return the time derivative of its own states, per day."""
        flows: State = ()
        if self.delayed:
            flows = (own.onset * (drivers[self.driver] - state[0]),)
        if self.indirect:
            size, response = self.size(state, drivers, own), state[-1]
            factor = 1 + size if self.indirect.startswith("stimulate") else 1 - jnp.minimum(size, 1.0)
            made, lost = (factor, response) if self.indirect.endswith("production") else (1.0, factor * response)
            flows = (*flows, own.turnover * (made - lost))
        return flows

    def size(self, state: State, drivers: Mapping[str, Scalar], own: Own) -> Scalar:
        """Return the size of the effect now, at least 0."""
        at = jnp.maximum(state[0] if self.delayed else drivers[self.driver], 0.0)
        if self.shape == "linear":
            return own.size * at
        if self.shape == "emax":
            return own.size * at / (own.half + at)
        above = jnp.maximum(at, _TINY)
        if self.shape == "power":
            return own.size * above**own.power
        if self.shape == "sigmoid":
            ratio = (above / own.half) ** own.power
            return own.size * ratio / (1 + ratio)
        return own.size * jax.nn.sigmoid(jnp.log(above / own.half) / own.width)

    def value(self, state: State, drivers: Mapping[str, Scalar], own: Own) -> Scalar:
        """Return the value of the mechanism."""
        if self.indirect:
            response = state[-1]
            return jnp.maximum(response, 0.0) if self.way == "multiply" else response - 1
        size = self.size(state, drivers, own)
        if self.way == "add":
            return -size if self.lowers else size
        return 1 - jnp.minimum(size, 1.0) if self.lowers else 1 + size


def points_to_latent(points: float, upper: float, intercept: float, slope: float, latent: float) -> float:
    """Convert points of a scale to a shift of the latent severity z, at a stated severity.

    The scale is S(z) = upper · σ(intercept + slope z); the shift d is the one with S(z) − S(z − d) = points.

    Parameters
    ----------
    points
        Size of the effect, in points of the scale.
    upper, intercept, slope
        Of the scale.
    latent
        The severity z at which the conversion holds; elsewhere it is a little off.

    Raises
    ------
    ConfigError
        If the scale has no room for so many points at that severity.

    Examples
    --------
    >>> round(points_to_latent(2.67, 70, -0.151, 0.730, -0.452), 3)  # donepezil at CDR-SB 7
    0.226
    """
    before = intercept + slope * latent
    share = 1 / (1 + math.exp(-before)) - points / upper
    if share <= 0:
        raise ConfigError(
            f"an effect of {points:g} points is more than a scale of {upper:g} points shows at severity z = {latent:g}",
            do="correct the points, the scale, or 'at'",
        )
    return (before - math.log(share / (1 - share))) / slope
