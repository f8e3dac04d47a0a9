"""Score inference for two proportions (Miettinen–Nurminen), in one table or over strata.

For p₁ in the treated arm and p₂ in the reference, each value θ of a measure is tested with the probabilities that are
most likely under it, p̃₁ and p̃₂, and the interval holds the θ that are not rejected. With Ṽₐ = p̃ₐ(1 − p̃ₐ)/nₐ, strata k
and λ = N/(N − 1), N = n₁ + n₂:

    difference   z = Σ w (p₁ − p₂ − θ) / √ Σ w² λ (Ṽ₁ + Ṽ₂)
    ratio        z = Σ w (p₁ − θ p₂)   / √ Σ w² λ (Ṽ₁ + θ² Ṽ₂)
    odds ratio   z = Σ n₁ (p₁ − p̃₁)    / √ Σ λ / [1/(n₁² Ṽ₁) + 1/(n₂² Ṽ₂)]

Weights are Cochran–Mantel–Haenszel's, w = n₁n₂/N, or the size of the stratum, w = N. Without λ the difference's score
is Farrington and Manning's; at θ = 0 it is the pooled z test.

Sources: Miettinen and Nurminen (1985), doi:10.1002/sim.4780040211; Farrington and Manning (1990),
doi:10.1002/sim.4780091208; Tang (2020), doi:10.1002/sim.8463, on its stratified form.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import ndtr

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.wald import critical_value

MEASURES = ("difference", "ratio", "odds ratio")
WEIGHTS = ("CMH", "size")
_EDGE = 1e-12
_FARTHEST = 1e9  # a ratio beyond which an upper limit counts as infinite


@dataclass(frozen=True, eq=False)
class TwoByTwo:
    """Responders and patients of two arms in each stratum; immutable.

    Parameters
    ----------
    treated, treated_n, reference, reference_n : shape (stratum,)
        Responders and patients.

    Raises
    ------
    DataError
        If a count is negative, not whole or larger than its arm, or a stratum has one arm only.
    """

    treated: Float[np.ndarray, " stratum"]
    treated_n: Float[np.ndarray, " stratum"]
    reference: Float[np.ndarray, " stratum"]
    reference_n: Float[np.ndarray, " stratum"]

    def __post_init__(self) -> None:
        for arm, events, patients in (
            ("treated", self.treated, self.treated_n),
            ("reference", self.reference, self.reference_n),
        ):
            if not (np.isfinite(patients) & np.isfinite(events)).all():
                raise DataError(f"a count of the {arm} arm is not a finite number")
            bad = np.flatnonzero((events < 0) | (events > patients) | (events % 1 != 0) | (patients % 1 != 0))
            if len(bad):
                k = int(bad[0])
                raise DataError(
                    f"{events[k]:g} responders of {patients[k]:g} patients cannot be", where=f"{arm} arm, stratum {k}"
                )
            empty = np.flatnonzero(patients == 0)
            if len(empty):
                raise DataError(
                    f"{len(empty)} stratum or strata hold nobody of the {arm} arm",
                    where=f"stratum {int(empty[0])}",
                    do="pool it with a neighbour before the analysis",
                )
        for name in ("treated", "treated_n", "reference", "reference_n"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def n(self) -> int:
        """Number of patients."""
        return int(self.treated_n.sum() + self.reference_n.sum())


def one_table(treated: int, treated_n: int, reference: int, reference_n: int) -> TwoByTwo:
    """Return two arms without strata.

    Examples
    --------
    >>> one_table(34, 80, 22, 78).n
    158
    """
    return TwoByTwo(*(np.array([float(v)]) for v in (treated, treated_n, reference, reference_n)))


def miettinen_nurminen(
    table: TwoByTwo,
    measure: str = "difference",
    *,
    null: float | None = None,
    level: float = 0.95,
    weights: str = "CMH",
    corrected: bool = True,
    label: str = "treated against reference",
    estimand: Estimand | None = None,
) -> Estimate:
    """Estimate a difference, ratio or odds ratio of two proportions with its score interval.

    Statistic and p-value test ``null`` and agree with the interval; the standard error is the delta method's at the
    observed proportions and enters neither.

    Parameters
    ----------
    table, measure
        Counts of one stratum or more; "difference", "ratio" or "odds ratio".
    null
        Value to test: a margin, or no effect where ``None``.
    level, label, estimand
        Confidence level, and what the result carries.
    weights, corrected
        "CMH" or "size", of differences and ratios over strata; whether variances carry N/(N − 1).

    Raises
    ------
    ConfigError
        If the measure or the weights do not exist, or the null value is outside the measure's range.
    FitError
        If the measure is undefined or its interval has no finite end for these counts.

    Examples
    --------
    >>> effect = miettinen_nurminen(one_table(34, 80, 22, 78))
    >>> round(effect.lower, 4), round(effect.upper, 4)
    (-0.0067, 0.2866)
    """
    null = _require_null(measure, weights, null)
    w = _weights(table, weights)
    value, se = _observed(table, measure, w)
    z = partial(score_statistic, table, measure, weights=weights, corrected=corrected)
    lower, upper = _limits(z, measure, value, critical_value(level))
    statistic = z(null)
    return Estimate(
        contrast=label,
        value=value,
        se=se,
        lower=lower,
        upper=upper,
        statistic=statistic,
        p=min(1.0, 2 * float(ndtr(-abs(statistic)))),
        n=table.n,
        level=level,
        method=f"score, {measure} of proportions" + (f", {len(w)} strata, {weights} weights" if len(w) > 1 else ""),
        variance="Miettinen–Nurminen" if corrected else "Farrington–Manning",
        estimand=estimand,
    )


def score_statistic(
    table: TwoByTwo, measure: str, theta: float, *, weights: str = "CMH", corrected: bool = True
) -> float:
    """Return the score statistic of one value of a measure; large where the observed effect is larger.

    Raises
    ------
    ConfigError
        If the measure or the weights do not exist, or the value is outside the measure's range.

    Examples
    --------
    >>> round(score_statistic(one_table(34, 80, 22, 78), "difference", -0.1), 4)
    3.1823
    """
    _require_null(measure, weights, theta)
    n1, n2 = table.treated_n, table.reference_n
    p1, p2 = table.treated / n1, table.reference / n2
    t1, t2 = restricted(table, measure, theta)
    v1, v2 = t1 * (1 - t1) / n1, t2 * (1 - t2) / n2
    factor = (n1 + n2) / np.maximum(n1 + n2 - 1, 1) if corrected else np.ones_like(n1)
    w = _weights(table, weights)
    if measure == "odds ratio":
        numerator = float(np.sum(n1 * (p1 - t1)))
        a, b = n1**2 * v1, n2**2 * v2
        square = float(np.sum(factor * a * b / np.maximum(a + b, 1e-300)))
    else:
        slope = theta if measure == "ratio" else 1.0
        shift = theta if measure == "difference" else 0.0
        numerator = float(np.sum(w * (p1 - slope * p2 - shift)))
        square = float(np.sum(w**2 * factor * (v1 + slope**2 * v2)))
    if abs(numerator) < _EDGE * max(1.0, float(w.sum())):
        return 0.0
    return numerator / float(np.sqrt(max(square, 1e-300)))


def restricted(
    table: TwoByTwo, measure: str, theta: float
) -> tuple[Float[np.ndarray, " stratum"], Float[np.ndarray, " stratum"]]:
    """Return p̃₁ and p̃₂ of each stratum: the most likely probabilities at a value of the measure."""
    x1, n1, x2, n2 = table.treated, table.treated_n, table.reference, table.reference_n
    N, x = n1 + n2, x1 + x2
    if measure == "difference":
        # the likelihood equation in p₂ is a cubic with one root in the range, in closed form
        c2, c1 = (n1 + 2 * n2) * theta - N - x, (n2 * theta - N - 2 * x2) * theta + x
        c0 = x2 * theta * (1 - theta)
        q = c2**3 / (3 * N) ** 3 - c1 * c2 / (6 * N**2) + c0 / (2 * N)
        size = np.sqrt(np.maximum(c2**2 / (3 * N) ** 2 - c1 / (3 * N), 0))
        size = np.where(q > 0, size, -size)
        ratio = np.divide(q, size**3, out=np.zeros_like(q), where=size != 0)
        angle = (np.pi + np.arccos(np.clip(ratio, -1, 1))) / 3
        t2 = np.clip(2 * size * np.cos(angle) - c2 / (3 * N), max(0.0, -theta), min(1.0, 1 - theta))
        return np.clip(t2 + theta, 0, 1), t2
    if measure == "ratio":
        a, b = N * theta, -(n1 * theta + x1 + n2 + x2 * theta)
        root = np.sqrt(np.maximum(b**2 - 4 * a * x, 0))
        t2 = np.clip(2 * x / np.maximum(-b + root, 1e-300), 0, min(1.0, 1 / theta))  # no difference of near equals
        return np.clip(theta * t2, 0, 1), t2
    a, b = n2 * (theta - 1), n1 * theta + n2 - x * (theta - 1)
    t2 = np.clip(2 * x / (b + np.sqrt(np.maximum(b**2 + 4 * a * x, 0))), 0, 1)
    return np.clip(t2 * theta / (1 + t2 * (theta - 1)), 0, 1), t2


def _require_null(measure: str, weights: str, null: float | None) -> float:
    """Return the null value, no effect where none is given, or refuse one out of range."""
    if measure not in MEASURES:
        raise ConfigError(f"no measure {measure!r} of two proportions", exists=MEASURES)
    if weights not in WEIGHTS:
        raise ConfigError(f"no weights {weights!r}", exists=WEIGHTS)
    if null is None:
        return 0.0 if measure == "difference" else 1.0
    inside = -1 < null < 1 if measure == "difference" else 0 < null < np.inf
    if not inside:
        raise ConfigError(
            f"a {measure} cannot be {null:g}", do="give a value in (−1, 1) for a difference, a positive one for a ratio"
        )
    return float(null)


def _weights(table: TwoByTwo, weights: str) -> Float[np.ndarray, " stratum"]:
    n1, n2 = table.treated_n, table.reference_n
    w = n1 * n2 / (n1 + n2) if weights == "CMH" else n1 + n2
    return w / w.sum()


def _observed(table: TwoByTwo, measure: str, w: Float[np.ndarray, " stratum"]) -> tuple[float, float]:
    """Return the value at which the score is zero, and its delta-method standard error."""
    n1, n2 = table.treated_n, table.reference_n
    p1, p2 = table.treated / n1, table.reference / n2
    v1, v2 = p1 * (1 - p1) / n1, p2 * (1 - p2) / n2
    if measure == "difference":
        return float(w @ (p1 - p2)), float(np.sqrt(w**2 @ (v1 + v2)))
    m1, m2 = float(w @ p1), float(w @ p2)
    if measure == "ratio":
        if m2 == 0:
            raise FitError("no ratio of proportions: nobody of the reference arm responds", do="take the difference")
        value = m1 / m2
        return value, float(np.sqrt(w**2 @ (v1 + value**2 * v2))) / m2
    if min(m1, m2) == 0 or max(m1, m2) == 1:
        raise FitError("no odds ratio: in one arm nobody or everybody responds", do="take the difference")

    def z(logarithm: float) -> float:
        return score_statistic(table, "odds ratio", float(np.exp(logarithm)))

    value = float(np.exp(brentq(z, -50, 50, xtol=1e-13)))
    t1, t2 = restricted(table, "odds ratio", value)
    a, b = n1 * t1 * (1 - t1), n2 * t2 * (1 - t2)
    return value, value / float(np.sqrt(np.sum(a * b / np.maximum(a + b, 1e-300))))


def _limits(z: Callable[[float], float], measure: str, value: float, critical: float) -> tuple[float, float]:
    """Return the values at which the score statistic reaches ± the critical value; it falls in θ."""
    if measure == "difference":
        ends = (-1 + _EDGE, 1 - _EDGE)
        inside = min(max(value, ends[0]), ends[1])
        lower = ends[0] if z(ends[0]) <= critical else brentq(lambda t: z(t) - critical, ends[0], inside, xtol=1e-13)
        upper = ends[1] if z(ends[1]) >= -critical else brentq(lambda t: z(t) + critical, inside, ends[1], xtol=1e-13)
        return max(-1.0, min(float(lower), value)), min(1.0, max(float(upper), value))
    least, most = -np.log(_FARTHEST), np.log(_FARTHEST)

    def on_log(sign: float) -> Callable[[float], float]:
        return lambda t: z(float(np.exp(t))) - sign * critical

    if on_log(-1)(most) >= 0:
        raise FitError(f"the interval of the {measure} has no upper end", do="take the difference of proportions")
    middle = np.log(value) if value > 0 else least
    upper = float(np.exp(brentq(on_log(-1), middle, most, xtol=1e-13)))
    lower = 0.0 if value == 0 or on_log(1)(least) <= 0 else float(np.exp(brentq(on_log(1), least, middle, xtol=1e-13)))
    return min(lower, value), max(upper, value)
