"""Alzheimer's disease: a compact model of amyloid, its toxic driver, tau and clinical severity.

Time in years inside the equations, amyloid A in Centiloid, X the toxic driver that amyloid feeds, T neocortical tau
(0–1), z = logit(CDR-SB / 18):

    A' = production · (k0 + r A (1 − A/K)) − clearance · A
    X' = kx (A/Xref − X)
    T' = spread · rT (1 − φ + φ X) T (1 − T)
    z' = decline · kz · rate · (T/0.35)^γ · [1 − θ(1 − κT) + θ(1 − κT) X]

The words are the mechanisms that a treatment can modulate; a patient's rate is lognormal with mean 1. The constants
were fitted to group means of published trials; θ and κ are barely identified, and amyloid drives benefit by
construction.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.diseases.base import (
    DAYS_PER_YEAR,
    AbstractDisease,
    AbstractScale,
    Confidence,
    Constant,
    Declared,
    LogisticScale,
    Mechanism,
    Prior,
    StateScale,
)

FIT = "fit to arm means of CLARITY-AD, TRAILBLAZER-ALZ 2, EMERGE and ENGAGE"
CAO = "Cao 2026, doi:10.1038/s41540-026-00677-4"
CONRADO = "Conrado 2014, 4,494 patients"
SCALES = "logistic links of the compact model between scales, fitted to group means"
BY_HAND = "set by hand"
_Z = 3  # position of z among the states


class Patient(NamedTuple):
    """A patient's own parameters: multiplier of the rate, and states at baseline."""

    rate: Float[Array, ""]
    capacity: Float[Array, ""]
    amyloid: Float[Array, ""]
    tau: Float[Array, ""]
    severity: Float[Array, ""]


_CONSTANTS = {
    c.name: c
    for c in (
        Constant("k0", 0.55, "CL/yr", "natural history of amyloid PET", "medium"),
        Constant("r", 0.195, "1/yr", "natural history of amyloid PET", "medium"),
        Constant("K", 98.0, "CL", "natural history of amyloid PET", "medium"),
        Constant("kx", 4.0, "1/yr", BY_HAND, "low", provisional=True),
        Constant("Xref", 90.0, "CL", BY_HAND, "low", provisional=True),
        Constant("rT", 0.25, "1/yr", "assumed", "low", provisional=True),
        Constant("φ", 0.4, "", "assumed", "low", provisional=True),
        Constant("kz", 0.307, "1/yr", FIT, "medium", se=0.024),
        Constant("θ", 0.93, "", FIT + "; strongly correlated with κ", "low", se=0.33),
        Constant("κ", 0.77, "", FIT + "; strongly correlated with θ", "low", se=0.35),
        Constant("γ", 0.87, "", FIT, "medium", se=0.22),
        Constant("tau at baseline, logit: mean", -0.6, "", BY_HAND, "low", provisional=True),
        Constant("tau at baseline, logit: SD", 0.8, "", BY_HAND, "low", provisional=True),
        Constant("amyloid at baseline, logit of share of K: mean", 1.7, "", BY_HAND, "low", provisional=True),
        Constant("amyloid at baseline, logit of share of K: SD", 1.3, "", BY_HAND, "low", provisional=True),
        Constant("SD of log K", 0.25, "", BY_HAND, "low", provisional=True),
        Constant("correlation tau–severity", 0.35, "", "assumed", "low", provisional=True),
        Constant("correlation amyloid–tau", 0.15, "", "assumed", "low", provisional=True),
        Constant("correlation amyloid–severity", 0.05, "", "assumed", "low", provisional=True),
    )
}

_PRIORS = (
    Prior("log rate shift of the study", 0.0, 0.16, "13 placebo groups: trial effect 0.14 on the log rate", "medium"),
    Prior("log SD of log rate", -0.288, 0.3, BY_HAND + " (SD 0.75)", "low", provisional=True),
    Prior("mean severity, logit CDR-SB/18", -1.0, 1.0, BY_HAND + " (wide)", "low", provisional=True),
    Prior("log SD of severity", -0.69, 0.5, BY_HAND + " (SD 0.5)", "low", provisional=True),
    Prior("log rate per year of age above 75", -0.024, 0.012, CONRADO + "; SD by hand", "medium"),
    Prior("log rate, women against men", 0.076, 0.076, "Conrado 2014: +7.9 %, not significant; SD by hand", "low"),
    Prior("log rate per APOE4 allele", 0.178, 0.06, CONRADO + ": +19.5 %; SD by hand", "medium"),
)

