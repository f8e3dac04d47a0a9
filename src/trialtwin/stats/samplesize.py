"""Sample size of a trial with two arms and one analysis: means and proportions.

Everywhere ``alpha`` is two-sided (the one-sided level is half of it), ``ratio`` is treated : control, and effects are
treated against control. Sizes come unrounded; `Size.whole` rounds each arm up.
"""

from dataclasses import dataclass
from math import ceil, log

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit
from scipy.stats import nct

from trialtwin.core.errors import ConfigError, ConvergenceError

SCALES = ("difference", "risk ratio", "odds ratio")
_LARGEST = 1e9


@dataclass(frozen=True)
class Size:
    """Patients in each arm, unrounded.

    Examples
    --------
    >>> Size(control=190.1, treated=190.1).whole
    (191, 191)
    """

    control: float
    treated: float

    @property
    def total(self) -> float:
        """Patients in both arms, unrounded."""
        return self.control + self.treated

    @property
    def whole(self) -> tuple[int, int]:
        """Whole patients, control and treated: each arm rounded up."""
        return ceil(self.control - 1e-9), ceil(self.treated - 1e-9)

    @classmethod
    def of(cls, total: float, ratio: float) -> "Size":
        """Split a total by the allocation ratio treated : control."""
        return cls(total / (1 + ratio), total * ratio / (1 + ratio))


def require_positive(**named: float) -> None:
    """Refuse arguments that are not finite and above zero, by name.

    Raises
    ------
    ConfigError
        With the name and the value.
    """
    for name, value in named.items():
        if not (np.isfinite(value) and value > 0):
            raise ConfigError(f"{name} is {value:g}", do=f"give a {name} above zero")


def require_probability(**named: float) -> None:
    """Refuse arguments that are not strictly between 0 and 1, by name.

    Raises
    ------
    ConfigError
        With the name and the value.
    """
    for name, value in named.items():
        if not 0 < value < 1:
            raise ConfigError(f"{name} is {value:g}", do=f"give a {name} between 0 and 1, both excluded")


def quantiles(alpha: float, power: float) -> tuple[float, float]:
    """Return z at 1 − alpha/2 and at the power.

    Raises
    ------
    ConfigError
        If alpha or power is not between 0 and 1, or the power does not exceed alpha/2.

    Examples
    --------
    >>> tuple(round(z, 4) for z in quantiles(0.05, 0.9))
    (1.96, 1.2816)
    """
    require_probability(alpha=alpha, power=power)
    if power <= alpha / 2:
        raise ConfigError(f"power {power:g} is what no effect at all gives at alpha {alpha:g}", do="ask for more power")
    return float(-ndtri(alpha / 2)), float(ndtri(power))


def size_means(
    effect: float,
    sd: float,
    *,
    sd_treated: float | None = None,
    ratio: float = 1.0,
    null: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.9,
) -> Size:
    """Size a z test of two means with known standard deviations, which may differ.

    n = (z₁₋α/₂ + z_power)² [(1 + r) σ₀² + (1 + 1/r) σ₁²] / (effect − null)², the total; r = treated : control.

    Raises
    ------
    ConfigError
        If the effect equals the null value, or a parameter is out of range.

    Examples
    --------
    >>> round(size_means(0.5, 1.2).total, 4)
    242.091
    """
    treated = sd if sd_treated is None else sd_treated
    require_positive(sd=sd, sd_treated=treated, ratio=ratio)
    distance = _distance(effect, null)
    z = sum(quantiles(alpha, power))
    total = z**2 * ((1 + ratio) * sd**2 + (1 + 1 / ratio) * treated**2) / distance**2
    return Size.of(total, ratio)


