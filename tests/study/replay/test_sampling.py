"""Sampling errors of published numbers, and coverage of trials that were left out."""

from dataclasses import replace

import numpy as np
import pytest

from trialtwin.core.finding import Evidence, Verdict
from trialtwin.study.replay.leave_out import LeftOutTrial, judge_coverage, pooled_effect, show_left_out_trials
from trialtwin.study.replay.load import shipped_trials
from trialtwin.study.replay.predict import Prediction
from trialtwin.study.replay.readouts import Row, rows_of
from trialtwin.study.replay.sampling import correlation, patients, standard_error, weighted_error


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Return all modelled readouts that ship."""
    return rows_of(shipped_trials())[0]


def _find(rows: list[Row], trial: str, endpoint: str, stat: str, week: float, population: str = "all") -> Row:
    return next(
        row
        for row in rows
        if (row.trial.id, row.endpoint.name, row.readout.stat) == (trial, endpoint, stat)
        and row.readout.week == week
        and row.readout.population == population
    )


def test_errors_by_the_stated_rules(rows: list[Row]) -> None:
    """Printed; from the interval; from n; of a share; and what is missing from the arm's n less dropout."""
    printed = _find(rows, "CLARITY-AD", "CDR-SB", "diff_vs_placebo", 78)
    assert standard_error(printed, -0.4, 1.0, 1.6) == 0.112
    bare = replace(printed, readout=printed.readout.model_copy(update={"se": None}))
    assert standard_error(bare, -0.4, 1.0, 1.6) == pytest.approx((0.67 - 0.23) / 3.92)
    change = _find(rows, "CLARITY-AD", "CDR-SB", "change", 78)
    assert standard_error(change, 1.6, 1.0, 1.6) == pytest.approx(2.3 / 875**0.5)
    scan = _find(rows, "CLARITY-AD", "amyloid_CL", "change", 26)
    assert standard_error(scan, 0.0, 1.0, 0.0) == pytest.approx(11.7 / 286**0.5)  # two readings of one patient
    share = _find(rows, "CLARITY-AD", "ARIA-E", "proportion", 78, "APOE4 noncarrier")
    assert standard_error(share, 0.05, 0.31, 0.0) == pytest.approx((0.05 * 0.95 / share.readout.n) ** 0.5)
    male = _find(rows, "CLARITY-AD", "CDR-SB", "diff_vs_placebo", 78, "male")
    assert patients(male, male.arm, 0.5) == pytest.approx(859 * (1 - 0.188) * 0.5)


def test_independent_spreads_of_change_fit_printed_errors(rows: list[Row]) -> None:
    """Where differences are printed with SE, the rule without it gives the same within a third."""
    checked = 0
    for row in rows:
        r = row.readout
        if row.difference and r.se is not None and row.endpoint.kind == "score" and row.trial.id != "PRIME":
            if row.subgroup:
                continue
            bare = replace(row, readout=r.model_copy(update={"se": None, "low": None, "high": None}))
            assert 0.65 < standard_error(bare, 0.0, 1.0, 1.0) / r.se < 1.5
            checked += 1
    assert checked > 25


def test_rows_of_low_confidence_and_from_figures_count_less(rows: list[Row]) -> None:
    """Twice the error at low confidence, and a reading error on top."""
    read = _find(rows, "CLARITY-AD", "CDR-SB", "change", 26)
    assert read.readout.confidence == "low"
    assert weighted_error(read, 0.1) == pytest.approx(np.hypot(0.2, 0.05))
    high = _find(rows, "CLARITY-AD", "CDR-SB", "diff_vs_placebo", 78)
    assert weighted_error(high, 0.1) == 0.1


def test_law_correlations_are_those_of_a_covariance(rows: list[Row]) -> None:
    """Positive definite over all rows; nothing between trials; a difference falls with its placebo's rise."""
    matrix = correlation(rows)
    assert np.linalg.eigvalsh(matrix).min() > 0.01
    other = np.array([[a.trial.id != b.trial.id for b in rows] for a in rows])
    assert np.abs(matrix[other]).max() == 0
    placebo = next(
        i for i, r in enumerate(rows) if r is _find(rows, "TRAILBLAZER-ALZ 2", "iADRS", "change", 76, "combined")
    )
    difference = next(
        i
        for i, r in enumerate(rows)
        if r is _find(rows, "TRAILBLAZER-ALZ 2", "iADRS", "diff_vs_placebo", 76, "combined")
    )
    assert matrix[placebo, difference] == pytest.approx(-0.9 / 2**0.5)


def _left(rows: list[Row], scale: float, seed: int) -> list[LeftOutTrial]:
    """Return predictions whose published numbers scatter by so many of their predictive SDs."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Prediction]] = {}
    for row in rows:
        moved = row.readout.model_copy(update={"value": 1.0 + scale * rng.normal() * 0.5})
        p = Prediction(replace(row, readout=moved), 1.0, 0.3, 0.0, 0.4, 0.4)
        found.setdefault(row.trial.family, []).append(p)
    return [LeftOutTrial(family, tuple(group)) for family, group in found.items()]


def test_law_coverage_is_judged_by_what_intervals_hold(rows: list[Row]) -> None:
    """Numbers that scatter as claimed pass; twice as wide, they fail and are named (200 numbers: SE 2.8 % at 80 %)."""
    good = judge_coverage(_left(rows, 1.0, 1), section="x", evidence=Evidence())
    assert good.verdict is Verdict.PASS
    assert good.table is not None
    held = dict(zip(good.table.column("level"), good.table.column("held"), strict=True))
    assert abs(held[80.0] - 80) < 3 * 2.8
    bad = judge_coverage(_left(rows, 2.0, 1), section="x", evidence=Evidence())
    assert bad.verdict is Verdict.FAIL
    assert "less often than they claim" in bad.text
    shown = show_left_out_trials(_left(rows, 2.0, 1), section="x", evidence=Evidence())
    assert shown.table is not None
    assert len(shown.table.rows) == len({row.trial.family for row in rows})


def test_the_pooled_effect_is_a_weighted_ratio(rows: list[Row]) -> None:
    """If every published CDR-SB difference is 0.7 of what was foretold, so is the pooled ratio."""
    left = []
    for trial in _left(rows, 1.0, 2):
        moved = tuple(
            replace(p, row=replace(p.row, readout=p.row.readout.model_copy(update={"value": 0.7 * p.expected})))
            for p in trial.predictions
        )
        left.append(LeftOutTrial(trial.family, moved))
    ratio, error = pooled_effect(left)
    assert ratio == pytest.approx(0.7)
    assert error > 0
