"""Tumour growth and damage after Simeoni 2004: exponential, then linear growth; dying cells pass through three stages.

Time in days, weights in g: x1 growing cells, x2, x3, x4 dying ones, w = x1 + x2 + x3 + x4.

    x1' = λ0 x1 / [1 + (λ0 w / λ1)^Ψ]^(1/Ψ) − cell_kill · x1
    x2' = cell_kill · x1 − k1 x2,   x3' = k1 (x2 − x3),   x4' = k1 (x3 − x4)

The word is the mechanism, 1/day: potency times concentration of a cytotoxic drug. Growth is of mice with xenografts.
Routes: kill (what a drug does to cells) and room (how the weight as a whole slows growth).

References
----------
Simeoni 2004, Predictive pharmacokinetic–pharmacodynamic modeling of tumor growth kinetics in xenograft models.
doi:10.1158/0008-5472.CAN-03-2524
"""

from collections.abc import Mapping
from typing import Any, final

import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.core.variables import Declared
from trialtwin.diseases.base import AbstractDisease, AbstractScale, Constant, Mechanism, Prior, Route, State
from trialtwin.diseases.table import (
    BY_HAND,
    Instrument,
    Parameter,
    constants_of,
    own_values,
    priors_of,
    scale_priors_of,
    scales_of,
    varying,
)

SIMEONI = "Simeoni 2004, doi:10.1158/0008-5472.CAN-03-2524"
PARAMETERS = (
    Parameter("exponential growth", 0.273, "1/d", SIMEONI + ", recalled", "medium", 0.2, 0.2, provisional=True),
    Parameter("linear growth", 0.814, "g/d", SIMEONI + ", recalled", "medium", 0.2, 0.2, provisional=True),
    Parameter("passage of dying cells", 0.968, "1/d", SIMEONI, "high", spread=0.2, learned=0.2),
    Parameter("sharpness", 20.0, "", SIMEONI + ", recalled", "medium", provisional=True),
    Parameter("weight at baseline", 0.1, "g", BY_HAND, "low", spread=0.3, learned=0.2, provisional=True),
)
INSTRUMENTS = (Instrument("tumour weight", "g", 0.0, 1000.0, 0.01, 0.10, BY_HAND, "low", 0.02, provisional=True),)
type Patient = Mapping[str, Float[Array, ""]]


@final
class Tumour(AbstractDisease):
    """The exponential–linear model of a growing tumour with stages of damage.

    Examples
    --------
    >>> from trialtwin.diseases.tumour import Tumour
    >>> [m.name for m in Tumour().mechanisms]
    ['cell_kill']
    """

    name: str = "tumour"
    states: tuple[str, ...] = ("growing cells", "dying cells 1", "dying cells 2", "dying cells 3")
    tolerances: tuple[float, ...] = (1e-3, 1e-3, 1e-3, 1e-3)
    ranges: tuple[tuple[float, float], ...] = ((0.0, 1e3), (-1e-3, 1e3), (-1e-3, 1e3), (-1e-3, 1e3))
    effects: tuple[str, ...] = varying(PARAMETERS)
    declared: tuple[Declared, ...] = ()
    mechanisms: tuple[Mechanism, ...] = (Mechanism("cell_kill", 0.0, "rate at which growing cells are hit, 1/d"),)
    routes: tuple[Route, ...] = (
        Route("kill", "a drug hits growing cells"),
        Route("room", "the more tumour there is, the slower it grows"),
    )

    @property
    def priors(self) -> tuple[Prior, ...]:
        """Return the population parameters that are learned."""
        return priors_of(PARAMETERS)

    @property
    def scales(self) -> Mapping[str, AbstractScale]:
        """Return the instruments by concept."""
        return scales_of(INSTRUMENTS, first=len(self.states))

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Return what is taken as given."""
        return constants_of(PARAMETERS, INSTRUMENTS)

    def scale_priors(self, concept: str) -> tuple[Prior, Prior, Prior]:
        """Return priors of a scale's shift, log between-patient spread of its offset, and log error multiplier."""
        return scale_priors_of(INSTRUMENTS, concept)

    def individual(
        self,
        population: Mapping[str, Float[Array, ""]],
        effects: Float[Array, " effect"],
        covariates: Mapping[str, Float[Array, ""]],
    ) -> Patient:
        """Return a patient's own parameters from population values, standard-normal effects and covariates."""
        del covariates
        return own_values(PARAMETERS, population, effects)

    def initial(self, individual: Patient) -> State:
        """Return the state at baseline."""
        start = individual["weight at baseline"]
        none = jnp.zeros_like(start)
        return start, none, none, none

    def signals(
        self, t: Float[Array, ""], state: State, individual: Patient, modulation: Mapping[str, Float[Array, ""]]
    ) -> dict[str, Any]:
        """Return what flows along each route now."""
        del t, individual
        return {"kill": modulation["cell_kill"], "room": state[0] + state[1] + state[2] + state[3]}

    def flow(
        self,
        t: Float[Array, ""],
        state: State,
        individual: Patient,
        modulation: Mapping[str, Float[Array, ""]],
        signals: Mapping[str, Any],
    ) -> State:
        """Return the time derivative, per day."""
        del t, modulation
        growing, first, second, third = state
        own = individual
        # a solver may step a hair below 0, where a power has no value
        share = jnp.maximum(own["exponential growth"] * signals["room"] / own["linear growth"], 0.0)
        growth = own["exponential growth"] * growing / (1 + share ** own["sharpness"]) ** (1 / own["sharpness"])
        hit, k = signals["kill"] * growing, own["passage of dying cells"]
        return growth - hit, hit - k * first, k * (first - second), k * (second - third)

    def apparent(self, state: State, individual: Patient, signals: Mapping[str, Any]) -> State:
        """Return the states, then what instruments read."""
        del individual, signals
        return (*state, state[0] + state[1] + state[2] + state[3])
