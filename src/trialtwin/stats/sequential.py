r"""Group-sequential designs: boundaries of efficacy and futility, the information they need, and what to expect.

With looks at fractions t_k of the final information I_K and θ the effect in units in which information is I, the design
has power 1 − β at the drift δ = θ √I_K. A fixed design needs δ_fixed = z_{1−α} + z_{1−β}; the ratio of squares is the
inflation factor. α is one-sided; a two-sided test spends it on both sides alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import ConfigError, ConvergenceError
from trialtwin.stats.sequential_process import Crossing, Walk, crossing, require_information
from trialtwin.stats.sequential_spending import Boundary

type Looks = Float[np.ndarray, " look"]

_HIGHEST = 12.0  # a boundary beyond which nothing is ever spent


@dataclass(frozen=True, eq=False)
class SequentialDesign:
    """A group-sequential design; immutable.

    Parameters
    ----------
    fraction : shape (look,)
        Information at each look over that of the last.
    upper, lower : shape (look,)
        Boundaries of Z; the lower ones are −∞ where there are none.
    alpha, power
        One-sided error, and power at ``drift``.
    drift
        Mean of Z at the last look for which the design has its power.
    binding
        Whether the error was computed with the lower boundary in effect.
    sides
        1, or 2 for a symmetric two-sided test.
    """

    fraction: Looks
    upper: Looks
    lower: Looks
    alpha: float
    power: float
    drift: float
    binding: bool
    sides: Literal[1, 2]

    def __post_init__(self) -> None:
        for name in ("fraction", "upper", "lower"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def fixed_drift(self) -> float:
        """Return δ of the design with one look and the same errors."""
        return float(ndtri(1 - self.alpha) + ndtri(self.power))

    @property
    def inflation(self) -> float:
        """Return the largest information over that of a fixed design."""
        return (self.drift / self.fixed_drift) ** 2

    def crossing(self, drift: float) -> Crossing:
        """Return the probability to cross each boundary first, at each look, for a mean of the last Z."""
        return crossing(self.upper, self.lower, self.fraction, drift)

    def spent(self) -> Looks:
        """Return the one-sided error spent at each look: lower boundaries count only where they are binding."""
        lower = self.lower if self.binding or self.sides == 2 else np.full(len(self.lower), -np.inf)
        return crossing(self.upper, lower, self.fraction, 0.0).upper

    def nominal(self) -> Looks:
        """Return the one-sided p-value below which each look rejects."""
        return np.asarray(ndtr(-self.upper))

    def expected_information(self, drift: float) -> float:
        """Return the mean information at the end, over that of a fixed design."""
        stopped = self.crossing(drift)
        at = stopped.upper + stopped.lower
        at[-1] = 1 - at[:-1].sum()
        return float(self.inflation * (at @ self.fraction))


def sequential_design(
    fraction: Looks,
    efficacy: Boundary,
    *,
    alpha: float = 0.025,
    power: float = 0.9,
    sides: Literal[1, 2] = 1,
    futility: Boundary | None = None,
    binding: bool = False,
) -> SequentialDesign:
    """Find the boundaries of a group-sequential design and the drift for which it has its power.

    Parameters
    ----------
    fraction : shape (look,)
        Growing, the last 1.
    efficacy
        Family or spending function of the upper boundary.
    alpha
        One-sided error; a two-sided test has twice as much.
    futility
        Spending function of 1 − power below; only with one side.
    binding
        Whether the futility boundary is relied on, which lowers the upper one.

    Raises
    ------
    ConfigError
        If fractions do not grow to 1, errors are not between 0 and 1, or futility is not spent by a spending function.
    ConvergenceError
        If there is no such boundary.

    Examples
    --------
    >>> plan = sequential_design(np.array([1, 2, 3]) / 3, Boundary("O'Brien-Fleming"))
    >>> plan.upper.round(4)
    array([3.4711, 2.4544, 2.004 ])
    """
    _require(fraction, alpha, power, sides, futility)
    if binding and (futility is None or not efficacy.spends):
        raise ConfigError("binding futility needs a futility boundary and an efficacy boundary that spends its error")
    none = np.full(len(fraction), -np.inf)
    upper = efficacy_boundary(fraction, efficacy, alpha, sides)
    if futility is not None:
        return _with_futility(fraction, efficacy, futility, alpha, power, binding=binding)
    lower = -upper if sides == 2 else none
    drift = _root(lambda d: crossing(upper, lower, fraction, d).upper.sum() - power, 1e-6, 20.0, "drift")
    return SequentialDesign(fraction, upper, lower, alpha, power, drift, binding=False, sides=sides)


def efficacy_boundary(
    fraction: Looks, boundary: Boundary, alpha: float, sides: Literal[1, 2] = 1, lower: Looks | None = None
) -> Looks:
    """Return the upper boundary that spends a one-sided error; ``lower`` is what is in effect below, if anything."""
    beneath = np.full(len(fraction), -np.inf) if lower is None else lower
    if not boundary.spends:
        shape = boundary.shape(fraction)

        def excess(c: float) -> float:
            return float(crossing(c * shape, -c * shape if sides == 2 else beneath, fraction).upper.sum() - alpha)

        return np.asarray(_root(excess, 0.1, _HIGHEST, "boundary constant") * shape)
    spend = np.diff(boundary.spent(fraction, alpha), prepend=0.0)
    upper, walk = np.full(len(fraction), np.inf), Walk(0.0)
    for k, now in enumerate(fraction.tolist()):
        upper[k] = _next_upper(walk, now, float(spend[k]), sides)
        if k + 1 < len(fraction):
            low = -upper[k] if sides == 2 else beneath[k]
            walk = walk.on(now, float(low), float(upper[k]), float(fraction[k + 1]))
    return upper


def _next_upper(walk: Walk, now: float, spend: float, sides: int) -> float:
    """Return the upper boundary of the next look that spends just so much there."""
    if spend <= 0:
        return np.inf

    def excess(c: float) -> float:
        return walk.leaves(now, -c if sides == 2 else -np.inf, c)[0] - spend

    low = 0.0 if sides == 2 else -_HIGHEST
    if excess(_HIGHEST) >= 0:
        return np.inf
    if excess(low) < 0:
        return -np.inf  # fewer are left than may be rejected: a binding futility boundary is too high
    return _root(excess, low, _HIGHEST, f"boundary at information {now:g}")


def _with_futility(
    fraction: Looks, efficacy: Boundary, futility: Boundary, alpha: float, power: float, *, binding: bool
) -> SequentialDesign:
    """Find the drift at which the error β, spent below, brings the lower boundary to the upper one at the last look."""
    free = efficacy_boundary(fraction, efficacy, alpha)
    spend = np.diff(futility.spent(fraction, 1 - power), prepend=0.0)
    used = np.diff(efficacy.spent(fraction, alpha), prepend=0.0) if binding else np.zeros(len(fraction))

    def bounds(drift: float) -> tuple[Looks, Looks]:
        upper, lower = free.copy(), np.full(len(fraction), -np.inf)
        null, real = Walk(0.0), Walk(drift)
        for k, now in enumerate(fraction.tolist()):
            if binding:
                upper[k] = _next_upper(null, now, float(used[k]), 1)
            lower[k] = _next_lower(real, now, float(spend[k]))
            if lower[k] >= upper[k] or k + 1 == len(fraction):
                break  # all is decided here: at the last look that is the design, before it the drift is too large
            ends = (now, float(lower[k]), float(upper[k]), float(fraction[k + 1]))
            null, real = null.on(*ends), real.on(*ends)
        return upper, lower

    def gap(drift: float) -> float:
        upper, lower = bounds(drift)
        early = (lower[:-1] >= upper[:-1]).any()
        return 1.0 if early else float(min(lower[-1], _HIGHEST) - max(upper[-1], -_HIGHEST))

    fixed = float(ndtri(1 - alpha) + ndtri(power))
    drift = _root(gap, 0.8 * fixed, 2.5 * fixed, "drift")
    upper, lower = bounds(drift)
    lower[-1] = upper[-1]
    return SequentialDesign(fraction, upper, lower, alpha, power, drift, binding=binding, sides=1)


def _next_lower(walk: Walk, now: float, spend: float) -> float:
    """Return the lower boundary of the next look that spends just so much of β there; it may pass the upper."""

    def excess(c: float) -> float:
        return walk.leaves(now, c, np.inf)[1] - spend

    if spend <= 0:
        return -np.inf
    if excess(_HIGHEST) < 0:
        return np.inf  # fewer are left than may be lost: the drift is too large
    return _root(excess, -_HIGHEST, _HIGHEST, f"futility boundary at information {now:g}")


def _require(fraction: Looks, alpha: float, power: float, sides: int, futility: Boundary | None) -> None:
    require_information(fraction, name="the information fraction")
    if abs(fraction[-1] - 1) > 1e-9:
        raise ConfigError(f"the last look is at {fraction[-1]:g} of the information", do="divide by that of the last")
    if not (0 < alpha < 0.5 and alpha < power < 1):
        raise ConfigError(
            f"one-sided error {alpha:g} and power {power:g}", do="give 0 < alpha < 0.5 and alpha < power < 1"
        )
    if futility is not None and (sides == 2 or not futility.spends):
        raise ConfigError("futility is spent by a spending function in a one-sided design")


def _root(function: Callable[[float], float], low: float, high: float, what: str) -> float:
    """Return where a function changes its sign."""
    first, last = function(low), function(high)
    if not (np.isfinite([first, last]).all() and first * last <= 0):
        raise ConvergenceError(f"no {what} between {low:g} and {high:g}", do="look at the errors and the looks")
    return float(brentq(function, low, high, xtol=1e-10, rtol=1e-12))
