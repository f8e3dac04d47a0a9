"""Reference-based imputation: what each strategy does to the mean, and what is refused."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.imputation_model import STRATEGIES
from trialtwin.stats.modelmatrix import continuous_columns, intercept, join
from trialtwin.stats.reference_imputation import conditional_mean

SIGMA = np.array([[4.0, 3.0, 2.5], [3.0, 5.0, 4.0], [2.5, 4.0, 6.0]])


def trial(n: int, seed: int, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return outcomes at three visits with dropout in the other arm, arm, one covariate, and visits of the event."""
    rng = np.random.default_rng(seed)
    arm, base = np.arange(n) % 2, rng.normal(size=(n, 1))
    mean = np.array([1.0, 2.0, 3.0]) + effect * arm[:, None] * np.array([0.3, 0.7, 1.0]) + 0.5 * base
    y = mean + rng.multivariate_normal(np.zeros(3), SIGMA, n)
    event = np.where((arm == 1) & (rng.random(n) < 0.4), rng.integers(1, 3, n), 3)
    y[np.arange(3) >= event[:, None]] = np.nan
    return y, arm, base, event


def test_without_missing_values_it_is_ancova_with_the_jackknife() -> None:
    y, arm, base, _ = trial(40, 1, 2.0)
    whole = np.where(np.isnan(y), 1.0, y)
    found = conditional_mean(whole, arm, base)
    columns = continuous_columns({"arm": arm.astype(float), "base": base[:, 0]})
    alone = least_squares(join(intercept(40), columns), whole[:, 2])
    assert found.effect[2] == pytest.approx(alone.coefficient("arm"), rel=1e-10)
    np.testing.assert_array_equal(found.completed, whole)
    # the jackknife is close to HC3, which approximates it
    assert found.effect_se[2] == pytest.approx(alone.estimate({"arm": 1.0}, "arm", variance="HC3").se, rel=0.03)


def test_each_strategy_moves_the_mean_as_it_says() -> None:
    """A large effect: JR goes to the reference, CR part of the way, CIR keeps what was gained, LMCF stays."""
    y, arm, base, event = trial(400, 2, 6.0)
    late = {name: conditional_mean(y, arm, base, event=event, strategy=name) for name in STRATEGIES}
    lost = (arm == 1) & (event == 1)
    own = {name: found.completed[lost, 2].mean() for name, found in late.items()}
    # μ = (2.8, 6.2, 9) against μ_ref = (1, 2, 3); one visit seen, at which nobody differs from the own mean on average
    assert own["MAR"] == pytest.approx(9.0, abs=0.8)
    assert own["JR"] == pytest.approx(3.0, abs=0.8)
    assert own["CIR"] == pytest.approx(3.0 + 1.8, abs=0.8)
    assert own["LMCF"] == pytest.approx(2.8, abs=0.8)
    # CR takes what was seen as far above the reference's mean, and keeps some of it
    assert own["JR"] < own["CR"] < own["MAR"]
    assert late["JR"].effect[2] < late["CIR"].effect[2] < late["MAR"].effect[2]


def test_values_after_the_event_are_set_aside_unless_missing_at_random() -> None:
    y, arm, base, event = trial(80, 3, 2.0)
    seen = np.where(np.isnan(y), 50.0, y)
    jumped = conditional_mean(seen, arm, base, event=event, strategy="JR")
    np.testing.assert_allclose(jumped.effect, conditional_mean(y, arm, base, event=event, strategy="JR").effect)
    assert conditional_mean(seen, arm, base, event=event, strategy="MAR").effect[2] > jumped.effect[2] + 5


def test_a_shift_moves_what_was_imputed_and_nothing_else() -> None:
    y, arm, base, event = trial(80, 4)
    plain, moved = (conditional_mean(y, arm, base, event=event, delta=d) for d in (0.0, np.where(arm == 1, 2.0, 0.0)))
    np.testing.assert_allclose(moved.completed - plain.completed, np.where(np.isnan(y), 2.0, 0.0), atol=1e-12)
    share = np.isnan(y[arm == 1, 2]).mean()
    assert moved.effect[2] - plain.effect[2] == pytest.approx(2.0 * share, abs=0.1)


def test_what_cannot_be_imputed_is_refused() -> None:
    y, arm, base, event = trial(40, 5)
    with pytest.raises(ConfigError, match="no imputation strategy 'BOCF'"):
        conditional_mean(y, arm, base, event=event, strategy="BOCF")
    with pytest.raises(ConfigError, match="code two arms as 0 and 1"):
        conditional_mean(y, arm + 1, base)
    with pytest.raises(DataError, match="40 patients, 40 arms"):
        conditional_mean(y, arm, base, strategy=["MAR"] * 39)
    with pytest.raises(DataError, match="covariate of the imputation model is missing"):
        conditional_mean(y, arm, np.where(base == base[0], np.nan, base))
    y[arm == 1, 2] = np.nan
    with pytest.raises(FitError, match="arm 1 has no outcome at visit 2"):
        conditional_mean(y, arm, base)
