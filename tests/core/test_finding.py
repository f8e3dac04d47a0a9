"""Findings, tables and figures: JSON there and back, and figures that read the table beside them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trialtwin.core.finding import Assumption, Column, Evidence, Figure, Finding, Learned, Table, Verdict

WORDS = st.text(st.characters(codec="utf-8"), max_size=10)
CELLS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.sampled_from(["1", "1.0", "true", "null", "NaN", "inf", ""])
)
PLAIN = Table(columns=(Column(name="week"), Column(name="mean")), rows=((0, 1.5), (12, 2.5)))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    names = draw(st.lists(WORDS, min_size=1, max_size=4, unique=True))
    columns = tuple(
        Column(name=name, label=draw(WORDS), unit=draw(WORDS), decimals=draw(st.none() | st.integers(0, 10)))
        for name in names
    )
    rows = draw(st.lists(st.tuples(*[CELLS] * len(names)), max_size=5))
    return Table(columns=columns, rows=tuple(rows), note=draw(WORDS))


@st.composite
def findings(draw: st.DrawFn) -> Finding:
    table = draw(tables())
    columns = st.sampled_from([column.name for column in table.columns])
    figure = st.builds(
        Figure,
        kind=st.sampled_from(["fan", "histogram", "interval", "scatter", "bars", "forest"]),
        encoding=st.dictionaries(st.sampled_from(["x", "y", "low", "high"]), columns),
        x_label=WORDS,
        y_label=WORDS,
        reference=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        alt=WORDS,
    )
    return Finding(
        id=draw(WORDS),
        section=draw(WORDS),
        title=draw(WORDS),
        verdict=draw(st.sampled_from(Verdict)),
        text=draw(WORDS),
        table=table,
        figure=draw(st.none() | figure),
        evidence=Evidence(data=draw(st.dictionaries(WORDS, WORDS, max_size=2)), seed=draw(st.none() | st.integers(0))),
    )


@settings(deadline=None)
@given(findings())
def test_a_finding_goes_to_json_and_back_with_the_types_of_its_cells(finding: Finding) -> None:
    """True stays true and does not become 1; 1.0 stays a number with decimals; the text "1" stays text."""
    again = Finding.model_validate_json(finding.model_dump_json())
    assert again == finding
    assert again.table is not None
    assert finding.table is not None
    assert [[type(c) for c in row] for row in again.table.rows] == [
        [type(c) for c in row] for row in finding.table.rows
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_cell_holds_finite_numbers_only(bad: float) -> None:
    with pytest.raises(ValidationError):
        Table(columns=(Column(name="a"),), rows=((bad,),))


def test_a_row_that_does_not_fit_its_columns_is_refused() -> None:
    with pytest.raises(ValidationError, match="a row of 1 cells under 2 columns"):
        Table(columns=PLAIN.columns, rows=((0, 1.5), (12,)))


def _finding(table: Table | None, **encoding: str) -> Finding:
    figure = Figure(kind="scatter", encoding=encoding, x_label="week", y_label="mean", alt="two points")
    return Finding(id="f", section="s", title="t", verdict=Verdict.INFO, text="", table=table, figure=figure)


def test_a_figure_without_its_table_is_refused() -> None:
    with pytest.raises(ValidationError, match="without the table that it is drawn from"):
        _finding(None, x="week")


def test_a_figure_that_asks_for_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"asks for columns \['median'\]"):
        _finding(PLAIN, x="week", y="median")


def test_a_column_is_read_by_name() -> None:
    assert PLAIN.column("mean") == [1.5, 2.5]


@pytest.mark.parametrize(
    ("column", "heading"),
    [
        (Column(name="ACTOT", label="ADAS-Cog", unit="points"), "ADAS-Cog (points)"),
        (Column(name="ACTOT", unit="points"), "ACTOT (points)"),
        (Column(name="ACTOT"), "ACTOT"),
    ],
)
def test_a_heading_has_the_unit_where_there_is_one(column: Column, heading: str) -> None:
    assert column.heading == heading


@pytest.mark.parametrize("decimals", [-1, 11])
def test_decimals_have_a_range(decimals: int) -> None:
    with pytest.raises(ValidationError):
        Column(name="a", decimals=decimals)


@pytest.mark.parametrize("confidence", ["certain", ""])
def test_confidence_is_high_medium_or_low(confidence: str) -> None:
    with pytest.raises(ValidationError):
        Assumption(name="k0", value="0.55", source="PET", confidence=confidence)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sd", "shrinkage", "informed"), [(1.0, 0.0, False), (0.87, 0.2431, False), (0.86, 0.2604, True), (0.0, 1.0, True)]
)
def test_a_parameter_is_informed_once_a_quarter_of_its_prior_variance_is_gone(
    sd: float, shrinkage: float, informed: bool
) -> None:
    learned = Learned(name="rate", value=0.1, sd=2 * sd, prior_mean=0.0, prior_sd=2.0)
    assert learned.shrinkage == pytest.approx(shrinkage)
    assert learned.informed is informed
    assert Learned.model_validate_json(learned.model_dump_json()) == learned
