r"""A trial before it is run: recruited, randomised, treated, measured, and left early by some.

For patient i in arm a with untreated course y₀ and a visit at day t,

    y_i(t) = y₀_i(t) + g(t) τ_i + what events do,   τ_i ~ N(δ_a + η s̃_i, ω²)

with s̃ the standardised score (η ≠ 0: the effect depends on the forecast), and g and events as in ``intercurrent``. The
hazard of dropout in the interval up to visit v is h_a exp(γ x), x the last value that the analysis sees, standardised
and turned so that higher is worse: missing at random given what was seen. What is not measured is NaN.

Other endpoints are drawn as ``simulated_outcomes`` says. Trial k of a simulation has a random stream of its own,
numbered (seed, cell, k): whatever is simulated beside it, or on which worker, it is the same trial.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from trialtwin.core.errors import ConfigError
from trialtwin.trials.design import Design
from trialtwin.trials.enrol import Enrolled, Truth, enrol, hazards
from trialtwin.trials.intercurrent import analysed, death, follow, responded
from trialtwin.trials.simulated_outcomes import draw_outcome, require_prognosis
from trialtwin.trials.virtual_population import AbstractPopulation


class Trials(NamedTuple):
    """Simulated trials, one a row.

    Parameters
    ----------
    arm, stratum
        Position of the arm, and the stratum of randomisation; all 0 where there are none.
    values, measured
        What the analysis sees, NaN where nothing was measured or the estimand sets a value aside; and all that was
        measured. Without visits where the endpoint is no course of values.
    outcome, exposure
        The endpoint, NaN where it is not known: a change, a response (0 or 1), a number of events, or whether the event
        happened; and the days at risk.
    score
        What the twin said before: its forecast of the untreated change at the last visit, or its index of prognosis.
    entered, left
        Day of entry since the first patient, and day since own entry on which a patient left the trial; infinite where
        it never came.
    events
        Day since own entry of each intercurrent event, in the order of the design's; infinite where it did not happen
        while the patient was in the trial.
    """

    arm: Int[np.ndarray, "trial patient"]
    stratum: Int[np.ndarray, "trial patient"]
    values: Float[np.ndarray, "trial patient visit"]
    measured: Float[np.ndarray, "trial patient visit"]
    outcome: Float[np.ndarray, "trial patient"]
    exposure: Float[np.ndarray, "trial patient"]
    score: Float[np.ndarray, "trial patient"]
    entered: Float[np.ndarray, "trial patient"]
    left: Float[np.ndarray, "trial patient"]
    events: Float[np.ndarray, "trial patient event"]

    @property
    def change(self) -> Float[np.ndarray, "trial patient"]:
        """Return the change from baseline at the last visit."""
        return self.values[..., -1] - self.values[..., 0]


def simulate(
    design: Design, population: AbstractPopulation, truth: Truth, *, trials: range, seed: int, cell: int = 0
) -> Trials:
    """Simulate some of the trials of a cell; trial k is the same whichever range it is asked for in.

    Raises
    ------
    ConfigError
        If the population has other visits than the design, or does not go with its endpoint; or the truth has another
        number of treated arms.

    Examples
    --------
    >>> import numpy as np
    >>> from trialtwin.trials.virtual_population import Normal
    >>> plan = Design(title="B against A", patients=40, visits=(0, 168), arms=({"name": "A"}, {"name": "B"}),
    ...     endpoint={"name": "change"})
    >>> people = Normal(np.array([20.0, 22.0]), np.array([[9.0, 6.0], [6.0, 12.0]]))
    >>> found = simulate(plan, people, Truth("no effect", (0.0,)), trials=range(3), seed=1)
    >>> found.values.shape
    (3, 40, 2)
    """
    if not design.endpoint.measured:
        require_prognosis(design, population)
    elif len(population.spread()) != len(design.visits):
        raise ConfigError(f"the population has {len(population.spread())} visits, the design {len(design.visits)}")
    if len(truth.effects) != len(design.arms) - 1:
        raise ConfigError(
            f"truth {truth.name!r} has {len(truth.effects)} effects for {len(design.arms) - 1} treated arms"
        )
    rows = [_one(design, population, truth, np.random.default_rng([seed, cell, k])) for k in trials]
    return Trials(*(np.stack(column) for column in zip(*rows, strict=True)))


def _one(
    design: Design, population: AbstractPopulation, truth: Truth, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Simulate one trial; the order of the arrays is that of ``Trials``."""
    who = enrol(design, population, truth, rng)
    if design.endpoint.measured:
        values, measured, outcome, left, events = _measure(design, population, who, rng)
        exposure = np.full(len(outcome), design.visits[-1])
    else:
        found = draw_outcome(design, require_prognosis(design, population), truth, who, rng)
        outcome, exposure, left, events = found
        values = measured = np.zeros((len(outcome), 0))
    return who.arm, who.stratum, values, measured, outcome, exposure, who.people.score, who.entered, left, events


def _measure(
    design: Design, population: AbstractPopulation, who: Enrolled, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Follow and measure: values that the analysis sees, all values, the endpoint, days of leaving and of events."""
    days = np.array(design.visits)
    course = follow(design, population, who.people.course, who.arm, who.effect, who.waits)
    missed = rng.random((len(who.arm), len(days))) < design.leaving.missed
    missed[:, 0] = False
    measured = np.where(missed, np.nan, course.values)
    left = _leaving(design, population, who.arm, analysed(design, measured, course.events), rng)
    left = np.where(death(design, course.events) < left, np.inf, left)
    events = np.where(course.events < left[:, None], course.events, np.inf)
    measured = np.where(days > left[:, None], np.nan, measured)
    values = analysed(design, measured, events)
    change = values[:, -1] - values[:, 0]
    outcome = change if design.endpoint.kind == "continuous" else responded(design, change)
    return values, measured, outcome, left, events


def _leaving(
    design: Design,
    population: AbstractPopulation,
    arm: Int[np.ndarray, " patient"],
    values: Float[np.ndarray, "patient visit"],
    rng: np.random.Generator,
) -> Float[np.ndarray, " patient"]:
    """Return the day on which each patient leaves, interval by interval, by the last value that the analysis sees."""
    hazard, spread = hazards(design.leaving.dropout, design)[arm], population.spread()
    worse = 1.0 if design.endpoint.better == "lower" else -1.0
    left, z = np.full(len(arm), np.inf), np.zeros(len(arm))
    for v in range(1, values.shape[1]):
        seen = values[:, v - 1]
        now = worse * (seen - np.nanmean(seen)) / max(float(spread[v - 1]), 1e-12) if np.isfinite(seen).any() else seen
        # a visit that was missed, or is set aside, tells nothing of why somebody leaves
        z = np.where(np.isfinite(now), now, z)
        rate = np.maximum(hazard * np.exp(design.leaving.dropout_by_state * z), 1e-300)
        waited = -np.log1p(-rng.random(len(arm))) / rate
        goes = np.isinf(left) & (waited < design.visits[v] - design.visits[v - 1])
        left = np.where(goes, design.visits[v - 1] + waited, left)
        values = np.where((design.visits[v] > left)[:, None] & (np.arange(values.shape[1]) >= v), np.nan, values)
    return left
