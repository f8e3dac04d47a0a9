"""Parameters and instruments of a disease as tables, from which constants, priors, patients and scales follow.

A patient's own value of a parameter is typical · exp(spread · u), u standard normal; the typical value of a learned
parameter has a lognormal prior, that of any other is a constant. So a disease file says its numbers once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.diseases.base import AbstractScale, Confidence, Constant, Prior, StateScale

BY_HAND = "set by hand"


@dataclass(frozen=True)
class Parameter:
    """A positive number of a disease, with its unit, source, and how much patients differ in it.

    Parameters
    ----------
    name, value, unit, source, confidence, provisional
        Of the typical value.
    spread
        Standard deviation of the logarithm between patients; 0 where all have the same.
    learned
        Standard deviation of the prior of the logarithm of the typical value; 0 where a cohort does not teach it.
    spread_source
        Where ``spread`` comes from; by hand, and so provisional, where not given.
    """

    name: str
    value: float
    unit: str
    source: str
    confidence: Confidence
    spread: float = 0.0
    learned: float = 0.0
    provisional: bool = False
    spread_source: str = ""


@dataclass(frozen=True)
class Instrument:
    """A measurement of one thing that is apparent, in its own unit.

    ``additive`` and ``proportional`` make its error; ``offset`` is how much patients differ in what it reads beside the
    disease, and how far its mean may be off.
    """

    concept: str
    unit: str
    lower: float
    upper: float
    additive: float
    proportional: float
    source: str
    confidence: Confidence
    offset: float
    step: float = 0.0
    provisional: bool = False


def varying(parameters: tuple[Parameter, ...]) -> tuple[str, ...]:
    """Return the names of parameters in which patients differ: the random effects, in order."""
    return tuple(p.name for p in parameters if p.spread)


def priors_of(parameters: tuple[Parameter, ...]) -> tuple[Prior, ...]:
    """Return the priors of the learned parameters, on the logarithm."""
    return tuple(
        Prior(f"log {p.name}", math.log(p.value), p.learned, p.source, p.confidence, provisional=p.provisional)
        for p in parameters
        if p.learned
    )


def constants_of(parameters: tuple[Parameter, ...], instruments: tuple[Instrument, ...]) -> tuple[Constant, ...]:
    """Return what is taken as given: values that are not learned, spreads, and measurement errors."""
    listed = [
        Constant(p.name, p.value, p.unit, p.source, p.confidence, provisional=p.provisional)
        for p in parameters
        if not p.learned
    ]
    for p in parameters:
        if p.spread:
            guess = not p.spread_source
            source: str = p.spread_source or BY_HAND
            confidence: Confidence = "low" if guess else p.confidence
            listed.append(Constant(f"SD of log {p.name}", p.spread, "", source, confidence, provisional=guess))
    for i in instruments:
        words = f"{i.unit}, and {i.proportional:.1%} of the value"
        name = f"measurement error of {i.concept}"
        listed.append(Constant(name, i.additive, words, i.source, i.confidence, provisional=i.provisional))
    return tuple(listed)


def own_values(
    parameters: tuple[Parameter, ...],
    population: Mapping[str, Float[Array, ""]],
    effects: Float[Array, " effect"],
) -> dict[str, Float[Array, ""]]:
    """Return a patient's own value of every parameter.

    Examples
    --------
    >>> k = Parameter("k", 2.0, "1/d", "made up", "low", spread=0.5)
    >>> {name: round(float(value), 2) for name, value in own_values((k,), {}, jnp.ones(1)).items()}
    {'k': 3.3}
    """
    normal = dict(zip(varying(parameters), effects, strict=True))
    own = {}
    for p in parameters:
        typical = jnp.exp(population[f"log {p.name}"]) if p.learned else jnp.asarray(p.value)
        own[p.name] = typical * jnp.exp(p.spread * normal[p.name]) if p.spread else typical
    return own


def scales_of(instruments: tuple[Instrument, ...], first: int) -> Mapping[str, AbstractScale]:
    """Return instruments that read, in order, what is apparent from position ``first`` on."""
    return {
        i.concept: StateScale(
            index=first + k,
            lower=i.lower,
            upper=i.upper,
            additive=i.additive,
            proportional=i.proportional,
            step=i.step,
        )
        for k, i in enumerate(instruments)
    }


def scale_priors_of(instruments: tuple[Instrument, ...], concept: str) -> tuple[Prior, Prior, Prior]:
    """Return priors of a scale's shift, log between-patient spread of its offset, and log error multiplier."""
    size, unit = next((i.offset, i.unit) for i in instruments if i.concept == concept)
    return (
        Prior(f"shift of {concept}, {unit}", 0.0, size, BY_HAND, "low", provisional=True),
        Prior(f"log spread of {concept}, {unit}", math.log(size), 0.5, BY_HAND, "low", provisional=True),
        Prior(f"log error multiplier of {concept}", 0.0, 0.25, BY_HAND, "low", provisional=True),
    )
