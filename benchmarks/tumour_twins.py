"""Twins of tumour growth for the benchmark: each patient's daily relative change is linear in what an arm is told.

All arms learn a population of coefficients (a mixture of normals, for each kind of patient) from the training patients
by ``trialtwin.infer.hierarchical_linear``, and forecast a test patient by the posterior mean of volumes given what is
known of him. They differ in the columns only:

- **known**: log(K/V), the chemotherapy concentration (dose and half-life told), radiotherapy;
- **misspecified**: 1 − V/K (logistic instead of Gompertz), concentration, radiotherapy, and a learned residual of each
  patient, quadratic in log V;
- **logistic**: the same without the residual, to see what the residual is worth;
- **none**: 1, log V, its square, and chemo- and radiotherapy given on this and the days before, a week back.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.stats import qmc
from tumour_simulator import CAPACITY, DEATH, STEPS, Courses, Plans

from trialtwin.infer.hierarchical_linear import (
    LinearUnits,
    MixturePopulation,
    draw_units,
    fit_population,
    infer_units,
    summarise_rows,
)

SMALLEST = 1e-13
CURED = 20 / 5.8e8  # the volume of twenty cells: no tumour that recovered was larger
DRAWS = 32  # points of a Sobol sequence; with 256 the errors are the same to half a per cent
CHUNK = 8  # courses at a time
MEMORY = 24  # days of treatment before a forecast that still act in it
KINDS = (1, 2, 3)


@dataclass(frozen=True)
class Arm:
    """What an arm is told (columns from the volume, and from actions up to this day), and how it is fitted."""

    volume: Callable[[np.ndarray], np.ndarray]
    actions: Callable[[np.ndarray, np.ndarray], np.ndarray]
    components: int
    tolerance: float


def _log(volume: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(volume, SMALLEST))


def gompertz(volume: np.ndarray) -> np.ndarray:
    """Return log(K/V) as one column."""
    return (np.log(CAPACITY) - _log(volume))[..., None]


def logistic(volume: np.ndarray) -> np.ndarray:
    """Return 1 − V/K as one column."""
    return (1 - volume / CAPACITY)[..., None]


def logistic_and_residual(volume: np.ndarray) -> np.ndarray:
    """Return 1 − V/K, and the residual's columns: log V and its square, scaled."""
    scaled = _log(volume) / 5
    return np.stack([1 - volume / CAPACITY, scaled, scaled**2], axis=-1)


def plain_volume(volume: np.ndarray) -> np.ndarray:
    """Return 1, log V and its square, scaled."""
    scaled = _log(volume) / 5
    return np.stack([np.ones_like(scaled), scaled, scaled**2], axis=-1)


def concentration_and_dose(chemo: np.ndarray, radio: np.ndarray) -> np.ndarray:
    """Return the concentration (5 a dose, half-life a day) in tens, and radiotherapy, for actions of shape (…, day)."""
    level = np.zeros_like(chemo, dtype=float)
    before = np.zeros(chemo.shape[:-1])
    for t in range(chemo.shape[-1]):
        before = before / 2 + 0.5 * chemo[..., t]
        level[..., t] = before
    return np.stack([level, radio.astype(float)], axis=-1)


def lagged(chemo: np.ndarray, radio: np.ndarray) -> np.ndarray:
    """Return chemotherapy of this day and the six before, and radiotherapy of this day and the one before."""
    columns = [_lag(chemo, k) for k in range(7)] + [_lag(radio, k) for k in range(2)]
    return np.stack(columns, axis=-1)


def _lag(actions: np.ndarray, days: int) -> np.ndarray:
    moved = np.zeros(actions.shape)
    moved[..., days:] = actions[..., : actions.shape[-1] - days]
    return moved


ARMS: dict[str, Arm] = {
    "known": Arm(gompertz, concentration_and_dose, components=6, tolerance=1e-4),
    "misspecified": Arm(logistic_and_residual, concentration_and_dose, components=4, tolerance=1e-4),
    "logistic": Arm(logistic, concentration_and_dose, components=6, tolerance=1e-4),
    "none": Arm(plain_volume, lagged, components=4, tolerance=1e-3),
}


def learn(arm: Arm, courses: Courses) -> dict[int, MixturePopulation]:
    """Return a population for each kind of patient."""
    units = rows_of_courses(arm, courses)
    found = {}
    for kind in KINDS:
        of = courses.kind == kind
        chosen = LinearUnits(*(getattr(units, name)[of] for name in LinearUnits.__annotations__))
        found[kind] = fit_population(chosen, components=arm.components, seed=kind, tolerance=arm.tolerance)
    return found


def rows_of_courses(arm: Arm, courses: Courses) -> LinearUnits:
    """Return rows V[t+1]/V[t] − 1; a day on which a course was cut (death, recovery) is known by its bound only."""
    x, y = _rows(arm, courses)
    day = np.arange(STEPS - 1)
    y = np.where(day < courses.last[:, None], y, np.nan)
    cut = courses.died | courses.recovered
    each, final = np.arange(len(y)), courses.last - 1
    bounded = np.where(cut[:, None], x[each, final], 0.0)
    lower = np.where(courses.died, DEATH / courses.volume[each, final] - 1, -np.inf)
    upper = np.where(courses.recovered, CURED / courses.volume[each, final] - 1, np.inf)
    y[each[cut], final[cut]] = np.nan
    return summarise_rows(x, y, bounded, lower, upper)