# concept: terms (weight, intercept, slope), constant, lower, upper, additive and proportional error, its source
_LOGISTIC: dict[str, tuple[tuple[tuple[float, float, float], ...], float, float, float, float, float, str]] = {
    "CDR-SB": (((18.0, 0.0, 1.0),), 0.0, 0.0, 18.0, 0.52, 0.16, CAO),
    "ADAS-Cog11": (((70.0, -0.151, 0.730),), 0.0, 0.0, 70.0, 2.98, 0.07, CAO),
    "ADAS-Cog13": (((85.0, 0.032, 0.589),), 0.0, 0.0, 85.0, 2.98, 0.07, CAO),
    "ADAS-Cog14": (((90.0, 0.037, 0.657),), 0.0, 0.0, 90.0, 2.98, 0.07, CAO),
    "MMSE": (((-30.0, 0.226, 1.159),), 30.0, 0.0, 30.0, 1.5, 0.0, BY_HAND),
    "ADCS-MCI-ADL": (((-53.0, -0.006, 0.786),), 53.0, 0.0, 53.0, 3.0, 0.0, BY_HAND),
    "ADCS-iADL": (((-59.0, -0.202, 0.960),), 59.0, 0.0, 59.0, 4.0, 0.0, BY_HAND),
    "iADRS": (((-85.0, 0.032, 0.589), (-59.0, -0.202, 0.960)), 144.0, 0.0, 144.0, 5.0, 0.0, BY_HAND),
}
_AMYLOID_PET = StateScale(index=0, lower=-50.0, upper=250.0, additive=4.47, proportional=0.091)


