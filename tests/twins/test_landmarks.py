"""Histories as rows of numbers, against the same numbers worked out one patient at a time."""

from dataclasses import replace

import numpy as np
import pytest
from gaussian_courses import courses

from trialtwin.core.errors import FitError, MismatchError
from trialtwin.twins.landmarks import Scaling, history_of, questions, summarise

COHORT = courses(3, 12, "L", gaps=0.3)
SCALING = Scaling.learn(COHORT)
HISTORY = history_of(SCALING, COHORT)


def by_hand(i: int, k: int, until: float, at: float) -> list[float]:
    """Return last, since last, first, slope, count and mean of one outcome of one patient."""
    here = COHORT.observed[i, :, k] & (COHORT.times[i] <= until)
    t = COHORT.times[i, here] / SCALING.horizon
    y = (COHORT.values[i, here, k] - SCALING.centres[k]) / SCALING.scales[k]
    if not len(t):
        return [np.nan, np.nan, np.nan, np.nan, 0.0, np.nan]
    slope = np.polyfit(t, y, 1)[0] if len(t) > 1 else np.nan
    return [y[-1], at / SCALING.horizon - t[-1], y[0], slope, float(len(t)), y.mean()]


@pytest.mark.parametrize("day", [-1.0, 0.0, 185.0, 400.0])
def test_summaries_are_those_worked_out_by_hand(day: float) -> None:
    n = len(COHORT)
    found = summarise(HISTORY, np.full(n, day / SCALING.horizon), np.full(n, 500.0 / SCALING.horizon))
    wanted = np.array([[by_hand(i, k, day, 500.0) for k in range(2)] for i in range(n)])
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("outcome", [0, 1])
def test_every_question_is_asked_once_and_none_knows_its_answer(outcome: int) -> None:
    asked = questions(HISTORY, outcome)
    wanted = 0
    for i in range(len(COHORT)):
        seen = COHORT.observed[i]
        wanted += int(seen[:, outcome].sum())
        for v in range(4):
            wanted += int(seen[v].any() * seen[v + 1 :, outcome].sum())
    assert len(asked.answer) == wanted
    keys = set(zip(asked.patient.tolist(), asked.landmark.tolist(), asked.time.tolist(), strict=True))
    assert len(keys) == wanted
    since = asked.known[:, outcome, 1]
    assert (since[np.isfinite(since)] > 0).all()
    place = {(i, t): y for i, t, y in zip(asked.patient.tolist(), asked.time.tolist(), asked.answer, strict=True)}
    for (i, t), y in place.items():
        v = int(np.flatnonzero(np.isclose(HISTORY.times[i], t))[0])
        assert y == HISTORY.values[i, v, outcome]


def test_nothing_to_learn_is_an_error() -> None:
    with pytest.raises(FitError, match="no outcome was measured after baseline"):
        Scaling.learn(COHORT.until(0.0))
    flat = replace(COHORT, values=np.where(COHORT.observed, 3.0, np.nan))
    with pytest.raises(FitError, match="outcome A is 3 for all patients"):
        Scaling.learn(flat)


def test_patients_without_the_outcome_are_refused() -> None:
    other = replace(COHORT, outcomes=(replace(COHORT.outcomes[0], name="Z"), COHORT.outcomes[1]))
    with pytest.raises(MismatchError, match="exists: Z, B"):
        history_of(SCALING, other)
