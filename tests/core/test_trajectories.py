"""Trajectories: quantiles, scores, contrasts, and what is refused."""

from collections.abc import Callable

import numpy as np
import pytest

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.variables import Variable

type Make = Callable[..., Trajectories]
DRAWS, PATIENTS = 101, ("a", "b", "c")
TIMES = np.array([0.0, 84.0, 168.0])
OUTCOMES = (Variable("ACTOT", "ADAS-Cog", lower=0.0, upper=70.0, concept="ADAS-Cog11"), Variable("BMI"))


def build(seed: int = 0, **changes: object) -> Trajectories:
    rng = np.random.default_rng(seed)
    shape = (len(PATIENTS), len(TIMES), len(OUTCOMES))
    fields = {
        "ids": PATIENTS,
        "outcomes": OUTCOMES,
        "times": TIMES,
        "values": rng.normal(60, 10, (DRAWS, *shape)),
        "expected": rng.normal(60, 1, shape),
    }
    return Trajectories(**(fields | changes))  # type: ignore[arg-type]


def unchecked(**changes: object) -> Trajectories:
    """Build past the annotations that the tests check: what a user without them meets."""
    course = object.__new__(Trajectories)
    for name, value in (vars(build()) | changes).items():
        object.__setattr__(course, name, value)
    course.__post_init__()
    return course


def test_quantiles_are_those_of_each_patient_time_and_outcome() -> None:
    course = build()
    found = course.quantiles([0.05, 0.5, 1.0])
    assert found.shape == (3, 3, 3, 2)
    for i, t, k in np.ndindex(3, 3, 2):
        ordered = np.sort(course.values[:, i, t, k])
        np.testing.assert_allclose(found[:, i, t, k], ordered[[5, 50, 100]], rtol=1e-12)


def test_a_score_is_the_expectation_at_a_time() -> None:
    course = build()
    np.testing.assert_array_equal(course.score("BMI", 84.0), course.expected[:, 1, 1])
    np.testing.assert_array_equal(course.score("ADAS-Cog11", 168), course.expected[:, 2, 0])


def test_a_score_that_was_not_predicted_is_refused_with_what_was() -> None:
    with pytest.raises(MismatchError, match=r"day 90 was not predicted\n  exists: 0, 84, 168"):
        build().score("ACTOT", 90.0)
    with pytest.raises(MismatchError, match=r"no predicted outcome 'MMSE'\n  exists: ACTOT, BMI"):
        build().score("MMSE", 84.0)


def test_there_is_no_score_where_each_patient_has_a_time_grid() -> None:
    own = build(times=np.tile(TIMES, (3, 1)))
    with pytest.raises(MismatchError, match="a time grid of their own"):
        own.score("ACTOT", 84.0)


def test_a_contrast_subtracts_draw_by_draw() -> None:
    treated, placebo = build(1), build(2)
    effect = treated.contrast(placebo)
    np.testing.assert_array_equal(effect.values, treated.values - placebo.values)
    np.testing.assert_array_equal(effect.expected, treated.expected - placebo.expected)


def test_a_contrast_has_no_plausible_range_and_says_what_it_is() -> None:
    effect = build(1).contrast(build(2))
    assert [v.label for v in effect.outcomes] == ["difference in ADAS-Cog", "difference in BMI"]
    assert not effect.implausible().any()


def test_a_contrast_with_itself_is_zero() -> None:
    course = build()
    assert not course.contrast(course).values.any()


@pytest.mark.parametrize(
    "other",
    [
        build(ids=("a", "b", "z")),
        build(times=TIMES + 1),
        build(values=np.zeros((DRAWS - 1, 3, 3, 2))),
        build(outcomes=(Variable("MMSE"), Variable("BMI"))),
    ],
    ids=["patients", "times", "draws", "outcomes"],
)
def test_a_contrast_needs_the_same_patients_times_draws_and_outcomes(other: Trajectories) -> None:
    with pytest.raises(MismatchError, match="contrasted only for the same"):
        build().contrast(other)


def test_implausible_counts_draws_outside_the_range_ends_excluded() -> None:
    values = np.full((10, 3, 3, 2), 70.0)
    values[0, :, :, 0] = 70.1
    values[1, 0, :, 0] = -0.1
    values[:, :, :, 1] = 1e9
    share = build(values=values).implausible()
    np.testing.assert_allclose(share, [(9 + 3) / 90, 0.0])


@pytest.mark.parametrize(
    "changes",
    [
        {"values": np.zeros((0, 3, 3, 2))},
        {"values": np.zeros((4, 2, 3, 2))},
        {"values": np.zeros((4, 3, 2, 2))},
        {"values": np.zeros((4, 3, 3, 1))},
        {"expected": np.zeros((3, 2, 2))},
        {"times": np.zeros(4)},
        {"ids": ("a", "b")},
    ],
    ids=["no draws", "patients", "times", "outcomes", "expected", "grid", "ids"],
)
def test_shapes_that_disagree_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DataError, match="trajectories of shape"):
        unchecked(**changes)


def test_times_of_another_number_of_patients_are_refused() -> None:
    with pytest.raises(DataError, match="times of 5 patients for 3"):
        unchecked(times=np.zeros((5, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_refused_with_its_patient(bad: float) -> None:
    values = np.zeros((4, 3, 3, 2))
    values[2, 1, 0, 1] = bad
    with pytest.raises(DataError, match=r"where: patients b$"):
        build(values=values)


def test_an_expectation_that_is_no_number_is_refused_with_its_patient() -> None:
    expected = np.zeros((3, 3, 2))
    expected[1, 2, 0] = np.nan
    with pytest.raises(DataError, match=r"not finite numbers\n  where: patients b$"):
        build(expected=expected)


@pytest.mark.parametrize("name", ["times", "values", "expected"])
def test_arrays_cannot_be_written_to(name: str) -> None:
    with pytest.raises(ValueError, match="read-only"):
        getattr(build(), name)[:] = 0


def test_take_follows_the_order_asked_for_own_times_included() -> None:
    own = build(times=TIMES + np.arange(3)[:, None])
    taken = own.take([2, 0])
    assert taken.ids == ("c", "a")
    np.testing.assert_array_equal(taken.times, own.times[[2, 0]])
    np.testing.assert_array_equal(taken.values, own.values[:, [2, 0]])
    np.testing.assert_array_equal(taken.expected, own.expected[[2, 0]])
    np.testing.assert_array_equal(build().take([1]).times, TIMES)
