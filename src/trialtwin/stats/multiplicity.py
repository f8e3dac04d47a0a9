"""Multiplicity: adjusted p-values, the graphical procedure of Bretz and Maurer, and Dunnett's critical value.

A hypothesis is rejected at level α exactly where its adjusted p-value is at most α. For m ordered p-values p₍₁₎ ≤ …:

    Bonferroni   m p₍ᵢ₎
    Holm         max_{j ≤ i} (m − j + 1) p₍ⱼ₎                         any dependence
    Hochberg     min_{j ≥ i} (m − j + 1) p₍ⱼ₎                         independent or positively dependent
    Hommel       the closed test of Simes' intersection tests         the same
    BH           min_{j ≥ i} (m/j) p₍ⱼ₎                               false discovery rate
    BY           BH times Σ 1/j                                       false discovery rate, any dependence

Sources: Holm (1979), https://www.jstor.org/stable/4615733; Hochberg (1988), doi:10.1093/biomet/75.4.800; Hommel (1988),
doi:10.1093/biomet/75.2.383; Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x; Benjamini and
Yekutieli (2001), doi:10.1214/aos/1013699998; Bretz, Maurer, Brannath and Posch (2009), doi:10.1002/sim.3495; Dunnett
(1955), doi:10.1080/01621459.1955.10501294.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.special import gammaln, ndtr

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import ConfigError, DataError
from trialtwin.stats.wald import require_level

ADJUSTMENTS = ("Bonferroni", "Holm", "Hochberg", "Hommel", "BH", "BY")
_ROUNDING = 1e-12


def adjusted_p(p: Float[np.ndarray, " hypothesis"], method: str) -> Float[np.ndarray, " hypothesis"]:
    """Return p-values adjusted for the number of hypotheses, in the order given.

    Raises
    ------
    ConfigError
        If there is no such method.
    DataError
        If there are no p-values, or one lies outside [0, 1].

    Examples
    --------
    >>> adjusted_p(np.array([0.012, 0.03, 0.002, 0.047, 0.2]), "Hommel").round(4).tolist()
    [0.048, 0.0705, 0.01, 0.094, 0.2]
    """
    _require_p(p)
    if method == "Hommel":
        return _hommel(p)
    m, order = len(p), np.argsort(p, kind="stable")
    rank, ordered = np.arange(1, m + 1), p[order]
    match method:
        case "Bonferroni":
            result = m * ordered
        case "Holm":
            result = np.maximum.accumulate((m - rank + 1) * ordered)
        case "Hochberg":
            result = _from_above((m - rank + 1) * ordered)
        case "BH":
            result = _from_above(m / rank * ordered)
        case "BY":
            result = _from_above(np.sum(1 / rank) * m / rank * ordered)
        case _:
            raise ConfigError(f"no adjustment {method!r}", exists=ADJUSTMENTS)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(result, 1)
    return adjusted


def _from_above(values: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Return the smallest value from each place to the end."""
    return np.minimum.accumulate(values[::-1])[::-1]


def _hommel(p: Float[np.ndarray, " hypothesis"]) -> Float[np.ndarray, " hypothesis"]:
    """Close Simes' tests: for each size s of an intersection, the worst one that holds a given hypothesis.

    The worst set of size s with p₍ᵢ₎ in it takes the s − 1 largest others, so that m sizes do for 2ᵐ intersections.
    """
    m, order = len(p), np.argsort(p, kind="stable")
    ordered, adjusted = p[order], p[order].copy()
    for s in range(2, m + 1):
        rank = np.arange(1, s + 1)
        tail = np.min(s * ordered[m - s :] / rank)  # hypotheses among the s largest
        beyond = np.min(s * ordered[m - s + 1 :] / rank[1:])  # one from below, with the s − 1 largest
        adjusted[m - s :] = np.maximum(adjusted[m - s :], tail)
        adjusted[: m - s] = np.maximum(adjusted[: m - s], np.minimum(beyond, s * ordered[: m - s]))
    result = np.empty(m)
    result[order] = np.minimum(adjusted, 1)
    return result