def _rows(arm: Arm, courses: Courses) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and relative changes of every day but the last."""
    now, after = courses.volume[:, :-1], courses.volume[:, 1:]
    x = np.concatenate([arm.volume(now), arm.actions(courses.chemo, courses.radio)[:, :-1]], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return x, after / now - 1


def histories(arm: Arm, courses: Courses, course: np.ndarray, day: np.ndarray) -> LinearUnits:
    """Return what is known of a course on a day: V[0..day] and actions before ``day``."""
    x, y = _rows(arm, courses)
    inside = np.arange(STEPS - 1) < courses.last[:, None] - 1
    x, y = np.where(inside[..., None], x, 0.0), np.where(inside, y, 0.0)
    gram = np.zeros((len(y), STEPS, x.shape[2], x.shape[2]))
    gram[:, 1:] = np.cumsum(x[..., :, None] * x[..., None, :], axis=1)
    moment = np.zeros((len(y), STEPS, x.shape[2]))
    moment[:, 1:] = np.cumsum(x * y[..., None], axis=1)
    square = np.zeros((len(y), STEPS))
    square[:, 1:] = np.cumsum(y**2, axis=1)
    none, edge = np.zeros((len(course), x.shape[2])), np.full(len(course), np.inf)
    known = (gram[course, day], moment[course, day], square[course, day], day.astype(float))
    return LinearUnits(*known, bounded=none, lower=-edge, upper=edge)


def forecast(arm: Arm, populations: dict[int, MixturePopulation], courses: Courses, plans: Plans) -> np.ndarray:
    """Return the expected volume at every question, shape (question, step)."""
    predicted = np.empty(plans.truth.shape)
    order = np.argsort(plans.course, kind="stable")
    edges = np.searchsorted(plans.course[order], np.arange(len(courses.kind) + 1))
    for kind in KINDS:
        of_kind = np.flatnonzero(courses.kind == kind)
        for begin in range(0, len(of_kind), CHUNK):
            some = of_kind[begin : begin + CHUNK]
            asked = np.concatenate([order[edges[c] : edges[c + 1]] for c in some])
            predicted[asked] = _answer(arm, populations[kind], _some(courses, some), _of(plans, asked, some))
    return predicted


def _some(courses: Courses, index: np.ndarray) -> Courses:
    """Return some of the courses."""
    return Courses(*(getattr(courses, name)[index] for name in Courses.__annotations__))


def _of(plans: Plans, asked: np.ndarray, some: np.ndarray) -> Plans:
    """Return some of the questions, courses counted within ``some``."""
    course = np.searchsorted(some, plans.course[asked])
    return Plans(course, plans.day[asked], plans.chemo[asked], plans.radio[asked], plans.truth[asked])


def _answer(arm: Arm, population: MixturePopulation, courses: Courses, plans: Plans) -> np.ndarray:
    """Return expected volumes of the questions of a few courses of one kind."""
    keys, where = np.unique(plans.course * STEPS + plans.day, return_inverse=True)
    posterior = infer_units(population, histories(arm, courses, keys // STEPS, keys % STEPS))
    volume = courses.volume[plans.course, plans.day]
    columns = _plan_columns(arm, courses, plans)
    if plans.truth.shape[1] == 1:
        x = np.concatenate([arm.volume(volume), columns[:, 0]], axis=-1)
        return (volume * (1 + np.einsum("qc,qc->q", x, posterior.expected[where])))[:, None]
    p = population.means.shape[1]
    points = qmc.Sobol(p + 2, rng=np.random.default_rng(0)).random(DRAWS)
    normals = stats.norm.ppf(points[:, 1:])
    theta = draw_units(posterior, points[:, 0], normals[:, :p])[where]
    pushed = theta[..., p - columns.shape[-1] :] @ columns.transpose(0, 2, 1)
    own = theta[..., : p - columns.shape[-1]]
    answer = np.empty(plans.truth.shape)
    now = np.broadcast_to(volume[:, None], theta.shape[:2])
    for j in range(plans.truth.shape[1] + 1):
        growth = 1 + np.einsum("qsc,qsc->qs", arm.volume(now), own) + pushed[..., j]
        if j == 0:  # the day that follows the factual action is part of a recorded course, which is cut at its edges
            now = np.clip(now * (growth + population.noise * normals[:, p]), 0.0, DEATH)
        else:
            now = now * growth
            answer[:, j - 1] = now.mean(-1)
    return answer


def _plan_columns(arm: Arm, courses: Courses, plans: Plans) -> np.ndarray:
    """Return the columns of actions of the days that are forecast, shape (question, day, column)."""
    count = plans.chemo.shape[1]
    days = plans.day[:, None] - np.arange(MEMORY - 1, -1, -1)
    given = []
    for factual, plan in ((courses.chemo, plans.chemo), (courses.radio, plans.radio)):
        before = np.where(days >= 0, factual[plans.course[:, None], np.maximum(days, 0)], 0.0)
        given.append(np.concatenate([before[:, :-1] if count == 1 else before, plan], axis=1))
    forecast_days = 1 if count == 1 else count + 1
    return arm.actions(*given)[:, -forecast_days:]
