"""Least squares of many trials of one shape at once: one contrast in each, its standard error and degrees of freedom.

For trial k with rows i of weight w_i (1 where analysed, 0 where the response is missing), X'WX = R'R, and for the
contrast c, g = X (X'WX)⁻¹ c,

    value = c'β̂,     model: s² c'(X'WX)⁻¹c,     HC0…HC3: Σ wᵢ gᵢ² ωᵢ,   ωᵢ as in ``ancova.py``

which equals ``least_squares`` on the analysed rows of each trial. A trial whose design is singular has NaN.
Sources: as for ``ancova.py``.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from trialtwin.core.errors import ConfigError, DataError

VARIANCES = ("model", "HC0", "HC1", "HC2", "HC3")
_DEPENDENT = 1e-12  # share of the largest pivot below which a design counts as singular


class BatchEstimate(NamedTuple):
    """One contrast in every trial; NaN where the trial could not be fitted."""

    value: Float[np.ndarray, " trial"]
    se: Float[np.ndarray, " trial"]
    df: Float[np.ndarray, " trial"]


def least_squares_batch(
    design: Float[np.ndarray, "trial row column"],
    response: Float[np.ndarray, "trial row"],
    contrast: Float[np.ndarray, " weight"],
    *,
    variance: str = "model",
    used: Bool[np.ndarray, "trial row"] | None = None,
) -> BatchEstimate:
    """Estimate one contrast of a linear model in each of many trials.

    Parameters
    ----------
    design : shape (trial, row, column)
        Finite where used.
    response : shape (trial, row)
        NaN where missing: those rows are left out.
    contrast : shape (column,)
        Weights of the coefficients.
    variance
        "model", "HC0", "HC1", "HC2" or "HC3".
    used : shape (trial, row)
        Rows to use beside that the response is there; all if not given.

    Raises
    ------
    ConfigError
        If the variance estimator does not exist.
    DataError
        If shapes differ.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> arm = np.tile([0.0, 1.0], (5, 10))
    >>> X = np.stack([np.ones_like(arm), arm], axis=-1)
    >>> found = least_squares_batch(X, arm + rng.normal(size=arm.shape), np.array([0.0, 1.0]), variance="HC3")
    >>> found.value.shape, found.df[0]
    ((5,), np.float64(18.0))
    """
    if variance not in VARIANCES:
        raise ConfigError(f"no variance estimator {variance!r} for many trials", exists=VARIANCES)
    if design.shape[:2] != response.shape or len(contrast) != design.shape[2]:
        raise DataError(
            f"a design of shape {design.shape}, a response of shape {response.shape} and {len(contrast)} weights"
        )
    known = np.isfinite(response) if used is None else np.isfinite(response) & used
    weight = known.astype(float)
    X, y = design * weight[..., None], np.where(known, response, 0.0)
    n, p = weight.sum(axis=1), design.shape[2]
    gram = np.matmul(X.transpose(0, 2, 1), X)
    inverse, sound = _inverse(gram)
    sound &= n > p
    beta = np.matmul(inverse, np.matmul(X.transpose(0, 2, 1), y[..., None]))[..., 0]
    residual = y - np.matmul(X, beta[..., None])[..., 0]
    df = n - p
    square = _contrast_variance(variance, contrast, residual, X, inverse, n)
    se = np.sqrt(np.where(sound & (square > 0), square, np.nan))
    return BatchEstimate(np.where(sound, beta @ contrast, np.nan), se, np.where(sound, df, np.nan))


def _contrast_variance(
    kind: str,
    contrast: Float[np.ndarray, " weight"],
    residual: Float[np.ndarray, "trial row"],
    X: Float[np.ndarray, "trial row column"],
    inverse: Float[np.ndarray, "trial column column"],
    n: Float[np.ndarray, " trial"],
) -> Float[np.ndarray, " trial"]:
    """Return the variance of the contrast in each trial."""
    p, toward = X.shape[2], inverse @ contrast
    if kind == "model":
        with np.errstate(divide="ignore", invalid="ignore"):
            return (residual**2).sum(axis=1) / (n - p) * (toward @ contrast)
    g = np.matmul(X, toward[..., None])[..., 0]
    return (g**2 * _squares(kind, residual, X, inverse, n, p)).sum(axis=1)


def _squares(
    kind: str,
    residual: Float[np.ndarray, "trial row"],
    X: Float[np.ndarray, "trial row column"],
    inverse: Float[np.ndarray, "trial column column"],
    n: Float[np.ndarray, " trial"],
    p: int,
) -> Float[np.ndarray, "trial row"]:
    """Return ω, the weighted squared residuals of a robust variance."""
    if kind == "HC0":
        return residual**2
    if kind == "HC1":
        with np.errstate(divide="ignore", invalid="ignore"):
            return residual**2 * (n / (n - p))[:, None]
    free = 1.0 - (np.matmul(X, inverse) * X).sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return residual**2 / free if kind == "HC2" else (residual / free) ** 2


def _inverse(
    gram: Float[np.ndarray, "trial column column"],
) -> tuple[Float[np.ndarray, "trial column column"], Bool[np.ndarray, " trial"]]:
    """Return the inverse of each trial's X'WX, columns put on one scale, and whether there is one."""
    scale = np.sqrt(np.maximum(np.einsum("tii->ti", gram), 0.0))
    safe = np.where(scale > 0, scale, 1.0)
    correlated = gram / safe[:, :, None] / safe[:, None, :]
    sound = np.linalg.eigvalsh(correlated)[:, 0] > _DEPENDENT
    sound &= (scale > 0).all(axis=1)
    correlated[~sound] = np.eye(gram.shape[1])
    return np.linalg.inv(correlated) / safe[:, :, None] / safe[:, None, :], sound
