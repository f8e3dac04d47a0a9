r"""What an estimand asks for under a truth: exactly where there is a formula, else from very many potential outcomes.

Potential outcomes: the same patients, with the same waiting times to events, under the treated arm and under control,
nobody leaving and no visit missed; events with a hypothetical strategy do not happen, and the others are handled as
their strategies say. Blocks of patients give as many values, whose mean has the standard error SD / √blocks:

    difference of means or of risks        mean of the differences
    log rate ratio                         log of (Σ expected events / Σ time at risk) over that under control
    log hazard ratio                       Cox's without covariates, of all patients under either arm

The hazard ratio is the marginal one: with a prognosis that matters, or an effect that is delayed, hazards are not
proportional over the population, and it is an average over the follow-up of this design, entry and the number of events
at which it is analysed included (Struthers CA, Kalbfleisch JD (1986), doi:10.1093/biomet/73.2.363).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit, roots_hermitenorm

from trialtwin.stats.survival_batch import cox_batch
from trialtwin.trials.design import Design
from trialtwin.trials.enrol import DAYS_PER_MONTH, Truth, own_effects
from trialtwin.trials.intercurrent import HYPOTHETICAL, POLICY, analysed, follow, hypothetical, responded
from trialtwin.trials.simulated_outcomes import (
    assigned,
    composite,
    cumulative,
    cutoff,
    ended,
    happen,
    intensity,
    inverse,
    require_prognosis,
    risk,
)
from trialtwin.trials.virtual_population import AbstractPopulation, Prognosis

PATIENTS, BLOCK = 200_000, 5_000
NOTHING = 1e-6  # a value that is none but for rounding
_STREAM = 2**31  # apart from the streams of cells, which are numbered from 0
_NODES = 64


class TrueValue(NamedTuple):
    """The value that an estimand asks for, and its Monte-Carlo standard error: 0 where it is exact.

    ``common`` tells whether an analysis given the score asks for the same number, as it does not for the hazard ratio
    of patients whose prognosis differs.
    """

    value: float
    se: float
    common: bool = True

    @property
    def null(self) -> bool:
        """Whether there is no effect."""
        return abs(self.value) <= NOTHING


def true_value(
    design: Design,
    population: AbstractPopulation,
    truth: Truth,
    treated: int,
    *,
    seed: int = 0,
    patients: int = PATIENTS,
) -> TrueValue:
    """Return the contrast of a treated arm with control that the estimand asks for, on the scale of the endpoint.

    Of a course it is exact where nothing but stops of treatment, whatever the patient's state, is handled by treatment
    policy: a stop at an exponential time with hazard h, after which the effect wears off, leaves of the full effect
    the share (2 / hT)(e^(−hT/2) − e^(−hT)); hypothetical strategies leave all of it. Of the other endpoints it is exact
    where events are all thought away: a marginal risk by Gauss–Hermite quadrature; a rate ratio, e^(τ + (σ₁² − σ₀²)/2)
    with σ² the variances of the log rate; a hazard ratio where hazards are proportional.

    Raises
    ------
    ConfigError
        If the population does not go with the endpoint.

    Examples
    --------
    >>> from trialtwin.trials.virtual_population import Normal
    >>> stop = {"event": "stop", "does": "stop", "chance": {"B": 0.2}, "strategy": "treatment policy"}
    >>> plan = Design(title="B against A", patients=40, visits=(0, 168), arms=({"name": "A"}, {"name": "B"}),
    ...     endpoint={"name": "change"}, intercurrent=(stop,))
    >>> people = Normal(np.array([20.0, 22.0]), np.array([[9.0, 6.0], [6.0, 12.0]]))
    >>> round(true_value(plan, people, Truth("an effect", (-2.0,)), 1).value, 3)
    -1.693
    """
    exact = _exact(design, population, truth, treated)
    if exact is not None:
        return TrueValue(exact, 0.0)
    rng = np.random.default_rng([seed, _STREAM, treated])
    blocks = [
        _BLOCKS[design.endpoint.kind](design, population, truth, treated, rng) for _ in range(max(2, patients // BLOCK))
    ]
    value, se = float(np.mean(blocks)), float(np.std(blocks, ddof=1) / np.sqrt(len(blocks)))
    return TrueValue(value, se, common=design.endpoint.kind != "time to event" or abs(value) <= NOTHING)


def _exact(design: Design, population: AbstractPopulation, truth: Truth, treated: int) -> float | None:
    """Return the value where there is a formula for it."""
    kept = [one for one in design.intercurrent if one.strategy != HYPOTHETICAL]
    effect = truth.effects[treated - 1]
    if design.endpoint.kind == "continuous":
        if any(one.does != "stop" or one.strategy != POLICY or one.by_state for one in kept):
            return None
        arm = design.names[treated]
        u = float(-np.log1p([-one.chance.get(arm, 0.0) for one in kept]).sum()) if kept else 0.0
        return effect if u == 0 else effect * float(2 / u * (np.exp(-u / 2) - np.exp(-u)))
    if kept or len(truth.cuts) or design.endpoint.kind == "responder":
        return None
    people = require_prognosis(design, population)
    spread = _spread(people, truth)
    match design.endpoint.kind:
        case "binary":
            return _risk(people.base[0] + effect, spread) - _risk(people.base[0], people.weight**2)
        case "count":
            return float(effect + (spread - people.weight**2) / 2)
        case _:
            return effect if spread == 0 and people.weight == 0 else None


def _spread(people: Prognosis, truth: Truth) -> float:
    """Return the variance between treated patients of the log odds, log rate or log hazard."""
    along = people.weight + truth.by_score * people.rho
    return float(along**2 + truth.by_score**2 * (1 - people.rho**2) + truth.heterogeneity**2)


def _risk(mean: float, variance: float) -> float:
    """Return the mean of a normal log odds on the scale of risks."""
    x, w = roots_hermitenorm(_NODES)
    return float(w @ expit(mean + np.sqrt(variance) * x) / np.sqrt(2 * np.pi))


class _Block(NamedTuple):
    """Patients of a block, and the own effect of each under the treated arm."""

    course: Float[np.ndarray, "patient visit"]
    effect: Float[np.ndarray, " patient"]
    waits: Float[np.ndarray, "patient event"]


def _recruit(
    design: Design, population: AbstractPopulation, truth: Truth, treated: int, rng: np.random.Generator
) -> _Block:
    people = population.recruit(BLOCK, rng)
    effect = own_effects(truth, np.full(BLOCK, treated), people, rng)
    return _Block(people.course, effect, rng.exponential(1.0, (BLOCK, len(design.intercurrent))))


def _course(
    design: Design, population: AbstractPopulation, truth: Truth, treated: int, rng: np.random.Generator
) -> float:
    """Return a difference in means of the change, or of the response."""
    block, only = _recruit(design, population, truth, treated, rng), ~hypothetical(design)
    ends = []
    for arm, effect in ((treated, block.effect), (0, np.zeros(BLOCK))):
        arms = np.full(BLOCK, arm)
        course = follow(design, population, block.course, arms, effect, block.waits, only=only)
        seen = analysed(design, course.values, course.events)
        change = seen[:, -1] - seen[:, 0]
        ends.append(change if design.endpoint.kind == "continuous" else responded(design, change))
    return float((ends[0] - ends[1]).mean())


def _binary(
    design: Design, population: AbstractPopulation, truth: Truth, treated: int, rng: np.random.Generator
) -> float:
    """Return a difference in risks."""
    people, block = require_prognosis(design, population), _recruit(design, population, truth, treated, rng)
    z, ends = block.course[:, 0], []
    for arm, effect in ((treated, block.effect), (0, np.zeros(BLOCK))):
        events = _events(design, z, arm, block)
        ends.append(assigned(design, risk(design, people, z, effect, events), events))
    return float((ends[0] - ends[1]).mean())


def _count(
    design: Design, population: AbstractPopulation, truth: Truth, treated: int, rng: np.random.Generator
) -> float:
    """Return a log ratio of rates: expected events over time at risk."""
    people, block = require_prognosis(design, population), _recruit(design, population, truth, treated, rng)
    z, rates = block.course[:, 0], []
    for arm, effect in ((treated, block.effect), (0, np.zeros(BLOCK))):
        events = _events(design, z, arm, block)
        end = np.minimum(ended(design, events), design.visits[-1])
        mean = cumulative(intensity(design, people, truth, z, effect, events), end)
        rates.append(mean.sum() / end.sum())
    return float(np.log(rates[0] / rates[1]))


def _hazard(
    design: Design, population: AbstractPopulation, truth: Truth, treated: int, rng: np.random.Generator
) -> float:
    """Return Cox's log hazard ratio of the same patients under both arms, analysed as the design would be."""
    people, block = require_prognosis(design, population), _recruit(design, population, truth, treated, rng)
    z, wait, last = block.course[:, 0], rng.exponential(1.0, BLOCK), design.visits[-1]
    period = 0.0 if design.accrual is None else design.patients / design.accrual * DAYS_PER_MONTH
    entered = np.sort(rng.random(BLOCK)) * period
    times = []
    for arm, effect in ((treated, block.effect), (0, np.zeros(BLOCK))):
        events = _events(design, z, arm, block)
        drawn = inverse(intensity(design, people, truth, z, effect, events), wait)
        times.append(np.minimum(np.minimum(drawn, composite(design, events)), np.inf))
    time, twice = np.concatenate(times), np.concatenate([entered, entered])
    event = time <= last
    share = 2 * BLOCK / design.patients
    cut = cutoff(design, twice, np.minimum(time, last), event, share)
    open_ = np.minimum(np.maximum(cut - twice, 0.0), last)
    event, time = event & (twice + time <= cut), np.minimum(time, open_)
    arm_column = np.repeat([1.0, 0.0], BLOCK)[None, :, None]
    return float(cox_batch(time[None], event[None], arm_column).value[0])


def _events(design: Design, z: Float[np.ndarray, " patient"], arm: int, block: _Block) -> np.ndarray:
    """Return days of the events that the estimand does not think away."""
    state = z if design.endpoint.better == "lower" else -z
    return happen(design, state, np.full(BLOCK, arm), block.waits, only=~hypothetical(design))


type _Draw = Callable[[Design, AbstractPopulation, Truth, int, np.random.Generator], float]

_BLOCKS: dict[str, _Draw] = {
    "continuous": _course,
    "responder": _course,
    "binary": _binary,
    "count": _count,
    "time to event": _hazard,
}
