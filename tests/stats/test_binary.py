"""Score intervals of proportions and CMH tests: numerical likelihoods, hand values, statsmodels, coverage, refusals."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar

from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.stats.binary import MEASURES, TwoByTwo, miettinen_nurminen, one_table, restricted, score_statistic
from trialtwin.stats.cmh import KINDS, cmh_test, mantel_haenszel


@settings(max_examples=60, deadline=None)
@given(
    x1=st.integers(0, 12),
    x2=st.integers(0, 9),
    measure=st.sampled_from(MEASURES),
    where=st.floats(0.05, 0.95),
)
def test_independent_restricted_likelihood(x1: int, x2: int, measure: str, where: float) -> None:
    """The closed forms reach the likelihood that a search over p₂ finds, and keep the restriction."""
    theta = 2 * where - 1 if measure == "difference" else float(np.exp(4 * where - 2))
    first = {
        "difference": lambda p: p + theta,
        "ratio": lambda p: p * theta,
        "odds ratio": lambda p: p * theta / (1 - p + p * theta),
    }[measure]
    low, high = (max(0.0, -theta), min(1.0, 1 - theta)) if measure == "difference" else (0.0, 1.0)
    if measure == "ratio":
        high = min(1.0, 1 / theta)

    def minus(p: float) -> float:
        a, b = np.clip([first(p), p], 1e-300, 1)
        p1, p2 = first(p), p
        return -(
            x1 * np.log(a)
            + (12 - x1) * np.log(max(1 - p1, 1e-300))
            + x2 * np.log(b)
            + (9 - x2) * np.log(max(1 - p2, 1e-300))
        )

    found = minimize_scalar(minus, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    t1, t2 = (float(t[0]) for t in restricted(one_table(x1, 12, x2, 9), measure, theta))
    assert t1 == pytest.approx(first(t2), abs=1e-12)
    assert minus(t2) <= found.fun + 1e-6


@pytest.mark.parametrize("measure", MEASURES)
def test_the_interval_is_the_test_inverted(measure: str) -> None:
    table = TwoByTwo(*(np.array(v, dtype=float) for v in ([12, 9, 4], [20, 31, 12], [5, 8, 6], [22, 29, 11])))
    effect = miettinen_nurminen(table, measure, level=0.9)
    z = stats.norm.ppf(0.95)
    assert score_statistic(table, measure, effect.lower) == pytest.approx(z, abs=1e-8)
    assert score_statistic(table, measure, effect.upper) == pytest.approx(-z, abs=1e-8)
    assert score_statistic(table, measure, effect.value) == pytest.approx(0, abs=1e-8)
    at_limit = miettinen_nurminen(table, measure, null=effect.upper)
    assert at_limit.p == pytest.approx(0.1, abs=1e-8)


@pytest.mark.parametrize("measure", MEASURES)
def test_one_stratum_is_no_stratum(measure: str) -> None:
    """Equal strata that repeat a table keep its value, whatever the weights."""
    one = miettinen_nurminen(one_table(14, 40, 8, 40), measure)
    repeated = TwoByTwo(*(np.full(3, float(v)) for v in (14, 40, 8, 40)))
    for weights in ("CMH", "size"):
        assert miettinen_nurminen(repeated, measure, weights=weights).value == pytest.approx(one.value, rel=1e-9)


def test_reference_uncorrected_statistic_is_pearsons_chi_square() -> None:
    """At no effect all three measures give the pooled z; with N/(N − 1) its square is CMH's."""
    table = one_table(34, 80, 22, 78)
    counts = np.array([[34, 46], [22, 56]])
    pearson = stats.chi2_contingency(counts, correction=False).statistic
    for measure in MEASURES:
        null = 0.0 if measure == "difference" else 1.0
        assert score_statistic(table, measure, null, corrected=False) ** 2 == pytest.approx(pearson, rel=1e-12)
        corrected = score_statistic(table, measure, null) ** 2
        assert corrected == pytest.approx(cmh_test(counts[None].astype(float)).statistic, rel=1e-12)


def test_stratified_score_at_no_effect_is_cmh() -> None:
    x1, n1, x2, n2 = ([12, 9, 4], [20, 31, 12], [5, 8, 6], [22, 29, 11])
    table = TwoByTwo(*(np.array(v, dtype=float) for v in (x1, n1, x2, n2)))
    counts = np.array([[[a, m - a], [b, n - b]] for a, m, b, n in zip(x1, n1, x2, n2, strict=True)], dtype=float)
    expected = cmh_test(counts).statistic
    for measure in MEASURES:
        assert score_statistic(table, measure, 0.0 if measure == "difference" else 1.0) ** 2 == pytest.approx(expected)


def test_exact_ends_of_the_difference() -> None:
    everyone = miettinen_nurminen(one_table(10, 10, 0, 10))
    assert everyone.value == 1
    assert everyone.upper == 1
    assert 0.5 < everyone.lower < 1
    nobody = miettinen_nurminen(one_table(0, 10, 0, 12))
    assert nobody.value == 0
    assert nobody.lower < 0 < nobody.upper
    assert nobody.p == 1


def test_zero_responders_have_a_ratio_of_zero() -> None:
    effect = miettinen_nurminen(one_table(0, 20, 9, 20), "ratio")
    assert (effect.value, effect.lower) == (0.0, 0.0)
    assert 0 < effect.upper < 1


