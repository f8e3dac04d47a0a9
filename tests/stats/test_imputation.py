"""Rubin's rules: limits, a law by simulation, and what is refused."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.stats.imputation import pool


def test_without_missing_data_nothing_is_added() -> None:
    found = pool(np.full(5, 2.0), np.full(5, 0.25), df_complete=40)
    assert (found.value, found.total, found.between) == (2.0, 0.25, 0.0)
    assert found.df == pytest.approx(41 / 43 * 40)
    assert found.df_large == np.inf
    assert pool(np.full(5, 2.0), np.full(5, 0.25)).df == np.inf


def test_degrees_of_freedom_never_exceed_those_of_the_complete_data() -> None:
    rng = np.random.default_rng(0)
    for spread in (0.01, 0.1, 1.0, 10.0):
        found = pool(spread * rng.normal(size=20), np.full(20, 0.5), df_complete=30)
        assert found.df < 30
        assert 0 < found.missing < 1


@pytest.mark.law
def test_law_proper_imputations_of_a_normal_mean_are_covered() -> None:
    """2,000 samples of 40, a third missing, 20 proper Bayesian imputations: 95 % within 3.5 standard errors."""
    rng, held, n, seen, m = np.random.default_rng(1), 0, 40, 27, 20
    for _ in range(2000):
        known = rng.normal(size=seen)
        variance = (seen - 1) * known.var(ddof=1) / rng.chisquare(seen - 1, size=m)
        mean = known.mean() + np.sqrt(variance / seen) * rng.normal(size=m)
        filled = mean[:, None] + np.sqrt(variance)[:, None] * rng.normal(size=(m, n - seen))
        whole = np.concatenate([np.tile(known, (m, 1)), filled], axis=1)
        found = pool(whole.mean(axis=1), whole.var(axis=1, ddof=1) / n, df_complete=n - 1)
        effect = found.estimate("mean", n=n, method="mean")
        held += effect.lower <= 0 <= effect.upper
    assert abs(held / 2000 - 0.95) < 3.5 * np.sqrt(0.05 * 0.95 / 2000)


def test_what_cannot_be_pooled_is_refused() -> None:
    two = np.array([1.0, 2.0])
    with pytest.raises(ConfigError, match="1 imputation"):
        pool(two[:1], two[:1])
    with pytest.raises(ConfigError, match="-1 degrees of freedom"):
        pool(two, two, df_complete=-1)
    with pytest.raises(DataError, match="a variance of imputed data is -1"):
        pool(two, np.array([1.0, -1.0]))
    with pytest.raises(DataError, match="estimates of imputed data"):
        pool(np.array([1.0, np.nan]), two)
