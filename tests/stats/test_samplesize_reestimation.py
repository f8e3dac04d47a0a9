"""Sample size reconsidered: a closed form, the level by integration over the interim result, and what is refused."""

import numpy as np
import pytest
from scipy.stats import norm

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.stats.samplesize import Size
from trialtwin.stats.samplesize_reestimation import blinded_sd, blinded_size, reestimate_size
from trialtwin.stats.sequential import SequentialDesign, sequential_design
from trialtwin.stats.sequential_analysis import inverse_normal
from trialtwin.stats.sequential_spending import Boundary

PLAN = sequential_design(np.array([0.5, 1.0]), Boundary("O'Brien-Fleming"))
PLANNED = Size(100.0, 100.0)


def test_independent_closed_form_of_the_second_stage() -> None:
    """n₂ = (c + z_power)² · 2σ²/δ² an arm, c the boundary that z₂ must pass."""
    found = reestimate_size(PLAN, 1, 1.2, effect=3.5, sd=10.0, planned=PLANNED, power=0.8, largest=4.0)
    c = (float(PLAN.upper[1]) - np.sqrt(0.5) * 1.2) / np.sqrt(0.5)
    n = (c + norm.ppf(0.8)) ** 2 * 2 * 100 / 3.5**2
    assert found.control[0] == pytest.approx(n, rel=1e-6)
    assert found.factor == pytest.approx(n / 50, rel=1e-6)
    assert found.planned_power == pytest.approx(norm.sf(c - 3.5 / 10 * np.sqrt(25)), rel=1e-6)
    assert (found.power, found.limit) == (pytest.approx(0.8), "")


def test_the_target_is_kept_within_limits() -> None:
    hopeless = reestimate_size(PLAN, 1, -1.0, effect=3.0, sd=10.0, planned=PLANNED, largest=2.5)
    assert (hopeless.factor, hopeless.limit) == (2.5, "largest")
    assert hopeless.planned_power < hopeless.power < 0.9
    sure = reestimate_size(PLAN, 1, 2.7, effect=5.0, sd=10.0, planned=PLANNED, smallest=0.8)
    assert (sure.factor, sure.limit) == (0.8, "smallest")


def test_all_stages_to_come_grow_together_in_the_ratio_planned() -> None:
    plan = sequential_design(np.array([0.25, 0.5, 1.0]), Boundary("Pocock"))
    found = reestimate_size(plan, 1, 0.8, effect=3.5, sd=10.0, planned=Size(100.0, 200.0), power=0.85, largest=3.0)
    np.testing.assert_allclose(found.control, found.factor * np.array([25.0, 50.0]))
    np.testing.assert_allclose(found.treated, 2 * found.control)
    assert found.power == pytest.approx(0.85)


def _level(plan: SequentialDesign, *, pooled: bool) -> float:
    """Integrate the chance to reject over the first z, the second stage's size chosen from it; no effect."""
    nodes, weights = np.polynomial.legendre.leggauss(32)
    low, high = -6.0, float(plan.upper[0])
    z1, w = 0.5 * (high - low) * nodes + 0.5 * (high + low), 0.5 * (high - low) * weights
    rejected = np.zeros(32)
    for k, z in enumerate(z1.tolist()):
        # the size follows the trend seen, as in practice
        effect = max(z, 0.2) * 10.0 / np.sqrt(25.0)
        factor = reestimate_size(plan, 1, z, effect=effect, sd=10.0, planned=PLANNED, largest=4.0).factor
        share = 1 / (1 + factor) if pooled else 0.5
        rejected[k] = norm.sf((float(plan.upper[1]) - np.sqrt(share) * z) / np.sqrt(1 - share))
    return float(norm.sf(high) + (w * norm.pdf(z1)) @ rejected)


def test_independent_combined_stages_keep_the_level_and_pooled_data_do_not() -> None:
    """By quadrature: .025 for the combination; one z of all data rejects more often."""
    plan = sequential_design(np.array([0.5, 1.0]), Boundary("Pocock"))
    assert _level(plan, pooled=False) == pytest.approx(0.025, abs=1e-5)
    assert _level(plan, pooled=True) > 0.027
    # the combination is that of inverse_normal
    assert inverse_normal(np.array([1.2, 2.0]), np.array([0.5, 0.5])) == pytest.approx(np.sqrt(0.5) * 3.2)


def test_the_blinded_variance_has_the_right_mean() -> None:
    """E S² = σ² + δ² π (1 − π) n/(n − 1) in fixed arms: exact, so that 4,000 samples agree within 4 errors."""
    rng, treated = np.random.default_rng(1), np.arange(30) % 3 > 0
    y = rng.normal(size=(4_000, 30)) * 4.0 + 5.0 * treated
    squares = np.array([blinded_sd(row, effect=5.0, ratio=2.0) ** 2 for row in y])
    assert abs(squares.mean() - 16.0) < 4 * squares.std() / np.sqrt(4_000)
    assert blinded_sd(y[0]) ** 2 == pytest.approx(y[0].var(ddof=1))


def test_what_cannot_be_sized_is_refused() -> None:
    with pytest.raises(ConfigError, match="effect is -3"):
        reestimate_size(PLAN, 1, 1.0, effect=-3.0, sd=10.0, planned=PLANNED)
    with pytest.raises(ConfigError, match="factors from 3 to 2"):
        reestimate_size(PLAN, 1, 1.0, effect=3.0, sd=10.0, planned=PLANNED, smallest=3.0)
    with pytest.raises(ConfigError, match="the trial has ended at look 1"):
        reestimate_size(PLAN, 1, 3.5, effect=3.0, sd=10.0, planned=PLANNED)
    with pytest.raises(ConfigError, match="no look after look 2"):
        reestimate_size(PLAN, 2, 1.0, effect=3.0, sd=10.0, planned=PLANNED)
    with pytest.raises(DataError, match="2 outcomes"):
        blinded_sd(np.array([1.0, 2.0]))
    with pytest.raises(DataError, match="vary less than an effect of 9 makes"):
        blinded_sd(np.arange(5.0), effect=9.0)
    with pytest.raises(ConfigError, match=r"at most 0\.5 times"):
        blinded_size(np.arange(5.0), 1.0, planned=PLANNED, largest=0.5)
    assert blinded_size(np.arange(40.0), 1.0, planned=PLANNED, largest=1.5).total == pytest.approx(300.0)
