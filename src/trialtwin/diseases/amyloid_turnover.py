"""Amyloid PET as a turnover: made at a constant rate, removed in proportion; an antibody multiplies the removal.

Time in years inside the equation, days outside; S the SUVR, S0 its baseline, where it stays without treatment:

    S' = kout (S0 − amyloid_turnover · S)

The word is the mechanism: 1 + Emax C / (EC50 + C) under an antibody at concentration C. Two publications have fitted
this model, each with its own tracer scale and loss rate, and an antibody's Emax belongs to the loss rate that it was
fitted with: use "amyloid-turnover" with lecanemab, "amyloid-turnover-kandadi" with aducanumab. Route: amyloid.

References
----------
Hayato 2022 (lecanemab); Kandadi Muralidharan 2022 (aducanumab); both as in nlmixr2lib.
"""

from collections.abc import Mapping
from typing import Any, final

import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.core.errors import MismatchError
from trialtwin.core.variables import Declared
from trialtwin.diseases.base import (
    DAYS_PER_YEAR,
    AbstractDisease,
    AbstractScale,
    Constant,
    Mechanism,
    Prior,
    Route,
    State,
)
from trialtwin.diseases.table import (
    Instrument,
    Parameter,
    constants_of,
    own_values,
    priors_of,
    scale_priors_of,
    scales_of,
    varying,
)

HAYATO = "Hayato 2022, lecanemab (nlmixr2lib)"
KANDADI = "Kandadi Muralidharan 2022, aducanumab (nlmixr2lib)"
CARRIER = Constant("SUVR of APOE4 carriers", 1.04, "of that of others", HAYATO, "high")
PUBLISHED: Mapping[str, tuple[Parameter, ...]] = {
    "amyloid-turnover": (
        Parameter("SUVR at baseline", 1.34, "SUVR", HAYATO, "high", 0.109, 0.05, spread_source=HAYATO),
        Parameter("loss", 0.232 / 1.34, "1/yr", HAYATO + ": Kin .232 /yr over 1.34", "high", learned=0.1),
    ),
    "amyloid-turnover-kandadi": (
        Parameter("SUVR at baseline", 1.40, "SUVR", KANDADI, "high", 0.128, 0.05, spread_source=KANDADI),
        Parameter("loss", 0.746, "1/yr", KANDADI, "high", 0.422, 0.1, spread_source=KANDADI + ": CV 44.2 %"),
    ),
}
ERRORS = {"amyloid-turnover": (0.050, HAYATO), "amyloid-turnover-kandadi": (0.040, KANDADI)}
type Patient = Mapping[str, Float[Array, ""]]


@final
class AmyloidTurnover(AbstractDisease):
    """Amyloid SUVR as a turnover, with the numbers of one of two publications.

    Parameters
    ----------
    name
        "amyloid-turnover" for Hayato's, "amyloid-turnover-kandadi" for Kandadi Muralidharan's.

    Raises
    ------
    MismatchError
        If there are no numbers of that name.

    Examples
    --------
    >>> from trialtwin.diseases.amyloid_turnover import AmyloidTurnover
    >>> AmyloidTurnover().priors[1].name
    'log loss'
    """

    name: str
    states: tuple[str, ...]
    tolerances: tuple[float, ...]
    ranges: tuple[tuple[float, float], ...]
    effects: tuple[str, ...]
    declared: tuple[Declared, ...]
    mechanisms: tuple[Mechanism, ...]
    routes: tuple[Route, ...]
    parameters: tuple[Parameter, ...]
    instruments: tuple[Instrument, ...]

    def __init__(self, name: str = "amyloid-turnover") -> None:
        if name not in PUBLISHED:
            raise MismatchError(f"no published amyloid turnover {name!r}", exists=PUBLISHED)
        error, source = ERRORS[name]
        self.name, self.parameters = name, PUBLISHED[name]
        self.states, self.tolerances, self.ranges = ("amyloid SUVR",), (5e-4,), ((0.1, 5.0),)
        self.effects = varying(self.parameters)
        self.declared = (Declared("APOE4", centre=0.7),) if name == "amyloid-turnover" else ()
        self.mechanisms = (Mechanism("amyloid_turnover", 1.0, "multiplier of the removal of amyloid"),)
        self.routes = (Route("amyloid", "amyloid is removed"),)
        self.instruments = (Instrument("amyloid-PET-SUVR", "SUVR", 0.0, 5.0, 0.0, error, source, "high", 0.02),)

    @property
    def priors(self) -> tuple[Prior, ...]:
        """Return the population parameters that are learned."""
        return priors_of(self.parameters)

    @property
    def scales(self) -> Mapping[str, AbstractScale]:
        """Return the instruments by concept."""
        return scales_of(self.instruments, first=len(self.states))

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Return what is taken as given."""
        apoe = (CARRIER,) if self.declared else ()
        return (*apoe, *constants_of(self.parameters, self.instruments))

    def scale_priors(self, concept: str) -> tuple[Prior, Prior, Prior]:
        """Return priors of a scale's shift, log between-patient spread of its offset, and log error multiplier."""
        return scale_priors_of(self.instruments, concept)

    def individual(
        self,
        population: Mapping[str, Float[Array, ""]],
        effects: Float[Array, " effect"],
        covariates: Mapping[str, Float[Array, ""]],
    ) -> Patient:
        """Return a patient's own parameters from population values, standard-normal effects and covariates."""
        own = own_values(self.parameters, population, effects)
        if self.declared:
            # one allele or two; a missing genotype enters as the share of carriers
            carrier = jnp.minimum(covariates["APOE4"], 1.0)
            own["SUVR at baseline"] = own["SUVR at baseline"] * CARRIER.value**carrier
        return own

    def initial(self, individual: Patient) -> State:
        """Return the state at baseline."""
        return (individual["SUVR at baseline"],)

    def signals(
        self, t: Float[Array, ""], state: State, individual: Patient, modulation: Mapping[str, Float[Array, ""]]
    ) -> dict[str, Any]:
        """Return what flows along each route now."""
        del t, individual, state
        return {"amyloid": modulation["amyloid_turnover"]}

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
        speed = individual["loss"] / DAYS_PER_YEAR
        return (speed * (individual["SUVR at baseline"] - signals["amyloid"] * state[0]),)

    def apparent(self, state: State, individual: Patient, signals: Mapping[str, Any]) -> State:
        """Return the states, then what instruments read."""
        del individual, signals
        return state[0], state[0]
