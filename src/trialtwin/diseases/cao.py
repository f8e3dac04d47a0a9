"""Alzheimer's disease after Cao 2026: a quantitative systems pharmacology model of amyloid, neurons and tau.

Time in years since pathological onset inside the equations. States: amyloid monomer A, oligomer O, protofibril F,
plaque P; neurons healthy N, injured I0, I1, I2, dead DN; soluble tau TS, phosphorylated tau TP. With a = F + P and
T = F + 0.39 P:

    A'  = pNA (N + I0 + I1 + I2) − kAO A (1 + sA a) + kOA O − cA A
    O'  = kAO A (1 + sA a) − kOF O (1 + sO a) + kFO F − kOA O − cO O
    F'  = kOF O (1 + sO a) − kFP F (1 + sF a) + kPF P − kFO F − protofibril_clearance · cF F
    P'  = kFP F (1 + sF a) − kPF P − plaque_clearance · cP P
    n01 = tN N (1 + sN1 T) + β N TS (1 + sN2 T)
    g01 = tI01 I0 (1 + e01 T + ρ01 TS);   g12 = tI12 I1 (1 + e12 T);   g2d = dI2 I2 (1 + e2d T)
    N'  = −n01 + rI0 I0;   I0' = n01 − g01 − rI0 I0 + rI1 I1;   I1' = g01 − g12 + rI2 I2 − rI1 I1
    I2' = g12 − g2d − rI2 I2;   DN' = g2d
    TS' = (pSI0 I0 + pSI1 I1 + pSI2 I2)(1 + sTauS T) − cTS TS
    TP' = (pPI0 I0 + pPI1 I1 + pPI2 I2)(1 + sTauP T) + pPN N − cTP TP

The two words are the mechanisms that lecanemab acts on. A patient's course begins at onset, with A = 1700, N = 6.14e7
and nothing else; the state at trial entry is the state after the patient's years since onset.

References
----------
Cao 2026, npj Systems Biology and Applications. doi:10.1038/s41540-026-00677-4
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, final

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
    StateScale,
)
from trialtwin.engine.grid import Grid
from trialtwin.engine.stiff import Stiff
from trialtwin.engine.system import Equations

SOURCE = "Cao 2026, doi:10.1038/s41540-026-00677-4"
NEURONS = 6.14e7
MONOMER = 1700.0
STATES = (
    "amyloid monomer",
    "amyloid oligomer",
    "amyloid protofibril",
    "amyloid plaque",
    "healthy neurons",
    "injured neurons 0",
    "injured neurons 1",
    "injured neurons 2",
    "dead neurons",
    "soluble tau",
    "phosphorylated tau",
)
# what instruments see stands behind the states
SEEN = ("CDR-SB", "ADAS-Cog14", "amyloid-PET", "amyloid-PET-SUVR", "tau-PET", "Aβ42/40", "p-tau181")

RATES: Mapping[str, float] = {
    "pNA": 0.054, "kAO": 20.11, "kOA": 693.62, "kOF": 283.98, "kFO": 10.0, "kFP": 0.34, "kPF": 0.025, "sA": 1.4e-5,
    "sO": 3.4e-4, "sF": 6.9e-8, "cA": 1500.0, "cO": 0.5, "cF": 0.12, "cP": 0.26, "tN": 1e-5, "β": 10.0, "sN1": 5e-5,
    "sN2": 2e-7, "rI0": 82.95, "rI1": 0.23, "rI2": 0.00037, "tI01": 0.0051, "tI12": 0.01, "e01": 1e-7, "e12": 1.2e-8,
    "e2d": 8.8e-10, "ρ01": 7.3e-6, "dI2": 0.012, "pSI0": 2e-6, "pSI1": 8.2e-5, "pSI2": 1.65, "pPI0": 1.8e-6,
    "pPI1": 4.9e-5, "pPI2": 4e-5, "pPN": 1e-6, "cTS": 8.6, "cTP": 8.6, "sTauS": 8.8e-8, "sTauP": 8.2e-8,
}  # fmt: skip
# SD of the log of each patient's own value (inter-individual variability), in the order of the random effects
SPREADS: Mapping[str, float] = {
    "pNA": 0.13, "kAO": 0.093, "kFP": 0.78, "kPF": 0.26, "sF": 0.15, "tI01": 0.15, "αCDR": 0.30, "shapeCDR": 0.85,
    "ehcCDR": 0.12, "αADAS": 0.20, "shapeADAS": 0.73, "tauPET": 0.37, "pPI0": 0.53, "pPI1": 0.56,
    "p-tau floor": 0.28, "Aβ floor": 0.072, "SUVR0": 0.07,
}  # fmt: skip
CORRELATION_KAO_CDR, CORRELATION_PNA_CDR = -0.24, -0.32
ONE_ALLELE, TWO_ALLELES = 0.15, 0.18  # on log kAO
# the maps to what is seen: value and unit
MAPS: Mapping[str, tuple[float, str]] = {
    "CDR-SB: floor": (0.69, "points"), "CDR-SB: αCDR": (3.58, "points"), "CDR-SB: ehcCDR": (2.4e-8, "1/load"),
    "CDR-SB: shapeCDR": (2.92, ""), "CDR-SB: weight of DN": (1075.4, ""), "CDR-SB: weight of I2": (20.0, ""),
    "CDR-SB: weight of I1": (2.5, ""), "ADAS: floor": (7.54, "points"), "ADAS: αADAS": (16.9, "points"),
    "ADAS: load": (2e-8, "1/load"), "ADAS: shapeADAS": (6.23, ""), "ADAS: shape by age": (-0.021, "1/yr"),
    "ADAS: weight of DN": (1323.24, ""), "ADAS: weight of I2": (2.5, ""), "ADAS: weight of I1": (1.6, ""),
    "SUVR: slope": (5.6e-8, "SUVR/load"), "SUVR: weight of F": (1e-4, ""), "SUVR: SUVR0": (1.06, "SUVR"),
    "Centiloid: slope": (236.6, "CL/SUVR"), "Centiloid: intercept": (-246.9, "CL"), "tau PET: scale": (6e-7, ""),
    "tau PET: weight of I1": (0.47, ""), "tau PET: power": (1.5, ""), "tau PET: floor": (0.69, "SUVR"),
    "Aβ42/40: slope": (9.9e-6, ""), "Aβ42/40: floor": (0.091, ""), "Aβ42/40: floor by age": (-0.0019, "1/yr"),
    "p-tau: slope": (0.078, "pg/mL"), "p-tau: floor": (0.32, "pg/mL"),
}  # fmt: skip


class Patient(NamedTuple):
    """A patient's own parameters: years since onset at entry, age then, and multipliers of what varies."""

    years: Float[Array, ""]
    age: Float[Array, ""]
    own: Mapping[str, Float[Array, ""]]


