r"""Logistic and Poisson regression of many trials of one shape at once, with rows missing: an effect in each trial.

With rows i of weight 1 where the response is there, else 0, Newton's steps for η = Xβ + offset. From a logistic model
the marginal risk difference by g-computation, predictions averaged over the rows used, with Ye's unconditional
variance; from a log-linear model the log rate ratio, which is the marginal one, with the HC3 variance. Both equal
``gcomputation`` and ``fit_glm`` on the used rows of each trial; a trial whose model does not converge, or is singular,
has NaN.

Sources: as for ``gcomputation.py`` and ``glm.py``; Ye T et al. (2023), doi:10.1080/24754269.2023.2205802.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

from trialtwin.core.errors import DataError
from trialtwin.stats.ancova_batch import BatchEstimate

_STEPS, _CLOSE, _FAR = 30, 1e-9, 30.0
_DEPENDENT = 1e-12  # share of the largest pivot below which a design counts as singular


def logistic_difference_batch(
    response: Float[np.ndarray, "trial row"],
    arms: Bool[np.ndarray, "trials rows arm"],
    covariates: Float[np.ndarray, "all every column"],
    treated: int,
) -> BatchEstimate:
    """Estimate a marginal risk difference from the first arm by logistic g-computation in each of many trials.

    Parameters
    ----------
    response : shape (trial, row)
        0 or 1; NaN where missing: those rows are left out.
    arms : shape (trial, row, arm)
        Membership, the control first; rows of no arm are not allowed.
    covariates : shape (trial, row, column)
        Finite everywhere; there may be no column.
    treated
        Position of the arm to compare, from 1.

    Raises
    ------
    DataError
        If shapes differ, or a response is neither 0, 1 nor missing.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> arm = np.tile(np.arange(100) % 2, (50, 1))
    >>> y = (rng.random(arm.shape) < 0.3 + 0.2 * arm).astype(float)
    >>> arms = arm[..., None] == np.arange(2)
    >>> found = logistic_difference_batch(y, arms, np.zeros((50, 100, 0)), 1)
    >>> bool(abs(found.value.mean() - 0.2) < 0.05)
    True
    """
    _require(response, arms, covariates)
    used = np.isfinite(response)
    y = np.where(used, response, 0.0)
    if not ((y == 0) | (y == 1)).all():
        raise DataError("a response is neither 0, 1 nor missing", do="code the response as 0 and 1")
    X = _design(arms, covariates)
    beta, _, _, sound = _newton(X, y, used.astype(float), np.zeros_like(y), logistic=True)
    means, covariance = _standardised(X, beta, y, used, arms, (0, treated))
    value = means[:, 1] - means[:, 0]
    square = covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1]
    return _estimates(value, square, sound)


def log_rate_ratio_batch(
    count: Float[np.ndarray, "trial row"],
    exposure: Float[np.ndarray, "trial row"],
    arms: Bool[np.ndarray, "trials rows arm"],
    covariates: Float[np.ndarray, "all every column"],
    treated: int,
) -> BatchEstimate:
    """Estimate a log rate ratio to the first arm by a log-linear model with robust variance in each of many trials.

    Parameters
    ----------
    count, exposure : shape (trial, row)
        Events, and time at risk; rows without time at risk are left out.
    arms, covariates, treated
        As for ``logistic_difference_batch``.

    Raises
    ------
    DataError
        If shapes differ, or a count is negative.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> arm = np.tile(np.arange(100) % 2, (50, 1))
    >>> events = rng.poisson(np.where(arm, 1.0, 2.0)).astype(float)
    >>> arms = arm[..., None] == np.arange(2)
    >>> found = log_rate_ratio_batch(events, np.ones(arm.shape), arms, np.zeros((50, 100, 0)), 1)
    >>> bool(abs(found.value.mean() - np.log(0.5)) < 0.1)
    True
    """
    _require(count, arms, covariates)
    used = np.isfinite(count) & (exposure > 0)
    y, w = np.where(used, count, 0.0), used.astype(float)
    if (y < 0).any():
        raise DataError("a count is negative", do="give events of each patient")
    X = _design(arms, covariates)
    beta, mu, inverse, sound = _newton(X, y, w, np.log(np.where(used, exposure, 1.0)), logistic=False)
    contrast = (np.arange(X.shape[2]) == treated).astype(float)
    toward = np.matmul(X, (inverse @ contrast)[..., None])[..., 0]
    free = 1.0 - w * mu * (np.matmul(X, inverse) * X).sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        square = (w * (toward * (y - mu) / free) ** 2).sum(axis=1)
    return _estimates(beta[:, treated], square, sound & (w.sum(axis=1) > X.shape[2]))


def _design(
    arms: Bool[np.ndarray, "trial row arm"], covariates: Float[np.ndarray, "trial row column"]
) -> Float[np.ndarray, "trial row all"]:
    """Return intercept, treated arms and covariates, put on one scale."""
    centred = covariates - covariates.mean(axis=1, keepdims=True)
    scale = centred.std(axis=1, keepdims=True)
    return np.concatenate(
        [np.ones((*arms.shape[:2], 1)), arms[..., 1:].astype(float), centred / np.where(scale > 0, scale, 1.0)], axis=2
    )


def _newton(
    X: Float[np.ndarray, "trial row column"],
    y: Float[np.ndarray, "trial row"],
    w: Float[np.ndarray, "trial row"],
    offset: Float[np.ndarray, "trial row"],
    *,
    logistic: bool,
) -> tuple[
    Float[np.ndarray, "trial column"],
    Float[np.ndarray, "trial row"],
    Float[np.ndarray, "trial column column"],
    Bool[np.ndarray, " trial"],
]:
    """Return coefficients, means, inverse information, and where Newton's steps came to an end."""
    trials, _, p = X.shape
    beta, done, lost = np.zeros((trials, p)), np.zeros(trials, dtype=bool), np.zeros(trials, dtype=bool)
    if not logistic:  # begin at the overall rate
        total = (w * y).sum(axis=1) / np.maximum((w * np.exp(offset)).sum(axis=1), 1e-300)
        beta[:, 0] = np.log(np.maximum(total, 1e-10))
    for _ in range(_STEPS):
        mu, inverse, bad = _point(X, beta, w, offset, logistic=logistic)
        lost |= bad
        step = np.matmul(inverse, np.matmul(X.transpose(0, 2, 1), (w * (y - mu))[..., None]))[..., 0]
        beta = np.where((done | lost)[:, None], beta, beta + np.clip(step, -4.0, 4.0))
        done |= np.abs(step).max(axis=1) < _CLOSE
        if (done | lost).all():
            break
    mu, inverse, bad = _point(X, beta, w, offset, logistic=logistic)
    far = np.abs(beta).max(axis=1) > _FAR
    return beta, mu, inverse, done & ~lost & ~bad & ~far


