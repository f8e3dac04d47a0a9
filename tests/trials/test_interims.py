"""Looks at simulated trials: what is known then, which trials stop, and the level over all looks."""

from typing import Any

import numpy as np
import pytest

from trialtwin.stats.sequential import sequential_design
from trialtwin.stats.sequential_spending import Boundary
from trialtwin.trials.design import Design
from trialtwin.trials.enrol import DAYS_PER_MONTH, Truth
from trialtwin.trials.interims import analyse_trials, at_day, boundaries, look_days
from trialtwin.trials.operating import Cell, Characteristic, operating_characteristics
from trialtwin.trials.simulate import simulate
from trialtwin.trials.virtual_population import Normal, Prognosis

PEOPLE = Normal(np.array([20.0, 21.0, 23.0]), np.full((3, 3), 18.0) + np.diag([7.0, 18.0, 31.0]), rho=0.6)
TIMES = Prognosis(np.log(np.array([0.8])), 0.5, rho=0.7)
HALF, THIRDS = [{"fraction": 0.5}], [{"fraction": 1 / 3}, {"fraction": 2 / 3}]
FUTILITY = {"futility": "Hwang-Shih-DeCani", "futility_parameter": -2.0}
EVENTS: dict[str, Any] = {"endpoint": {"name": "relapse", "kind": "time to event", "better": "lower", "events": 60}}


def design(**changes: Any) -> Design:
    base: dict[str, Any] = {
        "title": "B against A",
        "patients": 120,
        "visits": [0, 84, 168],
        "arms": [{"name": "A"}, {"name": "B"}],
        "endpoint": {"name": "change", "better": "lower"},
        "accrual": 10,
    }
    return Design(**(base | changes))


def test_a_look_comes_when_enough_patients_are_through_and_knows_nothing_later() -> None:
    plan = design(interims=HALF, leaving={"dropout": {"A": 0.2, "B": 0.2}})
    found = simulate(plan, PEOPLE, Truth("t", (0.0,)), trials=range(4), seed=1)
    days = look_days(plan, found)
    np.testing.assert_allclose(days[0], found.entered[:, 59] + 168)
    np.testing.assert_allclose(days[1], found.entered[:, -1] + 168)
    seen = at_day(plan, found, days[0])
    through = np.arange(120) < 60
    np.testing.assert_array_equal(np.isfinite(seen.outcome), np.isfinite(found.outcome) & through)
    due = found.entered[..., None] + np.array([84.0, 168.0]) <= days[0][:, None, None]
    np.testing.assert_array_equal(np.isfinite(seen.values[..., 1:]), np.isfinite(found.values[..., 1:]) & due)
    assert (np.isfinite(seen.values[..., 1]) & ~through).any()


def test_a_look_at_events_has_that_many_and_cuts_follow_up_on_its_day() -> None:
    plan = design(interims=HALF, **EVENTS, visits=[0, 730])
    found = simulate(plan, TIMES, Truth("t", (-0.3,)), trials=range(6), seed=1)
    days = look_days(plan, found)
    early = at_day(plan, found, days[0])
    assert (early.outcome.sum(axis=1) == 30).all()
    assert (found.outcome.sum(axis=1) == 60).all()
    inside = early.exposure > 0
    assert (
        (early.entered + early.exposure)[inside] <= np.broadcast_to(days[0][:, None], inside.shape)[inside] + 1e-9
    ).all()
    assert (early.exposure <= found.exposure).all()


def test_boundaries_are_those_of_the_sequential_design() -> None:
    asked = {"efficacy": "Hwang-Shih-DeCani", "parameter": -4.0}
    plan = boundaries(design(interims=THIRDS, boundary=asked))
    wanted = sequential_design(np.array([1, 2, 3]) / 3, Boundary("Hwang-Shih-DeCani", -4.0), sides=2)
    assert plan is not None
    np.testing.assert_allclose(plan.upper, wanted.upper, atol=1e-6)
    one = boundaries(design(interims=THIRDS, boundary=FUTILITY | {"binding": True}))
    assert one is not None
    assert one.sides == 1
    assert one.binding
    assert boundaries(design()) is None


def test_a_trial_ends_at_the_first_boundary_it_crosses() -> None:
    """A large benefit stops early, a large harm early too: for efficacy on both sides, or for futility."""
    plan = design(interims=THIRDS)
    for effect in (-9.0, 9.0):
        found = simulate(plan, PEOPLE, Truth("t", (effect,)), trials=range(40), seed=2)
        ended = analyse_trials(plan, found, ["ancova", "mmrm"])
        assert (ended.rejected == 1).mean() > 0.95
        assert ended.look.mean() < 2.2
        early = ended.look == 1
        assert (ended.day[early] == np.broadcast_to(look_days(plan, found)[0], early.shape)[early]).all()
        assert (ended.size[early] < 120).all()
        assert (ended.size >= 40).all()
    halting = design(interims=THIRDS, boundary=FUTILITY)
    ended = analyse_trials(halting, found, ["ancova"])
    assert (ended.rejected == 0).all()
    assert ended.look.mean() < 1.5


