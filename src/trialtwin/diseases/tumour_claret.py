"""Tumour size in patients after Claret 2009: growth, and a kill that wanes as resistance comes up.

Time in weeks inside the equation, days outside; y the sum of longest diameters, mm.

    y' = kL y − cell_kill · exp(−λ t) · y,   t since baseline

The word is the mechanism, per day outside: kD times exposure. With a constant kill κ per week, in closed form,
y(t) = y(0) exp[kL t − κ/λ (1 − exp(−λ t))]. Route: kill.

References
----------
Claret 2009, Model-based prediction of phase III overall survival. doi:10.1200/JCO.2008.21.0807
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

CLARET = "Claret 2009, doi:10.1200/JCO.2008.21.0807"
PARAMETERS = (
    Parameter("growth", 0.021, "1/wk", CLARET, "medium", spread=0.5, learned=0.3),
    Parameter("rise of resistance", 0.057, "1/wk", CLARET + ": .053–.061", "medium", spread=0.5, learned=0.2),
    Parameter("size at baseline", 80.0, "mm", BY_HAND, "low", spread=0.5, learned=0.2, provisional=True),
)
INSTRUMENTS = (
    Instrument("sum of longest diameters", "mm", 0.0, 5000.0, 1.0, 0.08, BY_HAND, "low", 1.0, 1.0, provisional=True),
)
WEEK = 7.0  # days
type Patient = Mapping[str, Float[Array, ""]]


@final
class ClaretTumour(AbstractDisease):
    """Tumour size with waning kill.

    Examples
    --------
    >>> from trialtwin.diseases.tumour_claret import ClaretTumour
    >>> ClaretTumour().states
    ('size',)
    """

    name: str = "tumour-claret"
    states: tuple[str, ...] = ("size",)
    tolerances: tuple[float, ...] = (0.02,)
    ranges: tuple[tuple[float, float], ...] = ((0.0, 5000.0),)
    effects: tuple[str, ...] = varying(PARAMETERS)
    declared: tuple[Declared, ...] = ()
    mechanisms: tuple[Mechanism, ...] = (
        Mechanism("cell_kill", 0.0, "rate at which size shrinks before resistance, 1/d"),
    )
    routes: tuple[Route, ...] = (Route("kill", "a drug shrinks the tumour"),)

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
        return (individual["size at baseline"],)

    def signals(
        self, t: Float[Array, ""], state: State, individual: Patient, modulation: Mapping[str, Float[Array, ""]]
    ) -> dict[str, Any]:
        """Return what flows along each route now."""
        del state
        return {"kill": modulation["cell_kill"] * jnp.exp(-individual["rise of resistance"] * t / WEEK)}

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
        return (individual["growth"] / WEEK * state[0] - signals["kill"] * state[0],)

    def apparent(self, state: State, individual: Patient, signals: Mapping[str, Any]) -> State:
        """Return the states, then what instruments read."""
        del individual, signals
        return state[0], state[0]