class Amyloid(NamedTuple):
    """What amyloid does now: to neurons, and to scores beside the neurons that are lost."""

    toxic: Float[Array, ""]
    load: Float[Array, ""]


@final
class Cao(AbstractDisease):
    """The 11-state "Neuro-Dynamic" model of Cao 2026, each patient followed from pathological onset.

    Examples
    --------
    >>> from trialtwin.diseases.cao import Cao
    >>> [m.name for m in Cao().mechanisms]
    ['protofibril_clearance', 'plaque_clearance']
    """

    name: str = "alzheimer-cao"
    states: tuple[str, ...] = STATES
    tolerances: tuple[float, ...] = (1.0, 0.1, 1e3, 1e3, 1e2, 1e3, 1e2, 1e2, 1e2, 1e2, 0.05)
    ranges: tuple[tuple[float, float], ...] = (
        (0.0, 1e5), (0.0, 1e4), (0.0, 1e8), (0.0, 1e9), (0.0, 1.01 * NEURONS), (0.0, 1.01 * NEURONS),
        (0.0, 1.01 * NEURONS), (0.0, 1.01 * NEURONS), (0.0, 1.01 * NEURONS), (0.0, 1e9), (0.0, 1e5),
    )  # fmt: skip
    effects: tuple[str, ...] = ("years since onset", *SPREADS)
    declared: tuple[Declared, ...] = (Declared("age", centre=72.0), Declared("APOE4", centre=0.72))
    mechanisms: tuple[Mechanism, ...] = (
        Mechanism("protofibril_clearance", 1.0, "multiplier of the clearance of protofibrils"),
        Mechanism("plaque_clearance", 1.0, "multiplier of the clearance of plaque"),
    )
    routes: tuple[Route, ...] = (
        Route("amyloid", "protofibrils and plaque injure neurons, and worsen scores beside the neurons lost"),
        Route("tau", "soluble tau injures healthy neurons and drives injury on"),
    )

    @property
    def priors(self) -> tuple[Prior, ...]:
        """Return the population parameters that are learned."""
        return (
            Prior("log kAO shift", 0.0, 0.1, SOURCE + "; SD by hand", "low", provisional=True),
            Prior("log αCDR shift", 0.0, 0.2, SOURCE + "; SD by hand", "low", provisional=True),
            Prior("years since onset: mean", 25.5, 2.0, "CDR-SB about 3 there", "low", provisional=True),
            Prior("years since onset: log SD", 0.9, 0.3, "set by hand (SD 2.5 years)", "low", provisional=True),
        )

    @property
    def scales(self) -> Mapping[str, AbstractScale]:
        """Return the instruments by concept."""
        # lower, upper, additive and proportional error
        errors = {
            "CDR-SB": (0.0, 18.0, 0.52, 0.16),
            "ADAS-Cog14": (0.0, 90.0, 2.98, 0.07),
            "amyloid-PET": (-50.0, 400.0, 4.47, 0.091),
            "amyloid-PET-SUVR": (0.5, 4.0, 0.0, 0.05),
            "tau-PET": (0.3, 6.0, 0.0, 0.064),
            "Aβ42/40": (0.0, 1.0, 0.0, 0.081),
            "p-tau181": (0.0, 50.0, 0.0, 0.19),
        }
        return {
            concept: StateScale(
                index=len(STATES) + SEEN.index(concept),
                lower=lower,
                upper=upper,
                additive=additive,
                proportional=proportional,
                step=0.0,
            )
            for concept, (lower, upper, additive, proportional) in errors.items()
        }

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Return what is taken as given."""
        return (
            *(Constant(name, value, "years, cells, model units", SOURCE, "medium") for name, value in RATES.items()),
            *(Constant(f"SD of log {name}", sd, "", SOURCE, "medium") for name, sd in SPREADS.items()),
            Constant("correlation kAO–αCDR", CORRELATION_KAO_CDR, "", SOURCE, "medium"),
            Constant("correlation pNA–αCDR", CORRELATION_PNA_CDR, "", SOURCE, "medium"),
            Constant("log kAO, one APOE4 allele", ONE_ALLELE, "", SOURCE, "medium"),
            Constant("log kAO, two APOE4 alleles", TWO_ALLELES, "", SOURCE, "medium"),
            *(Constant(name, value, unit, SOURCE, "medium") for name, (value, unit) in MAPS.items()),
        )

    def scale_priors(self, concept: str) -> tuple[Prior, Prior, Prior]:
        """Return priors of a scale's shift, log between-patient spread of its offset, and log error multiplier.

        Patients already differ in their own maps to each score, so the offsets are small.
        """
        size = {"CDR-SB": 0.2, "ADAS-Cog14": 1.0, "amyloid-PET": 2.0}.get(concept, 0.02)
        shift = Prior(f"shift of {concept}", 0.0, size, "set by hand", "low", provisional=True)
        spread = Prior(f"log spread of {concept}", float(jnp.log(size)), 0.5, "set by hand", "low", provisional=True)
        error = Prior(f"log error multiplier of {concept}", 0.0, 0.25, "set by hand", "low", provisional=True)
        return shift, spread, error

    def individual(
        self,
        population: Mapping[str, Float[Array, ""]],
        effects: Float[Array, " effect"],
        covariates: Mapping[str, Float[Array, ""]],
    ) -> Patient:
        """Return a patient's own parameters from population values, standard-normal effects and covariates."""
        onset, *rest = effects
        normal = dict(zip(SPREADS, rest, strict=True))
        left = (1 - CORRELATION_KAO_CDR**2 - CORRELATION_PNA_CDR**2) ** 0.5
        normal["αCDR"] = (
            CORRELATION_KAO_CDR * normal["kAO"] + CORRELATION_PNA_CDR * normal["pNA"] + left * normal["αCDR"]
        )
        own = {name: jnp.exp(sd * normal[name]) for name, sd in SPREADS.items()}
        alleles = covariates["APOE4"]
        # straight lines between genotypes: a missing one enters as its mean
        by_apoe = jnp.where(alleles < 1, ONE_ALLELE * alleles, ONE_ALLELE + (TWO_ALLELES - ONE_ALLELE) * (alleles - 1))
        own["kAO"] = own["kAO"] * jnp.exp(population["log kAO shift"] + by_apoe)
        own["αCDR"] = own["αCDR"] * jnp.exp(population["log αCDR shift"])
        spread = jnp.exp(population["years since onset: log SD"])
        # years stay above 1, and are normal to all intents where patients are
        years = 1 + jax.nn.softplus(population["years since onset: mean"] - 1 + spread * onset)
        return Patient(years, covariates["age"], own)

    def initial(self, individual: Any) -> tuple[Float[Array, ""], ...]:
        """Return the state at trial entry: the untreated course from onset, solved by the stiff method."""
        zero = jnp.zeros_like(individual.years)
        start = (zero + MONOMER, zero, zero, zero, zero + NEURONS, zero, zero, zero, zero, zero, zero)
        neutral = {m.name: jnp.ones_like(individual.years) for m in self.mechanisms}

        def rhs(t: Array, state: tuple[Array, ...], rates: tuple[Array, ...], person: Patient) -> tuple[Array, ...]:
            del rates
            now = self.signals(t, state, person, neutral)
            # a year of life in a day of the solver's time, so that the grid's end is the same for all
            speed = person.years * DAYS_PER_YEAR
            return tuple(speed * slope for slope in self.flow(t, state, person, neutral, now))

        system = Equations(states=self.states, inputs=(), start=lambda _: start, rhs=rhs)
        once = Grid(
            times=jnp.array([0.0, 1.0]),
            amounts=jnp.zeros((1, 0)),
            rates=jnp.zeros((1, 0)),
            asked=jnp.zeros(1, dtype=bool),
            outputs=jnp.array([1]),
        )
        solved = Stiff(rtol=1e-7, atol=tuple(1e-6 * t for t in self.tolerances)).solve(system, individual, once)
        return tuple(value[0] for value in solved.values)

    def signals(
        self,
        t: Float[Array, ""],
        state: tuple[Float[Array, ""], ...],
        individual: Any,
        modulation: Mapping[str, Float[Array, ""]],
    ) -> dict[str, Any]:
        """Return what amyloid and soluble tau do to neurons now."""
        del t, individual, modulation
        _, _, protofibril, plaque, *_, soluble, _ = state
        return {"amyloid": Amyloid(protofibril + 0.39 * plaque, 1e-3 * protofibril + plaque), "tau": soluble}

    def flow(
        self,
        t: Float[Array, ""],
        state: tuple[Float[Array, ""], ...],
        individual: Any,
        modulation: Mapping[str, Float[Array, ""]],
        signals: Mapping[str, Any],
    ) -> tuple[Float[Array, ""], ...]:
        """Return the time derivative, per day."""
        del t
        k = {name: value * individual.own[name] if name in individual.own else value for name, value in RATES.items()}
        amyloid = _amyloid(state, k, modulation)
        neurons = _neurons(state, k, signals["amyloid"].toxic, signals["tau"])
        tau = _tau(state, k, signals["amyloid"].toxic)
        return tuple(slope / DAYS_PER_YEAR for slope in (*amyloid, *neurons, *tau))

    def apparent(
        self, state: tuple[Float[Array, ""], ...], individual: Any, signals: Mapping[str, Any]
    ) -> tuple[Float[Array, ""], ...]:
        """Return the states with the expected scores and biomarkers behind them."""
        monomer, _, protofibril, plaque, _, _, injured, worse, dead, _, phosphorylated = state
        own, age, load = individual.own, individual.age, signals["amyloid"].load
        m = {name: value for name, (value, _) in MAPS.items()}

        def loss(scale: str) -> Array:
            parts = zip(("DN", "I2", "I1"), (dead, worse, injured), strict=True)
            weighted = [m[f"{scale}: weight of {name}"] * cells for name, cells in parts]
            return (weighted[0] + weighted[1] + weighted[2]) / NEURONS

        steep = m["CDR-SB: shapeCDR"] * own["shapeCDR"]
        beside = 1 + m["CDR-SB: ehcCDR"] * own["ehcCDR"] * load
        cdr = m["CDR-SB: floor"] + m["CDR-SB: αCDR"] * own["αCDR"] * beside * loss("CDR-SB") ** steep
        steep = m["ADAS: shapeADAS"] * own["shapeADAS"] * jnp.exp(m["ADAS: shape by age"] * age)
        adas = m["ADAS: floor"] + m["ADAS: αADAS"] * own["αADAS"] * (1 + m["ADAS: load"] * load) * loss("ADAS") ** steep
        own_suvr = m["SUVR: slope"] * (m["SUVR: weight of F"] * protofibril + plaque)
        suvr = own_suvr + m["SUVR: SUVR0"] * own["SUVR0"]
        # a patient's own background is no amyloid: Centiloid is read at the typical one
        centiloid = m["Centiloid: slope"] * (own_suvr + m["SUVR: SUVR0"]) + m["Centiloid: intercept"]
        tangles = m["tau PET: scale"] * own["tauPET"] * (m["tau PET: weight of I1"] * injured + worse)
        tau_pet = tangles ** m["tau PET: power"] + m["tau PET: floor"]
        floor = m["Aβ42/40: floor"] * own["Aβ floor"] * jnp.exp(m["Aβ42/40: floor by age"] * age)
        ratio = m["Aβ42/40: slope"] * monomer + floor
        ptau = m["p-tau: slope"] * phosphorylated + m["p-tau: floor"] * own["p-tau floor"]
        seen = (jnp.minimum(cdr, 18.0), jnp.minimum(adas, 90.0), centiloid, suvr, tau_pet, ratio, ptau)
        return (*state, *seen)