@final
class Alzheimer(AbstractDisease):
    """The compact amyloid–tau–severity model.

    Examples
    --------
    >>> from trialtwin.diseases.alzheimer import Alzheimer
    >>> Alzheimer().states
    ('amyloid', 'toxic driver', 'tau', 'severity')
    """

    name: str = "alzheimer"
    states: tuple[str, ...] = ("amyloid", "toxic driver", "tau", "severity")
    tolerances: tuple[float, ...] = (0.5, 0.005, 0.001, 0.001)  # CL, of Xref, of 1, logit: far below what is measured
    effects: tuple[str, ...] = ("rate", "severity", "tau", "amyloid", "amyloid capacity")
    declared: tuple[Declared, ...] = (
        Declared("age", centre=75.0),
        Declared("sex", centre=0.5, level="F"),
        Declared("APOE4", centre=0.72),
    )
    mechanisms: tuple[Mechanism, ...] = (
        Mechanism("amyloid_production", 1.0, "multiplier of the growth of amyloid"),
        Mechanism("amyloid_clearance", 0.0, "added removal of amyloid, 1/yr"),
        Mechanism("tau_spread", 1.0, "multiplier of the spread of tau"),
        Mechanism("cognitive_decline", 1.0, "multiplier of the rate of clinical decline"),
    )

    @property
    def priors(self) -> tuple[Prior, ...]:
        """Return the population parameters that are learned."""
        return _PRIORS

    @property
    def scales(self) -> Mapping[str, AbstractScale]:
        """Return the instruments by concept."""
        scales: dict[str, AbstractScale] = {
            concept: LogisticScale(
                severity=_Z,
                terms=terms,
                constant=constant,
                lower=lower,
                upper=upper,
                additive=additive,
                proportional=proportional,
            )
            for concept, (terms, constant, lower, upper, additive, proportional, _) in _LOGISTIC.items()
        }
        scales["amyloid-PET"] = _AMYLOID_PET
        return scales

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Return what is taken as given."""
        listed = [*_CONSTANTS.values()]
        for concept, (terms, _, _, _, additive, proportional, source) in _LOGISTIC.items():
            for weight, intercept, slope in terms:
                shape = f"{concept}, term of weight {weight:g}"
                listed.append(Constant(f"{shape}: intercept {intercept:g}, slope", slope, "1/z", SCALES, "medium"))
            judged = source == BY_HAND
            confidence: Confidence = "low" if judged else "medium"
            unit = f"points, and {proportional:.0%} of the score"
            name = f"measurement error of {concept}"
            listed.append(Constant(name, additive, unit, source, confidence, provisional=judged))
        pet = _AMYLOID_PET
        unit = f"CL, and {pet.proportional:.1%} of the value"
        listed.append(Constant("measurement error of amyloid-PET", pet.additive, unit, CAO, "medium"))
        return tuple(listed)

    def scale_priors(self, concept: str) -> tuple[Prior, Prior, Prior]:
        """Return priors of a scale's shift, log between-patient spread of its offset, and log error multiplier."""
        if concept == "amyloid-PET":
            shift = Prior(f"shift of {concept}, CL", 0.0, 5.0, BY_HAND, "low", provisional=True)
            spread = Prior(f"log spread of {concept}, CL", 0.0, 0.5, BY_HAND, "low", provisional=True)
        else:
            shift = Prior(f"shift of {concept}, units of z", 0.0, 0.5, BY_HAND, "low", provisional=True)
            spread = Prior(f"log spread of {concept}, units of z", -0.7, 0.5, BY_HAND, "low", provisional=True)
        error = Prior(f"log error multiplier of {concept}", 0.0, 0.25, BY_HAND, "low", provisional=True)
        return shift, spread, error

    def individual(
        self,
        population: Mapping[str, Float[Array, ""]],
        effects: Float[Array, " effect"],
        covariates: Float[Array, " declared"],
    ) -> Patient:
        """Return a patient's own parameters from population values, standard-normal effects and covariates."""
        names = [prior.name for prior in _PRIORS]
        shift, log_rate_sd, mean_severity, log_severity_sd, by_age, by_sex, by_apoe = (population[n] for n in names)
        age, woman, alleles = covariates
        rate, severity, tau, amyloid, capacity = effects
        # the order of conditioning is severity, tau, amyloid: a Cholesky factor written out
        r_ts, r_ta, r_as = (
            _CONSTANTS[f"correlation {pair}"].value for pair in ("tau–severity", "amyloid–tau", "amyloid–severity")
        )
        tau_left = (1 - r_ts**2) ** 0.5
        amyloid_tau = (r_ta - r_as * r_ts) / tau_left
        amyloid_left = (1 - r_as**2 - amyloid_tau**2) ** 0.5
        tau_z = r_ts * severity + tau_left * tau
        amyloid_z = r_as * severity + amyloid_tau * tau + amyloid_left * amyloid
        ceiling = _value("K") * jnp.exp(_value("SD of log K") * capacity)
        # kz was fitted to means of arms: the mean over patients of exp(log rate) is to be 1, not the median
        log_rate_sd = jnp.exp(log_rate_sd)
        log_rate = (
            shift
            - 0.5 * log_rate_sd**2
            + log_rate_sd * rate
            + by_age * (age - self.declared[0].centre)
            + by_sex * (woman - self.declared[1].centre)
            + by_apoe * (alleles - self.declared[2].centre)
        )
        share = jax.nn.sigmoid(
            _value("amyloid at baseline, logit of share of K: mean")
            + _value("amyloid at baseline, logit of share of K: SD") * amyloid_z
        )
        return Patient(
            rate=jnp.exp(log_rate),
            capacity=ceiling,
            amyloid=ceiling * share,
            tau=jax.nn.sigmoid(_value("tau at baseline, logit: mean") + _value("tau at baseline, logit: SD") * tau_z),
            severity=mean_severity + jnp.exp(log_severity_sd) * severity,
        )

    def initial(self, individual: Any) -> Float[Array, " state"]:
        """Return the state at baseline, with the toxic driver in balance with amyloid."""
        driver = individual.amyloid / _value("Xref")
        return jnp.stack([individual.amyloid, driver, individual.tau, individual.severity])

    def flow(
        self,
        t: Float[Array, ""],
        state: Float[Array, " state"],
        individual: Any,
        modulation: Mapping[str, Float[Array, ""]],
    ) -> Float[Array, " state"]:
        """Return the time derivative, per day."""
        del t
        amyloid, driver, tau, _ = state
        growth = _value("k0") + _value("r") * amyloid * (1 - amyloid / individual.capacity)
        phi, theta = _value("φ"), _value("θ") * (1 - _value("κ") * tau)
        per_year = jnp.stack(
            [
                modulation["amyloid_production"] * growth - modulation["amyloid_clearance"] * amyloid,
                _value("kx") * (amyloid / _value("Xref") - driver),
                modulation["tau_spread"] * _value("rT") * (1 - phi + phi * driver) * tau * (1 - tau),
                modulation["cognitive_decline"]
                * _value("kz")
                * individual.rate
                * (tau / 0.35) ** _value("γ")
                * (1 - theta + theta * driver),
            ]
        )
        return per_year / DAYS_PER_YEAR


def _value(name: str) -> float:
    """Look a constant up."""
    return _CONSTANTS[name].value
