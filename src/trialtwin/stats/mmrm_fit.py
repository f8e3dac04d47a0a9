"""Maximise the likelihood of repeated measures by Newton's method with the exact Hessian.

R mmrm stops a limited-memory quasi-Newton search where the likelihood rises by less than 2e-9 of its value, which
leaves estimates short of the optimum by up to some 1e-3 standard errors. "L-BFGS-B" runs that search from the same
start and stops where R does, for those who compare digits with R; Newton's method ends at the optimum, as SAS does.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from trialtwin.core.errors import ConvergenceError, FitError
from trialtwin.stats.ancova import LinearFit
from trialtwin.stats.mmrm_covariance import Structure
from trialtwin.stats.mmrm_data import Patterns, RepeatedMeasures
from trialtwin.stats.mmrm_likelihood import Curvature, Likelihood, Point

_ITERATIONS = 200
_CLOSE = 1e-8  # decrement of −log L at which what is left is one full step
_DONE = 1e-12  # decrement at which a fit has converged
_LONGEST = 4.0  # step in parameters, such as the logarithm of a standard deviation
_HALVINGS = 40
_R_TOLERANCE = 1e7 * 2.0**-52  # R's factr = 1e7
_R_MEMORY = 5
_SINGULAR = 1e-10  # smallest eigenvalue of the Hessian, in units of its diagonal, that is positive


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where the likelihood is largest.

    Parameters
    ----------
    point
        The likelihood there.
    curvature
        Gradient and Hessian there.
    theta_covariance : shape (parameter, parameter)
        Inverse of the observed information.
    iterations
        Newton steps taken.
    """

    point: Point
    curvature: Curvature
    theta_covariance: Float[np.ndarray, "parameter parameter"]
    iterations: int


def padded(
    data: RepeatedMeasures, patterns: Patterns, columns: Float[np.ndarray, "row column"]
) -> Float[np.ndarray, "subject slot column"]:
    """Lay rows out by subject and place, zero where there is no observation, scaled by the roots of weights."""
    laid = np.zeros((len(data.subjects), patterns.observed.shape[1], columns.shape[1]))
    laid[data.subject, patterns.slot] = columns * np.sqrt(data.weight)[:, None]
    return laid


def start_values(
    structure: Structure, data: RepeatedMeasures, patterns: Patterns, ordinary: LinearFit
) -> Float[np.ndarray, " parameter"]:
    """Return covariance parameters from the residuals of ordinary least squares, the same for all groups."""
    laid = padded(data, patterns, ordinary.residuals[:, None])[:, :, 0]
    seen = patterns.observed[patterns.of_subject].astype(float)
    together = seen.T @ seen
    covariance = laid.T @ laid / np.maximum(together, 1)
    # Places where the model leaves no residual still need a variance to start from.
    variances = np.maximum(np.diag(covariance), 1e-3 * ordinary.sigma**2)
    covariance[np.diag_indices_from(covariance)] = variances
    diagonal = np.diag(variances)
    share = 1.0
    while np.linalg.eigvalsh(covariance)[0] < 1e-2 * variances.min():
        share /= 2
        covariance = share * covariance + (1 - share) * diagonal
    times = np.arange(float(len(variances)))
    if structure.spatial:
        gaps = np.diff(data.time)[np.diff(data.subject) == 0]
        times = np.array([0.0, float(np.median(gaps)) if len(gaps) else 1.0])
        covariance = np.eye(2) * variances.mean()
    theta = structure.start(covariance, times)
    return np.tile(theta, len(data.groups))


def likelihood_constant(data: RepeatedMeasures, ordinary: LinearFit, *, restricted: bool) -> float:
    """Return the terms of −log L that no covariance parameter changes, as R mmrm and SAS count them."""
    free = len(data.response) - (len(data.design.names) if restricted else 0)
    constant = 0.5 * free * np.log(2 * np.pi) - 0.5 * np.log(data.weight).sum()
    if restricted:  # from log|QᵀV⁻¹Q| to log|XᵀV⁻¹X|
        constant -= np.log(np.abs(np.diag(ordinary.inverse))).sum()
    return float(constant)


def maximise(likelihood: Likelihood, start: Float[np.ndarray, " parameter"]) -> Optimum:
    """Find the largest likelihood from a start.

    Steps use the exact Hessian where it is positive definite, the expected one elsewhere, and are halved until the
    likelihood rises enough.

    Raises
    ------
    ConvergenceError
        If Newton's decrement does not fall below its tolerance.
    FitError
        If the Hessian at the end is not positive definite.
    """
    point = likelihood.point(start)
    if point is None:
        raise FitError("the likelihood cannot be evaluated at its start", do="rescale the response and the covariates")
    for iteration in range(_ITERATIONS):
        curvature = likelihood.curvature(point)
        exact = _solve(curvature.hessian, curvature.gradient)
        if exact is not None and curvature.gradient @ exact < _CLOSE:
            return _finish(likelihood, point, exact, iteration)
        step = exact if exact is not None else _solve(curvature.information, curvature.gradient)
        if step is None:
            step = curvature.gradient / max(float(np.abs(curvature.information).max()), 1e-300)
        found = _descend(likelihood, point, curvature, -step)
        if found is None:
            break
        point = found
    raise _stopped(point.theta, iteration)


