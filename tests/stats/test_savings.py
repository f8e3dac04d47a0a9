"""The savings certificate against a search by whole patients, and its fall-back."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError
from trialtwin.stats.samplesize import Size, power_t, size_t
from trialtwin.stats.samplesize_prognostic import deflated_sd
from trialtwin.stats.savings import savings

CASES = [(2.0, 6.0, 0.5, 1.0), (-1.5, 5.0, 0.3, 2.0), (0.8, 1.5, 0.7, 0.5)]


@pytest.mark.parametrize(("effect", "sd", "rho", "ratio"), CASES)
def test_independent_smallest_control_arm_by_search(effect: float, sd: float, rho: float, ratio: float) -> None:
    found = savings(effect, sd, rho, ratio=ratio)
    left = deflated_sd(sd, rho, deflation=0.9, inflation=1.05)
    treated = size_t(effect, sd * 1.05, ratio=ratio).treated
    control = next(n for n in range(2, 5000) if power_t(Size(float(n), treated), effect, left) >= 0.9)
    assert found.control_spared.control == control
    assert found.control_spared.treated == found.without.treated


@pytest.mark.parametrize(("effect", "sd", "rho", "ratio"), CASES)
def test_the_trial_with_the_score_has_the_power_and_no_smaller_one_has(
    effect: float, sd: float, rho: float, ratio: float
) -> None:
    found = savings(effect, sd, rho, ratio=ratio)
    left = deflated_sd(sd, rho, deflation=0.9, inflation=1.05)
    control, treated = float(found.with_score.control), float(found.with_score.treated)
    assert power_t(Size(control, treated), effect, left) >= 0.9
    assert power_t(Size(control - 1, treated - 1), effect, left) < 0.9


def test_the_least_correlation_leaves_the_tolerated_power() -> None:
    found = savings(2.0, 6.0, 0.7, deflation=1.0)
    size = Size(float(found.with_score.control), float(found.with_score.treated))
    assert found.power_if_useless < found.tolerated
    assert power_t(size, 2.0, found.sd * float(np.sqrt(1 - found.least_correlation**2))) == pytest.approx(0.8, abs=1e-6)
    assert 0 < found.least_correlation < 0.7


def test_a_useless_score_saves_nothing_and_costs_nothing() -> None:
    found = savings(2.0, 6.0, 0.0, accrual=5.0)
    assert found.saved == found.saved_controls == found.spared_controls == 0
    assert found.months == 0.0
    assert found.power_if_useless >= 0.9
    assert found.least_correlation == 0.0


def test_dropout_is_made_up_for_by_arm_and_saves_months_of_accrual() -> None:
    plain, with_dropout = savings(2.0, 6.0, 0.5), savings(2.0, 6.0, 0.5, dropout=(0.2, 0.5), accrual=12.0)
    assert with_dropout.with_score.control == int(np.ceil(plain.with_score.control / 0.8))
    assert with_dropout.with_score.treated == 2 * plain.with_score.treated
    assert with_dropout.months == pytest.approx(with_dropout.saved / 12.0)
    assert plain.months is None


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"tolerated": 0.95}, "above the planned power"),
        ({"dropout": (1.0, 0.0)}, "dropout of the control arm"),
        ({"dropout": (0.0, -0.1)}, "dropout of the treated arm"),
        ({"accrual": 0.0}, "accrual"),
        ({"deflation": 1.2}, "deflation"),
        ({"inflation": 0.9}, "inflation"),
        ({"effect": 0.0}, "effect"),
        ({"correlation": 1.0}, "correlation"),
        ({"ratio": 0.0}, "ratio"),
    ],
)
def test_bad_input_says_what(changed: dict[str, float], match: str) -> None:
    arguments = {"effect": 2.0, "sd": 6.0, "correlation": 0.5} | changed
    with pytest.raises(ConfigError, match=match):
        savings(**arguments)


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.7])
def test_reference_share_of_controls_that_is_left(rho: float) -> None:
    """n₀′/n₀ = (1 − ρ²)/(1 + ρ²) from 1:1, as published with PROCOVA; exact as the trial grows."""
    found = savings(0.02, 1.0, rho, deflation=1.0, inflation=1.0)
    share = found.control_spared.control / found.without.control
    assert share == pytest.approx((1 - rho**2) / (1 + rho**2), abs=1e-4)
