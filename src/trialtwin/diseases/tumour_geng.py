"""Lung cancer under chemotherapy and radiotherapy after Geng 2017: Gompertz growth, and two ways to kill.

Time in days, volume V in cm³, capacity K that of a sphere of 30 cm:

    V' = [ρ log(K / V) − chemo sensitivity · cell_kill − (α + (α / 10) · fraction) · radiation] · V

The words are mechanisms: cell_kill in 1/day (β_c times concentration in the publication) and radiation in Gy/day, given
in fractions of 2 Gy. The publication steps from day to day; these are its equations in continuous time, without its
noise. ρ and α are normal, cut off at 0, and go together (a Gaussian copula with r .87 stands for the cut bivariate
normal). Without treatment, in closed form, V(t) = K (V(0) / K)^exp(−ρ t). Routes: chemotherapy and radiotherapy.

References
----------
Geng 2017, Prediction of treatment response for combined chemo- and radiation therapy for non-small cell lung cancer
patients using a bio-mathematical model. doi:10.1038/s41598-017-13646-z
"""

import math
from collections.abc import Mapping
from typing import Any, final

import jax
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

GENG = "Geng 2017, doi:10.1038/s41598-017-13646-z"
PARAMETERS = (Parameter("chemo sensitivity", 1.0, "of the typical", GENG, "medium", 0.025, 0.1, spread_source=GENG),)
# normal before the cut at 0
RHO_MEAN, RHO_SD = 7e-5, 7.23e-3
ALPHA_MEAN, ALPHA_SD = 0.0398, 0.168
CORRELATION = 0.87
RATIO, FRACTION = 10.0, 2.0
DIAMETER = 30.0
CONSTANTS = (
    Constant("ρ: mean before the cut", RHO_MEAN, "1/d", GENG, "medium"),
    Constant("ρ: SD before the cut", RHO_SD, "1/d", GENG, "medium"),
    Constant("α: mean before the cut", ALPHA_MEAN, "1/Gy", GENG, "medium"),
    Constant("α: SD before the cut", ALPHA_SD, "1/Gy", GENG, "medium"),
    Constant("correlation ρ–α", CORRELATION, "", GENG, "medium"),
    Constant("α/β", RATIO, "Gy", GENG, "medium"),
    Constant("fraction", FRACTION, "Gy", GENG, "medium"),
    Constant("diameter at capacity", DIAMETER, "cm", GENG, "medium"),
)
INSTRUMENTS = (
    Instrument("tumour diameter", "cm", 0.0, DIAMETER, 0.1, 0.05, BY_HAND, "low", 0.1, step=0.1, provisional=True),
)
CAPACITY = math.pi / 6 * DIAMETER**3
type Patient = Mapping[str, Float[Array, ""]]


@final
class GengTumour(AbstractDisease):
    """Gompertz growth under chemotherapy and radiotherapy; the diameter at baseline is a covariate, in cm.

    Examples
    --------
    >>> from trialtwin.diseases.tumour_geng import GengTumour
    >>> [m.name for m in GengTumour().mechanisms]
    ['cell_kill', 'radiation']
    """

    name: str = "tumour-geng"
    states: tuple[str, ...] = ("volume",)
    tolerances: tuple[float, ...] = (0.01,)
    ranges: tuple[tuple[float, float], ...] = ((0.0, 1.001 * CAPACITY),)
    effects: tuple[str, ...] = ("growth", "radiosensitivity", *varying(PARAMETERS))
    declared: tuple[Declared, ...] = (Declared("tumour diameter", centre=4.0),)
    mechanisms: tuple[Mechanism, ...] = (
        Mechanism("cell_kill", 0.0, "rate at which chemotherapy shrinks a typical tumour, 1/d"),
        Mechanism("radiation", 0.0, "radiation, Gy/d, in fractions of 2 Gy"),
    )
    routes: tuple[Route, ...] = (
        Route("chemotherapy", "a drug kills cells"),
        Route("radiotherapy", "radiation kills cells"),
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
        return (*CONSTANTS, *constants_of(PARAMETERS, INSTRUMENTS))

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
        growth, radio, *rest = effects
        own = own_values(PARAMETERS, population, jnp.stack(rest))
        together = CORRELATION * growth + (1 - CORRELATION**2) ** 0.5 * radio
        return own | {
            "ρ": above_zero(RHO_MEAN, RHO_SD, growth),
            "α": above_zero(ALPHA_MEAN, ALPHA_SD, together),
            "volume": math.pi / 6 * covariates["tumour diameter"] ** 3,
        }

    def initial(self, individual: Patient) -> State:
        """Return the state at baseline."""
        return (individual["volume"],)

    def signals(
        self, t: Float[Array, ""], state: State, individual: Patient, modulation: Mapping[str, Float[Array, ""]]
    ) -> dict[str, Any]:
        """Return what flows along each route now."""
        del t, state
        alpha = individual["α"]
        return {
            "chemotherapy": individual["chemo sensitivity"] * modulation["cell_kill"],
            "radiotherapy": alpha * (1 + FRACTION / RATIO) * modulation["radiation"],
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
        volume = state[0]
        # where nothing is left, nothing grows: the logarithm needs a floor
        growth = individual["ρ"] * jnp.log(CAPACITY / jnp.maximum(volume, 1e-12))
        return ((growth - signals["chemotherapy"] - signals["radiotherapy"]) * volume,)

    def apparent(self, state: State, individual: Patient, signals: Mapping[str, Any]) -> State:
        """Return the states, then what instruments read."""
        del individual, signals
        return state[0], (6 / math.pi * jnp.maximum(state[0], 1e-12)) ** (1 / 3)


def above_zero(mean: float, sd: float, normal: Float[Array, ""]) -> Float[Array, ""]:
    """Return the value of a normal variable, cut off at 0, at the quantile that a standard-normal number has.

    Examples
    --------
    >>> round(float(above_zero(0.0, 1.0, jnp.zeros(()))), 3)
    0.674
    """
    kept = jax.scipy.special.ndtr(mean / sd)
    return mean - sd * jax.scipy.special.ndtri(kept * jax.scipy.special.ndtr(-normal))
