"""The error tree: what a person reads and what a script reads."""

import inspect

import pytest

from trialtwin.core import errors
from trialtwin.core.errors import (
    ConfigError,
    ConvergenceError,
    DataError,
    FitError,
    InterruptedRunError,
    MachineError,
    MismatchError,
    TrialTwinError,
)

CODES = {
    TrialTwinError: 1,
    ConfigError: 2,
    DataError: 3,
    MismatchError: 3,
    FitError: 4,
    ConvergenceError: 4,
    MachineError: 5,
    InterruptedRunError: 130,
}


@pytest.mark.parametrize(("error", "code"), CODES.items())
def test_exit_codes_are_those_that_the_module_promises(error: type[TrialTwinError], code: int) -> None:
    assert error.exit_code == code
    assert f"{error.__name__} " in str(errors.__doc__)


def test_every_error_of_the_tree_is_in_the_table() -> None:
    tree = {c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)}
    assert tree == CODES.keys()
    assert all(issubclass(error, TrialTwinError) for error in tree)


def test_a_message_says_what_where_what_exists_and_what_to_do() -> None:
    error = DataError("two baselines", where="ADQS, row 3", exists=["Baseline", "Week 12"], do="keep one")
    assert str(error) == "two baselines\n  where: ADQS, row 3\n  exists: Baseline, Week 12\n  do: keep one"
    assert (error.what, error.where, error.exists, error.do) == (
        "two baselines",
        "ADQS, row 3",
        ("Baseline", "Week 12"),
        "keep one",
    )


def test_a_message_has_no_empty_lines_for_what_is_not_known() -> None:
    assert str(FitError("no")) == "no"


def test_a_long_list_is_cut_and_says_by_how_much() -> None:
    names = [f"v{i}" for i in range(25)]
    assert str(MismatchError("no v99", exists=names)).endswith("v19, … (5 more)")
    assert "more" not in str(MismatchError("no v99", exists=names[:20]))


def test_names_from_an_iterator_are_kept() -> None:
    assert MismatchError("no", exists=iter("ab")).exists == ("a", "b")
