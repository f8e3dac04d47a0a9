"""Cochran–Mantel–Haenszel tests over strata, as SAS's three statistics, and the Mantel–Haenszel odds ratio.

For tables of R rows and C columns in strata h, with contrasts B = (rows) ⊗ (columns),

    G = Σ B (nₕ − E nₕ),   V = Σ B Var(nₕ) Bᵀ,   Q = Gᵀ V⁻ G  ~ χ²(rank V)   under no association in any stratum,

the hypergeometric moments E and Var given both margins. Rows and columns are

    "correlation"            row scores, column scores            1 degree of freedom
    "row means"              all rows but one, column scores      R − 1
    "general association"    all rows but one, all columns but one   (R − 1)(C − 1)

Sources: Landis, Heyman and Koch (1978), doi:10.2307/1402373; Mantel and Haenszel (1959), doi:10.1093/jnci/22.4.719;
Robins, Breslow and Greenland (1986), doi:10.2307/2531052, for the variance of the odds ratio.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import chdtrc

from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.wald import critical_value, wald_estimate

KINDS = ("correlation", "row means", "general association")


@dataclass(frozen=True)
class ChiSquare:
    """A χ² test: statistic, degrees of freedom, p-value, and the strata that told something."""

    statistic: float
    df: int
    p: float
    strata: int
    method: str


def cmh_test(
    tables: Float[np.ndarray, "stratum row column"],
    kind: str = "general association",
    *,
    row_scores: Sequence[float] | None = None,
    column_scores: Sequence[float] | None = None,
) -> ChiSquare:
    """Test whether rows and columns are associated, within strata.

    Parameters
    ----------
    tables : shape (stratum, row, column)
        Counts. Strata with fewer than two patients, or with one row or one column only, say nothing and count for none.
    kind
        "correlation", "row means" or "general association".
    row_scores, column_scores
        Scores of the levels; 1, 2, … where ``None``.

    Raises
    ------
    ConfigError
        If the kind does not exist, or scores do not fit the table or do not differ.
    DataError
        If a count is negative or not whole.
    FitError
        If no stratum holds two rows and two columns.

    Examples
    --------
    >>> test = cmh_test(np.array([[[20.0, 30.0], [15.0, 40.0]], [[25.0, 28.0], [12.0, 33.0]]]))
    >>> round(test.statistic, 3), test.df
    (5.944, 1)
    """
    if not (np.isfinite(tables) & (tables >= 0) & (tables % 1 == 0)).all():
        raise DataError("a count is negative, not whole or not finite")
    rows, columns = _contrasts(tables.shape[1:], kind, row_scores, column_scores)
    B = np.kron(rows, columns)
    G, V, telling = np.zeros(len(B)), np.zeros((len(B), len(B))), 0
    for table in tables:
        r, c, n = table.sum(axis=1), table.sum(axis=0), table.sum()
        if n < 2 or (r > 0).sum() < 2 or (c > 0).sum() < 2:
            continue
        telling += 1
        G += B @ (table - np.outer(r, c) / n).ravel()
        variance = np.kron(n * np.diag(r) - np.outer(r, r), n * np.diag(c) - np.outer(c, c)) / (n**2 * (n - 1))
        V += B @ variance @ B.T
    rank = int(np.linalg.matrix_rank(V, hermitian=True)) if telling else 0
    if rank == 0:
        raise FitError(
            "no stratum holds two rows and two columns: there is nothing to test", do="pool strata or levels"
        )
    statistic = float(G @ np.linalg.pinv(V, hermitian=True) @ G)
    return ChiSquare(statistic, rank, float(chdtrc(rank, statistic)), telling, f"CMH, {kind}")


def mantel_haenszel(
    tables: Float[np.ndarray, "stratum 2 2"],
    label: str,
    *,
    level: float = 0.95,
    estimand: Estimand | None = None,
) -> Estimate:
    """Estimate the common odds ratio of 2 × 2 tables, with an interval from its logarithm.

    Value, interval and standard error are of the odds ratio itself; the statistic is log OR over its standard error.

    Raises
    ------
    DataError
        If a count is negative or not whole.
    FitError
        If the odds ratio is zero or infinite.

    Examples
    --------
    >>> effect = mantel_haenszel(np.array([[[20.0, 30.0], [15.0, 40.0]], [[25.0, 28.0], [12.0, 33.0]]]), "A against B")
    >>> round(effect.value, 3), round(effect.lower, 3), round(effect.upper, 3)
    (2.079, 1.153, 3.749)
    """
    if not (np.isfinite(tables) & (tables >= 0) & (tables % 1 == 0)).all():
        raise DataError("a count is negative, not whole or not finite")
    tables = tables[tables.sum(axis=(1, 2)) > 0]
    n = tables.sum(axis=(1, 2))
    a, b, c, d = tables[:, 0, 0], tables[:, 0, 1], tables[:, 1, 0], tables[:, 1, 1]
    R, S = a * d / n, b * c / n
    P, Q = (a + d) / n, (b + c) / n
    if R.sum() == 0 or S.sum() == 0:
        raise FitError("the common odds ratio is zero or infinite", do="test the association with cmh_test")
    r, s = R.sum(), S.sum()
    square = (P @ R) / (2 * r**2) + (P @ S + Q @ R) / (2 * r * s) + (Q @ S) / (2 * s**2)
    on_log = wald_estimate(
        float(np.log(r / s)),
        float(np.sqrt(square)),
        contrast=label,
        n=int(n.sum()),
        level=level,
        method="Mantel–Haenszel odds ratio",
        variance="Robins–Breslow–Greenland",
        estimand=estimand,
    )
    value, half = float(r / s), critical_value(level) * on_log.se
    return on_log.model_copy(
        update={
            "value": value,
            "se": value * on_log.se,
            "lower": value * float(np.exp(-half)),
            "upper": value * float(np.exp(half)),
        }
    )


def _contrasts(
    shape: tuple[int, ...], kind: str, row_scores: Sequence[float] | None, column_scores: Sequence[float] | None
) -> tuple[Float[np.ndarray, "a row"], Float[np.ndarray, "b column"]]:
    """Return the contrasts of rows and of columns."""
    if kind not in KINDS:
        raise ConfigError(f"no CMH statistic {kind!r}", exists=KINDS)
    scores = []
    for name, given, length in (("row", row_scores, shape[0]), ("column", column_scores, shape[1])):
        s = np.arange(1.0, length + 1) if given is None else np.asarray(given, dtype=float)
        if len(s) != length or not np.isfinite(s).all() or len(np.unique(s)) < 2:
            raise ConfigError(f"the {name} scores do not fit {length} levels, or do not differ")
        scores.append(s[None, :])
    rows, columns = np.eye(shape[0])[:-1], np.eye(shape[1])[:-1]
    match kind:
        case "correlation":
            return scores[0], scores[1]
        case "row means":
            return rows, scores[1]
    return rows, columns
