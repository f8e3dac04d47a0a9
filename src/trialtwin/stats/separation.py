"""Separation: a direction of the coefficients along which a likelihood rises for ever, found by linear programming.

A logistic likelihood has no maximum exactly where some β ≠ 0 has (2yᵢ − 1) xᵢᵀβ ≥ 0 in every row and > 0 in one. A
log-linear likelihood of counts has none where xᵢᵀβ = 0 in rows with yᵢ > 0, ≤ 0 in rows with yᵢ = 0 and < 0 in one.

Sources: Albert and Anderson (1984), doi:10.1093/biomet/71.1.1; Santos Silva and Tenreyro (2010),
doi:10.1016/j.econlet.2010.02.020; Konis (2007), https://ora.ox.ac.uk/objects/uuid:8f9ee0d0-d78e-4101-9ab4-f9cbceed2a2a.
"""

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import ConfigError
from trialtwin.stats.modelmatrix import ModelMatrix

_GAIN = 1e-6


def separated_columns(design: ModelMatrix, response: Float[np.ndarray, " row"], endpoint: str) -> tuple[str, ...]:
    """Return the columns whose coefficients run off to infinity, or none where the likelihood has a maximum.

    Parameters
    ----------
    design
        Columns of the model.
    response : shape (row,)
        0 and 1 of a binary endpoint, or counts.
    endpoint
        "binary" or "count".

    Raises
    ------
    ConfigError
        If the endpoint is another.

    Examples
    --------
    >>> from trialtwin.stats.modelmatrix import continuous_columns, intercept, join
    >>> x = join(intercept(4), continuous_columns({"x": np.array([1.0, 2.0, 3.0, 4.0])}))
    >>> separated_columns(x, np.array([0.0, 0.0, 1.0, 1.0]), "binary")
    ('(Intercept)', 'x')
    >>> separated_columns(x, np.array([0.0, 1.0, 0.0, 1.0]), "binary")
    ()
    """
    from scipy.optimize import linprog

    X = design.values / np.maximum(np.abs(design.values).max(axis=0), 1e-300)
    if endpoint == "binary":
        upward, fixed = (2 * response - 1)[:, None] * X, X[:0]
    elif endpoint == "count":
        upward, fixed = -X[response == 0], X[response > 0]
    else:
        raise ConfigError(f"no separation for endpoint {endpoint!r}", exists=("binary", "count"))
    if len(upward) == 0:
        return ()
    found = linprog(
        -upward.sum(axis=0),
        A_ub=-upward,
        b_ub=np.zeros(len(upward)),
        A_eq=fixed if len(fixed) else None,
        b_eq=np.zeros(len(fixed)) if len(fixed) else None,
        bounds=(-1, 1),
        method="highs",
    )
    if not found.success or -found.fun <= _GAIN:
        return ()
    return tuple(name for name, value in zip(design.names, found.x, strict=True) if abs(value) > _GAIN)
