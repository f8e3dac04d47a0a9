"""Group factor analysis: against other programs, against formulas written twice, and what it guarantees."""

from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
from mofapy2.run.entry_point import entry_point
from scipy import stats
from sklearn.decomposition import FactorAnalysis

from trialtwin.core.errors import ConvergenceError, DataError, FitError
from trialtwin.infer.factors import FactorModel, fit_factors
from trialtwin.infer.factors_bound import evidence_bound
from trialtwin.infer.factors_posterior import State, given_cells

ACTIVE = np.array([[1.0, 1, 0], [1, 0, 1], [1, 1, 0]])
WIDTHS = (40, 30, 20)


def loadings_of(rng: np.random.Generator) -> list[np.ndarray]:
    """Return true loadings: one factor in all three blocks, one in two of them, one in the second alone."""
    return [0.7 * rng.normal(size=(width, 3)) * on for width, on in zip(WIDTHS, ACTIVE, strict=True)]


def measure(
    rng: np.random.Generator, loadings: list[np.ndarray], patients: int, away: tuple[float, ...] = (0.0, 0.0, 0.0)
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return factors, and blocks that a share of the patients lack altogether."""
    z = rng.normal(size=(patients, 3))
    views = [3.0 + z @ w.T + rng.normal(size=(patients, len(w))) for w in loadings]
    for view, share in zip(views, away, strict=True):
        view[rng.random(patients) < share] = np.nan
    return z, views


@pytest.fixture(scope="module")
def fitted() -> tuple[FactorModel, list[np.ndarray], list[np.ndarray]]:
    """Return a model of 400 patients, the true loadings, and the blocks."""
    rng = np.random.default_rng(5)
    loadings = loadings_of(rng)
    _, views = measure(rng, loadings, 400, (0.0, 0.4, 0.4))
    return fit_factors(views), loadings, views


def test_as_many_factors_as_there_are_each_in_its_blocks(
    fitted: tuple[FactorModel, list[np.ndarray], list[np.ndarray]],
) -> None:
    model, loadings, _ = fitted
    assert model.size == 3
    truth = np.array([(w**2 / (1 + (w**2).sum(axis=1, keepdims=True))).mean(axis=0) for w in loadings])
    order = [int(np.abs(model.explained - truth[:, [k]]).sum(axis=0).argmin()) for k in range(3)]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(model.explained[:, order], truth, atol=0.05)
    assert (model.relevance[:, order][ACTIVE == 0] > 20 * model.relevance[:, order][ACTIVE == 1].max()).all()


def test_of_noise_nothing_is_learned() -> None:
    rng = np.random.default_rng(3)
    model = fit_factors([rng.normal(size=(100, 30)), rng.normal(size=(100, 20))])
    assert model.size == 0
    known = model.posterior([rng.normal(size=(2, 30)), rng.normal(size=(2, 20))])
    assert known.mean.shape == (2, 0)
    assert (known.known == 0).all()


def test_the_bound_never_falls() -> None:
    """It starts anew only where a factor is dropped, and these are as many as there are real factors."""
    rng = np.random.default_rng(5)
    loadings = loadings_of(rng)
    _, views = measure(rng, loadings, 120, (0.3, 0.3, 0.3))
    views[0][rng.random(views[0].shape) < 0.2] = np.nan
    bound = fit_factors(views, factors=3, least_share=0.0).bound
    gains = np.diff(bound)
    assert len(bound) > 10
    # the last climb tries two factors in place of three and starts lower; it is not kept
    assert (gains > -1e-8 * np.abs(bound[1:])).all()


def test_reference_one_block_is_factor_analysis() -> None:
    """The covariance that the model implies is that of maximum likelihood, to what a weak prior moves it."""
    assert version("scikit-learn").startswith("1.")
    rng = np.random.default_rng(2)
    loadings = rng.normal(size=(9, 2))
    y = rng.normal(size=(2000, 2)) @ loadings.T + rng.normal(size=(2000, 9)) * np.linspace(0.6, 1.4, 9)
    model = fit_factors([y], factors=2)
    implied = model.loadings @ model.loadings.T + np.diag(1 / model.noise)
    other = FactorAnalysis(2, tol=1e-4, max_iter=3000, svd_method="lapack").fit((y - y.mean(axis=0)) / y.std(axis=0))
    np.testing.assert_allclose(implied, other.get_covariance(), atol=2e-3)
    scores = model.posterior([y]).mean
    theirs = other.transform((y - y.mean(axis=0)) / y.std(axis=0))
    found = np.linalg.lstsq(theirs, scores)[0]
    assert (1 - ((scores - theirs @ found) ** 2).sum(axis=0) / (scores**2).sum(axis=0) > 0.9999).all()


def test_reference_mofapy2_finds_the_same_space_and_shares() -> None:
    """Whatever their basis: the space of the factors, and what they explain of each block, with blocks missing."""
    rng = np.random.default_rng(5)
    loadings = loadings_of(rng)
    _, views = measure(rng, loadings, 300, (0.0, 0.3, 0.3))
    model = fit_factors(views)
    mine = model.posterior(views)
    oracle = entry_point()
    oracle.set_data_options(scale_views=False)
    standard = [(view - np.nanmean(view, axis=0)) / np.nanstd(view, axis=0) for view in views]
    oracle.set_data_matrix([[view.copy()] for view in standard])
    oracle.set_model_options(factors=3, spikeslab_weights=False, ard_weights=True)
    oracle.set_train_options(iter=1000, convergence_mode="slow", seed=1, quiet=True)
    oracle.build()
    oracle.run()
    nodes = oracle.model.getNodes()
    theirs = nodes["Z"].getExpectation()
    assert theirs.shape[1] == model.size == 3
    ours, other = (np.linalg.qr(f - f.mean(axis=0))[0] for f in (mine.mean, theirs))
    assert (np.linalg.svd(ours.T @ other, compute_uv=False) > 0.995).all()
    shares = oracle.model.calculate_variance_explained(total=True)[0]
    away = (np.concatenate(views, axis=1) - model.expected(mine)) / model.scale
    for m, view in enumerate(standard):
        left = np.nansum(away[:, model.block == m] ** 2) / np.nansum(view**2)
        assert 1 - left == pytest.approx(shares[m], abs=0.005)


def certain(model: FactorModel) -> FactorModel:
    """Return the model without uncertainty of its loadings and means."""
    second = model.loadings[:, :, None] * model.loadings[:, None, :]
    return replace(model, second=second, cross=model.mean[:, None] * model.loadings)


def test_independent_posterior_is_the_conditional_normal_of_whatever_was_measured(
    fitted: tuple[FactorModel, list[np.ndarray], list[np.ndarray]],
) -> None:
    """Joint normal of factors and features, conditioned patient by patient."""
    model, _, views = fitted
    rng = np.random.default_rng(8)
    some = [view[:30].copy() for view in views]
    for view in some:
        view[rng.random(view.shape) < 0.4] = np.nan
    found = certain(model).posterior(some)
    standard = (np.concatenate(some, axis=1)[:, model.used] - model.centre) / model.scale
    for i, row in enumerate(standard):
        there = np.isfinite(row)
        w = model.loadings[there]
        gain = w.T @ np.linalg.inv(w @ w.T + np.diag(1 / model.noise[there]))
        np.testing.assert_allclose(found.mean[i], gain @ (row[there] - model.mean[there]), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found.covariance[i], np.eye(3) - gain @ w, atol=1e-10)


def test_independent_the_bound_is_what_sampling_says() -> None:
    """E_q[log p(y, …) − log q], by 20,000 draws of everything from a posterior of small size."""
    rng = np.random.default_rng(4)
    n, d, k, prior = 5, 4, 2, 0.7
    cells = rng.normal(size=(n, d))
    cells[0, 1] = cells[3, 2] = cells[4, 2] = np.nan
    block = np.array([0, 0, 1, 1])
    given = given_cells(cells, block, 2)
    roots = rng.normal(size=(d, k + 1, k + 1)) * 0.2
    state = State(
        mean=rng.normal(size=(n, k)),
        covariance=np.stack([np.diag(rng.uniform(0.2, 0.8, k)) for _ in given.patterns]),
        loadings=rng.normal(size=(d, k + 1)),
        loading_covariance=roots @ roots.swapaxes(1, 2) + 0.05 * np.eye(k + 1),
        shape=np.array([4.0, 5.0]),
        spread=rng.uniform(3.0, 6.0, (2, k)),
        noise_shape=rng.uniform(4.0, 6.0, d),
        noise_rate=rng.uniform(3.0, 6.0, d),
    )
    values = _log_ratios(rng, cells, block, state, given.row_of, prior, 20_000)
    error = values.std() / np.sqrt(len(values))
    assert error < 0.3
    assert evidence_bound(given, state, prior) == pytest.approx(values.mean(), abs=4 * error)


def _log_ratios(
    rng: np.random.Generator,
    cells: np.ndarray,
    block: np.ndarray,
    q: State,
    row_of: np.ndarray,
    prior: float,
    draws: int,
) -> np.ndarray:
    """Return log p − log q at draws of everything from q."""
    alpha = rng.gamma(np.broadcast_to(q.shape[:, None], q.spread.shape), 1 / q.spread, (draws, *q.spread.shape))
    tau = rng.gamma(q.noise_shape, 1 / q.noise_rate, (draws, len(q.noise_rate)))
    w, log_w = _normals(rng, q.loadings, q.loading_covariance, draws)
    z, log_z = _normals(rng, q.mean, q.covariance[row_of], draws)
    gamma, normal = stats.gamma.logpdf, stats.norm.logpdf
    spread = gamma(alpha, prior, scale=1 / prior) - gamma(alpha, q.shape[:, None], scale=1 / q.spread)
    noise = gamma(tau, prior, scale=1 / prior) - gamma(tau, q.noise_shape, scale=1 / q.noise_rate)
    value = spread.sum(axis=(1, 2)) + noise.sum(axis=1) - log_w - log_z + normal(z).sum(axis=(1, 2))
    value += normal(w[..., 0], 0, 1e-3**-0.5).sum(axis=1)
    value += normal(w[..., 1:], 0, alpha[:, block] ** -0.5).sum(axis=(1, 2))
    centre = w[:, None, :, 0] + np.einsum("snk,sdk->snd", z, w[..., 1:])
    return value + np.nansum(normal(cells, centre, tau[:, None] ** -0.5), axis=(1, 2))


def _normals(
    rng: np.random.Generator, means: np.ndarray, covariances: np.ndarray, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return draws of several normal vectors, and the log density of each draw."""
    parts = [rng.multivariate_normal(m, c, draws) for m, c in zip(means, covariances, strict=True)]
    logs = [stats.multivariate_normal.logpdf(part, m, c) for part, m, c in zip(parts, means, covariances, strict=True)]
    return np.stack(parts, axis=1), np.sum(logs, axis=0)


@pytest.mark.law
def test_law_factors_of_new_patients_lie_where_their_posterior_says() -> None:
    """True factors, in the fitted basis, inside the 90 % ellipsoid: with all blocks, one, and some cells."""
    inside: dict[str, list[float]] = {"all": [], "second only": [], "some cells": []}
    for seed in range(8):
        rng = np.random.default_rng(100 + seed)
        loadings = loadings_of(rng)
        _, views = measure(rng, loadings, 500, (0.2, 0.2, 0.2))
        model = fit_factors(views)
        assert model.size == 3
        z, new = measure(rng, loadings, 200)
        turn = np.linalg.lstsq(model.loadings, np.concatenate(loadings) / model.scale[:, None])[0]
        for name, found_inside in inside.items():
            asked = [view.copy() for view in new]
            if name == "second only":
                asked[0][:] = asked[2][:] = np.nan
            if name == "some cells":
                for view in asked:
                    view[rng.random(view.shape) < 0.7] = np.nan
            found = model.posterior(asked)
            away = z @ turn.T - found.mean
            distance = np.einsum("nk,nkl,nl->n", away, np.linalg.inv(found.covariance), away)
            found_inside.append(float((distance < stats.chi2.ppf(0.9, 3)).mean()))
    for name, shares in inside.items():
        error = np.std(shares, ddof=1) / np.sqrt(len(shares))
        assert abs(np.mean(shares) - 0.9) < 3 * error + 0.01, (name, np.mean(shares), error)


def test_less_is_known_of_whom_less_was_measured(
    fitted: tuple[FactorModel, list[np.ndarray], list[np.ndarray]],
) -> None:
    model, _, views = fitted
    one = [view[:1].copy() for view in views]
    shares = [float(model.posterior(one).known[0])]
    for view in one:
        view[:] = np.nan
        shares.append(float(model.posterior(one).known[0]))
    assert (np.diff(shares) <= 1e-12).all()
    assert shares[0] > 0.6
    nobody = model.posterior(one)
    np.testing.assert_array_equal(nobody.mean, 0)
    np.testing.assert_allclose(nobody.covariance[0], np.eye(3), atol=1e-12)


def test_features_that_do_not_vary_or_were_never_measured_are_left_out() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(60, 1))
    view = z + 0.5 * rng.normal(size=(60, 5))
    view[:, 1], view[:, 3] = 7.0, np.nan
    model = fit_factors([view])
    np.testing.assert_array_equal(model.used, [0, 2, 4])
    other = view.copy()
    other[:, 1], other[:, 3] = -50.0, 9.0
    np.testing.assert_array_equal(model.posterior([other]).mean, model.posterior([view]).mean)


def test_what_cannot_be_fitted_is_refused() -> None:
    rng = np.random.default_rng(1)
    view = rng.normal(size=(20, 4))
    with pytest.raises(FitError, match="no feature varies"):
        fit_factors([np.ones((20, 3))])
    with pytest.raises(DataError, match=r"blocks of \[19, 20\] patients"):
        fit_factors([view, view[1:]])
    with pytest.raises(DataError, match="1 value"):
        fit_factors([np.where(view == view[2, 2], np.inf, view)])
    with pytest.raises(ConvergenceError, match="after 3 sweeps"):
        fit_factors([view + 3 * rng.normal(size=(20, 1))], sweeps=3)
    with pytest.raises(DataError, match=r"blocks of \[3\] features for a factor model of \[4\]"):
        fit_factors([view + 3 * rng.normal(size=(20, 1))]).posterior([view[:, :3]])