@pytest.mark.law
@pytest.mark.parametrize(("measure", "truth"), [("difference", 0.2), ("ratio", 1.4), ("odds ratio", 2.25)])
def test_law_coverage_computed_over_all_tables(measure: str, truth: float) -> None:
    """Arms of 25 at .7 and .5 (.5294 → odds ratio 2.25): summed over all 676 tables, 95 % within .02, no sampling."""
    p2 = 0.5
    p1 = {"difference": 0.7, "ratio": 0.7, "odds ratio": 2.25 / 3.25}[measure]
    covered = 0.0
    for a in range(26):
        for b in range(26):
            weight = stats.binom.pmf(a, 25, p1) * stats.binom.pmf(b, 25, p2)
            if weight > 1e-12:
                covered += weight * (abs(score_statistic(one_table(a, 25, b, 25), measure, truth)) <= 1.959964)
    assert covered == pytest.approx(0.95, abs=0.02)


@pytest.mark.reference
def test_reference_mantel_haenszel_statsmodels_0_15() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 30, (5, 2, 2)).astype(float)
    other = sm.stats.StratifiedTable(counts.transpose(1, 2, 0))
    ours = mantel_haenszel(counts, "a")
    assert ours.value == pytest.approx(other.oddsratio_pooled, rel=1e-12)
    assert [ours.lower, ours.upper] == pytest.approx(other.oddsratio_pooled_confint(), rel=1e-9)
    test = other.test_null_odds(correction=False)
    assert [cmh_test(counts, kind).statistic for kind in KINDS] == pytest.approx([test.statistic] * 3, rel=1e-10)


def test_independent_general_association_by_permutation() -> None:
    """Moments of permuted outcomes within strata: mean and variance of 20,000 shuffles, within 4 standard errors."""
    rng = np.random.default_rng(1)
    arm, y = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    stratum = np.repeat([0, 1], 20)

    def counts(values: np.ndarray) -> np.ndarray:
        t = np.zeros((2, 3, 3))
        np.add.at(t, (stratum, arm, values), 1)
        return t

    draws = np.empty((20_000, 4))
    for i in range(len(draws)):
        shuffled = np.concatenate([rng.permutation(y[:20]), rng.permutation(y[20:])])
        draws[i] = counts(shuffled).sum(axis=0)[:2, :2].ravel()
    G = counts(y).sum(axis=0)[:2, :2].ravel() - draws.mean(axis=0)
    Q = G @ np.linalg.solve(np.cov(draws, rowvar=False), G)
    test = cmh_test(counts(y))
    assert test.df == 4
    assert test.statistic == pytest.approx(Q, rel=0.06)


def test_cmh_leaves_out_what_tells_nothing() -> None:
    telling = np.array([[[5.0, 7.0, 2.0], [3.0, 9.0, 6.0]]])
    silent = np.array(
        [[[4.0, 3.0, 2.0], [0.0, 0.0, 0.0]], [[0.0, 3.0, 0.0], [0.0, 5.0, 0.0]], np.eye(2, 3) * [[1], [0]]]
    )
    for kind in KINDS:
        alone, all_of_them = cmh_test(telling, kind), cmh_test(np.concatenate([telling, silent]), kind)
        assert all_of_them.statistic == pytest.approx(alone.statistic, rel=1e-12)
        assert (all_of_them.strata, all_of_them.df) == (1, alone.df)


def test_bad_input_is_refused() -> None:
    table = one_table(3, 10, 4, 10)
    with pytest.raises(DataError, match="responders"):
        one_table(11, 10, 4, 10)
    with pytest.raises(DataError, match="hold nobody of the reference arm"):
        TwoByTwo(*(np.array(v, dtype=float) for v in ([3, 2], [10, 9], [4, 0], [10, 0])))
    with pytest.raises(ConfigError, match="hazard"):
        miettinen_nurminen(table, "hazard ratio")
    with pytest.raises(ConfigError, match="weights"):
        miettinen_nurminen(table, weights="inverse")
    with pytest.raises(ConfigError, match="cannot be"):
        miettinen_nurminen(table, null=1.5)
    with pytest.raises(ConfigError, match="cannot be"):
        miettinen_nurminen(table, "ratio", null=-1.0)
    with pytest.raises(ConfigError, match="level"):
        miettinen_nurminen(table, level=95.0)
    with pytest.raises(FitError, match="nobody of the reference"):
        miettinen_nurminen(one_table(3, 10, 0, 10), "ratio")
    with pytest.raises(FitError, match="odds ratio"):
        miettinen_nurminen(one_table(10, 10, 4, 10), "odds ratio")
    with pytest.raises(DataError, match="whole"):
        cmh_test(np.full((1, 2, 2), 1.5))
    with pytest.raises(ConfigError, match="statistic"):
        cmh_test(np.ones((1, 2, 2)), "trend")
    with pytest.raises(ConfigError, match="scores"):
        cmh_test(np.ones((1, 2, 3)), "row means", column_scores=[1.0, 1.0, 1.0])
    with pytest.raises(FitError, match="nothing to test"):
        cmh_test(np.array([[[3.0, 4.0], [0.0, 0.0]]]))
    with pytest.raises(FitError, match="infinite"):
        mantel_haenszel(np.array([[[3.0, 0.0], [2.0, 5.0]]]), "a")
    with pytest.raises(DataError, match="whole"):
        mantel_haenszel(np.array([[[3.0, -1.0], [2.0, 5.0]]]), "a")
