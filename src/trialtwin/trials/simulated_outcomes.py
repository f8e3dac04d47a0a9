r"""Endpoints that are not a course of values: a response, a number of events, a time to an event.

For a patient with prognosis z ~ N(0, 1), of which the twin's score knows a part, and an own effect τ,

    binary         logit P(Y = 1) = a + b z + g(T) τ + what events do,      g as in ``intercurrent``
    count          Y ~ Poisson(G ∫ λ(t) dt) over the follow-up,  G gamma of mean 1 and the variance asked for
    time to event  hazard λ(t),      log λ(t) = log λ₀(t) + b z + s(t) τ + what events do

with λ₀ constant in pieces, s(t) the share of the effect in its piece (0 first where it is delayed), τ gone after a
stop. Intercurrent events and dropout come at hazards h_a exp(γ x), x = z or −z, higher being worse. Times to events are
found by inverting the cumulative hazard. A trial whose analysis waits for a number of events is cut on the day of the
last of them; without one it goes on until the last patient has been followed to the last visit.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit

from trialtwin.core.errors import ConfigError
from trialtwin.trials.design import Design
from trialtwin.trials.enrol import Enrolled, Truth, hazards
from trialtwin.trials.intercurrent import death, exposed_share, rescue_effect
from trialtwin.trials.virtual_population import AbstractPopulation, Prognosis

DAYS_PER_YEAR = 365.25
ENDS = ("hypothetical", "while on treatment")  # strategies by which follow-up ends at the event


class Outcome(NamedTuple):
    """What came of each patient: the endpoint, days at risk, the day of leaving, days of intercurrent events."""

    outcome: Float[np.ndarray, " patient"]
    exposure: Float[np.ndarray, " patient"]
    left: Float[np.ndarray, " patient"]
    events: Float[np.ndarray, "patient event"]


class Pieces(NamedTuple):
    """A patient's hazard a day, constant between breaks; the first break is day 0."""

    breaks: Float[np.ndarray, "patient edge"]
    hazard: Float[np.ndarray, "patient piece"]


def draw_outcome(
    design: Design, population: Prognosis, truth: Truth, who: Enrolled, rng: np.random.Generator
) -> Outcome:
    """Draw what comes of the patients of one trial."""
    z, days = who.people.course[:, 0], design.visits[-1]
    state = z if design.endpoint.better == "lower" else -z
    events = happen(design, state, who.arm, who.waits)
    leaving = hazards(design.leaving.dropout, design)[who.arm] * np.exp(design.leaving.dropout_by_state * state)
    left = rng.exponential(1.0, len(z)) / np.maximum(leaving, 1e-300)
    left = np.where((left > days) | (death(design, events) < left), np.inf, left)
    seen = np.where(events < np.minimum(left, days)[:, None], events, np.inf)
    if design.endpoint.kind == "binary":
        outcome = _response(design, population, z, who.effect, events, rng)
        missed = (left < days) | (rng.random(len(z)) < design.leaving.missed)
        return Outcome(assigned(design, np.where(missed, np.nan, outcome), seen), np.full(len(z), days), left, seen)
    pieces = intensity(design, population, truth, z, who.effect, events)
    end = np.minimum(np.minimum(left, days), ended(design, seen))
    if design.endpoint.kind == "count":
        mean = cumulative(pieces, end) * population.frailty(len(z), rng)
        return Outcome(rng.poisson(mean).astype(float), end, left, seen)
    time = np.minimum(inverse(pieces, rng.exponential(1.0, len(z))), composite(design, seen))
    event, time = time <= end, np.minimum(time, end)
    cut = cutoff(design, who.entered, time, event)
    open_ = np.maximum(cut - who.entered, 0.0)
    # on the calendar, as the cut was found: a difference of days is rounded otherwise
    event, time = event & (who.entered + time <= cut) & (open_ > 0), np.minimum(time, open_)
    return Outcome(event.astype(float), time, left, np.where(seen <= time[:, None], seen, np.inf))


def cutoff(
    design: Design,
    entered: Float[np.ndarray, " patient"],
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    share: float = 1.0,
) -> float:
    """Return the day on which a share of the events that the analysis waits for have happened, or follow-up ends."""
    last = float(entered.max() + design.visits[-1])
    wanted = design.endpoint.events
    if wanted is None:
        return last
    happened = np.sort((entered + time)[event])
    number = int(np.ceil(share * wanted - 1e-9))
    return float(happened[number - 1]) if len(happened) >= number else last


def happen(
    design: Design,
    state: Float[np.ndarray, " patient"],
    arm: Int[np.ndarray, " patient"],
    waits: Float[np.ndarray, "patient event"],
    *,
    only: Bool[np.ndarray, " event"] | None = None,
) -> Float[np.ndarray, "patient event"]:
    """Return the day of each intercurrent event, infinite beyond the last visit, and after death for all others."""
    days = np.full(waits.shape, np.inf)
    for k, one in enumerate(design.intercurrent):
        if only is None or only[k]:
            rate = hazards(one.chance, design)[arm] * np.exp(one.by_state * state)
            days[:, k] = waits[:, k] / np.maximum(rate, 1e-300)
    days = np.where(days > design.visits[-1], np.inf, days)
    deadly = np.array([one.does == "death" for one in design.intercurrent], dtype=bool)
    return np.where((days > death(design, days)[:, None]) & ~deadly, np.inf, days)


