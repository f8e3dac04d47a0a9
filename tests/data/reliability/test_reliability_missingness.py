"""Dropout and missingness: exact limits, exact tests, and where dropout is known from."""

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import polars as pl
import pytest
from scipy.stats import fisher_exact
from statsmodels.stats.proportion import proportion_confint

from trialtwin.core.finding import Table
from trialtwin.data.reliability import Trial
from trialtwin.data.reliability.missingness import (
    dropout_by_arm,
    exact_limits,
    exact_test,
    missing_by_arm_and_visit,
    presence,
)

from .reliability_trial import LAYOUT, Plant, change, clean, drop_column, drop_rows


def by_fractions(counts: list[tuple[int, int]]) -> float:
    """Enumerate all tables with the same margins in exact arithmetic."""
    total, size = sum(c for c, _ in counts), sum(n for _, n in counts)

    def weight(split: tuple[int, ...]) -> int:
        product_ = 1
        for k, (_, n) in zip(split, counts, strict=True):
            product_ *= comb(n, k)
        return product_

    observed = weight(tuple(c for c, _ in counts))
    splits = (s for s in product(*(range(n + 1) for _, n in counts)) if sum(s) == total)
    return float(Fraction(sum(w for w in map(weight, splits) if w <= observed), comb(size, total)))


@pytest.mark.parametrize(("count", "n"), [(0, 7), (2, 10), (10, 10), (44, 84)])
def test_reference_limits_of_clopper_and_pearson_as_statsmodels(count: int, n: int) -> None:
    assert exact_limits(count, n) == pytest.approx(proportion_confint(count, n, method="beta"))


@pytest.mark.parametrize("counts", [[(3, 10), (7, 10)], [(1, 12), (9, 11)], [(28, 86), (57, 84)]])
def test_reference_two_arms_as_fishers_test_of_scipy(counts: list[tuple[int, int]]) -> None:
    table = [[count, n - count] for count, n in counts]
    assert exact_test(counts)[0] == pytest.approx(fisher_exact(table).pvalue, rel=1e-9)


@pytest.mark.parametrize(
    "counts", [[(1, 6), (3, 7), (5, 6)], [(0, 4), (2, 5), (2, 6)], [(2, 3), (1, 4), (3, 5), (0, 4)]]
)
def test_independent_exact_test_of_several_arms(counts: list[tuple[int, int]]) -> None:
    assert exact_test(counts)[0] == pytest.approx(by_fractions(counts), rel=1e-9)


def test_nobody_leaving_gives_no_test() -> None:
    assert exact_test([(0, 10), (0, 12)])[0] == 1


def test_too_many_tables_fall_to_chi_square_and_the_name_says_so() -> None:
    p, name = exact_test([(40, 200), (50, 200), (60, 200), (45, 200)])
    assert name == "Pearson χ²"
    assert 0 < p < 1


@pytest.mark.law
def test_law_exact_test_holds_its_level() -> None:
    rng = np.random.default_rng(5)
    draws = rng.binomial([20, 25, 22], 0.3, (2000, 3))
    rejected = np.mean([exact_test(list(zip(map(int, d), (20, 25, 22), strict=True)))[0] <= 0.05 for d in draws])
    assert rejected <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)  # Monte-Carlo error 0.5 %


SOURCES: list[tuple[str, Plant, str]] = [
    ("disposition", lambda tables: tables, "DCDECOD is not COMPLETED"),
    ("flag of leaving", drop_column("ADSL", "DCDECOD"), "DISCONFL is Y"),
    ("flag of completing", drop_column("ADSL", "DCDECOD", "DISCONFL"), "COMP8FL is not Y"),
    ("visits", drop_column("ADSL", "DCDECOD", "DISCONFL", "COMP8FL"), "no TOT at the last visit"),
]


@pytest.mark.parametrize(("plant", "source"), [pytest.param(p, s, id=name) for name, p, s in SOURCES])
def test_dropout_is_the_same_wherever_it_is_known_from(plant: Plant, source: str) -> None:
    summary = dropout_by_arm.check(Trial(plant(clean()), LAYOUT)).summary
    assert summary is not None
    assert source in summary.text
    assert rows(summary.table) == [("Placebo", 18, 0), ("Active", 18, 2)]


def test_difference_in_dropout_is_said() -> None:
    active = pl.col("TRT01P") == "Active"
    tables = change("ADSL", active, DCDECOD="ADVERSE EVENT")(clean())
    summary = dropout_by_arm.check(Trial(tables, LAYOUT)).summary
    assert summary is not None
    assert "Dropout differs between the arms" in summary.text


def test_intermittent_and_monotone_missingness_are_told_apart() -> None:
    missed = (pl.col("USUBJID") == "P02") & (pl.col("AVISIT") == "Week 4")
    summary = missing_by_arm_and_visit.check(Trial(drop_rows("ADQS", missed)(clean()), LAYOUT)).summary
    assert summary is not None
    counted = {(row[1], row[2]): row[4:6] for row in summary.table.rows}
    assert counted[("Active", "Week 4")] == (0, 1)
    assert counted[("Active", "Week 8")] == (2, 0)


def test_carried_values_are_not_presence() -> None:
    trial = Trial(clean(), LAYOUT)
    who = presence(trial, trial.outcomes[0])
    assert who.seen.sum(axis=0).tolist() == [36, 36, 34]
    assert who.last[who.subjects.index("P12")] == 1


def rows(table: Table) -> list[tuple[object, ...]]:
    return [row[:3] for row in table.rows]
