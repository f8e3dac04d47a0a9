"""Harms in time: the probability of an adverse event by drug, APOE4 genotype, exposure and day.

Over a trial of length T the probability follows a logit, on the drug and on placebo:

    logit p = intercept + slope · exposure + het · [one allele] + hom · [two alleles]

Placebo events come at a constant hazard. The drug's excess, 1 − (1 − p_drug)/(1 − p_placebo), comes early: its share by
day t is s(t) = (1 − e^(−t/τ))/(1 − e^(−T/τ)), held at 1 after T, with τ from the share that comes within the first
months. So

    P(by t) = 1 − (1 − p_placebo)^(t/T) · (1 − excess · s(t)),

which lies in [0, 1], rises with t, and equals p_drug at T. Exposure is the highest concentration at steady state; a
drug whose file gives no slope has the probability of its trial regimen at any dose, and its file says so.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.errors import ConfigError
from trialtwin.core.variables import Declared
from trialtwin.drugs.page import LogitHazard, RateHazard
from trialtwin.drugs.quantity import Scalar

type Days = Float[Array, "..."] | Float[np.ndarray, "..."] | float | int
type Risk = Float[Array, "..."]
APOE4 = Declared("APOE4", 0.72)


class AbstractHazard(eqx.Module):
    """An adverse event: its probability by a day, on the drug and without it."""

    event: eqx.AbstractVar[str]
    declared: eqx.AbstractVar[tuple[Declared, ...]]

    @abstractmethod
    def incidence(self, covariates: Mapping[str, Scalar], exposure: Scalar | float, days: Days) -> Risk:
        """Return the probability of an event by a day on the drug."""

    @abstractmethod
    def placebo(self, covariates: Mapping[str, Scalar], days: Days) -> Risk:
        """Return the probability of an event by a day without the drug."""

    @abstractmethod
    def prevalence(self, covariates: Mapping[str, Scalar], exposure: Scalar | float, days: Days) -> Risk:
        """Return the probability that an event is there on a day, where the drug's file says how long one lasts."""


@final
class Logit(AbstractHazard):
    """A probability over a trial on a logit, most of it early.

    Examples
    --------
    >>> from trialtwin.drugs.registry import find_drug
    >>> from trialtwin.drugs.safety import hazards
    >>> hazard = hazards(find_drug("donanemab").page.hazard)[0]
    >>> round(float(hazard.incidence({"APOE4": 2.0}, 0.0, 76 * 7)), 3)
    0.406
    """

    event: str = eqx.field(static=True)
    declared: tuple[Declared, ...] = eqx.field(static=True)
    drug: np.ndarray
    bare: np.ndarray
    slope: np.ndarray
    follow_up: np.ndarray
    pace: np.ndarray
    resolution: np.ndarray

    def incidence(self, covariates: Mapping[str, Scalar], exposure: Scalar | float, days: Days) -> Risk:
        """Return the probability of an event by a day on the drug."""
        days = jnp.maximum(days, 0.0)
        without = 1 - self.placebo(covariates, days)
        return 1 - without * (1 - self._excess(covariates, exposure) * self._share(days))

    def placebo(self, covariates: Mapping[str, Scalar], days: Days) -> Risk:
        """Return the probability of an event by a day without the drug."""
        over_trial = jax.nn.sigmoid(_genotype(self.bare, covariates))
        return -jnp.expm1(jnp.maximum(days, 0.0) / self.follow_up * jnp.log1p(-over_trial))

    def prevalence(self, covariates: Mapping[str, Scalar], exposure: Scalar | float, days: Days) -> Risk:
        """Return the probability that the drug's event, one for each patient, is there on a day.

        With onset at rate 1/τ e^(−s/τ) and resolution at rate ρ, ∫ onset(s) e^(−ρ (t − s)) ds, for the drug's excess.
        Infinite where no resolution is given: then it equals the excess that has come by then.
        """
        days = jnp.minimum(jnp.maximum(days, 0.0), self.follow_up)
        rho, fast = self.resolution, 1 / self.pace
        gap = jnp.where(jnp.abs(fast - rho) < 1e-6 * fast, 1e-6 * fast, fast - rho)
        there = fast * (jnp.exp(-rho * days) - jnp.exp(-fast * days)) / gap / -jnp.expm1(-self.follow_up / self.pace)
        return self._excess(covariates, exposure) * jnp.clip(there, 0.0, 1.0)

    def _excess(self, covariates: Mapping[str, Scalar], exposure: Scalar | float) -> Scalar:
        on = jax.nn.sigmoid(_genotype(self.drug, covariates) + self.slope * jnp.maximum(exposure, 0.0))
        off = jax.nn.sigmoid(_genotype(self.bare, covariates))
        return jnp.clip(1 - (1 - on) / (1 - off), 0.0, 1.0)

    def _share(self, days: Risk) -> Risk:
        return jnp.clip(jnp.expm1(-days / self.pace) / jnp.expm1(-self.follow_up / self.pace), 0.0, 1.0)


