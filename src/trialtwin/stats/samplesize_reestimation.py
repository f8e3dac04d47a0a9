r"""Sample size reconsidered during a trial: from its own interim result, or blinded, from the pooled variance.

Unblinded: given z at look i, the size of what is left is multiplied by the f at which the conditional power under an
effect δ reaches its target. With n₀ and n₁ patients planned in all, standard deviation σ and fractions t_k, each later
stage has

    z_s ~ N(δ √(f (t_s − t_{s−1}) / [σ² (1/n₀ + 1/n₁)]), 1),

and stages are combined with the weights that were planned, √(t_s − t_{s−1}) (``sequential_analysis.inverse_normal``),
whatever their size turned out to be. That keeps the level, whatever rule chose f; one z of all data does not.

Blinded: the variance of all outcomes without their arms, less what the assumed effect adds to it,

    σ̂² = S² − δ² π (1 − π) n / (n − 1),

π the share treated. The size for σ̂ follows; the final t test keeps its level to a close approximation.

Sources: Cui L, Hung HMJ, Wang SJ (1999), doi:10.1111/j.0006-341X.1999.00853.x; Lehmacher W, Wassmer G (1999),
doi:10.1111/j.0006-341X.1999.01286.x; Kieser M, Friede T (2003), doi:10.1002/sim.1585.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from trialtwin.core.arrays import frozen, require_finite
from trialtwin.core.errors import ConfigError, DataError
from trialtwin.stats.samplesize import Size, require_positive, require_probability, size_t
from trialtwin.stats.sequential import SequentialDesign
from trialtwin.stats.sequential_analysis import conditional_power


@dataclass(frozen=True, eq=False)
class Reestimated:
    """The size of what is left of a trial; immutable.

    Parameters
    ----------
    factor
        Of the planned size of every stage to come.
    control, treated : shape (later,)
        Patients of each stage to come, unrounded.
    power, planned_power
        Conditional power with this size and with the planned one, under the effect.
    limit
        "smallest" or "largest" where the target asks for less or more than is allowed, "" where it is reached.
    """

    factor: float
    control: Float[np.ndarray, " later"]
    treated: Float[np.ndarray, " later"]
    power: float
    planned_power: float
    limit: Literal["", "smallest", "largest"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "control", frozen(self.control))
        object.__setattr__(self, "treated", frozen(self.treated))


def reestimate_size(
    design: SequentialDesign,
    look: int,
    z: float,
    *,
    effect: float,
    sd: float,
    planned: Size,
    power: float = 0.9,
    smallest: float = 1.0,
    largest: float = 2.0,
) -> Reestimated:
    """Choose the size of what is left so that the conditional power reaches a target.

    Parameters
    ----------
    design, look, z
        The design, looks taken so far, and the statistic there.
    effect, sd, power
        Target, and under which effect it is asked for: assumed or estimated, larger is better.
    planned
        Patients of each arm by the last look, as planned.
    smallest, largest
        Factors of the planned size of what is left that are allowed.

    Raises
    ------
    ConfigError
        If a number is out of range, or the trial has no look to come or has ended.

    Examples
    --------
    >>> from trialtwin.stats.sequential import sequential_design
    >>> from trialtwin.stats.sequential_spending import Boundary
    >>> plan = sequential_design(np.array([0.5, 1.0]), Boundary("O'Brien-Fleming"))
    >>> found = reestimate_size(plan, 1, 1.2, effect=3.0, sd=10.0, planned=Size(200.0, 200.0))
    >>> round(found.factor, 3), round(found.power, 3), found.control.round(1)
    (1.841, 0.9, array([184.1]))
    """
    require_positive(effect=effect, sd=sd, control=planned.control, treated=planned.treated, smallest=smallest)
    require_probability(power=power)
    if not smallest <= largest < np.inf:
        raise ConfigError(f"factors from {smallest:g} to {largest:g}", do="give the largest above the smallest")
    drift = effect / (sd * float(np.sqrt(1 / planned.control + 1 / planned.treated)))

    def reached(factor: float) -> float:
        return float(conditional_power(design, look, z, drift * float(np.sqrt(factor))).sum())

    planned_power = reached(1.0)
    if not design.lower[look - 1] < z < design.upper[look - 1]:
        raise ConfigError(f"the trial has ended at look {look}: z = {z:.4g}", do="use sequential_final.final_inference")
    limit: Literal["", "smallest", "largest"] = ""
    if reached(smallest) >= power:
        factor, limit = smallest, "smallest"
    elif reached(largest) <= power:
        factor, limit = largest, "largest"
    else:
        factor = float(brentq(lambda f: reached(f) - power, smallest, largest, xtol=1e-10))
    steps = factor * np.diff(design.fraction)[look - 1 :]
    return Reestimated(factor, steps * planned.control, steps * planned.treated, reached(factor), planned_power, limit)


def blinded_sd(outcomes: Float[np.ndarray, " patient"], *, effect: float = 0.0, ratio: float = 1.0) -> float:
    """Estimate the standard deviation within arms from outcomes without their arms.

    Parameters
    ----------
    outcomes : shape (patient,)
        Of all patients so far.
    effect
        The assumed one, whose share of the variance is taken off; 0 leaves the variance as it is, which is larger.
    ratio
        Treated : control.

    Raises
    ------
    DataError
        If an outcome is missing, there are fewer than three, or they vary less than the effect alone would make them.

    Examples
    --------
    >>> y = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> round(blinded_sd(y), 3), round(blinded_sd(y, effect=3.0), 3)
    (1.871, 0.894)
    """
    require_positive(ratio=ratio)
    require_finite("outcomes", outcomes)
    n = len(outcomes)
    if n < 3:
        raise DataError(f"{n} outcomes tell nothing of the variance", do="wait for more patients")
    share = ratio / (1 + ratio)
    left = float(outcomes.var(ddof=1)) - effect**2 * share * (1 - share) * n / (n - 1)
    if not left > 0:
        raise DataError(
            f"outcomes with standard deviation {outcomes.std(ddof=1):.4g} vary less than an effect of {effect:g} makes "
            "them",
            do="check the unit of the effect, or take none off (effect=0)",
        )
    return float(np.sqrt(left))


def blinded_size(
    outcomes: Float[np.ndarray, " patient"],
    effect: float,
    *,
    planned: Size,
    largest: float = 2.0,
    alpha: float = 0.05,
    power: float = 0.9,
) -> Size:
    """Size the two-sample t test again with the blinded standard deviation of the patients so far.

    Parameters
    ----------
    outcomes : shape (patient,)
        Of all patients so far, arms unknown.
    effect
        The assumed one.
    planned
        The size of the plan, which is the least; its ratio is kept.
    largest
        Factor of the planned size that is the most.

    Raises
    ------
    ConfigError
        If a number is out of range.
    DataError
        As for ``blinded_sd``.

    Examples
    --------
    >>> y = np.random.default_rng(0).normal(size=100) * 7.0
    >>> planned = size_t(2.0, 6.0)
    >>> planned.whole, blinded_size(y, 2.0, planned=planned).whole
    ((191, 191), (237, 237))
    """
    require_positive(control=planned.control, treated=planned.treated)
    if not 1 <= largest < np.inf:
        raise ConfigError(f"at most {largest:g} times the planned size", do="give 1 or more")
    ratio = planned.treated / planned.control
    asked = size_t(effect, blinded_sd(outcomes, effect=effect, ratio=ratio), ratio=ratio, alpha=alpha, power=power)
    return Size.of(float(np.clip(asked.total, planned.total, largest * planned.total)), ratio)