def power_t(
    size: Size, effect: float, sd: float, *, null: float = 0.0, alpha: float = 0.05, df: float | None = None
) -> float:
    """Return the power of the two-sample t test, from the noncentral t distribution.

    power = P(T_{df, δ} > t_{1−α/2, df}), δ = |effect − null| / (σ √(1/n₀ + 1/n₁)), df = n₀ + n₁ − 2 unless given. As in
    R's ``power.t.test``, rejections on the wrong side do not count.

    Raises
    ------
    ConfigError
        If a parameter is out of range or no degrees of freedom are left.

    Examples
    --------
    >>> round(power_t(Size(20.0, 20.0), effect=1.0, sd=1.0), 4)
    0.869
    """
    require_positive(sd=sd, control=size.control, treated=size.treated)
    require_probability(alpha=alpha)
    freedom = size.total - 2 if df is None else df
    require_positive(df=freedom)
    noncentrality = abs(effect - null) / (sd * float(np.sqrt(1 / size.control + 1 / size.treated)))
    return float(nct.sf(stdtrit(freedom, 1 - alpha / 2), freedom, noncentrality))


def size_t(
    effect: float, sd: float, *, ratio: float = 1.0, null: float = 0.0, alpha: float = 0.05, power: float = 0.9
) -> Size:
    """Size the two-sample t test exactly: the smallest real n at which ``power_t`` reaches the power.

    Raises
    ------
    ConfigError
        If a parameter is out of range, or two patients in the smaller arm already have the power.
    ConvergenceError
        If 10⁹ patients are not enough.

    Examples
    --------
    >>> round(size_t(2.0, 6.0).control, 3)
    190.099
    """
    start = size_means(effect, sd, ratio=ratio, null=null, alpha=alpha, power=power).total

    def excess(total: float) -> float:
        return power_t(Size.of(total, ratio), effect, sd, null=null, alpha=alpha) - power

    least = 2 * (1 + ratio) / min(1.0, ratio)
    if excess(least) >= 0:
        raise ConfigError(
            f"an effect of {effect:g} with sd {sd:g} has the power with two patients in the smaller arm",
            do="check the effect and the standard deviation",
        )
    most = max(2 * start, 2 * least)
    while excess(most) < 0:
        most *= 2
        if most > _LARGEST:
            raise ConvergenceError(f"no sample size below {_LARGEST:g} has power {power:g}", do="check the effect")
    total = brentq(excess, least, most, xtol=1e-10, rtol=1e-14)
    return Size.of(float(total), ratio)


def size_proportions(
    control: float,
    treated: float,
    *,
    scale: str = "difference",
    null: float | None = None,
    ratio: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.9,
) -> Size:
    """Size a score test of two proportions for superiority or non-inferiority (Farrington and Manning 1990).

    n = [(z₁₋α/₂ σ₀ + z_power σ₁) / (θ − θ₀)]², the total. σ₁ is at the planned proportions and σ₀ at those that are
    most likely under the null value θ₀ when the planned ones are observed (doi:10.1002/sim.4780091208).

    Parameters
    ----------
    control, treated
        Planned probabilities of the event.
    scale
        "difference" (treated − control), "risk ratio" (treated / control) or "odds ratio".
    null
        Null value on that scale; no difference (0 or 1) where it is not given. A non-inferiority margin of ten
        points for an unwanted event is ``null=0.1``.
    ratio, alpha, power
        Treated : control; two-sided level; power.

    Raises
    ------
    ConfigError
        If a probability or the null value is out of range, or the plan equals the null.

    Examples
    --------
    >>> round(size_proportions(0.30, 0.45).total, 2)
    433.64
    >>> round(size_proportions(0.2, 0.2, null=0.1).total, 2)
    679.54
    """
    require_probability(control=control, treated=treated)
    require_positive(ratio=ratio)
    theta0 = _null_value(scale, null)
    c0, t0 = proportions_under_null(control, treated, scale=scale, null=theta0, ratio=ratio)
    if scale == "odds ratio":
        distance = _distance(log(treated * (1 - control) / (control * (1 - treated))), log(theta0))
        planned = 1 / (control * (1 - control)) + 1 / (ratio * treated * (1 - treated))
        restricted = 1 / (c0 * (1 - c0)) + 1 / (ratio * t0 * (1 - t0))
    else:
        factor = theta0 if scale == "risk ratio" else 1.0
        distance = _distance(treated - factor * control, theta0 if scale == "difference" else 0.0)
        planned = factor**2 * control * (1 - control) + treated * (1 - treated) / ratio
        restricted = factor**2 * c0 * (1 - c0) + t0 * (1 - t0) / ratio
    z_alpha, z_power = quantiles(alpha, power)
    root = (z_alpha * np.sqrt(restricted) + z_power * np.sqrt(planned)) / distance
    return Size.of(float((1 + ratio) * root**2), ratio)