def maximise_as_r(likelihood: Likelihood, constant: float) -> Optimum:
    """Search by L-BFGS-B from R mmrm's start, and stop by R's rule, which is relative to −log L with its constants.

    Raises
    ------
    ConvergenceError
        If the search ends by any other rule.
    FitError
        If the Hessian at the end is not positive definite.
    """
    power = likelihood.model.structure.correlation == "power"
    start = np.zeros((likelihood.model.groups, likelihood.model.size // likelihood.model.groups))
    start[:, -1] = 0.5 if power and likelihood.model.slots > 1 else 0.0

    def value(theta: Float[np.ndarray, " parameter"]) -> tuple[float, Float[np.ndarray, " parameter"]]:
        point = likelihood.point(theta)
        if point is None:
            return np.inf, np.zeros_like(theta)
        return point.value + constant, likelihood.curvature(point).gradient

    options = {"maxcor": _R_MEMORY, "ftol": _R_TOLERANCE, "gtol": 0.0, "maxiter": _ITERATIONS}
    found = minimize(value, start.reshape(-1), jac=True, method="L-BFGS-B", options=options)
    point = likelihood.point(found.x)
    if point is None or not found.success:
        raise _stopped(found.x, int(found.nit))
    curvature = likelihood.curvature(point)
    if _solve(curvature.hessian, curvature.gradient) is None:
        raise _unidentified(point)
    return Optimum(point, curvature, np.linalg.inv(curvature.hessian), int(found.nit))


def _finish(likelihood: Likelihood, point: Point, exact: Float[np.ndarray, " parameter"], iteration: int) -> Optimum:
    """Take the last steps, whose gain in likelihood is below rounding, and require that the gradient vanishes."""
    for more in range(1, 4):
        last = likelihood.point(point.theta - exact)
        if last is None:
            break
        point = last
        curvature = likelihood.curvature(point)
        solved = _solve(curvature.hessian, curvature.gradient)
        if solved is None:
            raise _unidentified(point)
        exact = solved
        if curvature.gradient @ exact < _DONE:
            return Optimum(point, curvature, np.linalg.inv(curvature.hessian), iteration + more)
    raise _stopped(point.theta, iteration)


def _descend(
    likelihood: Likelihood, point: Point, curvature: Curvature, step: Float[np.ndarray, " parameter"]
) -> Point | None:
    """Return the first point along a step, halved as often as needed, at which the likelihood has risen enough."""
    size = min(1.0, _LONGEST / max(float(np.abs(step).max()), 1e-300))
    slope = float(curvature.gradient @ step)
    for _ in range(_HALVINGS):
        found = likelihood.point(point.theta + size * step)
        if found is not None and found.value <= point.value + 1e-4 * size * slope:
            return found
        size /= 2
    return None


def _solve(matrix: Float[np.ndarray, "n n"], vector: Float[np.ndarray, " _"]) -> Float[np.ndarray, " n"] | None:
    """Solve by a positive definite matrix; ``None`` where it is not."""
    size = np.sqrt(np.abs(np.diag(matrix)))
    if not (np.isfinite(matrix).all() and (size > 0).all()):
        return None
    scaled = matrix / np.outer(size, size)
    if np.linalg.eigvalsh(scaled)[0] < _SINGULAR:
        return None
    return np.linalg.solve(scaled, vector / size) / size


def _unidentified(point: Point) -> FitError:
    """Say that the likelihood is flat or rises away from a point."""
    return FitError(
        "the Hessian of the likelihood is not positive definite: covariance parameters are not identified",
        where=f"{len(point.theta)} covariance parameters",
        do="choose a structure with fewer parameters, such as 'Toeplitz' or 'compound symmetry'",
    )


def _stopped(theta: Float[np.ndarray, " parameter"], iterations: int) -> ConvergenceError:
    """Say where the search stopped."""
    return ConvergenceError(
        f"the covariance parameters did not converge in {iterations + 1} iterations",
        where=f"θ = {np.array2string(theta, precision=3, max_line_width=10_000, threshold=20)}",
        do="choose a structure with fewer parameters, or drop visits that few subjects have; parameters far from zero "
        "mean that a correlation has run to its limit",
    )