@dataclass(frozen=True, eq=False)
class Graph:
    """A graphical multiple test: hypotheses hold shares of α and pass them on when rejected; immutable.

    Parameters
    ----------
    names
        Hypotheses.
    weights : shape (hypothesis,)
        Initial shares of α, adding up to at most 1.
    transitions : shape (hypothesis, hypothesis)
        Share of row i's α that goes to column j when i is rejected; rows add up to at most 1, the diagonal is 0.

    Raises
    ------
    ConfigError
        If shapes do not fit, a name repeats, a number is negative, or a sum exceeds 1.

    Examples
    --------
    >>> graph = Graph(("primary", "secondary"), np.array([1.0, 0.0]), np.array([[0.0, 1.0], [0.0, 0.0]]))
    >>> graph.adjusted_p(np.array([0.01, 0.03])).tolist()
    [0.01, 0.03]
    """

    names: tuple[str, ...]
    weights: Float[np.ndarray, " hypothesis"]
    transitions: Float[np.ndarray, "hypothesis other"]

    def __post_init__(self) -> None:
        m = len(self.names)
        if self.weights.shape != (m,) or self.transitions.shape != (m, m) or len(set(self.names)) < m:
            raise ConfigError(
                f"a graph of {m} hypotheses needs {m} different names, {m} weights and {m} × {m} transitions"
            )
        if not ((self.weights >= 0).all() and (self.transitions >= 0).all()):
            raise ConfigError("a weight or a transition is negative or not a number")
        if self.weights.sum() > 1 + _ROUNDING:
            raise ConfigError(f"the weights add up to {self.weights.sum():g}, more than 1")
        if (self.transitions.sum(axis=1) > 1 + _ROUNDING).any():
            row = self.names[int(self.transitions.sum(axis=1).argmax())]
            raise ConfigError(f"hypothesis {row!r} passes on more than all of its α")
        if np.diag(self.transitions).any():
            raise ConfigError("a hypothesis passes α on to itself")
        object.__setattr__(self, "weights", frozen(self.weights))
        object.__setattr__(self, "transitions", frozen(self.transitions))

    def adjusted_p(self, p: Float[np.ndarray, " hypothesis"]) -> Float[np.ndarray, " hypothesis"]:
        """Return the smallest overall level at which each hypothesis is rejected.

        Raises
        ------
        DataError
            If the number of p-values is not that of hypotheses, or one lies outside [0, 1].
        """
        _require_p(p)
        if len(p) != len(self.names):
            raise DataError(f"{len(p)} p-values for {len(self.names)} hypotheses", where=", ".join(self.names))
        w, G = self.weights.copy(), self.transitions.copy()
        left, adjusted, worst = list(range(len(p))), np.ones(len(p)), 0.0
        while left:
            needed = [p[i] / w[i] if w[i] > 0 else (0.0 if p[i] == 0 else np.inf) for i in left]
            k = int(np.argmin(needed))
            j = left.pop(k)
            worst = max(worst, float(needed[k]))
            adjusted[j] = min(worst, 1.0)
            w, G = _passed_on(w, G, j, left)
        return adjusted

    def rejected(self, p: Float[np.ndarray, " hypothesis"], alpha: float = 0.05) -> Bool[np.ndarray, " hypothesis"]:
        """Return which hypotheses are rejected at an overall level.

        Raises
        ------
        ConfigError
            If the level is not inside (0, 1).
        DataError
            As for ``adjusted_p``.
        """
        require_level(1 - alpha)
        return self.adjusted_p(p) <= alpha * (1 + _ROUNDING)


def _passed_on(
    w: Float[np.ndarray, " m"], G: Float[np.ndarray, "m m"], j: int, left: list[int]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "m m"]]:
    """Return weights and transitions after hypothesis j was rejected."""
    weights, transitions = w.copy(), np.zeros_like(G)
    weights[left] += w[j] * G[j, left]
    weights[j] = 0.0
    for i in left:
        loop = G[i, j] * G[j, i]
        if loop < 1:
            transitions[i, left] = (G[i, left] + G[i, j] * G[j, left]) / (1 - loop)
        transitions[i, i] = 0.0
    return weights, transitions


def dunnett_critical_value(
    groups: int, df: float, *, allocation: float = 1.0, level: float = 0.95, two_sided: bool = True
) -> float:
    """Return Dunnett's critical value for several arms against one control.

    The statistics are t variables with a common variance estimate and correlation ρ = r/(1 + r), r the size of an
    active arm in units of the control's: T = (√(1 − ρ) Zᵢ + √ρ Z₀)/S. Both integrals are by quadrature.

    Parameters
    ----------
    groups
        Active arms.
    df
        Degrees of freedom of the variance estimate; infinity for a known variance.
    allocation
        Patients of each active arm for one of the control.
    level
        Simultaneous confidence level.
    two_sided
        Whether |T| or T is bounded.

    Raises
    ------
    ConfigError
        If there is no active arm, no degree of freedom, or the allocation or the level is out of range.

    Examples
    --------
    >>> round(dunnett_critical_value(3, 156.0), 3), round(dunnett_critical_value(1, 10.0), 3)
    (2.372, 2.228)
    """
    require_level(level)
    if groups < 1 or not df > 0 or not 0 < allocation < np.inf:
        raise ConfigError(f"no Dunnett test of {groups} arm(s), {df:g} degrees of freedom, allocation {allocation:g}")
    rho = allocation / (1 + allocation)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    spread, density = _scale(df)

    def missing(c: float) -> float:
        upper = ndtr((c * spread[:, None] - np.sqrt(rho) * nodes) / np.sqrt(1 - rho))
        below = ndtr((-c * spread[:, None] - np.sqrt(rho) * nodes) / np.sqrt(1 - rho)) if two_sided else 0.0
        return float(density @ ((upper - below) ** groups @ weights)) - level

    return float(brentq(missing, -40.0 if not two_sided else 0.0, 400.0, xtol=1e-10))


def _scale(df: float) -> tuple[Float[np.ndarray, " node"], Float[np.ndarray, " node"]]:
    """Return nodes and weights for S = √(χ²/df)."""
    if not np.isfinite(df):
        return np.ones(1), np.ones(1)
    x, w = np.polynomial.legendre.leggauss(200)
    low, high = max(0.0, 1 - 9 / np.sqrt(2 * df)), 1 + 9 / np.sqrt(2 * df)
    s = (low + high) / 2 + (high - low) / 2 * x
    log_density = df / 2 * np.log(df / 2) - gammaln(df / 2) + np.log(2.0) + (df - 1) * np.log(s) - df * s**2 / 2
    density = np.exp(log_density) * w
    return s, density / density.sum()


def _require_p(p: Float[np.ndarray, " hypothesis"]) -> None:
    """Refuse p-values that are none."""
    if len(p) == 0:
        raise DataError("there are no p-values to adjust")
    if not ((p >= 0) & (p <= 1)).all():
        bad = p[~((p >= 0) & (p <= 1))]
        raise DataError(f"{len(bad)} p-value(s) lie outside [0, 1], such as {bad[0]:g}")