def _null_value(scale: str, null: float | None) -> float:
    """Return the null value on a scale, no difference where it is not given, or refuse one that cannot be."""
    if scale not in SCALES:
        raise ConfigError(f"no scale {scale!r} for two proportions", exists=SCALES)
    value = (0.0 if scale == "difference" else 1.0) if null is None else null
    if scale != "difference":
        require_positive(null=value)
    elif not -1 < value < 1:
        raise ConfigError(f"null difference is {value:g}", do="give a null between −1 and 1")
    return value


def proportions_under_null(
    control: float, treated: float, *, scale: str, null: float, ratio: float
) -> tuple[float, float]:
    """Return the most likely (control, treated) proportions that obey the null value, in large samples.

    They maximise a log c + (1 − a) log(1 − c) + r [b log t + (1 − b) log(1 − t)] for observed proportions a and b,
    subject to t − c, t / c or the odds ratio equal to ``null``: a cubic for the difference, quadratics for ratios.

    Examples
    --------
    >>> c, t = proportions_under_null(0.2, 0.2, scale="difference", null=0.1, ratio=1.0)
    >>> round(t - c, 12), 0 < c < 0.2 < t
    (0.1, True)
    """
    a, b, r = control, treated, ratio
    total = a + r * b
    if null == (0.0 if scale == "difference" else 1.0):
        return total / (1 + r), total / (1 + r)
    if scale == "difference":
        # Score equation in c with t = c + null; one root is admissible.
        d = null
        polynomial = [
            1 + r,
            -(1 + r + a + r * b - d * (r + 2)),
            d * d - d * (2 * a + r + 1) + total,
            a * d * (1 - d),
        ]
        low, high = max(0.0, -d), min(1.0, 1 - d)
        c = _admissible(polynomial, low, high)
        return c, c + d
    if scale == "risk ratio":
        polynomial = [null * (1 + r), -(null * (r + a) + 1 + r * b), total]
        c = _admissible(polynomial, 0.0, min(1.0, 1 / null))
        return c, c * null
    # c + r t = total with t = null c / (1 + c (null − 1)).
    c = _admissible([null - 1, 1 + r * null - total * (null - 1), -total], 0.0, 1.0)
    return c, null * c / (1 + c * (null - 1))


def _admissible(polynomial: list[float], low: float, high: float) -> float:
    """Return the real root of a polynomial in an open interval: the likelihood is concave, so that there is one."""
    roots = np.roots(polynomial)
    real = roots[np.abs(roots.imag) < 1e-7].real
    inside = real[(real > low + 1e-12) & (real < high - 1e-12)]
    if len(inside) == 0:
        raise ConvergenceError(
            "no pair of proportions obeys the null value and is likely at the planned ones",
            do="check that the null value can be true",
        )
    return float(inside.min())


def _distance(value: float, null: float) -> float:
    """Return effect − null, or refuse a plan that equals the null."""
    if not np.isfinite(value - null) or value == null:
        raise ConfigError(f"the planned effect {value:g} equals the null value {null:g}", do="plan an effect beyond it")
    return abs(value - null)
