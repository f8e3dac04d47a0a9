"""Alzheimer's disease: a compact model of amyloid, its toxic driver, tau, synapses and clinical severity.

Time in years inside the equations, amyloid A in Centiloid, X the toxic driver that amyloid feeds, T neocortical tau
(0–1), S synaptic density (1 in health), z = logit(CDR-SB / 18):

    A' = amyloid_production · (k0 + r A (1 − A/K)) − amyloid_clearance · A
    X' = kx (A/Xref − X)
    T' = tau_spread · rT (1 − φ + φ X) T (1 − T)
    L  = synaptic_loss · kz · rate · (T/0.35)^γ · [1 − θ(1 − κT) + θ(1 − κT) X] + synaptic_harm
    S' = −L S / c,   z' = L,   so that z(t) = z(0) + c log(S(0)/S(t))

and instruments see z + symptoms. The words are the mechanisms that a treatment can modulate; a patient's rate is
lognormal with mean 1. Routes of benefit: amyloid (the X in L), tau (the T in L), synapses (what a drug does to L
itself) and symptoms (what it does to z as seen). The constants were fitted to group means of published trials; θ and κ
are barely identified, and amyloid drives benefit by construction. Synapses are made visible without a change of z:
their density is severity, told in another unit.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.core.variables import Declared
from trialtwin.diseases.alzheimer_scales import SCALES, biomarkers, own_scale_priors, scale_constants
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

FIT = "fit to arm means of CLARITY-AD, TRAILBLAZER-ALZ 2, EMERGE and ENGAGE"
CONRADO = "Conrado 2014, 4,494 patients"
BY_HAND = "set by hand"
SYNAPSES = "by hand, so that mild dementia has lost about 40 % of synapses, as SV2A PET is reported to show"


class Patient(NamedTuple):
    """A patient's own parameters: multiplier of the rate, capacity of amyloid (CL), and states at baseline."""

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
        Constant("c", 4.0, "z per log of synaptic density", SYNAPSES, "low", provisional=True),
        Constant("S at CDR-SB 0.5", 0.85, "of health", SYNAPSES, "low", provisional=True),
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

_FITTED = (
    Constant("kz", 0.307, "1/yr", FIT, "medium", se=0.024),
    Constant("θ", 0.93, "", FIT + "; strongly correlated with κ", "low", se=0.33),
    Constant("κ", 0.77, "", FIT + "; strongly correlated with θ", "low", se=0.35),
    Constant("γ", 0.87, "", FIT, "medium", se=0.22),
)

_PRIORS = (
    Prior("log rate shift of the study", 0.0, 0.16, "13 placebo groups: trial effect 0.14 on the log rate", "medium"),
    Prior("log SD of log rate", -0.288, 0.3, BY_HAND + " (SD 0.75)", "low", provisional=True),
    Prior("mean severity, logit CDR-SB/18", -1.0, 1.0, BY_HAND + " (wide)", "low", provisional=True),
    Prior("log SD of severity", -0.69, 0.5, BY_HAND + " (SD 0.5)", "low", provisional=True),
    Prior("log rate per year of age above 75", -0.024, 0.012, CONRADO + "; SD by hand", "medium"),
    Prior("log rate, women against men", 0.076, 0.076, "Conrado 2014: +7.9 %, not significant; SD by hand", "low"),
    Prior("log rate per APOE4 allele", 0.178, 0.06, CONRADO + ": +19.5 %; SD by hand", "medium"),
    Prior(
        "log rate per SD of genetic risk score",
        0.128,
        0.064,
        "MCI to dementia, score without APOE: HR 1.293 per SD; half of its log, by hand: hazards exceed rates",
        "low",
        provisional=True,
    ),
)

_Z_HALF = math.log(0.5 / 17.5)


def _number(value: Any) -> Float[Array, "*lane"]:
    """Return a number (or one a patient) as an array of a fixed type, so that it does not recompile."""
    return jnp.asarray(value, dtype=getattr(value, "dtype", float))


