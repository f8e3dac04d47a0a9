"""Adjusted p-values: closed tests over all intersections, published graphs, family-wise error, refusals."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.stats.multiplicity import ADJUSTMENTS, Graph, adjusted_p, dunnett_critical_value

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6).map(np.array)
NAMES = dict(zip(ADJUSTMENTS, ("bonferroni", "holm", "simes-hochberg", "hommel", "fdr_bh", "fdr_by"), strict=True))


@settings(max_examples=100, deadline=None)
@given(p=P_VALUES)
def test_independent_hommel_closes_simes(p: np.ndarray) -> None:
    """Every intersection by Simes' test, every hypothesis by the worst intersection that holds it."""
    m = len(p)
    worst = np.zeros(m)
    for size in range(1, m + 1):
        for subset in combinations(range(m), size):
            members = list(subset)
            simes = np.min(size * np.sort(p[members]) / np.arange(1, size + 1))
            worst[members] = np.maximum(worst[members], simes)
    assert adjusted_p(p, "Hommel") == pytest.approx(np.minimum(worst, 1), abs=1e-12)


@pytest.mark.reference
@settings(max_examples=60, deadline=None)
@given(p=P_VALUES, method=st.sampled_from(ADJUSTMENTS))
def test_reference_adjusted_p_statsmodels_0_15(p: np.ndarray, method: str) -> None:
    assert adjusted_p(p, method) == pytest.approx(multipletests(p, method=NAMES[method])[1], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(p=P_VALUES)
def test_law_order_of_strictness(p: np.ndarray) -> None:
    holm, hochberg, hommel = (adjusted_p(p, m) for m in ("Holm", "Hochberg", "Hommel"))
    slack = 1e-12
    assert (p <= hommel + slack).all()
    assert (hommel <= hochberg + slack).all()
    assert (hochberg <= holm + slack).all()
    assert (holm <= adjusted_p(p, "Bonferroni") + slack).all()


def _complete(m: int) -> Graph:
    return Graph(tuple(f"H{i}" for i in range(m)), np.full(m, 1 / m), (np.ones((m, m)) - np.eye(m)) / max(m - 1, 1))


@settings(max_examples=60, deadline=None)
@given(p=P_VALUES)
def test_a_complete_graph_is_holm(p: np.ndarray) -> None:
    assert _complete(len(p)).adjusted_p(p) == pytest.approx(adjusted_p(p, "Holm"), abs=1e-9)


def test_a_chain_is_the_fixed_sequence() -> None:
    chain = Graph(("a", "b", "c"), np.array([1.0, 0, 0]), np.eye(3, k=1))
    assert chain.adjusted_p(np.array([0.01, 0.04, 0.02])) == pytest.approx([0.01, 0.04, 0.04])
    assert chain.rejected(np.array([0.06, 0.001, 0.001])).tolist() == [False, False, False]


def test_improved_parallel_gatekeeping_by_hand() -> None:
    """Bretz et al. (2009), figure 4: two primary and two secondary hypotheses, α and ½ each way.

    p = (.01, .005, .1, .5): H2 at .025, H1 at .025 + .0125; then H3 and H4 hold .025 each, and neither is rejected.
    H3's α would be half of the whole: adjusted 2 × .1 = .2, then H4 holds all: .5.
    """
    G = np.array([[0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5], [0, 1, 0, 0], [1, 0, 0, 0]])
    graph = Graph(("H1", "H2", "H3", "H4"), np.array([0.5, 0.5, 0, 0]), G)
    p = np.array([0.01, 0.005, 0.1, 0.5])
    assert graph.rejected(p, 0.05).tolist() == [True, True, False, False]
    assert graph.adjusted_p(p) == pytest.approx([0.01 / 0.75, 0.01, 0.2, 0.5])


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_independent_graph_closes_weighted_bonferroni(seed: int) -> None:
    """Weights of every intersection by removing the others one at a time, in any order; then the closed test."""
    rng = np.random.default_rng(seed)
    m = 4
    G = rng.dirichlet(np.ones(m), m) * rng.integers(0, 2, (m, m))
    np.fill_diagonal(G, 0)
    w, p = rng.dirichlet(np.ones(m)), rng.uniform(0, 0.2, m)
    worst = np.zeros(m)
    for size in range(1, m + 1):
        for subset in combinations(range(m), size):
            weights, edges, left = w.copy(), G.copy(), list(range(m))
            for j in rng.permutation([k for k in range(m) if k not in subset]):
                left.remove(j)
                new = np.zeros_like(edges)
                for a in left:
                    weights[a] += weights[j] * edges[j, a]
                    for b in left:
                        if a != b and edges[a, j] * edges[j, a] < 1:
                            new[a, b] = (edges[a, b] + edges[a, j] * edges[j, b]) / (1 - edges[a, j] * edges[j, a])
                weights[j], edges = 0, new
            ratios = [p[i] / weights[i] if weights[i] > 0 else np.inf for i in subset]
            worst[list(subset)] = np.maximum(worst[list(subset)], min(ratios))
    graph = Graph(tuple("abcd"), w, G)
    assert graph.adjusted_p(p) == pytest.approx(np.minimum(worst, 1), abs=1e-9)


@pytest.mark.law
def test_law_family_wise_error_of_every_procedure() -> None:
    """20,000 draws of four null statistics with correlation ½: at most 5 % + 3 × .0015; Bonferroni's is well below."""
    rng = np.random.default_rng(3)
    trials = 20_000
    z = np.sqrt(0.5) * (rng.normal(size=(trials, 4)) + rng.normal(size=(trials, 1)))
    p = 2 * stats.norm.sf(np.abs(z))
    bound = 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
    for method in ("Bonferroni", "Holm", "Hochberg", "Hommel"):
        # the smallest adjusted p-value decides whether anything is rejected: only rows that could be are gone through
        likely = p[p.min(axis=1) <= 0.05]
        errors = sum(bool(adjusted_p(row, method).min() <= 0.05) for row in likely)
        assert errors / trials <= bound
    graph = _complete(4)
    assert sum(graph.rejected(row).any() for row in p[p.min(axis=1) <= 0.05]) / trials <= bound
    dunnett = dunnett_critical_value(4, np.inf)
    assert np.mean(np.abs(z).max(axis=1) > dunnett) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / trials))


