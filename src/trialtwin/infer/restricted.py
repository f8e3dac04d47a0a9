"""Linear Gaussian models with random effects: restricted likelihood for spreads, least squares for parameters.

    y = m + J (θ − θ₀) + Σₖ bₖ cₖ + ε,   bₖ ~ N(0, τ²_{g(k)}),  ε ~ N(0, S),  θ ~ N(μ, diag σ²),  log τ ~ N(log τ₀, s²)

With V = S + Σₖ τ²_{g(k)} cₖ cₖᵀ the parameters are integrated out in closed form, so that the spreads maximise the
restricted likelihood times their prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import linalg, optimize

from trialtwin.core.errors import ConvergenceError, FitError


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear Gaussian problem.

    Parameters
    ----------
    observed, mean : shape (row,)
        y, and m, its expectation at θ₀.
    jacobian : shape (row, parameter)
        J.
    at, prior_mean, prior_sd : shape (parameter,)
        θ₀, μ and σ.
    sampling : shape (row, row)
        S.
    columns : shape (row, deviate)
        cₖ.
    groups : shape (deviate,)
        g(k): which spread a deviate has.
    guesses, guess_sd : shape (spread,)
        τ₀, and s, on the logarithm.
    """

    observed: Float[np.ndarray, " row"]
    mean: Float[np.ndarray, " row"]
    jacobian: Float[np.ndarray, "row parameter"]
    at: Float[np.ndarray, " parameter"]
    prior_mean: Float[np.ndarray, " parameter"]
    prior_sd: Float[np.ndarray, " parameter"]
    sampling: Float[np.ndarray, "row row"]
    columns: Float[np.ndarray, "row deviate"]
    groups: Int[np.ndarray, " deviate"]
    guesses: Float[np.ndarray, " spread"]
    guess_sd: Float[np.ndarray, " spread"]


@dataclass(frozen=True, eq=False)
class Solved:
    """Parameters with their covariance given the spreads, the spreads, and minus the log of what was maximised."""

    parameters: Float[np.ndarray, " parameter"]
    covariance: Float[np.ndarray, "parameter parameter"]
    spreads: Float[np.ndarray, " spread"]
    spread_sds: Float[np.ndarray, " spread"]
    value: float


def solve_restricted(problem: Linear, start: Sequence[float] | None = None) -> Solved:
    """Return the parameters and spreads of a linear Gaussian problem.

    ``spread_sds`` are those of log τ, from the curvature at the maximum; equal to ``guess_sd`` where the data say
    nothing of a spread.

    Raises
    ------
    FitError
        If an observation or its expectation is not a finite number.
    ConvergenceError
        If the restricted likelihood has no maximum within reach.

    References
    ----------
    Patterson HD, Thompson R (1971), doi:10.1093/biomet/58.3.545.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([1.0, 1.2, 0.8, 3.0, 3.3, 2.7])
    >>> groups = np.repeat(np.eye(2), 3, axis=0)
    >>> wide = np.array([10.0])
    >>> zero = np.zeros(1)
    >>> problem = Linear(y, np.zeros(6), np.ones((6, 1)), zero, zero, wide, 0.05 * np.eye(6), groups,
    ...     np.zeros(2, dtype=int), np.ones(1), wide)
    >>> found = solve_restricted(problem)
    >>> round(float(found.parameters[0]), 1), round(float(found.spreads[0]), 1)
    (2.0, 1.4)
    """
    if not (np.isfinite(problem.observed).all() and np.isfinite(problem.mean).all()):
        raise FitError("observations and expectations must be finite", do="look for empty cells in the data")
    guess = np.log(problem.guesses)
    begin = guess if start is None else np.log(np.asarray(start, dtype=float))

    def objective(log_spreads: Float[np.ndarray, " spread"]) -> tuple[float, Float[np.ndarray, " spread"]]:
        return _minus_log_restricted(problem, log_spreads)

    bounds = [(g - 6.0, g + 6.0) for g in guess]
    found = optimize.minimize(objective, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-6})
    if not np.isfinite(found.fun) or np.abs(found.jac).max() > 1e-2 * max(1.0, abs(found.fun)):
        raise ConvergenceError(
            f"the spreads between groups were not found: {found.message}", do="give tighter guesses of the spreads"
        )
    parameters, covariance, _ = _least_squares(problem, np.exp(found.x))
    curvature = _curvature(problem, found.x)
    sds = np.sqrt(np.diag(np.linalg.pinv(curvature, hermitian=True)))
    return Solved(parameters, covariance, np.exp(found.x), sds, float(found.fun))


def _total(problem: Linear, spreads: Float[np.ndarray, " spread"]) -> Float[np.ndarray, "row row"]:
    """Return V."""
    scaled = problem.columns * spreads[problem.groups]
    return problem.sampling + scaled @ scaled.T


def _least_squares(
    problem: Linear, spreads: Float[np.ndarray, " spread"]
) -> tuple[Float[np.ndarray, " parameter"], Float[np.ndarray, "parameter parameter"], Any]:
    """Return the parameters given spreads, their covariance, and the factor of V."""
    factor = linalg.cho_factor(_total(problem, spreads), lower=True)
    weighed = linalg.cho_solve(factor, problem.jacobian)
    precision = problem.jacobian.T @ weighed + np.diag(problem.prior_sd**-2)
    residual = problem.observed - problem.mean + problem.jacobian @ problem.at
    right = weighed.T @ residual + problem.prior_mean / problem.prior_sd**2
    covariance = np.linalg.inv(precision)
    return covariance @ right, (covariance + covariance.T) / 2, factor


def _minus_log_restricted(
    problem: Linear, log_spreads: Float[np.ndarray, " spread"]
) -> tuple[float, Float[np.ndarray, " spread"]]:
    """Return minus the log of restricted likelihood times prior, and its gradient in log τ."""
    spreads = np.exp(log_spreads)
    parameters, covariance, factor = _least_squares(problem, spreads)
    residual = problem.observed - problem.mean - problem.jacobian @ (parameters - problem.at)
    solved = linalg.cho_solve(factor, residual)
    off = (parameters - problem.prior_mean) / problem.prior_sd
    away = (log_spreads - np.log(problem.guesses)) / problem.guess_sd
    value = 0.5 * (residual @ solved + off @ off + away @ away)
    value += np.log(np.diag(factor[0])).sum() - 0.5 * np.linalg.slogdet(covariance)[1]
    # d/dτ²: with P = V⁻¹ − V⁻¹ J C Jᵀ V⁻¹, ½ tr(P ccᵀ) − ½ (cᵀ V⁻¹ r)²
    inverse_columns = linalg.cho_solve(factor, problem.columns)
    through = problem.jacobian.T @ inverse_columns
    trace = (problem.columns * inverse_columns).sum(0) - (through * (covariance @ through)).sum(0)
    by_deviate = 0.5 * trace - 0.5 * (problem.columns.T @ solved) ** 2
    gradient = np.bincount(problem.groups, weights=by_deviate, minlength=len(spreads)) * 2 * spreads**2
    return float(value), gradient + away / problem.guess_sd


def _curvature(problem: Linear, at: Float[np.ndarray, " spread"]) -> Float[np.ndarray, "spread spread"]:
    """Return the Hessian in log τ by differences of the gradient."""
    step = 1e-4
    rows = []
    for place in range(len(at)):
        shift = np.zeros(len(at))
        shift[place] = step
        up, down = _minus_log_restricted(problem, at + shift)[1], _minus_log_restricted(problem, at - shift)[1]
        rows.append((up - down) / (2 * step))
    found = np.array(rows)
    return (found + found.T) / 2
