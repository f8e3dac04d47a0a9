"""HIV under treatment: target cells, infected cells and virus, after Nelson 2000.

Time in days, everything per mL: T uninfected CD4+ cells, I productively infected cells, V virions.

    T' = λ − d T − infection · k V T
    I' = infection · k V T − δ I
    V' = virion_production · N δ I − c V

The words are the mechanisms: a reverse-transcriptase inhibitor lowers infection; a protease inhibitor lowers the making
of infectious virus (1 − n in the publication). Each patient starts in the untreated balance T* = c / (k N),
I* = c V* / (N δ) at the own set point V*, from which λ = d T* + δ I* follows. Routes: infection and production.

References
----------
Nelson 2000, A model of HIV-1 pathogenesis that includes an intracellular delay. doi:10.1016/S0025-5564(99)00055-3
"""

from collections.abc import Mapping
from typing import Any, final

import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.core.variables import Declared
from trialtwin.diseases.base import AbstractDisease, AbstractScale, Constant, Mechanism, Prior, Route, State
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

NELSON = "Nelson 2000, doi:10.1016/S0025-5564(99)00055-3"
LEAST_COPIES = 1.3  # log10 of the 20 copies/mL below which assays read nothing
PARAMETERS = (
    Parameter("death of infected cells", 0.5, "1/d", NELSON, "high", spread=0.3, learned=0.2),
    Parameter("clearance of virus", 3.0, "1/d", NELSON, "high", spread=0.2, learned=0.2),
    Parameter("virions per cell", 480.0, "", NELSON, "high"),
    Parameter("rate of infection", 3.43e-8, "mL/d", NELSON, "high", spread=0.2),
    Parameter("death of target cells", 0.01, "1/d", "recalled, usual in models of HIV", "low", provisional=True),
    Parameter("set point of virus", 1.34e5, "virions/mL", NELSON + ", recalled", "low", 1.0, 0.3, provisional=True),
)
INSTRUMENTS = (
    Instrument(
        "HIV-RNA", "log10 copies/mL", LEAST_COPIES, 10.0, 0.15, 0.0, "usual error of an assay", "low", 0.1,
        provisional=True,
    ),
    Instrument("CD4", "cells/µL", 0.0, 20000.0, 0.0, 0.15, "usual error of a count", "low", 20.0, provisional=True),
)  # fmt: skip
type Patient = Mapping[str, Float[Array, ""]]


@final
class Hiv(AbstractDisease):
    """Target cells, infected cells and virus.

    Examples
    --------
    >>> from trialtwin.diseases.hiv import Hiv
    >>> [m.name for m in Hiv().mechanisms]
    ['infection', 'virion_production']
    """

    name: str = "hiv"
    states: tuple[str, ...] = ("target cells", "infected cells", "virus")
    tolerances: tuple[float, ...] = (10.0, 0.1, 10.0)
    ranges: tuple[tuple[float, float], ...] = ((0.0, 1e8), (-1.0, 1e8), (-100.0, 1e10))
    effects: tuple[str, ...] = varying(PARAMETERS)
    declared: tuple[Declared, ...] = ()
    mechanisms: tuple[Mechanism, ...] = (
        Mechanism("infection", 1.0, "multiplier of the infection of target cells"),
        Mechanism("virion_production", 1.0, "multiplier of the making of infectious virus"),
    )
    routes: tuple[Route, ...] = (
        Route("infection", "virus infects cells"),
        Route("production", "infected cells make virus"),
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
        own = own_values(PARAMETERS, population, effects)
        cells = own["clearance of virus"] / (own["rate of infection"] * own["virions per cell"])
        dying = own["clearance of virus"] * own["set point of virus"] / own["virions per cell"]
        return own | {"target cells": cells, "source of target cells": own["death of target cells"] * cells + dying}

    def initial(self, individual: Patient) -> State:
        """Return the state at baseline, the untreated balance."""
        own, virus = individual, individual["set point of virus"]
        infected = own["clearance of virus"] * virus / (own["virions per cell"] * own["death of infected cells"])
        return own["target cells"], infected, virus

    def signals(
        self, t: Float[Array, ""], state: State, individual: Patient, modulation: Mapping[str, Float[Array, ""]]
    ) -> dict[str, Any]:
        """Return what flows along each route now."""
        del t
        target, infected, virus = state
        made = individual["virions per cell"] * individual["death of infected cells"] * infected
        return {
            "infection": modulation["infection"] * individual["rate of infection"] * virus * target,
            "production": modulation["virion_production"] * made,
        }

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
        target, infected, virus = state
        own, newly = individual, signals["infection"]
        return (
            own["source of target cells"] - own["death of target cells"] * target - newly,
            newly - own["death of infected cells"] * infected,
            signals["production"] - own["clearance of virus"] * virus,
        )

    def apparent(self, state: State, individual: Patient, signals: Mapping[str, Any]) -> State:
        """Return the states, then what instruments read."""
        del individual, signals
        target, infected, virus = state
        # a virion has two copies of RNA; an assay reads no lower than it can
        copies = jnp.log10(jnp.maximum(2 * virus, 10.0**LEAST_COPIES))
        return target, infected, virus, copies, (target + infected) / 1000
