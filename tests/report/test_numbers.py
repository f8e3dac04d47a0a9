"""Numbers as a journal prints them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialtwin.core.finding import Column
from trialtwin.report.numbers import (
    MINUS,
    aligned,
    cell_text,
    column_decimals,
    decimals_for,
    degrees,
    fixed,
    general,
    interval,
    is_p,
    p_value,
)


@pytest.mark.parametrize(
    ("p", "printed"),
    [
        (0.2447, "0.245"), (0.0005, "<0.001"), (0.00099, "<0.001"), (0.001, "0.001"), (0.0496, "0.0496"),
        (0.0504, "0.0504"), (0.05, "0.050"), (0.99999, ">0.999"), (1.0, ">0.999"), (0.0, "<0.001"), (1e-300, "<0.001"),
    ],
)  # fmt: skip
def test_p_values_are_printed_as_in_journals(p: float, printed: str) -> None:
    assert p_value(p) == printed


@given(st.floats(0.0, 1.0))
def test_a_printed_p_value_is_on_the_same_side_of_five_per_cent(p: float) -> None:
    printed = p_value(p)
    if printed[0] in "<>" or p == 0.05 or abs(p - 0.05) < 1e-6:
        return
    assert (float(printed) < 0.05) == (p < 0.05)


@given(st.floats(-1e9, 1e9), st.integers(0, 6))
def test_fixed_has_its_decimals_a_true_minus_and_no_negative_zero(value: float, decimals: int) -> None:
    printed = fixed(value, decimals)
    assert "-" not in printed
    assert len(printed.partition(".")[2]) == decimals
    back = float(printed.replace(MINUS, "-"))
    assert abs(back - value) <= 0.5 * 10.0**-decimals + 1e-6
    assert not (back == 0 and MINUS in printed)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_general_keeps_six_significant_digits(value: float) -> None:
    printed = general(value).replace(MINUS, "-")
    mantissa, _, power = printed.partition("×10")
    exponent = power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or "0"
    assert float(f"{mantissa}e{exponent}") == pytest.approx(value, rel=1e-5)


def test_decimals_come_from_the_smallest_error() -> None:
    assert decimals_for([0.8405, 0.817]) == 2
    assert decimals_for([8.4]) == 1
    assert decimals_for([0.0841, 12.0]) == 3
    assert decimals_for([]) == 2


def test_an_interval_is_printed_with_its_estimate() -> None:
    assert interval(-1.0060, -2.6622, 0.6502, 2) == "−1.01 (−2.66, 0.65)"


def test_a_column_without_stated_decimals_gets_those_that_say_something() -> None:
    assert column_decimals([1.0, 2.0, None, "x", True]) == 0
    assert column_decimals([0.123456]) == 4
    assert column_decimals([1234.56, 0.1]) == 1
    assert column_decimals([0.5, 0.25]) == 2


def test_a_number_too_small_for_its_decimals_is_not_printed_as_zero() -> None:
    assert cell_text(3.21e-7, 2) == "3.2×10⁻⁷"
    assert cell_text(0.0, 2) == "0.00"


def test_cells_of_every_type() -> None:
    assert [cell_text(c, 1) for c in (None, True, False, 2014, -3, "a-b")] == ["—", "yes", "no", "2014", "−3", "a-b"]


def test_only_columns_named_p_are_printed_as_p_values() -> None:
    assert is_p(Column(name="p"))
    assert is_p(Column(name="result", label="P"))
    assert not is_p(Column(name="p", decimals=6))
    assert not is_p(Column(name="power"))


def test_degrees_of_freedom() -> None:
    assert [degrees(df) for df in (227.0, 163.4712, None)] == ["227", "163.5", "∞"]


def test_ticks_of_an_axis_share_their_decimals() -> None:
    assert aligned([-1.0, -0.5, 0.0]) == ("−1.0", "−0.5", "0.0")
    assert aligned([0.0, 1e6, 2e6]) == ("0", "1×10⁶", "2×10⁶")
    assert aligned([]) == ()