@final
class Rate(AbstractHazard):
    """A constant hazard, with an excess in proportion to exposure.

    Examples
    --------
    >>> import numpy as np
    >>> yearly = np.array(0.1 / 365.25)
    >>> nausea = Rate("nausea", yearly, 2 * yearly, reference=np.array(np.inf), resolution=np.array(0.0), declared=())
    >>> round(float(nausea.incidence({}, 0.0, 365.25)), 4)  # 1 − e^(−0.3)
    0.2592
    """

    event: str = eqx.field(static=True)
    background: np.ndarray
    excess: np.ndarray
    reference: np.ndarray
    resolution: np.ndarray
    declared: tuple[Declared, ...] = eqx.field(static=True)

    def incidence(self, covariates: Mapping[str, Scalar], exposure: Scalar | float, days: Days) -> Risk:
        """Return the probability of an event by a day on the drug."""
        del covariates
        rate = self.background + self.excess * self._relative(exposure)
        return -jnp.expm1(-rate * jnp.maximum(days, 0.0))

    def placebo(self, covariates: Mapping[str, Scalar], days: Days) -> Risk:
        """Return the probability of an event by a day without the drug."""
        del covariates
        return -jnp.expm1(-self.background * jnp.maximum(days, 0.0))

    def prevalence(self, covariates: Mapping[str, Scalar], exposure: Scalar | float, days: Days) -> Risk:
        """Return the probability that the drug's event is there on a day, for those who have one at most."""
        del covariates
        fast, rho = self.excess * self._relative(exposure), self.resolution
        gap = jnp.where(jnp.abs(fast - rho) < 1e-9, 1e-9, fast - rho)
        days = jnp.maximum(days, 0.0)
        return jnp.clip(fast * (jnp.exp(-rho * days) - jnp.exp(-fast * days)) / gap, 0.0, 1.0)

    def _relative(self, exposure: Scalar | float) -> Scalar:
        return jnp.where(jnp.isinf(self.reference), 1.0, jnp.maximum(exposure, 0.0) / self.reference)


def _genotype(terms: np.ndarray, covariates: Mapping[str, Scalar]) -> Scalar:
    """Return intercept + het + hom for a number of APOE4 alleles, straight between whole numbers."""
    given = jnp.asarray(covariates.get(APOE4.concept, APOE4.centre))
    alleles = jnp.clip(jnp.where(jnp.isnan(given), APOE4.centre, given), 0.0, 2.0)
    het, hom = 1 - jnp.abs(alleles - 1), jnp.maximum(alleles - 1, 0.0)
    return terms[0] + terms[1] * het + terms[2] * hom


def hazards(pages: tuple[LogitHazard | RateHazard, ...]) -> tuple[AbstractHazard, ...]:
    """Return the adverse events that a drug file describes."""
    return tuple(_logit(page) if isinstance(page, LogitHazard) else _rate(page) for page in pages)


def _logit(page: LogitHazard) -> Logit:
    def terms(*numbers: object) -> np.ndarray:
        return np.array([getattr(number, "value", 0.0) for number in numbers], dtype=np.float64)

    horizon, by = page.follow_up.internal("time"), page.early_by.internal("time")
    declared = (APOE4,) if any((page.het, page.hom, page.placebo_het, page.placebo_hom)) else ()
    rho = 0.0 if page.resolution is None else math.log(2) / page.resolution.internal("time")
    return Logit(
        page.event,
        declared,
        terms(page.intercept, page.het, page.hom),
        terms(page.placebo, page.placebo_het, page.placebo_hom),
        np.array(0.0 if page.slope is None else page.slope.value),
        np.array(horizon),
        np.array(_pace(page.event, page.early.value, by, horizon)),
        np.array(rho),
    )


def _pace(event: str, share: float, by: float, horizon: float) -> float:
    """Return τ, such that the share by a day is as given."""
    if share <= by / horizon:
        raise ConfigError(
            f"{event}: a share of {share:g} by day {by:g} is no more than a constant hazard gives by day {horizon:g}",
            do="give a larger share in 'early', or use model = 'rate'",
        )
    low, high = by * 1e-3, horizon * 1e4
    for _ in range(200):
        middle = math.sqrt(low * high)
        reached = math.expm1(-by / middle) / math.expm1(-horizon / middle)
        low, high = (middle, high) if reached > share else (low, middle)
    return math.sqrt(low * high)


def _rate(page: RateHazard) -> Rate:
    rho = 0.0 if page.resolution is None else math.log(2) / page.resolution.internal("time")
    reference = math.inf if page.reference is None else page.reference.value
    return Rate(
        event=page.event,
        background=np.array(page.placebo.internal("rate")),
        excess=np.array(page.excess.internal("rate")),
        reference=np.array(reference),
        resolution=np.array(rho),
        declared=(),
    )
