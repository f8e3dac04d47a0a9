"""What Kenward and Roger's inference guarantees in small trials: its level and its coverage.

Twenty patients an arm, three visits, a quarter lost by the last one, unstructured covariance. A rate that should be q
may differ by 3 binomial standard errors, 3 √(q (1 − q) / trials): 0.038 for 300 trials, 0.0065 for 10,000. The batch
and the single fit are held to it apart.
"""

import numpy as np
import pytest

from trialtwin.stats.meanmodel import Factor, mean_model
from trialtwin.stats.mmrm import mmrm
from trialtwin.stats.mmrm_batch import batch_mmrm

pytestmark = pytest.mark.law

PATIENTS = 20
VISITS = ("1", "2", "3")
SIGMA = np.array([[16.0, 9.0, 6.0], [9.0, 20.0, 14.0], [6.0, 14.0, 25.0]])
EFFECT = 3.0
ALPHA = 0.05


def _trials(trials: int, effect: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return baseline (trial, patient), arm (patient) and outcomes (trial, patient, visit) with dropout at random."""
    n = 2 * PATIENTS
    rng = np.random.default_rng(seed)
    arm = np.arange(n) % 2
    base = rng.normal(size=(trials, n))
    outcomes = rng.multivariate_normal(np.zeros(3), SIGMA, size=(trials, n)) + 2 * base[:, :, None]
    outcomes += effect * arm[:, None] * np.array([0.3, 0.7, 1.0])
    # Dropout depends on what was seen at the visit before (missing at random).
    lost = rng.random((trials, n, 2)) < 1 / (1 + np.exp(2.0 - outcomes[:, :, :2] / 5))
    outcomes[:, :, 1:][np.logical_or.accumulate(lost, axis=2)] = np.nan
    return base, arm, outcomes


def _share_held(trials: int, effect: float, seed: int) -> float:
    """Return in which share of trials the 95 % interval of the effect at the last visit holds its true value."""
    base, arm, outcomes = _trials(trials, effect, seed)
    n = len(arm)
    subject, visit = np.repeat(np.arange(n), 3), np.tile(np.arange(3), n)
    factors = {"arm": Factor(("control", "active"), np.repeat(arm, 3)), "visit": Factor(VISITS, visit)}
    held = 0
    for covariate, outcome in zip(base, outcomes, strict=True):
        model = mean_model(["arm*visit", "base*visit"], factors=factors, covariates={"base": np.repeat(covariate, 3)})
        fit = mmrm(model, outcome.reshape(-1), subjects=subject, visit="visit")
        found = fit.difference("arm", "active", "control", at={"visit": "3"})
        held += found.lower <= effect <= found.upper
    return held / trials


def _tolerance(trials: int) -> float:
    return 3 * np.sqrt(ALPHA * (1 - ALPHA) / trials)


def test_law_kenward_roger_keeps_its_level_with_20_an_arm() -> None:
    assert abs(_share_held(300, 0.0, 20) - (1 - ALPHA)) < _tolerance(300)


def test_law_kenward_roger_keeps_its_coverage_with_20_an_arm() -> None:
    assert abs(_share_held(300, EFFECT, 21) - (1 - ALPHA)) < _tolerance(300)


@pytest.mark.slow
@pytest.mark.parametrize(("effect", "seed"), [(0.0, 20), (EFFECT, 21)])
def test_law_kenward_roger_in_10000_trials(effect: float, seed: int) -> None:
    assert abs(_share_held(10_000, effect, seed) - (1 - ALPHA)) < _tolerance(10_000)


@pytest.mark.parametrize(("effect", "seed"), [(0.0, 22), (EFFECT, 23)])
def test_law_kenward_roger_of_a_batch_in_5000_trials(effect: float, seed: int) -> None:
    base, arm, outcomes = _trials(5_000, effect, seed)
    covariates = np.stack([base, np.broadcast_to(arm, base.shape)], axis=2)
    fit = batch_mmrm(covariates, outcomes, names=["base", "arm"], columns=["arm"])
    assert fit.converged.all()
    low, high = fit.interval()
    held = (low[:, 0, 2] <= effect) & (effect <= high[:, 0, 2])
    assert abs(held.mean() - (1 - ALPHA)) < _tolerance(5_000)
