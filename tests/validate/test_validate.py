"""Forecasts beside what happened: each finding says what the numbers say."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from trialtwin.core.errors import FitError, MismatchError
from trialtwin.core.finding import Evidence, Finding, Learned, Verdict
from trialtwin.core.variables import Variable
from trialtwin.validate.accuracy import Quoted, judge_accuracy, judge_agreement
from trialtwin.validate.calibration import judge_coverage, judge_ranks, show_courses
from trialtwin.validate.forecast import Forecast
from trialtwin.validate.knowledge import judge_novelty, show_learned
from trialtwin.validate.reference import reference_forecasts

NOTHING = Evidence()


def simulated(*, spread: float = 1.0, patients: int = 200, seed: int = 1) -> Forecast:
    """Simulate a forecast that is right when ``spread`` is 1, and too narrow below."""
    rng = np.random.default_rng(seed)
    base = rng.normal(20, 5, patients)
    expected = base[:, None] + rng.normal(2, 1, (patients, 2))
    observed = expected + rng.normal(0, 4, (patients, 2))
    observed[rng.uniform(size=observed.shape) < 0.2] = np.nan
    draws = expected + spread * rng.normal(0, 4, (400, patients, 2))
    ids = tuple(f"P{i:03d}" for i in range(patients))
    scale = Variable("ACTOT", "ADAS-Cog", "points", lower=0.0, upper=70.0)
    return Forecast(
        "made", ids, ("Week 8", "Week 24"), np.array([56.0, 168.0]), scale, base, expected, draws, observed, 0.0
    )


def rows_of(finding: Finding) -> list[dict[str, object]]:
    assert finding.table is not None
    names = [column.name for column in finding.table.columns]
    return [dict(zip(names, row, strict=True)) for row in finding.table.rows]


def test_accuracy_gives_error_and_correlation_of_measured_patients() -> None:
    twin = simulated()
    v = 1
    seen = np.isfinite(twin.observed[:, v])
    change, predicted = (twin.observed[:, v] - twin.base)[seen], (twin.expected[:, v] - twin.base)[seen]
    quoted = [Quoted("theirs", 5.0, 0.4, "a paper")]
    found = judge_accuracy(
        [twin], {"no change": np.zeros(200)}, quoted, visit="Week 24", section="twins", evidence=NOTHING
    )
    made, none, theirs = rows_of(found)
    assert made["n"] == seen.sum()
    assert made["rmse"] == pytest.approx(np.sqrt(np.mean((change - predicted) ** 2)))
    assert made["r"] == pytest.approx(np.corrcoef(change, predicted)[0, 1])
    assert none["rmse"] == pytest.approx(np.sqrt(np.mean(change**2)))
    assert none["r"] is None
    assert (theirs["rmse"], theirs["r"]) == (5.0, 0.4)
    assert "below that of the best plain forecast" in found.text
    assert "a paper" in (found.table.note if found.table else "")


def test_accuracy_says_so_where_a_plain_forecast_is_better() -> None:
    twin = simulated()
    worse = replace(twin, expected=twin.expected + 10)
    plain = {"no change": np.zeros(200)}
    found = judge_accuracy([worse], plain, [], visit="Week 24", section="twins", evidence=NOTHING)
    assert "not below that of the best plain forecast" in found.text


def test_an_unknown_visit_is_refused_with_those_that_exist() -> None:
    with pytest.raises(MismatchError, match="Week 8, Week 24"):
        judge_agreement([simulated()], visit="Week 12", section="twins", evidence=NOTHING)


def test_agreement_has_a_row_a_measured_patient() -> None:
    twin = simulated()
    found = judge_agreement([twin], visit="Week 8", section="twins", evidence=NOTHING)
    assert len(rows_of(found)) == np.isfinite(twin.observed[:, 0]).sum()


@pytest.mark.parametrize(("spread", "verdict"), [(1.0, Verdict.PASS), (0.5, Verdict.FAIL), (2.0, Verdict.FAIL)])
def test_coverage_and_ranks_tell_a_wrong_spread_from_a_right_one(spread: float, verdict: Verdict) -> None:
    twin = simulated(spread=spread, seed=2)
    assert judge_coverage([twin], section="twins", evidence=NOTHING).verdict is verdict
    assert judge_ranks([twin], section="twins", evidence=NOTHING, seed=1).verdict is verdict


def test_coverage_counts_the_patients_inside() -> None:
    twin = simulated()
    row = next(
        r
        for r in rows_of(judge_coverage([twin], section="twins", evidence=NOTHING))
        if r["visit"] == "Week 24" and r["nominal"] == 0.9
    )
    low, high = np.quantile(twin.draws[:, :, 1], (0.05, 0.95), axis=0)
    seen = np.isfinite(twin.observed[:, 1])
    inside = (low <= twin.observed[:, 1]) & (twin.observed[:, 1] <= high)
    assert row["coverage"] == pytest.approx(inside[seen].mean())


@pytest.mark.law
def test_law_coverage_and_ranks_of_right_forecasts_seldom_fail() -> None:
    """Each tests at 5 % after Holm's correction: of 200 right forecasts at most 22 fail (99.9 % binomial bound)."""
    bound = int(stats.binom.ppf(0.999, 200, 0.05))
    fails = {"coverage": 0, "ranks": 0}
    for seed in range(200):
        twin = simulated(patients=60, seed=seed)
        fails["coverage"] += judge_coverage([twin], section="t", evidence=NOTHING).verdict is Verdict.FAIL
        fails["ranks"] += judge_ranks([twin], section="t", evidence=NOTHING, seed=seed).verdict is Verdict.FAIL
    assert max(fails.values()) <= bound, fails


