"""Comparisons: the same patients for every model, nothing seen that is to be forecast, resumed to the same result."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import statsmodels.api as sm
from known_law import DAYS, SD, Law, lines

from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.core.finding import Evidence, Verdict
from trialtwin.twins.compare.cases import Cell
from trialtwin.twins.compare.cost import measured
from trialtwin.twins.compare.findings import findings_of
from trialtwin.twins.compare.plan import (
    Plan,
    Split,
    Variation,
    make_splits,
    make_variations,
    pupils,
    teachers,
)
from trialtwin.twins.compare.run import Comparison, compare
from trialtwin.twins.compare.summary import clustered_mean, corrected_p

KEY = jax.random.key(5)
MODELS = {"law": Law(), "blind": Law(factor=0.0, sd=2.5), "proud": Law(sd=0.3), "off": Law(bias=1.0)}


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare(lines(1, 120), MODELS, Plan(folds=4, repeats=2, draws=200), key=KEY)


def test_the_true_law_wins_and_its_scores_are_those_of_the_law(found: Comparison) -> None:
    """RMSE is the noise, the CRPS that of a normal forecast of itself, SD/√π, and the intervals hold their share."""
    assert found.winner == "law"
    score = next(one for one in found.scores() if one.model == "law")
    assert (score.patients, score.cases) == (120, 720)
    assert abs(score.rmse.value - SD) < 3 * score.rmse.se
    assert abs(score.crps.value - SD / np.sqrt(np.pi)) < 3 * score.crps.se
    assert abs(score.log_score.value + 0.5 * np.log(2 * np.pi * np.e)) < 3 * score.log_score.se + 0.02
    for level, share in zip((0.5, 0.8, 0.9, 0.95), score.coverage, strict=True):
        assert abs(share.value - level) < 3 * share.se + 0.01
    assert score.uniform_p is not None
    assert score.uniform_p > 0.01
    assert score.r is not None
    assert abs(score.r.value - 3 / np.sqrt(10)) < 0.04


def test_wrong_models_are_worse_in_the_way_they_are_wrong(found: Comparison) -> None:
    scores = {one.model: one for one in found.scores()}
    assert scores["proud"].coverage[2].value < 0.6
    assert scores["off"].rmse.value > 1.2
    blind = scores["blind"].r
    assert blind is None, "a constant forecast has no correlation"
    gaps = {gap.model: gap for gap in found.differences()}
    for name in ("blind", "proud", "off"):
        assert gaps[name].lower > 0
        assert gaps[name].p_holm < 0.05


def test_every_model_is_asked_for_the_same_cases(found: Comparison) -> None:
    by_split: dict[str, list[Cell]] = {}
    for cell in found.cells:
        by_split.setdefault(cell.split, []).append(cell)
    for cells in by_split.values():
        first = cells[0].cases
        assert first is not None
        for cell in cells[1:]:
            assert cell.cases is not None
            np.testing.assert_array_equal(cell.cases.patient, first.patient)
            np.testing.assert_array_equal(cell.cases.observed, first.observed)


def test_each_patient_is_forecast_once_a_repeat_by_those_who_never_saw_them() -> None:
    cohort, plan = lines(1), Plan(folds=5, repeats=3)
    splits = make_splits(plan, cohort, key=KEY)
    assert len(splits) == 15
    for repeat in range(3):
        asked = np.concatenate([split.test for split in splits[5 * repeat : 5 * repeat + 5]])
        np.testing.assert_array_equal(np.sort(asked), np.arange(60))
    assert all(not set(split.train) & set(split.test) for split in splits)


def test_by_site_nobody_is_forecast_from_the_own_site() -> None:
    cohort = lines(2)
    site = np.array(cohort.covariates[:, 1])
    site[:3] = np.nan
    cohort = replace(cohort, covariates=np.column_stack([cohort.covariates[:, 0], site]))
    for split in make_splits(Plan(by="site", site="SITE", folds=3), cohort, key=KEY):
        here, there = (np.nan_to_num(site[i], nan=-1.0) for i in (split.train, split.test))
        assert not set(here) & set(there)
    with pytest.raises(DataError, match=r"9 folds of 7 sites[\s\S]*unknown"):
        make_splits(Plan(by="site", site="SITE", folds=9), cohort, key=KEY)
    with pytest.raises(ConfigError, match="X is continuous"):
        make_splits(Plan(by="site", site="X"), cohort, key=KEY)


def test_by_time_teachers_know_nothing_after_the_day() -> None:
    cohort, plan = lines(3), Plan(by="time", folds=3, draws=64)
    for split in make_splits(plan, cohort, key=KEY):
        learned_from = teachers(cohort, split, Variation(), key=KEY)
        assert not learned_from.observed[:, DAYS > 200].any()
        assert learned_from.observed[:, DAYS <= 200].all()
    found = compare(cohort, {"law": Law()}, plan, key=KEY)
    assert found.known == (200.0,)
    for cell in found.cells:
        assert cell.cases is not None
        assert set(cell.cases.visit.tolist()) == {3}
    with pytest.raises(DataError, match="no planned visits on both sides of day 300"):
        compare(cohort, {"law": Law()}, Plan(by="time", day=300.0), key=KEY)


def test_learning_curves_hold_smaller_samples_and_change_nothing_else() -> None:
    cohort = lines(4)
    split = make_splits(Plan(folds=3), cohort, key=KEY)[0]
    sizes = [teachers(cohort, split, Variation("patients", n), key=KEY).ids for n in (10, 20)]
    assert len(sizes[0]) == 10
    assert set(sizes[0]) < set(sizes[1]) <= set(cohort.take(split.train).ids)
    one = teachers(cohort, split, Variation("visits", 1), key=KEY)
    assert one.observed[:, :2].all()
    assert not one.observed[:, 2:].any()
    bare = Variation("blocks", blocks=())
    assert not teachers(cohort, split, bare, key=KEY).blocks
    assert not pupils(cohort, split, bare).blocks
    assert [v.name for v in make_variations(Plan(blocks=True, patients=(10,)), cohort)] == [
        "whole",
        "patients: 10",
        "blocks: none",
    ]


def test_a_curve_has_a_finding_that_ends_with_the_whole() -> None:
    found = compare(lines(5), {"law": Law()}, Plan(folds=3, draws=64, patients=(10, 20), blocks=True), key=KEY)
    made = {one.id: one for one in findings_of(found, evidence=Evidence())}
    table = made["compare.curve.patients"].table
    assert table is not None
    assert table.column("size") == [10, 20, 40]
    blocks = made["compare.curve.blocks"].table
    assert blocks is not None
    assert blocks.column("size") == ["none", "all"]


def test_a_comparison_that_was_stopped_goes_on_to_the_same_result(tmp_path: Path) -> None:
    cohort, plan = lines(6), Plan(folds=3, draws=64)
    whole = compare(cohort, {"law": Law(), "off": Law(bias=1.0)}, plan, key=KEY)
    counted = {"law": Law(), "off": Law(bias=1.0)}

    def stop(done: int, total: int, name: str) -> None:
        assert total == 6
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(cohort, counted, plan, key=KEY, folder=tmp_path, on_cell=stop)
    assert len(counted["law"].fits) + len(counted["off"].fits) == 4
    resumed = compare(cohort, {"law": Law(), "off": Law(bias=1.0)}, plan, key=KEY, folder=tmp_path)
    for first, second in zip(whole.cells, resumed.cells, strict=True):
        assert first.cases is not None
        assert second.cases is not None
        for name, array in first.cases.pack().items():
            assert array.tobytes() == second.cases.pack()[name].tobytes()


def test_a_kept_cell_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    cohort, plan, model = lines(6), Plan(folds=2, draws=64), Law()
    compare(cohort, {"law": model}, plan, key=KEY, folder=tmp_path)
    kept = sorted(tmp_path.iterdir())
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    again = compare(cohort, {"law": Law()}, plan, key=KEY, folder=tmp_path)
    assert all(cell.cases is not None for cell in again.cells)


def test_what_was_kept_of_other_data_is_not_taken(tmp_path: Path) -> None:
    plan = Plan(folds=2, draws=64)
    compare(lines(6), {"law": Law()}, plan, key=KEY, folder=tmp_path)
    compare(lines(7), {"law": Law()}, plan, key=KEY, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_model_that_cannot_be_fitted_is_told_and_not_ranked() -> None:
    found = compare(lines(8), {"law": Law(), "never": Law(refuses=True)}, Plan(folds=2, draws=64), key=KEY)
    assert [name for name, _ in found.ranking()] == ["law"]
    failed = next(one for one in findings_of(found, evidence=Evidence()) if one.id == "compare.failures")
    assert failed.verdict is Verdict.FAIL
    assert "never: it never can" in failed.text
    with pytest.raises(FitError, match="no model could be fitted"):
        compare(lines(8), {"never": Law(refuses=True)}, Plan(folds=2, draws=64), key=KEY).ranking()


def test_draws_outside_the_range_are_counted() -> None:
    wide = compare(lines(9), {"wide": Law(sd=15.0)}, Plan(folds=2, draws=200), key=KEY).scores()[0]
    assert 0.1 < wide.implausible < 0.3, "P(|N(0, 15)| > 20) = .18"
    narrower = compare(
        lines(9), {"wide": Law(sd=15.0)}, Plan(folds=2, draws=200), key=KEY, bounds={"Y": (0.0, 20.0)}
    ).scores()[0]
    assert narrower.implausible > 0.5


def test_findings_name_the_winner_and_who_is_miscalibrated(found: Comparison) -> None:
    made = {one.id: one for one in findings_of(found, evidence=Evidence(), told={"law": "the law"})}
    assert "law forecast unseen patients best" in made["compare.trust"].text
    assert made["compare.trust"].verdict is Verdict.PASS
    assert "proud, Y, known up to day 0" in made["compare.calibration"].text
    cost = made["compare.cost"].table
    assert cost is not None
    assert cost.column("told")[0] == "the law"


def test_plans_that_make_no_sense_are_refused() -> None:
    for settings, words in (
        ({"folds": 1}, "at least 2 folds"),
        ({"known": (-1.0,)}, "known up to"),
        ({"by": "site"}, "a site is given"),
        ({"day": 10.0}, "a day is given"),
        ({"patients": (1,)}, "at least 2 patients"),
    ):
        with pytest.raises(ConfigError, match=words):
            Plan(**settings)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a learning curve at 50 patients; folds leave 40"):
        compare(lines(1), {"law": Law()}, Plan(folds=3, patients=(50,)), key=KEY)
    with pytest.raises(ConfigError, match="no models"):
        compare(lines(1), {}, key=KEY)
    with pytest.raises(DataError, match="80 folds of 60 patients"):
        compare(lines(1), {"law": Law()}, Plan(folds=80), key=KEY)


@pytest.mark.reference
def test_reference_clustered_mean_has_the_standard_error_of_statsmodels() -> None:
    """Statsmodels 0.14, OLS on a constant with cov_type="cluster"."""
    rng = np.random.default_rng(0)
    patient = rng.integers(0, 15, 80)
    values = rng.normal(size=80) + rng.normal(size=15)[patient]
    theirs = sm.OLS(values, np.ones(80)).fit(cov_type="cluster", cov_kwds={"groups": patient})
    ours = clustered_mean("a", values, patient)
    assert (ours.value, ours.se) == pytest.approx((theirs.params[0], theirs.bse[0]), rel=1e-12)


@pytest.mark.law
def test_law_intervals_over_patients_cover() -> None:
    """95 % over 2,000 cohorts of 60 patients with 3 visits each; Monte-Carlo error .5 points, z for t costs one."""
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(60), 3)
    inside = 0
    for _ in range(2000):
        one = clustered_mean("a", rng.normal(size=60)[patient] + rng.normal(size=180), patient)
        inside += one.lower <= 0 <= one.upper
    assert 0.93 < inside / 2000 < 0.96


@pytest.mark.law
def test_law_models_of_the_same_law_are_seldom_told_apart() -> None:
    """The corrected test of two equally wrong forecasts rejects at most 5 %, within the Monte-Carlo error of 100."""
    rejected = 0
    for seed in range(100):
        pair = {"low": Law(bias=-0.3), "high": Law(bias=0.3)}
        gap = compare(lines(1000 + seed, 40), pair, Plan(folds=4, draws=32), key=jax.random.key(seed)).differences()[0]
        rejected += gap.p < 0.05
    assert rejected / 100 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_the_corrected_p_value_has_the_corrected_variance() -> None:
    means = np.array([0.2, -0.1, 0.3, 0.4, 0.1])
    t = means.mean() / np.sqrt(means.var(ddof=1) * (1 / 5 + 0.25))
    from scipy.stats import t as student

    assert corrected_p(means, 0.25) == pytest.approx(2 * student.sf(t, 4))
    assert corrected_p(np.zeros(5), 0.25) == 1.0
    assert corrected_p(np.array([1.0]), 0.25) == 1.0


def test_cost_sees_time_and_memory() -> None:
    # Freed in pieces too small to be mapped on their own, below one that stays: the C library keeps them to hand out.
    pieces = [np.ones(12_000) for _ in range(1_000)]
    last = pieces.pop()
    del pieces
    with measured() as cost:
        block = np.ones(8_000_000)
        block += 1
    assert last.all()
    assert cost.seconds > 0
    assert cost.mebibytes > 40


def test_a_cell_comes_back_from_its_file(found: Comparison) -> None:
    cell = found.cells[0]
    back = Cell.unpack(cell.pack())
    assert (back.model, back.split, back.teachers, back.fit_seconds) == (
        cell.model,
        cell.split,
        cell.teachers,
        cell.fit_seconds,
    )
    assert back.cases is not None
    assert cell.cases is not None
    np.testing.assert_array_equal(back.cases.crps, cell.cases.crps)


def test_splits_are_named_by_repeat_and_fold() -> None:
    split = make_splits(Plan(folds=2), lines(1), key=KEY)[1]
    assert isinstance(split, Split)
    assert split.name == "repeat 1 fold 2"
