"""Random small cohorts, written in every format and read back equal; and what the tables cannot hold."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialtwin.core.cohort import Block, Cohort, Doses, Events
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.variables import Kind, Variable
from trialtwin.data.cdisc import read_tables, write_tables
from trialtwin.data.cohort import assemble
from trialtwin.data.disassemble import disassemble
from trialtwin.data.layout import Layout, Outcome, Visit, elapsed

SUFFIXES = (".xpt", ".json", ".ndjson", ".csv", ".parquet")
LETTERS = "".join(chr(code) for code in range(32, 127)) + "\n\t"
# A first letter, so that a CSV file without a schema does not take the word for a number.
WORDS = st.builds(lambda a, b: (a + b).rstrip(" "), st.sampled_from("abcXYZ"), st.text(LETTERS, max_size=8))
NUMBERS = st.floats(-1e6, 1e6).map(lambda x: 0.0 if abs(x) < 1e-40 else x)
MAYBE = st.one_of(st.just(float("nan")), NUMBERS)
DAYS = st.integers(-20, 600).map(float)


def table(draw: Callable, values: st.SearchStrategy, *shape: int) -> np.ndarray:
    size = int(np.prod(shape))
    return np.array(draw(st.lists(values, min_size=size, max_size=size)), dtype=float).reshape(shape)


def random_trial(draw: Callable) -> tuple[Cohort, Layout]:
    """Draw plain values and build from them here: a strategy must not run code that is checked at random."""
    n = draw(st.integers(4, 7))
    arms = tuple(draw(st.lists(WORDS, min_size=2, max_size=2, unique=True)))
    ids = tuple(draw(st.lists(st.text("0123456789-ab", min_size=1, max_size=6), min_size=n, max_size=n, unique=True)))
    days = sorted(draw(st.lists(st.integers(2, 500), min_size=0, max_size=3, unique=True)))
    names = draw(st.lists(WORDS, min_size=len(days) + 1, max_size=len(days) + 1, unique=True))
    visits = tuple(Visit(name, float(day)) for name, day in zip(names, [1, *days], strict=True))
    levels = tuple(draw(st.lists(WORDS, min_size=2, max_size=3, unique=True)))
    covariates = (
        Variable("AGE"),
        Variable("GROUP", kind=Kind.CATEGORICAL, levels=levels),
        Variable("CARRIER", kind=Kind.BINARY),
    )
    outcomes = tuple(
        Outcome(Variable(f"OUT{k}"), dataset, f"OUT{k}" if dataset != "adsl" else "")
        for k, dataset in enumerate(draw(st.lists(st.sampled_from(["adqs", "adcog", "adsl"]), max_size=2)))
    )
    outcomes = (*outcomes, Outcome(Variable("TOTAL"), "adqs", "TOTAL"))
    values = table(draw, MAYBE, n, len(visits), len(outcomes))
    for k, outcome in enumerate(outcomes):
        # Every visit and parameter needs a record: assemble refuses names that the data do not have.
        values[0, :, k] = 1.5
        if not outcome.paramcd:
            values[:, 1:, k] = np.nan
    place = table(draw, st.integers(-1, len(levels) - 1).map(lambda i: float("nan") if i < 0 else float(i)), n)
    flag = table(draw, st.sampled_from([0.0, 1.0, float("nan")]), n)
    nominal = np.array([visit.time for visit in visits])
    late = table(draw, DAYS, n, len(visits))
    moved = table(draw, st.booleans(), n, len(visits)) > 0
    count = draw(st.integers(0, 5))
    events = Events(
        patient=np.array([draw(st.integers(0, n - 1)) for _ in range(count)], dtype=np.int64),
        time=table(draw, st.one_of(DAYS, st.just(float("nan"))), count),
        name=tuple(draw(st.lists(WORDS, min_size=count, max_size=count))),
        observed=np.array([draw(st.booleans()) for _ in range(count)], dtype=bool),
    )
    cohort = Cohort(
        ids=ids,
        variables=covariates,
        covariates=np.stack([table(draw, MAYBE, n), place, flag], axis=1),
        outcomes=tuple(outcome.variable for outcome in outcomes),
        visits=tuple(visit.name for visit in visits),
        nominal=nominal,
        times=np.where(moved, late, nominal),
        values=values,
        observed=np.isfinite(values),
        treatments=arms,
        received=np.array([0, 0, 1, 1, *([draw(st.integers(0, 1)) for _ in range(n - 4)])], dtype=np.int64),
        events=draw(st.sampled_from([None, events])),
    )
    return cohort, Layout("TRT01P", arms, visits, outcomes, covariates)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_random_cohorts_come_back_equal(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    cohort, layout = random_trial(data.draw)
    folder = tmp_path_factory.mktemp("trial")
    tables = disassemble(cohort, layout)
    write_tables(tables, folder, suffix=suffix)
    times = None if cohort.events is None else "adtte"
    back = assemble(read_tables(folder, findings=tuple(tables.findings), times=times), layout)
    assert back.ids == cohort.ids
    assert back.treatments == cohort.treatments
    for name in ("covariates", "times", "values", "observed", "received", "nominal"):
        np.testing.assert_array_equal(getattr(back, name), getattr(cohort, name), err_msg=name)
    assert (back.events is None) == (cohort.events is None)
    if back.events is not None and cohort.events is not None:
        assert back.events.name == cohort.events.name
        for name in ("patient", "time", "observed"):
            np.testing.assert_array_equal(getattr(back.events, name), getattr(cohort.events, name), err_msg=name)
    assert back.digest() == cohort.digest()


def test_baseline_change_and_flags_are_written(tmp_path: Path) -> None:
    layout = Layout("TRT01P", ("P", "A"), (Visit("Baseline", 1.0), Visit("Week 8", 57.0)),
                    (Outcome(Variable("X"), "adqs", "X"),))  # fmt: skip
    values = np.array([[10, 12.0], [20, np.nan], [np.nan, 5.0], [1.0, 0.0]])[:, :, None]
    cohort = Cohort(
        ids=("1", "2", "3", "4"),
        variables=(),
        covariates=np.zeros((4, 0)),
        outcomes=(Variable("X"),),
        visits=("Baseline", "Week 8"),
        nominal=np.array([0.0, 56.0]),
        times=np.array([[0.0, 50.0]] * 4),
        values=values,
        observed=np.isfinite(values),
        treatments=("P", "A"),
        received=np.array([0, 0, 1, 1]),
    )
    rows = disassemble(cohort, layout).finding("adqs").frame
    assert rows.select("USUBJID", "AVISIT", "ADY", "AVAL", "BASE", "CHG", "ABLFL").rows() == [
        ("1", "Baseline", 1.0, 10.0, 10.0, None, "Y"),
        ("1", "Week 8", 51.0, 12.0, 10.0, 2.0, None),
        ("2", "Baseline", 1.0, 20.0, 20.0, None, "Y"),
        ("2", "Week 8", 51.0, None, 20.0, None, None),
        ("3", "Week 8", 51.0, 5.0, None, None, None),
        ("4", "Baseline", 1.0, 1.0, 1.0, None, "Y"),
        ("4", "Week 8", 51.0, 0.0, 1.0, -1.0, None),
    ]
    faulty = {
        "arms": replace(layout, arms=("P", "B")),
        "visits": replace(layout, visits=(Visit("Baseline", 1.0), Visit("Week 9", 57.0))),
        "planned times": replace(layout, visits=(Visit("Baseline", 1.0), Visit("Week 8", 58.0))),
        "outcomes": replace(layout, outcomes=(Outcome(Variable("Y"), "adqs", "Y"),)),
        "covariates": replace(layout, covariates=(Variable("AGE"),)),
    }
    for what, wrong in faulty.items():
        with pytest.raises(MismatchError, match=f"different {what}"):
            disassemble(cohort, wrong)
    nothing = np.zeros(0)
    doses = Doses(nothing.astype(np.int64), nothing, nothing, nothing, nothing.astype(np.int64))
    block = Block(("f",), np.zeros((4, 1)), np.ones(4, dtype=bool))
    for extra in ({"doses": doses}, {"blocks": {"omics": block}}):
        with pytest.raises(DataError, match="doses and feature blocks"):
            disassemble(replace(cohort, **extra), layout)
    in_adsl = replace(layout, outcomes=(Outcome(Variable("X"), "adsl"),))
    with pytest.raises(DataError, match="does not hold the days of visits"):
        disassemble(cohort, in_adsl)
    with pytest.raises(DataError, match="holds it at Baseline only"):
        disassemble(replace(cohort, times=np.array([[0.0, 56.0]] * 4)), in_adsl)


def test_two_contents_of_one_column_are_refused() -> None:
    age = Variable("AGE")
    layout = Layout("TRT01P", ("P",), (Visit("Baseline", 1.0),), (Outcome(age, "adsl"),), (age,))
    cohort = Cohort(
        ids=("1", "2"),
        variables=(age,),
        covariates=np.array([[1.0], [2.0]]),
        outcomes=(age,),
        visits=("Baseline",),
        nominal=np.zeros(1),
        times=np.zeros((2, 1)),
        values=np.array([[[1.0]], [[3.0]]]),
        observed=np.ones((2, 1, 1), dtype=bool),
        treatments=("P",),
        received=np.zeros(2, dtype=np.int64),
    )
    with pytest.raises(DataError, match="two different contents for the column AGE"):
        disassemble(cohort, layout)


@given(time=st.integers(-400, 4000))
def test_study_days_and_elapsed_days_are_inverse(time: int) -> None:
    assert elapsed(float(time + 1 if time >= 0 else time)) == time