def _amyloid(
    state: tuple[Array, ...], k: Mapping[str, Any], modulation: Mapping[str, Array]
) -> tuple[Array, Array, Array, Array]:
    """Return the derivative of monomer, oligomer, protofibril and plaque, per year."""
    monomer, oligomer, protofibril, plaque, healthy, i0, i1, i2, *_ = state
    fibrils = protofibril + plaque
    to_oligomer = k["kAO"] * monomer * (1 + k["sA"] * fibrils)
    to_protofibril = k["kOF"] * oligomer * (1 + k["sO"] * fibrils)
    to_plaque = k["kFP"] * protofibril * (1 + k["sF"] * fibrils)
    return (
        k["pNA"] * (healthy + i0 + i1 + i2) - to_oligomer + k["kOA"] * oligomer - k["cA"] * monomer,
        to_oligomer - to_protofibril + k["kFO"] * protofibril - (k["kOA"] + k["cO"]) * oligomer,
        to_protofibril
        - to_plaque
        + k["kPF"] * plaque
        - k["kFO"] * protofibril
        - modulation["protofibril_clearance"] * k["cF"] * protofibril,
        to_plaque - k["kPF"] * plaque - modulation["plaque_clearance"] * k["cP"] * plaque,
    )


def _neurons(
    state: tuple[Array, ...], k: Mapping[str, Any], toxic: Array, tau: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Return the derivative of healthy, injured (three grades) and dead neurons, per year."""
    healthy, i0, i1, i2 = state[4:8]
    injury = healthy * (k["tN"] * (1 + k["sN1"] * toxic) + k["β"] * tau * (1 + k["sN2"] * toxic))
    first = k["tI01"] * i0 * (1 + k["e01"] * toxic + k["ρ01"] * tau)
    second = k["tI12"] * i1 * (1 + k["e12"] * toxic)
    death = k["dI2"] * i2 * (1 + k["e2d"] * toxic)
    return (
        k["rI0"] * i0 - injury,
        injury - first - k["rI0"] * i0 + k["rI1"] * i1,
        first - second + k["rI2"] * i2 - k["rI1"] * i1,
        second - death - k["rI2"] * i2,
        death,
    )


def _tau(state: tuple[Array, ...], k: Mapping[str, Any], toxic: Array) -> tuple[Array, Array]:
    """Return the derivative of soluble and phosphorylated tau, per year."""
    healthy, i0, i1, i2, _, soluble, phosphorylated = state[4:]
    made = (k["pSI0"] * i0 + k["pSI1"] * i1 + k["pSI2"] * i2) * (1 + k["sTauS"] * toxic)
    made_p = (k["pPI0"] * i0 + k["pPI1"] * i1 + k["pPI2"] * i2) * (1 + k["sTauP"] * toxic) + k["pPN"] * healthy
    return made - k["cTS"] * soluble, made_p - k["cTP"] * phosphorylated
