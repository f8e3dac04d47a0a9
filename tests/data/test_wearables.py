"""Wearables as features: values computed by hand, flags, refusals, and a real monitor's readings."""

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialtwin.core.errors import DataError
from trialtwin.data.wearables import Features, Series, excursions, glucose_features, matrix_of_series
from trialtwin.data.wearables_activity import count_features, pulse_features

STEP = 15 / 1440


def fortnight(day: list[float]) -> Series:
    """Return a day of 96 readings, 14 times over."""
    return Series(np.arange(96 * 14) * STEP, np.tile(np.repeat(day, 96 // len(day)), 14))


def test_consensus_metrics_by_hand() -> None:
    """Six of 24 hours each at 50, 65, 120 and 300, in an order that puts the lows at night."""
    found = glucose_features(fortnight([50.0, 120.0, 300.0, 65.0]), unit="mg/dL", interval=15)
    v = found.values
    assert found.flags == ()
    assert (v["time in range"], v["below 70"], v["below 54"]) == (0.25, 0.5, 0.25)
    assert (v["above 180"], v["above 250"], v["nights below 70"]) == (0.25, 0.25, 1.0)
    assert v["mean"] == 133.75
    # the variance of the four is 39568.75 / 4; n − 1 in place of n = 1344 adds 0.037 % to the SD
    assert v["SD"] == pytest.approx(99.4595 * (1344 / 1343) ** 0.5, abs=1e-3)
    assert v["CV"] == pytest.approx(74.39, abs=0.01)
    assert v["GMI"] == pytest.approx(6.5093, abs=1e-4)
    f = {g: 1.509 * (np.log(g) ** 1.084 - 5.381) for g in (50.0, 65.0, 120.0, 300.0)}
    assert v["LBGI"] == pytest.approx(2.5 * (f[50.0] ** 2 + f[65.0] ** 2))
    assert v["HBGI"] == pytest.approx(2.5 * (f[120.0] ** 2 + f[300.0] ** 2))
    # each day 50 → 300 → 50: 14 rises and 13 falls of 250, and the last day's fall to 65
    assert v["MAGE"] == pytest.approx((27 * 250 + 235) / 28)


def test_the_risk_function_has_its_published_zero_and_ends() -> None:
    """Kovatchev: no risk at 112.5 mg/dL, and 100 at both 20 and 600."""
    for glucose, low, high in ((112.5, 0.0, 0.0), (20.0, 100.0, 0.0), (600.0, 0.0, 100.0)):
        two = Series(np.array([0.5, 0.51]), np.array([glucose, glucose]))
        found = glucose_features(two, unit="mg/dL", interval=15).values
        assert found["LBGI"] == pytest.approx(low, abs=0.6)
        assert found["HBGI"] == pytest.approx(high, abs=0.6)


def test_units_and_both_ends_of_the_range() -> None:
    at_ends = Series(np.arange(4) * STEP, np.array([70.0, 180.0, 69.9, 180.1]))
    assert glucose_features(at_ends, unit="mg/dL", interval=15).values["time in range"] == 0.5
    molar = Series(at_ends.times, at_ends.values / 18.016)
    first, second = (glucose_features(s, unit=u, interval=15) for s, u in ((at_ends, "mg/dL"), (molar, "mmol/L")))
    for name in ("mean", "SD", "GMI", "LBGI"):
        assert second.values[name] == pytest.approx(first.values[name])


def test_one_low_reading_at_night_is_no_low_night_and_lows_by_day_are_none() -> None:
    values = np.full(96 * 2, 100.0)
    values[[4, 60, 61]] = 60.0
    times = np.arange(192) * STEP
    assert glucose_features(Series(times, values), unit="mg/dL", interval=15).values["nights below 70"] == 0
    values[[100, 101]] = 60.0
    assert glucose_features(Series(times, values), unit="mg/dL", interval=15).values["nights below 70"] == 0.5


def test_excursions_pass_over_ripples() -> None:
    """Up 100 with a dip of 10 on the way, down 60: two swings where 20 is the least, one where 80 is."""
    values = np.array([100.0, 150, 140, 200, 140])
    assert excursions(values, 20) == 80.0
    assert excursions(values, 80) == 100.0
    assert np.isnan(excursions(values, 120))
    assert np.isnan(excursions(np.full(5, 100.0), 0.0))


@given(st.lists(st.floats(40, 400), min_size=1, max_size=60), st.floats(1, 100))
def test_excursions_are_larger_than_the_least_and_the_same_upside_down(values: list[float], least: float) -> None:
    found = excursions(np.array(values), least)
    mirrored = excursions(-np.array(values), least)
    assert np.isnan(found) == np.isnan(mirrored)
    if not np.isnan(found):
        assert found > least
        assert found == pytest.approx(mirrored)


def test_too_little_is_flagged_and_kept() -> None:
    whole = fortnight([100.0, 150.0])
    assert glucose_features(whole, unit="mg/dL", interval=15).flags == ()
    gaps = Series(whole.times, np.where(np.arange(1344) % 5 < 3, whole.values, np.nan))
    found = glucose_features(gaps, unit="mg/dL", interval=15)
    assert found.flags == ("60% of readings where 70% are wanted",)
    assert np.isfinite(found.values["mean"])
    short = Series(whole.times[:96], whole.values[:96])
    assert glucose_features(short, unit="mg/dL", interval=15).flags == ("1.0 days where 14 are wanted",)
    none = Series(np.zeros(0), np.zeros(0))
    nothing = glucose_features(none, unit="mg/dL", interval=15)
    assert nothing.flags == ("0 readings: nothing can be told",)
    assert all(np.isnan(value) for value in nothing.values.values())


def test_what_cannot_be_a_series_of_glucose_is_refused() -> None:
    with pytest.raises(DataError, match=r"no unit of glucose 'mg'(.|\n)*mg/dL, mmol/L"):
        glucose_features(fortnight([100.0]), unit="mg", interval=15)
    with pytest.raises(DataError, match="cannot be glucose in mg/dL, from 5 to 8"):
        glucose_features(fortnight([5.0, 8.0]), unit="mg/dL", interval=15)
    with pytest.raises(DataError, match="not finite and increasing"):
        Series(np.array([0.0, 0.0]), np.array([100.0, 100.0]))
    with pytest.raises(DataError, match="an interval of 0 minutes"):
        glucose_features(fortnight([100.0]), unit="mg/dL", interval=0)


def test_people_become_rows_and_the_flagged_can_be_left_out() -> None:
    good = glucose_features(fortnight([100.0, 150.0]), unit="mg/dL", interval=15)
    short = glucose_features(Series(np.arange(5) * STEP, np.full(5, 90.0)), unit="mg/dL", interval=15)
    both = matrix_of_series({"p1": good, "p2": short})
    assert both.ids == ("p1", "p2")
    assert both.values[1, both.features.index("mean")] == 90.0
    assert matrix_of_series({"p1": good, "p2": short}, flagged=False).ids == ("p1",)
    with pytest.raises(DataError, match="nobody has a series"):
        matrix_of_series({"p2": short}, flagged=False)
    with pytest.raises(DataError, match="different features"):
        matrix_of_series({"p1": good, "p2": Features({"steps": 1.0}, ())})


def test_steps_by_hand() -> None:
    """Four days of 14 hours worn at 600 steps an hour and one at 3 hours; the nights are zeros: not worn."""
    hour = np.arange(5 * 24) % 24
    steps = np.where((hour >= 8) & (hour < 22), 600.0, 0.0)
    steps[4 * 24 + 11 :] = np.nan
    found = count_features(Series(np.arange(120) / 24, steps), interval=60)
    v = found.values
    assert (v["valid days"], v["wear hours"], v["daily total"]) == (4, 14, 8400)
    assert v["SD of daily total"] == 0
    assert v["longest gap hours"] == pytest.approx(1.0)
    assert found.flags == ()
    few = count_features(Series(np.arange(48) / 24, steps[:48]), interval=60)
    assert few.flags == ("2 valid days where 4 are wanted",)
    with pytest.raises(DataError, match=r"1 count\(s\) are negative"):
        count_features(Series(np.array([0.0, 1.0]), np.array([5.0, -1.0])), interval=60)


def test_half_an_hour_of_zeros_is_rest_and_an_hour_is_no_wear() -> None:
    """Minutes of one day: 12 hours of 10 steps a minute, with 30 minutes of zeros, then with 60."""
    for still, hours in ((30, 12.0), (60, 11.0)):
        steps = np.full(720, 10.0)
        steps[100 : 100 + still] = 0.0
        found = count_features(Series(np.arange(720) / 1440 + 0.3, steps), interval=1)
        assert found.values["wear hours"] == pytest.approx(hours)
        assert found.values["daily total"] == (720 - still) * 10


def test_heart_rate_by_hand() -> None:
    """50 at night and 80 by day: resting is 50, the mean is 72.5, and a day's gap is flagged."""
    hour = np.arange(6 * 24) % 24
    rate = np.where(hour < 6, 50.0, 80.0)
    found = pulse_features(Series(np.arange(144) / 24, rate), interval=60)
    v = found.values
    assert (v["valid days"], v["wear hours"], v["mean"], v["resting"]) == (6, 24, 72.5, 50)
    assert v["night minus day"] == -30
    assert v["SD"] == pytest.approx(12.99 * np.sqrt(144 / 143), abs=0.01)
    assert found.flags == ()
    rate[30:70] = np.nan
    assert pulse_features(Series(np.arange(144) / 24, rate), interval=60).flags == ("a gap of 41 hours",)
    nothing = pulse_features(Series(np.arange(3) / 24, np.full(3, 70.0)), interval=60)
    assert nothing.values["valid days"] == 0
    assert nothing.flags == ("0 valid days where 4 are wanted",)
    assert count_features(Series(np.zeros(0), np.zeros(0)), interval=60).values["valid days"] == 0
    with pytest.raises(DataError, match="outside 20 to 300"):
        pulse_features(Series(np.array([0.0]), np.array([400.0])), interval=60)


def monitor(path: Path) -> Series:
    """Read times and glucose, the first two columns of a workbook, without a library for it."""
    with zipfile.ZipFile(path) as book:
        sheet = ET.fromstring(book.read("xl/worksheets/sheet1.xml"))  # noqa: S314 - a file of our own
    space = re.match(r"\{.*\}", sheet.tag)
    assert space
    times, values = [], []
    for cell in sheet.iter(f"{space[0]}c"):
        number = cell.find(f"{space[0]}v")
        place = cell.get("r", "")
        if number is None or cell.get("t") == "s" or place[1:] == "1":
            continue
        if place.startswith("A"):
            times.append(float(number.text or "nan"))
        elif place.startswith("B") and len(times) > len(values):
            values.append(float(number.text or "nan"))
    kept = np.unique(times, return_index=True)[1]
    return Series(np.array(times)[kept], np.array(values)[kept])


def test_a_real_monitor(shared: Path) -> None:
    """Shanghai T2DM: readings every 15 minutes in mg/dL; shares add up, and GMI is the mean's."""
    people = {}
    for path in sorted((shared / "data" / "shanghai_t2dm").glob("20*.xlsx"))[:6]:
        people[path.stem] = glucose_features(monitor(path), unit="mg/dL", interval=15)
    assert len(people) == 6
    for found in people.values():
        v = found.values
        assert v["time in range"] + v["below 70"] + v["above 180"] == pytest.approx(1.0)
        assert v["below 54"] <= v["below 70"]
        assert v["above 250"] <= v["above 180"]
        assert v["MAGE"] > v["SD"]
        assert 80 < v["mean"] < 300
        assert v["GMI"] == pytest.approx(3.31 + 0.02392 * v["mean"])
    matrix = matrix_of_series(people)
    assert np.isfinite(matrix.values).all()
