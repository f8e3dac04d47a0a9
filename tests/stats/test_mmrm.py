"""Mixed models for repeated measures: identities, the likelihood programmed again, and data that cannot be fitted."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from trialtwin.core.errors import ConfigError, ConvergenceError, DataError, FitError, MismatchError
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.meanmodel import Factor, MeanModel, mean_model
from trialtwin.stats.mmrm import mmrm
from trialtwin.stats.mmrm_covariance import STRUCTURES
from trialtwin.stats.mmrm_result import RepeatedFit

VISITS = ("1", "2", "3")
SUBJECTS = 30
SIGMA = np.array([[4.0, 2.0, 1.0], [2.0, 5.0, 2.5], [1.0, 2.5, 6.0]])


class Trial:
    """A small trial with outcomes missing here and there."""

    def __init__(self, seed: int = 3, missing: float = 0.2) -> None:
        rng = np.random.default_rng(seed)
        self.subject = np.repeat(np.arange(SUBJECTS), 3)
        self.visit = np.tile(np.arange(3), SUBJECTS)
        self.arm = np.repeat(np.arange(SUBJECTS) % 2, 3)
        self.base = np.repeat(rng.normal(size=SUBJECTS), 3)
        errors = rng.multivariate_normal(np.zeros(3), SIGMA, size=SUBJECTS).reshape(-1)
        self.y = 1 + 0.5 * self.visit + self.arm * self.visit + self.base + errors
        self.y[rng.random(len(self.y)) < missing] = np.nan
        self.times = self.visit * 2.0 + 1

    def model(self, *terms: str) -> MeanModel:
        """Return a mean over arm, visit and baseline."""
        factors = {
            "arm": Factor(("placebo", "active"), self.arm),
            "visit": Factor(VISITS, self.visit),
        }
        return mean_model(terms or ("arm*visit", "base"), factors=factors, covariates={"base": self.base})

    def fit(self, *terms: str, **options: Any) -> RepeatedFit:
        """Fit the model to what was observed."""
        return mmrm(self.model(*terms), self.y, subjects=self.subject, visit="visit", **options)


def dense_log_likelihood(fit: RepeatedFit, trial: Trial) -> float:
    """Evaluate the likelihood with one matrix over all rows."""
    seen = ~np.isnan(trial.y)
    X, y = trial.model().matrix().values[seen], trial.y[seen]
    visits, subject = trial.visit[seen], trial.subject[seen]
    times = np.arange(3.0) if not fit.structure.spatial else np.array([1.0, 3.0, 5.0])
    sigma = fit.visit_covariance(times=times)
    V = sigma[np.ix_(visits, visits)] * (subject[:, None] == subject[None, :])
    if not fit.likelihood.restricted:
        return float(multivariate_normal.logpdf(y, X @ fit.coefficients, V))
    W = np.linalg.inv(V)
    beta = np.linalg.solve(X.T @ W @ X, X.T @ W @ y)
    r = y - X @ beta
    logdet = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ W @ X)[1]
    return float(-0.5 * ((len(y) - X.shape[1]) * np.log(2 * np.pi) + logdet + r @ W @ r))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("restricted", [True, False])
def test_independent_likelihood_of_one_matrix_over_all_rows(structure: str, restricted: bool) -> None:
    trial = Trial()
    fit = trial.fit(structure=structure, restricted=restricted, times=trial.times)
    assert fit.log_likelihood == pytest.approx(dense_log_likelihood(fit, trial), rel=1e-12)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("restricted", [True, False])
def test_gradient_and_hessian_are_those_of_finite_differences(structure: str, restricted: bool) -> None:
    trial = Trial()
    likelihood = trial.fit(structure=structure, restricted=restricted, times=trial.times, group="arm").likelihood
    theta = np.random.default_rng(2).normal(size=likelihood.model.size) * 0.2
    step = 1e-5
    points = []
    for direction in np.eye(len(theta)):
        pair = [likelihood.point(theta + sign * step * direction) for sign in (1, -1)]
        assert pair[0] is not None
        assert pair[1] is not None
        points.append(pair)
    at = likelihood.point(theta)
    assert at is not None
    found = likelihood.curvature(at)
    slopes = [(up.value - down.value) / (2 * step) for up, down in points]
    bends = [
        (likelihood.curvature(up).gradient - likelihood.curvature(down).gradient) / (2 * step) for up, down in points
    ]
    assert found.gradient == pytest.approx(slopes, rel=1e-5, abs=1e-5)
    assert found.hessian == pytest.approx(np.array(bends), rel=1e-5, abs=1e-5)


def test_law_information_is_the_mean_of_the_hessian() -> None:
    """Over 400 data sets from the model; 4 Monte-Carlo standard errors of each element."""
    trial = Trial(missing=0.1)
    likelihood = trial.fit().likelihood
    sigma_theta = likelihood.model.structure.start(SIGMA, np.arange(3.0))
    rng, hessians, information = np.random.default_rng(5), [], []
    seen = np.isnan(trial.y)
    for _ in range(400):
        errors = rng.multivariate_normal(np.zeros(3), SIGMA, size=SUBJECTS).reshape(-1)
        trial.y = np.where(seen, np.nan, errors)
        again = trial.fit().likelihood
        point = again.point(sigma_theta)
        assert point is not None
        curvature = again.curvature(point)
        hessians.append(curvature.hessian)
        information.append(curvature.information)
    mean, error = np.mean(hessians, axis=0), np.std(hessians, axis=0) / np.sqrt(len(hessians))
    assert np.ptp(information, axis=0).max() < 1e-8
    assert (np.abs(mean - information[0]) < 4 * error + 1e-8).all()


def test_complete_data_and_a_mean_by_visit_give_the_means_and_exact_t_tests() -> None:
    """Each visit alone is then a two-sample t test with n − 2 degrees of freedom, whatever the adjustment."""
    trial = Trial(missing=0.0)
    fit = trial.fit("arm*visit")
    for k, visit in enumerate(VISITS):
        at = trial.visit == k
        y, arm = trial.y[at], trial.arm[at]
        pooled = np.sqrt(sum(((y[arm == a] - y[arm == a].mean()) ** 2).sum() for a in (0, 1)) / (SUBJECTS - 2))
        for df in ("Kenward-Roger-linear", "Satterthwaite"):
            effect = fit.difference("arm", "active", "placebo", at={"visit": visit}, df=df)
            assert effect.value == pytest.approx(y[arm == 1].mean() - y[arm == 0].mean())
            assert effect.se == pytest.approx(pooled * np.sqrt(2 / (SUBJECTS / 2)))
            assert effect.df == pytest.approx(SUBJECTS - 2)


def test_one_visit_is_analysis_of_covariance() -> None:
    trial = Trial(missing=0.0)
    last = trial.visit == 2
    factors = {"arm": Factor(("placebo", "active"), trial.arm[last]), "visit": Factor(("3",), np.zeros(SUBJECTS, int))}
    model = mean_model(["arm", "base"], factors=factors, covariates={"base": trial.base[last]})
    fit = mmrm(model, trial.y[last], subjects=trial.subject[last], visit="visit")
    found = fit.estimate({"arm[active]": 1.0}, "active − placebo")
    again = least_squares(model.matrix(), trial.y[last]).estimate({"arm[active]": 1.0}, "active − placebo")
    assert (found.value, found.se, found.df) == pytest.approx((again.value, again.se, again.df))


def test_order_of_rows_and_rows_without_outcome_do_not_matter() -> None:
    trial = Trial()
    whole = trial.fit()
    seen = np.flatnonzero(~np.isnan(trial.y))
    order = np.random.default_rng(1).permutation(seen)
    for name in ("subject", "visit", "arm", "base", "y"):
        setattr(trial, name, getattr(trial, name)[order])
    assert trial.fit().log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-12)
    assert trial.fit().coefficients == pytest.approx(whole.coefficients, rel=1e-8)


def test_units_of_response_and_weights_scale_estimates() -> None:
    trial = Trial()
    fit = trial.fit()
    doubled = trial.fit(weights=np.full(len(trial.y), 2.0))
    assert doubled.coefficients == pytest.approx(fit.coefficients, rel=1e-8)
    assert doubled.visit_covariance() == pytest.approx(2 * fit.visit_covariance(), rel=1e-6)
    trial.y = 1000 * trial.y
    large = trial.fit()
    assert large.coefficients == pytest.approx(1000 * fit.coefficients, rel=1e-7)
    assert large.covariance(df="Kenward-Roger-linear") == pytest.approx(
        1e6 * fit.covariance(df="Kenward-Roger-linear"), rel=1e-6
    )


def test_groups_that_are_modelled_apart_are_fits_apart() -> None:
    trial = Trial()
    both = trial.fit("arm*visit", group="arm")
    for k, name in enumerate(("placebo", "active")):
        own = trial.arm == k
        alone = mean_model(["visit"], factors={"visit": Factor(VISITS, trial.visit[own])})
        fit = mmrm(alone, trial.y[own], subjects=trial.subject[own], visit="visit")
        assert both.visit_covariance(name) == pytest.approx(fit.visit_covariance(), rel=1e-6)
    with pytest.raises(MismatchError, match="exists: placebo, active"):
        both.visit_covariance()
    with pytest.raises(MismatchError, match="exists: placebo, active"):
        both.visit_covariance("high")


def test_spatial_exponential_in_steps_of_one_is_ar1() -> None:
    trial = Trial()
    steps = trial.fit(structure="spatial exponential", times=trial.visit.astype(float))
    assert steps.log_likelihood == pytest.approx(trial.fit(structure="AR(1)").log_likelihood, rel=1e-12)
    with pytest.raises(ConfigError, match="times"):
        steps.visit_covariance()


@pytest.mark.parametrize("rho", [0.3, 0.9])
def test_spatial_exponential_at_times_that_no_two_patients_share(rho: float) -> None:
    """600 visits of 120 patients; the correlation is found within 4 standard errors, wherever the search starts."""
    rng = np.random.default_rng(8)
    times = np.cumsum(rng.uniform(0.5, 2.0, (120, 5)), axis=1)
    roots = np.linalg.cholesky(9 * rho ** np.abs(times[:, :, None] - times[:, None, :]))
    y = (roots @ rng.normal(size=(120, 5, 1)))[..., 0]
    model = mean_model(["visit"], factors={"visit": Factor(tuple("12345"), np.tile(np.arange(5), 120))})
    options: dict[str, Any] = {"structure": "spatial exponential", "times": times.reshape(-1), "visit": "visit"}
    fit = mmrm(model, y.reshape(-1), subjects=np.repeat(np.arange(120), 5), **options)
    truth = np.array([np.log(3), np.log(rho / (1 - rho))])
    assert (np.abs(fit.theta - truth) < 4 * np.sqrt(np.diag(fit.optimum.theta_covariance))).all()
    as_r = mmrm(model, y.reshape(-1), subjects=np.repeat(np.arange(120), 5), optimiser="L-BFGS-B", **options)
    assert as_r.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-7)


def test_a_joint_test_of_one_contrast_is_its_t_test_squared() -> None:
    fit = Trial().fit()
    row = fit.mean_row({"arm": "active", "visit": "3"}) - fit.mean_row({"arm": "placebo", "visit": "3"})
    for df in ("Kenward-Roger-linear", "Kenward-Roger", "Satterthwaite", "between-within", "residual"):
        t, f = fit.estimate(row, "one", df=df), fit.joint_test(row[None], "one", df=df)
        assert (f.statistic, f.denominator_df, f.p) == pytest.approx((t.statistic**2, t.df, t.p))
    for variance in ("CR0", "CR2", "CR3"):
        t = fit.estimate(row, "one", df="Satterthwaite", variance=variance)
        f = fit.joint_test(row[None], "one", df="Satterthwaite", variance=variance)
        assert (f.statistic, f.denominator_df, f.p) == pytest.approx((t.statistic**2, t.df, t.p))


def test_a_joint_test_does_not_depend_on_how_its_contrasts_are_written() -> None:
    fit = Trial().fit()
    L = np.array([[float(name == f"arm[active]:visit[{v}]") for name in fit.names] for v in ("2", "3")])
    mixed = np.array([[1.0, 2.0], [-1.0, 0.5]]) @ L
    for df in ("Kenward-Roger-linear", "Kenward-Roger"):  # Fai and Cornelius's does
        a, b = fit.joint_test(L, "interaction", df=df), fit.joint_test(mixed, "interaction", df=df)
        assert (a.statistic, a.denominator_df) == pytest.approx((b.statistic, b.denominator_df))


def test_independent_sandwich_and_degrees_of_freedom_by_matrices_over_all_rows() -> None:
    trial = Trial()
    fit = trial.fit()
    X, y, subject = fit.data.design.values, fit.data.response, fit.data.subject
    V = fit.visit_covariance()[np.ix_(fit.data.visit, fit.data.visit)] * (subject[:, None] == subject[None, :])
    half = np.linalg.inv(np.linalg.cholesky(V))
    X, y = half @ X, half @ y
    inverse = np.linalg.inv(X.T @ X)
    H = X @ inverse @ X.T
    free = np.eye(len(y)) - H
    c = np.array([float(name == "arm[active]:visit[3]") for name in fit.names])
    for kind, power in (("CR0", 0.0), ("CR2", -0.5), ("CR3", -1.0)):
        V_robust, columns = np.zeros_like(inverse), []
        for i in range(fit.n):
            own = subject == i
            values, vectors = np.linalg.eigh(free[np.ix_(own, own)])
            adjusted = (vectors * values**power) @ vectors.T @ X[own]
            score = adjusted.T @ (free @ y)[own]
            V_robust += np.outer(score, score)
            columns.append(free[:, own] @ adjusted @ inverse @ c)
        gram = np.array(columns) @ np.array(columns).T
        found = fit.estimate(c, "c", df="Satterthwaite", variance=kind)
        assert found.se**2 == pytest.approx(c @ inverse @ V_robust @ inverse @ c)
        assert found.df == pytest.approx(np.trace(gram) ** 2 / np.trace(gram @ gram))
    assert (fit.estimate(c, "c", df="residual", variance="CR0").df) == fit.rows - len(fit.names)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_independent_kenward_roger_by_matrices_over_all_rows(structure: str) -> None:
    trial = Trial()
    fit = trial.fit(structure=structure, times=trial.times)
    X, visit, same = fit.data.design.values, fit.data.visit, np.equal.outer(fit.data.subject, fit.data.subject)
    times = np.array([1.0, 3.0, 5.0]) if fit.structure.spatial else np.arange(3.0)
    sigma = fit.structure.derivatives(fit.theta, times)

    def over_rows(matrix: np.ndarray) -> np.ndarray:
        return matrix[..., visit[:, None], visit[None, :]] * same

    S, first, second = np.linalg.inv(over_rows(sigma.value)), over_rows(sigma.first), over_rows(sigma.second)
    half = S @ X
    inverse = np.linalg.inv(X.T @ half)
    W = fit.optimum.theta_covariance
    for df, curved in (("Kenward-Roger", 1.0), ("Kenward-Roger-linear", 0.0)):
        bracket = np.zeros_like(inverse)
        for a in range(len(W)):
            for b in range(len(W)):
                Q = half.T @ first[a] @ S @ first[b] @ half
                P = half.T @ first[a] @ half @ inverse @ half.T @ first[b] @ half
                bracket += W[a, b] * (Q - P - 0.25 * curved * half.T @ second[a, b] @ half)
        adjusted = inverse + 2 * inverse @ bracket @ inverse
        assert fit.covariance(df=df) == pytest.approx(adjusted, rel=1e-8, abs=1e-10)


def test_a_visit_that_is_not_named_is_averaged_over() -> None:
    fit = Trial().fit()
    each = [fit.difference("arm", "active", "placebo", at={"visit": v}).value for v in VISITS]
    overall = fit.difference("arm", "active", "placebo")
    assert overall.value == pytest.approx(np.mean(each))
    assert overall.contrast == "active − placebo"


def test_estimates_say_how_they_were_come_by() -> None:
    fit = Trial().fit()
    effect = fit.difference("arm", "active", "placebo", at={"visit": "3"}, unit="points")
    assert effect.variance == "Kenward-Roger"
    assert effect.method == "MMRM, unstructured covariance, REML, Kenward-Roger-linear"
    assert (effect.n, effect.unit) == (fit.n, "points")


def test_refuses_two_outcomes_at_one_visit() -> None:
    trial = Trial(missing=0.0)
    trial.visit[1] = 0
    with pytest.raises(DataError, match="subject 0 at visit 1"):
        trial.fit()


def test_refuses_no_outcome_in_an_arm() -> None:
    trial = Trial()
    trial.y[trial.arm == 1] = np.nan
    with pytest.raises(FitError, match=r"no outcome is observed where arm\[active\]"):
        trial.fit()


def test_refuses_no_outcome_at_a_visit() -> None:
    trial = Trial()
    trial.y[trial.visit == 2] = np.nan
    with pytest.raises(FitError, match=r"at visit\(s\) 3"):
        trial.fit()


def test_refuses_singular_design() -> None:
    trial = Trial()
    model = trial.model()
    model = mean_model(
        ["arm", "visit", "base", "twice"],
        factors=model.factors,
        covariates={"base": trial.base, "twice": 2 * trial.base},
    )
    with pytest.raises(FitError, match="'twice' is a linear combination of base"):
        mmrm(model, trial.y, subjects=trial.subject, visit="visit")


@pytest.mark.parametrize("weight", [-1.0, 0.0, np.nan, np.inf])
def test_refuses_weights_that_are_not_positive(weight: float) -> None:
    trial = Trial(missing=0.0)
    weights = np.ones(len(trial.y))
    weights[4] = weight
    with pytest.raises(DataError, match="subject 1"):
        trial.fit(weights=weights)


def test_refuses_infinite_outcome() -> None:
    trial = Trial()
    trial.y[5] = np.inf
    with pytest.raises(DataError, match="the response"):
        trial.fit()


def test_refuses_times_that_run_backwards() -> None:
    trial = Trial(missing=0.0)
    trial.times[1] = 0.0
    with pytest.raises(DataError, match="times do not rise"):
        trial.fit(structure="spatial exponential", times=trial.times)


def test_refuses_spatial_without_times() -> None:
    with pytest.raises(ConfigError, match="give the times"):
        Trial().fit(structure="spatial exponential")


def test_refuses_group_that_changes_within_a_subject() -> None:
    with pytest.raises(DataError, match="second covariance group"):
        Trial().fit(group="visit")


def test_refuses_lengths_that_differ() -> None:
    trial = Trial()
    model = trial.model()
    with pytest.raises(DataError, match="visits has 90 rows where the other arrays have 60"):
        mmrm(model, trial.y[:60], subjects=trial.subject[:60], visit="visit")


def test_refuses_covariance_that_is_not_identified() -> None:
    """No subject has both of two visits, so that their covariance is free."""
    trial = Trial(missing=0.0)
    trial.y[(trial.visit == 0) & (trial.subject % 4 < 2)] = np.nan
    trial.y[(trial.visit == 1) & (trial.subject % 4 >= 2)] = np.nan
    with pytest.raises(FitError, match="covariance parameters"):
        trial.fit("arm", "visit")


def test_refuses_covariance_without_a_largest_likelihood() -> None:
    """A visit that repeats another's outcomes has residuals with correlation one."""
    trial = Trial(missing=0.0)
    trial.y[trial.visit == 1] = trial.y[trial.visit == 0]
    with pytest.raises(ConvergenceError, match="did not converge"):
        trial.fit("arm*visit")


