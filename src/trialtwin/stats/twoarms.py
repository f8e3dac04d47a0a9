r"""The score of a hazard ratio between two arms, and each patient's part in it.

At the event times t_j of a stratum, with d_j events of which d_j1 in the second arm, Y_j0 and Y_j1 at risk, and
μ_j = e^θ Y_j1 / (e^θ Y_j1 + Y_j0), the score and its information are

    U(θ) = Σ_j (d_j1 − d_j μ_j),      I(θ) = Σ_j d_j μ_j (1 − μ_j).

With λ_j = d_j / (e^θ Y_j1 + Y_j0) a patient of the second arm has the derived outcome O = Σ_j (1 − μ_j) (dN_j −
Y_j e^θ λ_j), one of the first O = Σ_j μ_j (dN_j − Y_j λ_j), so that U = Σ_{A=1} O − Σ_{A=0} O.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq

from trialtwin.core.errors import FitError

_WIDEST = 512.0  # log hazard ratio: e^512 is still a number


@dataclass(frozen=True, eq=False)
class TwoArms:
    """Patients of a stratum in two arms, and how many are at risk and have the event at each event time; immutable.

    Parameters
    ----------
    rows : shape (patient,)
        Positions in the trial.
    second, event : shape (patient,)
        Whether in the second arm, and whether the time ended in the event.
    reached : shape (patient,)
        Number of distinct event times up to the patient's own.
    events, events_second : shape (time,)
        Events in both arms, and in the second.
    at_risk : shape (time, 2)
        By arm.
    """

    rows: Int[np.ndarray, " patient"]
    second: Bool[np.ndarray, " patient"]
    event: Bool[np.ndarray, " patient"]
    reached: Int[np.ndarray, " patient"]
    events: Float[np.ndarray, " time"]
    events_second: Float[np.ndarray, " time"]
    at_risk: Float[np.ndarray, "time 2"]

    @classmethod
    def of(
        cls,
        rows: Int[np.ndarray, " patient"],
        second: Bool[np.ndarray, " patient"],
        time: Float[np.ndarray, " patient"],
        event: Bool[np.ndarray, " patient"],
    ) -> "TwoArms":
        """Count events and patients at risk at each distinct event time."""
        times = np.unique(time[event])
        reached = np.searchsorted(times, time, side="right")
        at = reached[event] - 1
        m = len(times)
        at_risk = np.stack(
            [np.bincount(reached[arm], minlength=m + 1)[::-1].cumsum()[::-1][1:] for arm in (~second, second)], axis=1
        )
        return cls(
            rows,
            second,
            event,
            reached,
            np.bincount(at, minlength=m).astype(float),
            np.bincount(at, weights=second[event], minlength=m).astype(float),
            at_risk.astype(float),
        )

    def score(self, theta: float, *, tied: bool = False) -> tuple[float, float]:
        """Return U and I at a log hazard ratio; ``tied`` reduces I for tied events, as the log-rank test does."""
        first, second = self.at_risk[:, 0], np.exp(theta) * self.at_risk[:, 1]
        both = first + second
        mu = second / both
        factor = np.where(self.events > 1, (both - self.events) / np.maximum(both - 1, 1), 1.0) if tied else 1.0
        return float((self.events_second - self.events * mu).sum()), float((self.events * mu * (1 - mu) * factor).sum())

    def outcomes(self, theta: float) -> Float[np.ndarray, " patient"]:
        """Return the derived outcomes O."""
        first, second = self.at_risk[:, 0], np.exp(theta) * self.at_risk[:, 1]
        both = first + second
        found = np.zeros(len(self.rows))
        for arm, weight, risk in ((~self.second, second / both, 1.0), (self.second, first / both, np.exp(theta))):
            gone = np.append(0.0, np.cumsum(weight * risk * self.events / both))
            found[arm] = -gone[self.reached[arm]]
            here = arm & self.event
            found[here] += weight[self.reached[here] - 1]
        return found


def solve_score(score: Callable[[float], float], value: float) -> float:
    """Return the log hazard ratio at which a score, which falls with it, has a value.

    Raises
    ------
    FitError
        If it has it nowhere.

    Examples
    --------
    >>> round(solve_score(lambda theta: 2.0 - theta, 0.5), 6)
    1.5
    """
    reach = 1.0
    while not score(reach) <= value <= score(-reach):
        reach *= 2
        if reach > _WIDEST:
            raise FitError(
                f"no hazard ratio has the score {value:.3g}: it is 0 or infinite",
                do="report the log-rank test, or adjust for fewer covariates",
            )
    return float(brentq(lambda theta: score(theta) - value, -reach, reach, xtol=1e-13, rtol=1e-14))