@pytest.mark.reference
@pytest.mark.parametrize(("groups", "df"), [(2, 10), (3, 20), (5, 60), (4, 5)])
def test_reference_dunnett_scipy_1_18(groups: int, df: int) -> None:
    """The multivariate t probability of the box, which scipy finds by sampling, to 1e-4."""
    c = dunnett_critical_value(groups, df, allocation=2.0)
    correlation = np.full((groups, groups), 2 / 3) + np.eye(groups) / 3
    law = stats.multivariate_t(shape=correlation, df=df, seed=1)
    inside = law.cdf(np.full(groups, c), lower_limit=np.full(groups, -c), maxpts=200_000)
    assert inside == pytest.approx(0.95, abs=2e-4)


def test_dunnett_limits() -> None:
    assert dunnett_critical_value(1, 10.0) == pytest.approx(stats.t.ppf(0.975, 10), abs=1e-6)
    assert dunnett_critical_value(1, 2.0) == pytest.approx(stats.t.ppf(0.975, 2), rel=1e-4)
    assert dunnett_critical_value(1, np.inf, two_sided=False) == pytest.approx(stats.norm.ppf(0.95), abs=1e-8)
    # many patients in the active arms make their statistics alike, few make them independent
    independent = stats.norm.ppf(0.5 + 0.95 ** (1 / 3) / 2)
    assert dunnett_critical_value(3, np.inf, allocation=1e-9) == pytest.approx(independent, abs=1e-5)
    assert dunnett_critical_value(3, np.inf, allocation=1.0) < independent


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="Sidak"):
        adjusted_p(np.array([0.1]), "Sidak")
    with pytest.raises(DataError, match="outside"):
        adjusted_p(np.array([0.1, 1.2]), "Holm")
    with pytest.raises(DataError, match="outside"):
        adjusted_p(np.array([0.1, np.nan]), "Hommel")
    with pytest.raises(DataError, match="no p-values"):
        adjusted_p(np.array([]), "Holm")
    two = ("a", "b")
    with pytest.raises(ConfigError, match="more than 1"):
        Graph(two, np.array([0.8, 0.8]), np.zeros((2, 2)))
    with pytest.raises(ConfigError, match="passes on more"):
        Graph(two, np.array([0.5, 0.5]), np.array([[0, 1.5], [0, 0]]))
    with pytest.raises(ConfigError, match="itself"):
        Graph(two, np.array([0.5, 0.5]), np.eye(2))
    with pytest.raises(ConfigError, match="negative"):
        Graph(two, np.array([-0.5, 0.5]), np.zeros((2, 2)))
    with pytest.raises(ConfigError, match="different names"):
        Graph(("a", "a"), np.array([0.5, 0.5]), np.zeros((2, 2)))
    with pytest.raises(DataError, match="1 p-values for 2"):
        Graph(two, np.array([0.5, 0.5]), np.zeros((2, 2))).adjusted_p(np.array([0.1]))
    with pytest.raises(ConfigError, match="level"):
        Graph(two, np.array([0.5, 0.5]), np.zeros((2, 2))).rejected(np.array([0.1, 0.2]), alpha=5.0)
    with pytest.raises(ConfigError, match="Dunnett"):
        dunnett_critical_value(0, 10.0)
