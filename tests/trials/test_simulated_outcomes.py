"""Responses, counts and times to events: their laws, their true values, and methods that hit them."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.trials.design import Design
from trialtwin.trials.enrol import Truth
from trialtwin.trials.methods import METHODS
from trialtwin.trials.operating import Cell, Characteristic, operating_characteristics
from trialtwin.trials.simulate import simulate
from trialtwin.trials.simulated_outcomes import DAYS_PER_YEAR, Pieces, cumulative, inverse
from trialtwin.trials.truth import true_value
from trialtwin.trials.virtual_population import Normal, Prognosis

RISK = Prognosis(np.array([-0.5]), 1.0, rho=0.7)
RATE = Prognosis(np.array([np.log(2.0)]), 0.5, dispersion=0.4, rho=0.7)
HAZARD = Prognosis(np.log(np.array([0.5, 1.0])), 0.8, np.array([100.0]), rho=0.7)
EFFECT, NOTHING = Truth("an effect", (-0.5,)), Truth("no effect", (0.0,))
STOP: dict[str, Any] = {"event": "stop", "does": "stop", "chance": {"B": 0.5}, "strategy": "treatment policy"}


def design(kind: str, *events: dict[str, Any], endpoint: dict[str, Any] | None = None, **changes: Any) -> Design:
    base: dict[str, Any] = {
        "title": "B against A",
        "patients": 200,
        "visits": [0, 365],
        "arms": [{"name": "A"}, {"name": "B"}],
        "endpoint": {"name": "relapse", "better": "lower", "kind": kind} | (endpoint or {}),
        "intercurrent": list(events),
    }
    return Design(**(base | changes))


def test_the_cumulative_hazard_and_its_inverse() -> None:
    """0.01 a day for 100 days, then 0.03."""
    pieces = Pieces(np.array([[0.0, 100.0, 200.0]] * 3), np.array([[0.01, 0.03]] * 3))
    np.testing.assert_allclose(cumulative(pieces, np.array([50.0, 150.0, 200.0])), [0.5, 2.5, 4.0])
    np.testing.assert_allclose(inverse(pieces, np.array([0.5, 2.5, 4.1])), [50.0, 150.0, np.inf])


def test_law_responses_have_the_logit_asked_for() -> None:
    """40,000 patients: the share in each arm against the mean of its risks, within 4 standard errors."""
    found = simulate(design("binary"), RISK, EFFECT, trials=range(200), seed=1)
    z = np.random.default_rng(0).standard_normal(400_000)
    for arm in (0, 1):
        y = found.outcome[found.arm == arm]
        expected = expit(-0.5 + z - 0.5 * arm).mean()
        assert abs(y.mean() - expected) < 4 * np.sqrt(0.25 / len(y))
    assert np.corrcoef(found.score.ravel(), found.outcome.ravel())[0, 1] > 0.2


def test_law_counts_have_mean_and_variance_of_a_negative_binomial() -> None:
    """No prognosis: mean 2, variance 2 + 0.4 · 4, in 40,000."""
    flat = Prognosis(np.array([np.log(2.0)]), dispersion=0.4)
    found = simulate(design("count"), flat, NOTHING, trials=range(200), seed=1).outcome.ravel()
    year = 365 / DAYS_PER_YEAR
    assert abs(found.mean() - 2 * year) < 4 * np.sqrt(3.6 / len(found))
    assert found.var() == pytest.approx(2 * year + 0.4 * (2 * year) ** 2, rel=0.05)


def test_law_times_have_the_hazard_asked_for() -> None:
    """Pieces of 0.5 and 1 a year, an effect of −0.7 from day 200 on: survival at three days within 4 errors."""
    people = Prognosis(np.log(np.array([0.5, 1.0])), 0.0, np.array([100.0]))
    delayed = Truth("late", (-0.7,), cuts=(200.0,), shares=(0.0, 1.0))
    found = simulate(design("time to event"), people, delayed, trials=range(200), seed=1)
    for arm, late in ((0, 1.0), (1, np.exp(-0.7))):
        time = np.where(found.outcome == 1, found.exposure, np.inf)[found.arm == arm]
        for day, total in ((100, 50.0), (200, 150.0), (300, 150 + 100 * late)):
            expected = np.exp(-total / DAYS_PER_YEAR)
            assert abs((time > day).mean() - expected) < 4 * np.sqrt(0.25 / len(time)), (arm, day)


def test_an_analysis_at_a_number_of_events_has_that_many() -> None:
    plan = design("time to event", endpoint={"events": 60}, accrual=15)
    found = simulate(plan, HAZARD, EFFECT, trials=range(20), seed=1)
    assert (found.outcome.sum(axis=1) == 60).all()
    cut = (found.entered + found.exposure).max(axis=1)
    assert (found.exposure[found.entered > cut[:, None]] == 0).all()
    few = design("time to event", endpoint={"events": 199})
    ended = simulate(few, HAZARD, EFFECT, trials=range(3), seed=1)
    assert (ended.outcome.sum(axis=1) < 199).all()
    assert ended.exposure.max() == 365


@pytest.mark.parametrize(
    ("strategy", "days", "outcome"), [("hypothetical", True, 0.0), ("treatment policy", False, None)]
)
def test_a_hypothetical_strategy_ends_follow_up(strategy: str, days: bool, outcome: float | None) -> None:
    plan = design("time to event", STOP | {"strategy": strategy, "chance": {"A": 0.6, "B": 0.6}})
    found = simulate(plan, HAZARD, NOTHING, trials=range(5), seed=1)
    had = np.isfinite(found.events[..., 0])
    assert had.any()
    np.testing.assert_array_equal((found.exposure == found.events[..., 0])[had].all(), days)
    if outcome is not None:
        assert (found.outcome[had] == outcome).all()


def test_a_composite_event_is_one_of_the_endpoint() -> None:
    death = {"event": "death", "does": "death", "chance": {"A": 0.4, "B": 0.4}, "strategy": "composite"}
    found = simulate(design("time to event", death), HAZARD, NOTHING, trials=range(5), seed=1)
    had = np.isfinite(found.events[..., 0])
    assert (found.outcome[had] == 1).all()
    np.testing.assert_allclose(found.exposure[had], found.events[..., 0][had])
    died = simulate(design("binary", death | {"value": 1}), RISK, NOTHING, trials=range(5), seed=1)
    assert (died.outcome[np.isfinite(died.events[..., 0])] == 1).all()


def test_true_values_by_formula_are_those_of_potential_outcomes() -> None:
    """An event that nobody has makes the formula give way to 200,000 patients."""
    nobody = STOP | {"chance": {"B": 0.0}}
    truth = Truth("mixed", (-0.5,), heterogeneity=0.4, by_score=0.2)
    for kind, people in (("binary", RISK), ("count", RATE)):
        exact = true_value(design(kind), people, truth, 1)
        drawn = true_value(design(kind, nobody), people, truth, 1, seed=3)
        assert exact.se == 0
        assert abs(exact.value - drawn.value) < 4 * drawn.se, kind
    even = Prognosis(np.log(np.array([0.7])))
    plan = design("time to event", nobody, endpoint={"events": 80}, accrual=20)
    drawn = true_value(plan, even, EFFECT, 1, seed=3)
    assert true_value(design("time to event"), even, EFFECT, 1).value == -0.5
    assert abs(drawn.value + 0.5) < 4 * drawn.se
    assert drawn.se < 0.01


def test_the_marginal_hazard_ratio_is_nearer_to_one_than_that_given_prognosis() -> None:
    found = true_value(design("time to event"), HAZARD, EFFECT, 1)
    assert -0.5 < found.value < -0.35
    assert not found.common
    assert true_value(design("time to event"), HAZARD, NOTHING, 1).null


CASES: dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]] = {
    "binary": (RISK, {}, ("proportions", "procova logistic")),
    "count": (RATE, {}, ("rates", "procova rates")),
    "time to event": (HAZARD, {"endpoint": {"events": 90}, "accrual": 30}, ("log-rank", "cox", "procova cox")),
}


def rows(
    kind: str, truth: Truth, methods: tuple[str, ...], trials: int, *events: dict[str, Any], **changes: Any
) -> dict[str, Characteristic]:
    people, more, _ = CASES[kind]
    cell = Cell("a", design(kind, *events, **(more | changes)), people, truth)
    return {row.method: row for row in operating_characteristics([cell], methods, trials=trials, seed=9)}


def check(row: Characteristic, trials: int) -> None:
    error = np.sqrt(0.05 * 0.95 / trials)
    assert row.failed == 0
    if row.null:
        assert abs(row.rejected - 0.05) < 4 * error, row
    if row.bias is not None:
        assert row.bias_se is not None
        assert abs(row.bias) < 4 * row.bias_se, row
        assert row.coverage is not None
        assert abs(row.coverage - 0.95) < 4 * error, row


def check_endpoints(trials: int) -> None:
    """Level, bias and coverage with and without an effect, some leaving at random; and what a score buys."""
    for kind, (_, _, methods) in CASES.items():
        for truth in (NOTHING, EFFECT):
            found = rows(kind, truth, methods, trials, leaving={"dropout": {"A": 0.1, "B": 0.1}})
            for row in found.values():
                check(row, trials)
            if truth is EFFECT:
                first, last = (found[methods[0]], found[methods[-1]])
                assert last.rejected > first.rejected + 0.02, kind


def test_law_methods_keep_level_and_hit_marginal_values() -> None:
    """500 trials a case."""
    check_endpoints(500)


@pytest.mark.slow
def test_law_methods_keep_level_and_hit_marginal_values_in_10000_trials() -> None:
    check_endpoints(10_000)


def check_adjusted_survival(trials: int) -> None:
    """Hold the adjusted log-rank to its level, and its hazard ratio to the marginal one, with a smaller error."""
    methods = ("cox", "procova log-rank", "procova hazard ratio")
    for truth in (NOTHING, EFFECT):
        found = rows("time to event", truth, methods, trials)
        for row in found.values():
            check(row, trials)
        assert found["procova hazard ratio"].model_se < 0.95 * found["cox"].model_se
    assert found["procova log-rank"].bias is None


def test_law_an_adjusted_hazard_ratio_is_the_marginal_one() -> None:
    check_adjusted_survival(120)


@pytest.mark.slow
def test_law_an_adjusted_hazard_ratio_is_the_marginal_one_in_5000_trials() -> None:
    check_adjusted_survival(5000)


def test_law_events_are_handled_by_their_strategies() -> None:
    """400 trials a case; half of the treated stop, the worse no sooner, so that follow-up ends at random."""
    death = {"event": "death", "does": "death", "chance": {"A": 0.3, "B": 0.2}}
    cases = {
        "binary": [STOP, death | {"strategy": "composite", "value": 1}],
        "count": [STOP, death | {"strategy": "while on treatment"}],
        "time to event": [STOP, death | {"strategy": "composite"}],
    }
    for kind, events in cases.items():
        for row in rows(kind, EFFECT, CASES[kind][2][:2], 400, *events).values():
            check(row, 400)
            assert row.truth_se is None or row.truth_se > 0


def test_law_a_responder_is_a_change_beyond_its_threshold() -> None:
    """400 trials: g-computation hits the difference in risks of potential outcomes."""
    people = Normal(np.array([20.0, 23.0]), np.array([[25.0, 18.0], [18.0, 49.0]]), rho=0.6)
    plan = design("responder", STOP, endpoint={"threshold": 0.0})
    cell = Cell("a", plan, people, Truth("an effect", (-3.0,)))
    found = operating_characteristics([cell], ["proportions", "logistic", "procova logistic"], trials=400, seed=2)
    for row in found:
        check(row, 400)
    assert found[0].truth is not None
    assert found[0].truth > 0.1
    assert found[2].model_se < found[1].model_se < found[0].model_se


def test_every_method_is_for_an_endpoint_and_says_what_it_does() -> None:
    assert all(method.analyse.__doc__ for method in METHODS.values())
    kinds = {kind for method in METHODS.values() for kind in method.endpoints}
    assert kinds == {"continuous", "responder", "binary", "count", "time to event"}


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(MismatchError, match="'ancova' does not analyse a count endpoint") as caught:
        rows("count", EFFECT, ("ancova",), 10)
    assert caught.value.exists == ("rates", "procova rates")
    courses = Normal(np.array([20.0, 22.0]), np.array([[9.0, 6.0], [6.0, 12.0]]))
    with pytest.raises(ConfigError, match="a count endpoint of patients who come as courses"):
        simulate(design("count"), courses, EFFECT, trials=range(1), seed=1)
    for wrong, words in (
        ({"dispersion": -1.0}, "a negative variance"),
        ({"cuts": np.array([10.0])}, "1 hazards for 1 cuts"),
        ({"rho": 2.0}, "a correlation of 2"),
    ):
        with pytest.raises(ConfigError, match=words):
            Prognosis(np.zeros(1), **wrong)
