"""Fits on trial-level summaries: closed forms, coverage, refusals."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy import optimize, stats

from trialtwin.core.errors import ConvergenceError, DataError
from trialtwin.infer.model import Theta
from trialtwin.infer.restricted import Linear
from trialtwin.infer.summaries import (
    Summaries,
    SummaryFit,
    Trial,
    fit_linearised,
    fit_summaries,
    leave_one_out,
)


def _difference(theta: dict[str, Array], b: dict[str, Array], one: dict[str, Array]) -> Array:
    return theta["effect"] * one["dose"] + b["effect"]


MODEL = Summaries(_difference, {"effect": Theta(0.5, "identity")}, {"effect": 0.5})


def _trials(seed: int, *, count: int = 12, tau: float = 0.5) -> list[Trial]:
    """Return trials of two doses with one effect between trials and correlated errors."""
    rng = np.random.default_rng(seed)
    correlation = np.array([[1.0, 0.5], [0.5, 1.0]])
    dose = np.array([1.0, 2.0])
    found = []
    for k in range(count):
        error = rng.uniform(0.15, 0.3, size=2)
        noise = error * (np.linalg.cholesky(correlation) @ rng.normal(size=2))
        value = 0.8 * dose + tau * rng.normal() + noise
        found.append(Trial(f"trial {k}", value, error, {"dose": dose}, correlation=correlation))
    return found


@pytest.fixture(scope="module")
def fitted() -> SummaryFit:
    return fit_summaries(MODEL, _trials(1))


def test_independent_multivariate_normal_likelihood(fitted: SummaryFit) -> None:
    """Of a linear model the marginal is multivariate normal: maximum, value and curvature by SciPy."""

    def minus(x: np.ndarray) -> float:
        total = 0.0
        for t in fitted.trials:
            assert t.correlation is not None
            spread = t.correlation * np.outer(t.error, t.error) + np.exp(2 * x[1])
            total -= float(stats.multivariate_normal(x[0] * t.inputs["dose"], spread).logpdf(t.value))
        return total

    found = optimize.minimize(minus, [0.5, -0.5], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10})
    np.testing.assert_allclose(fitted.maximum.position, found.x, atol=1e-3)
    assert fitted.maximum.value == pytest.approx(-found.fun, abs=1e-6)
    h, at = np.array([1e-3, 0.0]), found.x
    curved = (minus(at + h) - 2 * minus(at) + minus(at - h)) / h[0] ** 2
    assert fitted.maximum.hessian[0, 0] == pytest.approx(curved, rel=1e-2)


def test_rows_without_an_error_take_the_spread_of_one_patient() -> None:
    """Rows with σ/√n instead of the error: σ comes back, and the effect as with errors known."""
    rng = np.random.default_rng(3)
    dose, n = np.ones(4), np.array([50.0, 80.0, 120.0, 200.0])
    trials = [
        Trial(str(k), 1.0 + 6.0 / np.sqrt(n) * rng.normal(size=4), np.full(4, np.nan), {"dose": dose}, patients=n)
        for k in range(40)
    ]
    model = Summaries(_difference, {"effect": Theta(0.5, "identity")}, {"effect": 0.05}, prior={"tau": 0.5}, sigma=3.0)
    found = fit_summaries(model, trials).estimates()
    assert found["sigma"][1] < 6.0 < found["sigma"][2]
    assert found["effect"][1] < 1.0 < found["effect"][2]


def test_a_robust_fit_gives_little_to_a_trial_that_is_far_off() -> None:
    """One of twelve trials is off by 20 errors: the normal fit follows it more than the robust one does."""
    trials = _trials(5, tau=0.02)
    far = trials[0]
    trials[0] = Trial(far.name, far.value + 5.0, far.error, far.inputs, correlation=far.correlation)
    prior = {"tau": 0.1}
    theta = {"effect": Theta(0.8, "identity")}
    plain = fit_summaries(Summaries(_difference, theta, {"effect": 0.05}, prior=prior), trials)
    robust = fit_summaries(Summaries(_difference, theta, {"effect": 0.05}, prior=prior, freedom=3.0), trials)
    off = [abs(f.estimates()["effect"][0] - 0.8) for f in (plain, robust)]
    assert off[1] < 0.5 * off[0]
    assert off[1] < 0.1


def test_what_keeps_its_prior_is_named() -> None:
    """A parameter that multiplies nothing has a posterior as wide as its prior; without a prior the fit is refused."""

    def mean(theta: dict[str, Array], b: dict[str, Array], one: dict[str, Array]) -> Array:
        return _difference(theta, b, one) + 0.0 * theta["idle"]

    theta = {"effect": Theta(0.5, "identity"), "idle": Theta(1.0, "identity")}
    held = Summaries(mean, theta, {"effect": 0.5}, prior={"idle": 0.7})
    found = fit_summaries(held, _trials(1))
    assert found.uninformed() == ("idle",)
    with pytest.raises(ConvergenceError, match="idle"):
        fit_summaries(Summaries(mean, theta, {"effect": 0.5}), _trials(1))


def test_law_a_trial_left_out_lies_where_it_is_predicted() -> None:
    """80 % intervals of 2 × 24 readouts hold 80 %; error 8 % with trials of two correlated rows as the unit."""
    trials = _trials(9, count=24)
    drawn = leave_one_out(MODEL, trials, draws=500)
    held = []
    for t in trials:
        low, high = np.quantile(drawn[t.name], [0.1, 0.9], axis=0)
        held.append(((low < t.value) & (t.value < high)).mean())
    assert abs(np.mean(held) - 0.8) < 3 * np.sqrt(0.8 * 0.2 / 24)


def test_independent_gauss_newton_meets_the_marginal_fit() -> None:
    """A decay read at three times by six trials: Gauss-Newton with restricted likelihood, and the Laplace fit.

    The rate agrees to a third of its error. Restricted likelihood counts the parameter that was estimated, so that τ is
    larger than by maximum likelihood, and is where −½(log|V| + log|JᵀV⁻¹J| + rᵀV⁻¹r), written here again, is highest.
    """
    rng = np.random.default_rng(2)
    time = np.array([1.0, 2.0, 4.0])
    shift = 0.1 * rng.normal(size=6)
    y = np.exp(-0.3 * time) + shift[:, None] + 0.02 * rng.normal(size=(6, 3))

    def mean(theta: dict[str, Array], b: dict[str, Array], one: dict[str, Array]) -> Array:
        return jnp.exp(-theta["rate"] * one["time"]) + b["shift"]

    def linearise(at: np.ndarray) -> Linear:
        curve = np.tile(np.exp(-at[0] * time), 6)
        wide = np.array([1e3])
        return Linear(
            observed=y.ravel(),
            mean=curve,
            jacobian=-(np.tile(time, 6) * curve)[:, None],
            at=at,
            prior_mean=np.zeros(1),
            prior_sd=wide,
            sampling=4e-4 * np.eye(18),
            columns=np.repeat(np.eye(6), 3, axis=0),
            groups=np.zeros(6, dtype=int),
            guesses=np.array([0.1]),
            guess_sd=wide,
        )

    solved, rounds = fit_linearised(linearise, np.array([0.6]), ("rate",))
    assert rounds < 10
    trials = [Trial(str(k), y[k], np.full(3, 0.02), {"time": time}) for k in range(6)]
    full = fit_summaries(Summaries(mean, {"rate": 0.6}, {"shift": 0.1}), trials).estimates()
    assert abs(solved.parameters[0] - full["rate"][0]) < np.sqrt(solved.covariance[0, 0]) / 3
    assert solved.spreads[0] > full["tau.shift"][0]
    problem = linearise(solved.parameters)

    def minus_restricted(log_tau: float) -> float:
        spread = problem.sampling + np.exp(2 * log_tau) * problem.columns @ problem.columns.T
        weighed = np.linalg.solve(spread, problem.jacobian)
        information = problem.jacobian.T @ weighed
        residual = problem.observed - problem.mean
        off = residual - problem.jacobian @ np.linalg.solve(information, weighed.T @ residual)
        dets = np.linalg.slogdet(spread)[1] + np.linalg.slogdet(information)[1]
        return float(0.5 * (dets + off @ np.linalg.solve(spread, off)))

    found = optimize.minimize_scalar(minus_restricted, bracket=(-4.0, -1.0))
    assert solved.spreads[0] == pytest.approx(np.exp(found.x), rel=1e-3)


def test_trials_that_cannot_have_been_published_are_refused() -> None:
    one, dose = np.ones(1), {"dose": np.ones(1)}
    with pytest.raises(DataError, match="not positive"):
        Trial("a", one, np.zeros(1), dose)
    with pytest.raises(DataError, match="and so are the patients"):
        Trial("a", one, np.full(1, np.nan), dose)
    with pytest.raises(DataError, match="not a number"):
        Trial("a", np.full(1, np.nan), one, dose)
    with pytest.raises(DataError, match="standard error is missing"):
        fit_summaries(MODEL, [Trial("a", one, np.full(1, np.nan), dose, patients=np.full(1, 50.0))])
    with pytest.raises(DataError, match="no trials"):
        fit_summaries(MODEL, [])
