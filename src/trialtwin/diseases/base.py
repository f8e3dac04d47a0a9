"""What a disease is: states that flow, mechanisms that a treatment can modulate, and scales that observe the states.

A state is a tuple of scalars, one a variable, never stacked into a vector, which compilers fuse over patients. What one
part of a disease does to another flows along named **routes**: ``signals`` says what flows along each now, and
``flow`` reads it from there only. So it can be told how much of a benefit runs along which route, by giving a route the
signal of the same patient untreated.
"""

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

type State = tuple[Float[Array, ""], ...]
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
class Route:
    """A pathway along which one part of a disease acts on another, and a benefit can run."""

    name: str
    meaning: str


@dataclass(frozen=True)
class Mechanism:
    """Something that a treatment can act on: its name, its value without treatment, and what the value means.

    A mechanism whose neutral value is 1 is a multiplier, one whose neutral value is 0 is added.
    """

    name: str
    neutral: float
    meaning: str


class AbstractScale(eqx.Module):
    """How an instrument observes a patient: expected value, spread of a repeated measurement, bounds and steps.

    The spread is √(additive² + (proportional · expected)²). ``step`` is what scores move in, 0 for a continuous one.
    """

    lower: eqx.AbstractVar[float]
    upper: eqx.AbstractVar[float]
    additive: eqx.AbstractVar[float]
    proportional: eqx.AbstractVar[float]
    step: eqx.AbstractVar[float]

    @abstractmethod
    def expected(self, apparent: State, offset: Float[Array, ""]) -> Float[Array, ""]:
        """Return the expected score of a patient whose latent severity looks ``offset`` worse on this scale."""

    def spread(self, expected: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """Return the standard deviation of the measurement error around each expected score."""
        return jnp.sqrt(self.additive**2 + (self.proportional * expected) ** 2)

    def rounded(self, score: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """Return a score as the instrument gives it: within its bounds, in its steps."""
        inside = jnp.clip(score, self.lower, self.upper)
        return jnp.round(inside / self.step) * self.step if self.step else inside


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
    step: float

    def expected(self, apparent: State, offset: Float[Array, ""]) -> Float[Array, ""]:
        """Return the expected score."""
        z = apparent[self.severity] + offset
        total = jnp.asarray(self.constant, dtype=jnp.asarray(z).dtype)
        for weight, intercept, slope in self.terms:
            total = total + weight * jax.nn.sigmoid(intercept + slope * z)
        return total


@final
class StateScale(AbstractScale):
    """A measurement of one quantity itself, such as amyloid PET; the offset adds to it."""

    index: int
    lower: float
    upper: float
    additive: float
    proportional: float
    step: float

    def expected(self, apparent: State, offset: Float[Array, ""]) -> Float[Array, ""]:
        """Return the quantity, shifted by the offset."""
        return apparent[self.index] + offset


class AbstractDisease(eqx.Module):
    """A disease as a dynamical system with population variability.

    ``states`` names the states, ``tolerances`` the error that a solver may make in each, in its own unit, ``ranges``
    what is physiologically possible; ``effects`` the standard-normal random effects of a patient; ``declared`` the
    covariates with a declared effect; ``mechanisms`` what treatments can act on, ``routes`` the pathways that benefit
    can run along; ``priors`` the population parameters that a cohort teaches; ``scales`` the instruments by concept;
    ``constants`` what is taken as given.
    """

    name: eqx.AbstractVar[str]
    states: eqx.AbstractVar[tuple[str, ...]]
    tolerances: eqx.AbstractVar[tuple[float, ...]]
    ranges: eqx.AbstractVar[tuple[tuple[float, float], ...]]
    effects: eqx.AbstractVar[tuple[str, ...]]
    declared: eqx.AbstractVar[tuple[Declared, ...]]
    mechanisms: eqx.AbstractVar[tuple[Mechanism, ...]]
    routes: eqx.AbstractVar[tuple[Route, ...]]

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
        covariates: Mapping[str, Float[Array, ""]],
    ) -> Any:
        """Return a patient's own parameters; covariates by concept, missing ones at their centre."""

    @abstractmethod
    def initial(self, individual: Any) -> State:
        """Return the state at baseline."""

    @abstractmethod
    def signals(
        self, t: Float[Array, ""], state: State, individual: Any, modulation: Mapping[str, Float[Array, ""]]
    ) -> dict[str, Any]:
        """Return what flows along each route now: a scalar, or a tuple of scalars."""

    @abstractmethod
    def flow(
        self,
        t: Float[Array, ""],
        state: State,
        individual: Any,
        modulation: Mapping[str, Float[Array, ""]],
        signals: Mapping[str, Any],
    ) -> State:
        """Return the time derivative, per day, from the value of every mechanism and what flows along every route."""

    @abstractmethod
    def apparent(self, state: State, individual: Any, signals: Mapping[str, Any]) -> State:
        """Return the patient as instruments see it: the states in order, then whatever else the scales read."""

    def neutral(self) -> dict[str, Float[Array, ""]]:
        """Return the value of every mechanism without treatment."""
        return {mechanism.name: jnp.asarray(mechanism.neutral) for mechanism in self.mechanisms}
