r"""Intercurrent events: when they happen, what they do to the course of a patient, and what an estimand makes of them.

Event k of a patient in arm a has, from the visit at day t to the next, the hazard

    h_ka exp(γ_k x),   x = the value at t, standardised by the untreated patients there, higher being worse,

h_ka so that a patient of average course has it by the last visit T with the chance that the design says. Course:

    y(t) = y₀(t) + g(t) τ + Σ_rescue r min(1, (t − t_k)⁺ / onset),   g(t) = t / T until a stop, then falling to 0

where the effect of treatment wears off over as long as it took to build up. Nothing is measured after death.

Strategies of ICH E9(R1) (2019): *treatment policy* uses what was measured after the event; *hypothetical* asks what
would have been had it not happened, and sets later values aside; *composite* makes it part of the endpoint, a change
that the design assigns; *while on treatment* takes the value at the last visit before it. The first event with
another strategy than treatment policy decides.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.trials.design import Design
from trialtwin.trials.enrol import hazards
from trialtwin.trials.virtual_population import AbstractPopulation

POLICY, HYPOTHETICAL, COMPOSITE, WHILE = "treatment policy", "hypothetical", "composite", "while on treatment"


class Course(NamedTuple):
    """What becomes of patients: values at the visits, NaN after death, and the day of each event, infinite if never."""

    values: Float[np.ndarray, "patient visit"]
    events: Float[np.ndarray, "patient event"]


def follow(
    design: Design,
    population: AbstractPopulation,
    untreated: Float[np.ndarray, "patient visit"],
    arm: Int[np.ndarray, " patient"],
    effect: Float[np.ndarray, " patient"],
    waits: Float[np.ndarray, "patient event"],
    *,
    only: Bool[np.ndarray, " event"] | None = None,
) -> Course:
    """Follow patients from visit to visit.

    Parameters
    ----------
    effect : shape (patient,)
        Each one's own effect at the last visit under full treatment.
    waits : shape (patient, event)
        Standard exponential: the cumulative hazard at which each event comes.
    only : shape (event,)
        Events that can happen; all if not given.
    """
    days, n = np.array(design.visits), len(arm)
    if not design.intercurrent:  # what follows would say the same, in half the time of a trial
        return Course(untreated + effect[:, None] * (days / days[-1]), np.zeros((n, 0)))
    chances = [hazards(one.chance, design) for one in design.intercurrent]
    every = np.reshape(chances, (len(chances), len(design.arms))) * (1.0 if only is None else only[:, None])
    deadly = np.array([one.does == "death" for one in design.intercurrent], dtype=bool)
    gamma = np.array([one.by_state for one in design.intercurrent])
    mean, spread = population.average(), np.maximum(population.spread(), 1e-12)
    worse = 1.0 if design.endpoint.better == "lower" else -1.0
    values, events = untreated.copy(), np.full((n, len(deadly)), np.inf)
    used = np.zeros_like(events)
    for v in range(1, len(days)):
        z = worse * (values[:, v - 1] - mean[v - 1]) / spread[v - 1]
        rate = every[:, arm].T * np.exp(gamma * np.where(np.isfinite(z), z, 0.0)[:, None])
        spent = used + rate * (days[v] - days[v - 1])
        comes = np.isinf(events) & (spent > waits)
        day = days[v - 1] + (waits - used) / np.where(comes, rate, 1.0)
        events, used = np.where(comes, day, events), spent
        # the dead have no further events
        died = death(design, events)
        events = np.where((events > died[:, None]) & ~deadly, np.inf, events)
        now = values[:, v] + effect * exposed_share(design, days[v], events) + rescue_effect(design, days[v], events)
        values[:, v] = np.where(died < days[v], np.nan, now)
    return Course(values, events)


def analysed(
    design: Design, measured: Float[np.ndarray, "patient visit"], events: Float[np.ndarray, "patient event"]
) -> Float[np.ndarray, "patient visit"]:
    """Return the values that the estimand's analysis sees, from those that were measured and the days of events."""
    days, seen = np.array(design.visits), measured.copy()
    chosen = [k for k, one in enumerate(design.intercurrent) if one.strategy != POLICY]
    first = events[:, chosen].min(axis=1, initial=np.inf)
    for k in chosen:
        one = design.intercurrent[k]
        after = ((events[:, k] == first) & np.isfinite(first))[:, None] & (days > first[:, None])
        if one.strategy == HYPOTHETICAL:
            replaced: np.ndarray = np.full(len(first), np.nan)
        elif one.strategy == COMPOSITE:
            replaced = measured[:, 0] + (one.value or 0.0)
        else:
            replaced = measured[np.arange(len(first)), (days <= first[:, None]).sum(axis=1) - 1]
        seen = np.where(after, replaced[:, None], seen)
    return seen


def death(design: Design, events: Float[np.ndarray, "patient event"]) -> Float[np.ndarray, " patient"]:
    """Return the day of death of each patient, infinite for those who live."""
    deadly = [k for k, one in enumerate(design.intercurrent) if one.does == "death"]
    return np.asarray(events[:, deadly].min(axis=1, initial=np.inf))


def responded(design: Design, change: Float[np.ndarray, " patient"]) -> Float[np.ndarray, " patient"]:
    """Return 1 for a change at least as good as the threshold, 0 for another, NaN for none."""
    threshold = design.endpoint.threshold or 0.0
    good = change <= threshold if design.endpoint.better == "lower" else change >= threshold
    return np.where(np.isfinite(change), good.astype(float), np.nan)


def hypothetical(design: Design) -> Bool[np.ndarray, " event"]:
    """Tell which events the estimand asks to think away."""
    return np.array([one.strategy == HYPOTHETICAL for one in design.intercurrent], dtype=bool)


def exposed_share(design: Design, day: float, events: Float[np.ndarray, "patient event"]) -> np.ndarray:
    """Return the share of the full effect: it builds up to the last visit, or to a stop and wears off."""
    stops = [k for k, one in enumerate(design.intercurrent) if one.does == "stop"]
    stop = events[:, stops].min(axis=1, initial=np.inf)
    return np.maximum(np.minimum(day, stop) - np.maximum(day - stop, 0.0), 0.0) / design.visits[-1]


def rescue_effect(design: Design, day: float, events: Float[np.ndarray, "patient event"]) -> np.ndarray:
    """Return what rescue medication adds to the value."""
    total = np.zeros(len(events))
    for k, one in enumerate(design.intercurrent):
        if one.does == "rescue":
            since = np.maximum(day - events[:, k], 0.0)
            total += one.effect * (np.minimum(since / one.onset, 1.0) if one.onset else since > 0)
    return total
