"""Terms of a mean: columns, least-squares rows, and what cannot be a model."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.stats.meanmodel import Factor, MeanModel, mean_model

ARM = Factor.of(["P", "P", "A", "A", "A", "A"], levels=["P", "A"])
SITE = Factor.of(["x", "y", "x", "x", "x", "y"])
BASE = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


def model(*terms: str) -> MeanModel:
    return mean_model(terms, factors={"ARM": ARM, "SITE": SITE}, covariates={"BASE": BASE})


def test_columns_are_those_of_treatment_coding() -> None:
    matrix = model("ARM*SITE", "ARM*BASE").matrix()
    assert matrix.names == ("(Intercept)", "ARM[A]", "SITE[y]", "BASE", "ARM[A]:SITE[y]", "ARM[A]:BASE")
    assert matrix.values[:, 5].tolist() == [0, 0, 3, 4, 5, 6]
    assert matrix.values[:, 4].tolist() == [0, 0, 0, 0, 0, 1]


def test_a_star_of_three_holds_every_margin() -> None:
    assert len(model("ARM*SITE*BASE").terms) == 7
    assert model("ARM", "SITE", "ARM:SITE").terms == model("ARM*SITE").terms


def test_rows_of_equal_and_observed_margins() -> None:
    both = model("ARM", "SITE", "BASE")
    assert both.mean_row({"ARM": "A"}).tolist() == [1, 1, 0.5, 3.5]
    assert both.mean_row({"ARM": "A"}, margins="observed").tolist() == pytest.approx([1, 1, 1 / 3, 3.5])
    used = np.array([True, True, False, False, False, False])
    assert both.mean_row({}, margins="observed", used=used).tolist() == [1, 0, 0.5, 1.5]


def test_observed_margins_weight_combinations_as_they_occur() -> None:
    crossed = model("ARM*SITE")
    row = crossed.mean_row({}, margins="observed")
    assert row == pytest.approx(crossed.matrix().values.mean(axis=0))


@pytest.mark.parametrize(
    ("terms", "error", "says"),
    [
        (["ARM:SITE"], ConfigError, "write 'ARM\\*SITE'"),
        (["SEX"], MismatchError, "exists: ARM, SITE, BASE"),
    ],
)
def test_terms_that_are_no_model(terms: list[str], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        model(*terms)


def test_names_that_do_not_exist() -> None:
    with pytest.raises(MismatchError, match="exists: P, A"):
        model("ARM").mean_row({"ARM": "B"})
    with pytest.raises(MismatchError, match="exists: ARM, SITE"):
        model("ARM").mean_row({"SEX": "F"})
    with pytest.raises(ConfigError, match="equal, observed"):
        model("ARM").mean_row({}, margins="proportional")
    with pytest.raises(MismatchError, match="no level 'B'"):
        Factor.of(["A", "B"], levels=["A"])


def test_factors_and_covariates_that_cannot_be() -> None:
    with pytest.raises(DataError, match="'c'"):
        Factor(("a", "b", "c"), np.array([0, 1]))
    with pytest.raises(DataError, match="exists: a"):
        Factor(("a",), np.array([0, 1]))
    with pytest.raises(DataError, match="rows"):
        mean_model(["ARM"], factors={"ARM": ARM}, covariates={"BASE": BASE[:3]})
    with pytest.raises(DataError, match="finite"):
        mean_model(["x"], factors={}, covariates={"x": np.array([1.0, np.nan])})
