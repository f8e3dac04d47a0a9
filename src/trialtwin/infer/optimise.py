"""Minimisation with an exact gradient, which ends in a minimum or in an error."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize

from trialtwin.core.errors import ConvergenceError

type Objective = Callable[[Float[np.ndarray, " parameter"]], tuple[float, Float[np.ndarray, " parameter"]]]

WALL = 1e100  # what the line search sees where the objective has no value
FLAT = 1e-9  # smallest eigenvalue of the Hessian, relative to the largest, that counts as curvature


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where the minimum is, its value and gradient, and the curvature there."""

    position: Float[np.ndarray, " parameter"]
    value: float
    gradient: Float[np.ndarray, " parameter"]
    hessian: Float[np.ndarray, "parameter parameter"]
    evaluations: int

    @property
    def decrement(self) -> float:
        """How far above the minimum of its quadratic model the value is: ½ gᵀH⁻¹g."""
        return float(0.5 * self.gradient @ np.linalg.solve(self.hessian, self.gradient))


class _Counted:
    """An objective that counts its calls, and says by NaN where it has no value."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.calls = 0

    def __call__(self, x: Float[np.ndarray, " parameter"]) -> tuple[float, Float[np.ndarray, " parameter"]]:
        self.calls += 1
        value, gradient = self.objective(x)
        if np.isfinite(value) and np.isfinite(gradient).all():
            return float(value), np.asarray(gradient, dtype=float)
        return float("nan"), np.full(len(x), np.nan)

    def walled(self, x: Float[np.ndarray, " parameter"]) -> tuple[float, Float[np.ndarray, " parameter"]]:
        """Put a large finite wall where there is no value, from which a line search steps back."""
        value, gradient = self(x)
        return (value, gradient) if np.isfinite(value) else (WALL, np.zeros_like(x))


def minimise(
    objective: Objective,
    start: Float[np.ndarray, " parameter"],
    *,
    names: tuple[str, ...],
    tolerance: float = 1e-4,
    rounds: int = 8,
    inverse: Float[np.ndarray, "parameter parameter"] | None = None,
) -> Optimum:
    """Minimise by BFGS to a moderate gradient, then by Newton steps on differences of the exact gradient.

    Ends only where the Hessian is positive definite, its smallest eigenvalue above 1e-9 of the largest, and the Newton
    decrement ½ gᵀH⁻¹g is below ``tolerance``: for a negative log likelihood, in units of log likelihood.

    Parameters
    ----------
    objective
        Returns value and gradient; NaN where it has none.
    start : shape (parameter,)
        Where to begin; the objective must be finite there.
    names
        Parameter names, for messages.
    inverse : shape (parameter, parameter)
        A guess of the inverse Hessian at the start, with which BFGS needs fewer steps.

    Raises
    ------
    ConvergenceError
        If there is no such point. The message names the parameters that make up the flattest direction, or those with
        the largest remaining gradient.

    Examples
    --------
    >>> import numpy as np
    >>> bowl = minimise(lambda x: (float(x @ x), 2 * x), np.ones(2), names=("a", "b"))
    >>> bool(np.abs(bowl.position).max() < 1e-6)
    True
    """
    counted = _Counted(objective)
    if not np.isfinite(counted(start)[0]):
        raise ConvergenceError(
            "the objective is not finite where the search begins",
            where=", ".join(f"{n} = {v:.4g}" for n, v in zip(names, start, strict=True)),
            do="look for outcomes outside their scale, or times that are not finite",
        )
    position = _descend(counted, start, inverse)
    value, gradient = counted(position)
    for _ in range(rounds):
        hessian = _hessian(counted, position, gradient, names)
        eigenvalues, vectors = np.linalg.eigh(hessian)
        floor = FLAT * np.abs(eigenvalues).max()
        optimum = Optimum(position, value, gradient, hessian, counted.calls)
        if eigenvalues[0] > floor and optimum.decrement <= tolerance:
            return optimum
        step = -vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(eigenvalues), max(floor, 1e-300)))
        position, value, gradient = _line_search(counted, position, value, gradient, step)
    raise _failure(counted.calls, gradient, eigenvalues, vectors, names)


def _descend(
    counted: _Counted, start: Float[np.ndarray, " parameter"], inverse: Float[np.ndarray, "parameter parameter"] | None
) -> Float[np.ndarray, " parameter"]:
    """Go down by BFGS; where it runs off to infinity, stay at the best finite point."""
    lowest, best = counted(start)[0], start

    def watched(x: Float[np.ndarray, " parameter"]) -> tuple[float, Float[np.ndarray, " parameter"]]:
        nonlocal lowest, best
        value, gradient = counted.walled(x)
        if value < lowest:
            lowest, best = value, x.copy()
        return value, gradient

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # an unbounded objective overflows inside scipy; what follows finds out and says so
        warnings.simplefilter("ignore")
        options = {"gtol": 2e-2, "maxiter": 400, "hess_inv0": inverse}
        optimize.minimize(watched, start, jac=True, method="BFGS", options=options)
    return best


def _failure(
    calls: int,
    gradient: Float[np.ndarray, " parameter"],
    eigenvalues: Float[np.ndarray, " parameter"],
    vectors: Float[np.ndarray, "parameter parameter"],
    names: tuple[str, ...],
) -> ConvergenceError:
    """Say why there is no minimum: a flat direction and its parameters, or the largest gradients."""
    if eigenvalues[0] <= FLAT * np.abs(eigenvalues).max():
        share = np.abs(vectors[:, 0])
        flat = [names[i] for i in np.argsort(-share) if share[i] > 0.3]
        return ConvergenceError(
            f"the fit did not converge after {calls} evaluations: the objective is flat, or falls without end, along"
            f" {', '.join(flat)}",
            do="the data do not inform these parameters: give more patients or visits, or a tighter prior",
        )
    worst = np.argsort(-np.abs(gradient))[:3]
    return ConvergenceError(
        f"the fit did not converge after {calls} evaluations",
        where="largest gradients: " + ", ".join(f"{names[i]} ({gradient[i]:.2g})" for i in worst),
        do="give more patients or visits, or a tighter prior",
    )


def _hessian(
    counted: _Counted,
    at: Float[np.ndarray, " parameter"],
    gradient: Float[np.ndarray, " parameter"],
    names: tuple[str, ...],
) -> Float[np.ndarray, "parameter parameter"]:
    """Differences of the exact gradient, forward or, beside a wall, backward; made symmetric."""
    rows = []
    for i, name in enumerate(names):
        step = np.zeros_like(at)
        for length in (1e-4, -1e-4):
            step[i] = length * max(1.0, abs(at[i]))
            moved = counted(at + step)[1]
            if np.isfinite(moved).all():
                break
        else:
            raise ConvergenceError(
                f"the objective has no value on either side of {name} = {at[i]:.4g}",
                do="look for impossible data, or a parameter at the edge of what it may be",
            )
        rows.append((moved - gradient) / step[i])
    hessian = np.array(rows)
    return (hessian + hessian.T) / 2


def _line_search(
    counted: _Counted,
    at: Float[np.ndarray, " parameter"],
    value: float,
    gradient: Float[np.ndarray, " parameter"],
    step: Float[np.ndarray, " parameter"],
) -> tuple[Float[np.ndarray, " parameter"], float, Float[np.ndarray, " parameter"]]:
    """Return the lowest of a few points along a step, the start among them, with value and gradient."""
    best = (at, value, gradient)
    for length in (1.0, 0.5, 0.25, 0.1, 0.01):
        candidate = at + length * step
        height, slope = counted(candidate)
        if height < best[1]:
            best = (candidate, height, slope)
    return best
