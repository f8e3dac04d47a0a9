"""Target-mediated disposition: a drug that its own target binds and carries away.

In mg/L of drug equivalents (target concentrations times the drug's molar mass), with L the free drug where the target
is, R the free target, RC the complex, and Rt = R + RC:

full binding
    b   = kon L R − koff RC;      L' = … − b
    R'  = kdeg (R0 − R) − b;      RC' = b − kint RC
quasi-steady state, Kss = (koff + kint)/kon
    RC  = Rt L/(Kss + L);   L the positive root of L² + (Rt + Kss − Lt) L − Kss Lt = 0, with Lt = L + RC
    Rt' = kdeg (R0 − Rt + RC) − kint RC

The target lies in the central compartment, or at a site that drug enters with flow q_in and leaves with flow q_out:
V L' = q_in C − q_out L − V b. The little that enters a site is not missed in the blood.
Sources: Mager & Jusko 2001, doi:10.1023/A:1014414520282; Gibiansky 2008, doi:10.1007/s10928-008-9102-8.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.drugs.pk import AbstractPharmacokinetics, Rates, State, linear_flow
from trialtwin.drugs.quantity import Quantities, Scalar

_LINEAR = ("CL", "V1", "Q", "V2", "ka", "F")


class Bound(NamedTuple):
    """A patient's rates of disposition and of binding."""

    rates: Rates
    baseline: Scalar
    turnover: Scalar
    internal: Scalar
    on: Scalar
    off: Scalar
    half: Scalar
    into: Scalar
    away: Scalar


@final
class TargetMediated(AbstractPharmacokinetics):
    """Compartments whose drug is bound by a target.

    ``quasi`` chooses the quasi-steady state, ``site`` a target outside the blood. With ``quasi`` in the blood the
    central amount is the total, free and bound. States are the compartments, ``site`` (where there is one), ``target``
    (free; total with ``quasi``) and ``complex`` (not with ``quasi``).
    """

    states: tuple[str, ...] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    quasi: bool = eqx.field(static=True)
    site: bool = eqx.field(static=True)
    quantities: Quantities

    @property
    def compartments(self) -> tuple[str, ...]:
        """Names of the depot, central and peripheral states that there are."""
        return tuple(name for name in self.states if name in ("depot", "central", "peripheral"))

    def individual(self, effects: Float[Array, " effect"], covariates: Mapping[str, Scalar]) -> Bound:
        """Return a patient's own rates."""
        p = self.quantities.individual(effects, covariates)
        zero, one = jnp.zeros(()), jnp.ones(())
        q = p.get("Q", zero)
        share = jnp.minimum(p.get("F", one), 1.0)
        rates = Rates(p["V1"], p["CL"] / p["V1"], q / p["V1"], q / p.get("V2", one), p.get("ka", zero), share)
        volume = p.get("V_site", one)
        on, off = p.get("kon", zero), p.get("koff", zero)
        half = p["Kss"] if self.quasi else (off + p["kint"]) / on
        into, away = p.get("q_in", zero) / volume, p.get("q_out", zero) / volume
        return Bound(rates, p["R0"], p["kdeg"], p["kint"], on, off, half, into, away)

    def initial(self, individual: Any) -> State:
        """Return no drug, and the target at its baseline."""
        return tuple(individual.baseline if name == "target" else jnp.zeros(()) for name in self.states)

    def receive(self, state: State, amounts: tuple[Scalar, ...], individual: Any) -> State:
        """Add each amount to its compartment."""
        del individual
        given = dict(zip(self.inputs, amounts, strict=True))
        return tuple(a + given[name] if name in given else a for a, name in zip(state, self.states, strict=True))

    def flow(self, state: State, rates: tuple[Scalar, ...], individual: Any) -> State:
        """Return the time derivative, per day."""
        p, at = individual, dict(zip(self.states, state, strict=True))
        given = dict(zip(self.inputs, rates, strict=True))
        free, bound = self._binding(at, p)
        if self.quasi and not self.site:
            at = {**at, "central": free * p.rates.volume}
        amounts = tuple(at[name] for name in self.compartments)
        flows = dict(zip(self.compartments, linear_flow(self.compartments, amounts, given, p.rates), strict=True))
        if self.quasi:
            flows["target"] = p.turnover * (p.baseline - at["target"] + bound) - p.internal * bound
            taken = p.internal * bound
        else:
            taken = p.on * free * at["target"] - p.off * bound
            flows["target"] = p.turnover * (p.baseline - at["target"]) - taken
            flows["complex"] = taken - p.internal * bound
        if self.site:
            entering = p.into * at["central"] / p.rates.volume
            flows["site"] = entering - p.away * free - taken
        else:
            flows["central"] = flows["central"] - p.rates.volume * taken
        return tuple(flows[name] for name in self.states)

    def _binding(self, at: Mapping[str, Scalar], p: Bound) -> tuple[Scalar, Scalar]:
        """Return the free drug where the target is, and the complex, mg/L."""
        total = at["site"] if self.site else at["central"] / p.rates.volume
        if not self.quasi:
            return total, at["complex"]
        excess = total - at["target"] - p.half
        root = jnp.sqrt(excess**2 + 4 * p.half * jnp.maximum(total, 0.0))
        # the form without cancellation, whichever sign the excess has
        free = jnp.where(excess >= 0, (excess + root) / 2, 2 * p.half * jnp.maximum(total, 0.0) / (root - excess))
        return free, at["target"] * free / (p.half + free)

    def drivers(self, state: State, individual: Any) -> dict[str, Scalar]:
        """Return the free concentration in the blood, at the site, and the share of target that is bound or gone."""
        p, at = individual, dict(zip(self.states, state, strict=True))
        free, bound = self._binding(at, p)
        blood = at["central"] / p.rates.volume if self.site or not self.quasi else free
        unbound = at["target"] - bound if self.quasi else at["target"]
        whole = jnp.maximum(unbound, 0.0) + jnp.maximum(bound, 0.0)
        return {
            "concentration": jnp.maximum(blood, 0.0),
            "site": jnp.maximum(free, 0.0),
            "occupancy": jnp.clip(bound / jnp.maximum(whole, 1e-300), 0.0, 1.0),
            "suppression": jnp.clip(1 - unbound / p.baseline, 0.0, 1.0),
        }

    def linear(self, individual: Any) -> Rates:
        """Return the rates without the target."""
        return individual.rates
