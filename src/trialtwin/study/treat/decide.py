"""From draws to what is decided on: benefit, risk, their balance, and the chance that a candidate is the best."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import MismatchError
from trialtwin.study.treat.simulate import Simulated
from trialtwin.study.treat.spec import NONE

LEVELS = (0.025, 0.5, 0.975)


@dataclass(frozen=True, eq=False)
class Decided:
    """What each candidate does for each patient; benefit and utility in points of the endpoint, above 0 is good.

    Parameters
    ----------
    names
        Candidates, no treatment the last.
    benefit, utility : shape (draw, patient, candidate)
        Utility is benefit less the weighed excess risk; both are 0 for no treatment.
    best : shape (patient, candidate)
        Share of the draws in which a candidate has the highest utility; ties go to no treatment. Adds up to 1.
    meaningful : shape (patient, candidate)
        Share of the draws in which benefit reaches the threshold.
    """

    names: tuple[str, ...]
    benefit: Float[np.ndarray, "draw patient candidate"]
    utility: Float[np.ndarray, "draw patient candidate"]
    best: Float[np.ndarray, "patient candidate"]
    meaningful: Float[np.ndarray, "patient candidate"]


def decide(simulated: Simulated, weights: Mapping[str, float], threshold: float, *, higher_is_better: bool) -> Decided:
    """Weigh benefit against harm, draw by draw.

    utility = benefit − Σ weight · (probability on the drug − probability without it)

    Raises
    ------
    MismatchError
        If a weight is given for an event that no candidate carries.
    """
    require_carried(weights, {event for events in simulated.risk.values() for event in events})
    sign = 1.0 if higher_is_better else -1.0
    benefit, utility = [], []
    for name, scores in simulated.treated.items():
        gain = sign * (scores[..., -1] - simulated.untreated[..., -1])
        harm = sum((weights.get(e, 0.0) * excess for e, excess in simulated.excess[name].items()), np.zeros_like(gain))
        benefit.append(gain)
        utility.append(gain - harm)
    nothing = np.zeros_like(benefit[0])
    gains, worth = np.stack([*benefit, nothing], axis=2), np.stack([*utility, nothing], axis=2)
    # no treatment first, so that a candidate has to be better than it to win
    order = [worth.shape[2] - 1, *range(worth.shape[2] - 1)]
    winner = np.array(order)[np.argmax(worth[..., order], axis=2)]
    best = np.stack([(winner == k).mean(axis=0) for k in range(worth.shape[2])], axis=1)
    names = (*simulated.treated, NONE)
    return Decided(names, gains, worth, best, (gains >= threshold).mean(axis=0))


def require_carried(weights: Mapping[str, float], carried: Set[str]) -> None:
    """Refuse a weight for an event that no candidate carries.

    Raises
    ------
    MismatchError
        With the events that there are.
    """
    unknown = [event for event in weights if event not in carried]
    if unknown:
        raise MismatchError(f"no candidate carries the event {unknown[0]!r}", where="weights", exists=sorted(carried))


def interval(draws: Float[np.ndarray, "draw ..."]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the 2.5th, 50th and 97.5th percentile over draws."""
    low, middle, high = np.quantile(draws, LEVELS, axis=0)
    return low, middle, high
