"""Gradient boosting against a law that is known: how close it comes, whether its draws cover and hang together."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from gaussian_courses import DAYS, courses, oracle
from scipy import stats

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import FitError
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import NoTreatment
from trialtwin.stats.conformal import error_law
from trialtwin.twins.boosting import Boosting, BoostingTwin, patient_folds
from trialtwin.twins.boosting_errors import Copula, Scores, learn_copula, learn_errors, normal_scores
from trialtwin.twins.boosting_mean import fit_mean

KEY = jax.random.key(5)
TRAINING, OTHERS = courses(1, 300, "T"), courses(2, 600, "N", gaps=0.0)
AT = DAYS[3:]


@pytest.fixture(scope="module")
def twin() -> BoostingTwin:
    return Boosting().fit(TRAINING, key=KEY)


def ask(twin: BoostingTwin, patients: Cohort, draws: int = 400) -> Trajectories:
    return twin.predict(patients, NoTreatment(), AT, draws=draws, key=KEY)


def truth(patients: Cohort) -> np.ndarray:
    return patients.values[:, 3:]


@pytest.mark.parametrize("day", [-1.0, 5.0, 200.0])
def test_its_error_is_near_that_of_who_knows_the_law(twin: BoostingTwin, day: float) -> None:
    """Within 8 % of the exact conditional mean's error, of each outcome, whatever is known."""
    known = OTHERS.until(day)
    best, _ = oracle(known, AT)
    own = ask(twin, known, 2).expected
    rmse = [np.sqrt(((one - truth(OTHERS)) ** 2).mean(axis=(0, 1))) for one in (own, best)]
    assert (rmse[0] < 1.08 * rmse[1]).all(), rmse


@pytest.mark.law
@pytest.mark.parametrize("day", [-1.0, 5.0, 200.0])
def test_ninety_percent_intervals_cover_ninety_percent(twin: BoostingTwin, day: float) -> None:
    """600 patients: SE 1.2 %; what 300 training patients leave to chance is as much again."""
    low, high = ask(twin, OTHERS.until(day)).quantiles([0.05, 0.95])
    covered = ((truth(OTHERS) >= low) & (truth(OTHERS) <= high)).mean(axis=0)
    assert np.abs(covered - 0.9).max() < 3 * np.sqrt(2 * 0.09 / 600), covered


@pytest.mark.law
def test_changes_between_visits_are_covered_so_that_draws_are_courses(twin: BoostingTwin) -> None:
    """Within 7 %: the copula is an approximation. Independent draws of each time would cover too much, by more."""
    course = ask(twin, OTHERS.until(5.0))
    change = course.values[:, :, 1] - course.values[:, :, 0]
    low, high = np.quantile(change, [0.05, 0.95], axis=0)
    actual = truth(OTHERS)[:, 1] - truth(OTHERS)[:, 0]
    covered = ((actual >= low) & (actual <= high)).mean(axis=0)
    assert np.abs(covered - 0.9).max() < 0.07, covered
    apart = np.quantile(course.values[:200, :, 1] - course.values[200:, :, 0], [0.05, 0.95], axis=0)
    assert ((actual >= apart[0]) & (actual <= apart[1])).mean() > covered.mean() + 0.025


def test_outcomes_that_move_together_are_drawn_together(twin: BoostingTwin) -> None:
    """The law's correlation of the two outcomes at day 360, given baseline, within 0.15."""
    course = ask(twin, OTHERS.until(5.0))
    drawn = course.values - course.expected
    found = np.corrcoef(drawn[:, :, 1, 0].ravel(), drawn[:, :, 1, 1].ravel())[0, 1]
    _, covariance = oracle(OTHERS.until(5.0).take([0]), AT)
    wanted = covariance[0, 2, 3] / np.sqrt(covariance[0, 2, 2] * covariance[0, 3, 3])
    assert abs(found - wanted) < 0.15, (found, wanted)


def test_expected_is_the_mean_of_the_draws(twin: BoostingTwin) -> None:
    course = ask(twin, OTHERS.until(5.0).take(np.arange(20)), draws=4000)
    off = (course.values.mean(axis=0) - course.expected) / (course.values.std(axis=0) / np.sqrt(4000))
    assert np.abs(off).max() < 4.5


