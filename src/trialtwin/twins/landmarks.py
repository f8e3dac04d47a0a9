"""A patient's history as numbers: what was known at a day, in columns, for models that take a row a question.

A question is a patient, a day up to which the patient is known (the landmark) and a later day to forecast. Learning
from every landmark of every patient, the one before any measurement among them, gives a model that answers whatever the
history (van Houwelingen 2007, doi:10.1111/j.1467-9469.2006.00529.x).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import FitError

SUMMARIES = ("last", "since last", "first", "slope", "count", "mean")
MOST = 8  # landmarks a patient, so that long histories do not outweigh


@dataclass(frozen=True)
class Scaling:
    """What the outcomes are called and how they and time are standardised: as in the cohort learned from."""

    outcomes: tuple[str, ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]
    horizon: float

    @classmethod
    def learn(cls, cohort: Cohort) -> "Scaling":
        """Learn the scaling of the outcomes that were measured after baseline in at least four patients.

        Raises
        ------
        FitError
            If there is no such outcome, or one is the same for all.
        """
        later = cohort.observed & (cohort.times > 0)[..., None]
        followed = [k for k in range(len(cohort.outcomes)) if later[..., k].any(axis=1).sum() >= 4]
        if not followed:
            raise FitError(
                "no outcome was measured after baseline in at least four patients",
                where=f"{len(cohort)} patients, outcomes {', '.join(v.name for v in cohort.outcomes) or 'none'}",
                do="give the twin a cohort with follow-up to learn from",
            )
        centres, scales = [], []
        for k in followed:
            seen = cohort.values[..., k][cohort.observed[..., k]]
            spread = float(np.std(seen))
            if spread < 1e-9 * max(1.0, float(np.max(np.abs(seen)))):
                raise FitError(
                    f"outcome {cohort.outcomes[k].name} is {seen[0]:g} for all patients at all visits",
                    do="leave it out: there is nothing to forecast",
                )
            centres.append(float(np.mean(seen)))
            scales.append(spread)
        seen_ever = cohort.observed[..., followed].any(axis=-1)
        names = tuple(cohort.outcomes[k].name for k in followed)
        return cls(names, tuple(centres), tuple(scales), float(np.max(cohort.times[seen_ever])))


@dataclass(frozen=True, eq=False)
class History:
    """Standardised measurements of patients: values 0 where not measured; time in units of the horizon."""

    times: Float[np.ndarray, "patient visit"]
    values: Float[np.ndarray, "patient visit outcome"]
    known: Bool[np.ndarray, "patient visit outcome"]


def history_of(scaling: Scaling, cohort: Cohort) -> History:
    """Standardise a cohort's measurements of the outcomes that were learned.

    Raises
    ------
    MismatchError
        If the cohort lacks one of the outcomes.
    """
    columns = [cohort.outcome(name) for name in scaling.outcomes]
    known = cohort.observed[..., columns]
    standard = (cohort.values[..., columns] - np.array(scaling.centres)) / np.array(scaling.scales)
    return History(cohort.times / scaling.horizon, np.where(known, standard, 0.0), known)


def summarise(
    history: History, until: Float[np.ndarray, " patient"], at: Float[np.ndarray, " patient"]
) -> Float[np.ndarray, "patient outcome summary"]:
    """Return what is known at one day of each patient, for forecasting another: ``SUMMARIES`` of each outcome.

    NaN where nothing is known; a slope, by least squares over the visits known, takes two different days.
    """
    known = history.known & (history.times <= until[:, None])[..., None]
    count = known.sum(axis=1)
    some = count > 0
    t = np.broadcast_to(history.times[..., None], known.shape)
    last = np.where(known, t, -np.inf).argmax(axis=1)
    first = np.where(known, t, np.inf).argmin(axis=1)

    def pick(array: np.ndarray, index: Int[np.ndarray, "patient outcome"]) -> np.ndarray:
        return np.where(some, np.take_along_axis(array, index[:, None, :], axis=1)[:, 0, :], np.nan)

    share = np.where(some, count, 1)
    mean_t = np.where(known, t, 0.0).sum(axis=1) / share
    mean = np.where(known, history.values, 0.0).sum(axis=1) / share
    apart = np.where(known, t - mean_t[:, None], 0.0)
    spread = (apart**2).sum(axis=1)
    covary = (apart * history.values).sum(axis=1)
    sloped = spread > 1e-9
    slope = np.where(sloped, covary / np.where(sloped, spread, 1.0), np.nan)
    since = at[:, None] - pick(t, last)
    columns = (pick(history.values, last), since, pick(history.values, first), slope, count.astype(float))
    return np.stack([*columns, np.where(some, mean, np.nan)], axis=-1)


@dataclass(frozen=True, eq=False)
class Questions:
    """Rows to learn one outcome from: who, from which landmark, at what time, what was known, what was measured."""

    patient: Int[np.ndarray, " row"]
    landmark: Int[np.ndarray, " row"]
    time: Float[np.ndarray, " row"]
    known: Float[np.ndarray, "row outcome summary"]
    answer: Float[np.ndarray, " row"]


def questions(history: History, outcome: int) -> Questions:
    """Return every question that the history itself answers: each landmark of each patient, each later measurement.

    ``landmark`` counts each patient's own landmarks, 0 being before any measurement. Of more than ``MOST`` visits some
    are passed over, evenly.
    """
    n, visits = history.times.shape
    chosen = np.unique(np.linspace(0, visits - 2, min(visits - 1, MOST)).round().astype(int)).tolist()
    rows = []
    for landmark, visit in enumerate([-1, *chosen]):
        # only who was seen at the visit: elsewhere it is an earlier landmark again
        there = np.ones(n, dtype=bool) if visit < 0 else history.known[:, visit].any(axis=-1)
        until = np.full(n, -np.inf) if visit < 0 else history.times[:, visit]
        for later in range(visits):
            asked = there & history.known[:, later, outcome] & (history.times[:, later] > until)
            who = np.flatnonzero(asked)
            if len(who):
                one = History(history.times[who], history.values[who], history.known[who])
                at = history.times[who, later]
                found = summarise(one, until[who], at)
                rows.append((who, np.full(len(who), landmark), at, found, history.values[who, later, outcome]))
    patient, mark, time, known, answer = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Questions(patient, mark, time, known, answer)
