"""Who enters a simulated trial: patients recruited, put into strata and randomised, each with an own effect."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from trialtwin.trials.design import Design
from trialtwin.trials.randomise import randomise
from trialtwin.trials.virtual_population import AbstractPopulation, People

DAYS_PER_MONTH = 30.4375


class Truth(NamedTuple):
    """What is true of a treatment: effects by treated arm, how patients differ in them, and when they act.

    ``effects`` are, one a treated arm, the change that treatment adds by the last visit, in the outcome's unit; of a
    binary endpoint the log odds ratio, of a count the log rate ratio, of a time to an event the log hazard ratio, each
    given the patient's prognosis. ``heterogeneity`` is the SD between patients, ``by_score`` what one SD of the score
    adds. Rates and hazards have the share ``shares[j]`` of the effect from day ``cuts[j − 1]`` to ``cuts[j]``.
    """

    name: str
    effects: tuple[float, ...]
    heterogeneity: float = 0.0
    by_score: float = 0.0
    cuts: tuple[float, ...] = ()
    shares: tuple[float, ...] = (1.0,)


class Enrolled(NamedTuple):
    """Patients of one trial in order of entry.

    ``effect`` is each one's own, 0 under control; ``waits`` are standard exponential, the cumulative hazards at which
    intercurrent events come; ``entered`` is the day of entry since the first patient could enter.
    """

    people: People
    arm: Int[np.ndarray, " patient"]
    stratum: Int[np.ndarray, " patient"]
    entered: Float[np.ndarray, " patient"]
    effect: Float[np.ndarray, " patient"]
    waits: Float[np.ndarray, "patient event"]


def enrol(design: Design, population: AbstractPopulation, truth: Truth, rng: np.random.Generator) -> Enrolled:
    """Recruit and randomise the patients of one trial.

    Examples
    --------
    >>> from trialtwin.trials.virtual_population import Normal
    >>> plan = Design(title="B against A", patients=40, visits=(0, 168), arms=({"name": "A"}, {"name": "B"}),
    ...     endpoint={"name": "change"})
    >>> people = Normal(np.array([20.0, 22.0]), np.array([[9.0, 6.0], [6.0, 12.0]]))
    >>> trial = enrol(plan, people, Truth("an effect", (-1.0,)), np.random.default_rng(1))
    >>> int(trial.arm.sum()), float(trial.effect[trial.arm == 1].mean())
    (20, -1.0)
    """
    n = design.patients
    people = population.recruit(n, rng)
    stratum = _stratum(design, people)
    arm = randomise(design.scheme(), n, seed=rng, factors=stratum if design.randomisation.strata else None)
    entered = np.cumsum(rng.exponential(1.0, n)) / (design.accrual or np.inf) * DAYS_PER_MONTH
    effect = own_effects(truth, arm, people, rng)
    waits = rng.exponential(1.0, (n, len(design.intercurrent)))
    return Enrolled(people, arm, stratum, entered, effect, waits)


def own_effects(
    truth: Truth, arm: Int[np.ndarray, " patient"], people: People, rng: np.random.Generator
) -> Float[np.ndarray, " patient"]:
    """Return each patient's own effect, 0 under control."""
    mean = np.array([0.0, *truth.effects])[arm]
    spread = people.score.std()
    z = (people.score - people.score.mean()) / spread if spread > 0 else np.zeros(len(arm))
    own = mean + truth.by_score * z + truth.heterogeneity * rng.standard_normal(len(arm))
    return np.where(arm > 0, own, 0.0)


def hazards(chances: dict[str, float], design: Design) -> Float[np.ndarray, " arm"]:
    """Return hazards a day by arm, from chances by the last visit."""
    chance = np.array([chances.get(name, 0.0) for name in design.names])
    return -np.log1p(-chance) / design.visits[-1]


def _stratum(design: Design, people: People) -> Int[np.ndarray, " patient"]:
    """Return each patient's stratum of randomisation."""
    strata = design.randomisation.strata
    if strata is None:
        return np.zeros(len(people.score), dtype=np.int64)
    value = people.score if strata.of == "score" else people.course[:, 0]
    return np.digitize(value, strata.cuts)
