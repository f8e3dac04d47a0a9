"""Cohorts: what is refused, and what is kept when patients are taken or time is cut."""

import re
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialtwin.core.cohort import Block, Cohort, Doses, Events
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.variables import Kind, Variable

type MakeCohort = Callable[..., Cohort]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("covariates", np.zeros((5, 3))),
        ("covariates", np.zeros((4, 2))),
        ("nominal", np.zeros(2)),
        ("times", np.zeros((5, 2))),
        ("values", np.zeros((5, 3, 1))),
        ("observed", np.zeros((5, 2, 2), dtype=bool)),
        ("received", np.zeros(4, dtype=int)),
    ],
)
def test_a_wrong_shape_is_refused_by_name(make_unchecked: MakeCohort, name: str, wrong: np.ndarray) -> None:
    with pytest.raises(
        DataError, match=re.escape(f"cohort.{name} has shape {wrong.shape}\n  where: 5 ids, 2 variables")
    ):
        make_unchecked(**{name: wrong})


@pytest.mark.parametrize(
    "block",
    [Block(("p1",), np.zeros((4, 1)), np.ones(4, bool)), Block(("p1", "p2"), np.zeros((5, 1)), np.ones(5, bool))],
)
def test_a_block_of_another_shape_is_refused(make_cohort: MakeCohort, block: Block) -> None:
    with pytest.raises(DataError, match="block 'csf'"):
        make_cohort(blocks={"csf": block})


def test_repeated_identifiers_are_refused_and_named(make_cohort: MakeCohort) -> None:
    with pytest.raises(DataError, match="where: a, b"):
        make_cohort(ids=("a", "b", "a", "b", "c"))


@pytest.mark.parametrize(
    "changes",
    [
        {"variables": (Variable("A"), Variable("A"))},
        {"outcomes": (Variable("A"), Variable("A"))},
        {"treatments": ("Placebo", "Placebo")},
        {"visits": ("Baseline", "Week 12", "Week 12")},
    ],
    ids=["covariates", "outcomes", "treatments", "visits"],
)
def test_repeated_names_are_refused(make_cohort: MakeCohort, changes: dict[str, Any]) -> None:
    """Of two things with one name, only the first could ever be asked for."""
    (what,) = changes
    found = {"variables": "covariates"}.get(what, what)
    with pytest.raises(DataError, match=f"{found} repeat in a cohort"):
        make_cohort(**changes)


@pytest.mark.parametrize("code", [7.0, 1.5, -1.0])
def test_a_code_outside_the_levels_is_refused(make_cohort: MakeCohort, code: float) -> None:
    """An encoding by indicators would take it for the reference level."""
    variables = (Variable("AGE"), Variable("SITE", kind=Kind.CATEGORICAL, levels=("A", "B")))
    with pytest.raises(DataError, match="SITE has codes that point outside its levels\n  exists: 0: A, 1: B"):
        make_cohort(variables=variables, covariates=np.array([[60.0, 0], [70, 1], [80, code], [60, 0], [60, np.nan]]))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_covariate_is_refused(make_cohort: MakeCohort, value: float) -> None:
    """An infinite age would make a rate of decline 0, and a forecast that never declines."""
    covariates = np.array(make_cohort().covariates)
    covariates[1, 0] = value
    with pytest.raises(DataError, match="AGE is infinite"):
        make_cohort(covariates=covariates)


@pytest.mark.parametrize("position", [5, 99, -1])
def test_an_event_of_a_patient_who_does_not_exist_is_refused(make_cohort: MakeCohort, position: int) -> None:
    stray = Events(np.array([0, position]), np.ones(2), ("fall", "fall"), np.ones(2, bool))
    with pytest.raises(DataError, match=r"cohort\.events\.patient points outside the 5"):
        make_cohort(events=stray)


@pytest.mark.parametrize("position", [5, 99, -1])
def test_a_dose_of_a_patient_who_does_not_exist_is_refused(make_cohort: MakeCohort, position: int) -> None:
    stray = Doses(np.array([0, position]), np.zeros(2), np.ones(2), np.zeros(2), np.ones(2, int))
    with pytest.raises(DataError, match=r"cohort\.doses\.patient points outside the 5"):
        make_cohort(doses=stray)


def test_an_unobserved_value_must_be_missing(make_cohort: MakeCohort) -> None:
    cohort = make_cohort()
    filled = np.where(cohort.observed, cohort.values, 0.0)
    with pytest.raises(DataError, match="contradict"):
        make_cohort(values=filled, observed=cohort.observed)


