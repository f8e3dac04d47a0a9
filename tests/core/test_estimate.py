"""Estimates and estimands: JSON there and back, and what an estimate may not hold."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trialtwin.core.estimate import Estimand, Estimate, IntercurrentEvent, Strategy

FINITE = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
EVENTS = st.builds(IntercurrentEvent, event=WORDS, strategy=st.sampled_from(Strategy), note=WORDS)
ESTIMANDS = st.builds(
    Estimand,
    treatment=WORDS,
    population=WORDS,
    variable=WORDS,
    intercurrent_events=st.lists(EVENTS, max_size=3).map(tuple),
    summary=WORDS,
)
BASE = {
    "contrast": "High − Placebo",
    "value": -1.0060,
    "se": 0.8405,
    "lower": -2.66,
    "upper": 0.65,
    "statistic": -1.197,
    "p": 0.233,
    "df": 220.0,
    "n": 234,
    "method": "ANCOVA",
    "variance": "model",
}


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    lower, value, upper = sorted(draw(st.tuples(FINITE, FINITE, FINITE)))
    return Estimate(
        contrast=draw(WORDS),
        value=value,
        se=draw(st.floats(0, allow_infinity=False)),
        lower=lower,
        upper=upper,
        statistic=draw(FINITE),
        p=draw(st.floats(0, 1)),
        df=draw(st.none() | FINITE),
        n=draw(st.integers(1, 2**53)),
        level=draw(st.floats(0, 1, exclude_min=True, exclude_max=True)),
        method=draw(WORDS),
        variance=draw(WORDS),
        unit=draw(WORDS),
        estimand=draw(st.none() | ESTIMANDS),
    )


@settings(deadline=None)
@given(estimates())
def test_an_estimate_goes_to_json_and_back_to_the_last_bit(estimate: Estimate) -> None:
    again = Estimate.model_validate_json(estimate.model_dump_json())
    assert again == estimate
    assert [x.hex() for x in _numbers(again)] == [x.hex() for x in _numbers(estimate)]


def _numbers(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.se, estimate.lower, estimate.upper, estimate.statistic, estimate.p, estimate.level]


@settings(deadline=None)
@given(ESTIMANDS)
def test_an_estimand_goes_to_json_and_back(estimand: Estimand) -> None:
    assert Estimand.model_validate(json.loads(estimand.model_dump_json())) == estimand


@pytest.mark.parametrize("name", ["value", "se", "lower", "upper", "statistic", "p", "df", "level"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_estimate_holds_finite_numbers_only(name: str, bad: float) -> None:
    with pytest.raises(ValidationError, match=name):
        Estimate(**(BASE | {name: bad}))


@pytest.mark.parametrize(
    "changes",
    [{"lower": -1.0}, {"upper": -1.1}, {"lower": 0.65, "upper": -2.66}],
    ids=["above", "below", "the wrong way round"],
)
def test_an_interval_that_does_not_hold_the_value_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="does not hold the estimate"):
        Estimate(**(BASE | changes))


@pytest.mark.parametrize(
    "changes",
    [{"se": -0.1}, {"p": 1.1}, {"p": -0.1}, {"n": 0}, {"level": 1.0}, {"level": 0.0}, {"colour": "blue"}],
)
def test_a_number_outside_its_range_and_an_unknown_field_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Estimate(**(BASE | changes))


def test_an_estimate_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Estimate(**BASE).value = 0.0  # type: ignore[misc]


def test_statistics_are_named_as_in_a_results_dataset() -> None:
    assert Estimate(**BASE).statistics() == {
        "n": 234.0,
        "estimate": -1.006,
        "se": 0.8405,
        "df": 220.0,
        "statistic": -1.197,
        "p": 0.233,
        "lower": -2.66,
        "upper": 0.65,
    }


def test_a_normal_reference_has_no_degrees_of_freedom() -> None:
    assert "df" not in Estimate(**(BASE | {"df": None})).statistics()


def test_an_estimand_in_words_has_its_five_attributes() -> None:
    question = Estimand(
        treatment="high against placebo",
        population="efficacy population",
        variable="change at week 24",
        intercurrent_events=(IntercurrentEvent(event="discontinuation", strategy=Strategy.HYPOTHETICAL),),
        summary="difference in means",
    )
    words = str(question)
    for part in ("high against placebo", "efficacy population", "change at week 24", "difference in means"):
        assert part in words
    assert "discontinuation: hypothetical" in words