def test_courses_show_patients_chosen_by_forecast() -> None:
    twin = simulated()
    found = show_courses(twin, panels=5, section="twins", evidence=NOTHING)
    shown = list(dict.fromkeys(row["subject"] for row in rows_of(found)))
    change = {name: twin.expected[i, -1] - twin.base[i] for i, name in enumerate(twin.ids)}
    assert len(shown) == 5
    assert [change[str(name)] for name in shown] == sorted(change[str(name)] for name in shown)
    assert all(row["5 %"] <= row["Median"] <= row["95 %"] for row in rows_of(found))  # type: ignore[operator]


def test_reference_forecasts_never_see_the_patient_they_forecast() -> None:
    rng = np.random.default_rng(2)
    features, change = rng.normal(size=(60, 3)), rng.normal(size=60)
    change[::7] = np.nan
    fold = np.arange(60) % 5
    before = reference_forecasts(features, change, fold, seed=1)
    assert set(before) == {"no change", "mean of the others", "ridge regression", "random forest"}
    changed = change.copy()
    changed[fold == 2] += 100.0
    after = reference_forecasts(features, changed, fold, seed=1)
    for name in before:
        np.testing.assert_array_equal(before[name][fold == 2], after[name][fold == 2])
    assert (before["mean of the others"][fold != 2] != after["mean of the others"][fold != 2]).all()
    expected = np.nanmean(change[fold != 0])
    np.testing.assert_allclose(before["mean of the others"][fold == 0], expected)


def test_reference_forecasts_need_somebody_to_learn_from() -> None:
    with pytest.raises(FitError, match="leaves 3 measured patients"):
        reference_forecasts(np.zeros((6, 1)), np.arange(6.0), np.array([0, 0, 0, 1, 1, 1]), seed=1)


def test_what_was_not_learned_is_named() -> None:
    told = Learned(name="rate", value=0.3, sd=0.1, prior_mean=0.0, prior_sd=1.0)
    silent = Learned(name="effect of sex", value=0.0, sd=0.99, prior_mean=0.0, prior_sd=1.0)
    found = show_learned("made", [told, silent], section="twins", evidence=NOTHING)
    assert "little about 1 of 2" in found.text
    assert "effect of sex" in found.text
    assert "inform all 1" in show_learned("made", [told], section="twins", evidence=NOTHING).text


def test_a_patient_unlike_all_others_is_named_with_what_is_odd() -> None:
    rng = np.random.default_rng(3)
    training = rng.normal(size=(80, 3))
    patients = np.vstack([rng.normal(size=(4, 3)) * 0.5, [0.0, 9.0, 0.0]])
    found = judge_novelty("abcde", ("age", "sex", "dose"), training, patients, section="t", evidence=NOTHING)
    assert [(row["subject"], row["covariate"]) for row in rows_of(found)] == [("e", "sex")]


def test_novelty_needs_more_teachers_than_covariates() -> None:
    with pytest.raises(FitError, match="3 patients"):
        judge_novelty("a", ("x", "y", "z"), np.eye(3), np.zeros((1, 3)), section="t", evidence=NOTHING)


@pytest.mark.law
def test_law_patients_of_the_same_population_are_seldom_called_unlike() -> None:
    """Of 40,000 new patients of the teachers' population, 0.1 % are named: 40, within 3 binomial errors (±19)."""
    rng = np.random.default_rng(4)
    named = 0
    for _ in range(200):
        training, patients = rng.normal(size=(60, 4)), rng.normal(size=(200, 4))
        ids = [str(i) for i in range(200)]
        found = judge_novelty(ids, "abcd", training, patients, section="t", evidence=NOTHING)
        named += len(rows_of(found))
    assert abs(named - 40) < 19, named