@final
class Alzheimer(AbstractDisease):
    """The compact amyloid–tau–synapse–severity model.

    Parameters
    ----------
    kz, theta, kappa, gamma
        The constants that were fitted to trials, as arrays: other values do not recompile. With a leading patient axis
        the disease is mapped over patients beside them.

    Examples
    --------
    >>> from trialtwin.diseases.alzheimer import Alzheimer
    >>> Alzheimer().states
    ('amyloid', 'toxic driver', 'tau', 'synaptic density', 'severity')
    """

    kz: Float[Array, "*lane"] = eqx.field(converter=_number, default=_FITTED[0].value)
    theta: Float[Array, "*lane"] = eqx.field(converter=_number, default=_FITTED[1].value)
    kappa: Float[Array, "*lane"] = eqx.field(converter=_number, default=_FITTED[2].value)
    gamma: Float[Array, "*lane"] = eqx.field(converter=_number, default=_FITTED[3].value)
    name: str = eqx.field(static=True, default="alzheimer")
    states: tuple[str, ...] = eqx.field(
        static=True, default=("amyloid", "toxic driver", "tau", "synaptic density", "severity")
    )
    # CL, of Xref, of 1, of health, logit: far below what is measured
    tolerances: tuple[float, ...] = eqx.field(static=True, default=(0.5, 0.005, 0.001, 0.005, 0.001))
    ranges: tuple[tuple[float, float], ...] = eqx.field(
        static=True, default=((-1.0, 400.0), (-0.01, 5.0), (0.0, 1.0), (0.0, 1.5), (-20.0, 200.0))
    )
    effects: tuple[str, ...] = eqx.field(
        static=True, default=("rate", "severity", "tau", "amyloid", "amyloid capacity")
    )
    declared: tuple[Declared, ...] = eqx.field(
        static=True,
        default=(
            Declared("age", centre=75.0),
            Declared("sex", centre=0.5, level="F"),
            Declared("APOE4", centre=0.72),
            Declared("genetic risk score", centre=0.0),
        ),
    )
    mechanisms: tuple[Mechanism, ...] = eqx.field(
        static=True,
        default=(
            Mechanism("amyloid_production", 1.0, "multiplier of the growth of amyloid"),
            Mechanism("amyloid_clearance", 0.0, "added removal of amyloid, 1/yr"),
            Mechanism("tau_spread", 1.0, "multiplier of the spread of tau"),
            Mechanism("synaptic_loss", 1.0, "multiplier of the loss of synapses, and so of clinical decline"),
            Mechanism("synaptic_harm", 0.0, "added clinical decline, logit(CDR-SB/18) per year"),
            Mechanism("symptoms", 0.0, "added to logit(CDR-SB/18) as seen; below 0 is better"),
        ),
    )
    routes: tuple[Route, ...] = eqx.field(
        static=True,
        default=(
            Route("amyloid", "the toxic driver, which amyloid feeds, acts on synapses"),
            Route("tau", "tau, which the driver and drugs slow or speed, acts on synapses"),
            Route("synapses", "a drug acts on the loss of synapses itself"),
            Route("symptoms", "a drug acts on symptoms, the disease going on beneath"),
        ),
    )

    @property
    def priors(self) -> tuple[Prior, ...]:
        """Return the population parameters that are learned."""
        return _PRIORS

    @property
    def scales(self) -> Mapping[str, AbstractScale]:
        """Return the instruments by concept."""
        return SCALES

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Return what is taken as given."""
        values = (self.kz, self.theta, self.kappa, self.gamma)
        fitted = []
        for constant, value in zip(_FITTED, values, strict=True):
            same = float(value) == constant.value
            fitted.append(constant if same else replace(constant, value=float(value), se=None, source="as given"))
        return (*_CONSTANTS.values(), *fitted, *scale_constants())

    def scale_priors(self, concept: str) -> tuple[Prior, Prior, Prior]:
        """Return priors of a scale's shift, log between-patient spread of its offset, and log error multiplier."""
        return own_scale_priors(concept)

    def individual(
        self,
        population: Mapping[str, Float[Array, ""]],
        effects: Float[Array, " effect"],
        covariates: Mapping[str, Float[Array, ""]],
    ) -> Patient:
        """Return a patient's own parameters from population values, standard-normal effects and covariates."""
        names = [prior.name for prior in _PRIORS]
        shift, log_rate_sd, mean_severity, log_severity_sd, *slopes = (population[n] for n in names)
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
        log_rate = shift - 0.5 * log_rate_sd**2 + log_rate_sd * rate
        for declared, slope in zip(self.declared, slopes, strict=True):
            log_rate = log_rate + slope * (covariates[declared.concept] - declared.centre)
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

    def initial(self, individual: Patient) -> State:
        """Return the state at baseline, with the toxic driver in balance with amyloid."""
        driver = individual.amyloid / _value("Xref")
        # z and density are one thing in two units, tied at CDR-SB 0.5
        density = _value("S at CDR-SB 0.5") * jnp.exp(-(individual.severity - _Z_HALF) / _value("c"))
        return individual.amyloid, driver, individual.tau, density, individual.severity

    def signals(
        self, t: Float[Array, ""], state: State, individual: Patient, modulation: Mapping[str, Float[Array, ""]]
    ) -> dict[str, Any]:
        """Return the driver and tau that synapses feel, what a drug does to their loss, and to symptoms."""
        del t, individual
        _, driver, tau, _, _ = state
        return {
            "amyloid": driver,
            "tau": tau,
            "synapses": (modulation["synaptic_loss"], modulation["synaptic_harm"]),
            "symptoms": modulation["symptoms"],
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
        amyloid, driver, tau, density, _ = state
        growth = _value("k0") + _value("r") * amyloid * (1 - amyloid / individual.capacity)
        phi = _value("φ")
        loss = self.decline(individual, signals)
        per_year = (
            modulation["amyloid_production"] * growth - modulation["amyloid_clearance"] * amyloid,
            _value("kx") * (amyloid / _value("Xref") - driver),
            modulation["tau_spread"] * _value("rT") * (1 - phi + phi * driver) * tau * (1 - tau),
            -loss * density / _value("c"),
            loss,
        )
        return tuple(slope / DAYS_PER_YEAR for slope in per_year)

    def decline(self, individual: Patient, signals: Mapping[str, Any]) -> Float[Array, ""]:
        """Return the rate of clinical decline, z per year."""
        tau, (multiplier, harm) = signals["tau"], signals["synapses"]
        theta = self.theta * (1 - self.kappa * tau)
        bracket = 1 - theta + theta * signals["amyloid"]
        return multiplier * self.kz * individual.rate * (tau / 0.35) ** self.gamma * bracket + harm

    def apparent(self, state: State, individual: Patient, signals: Mapping[str, Any]) -> State:
        """Return the states with symptoms eased, then the biomarkers."""
        amyloid, driver, tau, density, severity = state
        speed = self.decline(individual, signals) / self.kz
        seen = biomarkers(amyloid, driver, tau, speed)
        return (amyloid, driver, tau, density, severity + signals["symptoms"], *seen)


def enter(
    *,
    amyloid: Float[Array, ""],
    tau: Float[Array, ""],
    cdr_sb: Float[Array, ""],
    rate: Float[Array, ""] | float = 1.0,
    capacity: Float[Array, ""] | float = 98.0,
) -> Patient:
    """Return a patient who enters with given values: amyloid in CL, tau in 0–1, CDR-SB in points above 0.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> round(float(enter(amyloid=jnp.asarray(80.0), tau=jnp.asarray(0.35), cdr_sb=jnp.asarray(3.0)).severity), 3)
    -1.609
    """
    share = jnp.clip(jnp.asarray(cdr_sb), 0.25, 17.75) / 18.0
    severity = jnp.log(share / (1 - share))
    return Patient(
        rate=jnp.broadcast_to(rate, severity.shape).astype(severity.dtype),
        capacity=jnp.broadcast_to(capacity, severity.shape).astype(severity.dtype),
        amyloid=jnp.asarray(amyloid),
        tau=jnp.asarray(tau),
        severity=severity,
    )


def _value(name: str) -> float:
    """Look a constant up."""
    return _CONSTANTS[name].value
