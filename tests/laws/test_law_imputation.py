"""What jump to reference by conditional means guarantees with the jackknife and the bootstrap: level and coverage.

60 patients, three visits, 40 % of the other arm jump at the second or third visit, whatever their outcomes. Then the
effect at the last visit is .6 of that under full treatment. The ordinary run has 40 trials a law; --slow 10,000 with
the jackknife and 1,000 with the bootstrap, whose 200 samples cost four times as much. A rate may be off by 3.5
binomial standard errors, and by .01 for the normal quantile of 60 patients.
"""

import numpy as np
import pytest

from trialtwin.stats.reference_imputation import conditional_mean

pytestmark = pytest.mark.law

SIGMA = np.array([[4.0, 3.0, 2.5], [3.0, 5.0, 4.0], [2.5, 4.0, 6.0]])
STAY = 0.6
CASES = [
    pytest.param("jackknife", 40, id="jackknife, 40 trials"),
    pytest.param("jackknife", 10_000, id="jackknife, 10,000 trials", marks=pytest.mark.slow),
    pytest.param("bootstrap", 1_000, id="bootstrap, 1,000 trials", marks=pytest.mark.slow),
]


def _trial(effect: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return outcomes, arm, one covariate, and visits of the event."""
    rng = np.random.default_rng(seed)
    arm, base = np.arange(60) % 2, rng.normal(size=(60, 1))
    mean = np.array([1.0, 2.0, 3.0]) + effect * arm[:, None] * np.array([0.3, 0.7, 1.0]) + 0.5 * base
    y = mean + rng.multivariate_normal(np.zeros(3), SIGMA, 60)
    event = np.where((arm == 1) & (rng.random(60) > STAY), rng.integers(1, 3, 60), 3)
    y[np.arange(3) >= event[:, None]] = np.nan
    return y, arm, base, event


@pytest.mark.parametrize(("resampling", "trials"), CASES)
@pytest.mark.parametrize("effect", [0.0, 3.0], ids=["level", "coverage"])
def test_law_jump_to_reference_keeps_its_level_and_covers(effect: float, resampling: str, trials: int) -> None:
    values, errors, held = np.zeros(trials), np.zeros(trials), 0
    for k in range(trials):
        y, arm, base, event = _trial(effect, 1000 + k)
        found = conditional_mean(
            y, arm, base, event=event, strategy="JR", resampling=resampling, samples=200, seed=k
        ).estimate(2, contrast="other − reference")
        values[k], errors[k] = found.value, found.se
        held += found.lower <= STAY * effect <= found.upper
    print(f"\ncovered {held} of {trials}; mean error {errors.mean():.3f}, estimates' SD {values.std():.3f}")  # noqa: T201
    assert abs(held / trials - 0.95) < 3.5 * np.sqrt(0.05 * 0.95 / trials) + 0.01
    assert abs(values.mean() - STAY * effect) < 3.5 * values.std() / np.sqrt(trials) + 0.01
    assert errors.mean() == pytest.approx(values.std(), rel=3.5 / np.sqrt(2 * trials) + 0.03)