def intensity(
    design: Design,
    population: Prognosis,
    truth: Truth,
    z: Float[np.ndarray, " patient"],
    effect: Float[np.ndarray, " patient"],
    events: Float[np.ndarray, "patient event"],
) -> Pieces:
    """Return each patient's hazard: the baseline's pieces, cut where the effect or an event changes it."""
    last, n = design.visits[-1], len(z)
    common = np.unique([0.0, *population.cuts, *truth.cuts, last])
    common = common[common <= last]
    edges = np.concatenate([np.broadcast_to(common, (n, len(common))), events], axis=1)
    edges = np.sort(np.minimum(edges, last), axis=1)
    middle = (edges[:, 1:] + edges[:, :-1]) / 2
    base = population.base[np.digitize(middle, population.cuts)]
    share = np.array(truth.shares)[np.digitize(middle, truth.cuts)]
    stops = [k for k, one in enumerate(design.intercurrent) if one.does == "stop"]
    on = middle < events[:, stops].min(axis=1, initial=np.inf)[:, None]
    added = np.zeros_like(middle)
    for k, one in enumerate(design.intercurrent):
        if one.does == "rescue":
            added += one.effect * (middle > events[:, k : k + 1])
    log_hazard = base + population.weight * z[:, None] + share * on * effect[:, None] + added
    return Pieces(edges, np.exp(log_hazard) / DAYS_PER_YEAR)


def cumulative(pieces: Pieces, until: Float[np.ndarray, " patient"]) -> Float[np.ndarray, " patient"]:
    """Return the cumulative hazard up to each patient's day."""
    inside = np.minimum(pieces.breaks[:, 1:], until[:, None]) - np.minimum(pieces.breaks[:, :-1], until[:, None])
    return (pieces.hazard * inside).sum(axis=1)


def inverse(pieces: Pieces, wanted: Float[np.ndarray, " patient"]) -> Float[np.ndarray, " patient"]:
    """Return the day at which each patient's cumulative hazard is so much; infinite beyond the last break."""
    spent = np.cumsum(pieces.hazard * np.diff(pieces.breaks, axis=1), axis=1)
    place = (spent < wanted[:, None]).sum(axis=1)
    inside = np.minimum(place, spent.shape[1] - 1)
    rows = np.arange(len(wanted))
    before = np.where(inside > 0, spent[rows, inside - 1], 0.0)
    day = pieces.breaks[rows, inside] + (wanted - before) / pieces.hazard[rows, inside]
    return np.where(place < spent.shape[1], day, np.inf)


def ended(design: Design, events: Float[np.ndarray, "patient event"]) -> Float[np.ndarray, " patient"]:
    """Return the day on which follow-up ends by an event's strategy, or by death; infinite if never."""
    chosen = [k for k, one in enumerate(design.intercurrent) if one.strategy in ENDS]
    return np.asarray(np.minimum(events[:, chosen].min(axis=1, initial=np.inf), death(design, events)))


def composite(design: Design, events: Float[np.ndarray, "patient event"]) -> Float[np.ndarray, " patient"]:
    """Return the day of the first event that a composite strategy makes part of the endpoint."""
    chosen = [k for k, one in enumerate(design.intercurrent) if one.strategy == "composite"]
    return np.asarray(events[:, chosen].min(axis=1, initial=np.inf))


def assigned(
    design: Design, outcome: Float[np.ndarray, " patient"], events: Float[np.ndarray, "patient event"]
) -> Float[np.ndarray, " patient"]:
    """Return the response that the estimand's analysis sees: set aside, assigned, or as it was."""
    chosen = [k for k, one in enumerate(design.intercurrent) if one.strategy != "treatment policy"]
    first = events[:, chosen].min(axis=1, initial=np.inf)
    for k in chosen:
        one = design.intercurrent[k]
        value = one.value if one.strategy == "composite" and one.value is not None else np.nan
        outcome = np.where((events[:, k] == first) & np.isfinite(first), value, outcome)
    return outcome


def risk(
    design: Design,
    population: Prognosis,
    z: Float[np.ndarray, " patient"],
    effect: Float[np.ndarray, " patient"],
    events: Float[np.ndarray, "patient event"],
) -> Float[np.ndarray, " patient"]:
    """Return each patient's chance of a response at the last visit."""
    last = design.visits[-1]
    treated = exposed_share(design, last, events) * effect + rescue_effect(design, last, events)
    return np.asarray(expit(population.base[0] + population.weight * z + treated))


def require_prognosis(design: Design, population: AbstractPopulation) -> Prognosis:
    """Return the population where it is one that such an endpoint can be drawn from.

    Raises
    ------
    ConfigError
        If it is a population of courses.
    """
    if not isinstance(population, Prognosis):
        raise ConfigError(
            f"a {design.endpoint.kind} endpoint of patients who come as courses of values",
            do="describe the population by its risk, rate or hazard, or ask for a 'responder' endpoint",
        )
    return population


def _response(
    design: Design,
    population: Prognosis,
    z: Float[np.ndarray, " patient"],
    effect: Float[np.ndarray, " patient"],
    events: Float[np.ndarray, "patient event"],
    rng: np.random.Generator,
) -> Float[np.ndarray, " patient"]:
    """Draw responses; the dead have none."""
    drawn = (rng.random(len(z)) < risk(design, population, z, effect, events)).astype(float)
    return np.where(np.isfinite(death(design, events)), np.nan, drawn)