def test_trees_find_what_no_line_can_and_are_left_out_where_there_is_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3))
    fold = patient_folds(600)
    step = np.where((x[:, 0] > 0) & (x[:, 1] > 0), 2.0, 0.0) + rng.normal(0, 0.5, 600)
    with_trees, without = fit_mean(x, x, step, fold), fit_mean(x, x, step, fold, trees=False)
    errors = [float(((f.held_out - step) ** 2).mean()) for f in (with_trees, without)]
    assert with_trees.mean.rounds > 20
    assert without.mean.rounds == 0
    assert errors[0] < 0.75 * errors[1]
    line = x[:, 0] + rng.normal(0, 0.5, 600)
    assert ((fit_mean(x, x, line, fold).held_out - line) ** 2).mean() < 1.02 * 0.25 + 0.02


def test_a_held_out_forecast_has_not_seen_its_patient() -> None:
    """Another answer of one fold leaves that fold's own forecasts as they were, with the settings held."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 2))
    y = x[:, 0] + 0.1 * rng.normal(size=200)
    fold = patient_folds(200)
    changed = y + np.where(fold == 2, 1e-3 * rng.normal(size=200), 0.0)
    first, second = (fit_mean(x, x, one, fold, trees=False) for one in (y, changed))
    assert first.mean.penalty == second.mean.penalty
    np.testing.assert_array_equal(first.held_out[fold == 2], second.held_out[fold == 2])
    assert (first.held_out[fold != 2] != second.held_out[fold != 2]).all()


def test_the_spread_grows_with_what_makes_errors_grow() -> None:
    rng = np.random.default_rng(2)
    ahead = rng.uniform(0, 2, 4000)
    terms = np.stack([np.ones(4000), 0 * ahead, 0 * ahead, ahead, 0 * ahead], axis=1)
    errors = learn_errors(rng.normal(size=4000) * np.sqrt(0.5 + 2 * ahead), terms, np.arange(4000))
    np.testing.assert_allclose(errors.weights[[0, 3]], [0.5, 2.0], rtol=0.25)
    assert (errors.weights >= 0).all()


def test_the_copula_recovers_how_errors_hang_together() -> None:
    """Two outcomes at three times; noise of variance 0.4 and 0.6 within errors whose variance differs by patient."""
    true = Copula(np.array([[1.0, 0.6], [0.6, 1.0]]), np.array([0.4, 0.6]), 0.8)
    rng, times = np.random.default_rng(3), np.array([0.2, 0.5, 1.0])
    root = np.linalg.cholesky(true.correlation(times))
    np.testing.assert_allclose(np.diag(root @ root.T), 1.0)
    lasting = rng.normal(size=(6000, 6)) @ root.T
    variance = rng.choice([0.8, 1.0, 1.6], size=(6000, 1)) * np.ones(6)
    share = 1 - np.tile(true.noise, 3) / variance
    z = np.sqrt(share) * lasting + np.sqrt(1 - share) * rng.normal(size=lasting.shape)
    who = np.repeat(np.arange(6000), 6)
    when, what = np.tile(np.repeat(times, 2), 6000), np.tile([0, 1], 18000)
    found = learn_copula(Scores(who, np.zeros_like(who), what, when, np.sqrt(variance).ravel(), z.ravel()), 2)
    assert found.length == true.length
    np.testing.assert_allclose(found.noise, true.noise, atol=0.08)
    np.testing.assert_allclose(found.between, true.between, atol=0.08)


def test_scores_of_the_law_are_normal() -> None:
    skewed = np.random.default_rng(4).exponential(size=2000)
    law = error_law(skewed)
    assert stats.kstest(normal_scores(skewed, law), "norm").pvalue > 0.5


def test_measurements_of_another_outcome_are_used(twin: BoostingTwin) -> None:
    """Who shows outcome B alone is forecast better in outcome A than who shows nothing, by more than 3 SE."""
    values = np.array(OTHERS.values)
    values[..., 0] = np.nan
    hidden = replace(OTHERS, values=values, observed=np.isfinite(values))
    one, other = (
        ((ask(twin, known, 2).expected[..., 0] - truth(OTHERS)[..., 0]) ** 2).mean(axis=1)
        for known in (hidden.until(200.0), hidden.until(-1.0))
    )
    gain = other - one
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))


def test_too_few_patients_to_leave_out_are_refused() -> None:
    with pytest.raises(FitError, match="3 patients are too few to leave some out"):
        patient_folds(3)
