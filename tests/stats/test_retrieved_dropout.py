"""Retrieved dropouts: what a draw is, that a treatment-policy effect is found, and when there are too few."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, FitError
from trialtwin.stats.multiple_imputation import multiple_imputation
from trialtwin.stats.retrieved_dropout import retrieved_dropout

SIZES = [pytest.param(40, id="40 trials"), pytest.param(10_000, id="10,000 trials", marks=pytest.mark.slow)]
STOPS, STAYS, LOSS = 0.5, 0.5, 2.0


def trial(n: int, seed: int, stays: float = STAYS) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return outcomes at three visits, arm, one covariate, and the first visit after the stop of treatment.

    Full treatment is worth 1, 2 and 3; who stops loses ``LOSS`` of it from then on, and stays in the trial with
    probability ``stays``. Stops are the more likely the worse the visit before was.
    """
    rng = np.random.default_rng(seed)
    arm, base = np.arange(n) % 2, rng.normal(size=(n, 1))
    y = base + arm[:, None] * np.array([1.0, 2.0, 3.0]) + rng.normal(size=(n, 1)) + rng.normal(size=(n, 3))
    risk = STOPS / 2 * np.exp(0.3 * (base - y[:, :2]))
    stops = rng.random((n, 2)) < np.minimum(risk, 0.9)
    stopped = np.where(stops[:, 0], 1, np.where(stops[:, 1], 2, 3))
    off = np.arange(3) >= stopped[:, None]
    y -= LOSS * arm[:, None] * off
    y[off & (rng.random(n) > stays)[:, None]] = np.nan
    return y, arm, base, stopped


@pytest.fixture(scope="module")
def truth() -> float:
    """Effect at the last visit whatever became of the treatment, from 1,000,000 patients."""
    y, arm, _, _ = trial(1_000_000, 1, stays=1.0)
    return float(y[arm == 1, 2].mean() - y[arm == 0, 2].mean())


@pytest.mark.law
@pytest.mark.parametrize("trials", SIZES)
def test_law_the_effect_with_stops_is_found_and_covered(trials: int, truth: float) -> None:
    """300 patients, 20 draws: no bias within 3.5 Monte-Carlo errors, coverage 95 % within 3.5; MAR is off by far more.

    Drawn as missing at random, who left is taken to have stayed as those were who were seen, mostly on treatment.
    """
    values, missing_at_random, held = np.zeros(trials), np.zeros(min(trials, 40)), 0
    for k in range(trials):
        y, arm, base, stopped = trial(300, 10_000 + k)
        one = retrieved_dropout(y, arm, base, stopped=stopped, fewest=2, imputations=20, seed=k).estimate(
            2, contrast="a − b"
        )
        values[k] = one.value
        held += one.lower <= truth <= one.upper
        if k < len(missing_at_random):
            missing_at_random[k] = multiple_imputation(y, arm, base, imputations=20, seed=k).effect[2].value
    noise = float(values.std() / np.sqrt(trials))
    print(f"\nbias {values.mean() - truth:.4f} ± {noise:.4f}, covered {held} of {trials}")  # noqa: T201
    assert abs(values.mean() - truth) < 3.5 * noise + 0.01
    assert abs(held / trials - 0.95) < 3.5 * np.sqrt(0.05 * 0.95 / trials) + 0.005
    assert missing_at_random.mean() - truth > 3.5 * missing_at_random.std() / np.sqrt(len(missing_at_random))


def test_independent_draws_are_those_of_a_bayesian_regression() -> None:
    """One visit to impute, 20,000 draws: mean and variance of the posterior predictive t, by its closed form."""
    y, arm, base, _ = trial(60, 2, stays=1.0)
    y, off = y[:, :2], np.arange(60) % 3 == 0
    y[:9:3, 1] = np.nan
    drawn = retrieved_dropout(
        y, arm, base, stopped=np.where(off, 1, 2), by_arm=False, imputations=20_000, seed=3
    ).completed[:, :9:3, 1]
    x = np.column_stack([np.ones(60), arm, base, off, y[:, 0]])
    seen = np.isfinite(y[:, 1])
    beta, rss = np.linalg.lstsq(x[seen], y[seen, 1], rcond=None)[:2]
    df = seen.sum() - 5
    lost = x[~seen]
    spread = rss[0] / (df - 2) * (np.eye(3) + lost @ np.linalg.inv(x[seen].T @ x[seen]) @ lost.T)
    noise = np.sqrt(np.diag(spread) / 20_000)
    assert (np.abs(drawn.mean(axis=0) - lost @ beta) < 4 * noise).all()
    np.testing.assert_allclose(drawn.var(axis=0), np.diag(spread), rtol=4 * np.sqrt(2.5 / 20_000))


def test_values_missed_in_between_are_drawn_and_seen_ones_kept() -> None:
    y, arm, base, stopped = trial(300, 4)
    y[::7, 1] = np.nan
    found = retrieved_dropout(y, arm, base, stopped=stopped, imputations=4)
    again = retrieved_dropout(y, arm, base, stopped=stopped, imputations=4, delta=1.5)
    assert np.isfinite(found.completed).all()
    assert (found.completed[:, np.isfinite(y)] == y[np.isfinite(y)]).all()
    np.testing.assert_allclose(again.completed - found.completed, np.broadcast_to(1.5 * np.isnan(y), (4, 300, 3)))
    assert "retrieved dropouts" in found.estimate(2, contrast="a − b").method


def test_history_tells_the_first_visit_off_treatment_from_later_ones() -> None:
    """A loss that is felt only from the second visit off treatment on is found by history, and blurred without."""
    y, arm, base, stopped = trial(3000, 5, stays=1.0)
    late = (stopped == 1) & (arm == 1)
    y[late, 2] -= 6.0
    lost = late & (np.arange(3000) % 4 == 1)
    y[lost, 2] = np.nan
    kept = late & ~lost
    told, blurred = (
        retrieved_dropout(y, arm, base, stopped=stopped, imputations=10, history=history).completed[:, lost, 2].mean()
        for history in (True, False)
    )
    assert told == pytest.approx(y[kept, 2].mean(), abs=0.35)
    assert blurred > told + 1.0


def test_too_few_retrieved_patients_are_an_error_that_says_what_to_do() -> None:
    y, arm, base, stopped = trial(60, 6, stays=0.0)
    with pytest.raises(FitError, match="were seen at visit 1, from whom") as caught:
        retrieved_dropout(y, arm, base, stopped=stopped, imputations=5, history=True)
    assert "history=False, by_arm=False" in str(caught.value)
    with pytest.raises(FitError, match=r"0 patient\(s\) off treatment were seen") as caught:
        retrieved_dropout(y, arm, base, stopped=stopped, imputations=5, by_arm=False)
    assert "'JR' or 'CIR'" in str(caught.value)
    with pytest.raises(ConfigError, match="1 retrieved patients as the fewest"):
        retrieved_dropout(y, arm, base, stopped=stopped, fewest=1)
    with pytest.raises(ConfigError, match="1 imputation"):
        retrieved_dropout(y, arm, base, stopped=stopped, imputations=1)
    wide = np.random.default_rng(0).normal(size=(60, 56))
    with pytest.raises(FitError, match="leave no degrees of freedom"):
        retrieved_dropout(y, arm, wide, stopped=np.full(60, 3), imputations=2)
