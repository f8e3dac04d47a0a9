"""Glucose and insulin over minutes to days: Bergman's minimal model, with insulin that glucose calls for.

Time in minutes inside the equations, days outside (× 1440). Glucose G in mg/dL, remote insulin action X in 1/min,
plasma insulin I in mU/L, basal values Gb and Ib:

    G' = −(SG + X) G + SG Gb + glucose_input
    X' = −p2 X + p2 SI (I − Ib)
    I' = −n (I − Ib) + φ max(G − Gb, 0) + insulin_input

The words are the mechanisms: mg/dL/min and mU/L/min. Rates reach 200 a day: use ``Stiff``, or ``Adaptive``, over days
and weeks. Routes: insulin (X, which acts on G) and glucose (what comes in).

References
----------
Bergman 1979, Quantitative estimation of insulin sensitivity. doi:10.1152/ajpendo.1979.236.6.E667
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

BERGMAN = "Bergman's minimal model, recalled"
PARAMETERS = (
    Parameter("glucose effectiveness", 0.025, "1/min", BERGMAN + ": .02–.03", "medium", 0.25, 0.2, provisional=True),
    Parameter("rate of insulin action", 0.025, "1/min", BERGMAN + ": .02–.03", "medium", 0.25, provisional=True),
    Parameter(
        "insulin sensitivity", 5e-4, "1/min per mU/L", BERGMAN + ": 2–8e-4", "medium", 0.4, 0.3, provisional=True
    ),
    Parameter("basal glucose", 92.0, "mg/dL", BY_HAND, "low", 0.08, 0.1, provisional=True),
    Parameter("basal insulin", 10.0, "mU/L", BY_HAND, "low", 0.3, 0.2, provisional=True),
    Parameter("clearance of insulin", 0.14, "1/min", BY_HAND, "low", 0.2, provisional=True),
    Parameter("secretion per glucose", 0.02, "mU/L/min per mg/dL", BY_HAND, "low", 0.4, 0.3, provisional=True),
)
INSTRUMENTS = (
    Instrument("glucose", "mg/dL", 0.0, 1000.0, 2.0, 0.05, BY_HAND, "low", 2.0, step=1.0, provisional=True),
    Instrument("insulin", "mU/L", 0.0, 2000.0, 1.0, 0.08, BY_HAND, "low", 1.0, provisional=True),
)
MINUTES = 1440.0  # in a day
type Patient = Mapping[str, Float[Array, ""]]


@final
class Bergman(AbstractDisease):
    """The minimal model of glucose and insulin.

    Examples
    --------
    >>> from trialtwin.diseases.bergman import Bergman
    >>> Bergman().states
    ('glucose', 'insulin action', 'insulin')
    """

    name: str = "bergman"
    states: tuple[str, ...] = ("glucose", "insulin action", "insulin")
    tolerances: tuple[float, ...] = (0.01, 1e-6, 0.01)
    ranges: tuple[tuple[float, float], ...] = ((0.0, 1500.0), (-1.0, 5.0), (-1.0, 5000.0))
    effects: tuple[str, ...] = varying(PARAMETERS)
    declared: tuple[Declared, ...] = ()
    mechanisms: tuple[Mechanism, ...] = (
        Mechanism("insulin_input", 0.0, "insulin given, mU/L/min"),
        Mechanism(
            "glucose_input", 0.0, "glucose that comes in beside the liver's, mg/dL/min; below 0 where it is lost"
        ),
    )
    routes: tuple[Route, ...] = (
        Route("insulin", "insulin acts on the uptake and making of glucose"),
        Route("glucose", "glucose comes in, or is kept out"),
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
        """Return the state at baseline, in basal balance."""
        return individual["basal glucose"], jnp.zeros_like(individual["basal glucose"]), individual["basal insulin"]

    def signals(
        self, t: Float[Array, ""], state: State, individual: Patient, modulation: Mapping[str, Float[Array, ""]]
    ) -> dict[str, Any]:
        """Return what flows along each route now."""
        del t, individual
        return {"insulin": state[1], "glucose": modulation["glucose_input"]}

    def flow(
        self,
        t: Float[Array, ""],
        state: State,
        individual: Patient,
        modulation: Mapping[str, Float[Array, ""]],
        signals: Mapping[str, Any],
    ) -> State:
        """Return the time derivative, per day."""
        del t
        glucose, action, insulin = state
        own, above = individual, individual["basal insulin"]
        per_minute = (
            own["glucose effectiveness"] * (own["basal glucose"] - glucose)
            - signals["insulin"] * glucose
            + signals["glucose"],
            own["rate of insulin action"] * (own["insulin sensitivity"] * (insulin - above) - action),
            own["secretion per glucose"] * jnp.maximum(glucose - own["basal glucose"], 0.0)
            - own["clearance of insulin"] * (insulin - above)
            + modulation["insulin_input"],
        )
        return tuple(MINUTES * slope for slope in per_minute)

    def apparent(self, state: State, individual: Patient, signals: Mapping[str, Any]) -> State:
        """Return the states, then what instruments read."""
        del individual, signals
        return (*state, state[0], state[2])