def test_without_looks_a_trial_is_analysed_once_at_its_end() -> None:
    plan = design()
    found = simulate(plan, PEOPLE, Truth("t", (0.0,)), trials=range(5), seed=2)
    ended = analyse_trials(plan, found, ["procova"])
    assert (ended.look == 1).all()
    assert (ended.size == 120).all()
    np.testing.assert_allclose(ended.day[0], found.entered[:, -1] + 168)


def row(effect: float, method: str, trials: int, **changes: Any) -> Characteristic:
    plan = design(**changes)
    people = PEOPLE if plan.endpoint.measured else TIMES
    cell = Cell("a", plan, people, Truth("t", (effect,)))
    return operating_characteristics([cell], [method], trials=trials, seed=6)[0]


def check_level(trials: int) -> None:
    """Hold the level over all looks, and what is spent at each, to 4 Monte-Carlo standard errors.

    HC3 errors of 40 patients are a little large, so that what ``procova`` spends is at most what was planned.
    """
    cases: list[tuple[str, dict[str, Any]]] = [
        ("unadjusted", {"interims": THIRDS}),
        ("procova", {"interims": THIRDS, "boundary": {"efficacy": "Pocock"}}),
        ("unadjusted", {"interims": HALF, "boundary": FUTILITY | {"binding": True}}),
        ("log-rank", {"interims": HALF, "visits": [0, 730], **EVENTS}),
    ]
    for method, changes in cases:
        found, plan = row(0.0, method, trials, **changes), design(**changes)
        bounds = boundaries(plan)
        assert bounds is not None
        exact = method != "procova"
        gap = found.rejected - plan.level
        assert (abs(gap) if exact else gap) < 4 * np.sqrt(plan.level * (1 - plan.level) / trials), (method, changes)
        crossing = bounds.crossing(0.0)
        spent = crossing.upper + (crossing.lower if bounds.sides == 2 else 0.0)
        for share, expected in zip(found.looks, spent, strict=True):
            error = np.sqrt(expected * (1 - expected) / trials)
            gap = share.rejected - expected
            assert (abs(gap) if exact else gap) < 4 * error + 1 / trials, (method, share, expected)


def test_law_looks_keep_the_level_and_spend_it_as_planned() -> None:
    """400 trials a case."""
    check_level(400)


@pytest.mark.slow
def test_law_looks_keep_the_level_and_spend_it_as_planned_in_10000_trials() -> None:
    check_level(10_000)


def test_law_expected_size_and_power_are_those_of_theory() -> None:
    """400 trials at the drift of 90 % power: power and mean information of the walk, within 4 errors and 2 points."""
    changes: dict[str, Any] = {"interims": HALF, "accrual": 10_000, "boundary": {"efficacy": "Pocock"}}
    bounds = boundaries(design(**changes))
    assert bounds is not None
    variance = (25.0 + 49.0 - 2 * 18.0) * 4 / 120
    found = row(-bounds.drift * float(np.sqrt(variance)), "unadjusted", 400, **changes)
    crossing = bounds.crossing(bounds.drift)
    assert abs(found.rejected - 0.9) < 4 * found.rejected_se + 0.02
    early = crossing.upper[0] + crossing.lower[0]
    assert abs(found.looks[0].rejected - early) < 4 * found.looks[0].rejected_se + 0.02
    assert found.size == 120.0  # all enter in a day: nobody is saved
    slow = row(-bounds.drift * float(np.sqrt(variance)), "unadjusted", 200, **(changes | {"accrual": 10}))
    stop = slow.looks[0].rejected
    through = 60 + 168 / DAYS_PER_MONTH * 10
    assert slow.size == pytest.approx(stop * through + (1 - stop) * 120, rel=0.05)
    assert slow.months is not None
    assert slow.months == pytest.approx(stop * 6.0 + (1 - stop) * 12.0 + 168 / DAYS_PER_MONTH, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interims": [{"fraction": 0.6}, {"fraction": 0.4}]}, "information must grow from look to look: 0.6, 0.4, 1"),
        ({"interims": [{"fraction": 1.2}]}, "less than 1"),
        ({"interims": HALF, "accrual": None}, "give accrual"),
        ({"boundary": {"efficacy": "Pocock"}}, "a boundary is for looks"),
        ({"interims": HALF, "boundary": {"efficacy": "magic"}}, "no boundary 'magic'; there are O'Brien-Fleming"),
        ({"interims": HALF, "boundary": {"efficacy": "power"}}, "power needs its parameter ρ"),
        ({"interims": HALF, "boundary": {"binding": True}}, "no futility boundary to be binding"),
        ({"interims": HALF, "boundary": {"futility": "Pocock"}}, "futility is spent by a spending function"),
        (
            {"interims": HALF, "boundary": {"efficacy": "Pocock", "binding": True, **FUTILITY}},
            "needs efficacy that is spent",
        ),
        (
            {"interims": HALF, "endpoint": {"name": "x", "kind": "time to event"}},
            "give endpoint.events",
        ),
        ({"endpoint": {"name": "x", "kind": "time to event", "events": 121}}, "121 events of 120 patients"),
    ],
)
def test_looks_that_cannot_be_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        design(**changes)
