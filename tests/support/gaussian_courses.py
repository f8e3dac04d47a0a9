"""Patients whose two outcomes are one Gaussian process with a known kernel, and its exact forecast: an oracle."""

import numpy as np

from trialtwin.core.cohort import Cohort
from trialtwin.core.variables import Variable

DAYS = np.array([0.0, 90.0, 180.0, 270.0, 360.0])
YEAR = 360.0
BETWEEN = np.array([[1.0, -0.7], [-0.7, 1.0]])
LEVEL, SLOPE, WANDER, NOISE = np.array([3.0, 2.0]), np.array([2.0, 1.5]), np.array([1.0, 1.0]), np.array([1.0, 1.5])
LENGTH = 0.3
COVARIATE = np.array([2.0, -1.0])


def mean(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return the mean given the covariate, of shape (patient, time, outcome); s is in years."""
    start, change = np.array([20.0, 50.0]), np.array([3.0, -4.0])
    moved = COVARIATE * x[:, None]
    return (start + moved)[:, None, :] + (change + 0.5 * moved)[:, None, :] * s[..., None]


def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the covariance of two lists of times, time by time and outcome by outcome within, without noise."""
    apart = np.sqrt(3) * np.abs(a[:, None] - b) / LENGTH
    wander = (1 + apart) * np.exp(-apart)

    def term(sd: np.ndarray, over_time: np.ndarray) -> np.ndarray:
        return np.kron(over_time, BETWEEN * np.outer(sd, sd))

    return term(LEVEL, np.ones((len(a), len(b)))) + term(SLOPE, np.outer(a, b)) + term(WANDER, wander)


def courses(seed: int, patients: int, prefix: str = "G", gaps: float = 0.15) -> Cohort:
    """Return patients followed for a year with some measurements missing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=patients)
    times = DAYS + np.where(DAYS > 0, np.round(rng.normal(0, 5, (patients, len(DAYS)))), 0.0)
    values = mean(x, times / YEAR)
    for i, s in enumerate(times / YEAR):
        root = np.linalg.cholesky(kernel(s, s) + 1e-9 * np.eye(2 * len(s)))
        values[i] += (root @ rng.normal(size=2 * len(s))).reshape(len(s), 2)
    values += NOISE * rng.normal(size=values.shape)
    values[rng.random(values.shape) < gaps] = np.nan
    return Cohort(
        ids=tuple(f"{prefix}{i:04d}" for i in range(patients)),
        variables=(Variable("X"),),
        covariates=x[:, None],
        outcomes=(Variable("A"), Variable("B")),
        visits=("Baseline", "Week 13", "Week 26", "Week 39", "Week 52"),
        nominal=DAYS,
        times=times,
        values=values,
        observed=np.isfinite(values),
        treatments=("placebo",),
        received=np.zeros(patients, dtype=np.int64),
    )


def oracle(known: Cohort, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact mean (patient, time, outcome) of measurements at days ``at``, and their covariance."""
    s = at / YEAR
    n, size = len(known), 2 * len(at)
    expected, covariance = np.zeros((n, len(at), 2)), np.zeros((n, size, size))
    x = known.covariates[:, 0]
    noise = np.diag(np.tile(NOISE**2, len(at)))
    for i in range(n):
        t = known.times[i] / YEAR
        seen = known.observed[i].ravel()
        past = (kernel(t, t) + np.diag(np.tile(NOISE**2, len(t))))[np.ix_(seen, seen)]
        cross = kernel(s, t)[:, seen]
        residual = (known.values[i] - mean(x[i : i + 1], t[None])[0]).ravel()[seen]
        gain = np.linalg.solve(past, cross.T).T
        expected[i] = mean(x[i : i + 1], s[None])[0] + (gain @ residual).reshape(len(at), 2)
        covariance[i] = kernel(s, s) + noise - gain @ cross.T
    return expected, covariance
