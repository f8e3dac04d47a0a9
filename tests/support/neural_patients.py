"""Patients of known laws for neural twins, made by no model of the house, and scores of forecasts written plainly."""

import numpy as np

from trialtwin.core.cohort import Cohort
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.variables import Kind, Variable


def courses(patients: int, seed: int, *, visits: int = 6, kind: str = "linear", missing: float = 0.1) -> Cohort:
    """Return patients with two outcomes, five covariates and visits up to 10 days off plan.

    ``linear``: lines with normal level and slope that covariates move, the second outcome a noisy copy of the first.
    ``bimodal``: one patient in two, more often with a high X0, progresses fast, the others slowly; X1 acts through a
    sine. ``event``: as linear, the second outcome 1 where the first noisily exceeds its mean.
    """
    rng = np.random.default_rng(seed)
    nominal = np.linspace(0, 1000, visits)
    s, x = nominal / 1000, rng.normal(size=(patients, 5))
    error = rng.normal(size=(patients, visits))
    if kind == "bimodal":
        fast = rng.random((patients, 1)) < 1 / (1 + np.exp(-1.5 * x[:, :1]))
        course = 0.3 * rng.normal(size=(patients, 1)) + np.where(fast, 3 * s, -0.5 * s)
        first = course + 0.8 * np.sin(1.5 * x[:, 1:2]) * s + 0.3 * error
        second = -first + 0.5 * rng.normal(size=first.shape)
    else:
        own = rng.multivariate_normal([0, 0], [[0.6, 0.2], [0.2, 0.3]], patients)
        level, slope = 1 + 0.5 * x[:, :1] + own[:, :1], 1 + 0.4 * x[:, 1:2] + own[:, 1:]
        first = level + slope * s + 0.4 * error
        second = 0.7 * first - 0.5 * s + 0.5 * rng.normal(size=first.shape) + 0.5 * rng.normal(size=(patients, 1))
    values = np.stack([10 + 3 * first, 50 + 10 * second], axis=-1)
    outcome = Variable("B")
    if kind == "event":
        values[..., 1] = first + 0.5 * rng.normal(size=first.shape) > 1.5
        outcome = Variable("B", kind=Kind.BINARY, lower=0.0, upper=1.0)
    values[rng.random(values.shape) < missing] = np.nan
    return Cohort(
        ids=tuple(f"{kind}-{seed}-{i}" for i in range(patients)),
        variables=tuple(Variable(f"X{j}") for j in range(5)),
        covariates=x,
        outcomes=(Variable("A"), outcome),
        visits=tuple(f"V{j}" for j in range(visits)),
        nominal=nominal,
        times=nominal + np.where(nominal > 0, rng.normal(0, 10, (patients, visits)), 0.0),
        values=values,
        observed=np.isfinite(values),
        treatments=("Placebo",),
        received=np.zeros(patients, dtype=np.int64),
    )


def later(patients: Cohort, day: float, outcome: int) -> np.ndarray:
    """Tell which measurements of an outcome came after a day."""
    return patients.observed[..., outcome] & (patients.times > day + 1)


def crps(course: Trajectories, patients: Cohort, day: float) -> np.ndarray:
    """Return the mean continuous ranked probability score of each outcome after a day: E|X − y| − ½ E|X − X'|."""
    found = []
    for k in range(len(course.outcomes)):
        seen = later(patients, day, k)
        y, draws = patients.values[..., k][seen], np.sort(course.values[..., k][:, seen], axis=0)
        m = len(draws)
        rank = 2 * np.arange(1, m + 1)[:, None] - m - 1
        found.append(float((np.abs(draws - y).mean(axis=0) - (rank * draws).sum(axis=0) / m**2).mean()))
    return np.array(found)


def covered(course: Trajectories, patients: Cohort, day: float) -> np.ndarray:
    """Return for each outcome the share of measurements after a day within the central 90 % interval."""
    low, high = course.quantiles([0.05, 0.95])
    inside = (patients.values >= low) & (patients.values <= high)
    return np.array([inside[..., k][later(patients, day, k)].mean() for k in range(len(course.outcomes))])
