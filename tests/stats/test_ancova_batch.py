"""Least squares of many trials against one fit at a time."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.ancova_batch import VARIANCES, least_squares_batch
from trialtwin.stats.modelmatrix import ModelMatrix

CONTRAST = np.array([0.0, 1.0, 0.0, 0.0])


def trials(count: int, rows: int, *, missing: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    arm = rng.integers(0, 2, (count, rows)).astype(float)
    x = rng.normal(size=(count, rows, 2)) * [1.0, 1e3]
    y = 3 + 0.5 * arm + x @ [0.7, 1e-3] + rng.normal(size=(count, rows)) * (1 + arm)
    y[rng.random(y.shape) < missing] = np.nan
    return np.concatenate([np.ones((count, rows, 1)), arm[..., None], x], axis=2), y


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_each_trial_is_as_fitted_alone(variance: str, missing: float) -> None:
    X, y = trials(20, 60, missing=missing)
    found = least_squares_batch(X, y, CONTRAST, variance=variance)
    for k in range(20):
        seen = np.isfinite(y[k])
        alone = least_squares(ModelMatrix(("one", "arm", "a", "b"), X[k][seen]), y[k][seen])
        effect = alone.estimate({"arm": 1.0}, "arm", variance=variance)
        assert (found.value[k], found.se[k]) == pytest.approx((effect.value, effect.se), rel=1e-10)
        assert found.df[k] == effect.df


def test_rows_that_are_not_used_do_not_matter() -> None:
    X, y = trials(5, 40)
    used = np.random.default_rng(1).random((5, 40)) < 0.7
    other = np.where(used, y, 99.0)
    first = least_squares_batch(X, y, CONTRAST, used=used)
    np.testing.assert_array_equal(first.se, least_squares_batch(X, other, CONTRAST, used=used).se)


def test_a_trial_that_cannot_be_fitted_is_nan_and_the_others_are_not() -> None:
    """One arm without outcomes, a column that repeats, and too few rows."""
    X, y = trials(4, 40)
    y[0][X[0, :, 1] == 1] = np.nan
    X[1, :, 3] = X[1, :, 2]
    y[2, 4:] = np.nan
    found = least_squares_batch(X, y, CONTRAST, variance="HC3")
    assert np.isnan(found.value[:3]).all()
    assert np.isnan(found.se[:3]).all()
    assert np.isfinite([found.value[3], found.se[3]]).all()


def test_what_does_not_fit_is_refused() -> None:
    X, y = trials(2, 20)
    with pytest.raises(ConfigError, match="no variance estimator 'HC9'"):
        least_squares_batch(X, y, CONTRAST, variance="HC9")
    with pytest.raises(DataError, match="3 weights"):
        least_squares_batch(X, y, CONTRAST[:3])
