"""Simulated trials: the laws that they were asked to follow, and streams that do not depend on company."""

from typing import Any

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.variables import Variable
from trialtwin.trials.design import Design
from trialtwin.trials.enrol import Truth
from trialtwin.trials.simulate import simulate
from trialtwin.trials.virtual_population import Forecast, Normal, of_forecast

MEAN = np.array([20.0, 21.0, 23.0])
COVARIANCE = np.array([[25.0, 20.0, 18.0], [20.0, 36.0, 30.0], [18.0, 30.0, 49.0]])
NOTHING = Truth("no effect", (0.0,))


def design(**changes: Any) -> Design:
    base: dict[str, Any] = {
        "title": "B against A",
        "patients": 200,
        "visits": [0, 84, 168],
        "arms": [{"name": "A"}, {"name": "B"}],
        "endpoint": {"name": "change", "better": "lower"},
    }
    return Design(**(base | changes))


def people(**changes: Any) -> Normal:
    return Normal(MEAN, COVARIANCE, **changes)


def test_a_trial_is_the_same_whatever_is_simulated_beside_it() -> None:
    plan = design(leaving={"dropout": {"A": 0.2, "B": 0.3}, "missed": 0.1}, accrual=10)
    whole = simulate(plan, people(), NOTHING, trials=range(6), seed=3, cell=2)
    part = simulate(plan, people(), NOTHING, trials=range(4, 6), seed=3, cell=2)
    for first, second in zip(whole, part, strict=True):
        np.testing.assert_array_equal(first[4:], second)
    other = simulate(plan, people(), NOTHING, trials=range(6), seed=3, cell=1)
    assert (other.score != whole.score).all()


def test_law_courses_and_scores_have_the_moments_asked_for() -> None:
    """80,000 patients: means within 5 standard errors, correlation of score and change within 0.02."""
    found = simulate(design(), people(rho=0.6, drift=2.0, scale=0.5), NOTHING, trials=range(400), seed=1)
    values = found.values.reshape(-1, 3)
    assert (np.abs(values.mean(axis=0) - MEAN) < 5 * np.sqrt(np.diag(COVARIANCE) / len(values))).all()
    np.testing.assert_allclose(np.cov(values.T), COVARIANCE, rtol=0.03)
    assert np.corrcoef(found.score.ravel(), found.change.ravel())[0, 1] == pytest.approx(0.6, abs=0.02)
    sd = np.sqrt(COVARIANCE[2, 2] + COVARIANCE[0, 0] - 2 * COVARIANCE[0, 2])
    assert found.score.mean() == pytest.approx(3.0 + 2.0, abs=5 * 0.5 * sd / np.sqrt(len(values)))
    assert found.score.std() == pytest.approx(0.5 * sd, rel=0.02)


def test_blocks_balance_arms_and_simple_randomisation_does_not_always() -> None:
    blocked = simulate(design(randomisation={"block": 4}), people(), NOTHING, trials=range(20), seed=1).arm
    assert (blocked.reshape(20, -1, 4).sum(axis=2) == 2).all()
    simple = simulate(design(randomisation={"scheme": "simple"}), people(), NOTHING, trials=range(50), seed=1).arm
    assert simple.sum(axis=1).std() == pytest.approx(np.sqrt(50), rel=0.35)
    uneven = design(arms=[{"name": "A"}, {"name": "B", "share": 3}], randomisation={"block": 8})
    assert simulate(uneven, people(), NOTHING, trials=range(3), seed=1).arm.mean() == pytest.approx(0.75)


def test_blocks_balance_arms_within_strata_of_baseline() -> None:
    strata = {"of": "baseline", "cuts": [18.0, 22.0]}
    found = simulate(design(randomisation={"block": 4, "strata": strata}), people(), NOTHING, trials=range(10), seed=1)
    np.testing.assert_array_equal(found.stratum, np.digitize(found.values[..., 0], [18.0, 22.0]))
    for stratum in range(3):
        arms = np.where(found.stratum == stratum, 2 * found.arm - 1, 0).sum(axis=1)
        assert (np.abs(arms) <= 2).all()
    assert not simulate(design(), people(), NOTHING, trials=range(2), seed=1).stratum.any()