def test_an_observed_value_must_be_a_number(make_cohort: MakeCohort) -> None:
    cohort = make_cohort()
    with pytest.raises(DataError, match="contradict"):
        make_cohort(observed=np.ones_like(cohort.observed))


@pytest.mark.parametrize("received", [[0, 1, 2, 0, 0], [0, -1, 0, 0, 0]])
def test_an_arm_that_does_not_exist_is_refused(make_cohort: MakeCohort, received: list[int]) -> None:
    with pytest.raises(DataError, match="exists: Placebo, High"):
        make_cohort(received=np.array(received))


@pytest.mark.parametrize("name", ["times", "nominal"])
def test_times_must_be_finite(make_cohort: MakeCohort, name: str) -> None:
    wrong = np.array(getattr(make_cohort(), name))
    wrong.flat[0] = np.nan
    with pytest.raises(DataError, match="must be finite"):
        make_cohort(**{name: wrong})


@pytest.mark.parametrize("name", ["covariates", "nominal", "times", "values", "observed", "received"])
def test_arrays_cannot_be_written_to(make_cohort: MakeCohort, name: str) -> None:
    with pytest.raises(ValueError, match="read-only"):
        getattr(make_cohort(), name)[:] = 0


@pytest.mark.parametrize("part", ["events", "doses", "block"])
def test_arrays_of_events_doses_and_blocks_cannot_be_written_to(make_cohort: MakeCohort, part: str) -> None:
    cohort = make_cohort()
    owner = cohort.blocks["csf"] if part == "block" else getattr(cohort, part)
    arrays = {name: array for name, array in vars(owner).items() if isinstance(array, np.ndarray)}
    assert arrays
    for array in arrays.values():
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


def test_a_cohort_does_not_change_when_its_source_does(make_cohort: MakeCohort) -> None:
    values, covariates = np.ones((5, 3, 2)), np.ones((5, 2))
    days = np.ones(2)
    cohort = make_cohort(
        values=values,
        observed=np.ones((5, 3, 2), dtype=bool),
        covariates=covariates,
        events=Events(np.array([0, 1]), days, ("fall", "fall"), np.ones(2, dtype=bool)),
    )
    before = cohort.digest()
    values[0] = covariates[0] = days[0] = 0.0
    assert cohort.digest() == before


def test_covariates_and_outcomes_answer_to_name_and_concept(make_cohort: MakeCohort) -> None:
    cohort = make_cohort()
    np.testing.assert_array_equal(cohort.covariate("AGE"), cohort.covariate("age"))
    assert cohort.outcome("MMSETOT") == cohort.outcome("MMSE") == 1


