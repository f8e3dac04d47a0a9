r"""What an estimand asks for under a truth: exactly where there is a formula, else from very many potential outcomes.

Potential outcomes: the same patients, with the same waiting times to events, under the treated arm and under control,
nobody leaving and no visit missed; events with a hypothetical strategy do not happen, and the others are handled as
their strategies say. The mean of the differences has the standard error SD / √n.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from trialtwin.trials.design import Design
from trialtwin.trials.intercurrent import HYPOTHETICAL, POLICY, analysed, follow, hypothetical
from trialtwin.trials.simulate import Truth, own_effects
from trialtwin.trials.virtual_population import AbstractPopulation

PATIENTS, BLOCK = 200_000, 20_000
_STREAM = 2**31  # apart from the streams of cells, which are numbered from 0


class TrueValue(NamedTuple):
    """The value that an estimand asks for, and its Monte-Carlo standard error: 0 where it is exact."""

    value: float
    se: float


def true_value(
    design: Design,
    population: AbstractPopulation,
    truth: Truth,
    treated: int,
    *,
    seed: int = 0,
    patients: int = PATIENTS,
) -> TrueValue:
    """Return the difference between a treated arm and control that the estimand asks for.

    It is exact where nothing but stops of treatment, whatever the patient's state, is handled by treatment policy: a
    stop at an exponential time with hazard h, after which the effect wears off, leaves of the full effect the share
    (2 / hT)(e^(−hT/2) − e^(−hT)); hypothetical strategies leave all of it.

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
    share = _share(design, treated)
    if share is not None:
        return TrueValue(truth.effects[treated - 1] * share, 0.0)
    rng = np.random.default_rng([seed, _STREAM, treated])
    gaps = [_gaps(design, population, truth, treated, min(BLOCK, patients - k), rng) for k in range(0, patients, BLOCK)]
    found = np.concatenate(gaps)
    return TrueValue(float(found.mean()), float(found.std(ddof=1) / np.sqrt(len(found))))


def _share(design: Design, treated: int) -> float | None:
    """Return the share of the full effect that the estimand leaves, where that is all that happens."""
    kept = [one for one in design.intercurrent if one.strategy != HYPOTHETICAL]
    if any(one.does != "stop" or one.strategy != POLICY or one.by_state for one in kept):
        return None
    arm = design.names[treated]
    u = float(-np.log1p([-one.chance.get(arm, 0.0) for one in kept]).sum()) if kept else 0.0
    return 1.0 if u == 0 else float(2 / u * (np.exp(-u / 2) - np.exp(-u)))


def _gaps(
    design: Design,
    population: AbstractPopulation,
    truth: Truth,
    treated: int,
    patients: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, " patient"]:
    """Return each patient's endpoint under the treated arm less that under control."""
    people = population.recruit(patients, rng)
    full = np.full(patients, treated)
    effect = own_effects(truth, full, people, rng)
    waits = rng.exponential(1.0, (patients, len(design.intercurrent)))
    ends = []
    for arm, own in ((full, effect), (np.zeros_like(full), np.zeros(patients))):
        course = follow(design, population, people.course, arm, own, waits, only=~hypothetical(design))
        seen = analysed(design, course.values, course.events)
        ends.append(seen[:, -1] - seen[:, 0])
    return ends[0] - ends[1]
