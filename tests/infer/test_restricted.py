"""Spreads by restricted likelihood and parameters by least squares: against statsmodels, and by simulation."""

import numpy as np
import pytest

from trialtwin.core.errors import FitError
from trialtwin.infer.restricted import Linear, solve_restricted

FLAT = 1e4


def _grouped(rng: np.random.Generator, *, groups: int, size: int, spread: float, noise: float) -> Linear:
    """Return a line with a random intercept for each group, and priors so wide that they do not matter."""
    member = np.repeat(np.arange(groups), size)
    x = rng.normal(size=len(member))
    y = 1.0 + 0.5 * x + spread * rng.normal(size=groups)[member] + noise * rng.normal(size=len(member))
    return Linear(
        observed=y,
        mean=np.zeros(len(y)),
        jacobian=np.column_stack([np.ones(len(y)), x]),
        at=np.zeros(2),
        prior_mean=np.zeros(2),
        prior_sd=np.full(2, FLAT),
        sampling=noise**2 * np.eye(len(y)),
        columns=np.eye(groups)[member],
        groups=np.zeros(groups, dtype=int),
        guesses=np.ones(1),
        guess_sd=np.full(1, FLAT),
    )


def test_independent_statsmodels_mixed_model() -> None:
    """A random intercept by REML: fixed effects, their errors and the spread agree with statsmodels to 1e-3.

    statsmodels estimates the residual variance; it is handed to ours as known.
    """
    mixed = pytest.importorskip("statsmodels.regression.mixed_linear_model")
    problem = _grouped(np.random.default_rng(7), groups=30, size=6, spread=0.8, noise=0.5)
    member = np.argmax(problem.columns, axis=1)
    theirs = mixed.MixedLM(problem.observed, problem.jacobian, groups=member).fit(reml=True)
    sampling = float(theirs.scale) * np.eye(len(problem.observed))
    ours = solve_restricted(Linear(**{**problem.__dict__, "sampling": sampling}))
    np.testing.assert_allclose(ours.parameters, theirs.fe_params, rtol=1e-3)
    np.testing.assert_allclose(np.sqrt(np.diag(ours.covariance)), theirs.bse_fe, rtol=1e-3)
    assert abs(ours.spreads[0] / np.sqrt(float(np.asarray(theirs.cov_re).ravel()[0])) - 1) < 2e-3


def test_law_parameters_are_covered() -> None:
    """The slope's 95 % interval holds in 95 % of 100 data sets (error 2.2 %), and the spread is unbiased."""
    rng = np.random.default_rng(11)
    found = [solve_restricted(_grouped(rng, groups=15, size=3, spread=0.7, noise=0.6)) for _ in range(100)]
    slope = np.array([f.parameters[1] for f in found])
    error = np.array([np.sqrt(f.covariance[1, 1]) for f in found])
    held = (np.abs(slope - 0.5) < 1.96 * error).mean()
    assert abs(held - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 100)
    variances = np.array([f.spreads[0] ** 2 for f in found])
    assert abs(variances.mean() - 0.49) < 3 * variances.std() / 10


def test_law_priors_weigh_as_data() -> None:
    """A prior of SD s on a parameter is the same as one more observation of it with that error."""
    problem = _grouped(np.random.default_rng(3), groups=6, size=3, spread=0.4, noise=0.5)
    with_prior = solve_restricted(Linear(**{**problem.__dict__, "prior_sd": np.array([FLAT, 0.1])}))
    rows = len(problem.observed)
    more = Linear(
        **{
            **problem.__dict__,
            "observed": np.append(problem.observed, 0.0),
            "mean": np.zeros(rows + 1),
            "jacobian": np.vstack([problem.jacobian, [0.0, 1.0]]),
            "sampling": np.diag(np.append(np.diag(problem.sampling), 0.01)),
            "columns": np.vstack([problem.columns, np.zeros(6)]),
        }
    )
    np.testing.assert_allclose(with_prior.parameters, solve_restricted(more).parameters, atol=2e-4)


def test_a_spread_without_data_keeps_its_guess() -> None:
    """Nothing is said of a spread that no column uses: it stays at the guess with the guess's SD."""
    problem = _grouped(np.random.default_rng(5), groups=8, size=4, spread=0.5, noise=0.5)
    found = solve_restricted(
        Linear(**{**problem.__dict__, "guesses": np.array([1.0, 0.3]), "guess_sd": np.array([0.5, 0.5])})
    )
    assert abs(found.spreads[1] - 0.3) < 1e-6
    assert abs(found.spread_sds[1] - 0.5) < 1e-3


def test_data_that_are_not_numbers_are_refused() -> None:
    """They end in an error, not in parameters."""
    problem = _grouped(np.random.default_rng(5), groups=8, size=4, spread=0.5, noise=0.5)
    spoiled = problem.observed.copy()
    spoiled[0] = np.nan
    with pytest.raises(FitError, match="must be finite"):
        solve_restricted(Linear(**{**problem.__dict__, "observed": spoiled}))
