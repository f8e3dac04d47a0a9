"""The example trial: the same every time, shaped as it says, with the effect that it was given."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trialtwin.core.errors import ConfigError
from trialtwin.core.variables import Kind, Variable
from trialtwin.data.cdisc import TrialTables, read_tables, write_tables
from trialtwin.data.examples import generate_trial, generate_truth
from trialtwin.data.examples.course import draw_answers, draw_profiles, effect_on_rate, expected_total, levels
from trialtwin.data.examples.design import ARMS, ITEMS, TOTAL, VISITS
from trialtwin.data.examples.people import draw_people
from trialtwin.data.examples.simulation import simulate
from trialtwin.data.examples.subjects import attended, too_few_answers
from trialtwin.data.layout import Layout, Outcome, ScaleTotal
from trialtwin.data.reliability import Reliability, assess

LAYOUT = Layout(
    arm="TRT01P",
    arms=ARMS,
    visits=VISITS,
    outcomes=(
        Outcome(Variable(TOTAL, "ADAS-Cog (11)", lower=0.0, upper=70.0), "ADQSADAS", TOTAL),
        Outcome(Variable("MMSETOT", "MMSE", lower=0.0, upper=30.0), "ADSL"),
    ),
    covariates=(
        Variable("AGE", "Age", unit="years", lower=50.0, upper=95.0),
        Variable("SEX", "Sex", kind=Kind.CATEGORICAL, levels=("F", "M")),
        Variable("APOE4", "APOE e4 alleles", kind=Kind.COUNT, lower=0.0, upper=2.0),
        Variable("EDUCLVL", "Education", unit="years", lower=0.0, upper=25.0),
        Variable("DURDIS", "Duration", unit="months", lower=0.0, upper=240.0),
        Variable("WEIGHTBL", "Weight", unit="kg", lower=30.0, upper=160.0),
    ),
    totals=(ScaleTotal(TOTAL, {item.paramcd: float(item.maximum) for item in ITEMS}),),
)


@pytest.fixture(scope="module")
def trial() -> TrialTables:
    return generate_trial(seed=7)


@pytest.fixture(scope="module")
def reliability(trial: TrialTables) -> Reliability:
    return assess(trial, LAYOUT)


def totals(trial: TrialTables) -> pl.DataFrame:
    frame = trial.finding("ADQSADAS").frame
    return frame.filter((pl.col("PARAMCD") == TOTAL) & (pl.col("ANL01FL") == "Y"))


def frames(trial: TrialTables) -> list[pl.DataFrame]:
    assert trial.events is not None
    assert trial.times is not None
    return [trial.subjects.frame, trial.finding("ADQSADAS").frame, trial.events.frame, trial.times.frame]


def test_same_seed_writes_the_same_bytes(trial: TrialTables, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write_tables(trial, tmp_path / "a", suffix=".json")
    again = write_tables(generate_trial(seed=7), tmp_path / "b", suffix=".json")
    assert [path.name for path in first] == ["adsl.json", "adqsadas.json", "adae.json", "adtte.json"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_another_seed_gives_another_trial(trial: TrialTables) -> None:
    assert not generate_trial(seed=8).subjects.frame.equals(trial.subjects.frame)


def test_trial_survives_sas_transport(trial: TrialTables, tmp_path: Path) -> None:
    write_tables(trial, tmp_path)
    back = read_tables(tmp_path, findings=["adqsadas"], events="adae", times="adtte")
    assert back.events is not None
    assert back.times is not None
    read = [back.subjects.frame, back.finding("adqsadas").frame, back.events.frame, back.times.frame]
    assert all(ours.equals(theirs) for ours, theirs in zip(frames(trial), read, strict=True))


def test_effect_changes_the_answers_of_treated_patients_only() -> None:
    none, some = simulate(3, 120, (0.0, 0.0)), simulate(3, 120, (-3.0, -6.0))
    placebo = none.people.arm == 0
    assert np.array_equal(none.totals[placebo], some.totals[placebo])
    assert not np.array_equal(none.totals[~placebo], some.totals[~placebo])
    assert np.array_equal(none.totals[:, 0], some.totals[:, 0])


def test_arms_are_balanced_within_every_site(trial: TrialTables) -> None:
    counts = trial.subjects.frame.group_by("SITEID", "TRT01P").agg(pl.len().alias("n"))
    wide = counts.pivot("TRT01P", index="SITEID", values="n").fill_null(0).drop("SITEID")
    spread = wide.max_horizontal().cast(pl.Int64) - wide.min_horizontal().cast(pl.Int64)
    assert spread.max() <= 2  # an unfinished block of six gives an arm two more at most
    assert wide.sum_horizontal().sum() == 250


def test_three_arms_four_visits_eleven_items(trial: TrialTables) -> None:
    assert set(trial.subjects.frame["TRT01P"]) == set(ARMS)
    frame = trial.finding("ADQSADAS").frame
    assert frame["AVISIT"].unique(maintain_order=True).to_list() == [visit.name for visit in VISITS]
    assert frame["PARAMCD"].n_unique() == 12
    assert totals(trial).group_by("USUBJID").agg(pl.len().alias("n"))["n"].eq(4).all()  # measured or carried


def test_nothing_is_copied_from_the_pilot(trial: TrialTables) -> None:
    assert set(trial.subjects.frame["STUDYID"]) == {"TWINEX1"}
    assert not any("XANOMELINE" in arm.upper() for arm in ARMS)


def test_data_are_reliable(reliability: Reliability) -> None:
    errors = reliability.violations.filter(pl.col("severity") == "error")
    assert errors.is_empty(), errors
    assert reliability.fit
    assert {f.id for f in reliability.findings if "Not examined: " in f.text} - {"REL-D07"} == {
        "REL-D06"
    }  # nobody need die


@pytest.mark.parametrize("seed", range(20, 24))
def test_data_are_reliable_whatever_the_seed(seed: int) -> None:
    violations = assess(generate_trial(seed=seed), LAYOUT).violations
    assert violations.filter(pl.col("severity") == "error").is_empty()


def test_missingness_is_real(trial: TrialTables) -> None:
    measured = totals(trial).filter(pl.col("DTYPE").is_null())
    last = measured.filter(pl.col("AVISIT") == "Week 24").height / 250
    assert 0.55 < last < 0.9
    adsl = trial.subjects.frame
    assert 0 < adsl["APOE4"].null_count() < 30
    assert trial.finding("ADQSADAS").frame.filter(pl.col("PARAMCD") != TOTAL)["AVAL"].null_count() > 0
    assert trial.finding("ADQSADAS").frame["VISIT"].is_in(["EARLY TERMINATION"]).any()


@pytest.mark.law
def test_law_dropout_grows_with_dose_and_stays_in_range() -> None:
    seen = np.array([_seen(seed) for seed in range(30)])
    mean, error = seen.mean(axis=0), seen.std(axis=0) / np.sqrt(30)  # Monte-Carlo error about 0.9 %
    assert (error < 0.015).all()
    assert mean[0] > mean[1] > mean[2]
    assert (0.72 < mean[0] < 0.84, 0.55 < mean[2] < 0.72) == (True, True)


def _seen(seed: int) -> list[float]:
    """Return the share of each arm measured at Week 24."""
    drawn = simulate(seed, 250, (-1.0, -2.0))
    there = (attended(drawn) & ~too_few_answers(drawn))[:, 3]
    return [float(there[drawn.people.arm == arm].mean()) for arm in range(3)]


@pytest.mark.law
@pytest.mark.parametrize("effect", [(-1.0, -2.0), (0.0, 0.0), (2.0, -8.0)])
def test_law_effect_is_recovered_when_nobody_leaves(effect: tuple[float, float]) -> None:
    trials, n = 80, 240
    found = np.array([_difference(seed, n, effect) for seed in range(trials)])
    error = found.std(axis=0, ddof=1) / np.sqrt(trials)
    assert (error < 0.12).all()
    assert (np.abs(found.mean(axis=0) - effect) < 3 * error).all()  # Monte-Carlo error about 0.1 points


def _difference(seed: int, n: int, effect: tuple[float, float]) -> np.ndarray:
    """Return the differences in mean change of complete data between each dose and placebo."""
    rng = np.random.default_rng([seed, 99])
    people = draw_people(rng, n)
    profile = draw_profiles(rng, people)
    added = effect_on_rate(people, profile, effect)[people.arm]
    time = np.broadcast_to(np.array([0.0, VISITS[-1].time]), (n, 2))
    change = np.diff(draw_answers(rng, levels(people, added, time), profile).sum(axis=2), axis=1)[:, 0]
    means = [change[people.arm == arm].mean() for arm in range(3)]
    return np.array([means[1] - means[0], means[2] - means[0]])


def test_independent_expected_total_by_averaging_answers() -> None:
    rng = np.random.default_rng(4)
    people = draw_people(rng, 12)
    profile = draw_profiles(rng, people)
    level = np.repeat(people.severity[:, None], 20_000, axis=1)
    drawn = draw_answers(rng, level, profile).sum(axis=2)
    error = drawn.std(axis=1) / np.sqrt(drawn.shape[1])  # Monte-Carlo error about 0.03 points
    assert (np.abs(drawn.mean(axis=1) - expected_total(people.severity, profile)) < 4 * error).all()


def test_truth_is_the_effect_over_all_patients() -> None:
    drawn = simulate(5, 90, (-1.5, -3.0))
    years = VISITS[-1].time / 365.25
    base = drawn.people.severity + drawn.people.rate * years
    totals_by_arm = [expected_total(base + rate * years, drawn.profile).mean() for rate in drawn.added]
    assert totals_by_arm[1] - totals_by_arm[0] == pytest.approx(-1.5, abs=1e-6)
    assert totals_by_arm[2] - totals_by_arm[0] == pytest.approx(-3.0, abs=1e-6)


def test_truth_table_matches_the_trial(trial: TrialTables) -> None:
    truth = generate_truth(seed=7)
    both = totals(trial).filter(pl.col("DTYPE").is_null()).join(truth, on=["USUBJID", "AVISIT"])
    assert both.height == totals(trial).filter(pl.col("DTYPE").is_null()).height
    assert (both["TRTP"] == both["ARM"]).all()
    assert np.corrcoef(both["AVAL"], both["EXPECTED"])[0, 1] > 0.9
    placebo = truth.filter(pl.col("ARM") == "Placebo")
    assert (placebo["EXPECTED"] == placebo["EXPECTED_PLACEBO"]).all()


def test_prognosis_and_spread_look_like_such_a_trial() -> None:
    drawn = [simulate(seed, 250, (-1.0, -2.0)) for seed in range(10)]
    change = np.concatenate([d.totals[:, 3] - d.totals[:, 0] for d in drawn])
    assert 5.3 < change.std() < 6.3
    placebo = np.concatenate([(d.totals[:, 3] - d.totals[:, 0])[d.people.arm == 0] for d in drawn])
    assert 1.5 < placebo.mean() < 2.8
    known = np.column_stack([np.concatenate([getattr(d.people, n) for d in drawn]) for n in ("mmse", "age", "alleles")])
    base = np.concatenate([d.totals[:, 0] for d in drawn])
    design = np.column_stack([np.ones(len(change)), base, known])
    fitted = design @ np.linalg.lstsq(design, change, rcond=None)[0]
    assert 0.25 < np.corrcoef(fitted, change)[0, 1] < 0.45


def test_skin_events_come_with_dose(trial: TrialTables) -> None:
    assert trial.times is not None
    happened = trial.times.frame.group_by("TRTP").agg((pl.col("CNSR") == 0).mean().alias("share"))
    share = dict(happened.rows())
    assert share["Placebo"] < share["Low Dose"] < share["High Dose"]


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 patients are too few"):
        generate_trial(seed=1, patients=5)


def test_impossible_effect_is_refused() -> None:
    with pytest.raises(ConfigError, match="no effect of -60 points"):
        generate_trial(seed=1, patients=60, effect=(-60.0, 0.0))


def test_smallest_trial_can_be_written_and_judged() -> None:
    small = generate_trial(seed=2, patients=6)
    assert assess(small, LAYOUT).fit
