r"""Log-rank tests and Cox models of many trials of one shape at once: a log hazard ratio in each.

Patients of each trial are sorted by time, so that sums over risk sets are cumulative sums from the end. With O and E
the observed and expected events of the treated arm and V the hypergeometric variance, the log-rank test is
z = (O − E)/√V, and its one-step estimate of the log hazard ratio (O − E)/V with standard error 1/√V. The Cox model
maximises Breslow's partial likelihood by Newton's steps; simulated times have no ties, and without them it is Efron's
as well. Both equal ``log_rank`` and ``cox`` of each trial; a trial that cannot be fitted has NaN. Patients with no time
at risk say nothing.

Sources: as for ``logrank.py`` and ``cox.py``; Peto R et al. (1977), doi:10.1038/bjc.1977.1 (one-step estimate).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.core.errors import DataError
from trialtwin.stats.ancova_batch import BatchEstimate

_STEPS, _CLOSE, _FAR = 30, 1e-9, 20.0


class _Sorted(NamedTuple):
    """Trials with patients in order of time; ``first`` is the place of the first patient with the same time."""

    order: Int[np.ndarray, "trial row"]
    event: Float[np.ndarray, "trial row"]
    first: Int[np.ndarray, "trial row"]


def log_rank_batch(
    time: Float[np.ndarray, "trial row"],
    event: Bool[np.ndarray, "trials rows"],
    treated: Bool[np.ndarray, "all every"],
) -> BatchEstimate:
    """Test survival of treated patients against the others in each of many trials.

    Parameters
    ----------
    time, event, treated : shape (trial, row)
        Time at risk from 0, whether it ended in the event, and who is treated.

    Raises
    ------
    DataError
        If shapes differ, or a time is negative or missing.

    Examples
    --------
    >>> time = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    >>> treated = np.array([[False, True, False, True, False, True]])
    >>> found = log_rank_batch(time, np.ones((1, 6), dtype=bool), treated)
    >>> round(float((found.value / found.se)[0]) ** 2, 3)
    0.485
    """
    _require(time, event, treated[..., None])
    data = _sort(time, event)
    x = np.take_along_axis(treated, data.order, axis=1).astype(float)
    at_risk = _from_end(np.ones_like(x))
    at_risk, exposed = _of(at_risk, data.first), _of(_from_end(x), data.first)
    share = exposed / at_risk
    tied = _tied(data)
    spread = np.where(at_risk > 1, (at_risk - tied) / np.maximum(at_risk - 1, 1), 0.0)
    score = (data.event * (x - share)).sum(axis=1)
    variance = (data.event * spread * share * (1 - share)).sum(axis=1)
    good = variance > 0
    safe = np.where(good, variance, 1.0)
    nan = np.nan
    return BatchEstimate(
        np.where(good, score / safe, nan), np.where(good, 1 / np.sqrt(safe), nan), np.where(good, np.inf, nan)
    )


def cox_batch(
    time: Float[np.ndarray, "trial row"],
    event: Bool[np.ndarray, "trials rows"],
    columns: Float[np.ndarray, "all every column"],
    place: int = 0,
) -> BatchEstimate:
    """Fit a proportional-hazards model to each of many trials and return one log hazard ratio.

    Parameters
    ----------
    time, event : shape (trial, row)
        Time at risk from 0, and whether it ended in the event.
    columns : shape (trial, row, column)
        Treatment and covariates.
    place
        Column whose coefficient is wanted.

    Raises
    ------
    DataError
        If shapes differ, or a time is negative or missing.

    Examples
    --------
    >>> time = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    >>> arm = np.array([[[0.0], [1.0], [0.0], [1.0], [0.0], [1.0]]])
    >>> round(float(cox_batch(time, np.ones((1, 6), dtype=bool), arm).value[0]), 3)
    -0.632
    """
    _require(time, event, columns)
    data = _sort(time, event)
    centred = columns - columns.mean(axis=1, keepdims=True)
    scale = np.where(centred.std(axis=1) > 0, centred.std(axis=1), 1.0)
    x = np.take_along_axis(centred / scale[:, None, :], data.order[..., None], axis=1)
    trials, _, p = x.shape
    beta, done, lost = np.zeros((trials, p)), np.zeros(trials, dtype=bool), np.zeros(trials, dtype=bool)
    for _ in range(_STEPS):
        gradient, inverse, bad = _point(x, data, beta)
        lost |= bad
        step = np.matmul(inverse, gradient[..., None])[..., 0]
        beta = np.where((done | lost)[:, None], beta, beta + np.clip(step, -2.0, 2.0))
        done |= np.abs(step).max(axis=1) < _CLOSE
        lost |= np.abs(beta).max(axis=1) > _FAR
        if (done | lost).all():
            break
    _, inverse, bad = _point(x, data, beta)
    good = done & ~lost & ~bad
    square = inverse[:, place, place] / scale[:, place] ** 2
    se = np.sqrt(np.where(good, square, np.nan))
    value = beta[:, place] / scale[:, place]
    return BatchEstimate(np.where(good, value, np.nan), se, np.where(good, np.inf, np.nan))


def _point(
    x: Float[np.ndarray, "trial row column"], data: _Sorted, beta: Float[np.ndarray, "trial column"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return gradient, inverse information, and where there is none."""
    p = x.shape[2]
    risk = np.exp(np.clip(np.matmul(x, beta[..., None])[..., 0], -50.0, 50.0))
    s0 = _of(_from_end(risk), data.first)
    means = np.stack([_of(_from_end(risk * x[..., j]), data.first) / s0 for j in range(p)], axis=2)
    gradient = (data.event[..., None] * (x - means)).sum(axis=1)
    information = np.empty((len(x), p, p))
    for j in range(p):
        for k in range(j, p):
            second = _of(_from_end(risk * x[..., j] * x[..., k]), data.first) / s0
            information[:, j, k] = (data.event * (second - means[..., j] * means[..., k])).sum(axis=1)
            information[:, k, j] = information[:, j, k]
    lowest = np.linalg.eigvalsh(information)[:, 0]
    bad = ~(lowest > 1e-9 * np.maximum(np.einsum("tii->t", information), 1.0))
    information[bad] = np.eye(p)
    return gradient, np.linalg.inv(information), bad


