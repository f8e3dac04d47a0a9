"""What a disease is: states that flow, mechanisms that a treatment can modulate, and scales that observe the states."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.core.finding import Assumption
from trialtwin.core.variables import Declared

type Confidence = Literal["high", "medium", "low"]
DAYS_PER_YEAR = 365.25


@dataclass(frozen=True)
class Constant:
    """A number that a disease takes as given, with unit, standard error where known, source and confidence."""

    name: str
    value: float
    unit: str
    source: str
    confidence: Confidence
    se: float | None = None
    provisional: bool = False

    def assumption(self) -> Assumption:
        """Return it as a line for a report."""
        words = f"{self.value:g}" if self.se is None else f"{self.value:g} ± {self.se:g}"
        return Assumption(
            name=self.name,
            value=words,
            unit=self.unit,
            source=self.source,
            confidence=self.confidence,
            provisional=self.provisional,
        )


@dataclass(frozen=True)
class Prior:
    """A population parameter that is learned from a cohort, on a scale without bounds, with its normal prior."""

    name: str
    mean: float
    sd: float
    source: str
    confidence: Confidence
    provisional: bool = False

    def assumption(self) -> Assumption:
        """Return it as a line for a report."""
        return Assumption(
            name=f"prior of {self.name}",
            value=f"N({self.mean:.3g}, {self.sd:.3g}²)",
            source=self.source,
            confidence=self.confidence,
            provisional=self.provisional,
        )


@dataclass(frozen=True)
class Mechanism:
    """Something that a treatment can act on: its name, its value without treatment, and what the value means."""

    name: str
    neutral: float
    meaning: str


class AbstractScale(eqx.Module):
    """How an instrument observes the states: expected value, spread of a repeated measurement, and bounds.

    The spread is √(additive² + (proportional · expected)²).
    """

    lower: eqx.AbstractVar[float]
    upper: eqx.AbstractVar[float]
    additive: eqx.AbstractVar[float]
    proportional: eqx.AbstractVar[float]

    @abstractmethod
    def expected(self, state: Float[Array, " state"], offset: Float[Array, ""]) -> Float[Array, ""]:
        """Return the expected score of a patient whose latent severity looks ``offset`` worse on this scale."""

    def spread(self, expected: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """Return the standard deviation of the measurement error around each expected score."""
        return jnp.sqrt(self.additive**2 + (self.proportional * expected) ** 2)


@final
class LogisticScale(AbstractScale):
    """A score that is a sum of logistic functions of one latent severity z.

    E[y] = constant + Σⱼ weightⱼ · σ(interceptⱼ + slopeⱼ (z + offset)).
    """

    severity: int
    terms: tuple[tuple[float, float, float], ...]
    constant: float
    lower: float
    upper: float
    additive: float
    proportional: float

    def expected(self, state: Float[Array, " state"], offset: Float[Array, ""]) -> Float[Array, ""]:
        """Return the expected score."""
        z = state[self.severity] + offset
        total = jnp.asarray(self.constant)
        for weight, intercept, slope in self.terms:
            total = total + weight * jax.nn.sigmoid(intercept + slope * z)
        return total


@final
class StateScale(AbstractScale):
    """A measurement of one state itself, such as amyloid PET; the offset adds to it."""

    index: int
    lower: float
    upper: float
    additive: float
    proportional: float

    def expected(self, state: Float[Array, " state"], offset: Float[Array, ""]) -> Float[Array, ""]:
        """Return the state, shifted by the offset."""
        return state[self.index] + offset


class AbstractDisease(eqx.Module):
    """A disease as a dynamical system with population variability.

    ``states`` names the states, and ``tolerances`` the error that a solver may make in each, in its own unit;
    ``effects`` the standard-normal random effects of a patient; ``declared`` the covariates with a declared effect;
    ``priors`` the population parameters that a cohort teaches; ``scales`` the instruments by concept; ``constants``
    what is taken as given.
    """

    name: eqx.AbstractVar[str]
    states: eqx.AbstractVar[tuple[str, ...]]
    tolerances: eqx.AbstractVar[tuple[float, ...]]
    effects: eqx.AbstractVar[tuple[str, ...]]
    declared: eqx.AbstractVar[tuple[Declared, ...]]
    mechanisms: eqx.AbstractVar[tuple[Mechanism, ...]]

    @property
    @abstractmethod
    def priors(self) -> tuple[Prior, ...]:
        """Return the population parameters that are learned."""

    @property
    @abstractmethod
    def scales(self) -> Mapping[str, AbstractScale]:
        """Return the instruments by concept."""

    @property
    @abstractmethod
    def constants(self) -> tuple[Constant, ...]:
        """Return what is taken as given."""

    @abstractmethod
    def scale_priors(self, concept: str) -> tuple[Prior, Prior, Prior]:
        """Return priors of a scale's shift, log between-patient spread of its offset, and log error multiplier."""

    @abstractmethod
    def individual(
        self,
        population: Mapping[str, Float[Array, ""]],
        effects: Float[Array, " effect"],
        covariates: Float[Array, " declared"],
    ) -> Any:
        """Return a patient's own parameters."""

    @abstractmethod
    def initial(self, individual: Any) -> Float[Array, " state"]:
        """Return the state at baseline."""

    @abstractmethod
    def flow(
        self,
        t: Float[Array, ""],
        state: Float[Array, " state"],
        individual: Any,
        modulation: Mapping[str, Float[Array, ""]],
    ) -> Float[Array, " state"]:
        """Return the time derivative, per day; ``modulation`` has a value for every mechanism."""
