"""Degrees of freedom and small-sample covariance of the coefficients of repeated-measures models.

Φ is the covariance of the coefficients with the covariance parameters as if they were known, W the covariance of
these parameters (inverse of the observed information), Pₐ = ∂Φ⁻¹/∂θₐ, and sums run over subjects:

    Kenward–Roger    Φ_A = Φ + 2 Φ [ Σₐᵦ Wₐᵦ ( Qₐᵦ − Pₐ Φ Pᵦ − ¼ Rₐᵦ ) ] Φ
                     Qₐᵦ = Σᵢ Xᵢᵀ S Σₐ S Σᵦ S Xᵢ,   Rₐᵦ = Σᵢ Xᵢᵀ S Σₐᵦ S Xᵢ;   the linear variant leaves R out
    Satterthwaite    ν = 2 (cᵀΦc)² / (gᵀ W g),   gₐ = −cᵀ Φ Pₐ Φ c

For one contrast Kenward and Roger's degrees of freedom are Satterthwaite's.

Sources: Kenward and Roger (1997), doi:10.2307/2533558; Kenward and Roger (2009), doi:10.1016/j.csda.2008.12.013;
Fai and Cornelius (1996), doi:10.1080/00949659608811740; Schluchter and Elashoff (1990),
doi:10.1080/00949659008811255 (between–within).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.stats.mmrm_fit import Optimum
from trialtwin.stats.mmrm_likelihood import Likelihood

type Square = Float[np.ndarray, "_ _"]
type Contrasts = Float[np.ndarray, "contrast column"]

_EQUAL = 1e-8  # relative spread of degrees of freedom below which they are one


@dataclass(frozen=True)
class FScale:
    """Denominator degrees of freedom of an F statistic, and the factor that scales it.

    Examples
    --------
    >>> FScale(df=12.0, scale=1.0).df
    12.0
    """

    df: float
    scale: float = 1.0


def kenward_roger_covariance(likelihood: Likelihood, optimum: Optimum, *, linear: bool) -> Square:
    """Return Kenward and Roger's covariance matrix Φ_A; ``linear`` leaves second derivatives of Σ out."""
    point, W = optimum.point, optimum.theta_covariance
    S, first = point.precision, point.covariance.first
    weighted = np.einsum("ab,gbij->gaij", W, first, optimize=True)
    inner = (first @ S[:, None] @ weighted).sum(axis=1)
    if not linear:
        inner = inner - 0.25 * point.covariance.mixed_second(W)
    product = S @ inner @ S
    bracket = likelihood.moments.total((product + product.mT) / 2)[:-1, :-1]
    P = optimum.curvature.slopes
    bracket = bracket - np.einsum("aij,jk,akl->il", P, point.inverse, np.tensordot(W, P, axes=1), optimize=True)
    return point.inverse + 2 * point.inverse @ bracket @ point.inverse


def satterthwaite_df(optimum: Optimum, contrast: Float[np.ndarray, " column"]) -> float:
    """Return Satterthwaite's degrees of freedom of one contrast."""
    turned = optimum.point.inverse @ contrast
    gradient = -np.einsum("i,aij,j->a", turned, optimum.curvature.slopes, turned, optimize=True)
    return float(2 * (contrast @ turned) ** 2 / (gradient @ optimum.theta_covariance @ gradient))


def combined_df(parts: Float[np.ndarray, " part"]) -> float:
    """Combine the degrees of freedom of independent t statistics into those of an F statistic.

    With E = Σ ν / (ν − 2) over q parts, they are 2 E / (E − q); 2 where a part has two or fewer.

    Examples
    --------
    >>> combined_df(np.array([10.0, 10.0]))
    10.0
    """
    if np.ptp(parts) <= _EQUAL * float(parts.max()):
        return float(parts.mean())
    if parts.min() <= 2:
        return 2.0
    expected = float((parts / (parts - 2)).sum())
    return 2 * expected / (expected - len(parts))


def satterthwaite_f(optimum: Optimum, contrasts: Contrasts) -> FScale:
    """Return Satterthwaite's denominator degrees of freedom of several contrasts (Fai and Cornelius)."""
    _, vectors = np.linalg.eigh(contrasts @ optimum.point.inverse @ contrasts.T)
    return FScale(combined_df(np.array([satterthwaite_df(optimum, row) for row in vectors.T @ contrasts])))


def kenward_roger_f(optimum: Optimum, contrasts: Contrasts) -> FScale:
    """Return Kenward and Roger's denominator degrees of freedom and scale of several contrasts."""
    inverse, W, q = optimum.point.inverse, optimum.theta_covariance, len(contrasts)
    if q == 1:
        return FScale(satterthwaite_df(optimum, contrasts[0]))
    projector = contrasts.T @ np.linalg.solve(contrasts @ inverse @ contrasts.T, contrasts)
    turned = projector @ inverse @ optimum.curvature.slopes @ inverse
    traces = np.trace(turned, axis1=1, axis2=2)
    pairs = turned.reshape(len(turned), -1) @ turned.mT.reshape(len(turned), -1).T
    a1, a2 = float(traces @ W @ traces), float((W * pairs).sum())
    b = (a1 + 6 * a2) / (2 * q)
    g = ((q + 1) * a1 - (q + 4) * a2) / ((q + 2) * a2)
    c1, c2, c3 = (part / (3 * q + 2 * (1 - g)) for part in (g, q - g, q + 2 - g))
    expected = 1 / (1 - a2 / q)
    variance = 2 / q * (1 + c1 * b) / ((1 - c2 * b) ** 2 * (1 - c3 * b))
    df = 4 + (q + 2) / (q * variance / (2 * expected**2) - 1)
    return FScale(df, df / (expected * (df - 2)))


def between_within_df(
    design: Float[np.ndarray, "row column"], subject: Int[np.ndarray, " row"], *, intercept: Bool[np.ndarray, " column"]
) -> Float[np.ndarray, " column"]:
    """Return degrees of freedom of each coefficient by whether its column varies within subjects.

    Columns that are fixed within every subject have subjects − their number − intercept; the others, and the
    intercept, have rows − subjects − their number. A contrast takes the smallest of its coefficients'.

    Examples
    --------
    >>> X = np.array([[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 0, 1.0]])
    >>> between_within_df(X, np.array([0, 0, 1, 1, 2, 2]), intercept=np.array([True, False, False])).tolist()
    [2.0, 1.0, 2.0]
    """
    same = subject[1:] == subject[:-1]
    varies = (np.diff(design, axis=0)[same] != 0).any(axis=0)
    subjects = len(np.unique(subject))
    between = subjects - int((~varies & ~intercept).sum()) - int(intercept.any())
    within = len(design) - subjects - int(varies.sum())
    return np.where(varies | intercept, float(within), float(between))
