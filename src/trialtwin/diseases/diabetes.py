"""Type 2 diabetes after Choy 2016: weight, insulin sensitivity, beta cells, glucose, insulin and HbA1c.

Time in days outside; weight W in kg with W0 its baseline, fasting glucose FPG in mmol/L, fasting insulin FSI in µU/mL,
HbA1c in %. A patient's own sensitivity at baseline is s, its beta-cell function b(t):

    W'  = ln 2 / 96.9 · (weight_input · W0 − W)
    IS  = insulin_sensitivity · σ(logit s) · (1 − 0.0514 (W − W0)),  at least 0.05 of its value at W0
    B   = beta_cell_function · σ(0.446 + η − 0.209 · rate · t / year)
    FPG = [3.5 + √(3.5² + 4 · 35.1 / (7.8 · IS · B))] / 2,   FSI = 7.8 · B · (FPG − 3.5)
    H1' = 0.0129 FPG + 0.0709 − k H1,  H2' = k (H1 − H2),  H3' = k (H2 − H3),   HbA1c = H1 + H2 + H3,  k = 3 / 38.9 d

Glucose and insulin are in balance with weight, sensitivity and beta cells at any moment. Words with an underscore are
the mechanisms. Routes of benefit: weight (W in IS), sensitivity (what a drug does to IS itself) and beta cells.

References
----------
Choy 2016, a population weight–HbA1c–insulin–glucose model of placebo-treated type 2 diabetes.
"""

from collections.abc import Mapping
from typing import Any, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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

CHOY = "Choy 2016, weight–HbA1c–insulin–glucose model"
PARAMETERS = (
    Parameter("half-life of weight", 96.9, "d", CHOY, "high"),
    Parameter("odds of insulin sensitivity", 0.332871, "odds; exp(−1.1)", CHOY, "high", spread=0.4, learned=0.2),
    Parameter("loss of sensitivity per kg", 0.0514, "1/kg", CHOY, "high"),
    Parameter("odds of beta-cell function", 1.562051, "odds; exp(0.446)", CHOY, "high", spread=0.4, learned=0.2),
    Parameter("loss of beta cells", 0.209, "logit/yr", CHOY, "high", spread=0.5, learned=0.2),
    Parameter("glucose below which no insulin", 3.5, "mmol/L", CHOY, "high"),
    Parameter("insulin per glucose", 7.8, "µU/mL per mmol/L", CHOY, "high"),
    Parameter("glucose production", 35.1, "mmol/L · µU/mL", CHOY, "high"),
    Parameter("mean transit time of HbA1c", 38.9, "d", CHOY, "high"),
    Parameter("HbA1c per glucose", 0.0129, "%/d per mmol/L", CHOY, "high"),
    Parameter("HbA1c without glucose", 0.0709, "%/d", CHOY, "high"),
)
INSTRUMENTS = (
    Instrument("body weight", "kg", 20.0, 400.0, 1.0, 0.0, BY_HAND, "low", 0.5, provisional=True),
    Instrument("FPG", "mmol/L", 0.0, 60.0, 0.0, 0.10, BY_HAND, "low", 0.2, provisional=True),
    Instrument("FSI", "µU/mL", 0.0, 1000.0, 0.0, 0.30, BY_HAND, "low", 1.0, provisional=True),
    Instrument("HbA1c", "%", 2.0, 30.0, 0.2, 0.0, BY_HAND, "low", 0.2, step=0.1, provisional=True),
)
LEAST = 0.05  # of sensitivity, where a straight line in weight would reach none
type Patient = Mapping[str, Float[Array, ""]]