def _point(
    X: Float[np.ndarray, "trial row column"],
    beta: Float[np.ndarray, "trial column"],
    w: Float[np.ndarray, "trial row"],
    offset: Float[np.ndarray, "trial row"],
    *,
    logistic: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return means, the inverse of the information, and where there is none."""
    eta = np.matmul(X, beta[..., None])[..., 0] + offset
    mu = expit(eta) if logistic else np.exp(np.minimum(eta, 50.0))
    slope = w * (mu * (1 - mu) if logistic else mu)
    gram = np.matmul(X.transpose(0, 2, 1), X * slope[..., None])
    scale = np.sqrt(np.maximum(np.einsum("tii->ti", gram), 0.0))
    safe = np.where(scale > 0, scale, 1.0)
    correlated = gram / safe[:, :, None] / safe[:, None, :]
    bad = (np.linalg.eigvalsh(correlated)[:, 0] < _DEPENDENT) | ~(scale > 1e-9).all(axis=1)
    correlated[bad] = np.eye(gram.shape[1])
    return mu, np.linalg.inv(correlated) / safe[:, :, None] / safe[:, None, :], bad


def _standardised(
    X: Float[np.ndarray, "trial row column"],
    beta: Float[np.ndarray, "trial column"],
    y: Float[np.ndarray, "trial row"],
    used: Bool[np.ndarray, "trial row"],
    arms: Bool[np.ndarray, "trial row arm"],
    pair: tuple[int, int],
) -> tuple[Float[np.ndarray, "trial two"], Float[np.ndarray, "trial two two"]]:
    """Return the marginal means of two arms and Ye's covariance of them."""
    k, n = arms.shape[2], used.sum(axis=1)
    rest = X.copy()
    rest[..., 1:k] = 0.0
    base = np.matmul(rest, beta[..., None])[..., 0]
    predicted = np.stack([expit(base + (beta[:, a : a + 1] if a else 0.0)) for a in pair], axis=2)
    means, overall = _moments(predicted, used)
    covariance = -overall
    for row, a in enumerate(pair):
        members = used & arms[..., a]
        joint = _moments(np.concatenate([y[..., None], predicted], axis=2), members)[1]
        share = members.sum(axis=1) / np.maximum(n, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            first = (joint[:, 0, 0] - 2 * joint[:, 0, 1 + row] + overall[:, row, row]) / share
        covariance[:, row, row] += first
        covariance[:, row, :] += joint[:, 0, 1:]
        covariance[:, :, row] += joint[:, 0, 1:]
    return means, covariance / np.maximum(n, 1)[:, None, None]


def _moments(
    values: Float[np.ndarray, "trial row column"], rows: Bool[np.ndarray, "trial row"]
) -> tuple[Float[np.ndarray, "trial column"], Float[np.ndarray, "trial column column"]]:
    """Return means and covariances over some rows of each trial."""
    n = rows.sum(axis=1)[:, None]
    w = rows[..., None].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (w * values).sum(axis=1) / n
        gap = w * (values - mean[:, None, :])
        return mean, np.matmul(gap.transpose(0, 2, 1), gap) / (n - 1)[..., None]


def _estimates(
    value: Float[np.ndarray, " trial"], square: Float[np.ndarray, " trial"], sound: Bool[np.ndarray, " trial"]
) -> BatchEstimate:
    """Return estimates with normal inference, NaN where a trial could not be fitted."""
    good = sound & np.isfinite(square) & (square > 0)
    se = np.sqrt(np.where(good, square, np.nan))
    return BatchEstimate(np.where(good, value, np.nan), se, np.where(good, np.inf, np.nan))


def _require(response: np.ndarray, arms: np.ndarray, covariates: np.ndarray) -> None:
    if arms.shape[:2] != response.shape or covariates.shape[:2] != response.shape:
        raise DataError(
            f"responses of shape {response.shape}, arms of {arms.shape} and covariates of {covariates.shape} do not "
            "belong together",
            do="give [trial, row], [trial, row, arm] and [trial, row, column]",
        )
