"""Intercurrent events: what they do, what each strategy makes of them, and estimands that are hit where theory says."""

from typing import Any

import numpy as np
import pytest

from trialtwin.trials.design import Design
from trialtwin.trials.enrol import Truth
from trialtwin.trials.intercurrent import analysed, follow
from trialtwin.trials.operating import Cell, Characteristic, operating_characteristics
from trialtwin.trials.simulate import simulate
from trialtwin.trials.truth import true_value
from trialtwin.trials.virtual_population import Normal

MEAN = np.array([20.0, 21.0, 23.0])
COVARIANCE = np.array([[25.0, 20.0, 18.0], [20.0, 36.0, 30.0], [18.0, 30.0, 49.0]])
PEOPLE = Normal(MEAN, COVARIANCE, rho=0.5)
EFFECT = Truth("an effect", (-4.0,))
STOP: dict[str, Any] = {"event": "stop", "does": "stop", "chance": {"B": 0.5}, "strategy": "treatment policy"}
RESCUE: dict[str, Any] = {
    "event": "rescue",
    "does": "rescue",
    "chance": {"A": 0.5, "B": 0.2},
    "strategy": "treatment policy",
    "effect": -5.0,
    "onset": 30.0,
}
DEATH: dict[str, Any] = {
    "event": "death",
    "does": "death",
    "chance": {"A": 0.3, "B": 0.2},
    "strategy": "composite",
    "value": 15.0,
}


def design(*events: dict[str, Any], **changes: Any) -> Design:
    base: dict[str, Any] = {
        "title": "B against A",
        "patients": 200,
        "visits": [0, 84, 168],
        "arms": [{"name": "A"}, {"name": "B"}],
        "endpoint": {"name": "change", "better": "lower"},
        "intercurrent": list(events),
    }
    return Design(**(base | changes))


