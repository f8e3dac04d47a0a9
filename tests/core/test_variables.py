"""Variables: their ranges, levels and names."""

import pytest

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.core.variables import Kind, Variable, position


@pytest.mark.parametrize(("lower", "upper"), [(1.0, 1.0), (2.0, 1.0)])
def test_an_empty_range_is_refused(lower: float, upper: float) -> None:
    with pytest.raises(ConfigError, match="empty plausible range"):
        Variable("A", lower=lower, upper=upper)


@pytest.mark.parametrize(("kind", "levels"), [(Kind.CATEGORICAL, ()), (Kind.CONTINUOUS, ("a", "b"))])
def test_levels_belong_to_categorical_variables_only(kind: Kind, levels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="levels"):
        Variable("A", kind=kind, levels=levels)


@pytest.mark.parametrize(
    ("lower", "upper", "value", "plausible"),
    [
        (0.0, 70.0, 0.0, True),
        (0.0, 70.0, 70.0, True),
        (0.0, 70.0, -1e-9, False),
        (0.0, 70.0, 70.1, False),
        (None, 70.0, -1e9, True),
        (0.0, None, 1e9, True),
        (None, None, 0.0, True),
        (0.0, 70.0, float("nan"), False),
    ],
)
def test_a_range_holds_its_ends(lower: float | None, upper: float | None, value: float, plausible: bool) -> None:
    assert Variable("A", lower=lower, upper=upper).plausible(value) is plausible


@pytest.mark.parametrize(
    ("variable", "title"),
    [
        (Variable("A", "Age", "years"), "Age (years)"),
        (Variable("A", unit="years"), "A (years)"),
        (Variable("A", "Age"), "Age"),
        (Variable("A"), "A"),
    ],
)
def test_a_title_has_the_unit_where_there_is_one(variable: Variable, title: str) -> None:
    assert variable.title == title


def test_an_unknown_variable_is_refused_with_what_was_asked_for() -> None:
    with pytest.raises(MismatchError, match=r"no dose 'X'\n  exists: A, B"):
        position((Variable("A"), Variable("B")), "X", what="dose")
