"""Importance sampling from a t distribution: exact where it can be checked, and unlike Laplace where that is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from trialtwin.infer.importance import (
    FREEDOM,
    Proposal,
    adapt,
    effective_size,
    importance_weights,
    laplace_proposal,
    random_points,
    resample,
    student_points,
)

GAMMA = 3.0  # shape of the gamma distribution whose logarithm is the skewed target


def skewed(u: jax.Array) -> jax.Array:
    """Return the log density of log-gamma variates, one a dimension: mode log(a), mean ψ(a)."""
    return jnp.sum(GAMMA * u - jnp.exp(u))


@pytest.mark.parametrize("dimension", [1, 3, 7])
def test_fixed_points_follow_a_t_distribution(dimension: int) -> None:
    points = student_points(4096, dimension)
    for column in points.T:
        assert stats.kstest(column, stats.t(FREEDOM).cdf).statistic < 0.02
    assert np.cov(points.T).reshape(dimension, dimension) == pytest.approx(
        FREEDOM / (FREEDOM - 2) * np.eye(dimension), abs=0.12
    )


def test_random_points_follow_a_t_distribution() -> None:
    points = np.asarray(random_points(jax.random.key(1), 20_000, 2))
    for column in points.T:
        assert stats.kstest(column, stats.t(FREEDOM).cdf).pvalue > 0.001


def test_a_number_of_points_that_is_no_power_of_2_is_refused() -> None:
    with pytest.raises(ValueError, match="give a power of 2"):
        student_points(100, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_independent_weights(seed: int) -> None:
    """Weights are the density over the proposal's own, by SciPy's multivariate t."""
    rng = np.random.default_rng(seed)
    root = np.tril(rng.normal(size=(2, 2))) + 2 * np.eye(2)
    proposal = Proposal(jnp.asarray(rng.normal(size=2)), jnp.asarray(root))
    points = jnp.asarray(rng.normal(size=(64, 2)))
    placed = np.asarray(proposal.place(points))
    drawn_from = stats.multivariate_t(np.asarray(proposal.centre), root @ root.T, df=FREEDOM)
    ratio = np.exp([float(skewed(p)) for p in jnp.asarray(placed)]) / drawn_from.pdf(placed)
    np.testing.assert_allclose(importance_weights(skewed, proposal, points), ratio / ratio.sum(), rtol=1e-9)


def test_a_point_without_density_weighs_nothing() -> None:
    points = jnp.asarray([[0.0], [1.0], [-1.0]])
    proposal = Proposal(jnp.zeros(1), jnp.eye(1))

    def half(u: jax.Array) -> jax.Array:
        return jnp.where(u[0] > 0.5, jnp.nan, 0.0)

    weights = np.asarray(importance_weights(half, proposal, points))
    assert weights[1] == 0.0
    assert weights.sum() == pytest.approx(1.0)


def test_the_mean_of_a_skewed_posterior_is_found_where_its_mode_is_elsewhere() -> None:
    """Of log-gamma(3), the mode is log 3 = 1.0986 and the mean ψ(3) = 0.9228."""
    proposal = laplace_proposal(jnp.full(2, np.log(GAMMA)), GAMMA * jnp.eye(2))
    points = jnp.asarray(student_points(1024, 2))
    for _ in range(2):
        proposal = adapt(proposal, points, importance_weights(skewed, proposal, points))
    weights = importance_weights(skewed, proposal, points)
    placed = proposal.place(points)
    mean = np.asarray(weights @ placed)
    variance = np.asarray(weights @ (placed - mean) ** 2)
    exact = stats.loggamma(GAMMA)
    assert mean == pytest.approx(exact.mean(), abs=0.005)
    assert variance == pytest.approx(exact.var(), rel=0.02)
    assert float(effective_size(weights)) > 512


def test_a_proposal_moves_towards_what_its_points_say() -> None:
    """Too wide by 3 and off by 2, it lies within a tenth of a standard normal distribution after four moves."""
    proposal = Proposal(jnp.full(2, 2.0), 3.0 * jnp.eye(2))
    points = jnp.asarray(student_points(1024, 2))
    for _ in range(4):
        weights = importance_weights(lambda u: -jnp.sum(u**2) / 2, proposal, points)
        proposal = adapt(proposal, points, weights)
    np.testing.assert_allclose(proposal.centre, 0.0, atol=0.1)
    np.testing.assert_allclose(proposal.root @ proposal.root.T, np.eye(2), atol=0.1)


def test_points_are_chosen_as_often_as_they_weigh_to_within_one() -> None:
    weights = jnp.asarray(np.random.default_rng(3).dirichlet(np.ones(20)))
    chosen = np.asarray(resample(jax.random.key(4), weights, 500))
    counts = np.bincount(chosen, minlength=20)
    assert len(chosen) == 500
    assert (np.abs(counts - 500 * np.asarray(weights)) < 1 + 1e-9).all()
    assert (np.diff(chosen) < 0).any()