def _sort(time: Float[np.ndarray, "trial row"], event: Bool[np.ndarray, "trial row"]) -> _Sorted:
    order = np.argsort(time, axis=1, kind="stable")
    sorted_time = np.take_along_axis(time, order, axis=1)
    fresh = np.diff(sorted_time, axis=1, prepend=-1.0) > 0
    first = np.maximum.accumulate(np.where(fresh, np.arange(time.shape[1]), 0), axis=1)
    return _Sorted(order, np.take_along_axis(event, order, axis=1).astype(float), first)


def _tied(data: _Sorted) -> Float[np.ndarray, "trial row"]:
    """Return how many events share the time of each patient."""
    n = data.first.shape[1]
    rows = np.arange(len(data.first))[:, None] * n + data.first
    counts = np.bincount(rows.ravel(), weights=data.event.ravel(), minlength=rows.size)
    return counts[rows]


def _from_end(values: Float[np.ndarray, "trial row"]) -> Float[np.ndarray, "trial row"]:
    return np.cumsum(values[:, ::-1], axis=1)[:, ::-1]


def _of(values: Float[np.ndarray, "trial row"], first: Int[np.ndarray, "trial row"]) -> Float[np.ndarray, "trial row"]:
    return np.take_along_axis(values, first, axis=1)


def _require(time: np.ndarray, event: np.ndarray, columns: np.ndarray) -> None:
    if event.shape != time.shape or columns.shape[:2] != time.shape:
        raise DataError(
            f"times of shape {time.shape}, events of {event.shape} and columns of {columns.shape} do not belong "
            "together",
            do="give [trial, row], [trial, row] and [trial, row, column]",
        )
    if not (np.isfinite(time) & (time >= 0)).all():
        raise DataError("a time to the event is negative or missing", do="give days at risk, 0 or more")
