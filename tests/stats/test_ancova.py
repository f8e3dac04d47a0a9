"""Least squares: independent sandwich, invariances, refusals that name columns and patients, and speed."""

import time
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from trialtwin.core.errors import ConfigError, DataError, FitError, MismatchError
from trialtwin.stats.ancova import VARIANCES, LinearFit, least_squares
from trialtwin.stats.modelmatrix import ModelMatrix, continuous_columns, factor_columns, intercept, join


def _data(seed: int, n: int = 40) -> tuple[ModelMatrix, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    design = join(
        intercept(n), factor_columns("arm", ("A", "B"), np.arange(n) % 2), continuous_columns({"x": x, "z": x**2})
    )
    return design, 1 + x + rng.normal(size=n) * (1 + np.arange(n) % 2)


def _named(**columns: np.ndarray) -> ModelMatrix:
    return ModelMatrix(tuple(columns), np.column_stack(list(columns.values())))


def test_independent_sandwich_by_its_definition() -> None:
    """All variances from the normal equations and an explicit hat matrix."""
    design, y = _data(0)
    fit = least_squares(design, y)
    X = design.values
    n, p = X.shape
    bread = np.linalg.inv(X.T @ X)
    e = y - X @ bread @ X.T @ y
    h = np.diag(X @ bread @ X.T)
    weights = {
        "HC0": e**2,
        "HC1": e**2 * n / (n - p),
        "HC2": e**2 / (1 - h),
        "HC3": e**2 / (1 - h) ** 2,
        "HC4": e**2 / (1 - h) ** np.minimum(4, h / h.mean()),
    }
    expected = {kind: bread @ X.T @ np.diag(w) @ X @ bread for kind, w in weights.items()}
    expected["model"] = e @ e / (n - p) * bread
    assert fit.coefficients == pytest.approx(bread @ X.T @ y)
    assert (fit.n, fit.df) == (n, n - p)
    for kind in VARIANCES:
        assert fit.covariance(kind) == pytest.approx(expected[kind], rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("kind", VARIANCES)
def test_contrast_uses_the_covariance_matrix(kind: str) -> None:
    design, y = _data(1)
    fit = least_squares(design, y)
    weights = {"arm[B]": 1.0, "x": -0.5}
    a = design.weights(weights)
    estimate = fit.estimate(weights, "arm − x/2", variance=kind)
    assert estimate.value == pytest.approx(float(a @ fit.coefficients))
    assert estimate.se == pytest.approx(float(np.sqrt(a @ fit.covariance(kind) @ a)), rel=1e-12)
    assert estimate.df == fit.df


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), shift=st.floats(-1e5, 1e5), scale=st.floats(1e-4, 1e4))
def test_law_covariate_may_be_on_any_scale(seed: int, shift: float, scale: float) -> None:
    """Shifting and stretching a covariate leaves the effect, its error and the fitted values."""
    rng = np.random.default_rng(seed)
    n = 30
    arm = factor_columns("arm", ("A", "B"), np.arange(n) % 2)
    x = rng.normal(size=n)
    y = x + rng.normal(size=n)
    first = least_squares(join(intercept(n), arm, continuous_columns({"x": x})), y)
    second = least_squares(join(intercept(n), arm, continuous_columns({"x": shift + scale * x})), y)
    # Digits are lost as the shift outgrows the spread.
    slack = 1e-9 * max(1.0, abs(shift) / scale * 1e-5)
    assert second.fitted == pytest.approx(first.fitted, rel=slack, abs=slack)
    for kind in ("model", "HC3"):
        a = first.estimate({"arm[B]": 1.0}, "B − A", variance=kind)
        b = second.estimate({"arm[B]": 1.0}, "B − A", variance=kind)
        assert (b.value, b.se) == pytest.approx((a.value, a.se), rel=slack, abs=slack)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), levels=st.integers(2, 6))