def test_an_exact_name_goes_before_the_concept_of_an_earlier_variable(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(
        variables=(Variable("MMSE_SCREEN", concept="MMSE"), Variable("MMSE")),
        covariates=np.tile([1.0, 2.0], (5, 1)),
        outcomes=(Variable("MMSE_SCREEN", concept="MMSE"), Variable("MMSE")),
    )
    assert cohort.covariate("MMSE")[0] == 2.0
    assert cohort.outcome("MMSE") == 1


def test_an_unknown_name_is_refused_with_those_that_exist(make_cohort: MakeCohort) -> None:
    cohort = make_cohort()
    with pytest.raises(MismatchError, match=r"no covariate 'WEIGHT'\n  exists: AGE, SEX"):
        cohort.covariate("WEIGHT")
    with pytest.raises(MismatchError, match=r"no outcome 'CDR'\n  exists: ACTOT, MMSETOT"):
        cohort.outcome("CDR")
    with pytest.raises(MismatchError, match=r"no arm 'Low'\n  exists: Placebo, High"):
        cohort.arm("Low")


def test_a_variable_without_concept_does_not_answer_to_the_empty_name(make_cohort: MakeCohort) -> None:
    bare = make_cohort(variables=(Variable("AGE"), Variable("BMI")))
    with pytest.raises(MismatchError):
        bare.covariate("")


def test_arms_divide_the_patients(make_cohort: MakeCohort) -> None:
    cohort = make_cohort()
    np.testing.assert_array_equal(cohort.arm("Placebo"), [True, False, True, False, False])
    assert (cohort.arm("Placebo") ^ cohort.arm("High")).all()


def _rows(cohort: Cohort) -> dict[str, tuple[Any, ...]]:
    """Return all that is known of each patient, by identifier: the slow way, for comparison."""
    told: dict[str, tuple[Any, ...]] = {}
    for i, name in enumerate(cohort.ids):
        events, doses = cohort.events, cohort.doses
        assert events is not None
        assert doses is not None
        told[name] = (
            cohort.covariates[i].tobytes(),
            cohort.times[i].tobytes(),
            cohort.values[i].tobytes(),
            cohort.observed[i].tobytes(),
            cohort.treatments[cohort.received[i]],
            sorted((events.time[j], events.name[j], events.observed[j]) for j in np.flatnonzero(events.patient == i)),
            sorted(
                (doses.time[j], doses.amount[j], doses.duration[j], doses.compartment[j])
                for j in np.flatnonzero(doses.patient == i)
            ),
            [(b.values[i].tobytes(), b.present[i]) for b in cohort.blocks.values()],
        )
    return told


@settings(deadline=None)
@given(chosen=st.lists(st.integers(0, 4), unique=True))
def test_independent_take_keeps_all_that_is_known_of_each(make_cohort: MakeCohort, chosen: list[int]) -> None:
    """Any patients in any order, none among them: each has what they had, events and doses included."""
    cohort = make_cohort()
    taken = cohort.take(chosen)
    before = _rows(cohort)
    assert taken.ids == tuple(cohort.ids[i] for i in chosen)
    assert _rows(taken) == {name: before[name] for name in taken.ids}


@settings(deadline=None)
@given(st.data())
def test_taking_twice_is_taking_once(make_cohort: MakeCohort, data: st.DataObject) -> None:
    first = data.draw(st.lists(st.integers(0, 4), unique=True, min_size=1))
    second = data.draw(st.lists(st.integers(0, len(first) - 1), unique=True))
    cohort = make_cohort()
    assert cohort.take(first).take(second).digest() == cohort.take([first[i] for i in second]).digest()


def test_a_mask_takes_those_it_marks_in_their_order(make_cohort: MakeCohort) -> None:
    cohort = make_cohort()
    assert cohort.take(np.array([False, True, False, True, False])).ids == ("b", "d")


def test_nobody_is_taken_twice(make_cohort: MakeCohort) -> None:
    with pytest.raises(DataError, match="repeat"):
        make_cohort().take([1, 1])


@pytest.mark.parametrize("position", [5, -1])
def test_a_position_outside_the_cohort_is_refused(make_cohort: MakeCohort, position: int) -> None:
    """Counting from the end as well: NumPy would find the patient, and events are renumbered by another rule."""
    with pytest.raises(DataError, match=f"position {position} in 5 patients"):
        make_cohort().take([position])


@pytest.mark.parametrize("marks", [2, 6])
def test_a_mask_of_another_length_is_refused(make_cohort: MakeCohort, marks: int) -> None:
    with pytest.raises(DataError, match=rf"a mask of \({marks},\) for 5 patients"):
        make_cohort().take(np.ones(marks, dtype=bool))


@pytest.mark.parametrize("day", [-1.0, 0.0, 84.0, 85.0, 168.0, 1e6])
def test_until_hides_what_was_measured_later_and_nothing_else(make_cohort: MakeCohort, day: float) -> None:
    cohort = make_cohort()
    known = cohort.until(day)
    early = np.broadcast_to((cohort.times <= day)[..., None], cohort.values.shape)
    np.testing.assert_array_equal(known.observed, cohort.observed & early)
    np.testing.assert_array_equal(known.values[known.observed], cohort.values[known.observed])
    assert np.isnan(known.values[~known.observed]).all()
    assert known.ids == cohort.ids
    np.testing.assert_array_equal(known.covariates, cohort.covariates)


def test_until_forgets_when_later_visits_took_place(make_cohort: MakeCohort) -> None:
    """The day of a visit in the future is information about the future: their times are the planned ones again."""
    cohort = make_cohort()
    known = cohort.until(84.0)
    early = cohort.times <= 84.0
    np.testing.assert_array_equal(known.times, np.where(early, cohort.times, cohort.nominal))
    assert (cohort.times != known.times).any()
    moved = make_cohort(times=np.where(early, cohort.times, cohort.times + 1.0))
    assert moved.until(84.0).digest() == known.digest()


def test_until_censors_what_everybody_was_followed_for(make_cohort: MakeCohort) -> None:
    """Who is free of the event on the day was at risk until then, which is known, and not the same as unknown."""
    death = Events(np.array([0]), np.array([100.0]), ("death",), np.array([True]))
    known = make_cohort(events=death).until(50.0).events
    assert known is not None
    assert (known.time.tolist(), known.observed.tolist(), known.name) == ([50.0], [False], ("death",))


@pytest.mark.parametrize("day", [-1.0, 0.0, 100.0, 168.0, 1e6])
def test_until_leaves_out_later_occurrences_and_doses(make_cohort: MakeCohort, day: float) -> None:
    """Rash and fall are occurrences; death and the second rash were followed for, and are censored at the day."""
    known = make_cohort().until(day)
    assert known.events is not None
    assert known.doses is not None
    rows = [(3, 10.0, "rash", True), (0, 100.0, "fall", True)]
    expected = [row for row in rows if row[1] <= day]
    expected += [(3, min(168.0, day), "death", day >= 168.0), (4, min(200.0, day), "rash", False)]
    events = known.events
    assert list(zip(events.patient, events.time, events.name, events.observed, strict=True)) == expected
    np.testing.assert_array_equal(known.doses.time, [t for t in (0.0, 84.0, 168.0) if t <= day])


@settings(deadline=None)
@given(first=st.floats(-10, 300), second=st.floats(-10, 300))
def test_until_twice_is_until_the_earlier(make_cohort: MakeCohort, first: float, second: float) -> None:
    cohort = make_cohort()
    assert cohort.until(first).until(second).digest() == cohort.until(min(first, second)).digest()


def test_until_and_take_commute(make_cohort: MakeCohort) -> None:
    cohort = make_cohort()
    assert cohort.until(100.0).take([4, 3, 1]).digest() == cohort.take([4, 3, 1]).until(100.0).digest()


def test_the_digest_is_of_content_and_not_of_memory(make_cohort: MakeCohort) -> None:
    cohort = make_cohort()
    again = make_cohort(values=np.asfortranarray(cohort.values), times=np.array(cohort.times)[:, ::-1][:, ::-1])
    assert again.digest() == cohort.digest()


CHANGES: dict[str, Callable[[Cohort], dict[str, Any]]] = {
    "an identifier": lambda c: {"ids": ("z", *c.ids[1:])},
    "a unit": lambda c: {"variables": (replace(c.variables[0], unit="months"), c.variables[1])},
    "a range": lambda c: {"outcomes": (replace(c.outcomes[0], upper=70.0), c.outcomes[1])},
    "a covariate": lambda c: {"covariates": np.nan_to_num(c.covariates)},
    "a visit's name": lambda c: {"visits": ("Day 1", *c.visits[1:])},
    "a planned time": lambda c: {"nominal": c.nominal + np.array([0, 0, 1])},
    "a time": lambda c: {"times": c.times + np.eye(5, 3)},
    "a value": lambda c: {"values": c.values + 1e-12},
    "a treatment's name": lambda c: {"treatments": ("Control", "High")},
    "an arm": lambda c: {"received": c.received[::-1]},
    "an event's name": lambda c: {"events": replace(c.events, name=("itch", "fall", "death", "rash"))},
    "an event's status": lambda c: {"events": replace(c.events, observed=np.ones(4, bool))},
    "no events": lambda c: {"events": None},
    "a dose": lambda c: {"doses": replace(c.doses, amount=np.array([10.0, 20, 31]))},
    "no doses": lambda c: {"doses": None},
    "a feature's name": lambda c: {"blocks": {"csf": replace(c.blocks["csf"], features=("p1", "q2"))}},
    "who has a block": lambda c: {"blocks": {"csf": replace(c.blocks["csf"], present=np.ones(5, bool))}},
    "a block's name": lambda c: {"blocks": {"plasma": c.blocks["csf"]}},
    "no blocks": lambda c: {"blocks": MappingProxyType({})},
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_digest_sees_any_change(make_cohort: MakeCohort, what: str) -> None:
    cohort = make_cohort()
    assert make_cohort(**CHANGES[what](cohort)).digest() != cohort.digest()


def test_the_digest_sees_the_order_of_patients(make_cohort: MakeCohort) -> None:
    cohort = make_cohort()
    assert cohort.take([1, 0, 2, 3, 4]).digest() != cohort.digest()


def test_an_empty_cohort_is_a_cohort(make_cohort: MakeCohort) -> None:
    nobody = make_cohort().take([])
    assert len(nobody) == 0
    assert nobody.until(10.0).ids == ()
    assert isinstance(nobody.events, Events)
    assert isinstance(nobody.doses, Doses)
    assert len(nobody.events.time) == len(nobody.doses.time) == 0
