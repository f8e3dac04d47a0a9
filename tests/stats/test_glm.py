"""Generalised linear models: statsmodels, score equations, hand values, separation, and refusals."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from trialtwin.core.errors import ConfigError, ConvergenceError, DataError, FitError
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.families import AbstractFamily, Binomial, Gaussian, NegativeBinomial, Poisson
from trialtwin.stats.glm import GLM_VARIANCES, fit_glm, fit_negative_binomial
from trialtwin.stats.modelmatrix import ModelMatrix, continuous_columns, factor_columns, intercept, join
from trialtwin.stats.separation import separated_columns

FAMILIES = (Gaussian(), Binomial(), Poisson(), NegativeBinomial(0.4))
OTHERS = {
    "gaussian": sm.families.Gaussian(),
    "binomial": sm.families.Binomial(),
    "poisson": sm.families.Poisson(),
    "negative binomial": sm.families.NegativeBinomial(alpha=0.4),
}


def _design(rng: np.random.Generator, n: int = 120) -> ModelMatrix:
    return join(
        intercept(n),
        factor_columns("arm", ("A", "B", "C"), np.arange(n) % 3),
        continuous_columns({"x": rng.normal(size=n), "z": rng.uniform(size=n)}),
    )


def _response(family: AbstractFamily, design: ModelMatrix, rng: np.random.Generator) -> np.ndarray:
    eta = design.values @ [-0.3, 0.6, 0.2, 0.8, -0.5]
    mu = family.mean(eta)
    match family.name:
        case "gaussian":
            return mu + rng.normal(size=len(mu))
        case "binomial":
            return (rng.random(len(mu)) < mu).astype(float)
    rate = mu * rng.gamma(2.5, 0.4, len(mu)) if family.name == "negative binomial" else mu
    return rng.poisson(rate).astype(float)


@pytest.mark.reference
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
@pytest.mark.parametrize("seed", range(3))
def test_reference_glm_statsmodels_0_15(family: AbstractFamily, seed: int) -> None:
    rng = np.random.default_rng(seed)
    design = _design(rng)
    y = _response(family, design, rng)
    fit = fit_glm(design, y, family)
    model = sm.GLM(y, design.values, family=OTHERS[family.name])
    other = model.fit(tol=1e-14)
    assert fit.coefficients == pytest.approx(other.params, rel=1e-7)
    assert fit.covariance() == pytest.approx(other.cov_params(), rel=1e-6, abs=1e-12)
    assert fit.scale == pytest.approx(other.scale, rel=1e-8)
    assert fit.deviance == pytest.approx(other.deviance, rel=1e-8)
    assert fit.leverage == pytest.approx(other.get_hat_matrix_diag(observed=False), rel=1e-6)
    assert fit.df == other.df_resid
    if family.canonical:
        # elsewhere statsmodels takes the observed information as bread; R's sandwich takes the expected one
        assert fit.covariance("HC0") == pytest.approx(model.fit(cov_type="HC0").cov_params(), rel=1e-6, abs=1e-12)
    if family.name != "gaussian":
        assert fit.log_likelihood == pytest.approx(other.llf, rel=1e-9)


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(3))
def test_reference_negative_binomial_statsmodels_0_15(seed: int) -> None:
    rng = np.random.default_rng(seed)
    design = _design(rng, 300)
    y = _response(NegativeBinomial(0.4), design, rng)
    fit = fit_negative_binomial(design, y)
    other = sm.NegativeBinomial(y, design.values).fit(disp=0, maxiter=500, method="bfgs", gtol=1e-8)
    assert isinstance(fit.family, NegativeBinomial)
    assert fit.coefficients == pytest.approx(other.params[:-1], abs=1e-5)
    assert fit.family.dispersion == pytest.approx(other.params[-1], rel=1e-4)
    assert fit.log_likelihood >= other.llf - 1e-7


def test_reference_offset_statsmodels_0_15() -> None:
    rng = np.random.default_rng(5)
    design = _design(rng)
    years = rng.uniform(0.2, 2.0, 120)
    y = rng.poisson(years * np.exp(design.values @ [0.1, 0.2, 0.0, 0.3, 0.4])).astype(float)
    fit = fit_glm(design, y, Poisson(), offset=np.log(years))
    other = sm.GLM(y, design.values, family=sm.families.Poisson(), offset=np.log(years)).fit(tol=1e-14)
    assert fit.coefficients == pytest.approx(other.params, rel=1e-8)
    # a prediction is for one unit of exposure
    assert fit.predict(design) == pytest.approx(fit.fitted / years, rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_independent_sandwich_by_its_definition(family: AbstractFamily) -> None:
    """Every variance from the score of each row, differentiated by hand, and an explicit hat matrix."""
    rng = np.random.default_rng(7)
    design = _design(rng)
    X, y = design.values, _response(family, design, rng)
    fit = fit_glm(design, y, family)
    n, p = X.shape
    eta = X @ fit.coefficients
    step = 1e-6
    slope = (family.mean(eta + step) - family.mean(eta - step)) / (2 * step)
    W = slope**2 / family.variance(family.mean(eta))
    u = (y - family.mean(eta)) * slope / family.variance(family.mean(eta))
    B = np.linalg.inv(X.T @ np.diag(W) @ X)
    h = np.diag(np.diag(W) @ X @ B @ X.T)
    omega = {"HC0": u**2, "HC1": u**2 * n / (n - p), "HC2": u**2 / (1 - h), "HC3": u**2 / (1 - h) ** 2}
    for kind, w in omega.items():
        assert fit.covariance(kind) == pytest.approx(B @ X.T @ np.diag(w) @ X @ B, rel=1e-6, abs=1e-12)
    assert np.abs(X.T @ u).max() < 1e-8  # the maximum

    def score(eta: np.ndarray) -> np.ndarray:
        mu = family.mean(eta)
        return (y - mu) * family.slope(mu) / family.variance(mu)

    falls = -(score(eta + step) - score(eta - step)) / (2 * step)
    assert family.curvature(y, fit.fitted) == pytest.approx(falls, rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_the_link_undoes_the_mean(family: AbstractFamily) -> None:
    eta = np.linspace(-3, 3, 13)
    assert family.link(family.mean(eta)) == pytest.approx(eta, abs=1e-12)


def test_gaussian_is_least_squares() -> None:
    rng = np.random.default_rng(3)
    design = _design(rng)
    y = rng.normal(size=120)
    fit, exact = fit_glm(design, y, Gaussian()), least_squares(design, y)
    for kind in GLM_VARIANCES:
        assert fit.covariance(kind) == pytest.approx(exact.covariance(kind), rel=1e-9, abs=1e-14)


def test_hand_values_of_one_factor() -> None:
    """A saturated model gives the logit and the logarithm of what was seen."""
    arm = factor_columns("arm", ("A", "B"), np.repeat([0, 1], 10))
    y = np.array([1.0] * 3 + [0.0] * 7 + [1.0] * 6 + [0.0] * 4)
    design = join(intercept(20), arm)
    assert fit_glm(design, y, Binomial()).coefficients == pytest.approx([np.log(3 / 7), np.log(6 / 4 / (3 / 7))])
    assert fit_glm(design, y, Poisson()).coefficients == pytest.approx([np.log(0.3), np.log(2.0)])


def test_a_dispersion_of_zero_is_the_poisson_law() -> None:
    rng = np.random.default_rng(1)
    design = _design(rng)
    y = _response(Poisson(), design, rng)
    zero, poisson = fit_glm(design, y, NegativeBinomial(0.0)), fit_glm(design, y, Poisson())
    near = fit_glm(design, y, NegativeBinomial(1e-9))
    assert zero.coefficients == pytest.approx(poisson.coefficients, rel=1e-12)
    assert zero.log_likelihood == pytest.approx(poisson.log_likelihood, rel=1e-12)
    assert near.log_likelihood == pytest.approx(poisson.log_likelihood, rel=1e-8)
    assert near.deviance == pytest.approx(poisson.deviance, rel=1e-6)


def test_underdispersed_counts_have_no_dispersion() -> None:
    fit = fit_negative_binomial(intercept(8), np.array([2.0, 3, 2, 3, 2, 3, 2, 3]))
    assert fit.family == NegativeBinomial(0.0)


def test_large_counts_keep_their_likelihood() -> None:
    """Beyond 10,000 the sum becomes a difference of log gammas: both say the same."""
    mu, family = np.array([9000.0]), NegativeBinomial(0.3)
    below, above = (family.log_likelihood(np.array([y]), mu) for y in (10_000.0, 10_001.0))
    ratio = np.log((10_000 + 1 / 0.3) / 10_001 * (0.3 * 9000) / (1 + 0.3 * 9000))
    assert above - below == pytest.approx(ratio, abs=1e-8)


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_far_covariates_converge(shift: float) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=200)
    y = (rng.random(200) < 1 / (1 + np.exp(-x))).astype(float)
    fit = fit_glm(join(intercept(200), continuous_columns({"x": 1e-3 * (x + shift)})), y, Binomial())
    plain = fit_glm(join(intercept(200), continuous_columns({"x": x})), y, Binomial())
    assert fit.coefficients[1] * 1e-3 == pytest.approx(plain.coefficients[1], rel=1e-6)


def test_complete_separation_is_refused_and_named() -> None:
    x = np.linspace(-1, 1, 20)
    design = join(intercept(20), continuous_columns({"x": x, "z": np.cos(9 * x)}))
    with pytest.raises(FitError, match=r"separated[\s\S]*x"):
        fit_glm(design, (x > 0).astype(float), Binomial())


def test_quasi_separation_is_refused() -> None:
    """Nobody in site c responds: its coefficient has no maximum, whatever the rest do."""
    rng = np.random.default_rng(0)
    site = rng.integers(0, 3, 90)
    y = np.where(site == 2, 0.0, rng.integers(0, 2, 90))
    design = join(intercept(90), factor_columns("site", ("a", "b", "c"), site))
    with pytest.raises(FitError, match=r"site\[c\]"):
        fit_glm(design, y, Binomial())
    with pytest.raises(FitError, match=r"site\[c\]"):
        fit_glm(design, y, Poisson())
    with pytest.raises(FitError, match=r"site\[c\]"):
        fit_negative_binomial(design, y)


@pytest.mark.parametrize(("y", "family"), [(0.0, Binomial()), (1.0, Binomial()), (0.0, Poisson())])
def test_a_constant_response_is_separated(y: float, family: AbstractFamily) -> None:
    with pytest.raises(FitError, match="no maximum"):
        fit_glm(intercept(10), np.full(10, y), family)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_law_either_separated_or_fitted(seed: int) -> None:
    """Small binary samples: the linear program and IRLS agree on whether there is a maximum."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(8, 16))
    design = join(intercept(n), continuous_columns({"x": rng.normal(size=n), "z": rng.normal(size=n)}))
    y = (rng.random(n) < 1 / (1 + np.exp(-1.5 * design.values[:, 1]))).astype(float)
    if separated_columns(design, y, "binary"):
        with pytest.raises(FitError, match="no maximum"):
            fit_glm(design, y, Binomial())
    else:
        fit = fit_glm(design, y, Binomial())
        assert np.abs(design.values.T @ fit.residuals).max() < 1e-7


