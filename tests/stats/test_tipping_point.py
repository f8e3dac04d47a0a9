"""Tipping points: shifts without a refit are shifts with one, and the conclusion turns where it is said to."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError
from trialtwin.stats.multiple_imputation import multiple_imputation
from trialtwin.stats.reference_imputation import conditional_mean
from trialtwin.stats.tipping_point import tipping_point


def trial(effect: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return outcomes of 80 patients at two visits, a quarter lost before the second, arm and a covariate."""
    rng = np.random.default_rng(seed)
    arm, base = np.arange(80) % 2, rng.normal(size=(80, 1))
    y = base + effect * arm[:, None] + rng.normal(size=(80, 2))
    y[rng.random(80) < 0.25, 1] = np.nan
    return y, arm, base


@pytest.mark.parametrize("resampling", ["jackknife", "bootstrap"])
def test_independent_a_shift_without_a_refit_is_one_with_a_refit(resampling: str) -> None:
    """The shift is put on the completed data of every replicate by hand and analysed by least squares."""
    y, arm, base = trial(1.0)
    plain = conditional_mean(y, arm, base, resampling=resampling, samples=30)
    moved = plain.shifted(np.where(arm == 1, -2.0, 0.5))
    np.testing.assert_allclose(
        moved.replicates,
        conditional_mean(
            y, arm, base, resampling=resampling, samples=30, delta=np.where(arm == 1, -2.0, 0.5)
        ).replicates,
        rtol=1e-12,
    )
    x = np.column_stack([np.ones(80), arm, base])
    by_hand = np.linalg.lstsq(x, moved.completed[:, 1], rcond=None)[0][1]
    assert moved.effect[1] == pytest.approx(by_hand, rel=1e-10)
    assert moved.effect_se[1] != pytest.approx(plain.effect_se[1], rel=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("draws", [False, True])
def test_at_the_tipping_shift_p_is_the_level(sign: float, draws: bool) -> None:
    y, arm, base = trial(sign * 1.0)
    imputed = multiple_imputation(y, arm, base, imputations=20) if draws else conditional_mean(y, arm, base)
    found = tipping_point(imputed, 1, shift_other=np.linspace(-6, 6, 13).tolist())
    assert found.p.shape == found.turned.shape == (1, 13)
    assert found.delta is not None
    assert sign * found.delta < 0
    turned = imputed.shifted(np.where(arm == 1, found.delta, 0.0)).estimate(1, contrast="a − b")
    assert turned.p == pytest.approx(0.05, abs=1e-6)
    assert found.unshifted.p < 0.05
    # all shifts beyond it, and none before
    beyond = sign * found.shift_other < sign * found.delta
    np.testing.assert_array_equal(found.turned[0], beyond)
    assert f"{found.delta:.4g}" in found.statement
    assert ("above 0" if sign > 0 else "below 0") in found.statement


def test_shifting_the_reference_arm_tips_the_other_way() -> None:
    found = tipping_point(conditional_mean(*trial(1.0)), 1, shift_other=[0.0], shift_reference=[-1.0, 0.0, 8.0])
    assert found.delta is not None
    assert 0 < found.delta < 8
    assert found.turned.ravel().tolist() == [False, False, True]


def test_an_effect_that_is_not_there_may_appear() -> None:
    """The p-value falls below the level on both sides; the side that is nearer is told."""
    imputed = conditional_mean(*trial(0.0, seed=4))
    found = tipping_point(imputed, 1, shift_other=[-9.0, 0.0, 9.0])
    assert found.unshifted.p > 0.05
    assert found.turned.ravel().tolist() == [True, False, True]
    assert found.delta is not None
    sides = [tipping_point(imputed, 1, shift_other=side).delta for side in ([-9.0, 0.0], [0.0, 9.0])]
    assert abs(found.delta) == pytest.approx(min(abs(side) for side in sides if side is not None), abs=1e-6)


def test_that_it_does_not_tip_is_said() -> None:
    found = tipping_point(conditional_mean(*trial(2.0)), 1, shift_other=[-0.1, 0.0, 1.0])
    assert found.delta is None
    assert not found.turned.any()
    assert found.statement.endswith("does not turn under shifts of -0.1 to 1 in the other arm.")


def test_two_arms_are_shifted_over_a_grid() -> None:
    """The effect falls with the other arm's shift and with minus the reference's, so that a corner turns first."""
    grid = np.linspace(-4, 4, 5).tolist()
    found = tipping_point(conditional_mean(*trial(1.0)), 1, shift_other=grid, shift_reference=grid)
    assert found.delta is None
    assert found.effect.shape == (5, 5)
    assert (np.diff(found.effect, axis=1) > 0).all()
    assert (np.diff(found.effect, axis=0) < 0).all()
    assert found.turned[-1, 0]
    assert not found.turned[2, 2]
    assert f"under {found.turned.sum()} of 25 shifts" in found.statement


def test_what_cannot_tip_is_refused() -> None:
    y, arm, base = trial(1.0)
    imputed = conditional_mean(y, arm, base)
    with pytest.raises(ConfigError, match="shifts of the other arm"):
        tipping_point(imputed, 1, shift_other=[1.0, 2.0])
    with pytest.raises(ConfigError, match="shifts of the reference arm"):
        tipping_point(imputed, 1, shift_other=[0.0, 2.0], shift_reference=[0.0, -1.0])
    with pytest.raises(ConfigError, match="no visit 2"):
        tipping_point(imputed, 2, shift_other=[0.0, 2.0])
    with pytest.raises(ConfigError, match="nothing was imputed in the other arm at visit 0"):
        tipping_point(imputed, 0, shift_other=[0.0, 2.0])
    with pytest.raises(ConfigError, match="a level of 1"):
        tipping_point(imputed, 1, shift_other=[0.0, 2.0], alpha=1.0)
