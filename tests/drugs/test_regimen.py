"""Regimens: what prescriptions mean, that they survive printing, and that errors point at the word."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialtwin.core import cohort
from trialtwin.core.errors import ConfigError, DataError
from trialtwin.drugs.records import regimen_of_records
from trialtwin.drugs.regimen import parse_regimen
from trialtwin.drugs.schedule import Phase, Regimen


def test_q2w_for_39_infusions() -> None:
    doses = parse_regimen("10 mg/kg over 1h q2w x 39").doses()
    assert np.array_equal(doses.time, np.arange(39) * 14.0)
    assert np.all(doses.amount == 10.0)
    assert np.allclose(doses.duration, 1 / 24)


def test_titration_follows_on_at_the_interval_of_the_phase_before() -> None:
    regimen = parse_regimen("1 mg/kg q4w x 2 then 3 mg/kg q4w x 2 then 6 mg/kg q4w x 2 then 10 mg/kg q4w")
    doses = regimen.doses(until=9 * 28)
    assert regimen.per_kg
    assert doses.amount.tolist() == [1, 1, 3, 3, 6, 6, 10, 10, 10]
    assert doses.time.tolist() == [28.0 * i for i in range(9)]


EQUAL = {
    "700 mg over 30min q4w x 3": "700mg over 0.5 h every 4 weeks × 3",
    "10 mg qd for 2 weeks": "10 mg daily x14",
    "10 mg bid until week 2": "10 mg q12h x 28",
    "1 g q13w x 2": "1000 mg every 13 weeks x 2",
    "250 µg tid x 3": "0.25 mg q8h x 3",
    "400 mg at week 4": "400 mg at day 28",
    "9.5 mg/24h for 2 weeks": "9.5 mg/day for 14 days",
    "360 mg sc qw x 4": "360 mg SC weekly x 4",
    "5 mg qw x 2; 10 mg qw x 2": "5 mg qw x 2 then 10 mg qw x 2",
    "2 U/h for 1 day": "48 U/day for 24 h",
    "10 mg q2w until week 76": "10 mg q2w for 76 weeks",
    "3 MU qd x 3": "3000000 IU qd x 3",
    "500 mU/h for 1 day": "12 U/day for 24 h",
    "10 mg monthly x 3": "10 mg every 1 months x 3",
    "300 mg then 75 mg qd x 3 at day 1": "300 mg qd x 1 then 75 mg qd x 3",
}


@pytest.mark.parametrize("text", EQUAL)
def test_two_ways_to_write_the_same(text: str) -> None:
    one, other = parse_regimen(text), parse_regimen(EQUAL[text])
    a, b = one.doses(until=5000), other.doses(until=5000)
    for name in ("time", "amount", "duration"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-12)
    assert a.route == b.route


def test_an_end_is_not_a_dose() -> None:
    """q4w until week 76 gives doses at weeks 0, 4, …, 72."""
    assert parse_regimen("700 mg q4w until week 76").doses().time[-1] == 72 * 7


def test_a_later_phase_may_say_when() -> None:
    doses = parse_regimen("100 mg q4w then 50 mg q4w x 2 at week 12").doses()
    assert doses.time.tolist() == [0.0, 28.0, 56.0, 84.0, 112.0]
    assert doses.amount.tolist() == [100, 100, 100, 50, 50]


def test_infusions_are_cut_at_the_horizon_and_amounts_with_them() -> None:
    doses = parse_regimen("24 mg over 24h q2d").doses(until=2.5)
    assert doses.duration.tolist() == [1.0, 0.5]
    assert doses.amount.tolist() == [24.0, 12.0]


def test_steady_input_has_its_rate() -> None:
    doses = parse_regimen("9.5 mg/24h").doses(until=70)
    assert (doses.amount / doses.duration).tolist() == [9.5]


def test_no_end_needs_a_day() -> None:
    with pytest.raises(ConfigError, match="no end"):
        parse_regimen("10 mg qd").doses()


BAD = {
    "-10 mg q4w": ("-10", "above zero"),
    "0 mg q4w": ("0", "above zero"),
    "1e999 mg q4w": ("1e999", "finite"),
    "10 mgg q2w": ("mgg", "unit of the dose"),
    "10 kg q2w": ("kg", "unit of the dose"),
    "10 mg/lb q2w": ("mg/lb", "unit of the dose"),
    "10 mg q2x": ("q2x", "frequency"),
    "10 mg q0w": ("q0w", "above zero"),
    "10 mg/kg evry 2 weeks": ("evry", "frequency"),
    "10 mg over q4w": ("q4w", "duration"),
    "10 mg over 1 fortnight q4w": ("fortnight", "unit of time"),
    "10 mg q4w x 2.5": ("2.5", "whole number"),
    "10 mg q4w x 0": ("0", "above zero"),
    "10 mg q4w q2w": ("q2w", "already"),
    "10 mg qd then 20 mg qd": ("then", "no end"),
    "10 mg q2w x 3 then": ("", "a dose"),
    "mg 10": ("mg", "a dose"),
    "": ("", "a dose"),
    "10 mg q2w until week 0": ("until", "ends before"),
    "10 mg q2w x 3 for 4 weeks": ("10", "do not fit"),
    "10 mg/day over 1h": ("over", "steady"),
    "10 mg @ q2w": ("@", "frequency"),
    "300 mg then 75 mg qd": ("then", "when the next phase starts"),
    "10 Mu qd": ("Mu", "a million"),
}


@pytest.mark.parametrize("text", BAD)
def test_an_error_points_at_the_word(text: str) -> None:
    word, why = BAD[text]
    with pytest.raises(ConfigError, match="cannot read this regimen") as caught:
        parse_regimen(text)
    lines = str(caught.value).splitlines()
    shown, caret = next((a, b) for a, b in pairwise(lines) if set(b.strip()) == {"^"})
    begin = caret.index("^")
    assert shown[begin : begin + len(caret.strip())] == word
    assert shown.removeprefix("  where: ") == text
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10 mg x 1 then 1 mg/kg", "frequency"),
        ("10 mg qd x 1 then 1 mg/kg qd x 1", "mixes units"),
        ("10 mg over 3 weeks q2w x 2", "never ends"),
        ("10 mg qd x 1000000000", "at most 100000"),
    ],
)
def test_phases_that_do_not_fit_are_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse_regimen(text)


amounts = st.floats(1e-3, 1e5, allow_nan=False)
intervals = st.one_of(
    st.integers(1, 26).map(lambda weeks: 7.0 * weeks), st.sampled_from([0.25, 1 / 3, 0.5, 1.0, 2.0, 30.4375])
)


@st.composite
def phases(draw: st.DrawFn, *, last: bool) -> dict[str, object]:
    """Draw the fields of a phase; phases are made in the tests, where their types may be checked."""
    start = draw(st.one_of(st.none(), st.integers(0, 1000).map(float)))
    fields: dict[str, object] = {"amount": draw(amounts), "start": start}
    fields["route"] = draw(st.sampled_from(["", "IV", "SC", "PO"]))
    if draw(st.booleans()):
        length = math.inf if last and draw(st.booleans()) else draw(st.integers(1, 500)) * 1.0
        return fields | {"duration": length, "steady": True}
    interval = draw(intervals)
    count = None if last and draw(st.booleans()) else draw(st.integers(1, 60))
    duration = draw(st.sampled_from([0.0, 1 / 48, 1 / 24])) if interval > 0.1 else 0.0
    return fields | {"duration": duration, "interval": interval, "count": count}


@st.composite
def regimens(draw: st.DrawFn) -> list[dict[str, object]]:
    n = draw(st.integers(1, 4))
    return [draw(phases(last=i == n - 1)) for i in range(n)]


def made(fields: list[dict[str, object]]) -> Regimen:
    return Regimen(tuple(Phase(**one) for one in fields))


@given(regimens())
@settings(max_examples=150, deadline=None)
def test_law_a_printed_regimen_reads_as_itself(fields: list[dict[str, object]]) -> None:
    regimen = made(fields)
    again = parse_regimen(str(regimen))
    assert str(again) == str(regimen)
    one, other = regimen.doses(until=700.0), again.doses(until=700.0)
    for name in ("time", "amount", "duration"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-9)


@given(regimens(), st.floats(1.0, 2000.0))
@settings(max_examples=100, deadline=None)
def test_law_doses_are_sorted_positive_and_before_the_horizon(fields: list[dict[str, object]], until: float) -> None:
    doses = made(fields).doses(until=until)
    assert np.all(np.diff(doses.time) >= 0)
    assert np.all(doses.amount > 0)
    assert np.all(doses.duration >= 0)
    assert np.all(doses.time < until)
    assert np.all(doses.time + doses.duration <= until + 1e-6)


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_law_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_regimen(text)
    except ConfigError:
        return


def records(time: list[float], amount: list[float], compartment: list[int] | None = None) -> cohort.Doses:
    n = len(time)
    return cohort.Doses(
        np.zeros(n, dtype=np.int64),
        np.array(time, dtype=np.float64),
        np.array(amount, dtype=np.float64),
        np.zeros(n),
        np.array(compartment or [1] * n, dtype=np.int64),
    )


def test_records_become_phases() -> None:
    regimen = regimen_of_records(records([0, 28, 56, 84, 112], [700, 700, 700, 1400, 1400]), 0)
    assert len(regimen.phases) == 2
    assert regimen.doses().time.tolist() == [0, 28, 56, 84, 112]
    assert regimen.doses().amount.tolist() == [700, 700, 700, 1400, 1400]


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from([1.0, 2.0])),
        min_size=1,
        max_size=25,
        unique_by=lambda row: row[0],
    )
)
@settings(max_examples=100, deadline=None)
def test_law_records_are_kept_as_they_are(rows: list[tuple[int, float]]) -> None:
    rows = sorted(rows)
    doses = regimen_of_records(records([float(t) for t, _ in rows], [a for _, a in rows]), 0).doses()
    np.testing.assert_allclose(doses.time, [t for t, _ in rows], atol=1e-9)
    assert doses.amount.tolist() == [a for _, a in rows]


def test_records_that_cannot_be_doses_are_refused() -> None:
    with pytest.raises(DataError, match="AMT"):
        regimen_of_records(records([0, 1], [1, -1]), 0)
    with pytest.raises(DataError, match="TIME"):
        regimen_of_records(records([-1], [1]), 0)
    with pytest.raises(DataError, match="no dose records"):
        regimen_of_records(records([0], [1]), 3)
    with pytest.raises(DataError, match="compartment 2 has no route"):
        regimen_of_records(records([0], [1], [2]), 0, routes={1: "SC"})


def test_records_carry_routes() -> None:
    regimen = regimen_of_records(records([0, 7], [1, 1], [1, 2]), 0, routes={1: "SC", 2: "IV"})
    assert regimen.doses().route == ("SC", "IV")
