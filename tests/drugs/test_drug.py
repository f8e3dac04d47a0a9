"""Drug files: every mistake is named by its line, with what exists."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.drugs.drug import parse_drug, read_drug
from trialtwin.drugs.registry import DRUGS, find_drug

GOOD = """name = "testimab"
label = "Testimab"
kind = "antibody"
route = "IV"
regimen = "10 mg/kg over 1h q4w"
[sources]
here = "made up"
[pk]
model = "two-compartment"
CL = { value = 0.2, unit = "L/d", cv = 0.3, source = "here", confidence = "low" }
V1 = { value = 3.0, unit = "L", source = "here", confidence = "low" }
Q = { value = 0.5, unit = "L/d", source = "here", confidence = "low" }
V2 = { value = 3.0, unit = "L", source = "here", confidence = "low" }

[[effect]]
mechanism = "amyloid_clearance"
direction = "raises"
model = "sigmoid"
emax = { value = 3.0, unit = "1/yr", source = "here", confidence = "low", provisional = true }
ec50 = { value = 20, unit = "µg/mL", source = "here", confidence = "low" }
h = { value = 2, source = "here", confidence = "low" }

[[effect]]
mechanism = "tau_spread"
direction = "lowers"
model = "emax"
emax = { value = 0.1, source = "here", confidence = "low" }
ec50 = { value = 20, unit = "µg/mL", source = "here", confidence = "low" }
"""
LINES = GOOD.splitlines()


def test_the_good_file_is_good() -> None:
    drug = parse_drug(GOOD)
    assert drug.mechanisms("alzheimer") == ("amyloid_clearance", "tau_spread")
    marked = [line.name for line in drug.assumptions() if line.provisional]
    assert marked == ["testimab: amyloid_clearance emax"]
    assert len(drug.assumptions()) == GOOD.count("confidence")


# what is replaced, by what, the line that the error names, and words that it has
BAD = {
    "an unknown mechanism": ('"tau_spread"', '"tau_spred"', 24, ["did you mean 'tau_spread'", "symptoms"]),
    "an unknown model": ('model = "emax"', 'model = "emx"', 23, ["'emx'", "sigmoid", "threshold"]),
    "an unknown pk model": ('"two-compartment"', '"three-compartment"', 8, ["one-compartment", "dose-rate"]),
    "a negative clearance": ("value = 0.2,", "value = -0.2,", 10, ["CL", "outside"]),
    "a volume of zero": ("V1 = { value = 3.0", "V1 = { value = 0", 11, ["V1", "outside"]),
    "a Hill coefficient out of range": ("h = { value = 2,", "h = { value = 200,", 21, ["h", "outside (0, 10]"]),
    "a unit that is none": ('0.5, unit = "L/d"', '0.5, unit = "L"', 12, ["'L/h'", "clearance"]),
    "an unknown key": ("Q = {", "R = {", 12, ["R", "no such key"]),
    "a key left out": (LINES[11] + "\n", "", 8, ["Q", "missing"]),
    "an unknown source": ('CL = { value = 0.2, unit = "L/d", cv = 0.3, source = "here"',
                          'CL = { value = 0.2, unit = "L/d", cv = 0.3, source = "her"', 10, ["no source 'her'"]),
    "no confidence": ('h = { value = 2, source = "here", confidence = "low"', 'h = { value = 2, source = "here"', 21,
                      ["confidence", "missing"]),
    "a regimen that cannot be read": ("1h q4w", "1h q4x", 5, ["q4x", "frequency"]),
    "a negative dose": ("10 mg/kg", "-10 mg/kg", 5, ["above zero"]),
    "a regimen in another unit": ("10 mg/kg over", "10 U over", 5, ["in U"]),
    "a route without absorption": ('route = "IV"', 'route = "SC"', 4, ["'ka'"]),
    "not a number": ("ec50 = { value = 20, unit", 'ec50 = { value = "20 µg", unit', 20, ["ec50"]),
    "infinite": ("h = { value = 2", "h = { value = inf", 21, ["finite"]),
    "omega and cv": ("cv = 0.3", "cv = 0.3, omega = 0.3", 10, ["not both"]),
    "a driver without a target": ('model = "emax"', 'model = "emax"\ndriver = "occupancy"', 27, ["needs a [target]"]),
    "a dose rate against a concentration": (LINES[19], LINES[19].replace("µg/mL", "mg/d"), 20, ["'mg/d'"]),
    "a mechanism twice": ('"tau_spread"', '"amyloid_clearance"', 24, ["has an effect already"]),
    "a way that is not the disease's": ('model = "emax"', 'model = "emax"\nway = "add"', 27, ["multiplies"]),
    "an indirect response without its rate": ('model = "emax"', 'model = "emax"\nindirect = "inhibit loss"', 23,
                                              ["go together"]),
    "a name with spaces": ('name = "testimab"', 'name = "test mab"', 1, ["name"]),
    "broken TOML": ("[pk]", "[pk", 8, ["not valid TOML"]),
    "an unknown disease without a way": ('mechanism = "tau_spread"', 'disease = "mine"\nmechanism = "tau_spread"', 25,
                                         ["say way"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_mistake_is_named_by_its_line(fault: str) -> None:
    old, new, line, words = BAD[fault]
    assert GOOD.count(old) in (1, 2), old
    with pytest.raises(ConfigError) as caught:
        parse_drug(GOOD.replace(old, new, 1), where="mine.toml")
    text = str(caught.value)
    assert f"line {line}" in text, text
    for word in words:
        assert word in text, text
    assert "mine.toml" in text


def test_several_mistakes_are_named_in_the_order_of_lines() -> None:
    text = GOOD.replace("value = 0.2,", "value = -0.2,").replace("h = { value = 2,", "h = { value = 200,")
    with pytest.raises(ConfigError) as caught:
        parse_drug(text)
    lines = [part for part in str(caught.value).splitlines() if part.startswith("  - line")]
    assert [part.split(":")[0] for part in lines] == ["  - line 10", "  - line 21"]


@given(st.integers(0, len(LINES) - 1), st.text(alphabet="abc=[]{}\"'-1.#\n ", max_size=12))
@settings(max_examples=150, deadline=None)
def test_law_any_damage_is_read_or_refused(at: int, instead: str) -> None:
    text = "\n".join([*LINES[:at], instead, *LINES[at + 1 :]])
    found = ""
    try:
        parse_drug(text)
    except ConfigError as error:
        found = str(error)
    assert not found or "line" in found


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_drug(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read"):
        find_drug(tmp_path / "bytes.toml")


def test_a_drug_of_ones_own_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "testimab.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert find_drug(str(path)).name == "testimab"


def test_an_unknown_name_lists_the_library() -> None:
    with pytest.raises(MismatchError, match="lecanemab") as caught:
        find_drug("lecanemap")
    assert set(caught.value.exists) == set(DRUGS)
