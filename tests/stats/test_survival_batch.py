"""Log-rank tests and Cox models of many trials at once against those of each trial."""

import numpy as np
import pytest

from trialtwin.core.errors import DataError
from trialtwin.stats.cox import cox
from trialtwin.stats.logrank import log_rank
from trialtwin.stats.modelmatrix import continuous_columns
from trialtwin.stats.survival_batch import cox_batch, log_rank_batch

TRIALS, N = 5, 80


def trials(*, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    arm = np.stack([rng.permutation(np.arange(N) % 2) for _ in range(TRIALS)])
    x = rng.normal(size=(TRIALS, N))
    time = rng.exponential(np.exp(0.4 * arm - 0.6 * x)) * 10
    end = rng.uniform(2, 20, time.shape)
    event, time = time <= end, np.minimum(time, end)
    return (np.ceil(time) if ties else time), event, arm, x


@pytest.mark.parametrize("ties", [False, True])
def test_independent_many_at_once_are_each_one(ties: bool) -> None:
    """With ties after Breslow, and the hypergeometric variance."""
    time, event, arm, x = trials(ties=ties)
    tests = log_rank_batch(time, event, arm == 1)
    models = cox_batch(time, event, np.stack([x, arm.astype(float)], axis=2), place=1)
    for k in range(TRIALS):
        assert (tests.value / tests.se)[k] == pytest.approx(log_rank(time[k], event[k], arm[k]).z, rel=1e-10)
        columns = continuous_columns({"x": x[k], "arm": arm[k].astype(float)})
        fit = cox(columns, time[k], event[k], ties="Breslow" if ties else "Efron")
        assert models.value[k] == pytest.approx(fit.coefficient("arm"), rel=1e-8)
        assert models.se[k] == pytest.approx(fit.covariance()[1, 1] ** 0.5, rel=1e-8)


def test_patients_without_time_at_risk_say_nothing() -> None:
    time, event, arm, x = trials(ties=False)
    more = [np.concatenate([a, b], axis=1) for a, b in ((time, 0 * time), (event, event & False), (arm, 1 - arm))]
    for whole, part in (
        (log_rank_batch(more[0], more[1], more[2] == 1), log_rank_batch(time, event, arm == 1)),
        (
            cox_batch(more[0], more[1], np.concatenate([x, x], axis=1)[..., None]),
            cox_batch(time, event, x[..., None]),
        ),
    ):
        np.testing.assert_allclose(whole.value, part.value, rtol=1e-8)
        np.testing.assert_allclose(whole.se, part.se, rtol=1e-8)


def test_trials_that_cannot_be_fitted_have_no_number() -> None:
    """No event; events in one arm only; an arm of nobody."""
    time, event, arm, _ = trials(ties=False)
    event[0] = False
    event[1] &= arm[1] == 0
    arm[2] = 0
    column = arm[..., None].astype(float)
    np.testing.assert_array_equal(np.isnan(cox_batch(time, event, column).value), [True, True, True, False, False])
    test = log_rank_batch(time, event, arm == 1)
    np.testing.assert_array_equal(np.isnan(test.value), [True, False, True, False, False])


def test_times_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match="negative or missing"):
        cox_batch(np.array([[-1.0, 2.0]]), np.ones((1, 2), dtype=bool), np.zeros((1, 2, 1)))
    with pytest.raises(DataError, match="do not belong together"):
        log_rank_batch(np.ones((1, 3)), np.ones((1, 2), dtype=bool), np.zeros((1, 3), dtype=bool))
