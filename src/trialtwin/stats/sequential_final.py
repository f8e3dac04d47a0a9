r"""What a group-sequential trial says once it has stopped: p-value, median-unbiased estimate and interval.

By the stage-wise ordering, results of a trial are the more extreme the earlier they crossed the upper boundary and, at
the same look, the larger z is. When it ended at look k with z, and Z has drift θ,

    p(θ) = Σ_{j<k} P_θ(the upper boundary is first crossed at look j) + P_θ(look k is reached, Z_k ≥ z),

which grows with θ and is uniform under its true value. So p(0) is a one-sided p-value, p(θ) = ½ gives an estimate that
lies above and below the truth equally often, and p(θ) = α, 1 − α an interval of level 1 − 2α, which excludes 0 just if
the trial rejects. A lower boundary counts where it is binding, or the test two-sided; one that is not binding is
ignored, so that nothing rests on its being kept. The maximum-likelihood estimate is biased away from 0 after a trial
that stopped early.

Sources: Tsiatis AA, Rosner GL, Mehta CR (1984), doi:10.2307/2530924; Jennison C, Turnbull BW (2000), ch. 8.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri, stdtr

from trialtwin.core.errors import ConfigError, ConvergenceError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.sequential import SequentialDesign
from trialtwin.stats.sequential_process import crossing
from trialtwin.stats.wald import require_level

_REACH = 12.0  # SDs of Z within which the drift is sought


@dataclass(frozen=True)
class FinalInference:
    """Inference of a trial that has stopped, in the unit of the effect; immutable.

    Parameters
    ----------
    look
        At which it stopped, from 1.
    p, p_two_sided
        One-sided p-value of effects above the null value, and twice the smaller tail.
    median_unbiased, lower, upper, level
        Estimate, and interval with its level.
    naive, se, z
        The estimate of the analysis, its standard error, and the statistic.
    """

    look: int
    p: float
    p_two_sided: float
    median_unbiased: float
    lower: float
    upper: float
    level: float
    naive: float
    se: float
    z: float

    def estimate(
        self, contrast: str, *, n: int, method: str, unit: str = "", estimand: Estimand | None = None
    ) -> Estimate:
        """Return the median-unbiased estimate with its interval and two-sided p-value."""
        return Estimate(
            contrast=contrast,
            value=self.median_unbiased,
            se=self.se,
            lower=self.lower,
            upper=self.upper,
            statistic=self.z,
            p=self.p_two_sided,
            n=n,
            level=self.level,
            method=f"{method}, stage-wise ordering at look {self.look}",
            variance="of the unadjusted estimate",
            unit=unit,
            estimand=estimand,
        )


def stagewise_p(design: SequentialDesign, look: int, z: float, drift: float = 0.0) -> float:
    """Return the probability of a result at least as extreme, by the stage-wise ordering.

    Parameters
    ----------
    look
        At which the trial stopped, from 1.
    z
        Statistic there.
    drift
        Mean of the last Z; 0 for the p-value.

    Raises
    ------
    ConfigError
        If there is no such look.

    Examples
    --------
    >>> from trialtwin.stats.sequential import sequential_design
    >>> from trialtwin.stats.sequential_spending import Boundary
    >>> plan = sequential_design(np.array([0.5, 1.0]), Boundary("O'Brien-Fleming"))
    >>> round(stagewise_p(plan, 2, float(plan.upper[1])), 4)  # on the last boundary: all of the error
    0.025
    """
    if not 1 <= look <= len(design.fraction):
        raise ConfigError(f"no look {look}", exists=[str(k + 1) for k in range(len(design.fraction))])
    kept = design.binding or design.sides == 2
    lower = design.lower[: look - 1] if kept else np.full(look - 1, -np.inf)
    upper, beneath = np.append(design.upper[: look - 1], z), np.append(lower, -np.inf)
    return float(min(crossing(upper, beneath, design.fraction[:look], drift).upper.sum(), 1.0))


def final_inference(
    design: SequentialDesign,
    look: int,
    value: float,
    se: float,
    *,
    df: float | None = None,
    null: float = 0.0,
    level: float | None = None,
) -> FinalInference:
    """Return p-value, median-unbiased estimate and interval of a trial that stopped at a look.

    Parameters
    ----------
    design
        With the fractions at which the trial was looked at.
    look
        At which it stopped, from 1.
    value, se, df
        Estimate of all data by then, with larger values better; a t statistic enters by its p-value.
    null
        Effect under the null hypothesis.
    level
        Of the interval; 1 − 2α of the design where not given.

    Raises
    ------
    ConfigError
        If there is no such look, a number is not finite, or the trial goes on at that look.
    ConvergenceError
        If an end of the interval is not found.

    Examples
    --------
    >>> from trialtwin.stats.sequential import sequential_design
    >>> from trialtwin.stats.sequential_spending import Boundary
    >>> plan = sequential_design(np.array([0.5, 1.0]), Boundary("Pocock"))
    >>> found = final_inference(plan, 1, 3.0, 1.0)  # stopped early: less than what was seen
    >>> 2.9 < found.median_unbiased < 3.0, found.lower > 0
    (True, True)
    """
    if not (0 < se < np.inf and np.isfinite(value)):
        raise ConfigError(f"an estimate of {value:g} with a standard error of {se:g}")
    confidence = 1 - 2 * design.alpha if level is None else level
    require_level(confidence)
    t = (value - null) / se
    z = t if df is None else float(-np.sign(t) * ndtri(stdtr(df, -abs(t))))
    p = stagewise_p(design, look, z)
    _require_end(design, look, z)
    root = float(np.sqrt(design.fraction[look - 1]))
    middle, reach = z / root, _REACH / root

    def effect(tail: float) -> float:
        return null + se * root * _drift(design, look, z, tail, middle - reach, middle + reach)

    tail = (1 - confidence) / 2
    return FinalInference(
        look, p, 2 * min(p, 1 - p), effect(0.5), effect(tail), effect(1 - tail), confidence, value, se, z
    )


def _drift(design: SequentialDesign, look: int, z: float, tail: float, low: float, high: float) -> float:
    """Return the drift under which the probability of a result as extreme is the tail."""

    def excess(drift: float) -> float:
        return stagewise_p(design, look, z, drift) - tail

    if not excess(low) < 0 < excess(high):
        raise ConvergenceError(
            f"no drift between {low:g} and {high:g} with probability {tail:g}", where=f"z = {z:g} at look {look}"
        )
    return float(brentq(excess, low, high, xtol=1e-10, rtol=1e-12))


def _require_end(design: SequentialDesign, look: int, z: float) -> None:
    low, high = float(design.lower[look - 1]), float(design.upper[look - 1])
    if look < len(design.fraction) and low < z < high:
        raise ConfigError(
            f"the trial goes on at look {look}: z = {z:.4g} lies between {low:.4g} and {high:.4g}",
            do="use repeated_interval and repeated_p while it goes on, or where it was stopped for another reason",
        )
