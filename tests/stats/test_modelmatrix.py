"""Columns of a model: coding, centring, interactions, and refusals."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.stats.modelmatrix import (
    ModelMatrix,
    centred,
    continuous_columns,
    crossed,
    factor_columns,
    intercept,
    join,
)

CODES = np.array([0, 1, 2, 1])


def test_first_level_is_the_reference() -> None:
    part = factor_columns("race", ("Asian", "Black", "White"), CODES)
    assert part.names == ("race[Black]", "race[White]")
    assert part.values.tolist() == [[0, 0], [1, 0], [0, 1], [1, 0]]


def test_levels_that_do_not_occur_get_no_column() -> None:
    part = factor_columns("site", ("x", "701", "y", "702"), np.array([1, 3, 3]))
    assert part.names == ("site[702]",)
    assert part.values[:, 0].tolist() == [0, 1, 1]


def test_factor_with_one_occurring_level_has_no_column() -> None:
    assert factor_columns("site", ("1", "2"), np.array([1, 1])).names == ()


@pytest.mark.parametrize("codes", [[-1, 0], [0, 2]])
def test_codes_outside_the_levels_are_refused(codes: list[int]) -> None:
    with pytest.raises(DataError, match=r"(?s)'sex' has codes outside.*F, M"):
        factor_columns("sex", ("F", "M"), np.array(codes))


def test_centred_columns_have_mean_zero_over_all_arms() -> None:
    part = centred(continuous_columns({"x": np.array([1.0, 2.0, 6.0])}), suffix="_C")
    assert part.names == ("x_C",)
    assert part.values[:, 0].tolist() == [-2, -1, 3]


def test_crossed_multiplies_every_pair_of_columns() -> None:
    part = crossed(
        factor_columns("arm", ("p", "l", "h"), np.array([0, 1, 2])),
        continuous_columns({"x": np.array([2.0, 3.0, 4.0]), "z": np.array([5.0, 6.0, 7.0])}),
    )
    assert part.names == ("arm[l]:x", "arm[l]:z", "arm[h]:x", "arm[h]:z")
    assert part.values.tolist() == [[0, 0, 0, 0], [3, 6, 0, 0], [0, 0, 4, 7]]


def test_join_refuses_other_lengths_and_repeated_names() -> None:
    with pytest.raises(DataError, match="3 rows where the other arrays have 4"):
        join(intercept(4), continuous_columns({"x": np.ones(3)}))
    with pytest.raises(DataError, match="repeat in a model: x"):
        join(continuous_columns({"x": np.ones(3)}), continuous_columns({"x": np.zeros(3)}))


def test_missing_value_names_the_covariate() -> None:
    with pytest.raises(DataError, match="covariate 'age' has 1 value"):
        continuous_columns({"sex": np.zeros(2), "age": np.array([1.0, np.nan])})


def test_names_and_columns_must_agree() -> None:
    with pytest.raises(DataError, match="2 columns has 1 names"):
        ModelMatrix(("a",), np.zeros((3, 2)))


def test_no_covariates_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no continuous covariates"):
        continuous_columns({})


def test_weights_name_what_exists() -> None:
    matrix = intercept(2)
    assert matrix.weights({"(Intercept)": 2.0}).tolist() == [2.0]
    with pytest.raises(MismatchError, match=r"(?s)no coefficient 'x'.*\(Intercept\)"):
        matrix.weights({"x": 1.0})


def test_matrix_is_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        intercept(2).values[0, 0] = 3.0