def test_refuses_names_that_do_not_exist() -> None:
    fit = Trial().fit()
    with pytest.raises(ConfigError, match="exists: Kenward-Roger-linear"):
        fit.estimate({"base": 1.0}, "base", df="Kenward")
    with pytest.raises(ConfigError, match="exists: model, CR0"):
        fit.estimate({"base": 1.0}, "base", df="Satterthwaite", variance="HC3")
    with pytest.raises(ConfigError, match="use 'Satterthwaite'"):
        fit.estimate({"base": 1.0}, "base", variance="CR2")
    with pytest.raises(ConfigError, match="exists: Newton"):
        Trial().fit(optimiser="CG")
    with pytest.raises(MismatchError, match="exists: arm, visit"):
        Trial().fit(group="sex")


def test_refuses_contrasts_that_depend_on_each_other() -> None:
    fit = Trial().fit()
    row = np.eye(len(fit.names))[:1]
    with pytest.raises(FitError, match="depend on each other"):
        fit.joint_test(np.concatenate([row, 2 * row]), "twice")


def test_refuses_a_subject_that_determines_a_coefficient() -> None:
    trial = Trial(missing=0.0)
    alone = (trial.subject == 7).astype(float)
    model = mean_model(["visit", "alone"], factors=trial.model().factors, covariates={"alone": alone})
    fit = mmrm(model, trial.y, subjects=trial.subject, visit="visit")
    with pytest.raises(FitError, match=r"leverage 1\n  where: 7"):
        fit.estimate({"alone": 1.0}, "alone", df="Satterthwaite", variance="CR2")