def test_bad_input_is_refused() -> None:
    design = join(intercept(6), continuous_columns({"x": np.arange(6.0)}))
    y = np.array([0.0, 1, 0, 1, 1, 0])
    with pytest.raises(DataError, match="neither 0 nor 1"):
        fit_glm(design, y * 2, Binomial())
    with pytest.raises(DataError, match="not a count"):
        fit_glm(design, y - 0.5, Poisson())
    with pytest.raises(DataError, match="not finite"):
        fit_glm(design, np.where(y == 1, np.nan, y), Gaussian())
    with pytest.raises(DataError, match="rows"):
        fit_glm(design, y[:5], Binomial())
    with pytest.raises(DataError, match="not finite"):
        fit_glm(design, y, Poisson(), offset=np.full(6, -np.inf))
    with pytest.raises(DataError, match="row names"):
        fit_glm(design, y, Binomial(), rows=["a"])
    with pytest.raises(FitError, match="singular"):
        fit_glm(join(design, continuous_columns({"twice": 2 * np.arange(6.0)})), y, Binomial())
    with pytest.raises(FitError, match="degrees of freedom"):
        fit_glm(ModelMatrix(tuple("abcdef"), np.eye(6)), y, Gaussian())
    with pytest.raises(FitError, match="exactly"):
        fit_glm(design, 2 * np.arange(6.0), Gaussian())
    with pytest.raises(ConfigError, match="HC9"):
        fit_glm(design, y, Binomial()).covariance("HC9")
    with pytest.raises(DataError, match="other columns"):
        fit_glm(design, y, Binomial()).predict(intercept(6))
    with pytest.raises(ConfigError, match="dispersion"):
        NegativeBinomial(-0.1)
    with pytest.raises(ConfigError, match="endpoint"):
        separated_columns(design, y, "continuous")
    with pytest.raises(DataError, match="link scale"):
        Binomial().link(np.array([0.5, 1.0]))


def test_full_leverage_is_named() -> None:
    one = np.zeros(8)
    one[3] = 1.0
    y = np.array([0.0, 1, 2, 3, 1, 0, 2, 1])
    fit = fit_glm(join(intercept(8), continuous_columns({"one": one})), y, Poisson(), rows=[f"P{i}" for i in range(8)])
    with pytest.raises(FitError, match="P3"):
        fit.covariance("HC3")
    assert np.isfinite(fit.covariance("HC1")).all()


def test_non_convergence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialtwin.stats.glm._MOST_STEPS", 2)
    rng = np.random.default_rng(4)
    design = _design(rng)
    with pytest.raises(ConvergenceError, match="2 steps"):
        fit_glm(design, _response(Binomial(), design, rng), Binomial())