def test_days_of_leaving_and_stopping_are_those_of_the_values() -> None:
    """A value after the day of leaving is missing; one after a stop is measured, and set aside where asked."""
    stop = {"event": "stop", "does": "stop", "chance": {"B": 0.5}, "strategy": "hypothetical"}
    plan = design(intercurrent=[stop], leaving={"dropout": {"A": 0.3, "B": 0.3}})
    found = simulate(plan, people(), NOTHING, trials=range(5), seed=1)
    days = np.array([0.0, 84.0, 168.0])
    np.testing.assert_array_equal(np.isnan(found.measured), days > found.left[..., None])
    stopped = days > found.events
    np.testing.assert_array_equal(np.isnan(found.values), np.isnan(found.measured) | stopped)
    happened = np.isfinite(found.events[..., 0])
    assert happened.any()
    assert not happened[found.arm == 0].any()
    assert (found.events[..., 0][happened] < found.left[happened]).all()


def test_law_as_many_leave_as_was_said_and_the_worse_leave_sooner() -> None:
    """20,000 a arm: shares within 1.5 points; with no state effect they do not depend on the last value."""
    plan = design(leaving={"dropout": {"A": 0.15, "B": 0.30}})
    found = simulate(plan, people(), NOTHING, trials=range(200), seed=2)
    left = np.isnan(found.values[..., -1])
    assert [left[found.arm == a].mean() for a in (0, 1)] == pytest.approx([0.15, 0.30], abs=0.015)
    state = design(leaving={"dropout": {"A": 0.2, "B": 0.2}, "dropout_by_state": 0.8})
    found = simulate(state, people(), NOTHING, trials=range(100), seed=2)
    early = np.isnan(found.values[..., 1])
    assert found.values[..., 0][early].mean() > found.values[..., 0][~early].mean() + 2.0
    assert np.isnan(found.values[..., 2][early]).all()


def test_missed_visits_come_back_and_baseline_is_never_missed() -> None:
    found = simulate(design(leaving={"missed": 0.2}), people(), NOTHING, trials=range(50), seed=4)
    assert np.isfinite(found.values[..., 0]).all()
    gone = np.isnan(found.values[..., 1])
    assert gone.mean() == pytest.approx(0.2, abs=0.02)
    assert np.isfinite(found.values[..., 2][gone]).mean() == pytest.approx(0.8, abs=0.04)


def test_a_value_that_nobody_saw_does_not_make_a_patient_leave() -> None:
    """Visit 1 missed by 60 %: whether they leave after it goes with their baseline, and given that not with visit 1."""
    plan = design(leaving={"dropout": {"A": 0.5, "B": 0.5}, "dropout_by_state": 1.5, "missed": 0.6})
    hidden = simulate(plan, people(), NOTHING, trials=range(200), seed=9)
    shown = simulate(design(), people(), NOTHING, trials=range(200), seed=9)  # the same patients, all of them seen
    np.testing.assert_array_equal(hidden.values[..., 0], shown.values[..., 0])
    first = shown.values[..., 1]
    missed = np.isnan(hidden.values[..., 1])
    left = np.isnan(hidden.values[..., 2])
    gaps = []
    for rows in (missed, ~missed):
        base, y = shown.values[..., 0][rows], first[rows]
        rest = y - np.polyval(np.polyfit(base, y, 1), base)
        gaps.append(rest[left[rows]].mean() - rest[~left[rows]].mean())
    assert abs(gaps[0]) < 0.3
    assert gaps[1] > 1.0


def test_a_twins_forecasts_are_a_population() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 8, 3, 1))
    course = Trajectories(
        tuple(f"P{i}" for i in range(8)), (Variable("Y"),), np.array([0.0, 84.0, 168.0]), values, values.mean(axis=0)
    )
    twins = of_forecast(course, "Y")
    assert isinstance(twins, Forecast)
    found = twins.recruit(500, rng)
    whole = values[..., 0].reshape(-1, 3)
    assert all((whole == row).all(axis=1).any() for row in found.course[:20])
    expected = values.mean(axis=0)[:, 2, 0] - values.mean(axis=0)[:, 0, 0]
    assert set(found.score) <= set(expected)
    own = Trajectories(course.ids, course.outcomes, np.tile(course.times, (8, 1)), values, values.mean(axis=0))
    with pytest.raises(DataError, match="times of each patient's own"):
        of_forecast(own, "Y")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rho": 1.2}, "a correlation of 1.2"),
        ({"covariance": -COVARIANCE}, "is no covariance"),
        ({"covariance": np.full((3, 3), 4.0)}, "does not vary"),
    ],
)
def test_a_population_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"mean": MEAN, "covariance": COVARIANCE} | change
    with pytest.raises(ConfigError, match=words):
        Normal(**given)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="the population has 3 visits, the design 2"):
        simulate(design(visits=[0, 84]), people(), NOTHING, trials=range(1), seed=1)
    with pytest.raises(ConfigError, match="has 2 effects for 1 treated arms"):
        simulate(design(), people(), Truth("two", (1.0, 2.0)), trials=range(1), seed=1)
