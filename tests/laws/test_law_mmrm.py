"""What Kenward and Roger's inference guarantees in small trials: its level and its coverage.

Twenty patients an arm, three visits, a quarter lost by the last one, unstructured covariance. A rate that should be q
may differ by 3 binomial standard errors, 3 √(q (1 − q) / trials): 0.029 for 500 trials, 0.0065 for 10,000.
"""

import numpy as np
import pytest

from trialtwin.stats.meanmodel import Factor, mean_model
from trialtwin.stats.mmrm import mmrm

pytestmark = pytest.mark.law

PATIENTS = 20
VISITS = ("1", "2", "3")
SIGMA = np.array([[16.0, 9.0, 6.0], [9.0, 20.0, 14.0], [6.0, 14.0, 25.0]])
EFFECT = 3.0
ALPHA = 0.05


def _share_held(trials: int, effect: float, seed: int) -> float:
    """Return in which share of trials the 95 % interval of the effect at the last visit holds its true value."""
    n = 2 * PATIENTS
    rng = np.random.default_rng(seed)
    subject, visit = np.repeat(np.arange(n), 3), np.tile(np.arange(3), n)
    arm = np.arange(n) % 2
    factors = {"arm": Factor(("control", "active"), np.repeat(arm, 3)), "visit": Factor(VISITS, visit)}
    held = 0
    for _ in range(trials):
        base = rng.normal(size=n)
        outcome = rng.multivariate_normal(np.zeros(3), SIGMA, size=n) + 2 * base[:, None]
        outcome += effect * arm[:, None] * np.array([0.3, 0.7, 1.0])
        # Dropout depends on what was seen at the visit before (missing at random).
        lost = rng.random((n, 2)) < 1 / (1 + np.exp(2.0 - outcome[:, :2] / 5))
        change = outcome.reshape(-1)
        change[np.column_stack([np.zeros(n, bool), np.logical_or.accumulate(lost, axis=1)]).reshape(-1)] = np.nan
        model = mean_model(["arm*visit", "base*visit"], factors=factors, covariates={"base": np.repeat(base, 3)})
        fit = mmrm(model, change, subjects=subject, visit="visit")
        found = fit.difference("arm", "active", "control", at={"visit": "3"})
        held += found.lower <= effect <= found.upper
    return held / trials


def _tolerance(trials: int) -> float:
    return 3 * np.sqrt(ALPHA * (1 - ALPHA) / trials)


def test_law_kenward_roger_keeps_its_level_with_20_an_arm() -> None:
    assert abs(_share_held(500, 0.0, 20) - (1 - ALPHA)) < _tolerance(500)


def test_law_kenward_roger_keeps_its_coverage_with_20_an_arm() -> None:
    assert abs(_share_held(500, EFFECT, 21) - (1 - ALPHA)) < _tolerance(500)


@pytest.mark.slow
@pytest.mark.parametrize(("effect", "seed"), [(0.0, 20), (EFFECT, 21)])
def test_law_kenward_roger_in_10000_trials(effect: float, seed: int) -> None:
    assert abs(_share_held(10_000, effect, seed) - (1 - ALPHA)) < _tolerance(10_000)
