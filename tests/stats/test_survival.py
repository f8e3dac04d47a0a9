"""Survival curves and log-rank tests: hand values, identities, laws by simulation, and what is refused."""

import numpy as np
import pytest
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.stats.logrank import Weighting, fleming_harrington, from_time, log_rank, magirr_burman, max_combo
from trialtwin.stats.survival import kaplan_meier, milestone_difference, require_times, rmst_difference


def patients(n: int, seed: int, *, ratio: float = 1.0, arms: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return exponential times, censored by others, with ties; the last arm's hazard is ``ratio`` times the others'."""
    rng = np.random.default_rng(seed)
    arm = np.arange(n) % arms
    time = rng.exponential(10.0 / np.where(arm == arms - 1, ratio, 1.0))
    stop = rng.uniform(2.0, 20.0, n)
    return np.ceil(np.minimum(time, stop) * 4) / 4, time <= stop, arm


def test_independent_curves_and_tests_are_those_of_statsmodels() -> None:
    time, event, arm = patients(120, 1, arms=3)
    ours, theirs = kaplan_meier(time, event), SurvfuncRight(time, event.astype(int))
    np.testing.assert_allclose(ours.times, theirs.surv_times)
    np.testing.assert_allclose(ours.survival, theirs.surv_prob, rtol=1e-12)
    np.testing.assert_allclose(ours.se(ours.times)[:-1], theirs.surv_prob_se[:-1], rtol=1e-8)
    found = log_rank(time, event, arm)
    assert (found.chi2, found.p) == pytest.approx(survdiff(time, event.astype(int), arm), rel=1e-8)
    assert found.df == 2
    late = log_rank(time, event, arm, weighting=fleming_harrington(0.0, 1.0))
    assert late.chi2 != pytest.approx(found.chi2, rel=0.01)


def test_without_censoring_the_curve_is_the_share_alive_and_the_mean_the_mean() -> None:
    time = np.array([1.0, 2.0, 2.0, 5.0])
    curve = kaplan_meier(time, np.ones(4, dtype=bool))
    np.testing.assert_allclose(curve.at(np.array([0.5, 1.0, 2.0, 4.9, 5.0])), [1.0, 0.75, 0.25, 0.25, 0.0])
    assert curve.rmst(5.0)[0] == pytest.approx(2.5)
    assert curve.rmst(3.0)[0] == pytest.approx((1 + 2 + 2 + 3) / 4)
    assert curve.quantile()[0] == 2.0


def test_a_median_that_is_not_reached_is_nan_and_a_flat_one_lies_in_the_middle() -> None:
    high = kaplan_meier(np.array([1.0, 9.0, 9.0, 9.0]), np.array([True, False, False, False]))
    assert np.isnan(high.quantile()[0])
    flat = kaplan_meier(np.array([1.0, 3.0, 5.0, 9.0]), np.ones(4, dtype=bool))
    assert flat.quantile()[0] == 4.0


def test_the_order_of_arms_turns_the_sign_and_equal_weights_change_nothing() -> None:
    time, event, arm = patients(80, 2, ratio=0.5)
    found, turned = log_rank(time, event, arm), log_rank(time, event, 1 - arm)
    assert found.z == pytest.approx(-turned.z)
    assert found.chi2 == pytest.approx(found.z**2)
    assert found.score.sum() == pytest.approx(0.0, abs=1e-12)
    same = log_rank(time, event, arm, weighting=from_time(0.0))
    assert same.chi2 == pytest.approx(found.chi2)
    assert log_rank(time, event, arm, weighting=magirr_burman(0.0)).chi2 == pytest.approx(found.chi2)


def test_strata_of_one_are_no_strata_and_strata_without_contrast_add_nothing() -> None:
    time, event, arm = patients(80, 3)
    alone = log_rank(time, event, arm)
    assert log_rank(time, event, arm, strata=np.zeros(80, dtype=int)).chi2 == pytest.approx(alone.chi2)
    more = (np.append(time, [3.0, 4.0]), np.append(event, [True, True]), np.append(arm, [1, 1]))
    strata = np.append(np.zeros(80, dtype=int), [7, 7])
    assert log_rank(*more, strata=strata).chi2 == pytest.approx(alone.chi2)


def check_level(trials: int) -> None:
    """Hold each test's rate of p < 5 % without effect to 3.5 Monte-Carlo standard errors."""
    combo = [fleming_harrington(*pair) for pair in ((0, 0), (0, 1), (1, 0))]
    counts = np.zeros(3)
    for seed in range(trials):
        time, event, arm = patients(80, seed)
        late = log_rank(time, event, arm, weighting=fleming_harrington(0, 1))
        counts += [log_rank(time, event, arm).p < 0.05, late.p < 0.05, max_combo(time, event, arm, combo).p < 0.05]
    assert (np.abs(counts / trials - 0.05) < 3.5 * np.sqrt(0.05 * 0.95 / trials)).all(), counts


@pytest.mark.law
def test_law_tests_keep_their_level() -> None:
    """400 trials of 80 patients."""
    check_level(400)


@pytest.mark.law
@pytest.mark.slow
def test_law_tests_keep_their_level_in_10000_trials() -> None:
    check_level(10_000)


@pytest.mark.law
def test_law_the_restricted_mean_is_covered() -> None:
    """1,000 trials of 120: 95 % intervals of the difference hold its true value, within 3.5 standard errors."""
    hazards, horizon = (0.1, 0.05), 10.0
    truth = np.diff([(1 - np.exp(-h * horizon)) / h for h in hazards])[0]
    rng, held = np.random.default_rng(5), 0
    for _ in range(1000):
        curves = []
        for hazard in hazards:
            time, stop = rng.exponential(1 / hazard, 60), rng.uniform(8.0, 30.0, 60)
            stop[0] = 30.0
            curves.append(kaplan_meier(np.minimum(time, stop), time <= stop))
        found = rmst_difference(*curves, min(horizon, *(c.last for c in curves)))
        held += found.lower <= truth <= found.upper
    assert abs(held / 1000 - 0.95) < 3.5 * np.sqrt(0.05 * 0.95 / 1000)


def test_what_cannot_be_compared_is_refused() -> None:
    time, event, arm = patients(40, 1)
    with pytest.raises(DataError, match="1 times to the event are negative, the first -1"):
        log_rank(np.append(time[1:], -1.0), event, arm)
    with pytest.raises(DataError, match="compares two arms or more"):
        log_rank(time, event, np.zeros(40, dtype=int))
    with pytest.raises(FitError, match="nobody had the event"):
        log_rank(time, np.zeros(40, dtype=bool), arm)
    apart = np.where(arm == 0, time, time + 100)
    with pytest.raises(FitError, match="an arm has no patients at risk"):
        log_rank(apart, event & (arm == 1), arm)
    with pytest.raises(DataError, match="two arms, not 3"):
        max_combo(time, event, np.arange(40) % 3, [fleming_harrington(), fleming_harrington(1)])
    with pytest.raises(ConfigError, match="fewer than two tests"):
        max_combo(time, event, arm, [fleming_harrington()])
    with pytest.raises(ConfigError, match="give 0 or more"):
        fleming_harrington(-1.0)


def test_a_horizon_or_a_time_that_nobody_reached_is_refused() -> None:
    curve = kaplan_meier(np.array([1.0, 5.0]), np.array([True, False]))
    with pytest.raises(ConfigError, match="beyond the longest follow-up, 5"):
        curve.rmst(6.0)
    with pytest.raises(ConfigError, match="a horizon of 0"):
        curve.rmst(0.0)
    with pytest.raises(ConfigError, match="no scale 'logit'"):
        curve.interval(np.array([1.0]), scale="logit")
    with pytest.raises(ConfigError, match="is 0 or 1 at"):
        milestone_difference(curve, curve, 0.5)
    with pytest.raises(DataError, match="no patients"):
        kaplan_meier(np.zeros(0), np.zeros(0, dtype=bool))
    everybody = kaplan_meier(np.array([1.0, 5.0]), np.zeros(2, dtype=bool))
    with pytest.raises(ConfigError, match="beyond the longest follow-up, 5"):
        everybody.rmst(6.0)
    with pytest.raises(ConfigError, match="the milestone 6 lies beyond"):
        milestone_difference(curve, curve, 6.0, scale="plain")
    with pytest.raises(ConfigError, match=r"a quantile of 1\.5"):
        curve.quantile(1.5)


def test_events_that_are_not_true_or_false_are_refused() -> None:
    """As positions they would choose the first two patients, and give numbers."""
    with pytest.raises(DataError, match="pass event == 1"):
        require_times(np.array([1.0, 2.0, 3.0]), np.array([0, 1, 1]))


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_weights_that_are_none_are_refused(weight: float) -> None:
    time, event, arm = patients(40, 1)
    odd = Weighting("odd", lambda t, s: np.full_like(t, weight))
    with pytest.raises(ConfigError, match="the weighting 'odd' does not give one finite weight"):
        log_rank(time, event, arm, weighting=odd)
    with pytest.raises(ConfigError, match="the weighting 'odd' does not give one finite weight"):
        max_combo(time, event, arm, [odd, fleming_harrington()])


def test_an_arm_without_events_is_compared_and_a_stratum_of_one_arm_adds_nothing() -> None:
    time, event, arm = patients(60, 2)
    none = event & (arm == 0)
    assert log_rank(time, none, arm).z < 0
    assert kaplan_meier(time[arm == 1], none[arm == 1]).survival.size == 0
    strata = np.where(np.arange(60) < 10, arm, 2)
    kept = np.arange(60) >= 10
    assert log_rank(time, event, arm, strata=strata).chi2 == pytest.approx(
        log_rank(time[kept], event[kept], arm[kept]).chi2
    )


def test_a_hundred_thousand_patients_are_counted_not_compared_in_pairs() -> None:
    """Pairs of patients and event times would take 40 GB."""
    rng = np.random.default_rng(3)
    time, arm = rng.exponential(size=100_000), rng.integers(0, 2, 100_000)
    event = rng.random(100_000) < 0.5
    assert log_rank(time, event, arm).p > 0.001
    assert kaplan_meier(time, event).at(np.array([0.5]))[0] == pytest.approx(np.exp(-0.25), abs=0.01)