def test_law_choice_of_reference_level_does_not_matter(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    n = 50
    codes = np.concatenate([np.arange(levels), rng.integers(0, levels, n - levels)])
    names = tuple("abcdef"[:levels])
    relabelling = rng.permutation(levels)
    inverse = np.argsort(relabelling)
    y = rng.normal(size=n) + codes
    first = least_squares(join(intercept(n), factor_columns("f", names, codes)), y)
    renamed = tuple(names[k] for k in relabelling)
    second = least_squares(join(intercept(n), factor_columns("f", renamed, inverse[codes])), y)
    assert second.fitted == pytest.approx(first.fitted, rel=1e-10, abs=1e-12)
    assert second.r_squared == pytest.approx(first.r_squared, rel=1e-9, abs=1e-12)


def test_singular_design_names_the_columns_that_depend_on_each_other() -> None:
    rng = np.random.default_rng(2)
    a, b, c = rng.normal(size=(3, 20))
    design = _named(one=np.ones(20), a=a, b=b, c=c, total=a + 2 * c)
    with pytest.raises(FitError, match=r"'total' is a linear combination of a, c\n"):
        least_squares(design, b)


def test_constant_column_is_named() -> None:
    design = _named(one=np.ones(12), age=np.full(12, 70.0))
    with pytest.raises(FitError, match="'age' is a linear combination of one"):
        least_squares(design, np.arange(12.0))


def test_zero_column_is_named() -> None:
    design = _named(empty=np.zeros(12), x=np.arange(12.0))
    with pytest.raises(FitError, match="'empty' is zero in every row"):
        least_squares(design, np.arange(12.0) ** 2)


def test_every_dependent_column_is_named() -> None:
    x = np.random.default_rng(3).normal(size=20)
    design = _named(one=np.ones(20), x=x, y=2 * x, z=x + 1)
    with pytest.raises(FitError, match=r"(?s)'y' is a linear combination of x; so are z.*rank 2"):
        least_squares(design, x**2)


def test_dependence_beside_a_large_offset_is_seen_and_a_date_is_not_taken_for_a_constant() -> None:
    rng = np.random.default_rng(4)
    day = 20_000 + rng.uniform(0, 300, 40)
    y = rng.normal(size=40)
    assert least_squares(_named(one=np.ones(40), day=day), y).df == 38
    with pytest.raises(FitError, match="'week' is a linear combination of one, day"):
        least_squares(_named(one=np.ones(40), day=day, week=day / 7 - 3), y)


@pytest.mark.parametrize("n", [2, 3])
def test_no_degrees_of_freedom_is_an_error(n: int) -> None:
    design = ModelMatrix(("a", "b", "c"), np.random.default_rng(0).normal(size=(n, 3)))
    with pytest.raises(FitError, match=rf"{n} patients leave no residual degrees of freedom for 3 coefficients"):
        least_squares(design, np.arange(float(n)))


@pytest.mark.parametrize("kind", ["HC2", "HC3", "HC4"])
def test_leverage_1_names_the_rows(kind: str) -> None:
    n = 12
    codes = np.arange(n) % 2
    codes[5] = 2
    design = join(intercept(n), factor_columns("site", ("1", "2", "3"), codes))
    y = np.random.default_rng(0).normal(size=n)
    named = least_squares(design, y, rows=[f"subject-{i}" for i in range(n)])
    with pytest.raises(FitError, match=rf"(?s){kind} is undefined: 1 patient.*subject-5"):
        named.covariance(kind)
    with pytest.raises(FitError, match="row 5"):
        least_squares(design, y).estimate({"site[2]": 1.0}, "2 − 1", variance=kind)


def test_exact_fit_is_an_error() -> None:
    x = np.arange(10.0)
    with pytest.raises(FitError, match="fits the score exactly"):
        least_squares(_named(one=np.ones(10), x=x), 3 * x + 1, name="the score")


def test_unknown_names_say_what_exists() -> None:
    design, y = _data(0)
    fit = least_squares(design, y)
    with pytest.raises(MismatchError, match=r"(?s)'arm\[C\]'.*arm\[B\]"):
        fit.estimate({"arm[C]": 1.0}, "C − A")
    with pytest.raises(ConfigError, match=r"(?s)'HC5'.*HC4"):
        fit.covariance("HC5")


def test_missing_response_and_wrong_lengths_are_refused() -> None:
    design, y = _data(0)
    with pytest.raises(DataError, match="1 value"):
        least_squares(design, np.where(np.arange(40) == 3, np.nan, y))
    with pytest.raises((DataError, TypeCheckError)):
        least_squares(design, y[:-1])
    with pytest.raises(DataError, match="2 row names"):
        least_squares(design, y, rows=("a", "b"))


def test_zero_contrast_has_no_inference() -> None:
    design, y = _data(0)
    with pytest.raises(FitError, match="standard error 0"):
        least_squares(design, y).estimate({}, "nothing")


def test_fit_cannot_be_changed() -> None:
    design, y = _data(0)
    fit = least_squares(design, y)
    with pytest.raises(ValueError, match="read-only"):
        fit.coefficients[0] = 0.0
    with pytest.raises(FrozenInstanceError):
        fit.sigma = 1.0  # type: ignore[misc]


def test_two_thousand_fits_take_less_than_five_seconds() -> None:
    design, y = _data(0, n=200)
    start = time.process_time()
    for _ in range(2000):
        fit: LinearFit = least_squares(design, y)
        fit.estimate({"arm[B]": 1.0}, "B − A", variance="HC3")
    assert time.process_time() - start < 5