@final
class Diabetes(AbstractDisease):
    """The weight–HbA1c–insulin–glucose model of type 2 diabetes.

    Examples
    --------
    >>> from trialtwin.diseases.diabetes import Diabetes
    >>> [m.name for m in Diabetes().mechanisms]
    ['insulin_sensitivity', 'beta_cell_function', 'weight_input']
    """

    name: str = "diabetes"
    states: tuple[str, ...] = ("weight", "HbA1c, first part", "HbA1c, second part", "HbA1c, third part")
    tolerances: tuple[float, ...] = (0.05, 0.002, 0.002, 0.002)
    ranges: tuple[tuple[float, float], ...] = ((20.0, 400.0), (0.0, 20.0), (0.0, 20.0), (0.0, 20.0))
    effects: tuple[str, ...] = varying(PARAMETERS)
    declared: tuple[Declared, ...] = (Declared("weight", centre=104.0),)
    mechanisms: tuple[Mechanism, ...] = (
        Mechanism("insulin_sensitivity", 1.0, "multiplier of insulin sensitivity"),
        Mechanism("beta_cell_function", 1.0, "multiplier of beta-cell function"),
        Mechanism("weight_input", 1.0, "multiplier of what keeps weight up"),
    )
    routes: tuple[Route, ...] = (
        Route("weight", "less weight makes insulin act better"),
        Route("sensitivity", "a drug makes insulin act better itself"),
        Route("beta cells", "a drug makes beta cells give more insulin"),
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
        return own_values(PARAMETERS, population, effects) | {"weight": covariates["weight"]}

    def initial(self, individual: Patient) -> State:
        """Return the state at baseline, with HbA1c in balance with glucose."""
        start = individual["weight"]
        one = jnp.ones_like(start)
        fpg, _ = _glucose(
            individual, {"weight": 0 * start, "sensitivity": one, "beta cells": self._cells(0 * one, individual)}
        )
        made = individual["HbA1c per glucose"] * fpg + individual["HbA1c without glucose"]
        part = made * individual["mean transit time of HbA1c"] / 3
        return start, part, part, part

    def signals(
        self, t: Float[Array, ""], state: State, individual: Patient, modulation: Mapping[str, Float[Array, ""]]
    ) -> dict[str, Any]:
        """Return what flows along each route now."""
        weight = state[0]
        return {
            "weight": weight - individual["weight"],
            "sensitivity": modulation["insulin_sensitivity"],
            "beta cells": modulation["beta_cell_function"] * self._cells(t, individual),
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
        del t
        weight, first, second, third = state
        fpg, _ = _glucose(individual, signals)
        made = individual["HbA1c per glucose"] * fpg + individual["HbA1c without glucose"]
        k = 3 / individual["mean transit time of HbA1c"]
        keeps = modulation["weight_input"] * individual["weight"]
        return (
            jnp.log(2.0) / individual["half-life of weight"] * (keeps - weight),
            made - k * first,
            k * (first - second),
            k * (second - third),
        )

    def apparent(self, state: State, individual: Patient, signals: Mapping[str, Any]) -> State:
        """Return the states, then what instruments read."""
        weight, first, second, third = state
        fpg, fsi = _glucose(individual, signals)
        return weight, first, second, third, weight, fpg, fsi, first + second + third

    def _cells(self, t: Float[Array, ""], own: Patient) -> Float[Array, ""]:
        """Return beta-cell function without treatment."""
        return jax.nn.sigmoid(
            jnp.log(own["odds of beta-cell function"]) - own["loss of beta cells"] * t / DAYS_PER_YEAR
        )


def _glucose(own: Patient, signals: Mapping[str, Any]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return fasting glucose, mmol/L, and fasting insulin, µU/mL."""
    odds = own["odds of insulin sensitivity"]
    by_weight = jnp.maximum(1 - own["loss of sensitivity per kg"] * signals["weight"], LEAST)
    sensitivity = signals["sensitivity"] * odds / (1 + odds) * by_weight
    cells, floor, gain = signals["beta cells"], own["glucose below which no insulin"], own["insulin per glucose"]
    fpg = (floor + jnp.sqrt(floor**2 + 4 * own["glucose production"] / (gain * sensitivity * cells))) / 2
    return fpg, gain * cells * (fpg - floor)