def path(plan: Design, waits: list[float], arm: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Follow one patient whose untreated course is flat at 20, with an effect of −4."""
    course = follow(plan, PEOPLE, np.full((1, 3), 20.0), np.array([arm]), np.array([-4.0 * arm]), np.array([waits]))
    return course.values[0], course.events[0]


def test_a_stop_half_way_takes_all_of_the_effect_back_by_the_end() -> None:
    values, events = path(design(STOP), [np.log(2) / 2])
    np.testing.assert_allclose(events, [84.0])
    np.testing.assert_allclose(values, [20.0, 18.0, 20.0], atol=1e-9)
    values, _ = path(design(STOP), [np.log(2) * 1.01])
    np.testing.assert_allclose(values, [20.0, 18.0, 16.0])


def test_rescue_adds_its_effect_by_and_by() -> None:
    """In control, where half have it by the end: a wait of log 2 · 69/168 comes on day 69, half the onset before 84."""
    values, events = path(design(RESCUE), [np.log(2) * 69 / 168], arm=0)
    np.testing.assert_allclose(events, [69.0])
    np.testing.assert_allclose(values, [20.0, 17.5, 15.0])


def test_the_dead_have_no_values_and_no_further_events() -> None:
    """Death on day 42, a stop that would have come on day 126."""
    values, events = path(design(DEATH, STOP), [-np.log(0.8) / 4, np.log(2) * 0.75])
    np.testing.assert_allclose(events, [42.0, np.inf])
    np.testing.assert_array_equal(np.isnan(values), [False, True, True])


def test_law_the_worse_have_an_event_sooner() -> None:
    """Per SD of baseline a log hazard ratio of 1: the share by the first visit against its integral, in 40,000."""
    event = STOP | {"chance": {"A": 0.3}, "by_state": 1.0}
    found = simulate(design(event), PEOPLE, EFFECT, trials=range(400), seed=3)
    control = found.arm == 0
    early = found.events[..., 0][control] < 84
    z = (found.values[..., 0][control] - 20) / 5
    expected = -np.expm1(np.log(0.7) / 2 * np.exp(z))
    assert abs(early.mean() - expected.mean()) < 4 * np.sqrt(expected.mean() / len(z))
    assert z[early].mean() > 0.5


@pytest.mark.parametrize(
    ("strategy", "value", "last"),
    [
        ("treatment policy", None, 26.0),
        ("hypothetical", None, np.nan),
        ("composite", 9.0, 29.0),
        ("while on treatment", None, 23.0),
    ],
)
def test_a_strategy_makes_of_later_values_what_it_says(strategy: str, value: float | None, last: float) -> None:
    """An event on day 100, and one that never came."""
    plan = design(STOP | {"strategy": strategy, "value": value})
    seen = analysed(plan, np.array([[20.0, 23.0, 26.0]] * 2), np.array([[100.0], [np.inf]]))
    np.testing.assert_allclose(seen, [[20.0, 23.0, last], [20.0, 23.0, 26.0]])


def test_the_first_event_with_a_strategy_of_its_own_decides() -> None:
    plan = design(DEATH, STOP | {"strategy": "hypothetical"}, RESCUE)
    values = np.array([[20.0, 23.0, np.nan]] * 2)
    seen = analysed(plan, values, np.array([[120.0, 90.0, 10.0], [120.0, np.inf, 10.0]]))
    np.testing.assert_allclose(seen[:, 2], [np.nan, 35.0])


def test_a_composite_endpoint_is_known_though_the_patient_leaves_later() -> None:
    plan = design(RESCUE | {"strategy": "composite", "value": 12.0}, leaving={"dropout": {"A": 0.6, "B": 0.6}})
    found = simulate(plan, PEOPLE, EFFECT, trials=range(20), seed=1)
    had = np.isfinite(found.events[..., 0])
    later = had & (found.left < 168)
    assert later.any()
    np.testing.assert_allclose(found.change[had], 12.0)
    assert np.isnan(found.change[~had & (found.left < 168)]).all()
    assert np.isnan(found.measured[..., -1][later]).all()


def test_law_the_formula_and_potential_outcomes_agree() -> None:
    """Half stop before the end: exact against 200,000 patients of whom nobody dies of a death that nobody has."""
    plan = design(STOP)
    exact = true_value(plan, PEOPLE, EFFECT, 1)
    assert exact.value == pytest.approx(-4 * 2 / np.log(2) * (0.5**0.5 - 0.5))
    assert exact.se == 0
    found = true_value(design(STOP, DEATH | {"chance": {"A": 0.0}}), PEOPLE, EFFECT, 1, seed=2)
    assert abs(found.value - exact.value) < 4 * found.se
    assert found.se < 0.01
    assert true_value(design(STOP, DEATH | {"chance": {"A": 0.0}}), PEOPLE, EFFECT, 1, seed=2) == found
    assert true_value(design(STOP | {"strategy": "hypothetical"}), PEOPLE, EFFECT, 1).value == -4.0


def rows(name: str, methods: list[str], trials: int, *events: dict[str, Any], **changes: Any) -> list[Characteristic]:
    cell = Cell(name, design(*events, **changes), PEOPLE, EFFECT)
    return operating_characteristics([cell], methods, trials=trials, seed=8)


def check_strategies(trials: int) -> None:
    """Where nobody leaves, differences of means estimate what policy, composite and while-on-treatment ask for."""
    sooner = {"by_state": 0.7}
    cases: dict[str, list[dict[str, Any]]] = {
        "treatment policy": [STOP | sooner, RESCUE | sooner],
        "composite": [DEATH | sooner, STOP],
        "while on treatment": [STOP | sooner | {"strategy": "while on treatment"}],
        "mixed": [DEATH, RESCUE | {"strategy": "composite", "value": 6.0}, STOP | {"strategy": "while on treatment"}],
    }
    for name, events in cases.items():
        for row in rows(name, ["unadjusted", "ancova", "procova"], trials, *events):
            assert abs(row.bias) < 4 * row.bias_se, (name, row)
            assert abs(row.coverage - 0.95) < 4 * np.sqrt(0.05 * 0.95 / trials), (name, row)
            assert row.truth_se > 0


def test_law_estimators_hit_what_each_strategy_asks_for() -> None:
    """300 trials a case."""
    check_strategies(300)


@pytest.mark.slow
def test_law_estimators_hit_what_each_strategy_asks_for_in_5000_trials() -> None:
    check_strategies(5000)


def test_law_a_hypothetical_estimand_needs_a_method_that_holds_at_random() -> None:
    """600 trials, the worse stop far sooner and only in the treated arm: the mixed model holds, completers do not."""
    stop = STOP | {"chance": {"B": 0.6}, "by_state": 1.5, "strategy": "hypothetical"}
    found = {row.method: row for row in rows("a", ["ancova", "mmrm"], 600, stop)}
    assert found["mmrm"].truth == -4.0
    assert abs(found["mmrm"].bias) < 4 * found["mmrm"].bias_se, found["mmrm"]
    assert abs(found["ancova"].bias) > 4 * found["ancova"].bias_se
