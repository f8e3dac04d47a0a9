"""Maximum of a marginal likelihood over many units (patients or trials), with what standard errors need."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.errors import ConvergenceError, FitError
from trialtwin.infer.laplace import Expansion, LogJoint, find_mode, log_marginal
from trialtwin.infer.optimise import minimise

type Covariance = Literal["R", "S", "sandwich"]
# who converged, log marginals, their gradients, modes and curvatures, given parameters and data of units
type Compute = Callable[[Array, Any], tuple[Array, Array, Array, Array, Array]]


@dataclass(frozen=True)
class Units:
    """Units whose effects are integrated out: joint density, the search's curvature and the marginal's, and data."""

    joint: LogJoint
    search: Expansion
    expand: Expansion
    data: Any
    ids: tuple[str, ...]
    size: int


@dataclass(frozen=True, eq=False)
class Maximum:
    """A maximum of a marginal log likelihood: position, value, Hessian R, scores of units, and modes of effects."""

    position: Float[np.ndarray, " parameter"]
    value: float
    hessian: Float[np.ndarray, "parameter parameter"]
    scores: Float[np.ndarray, "unit parameter"]
    modes: Float[np.ndarray, "unit effect"]
    precisions: Float[np.ndarray, "unit effect effect"]
    evaluations: int

    def covariance(self, kind: Covariance) -> Float[np.ndarray, "parameter parameter"]:
        """Return the covariance of estimates: R⁻¹, S⁻¹ or R⁻¹SR⁻¹, with S = Σ gᵢgᵢᵀ.

        Raises
        ------
        FitError
            If S is singular: there are fewer units than parameters.
        """
        inverse = np.linalg.inv(self.hessian)
        outer = self.scores.T @ self.scores
        if kind == "R":
            return inverse
        if kind == "sandwich":
            return inverse @ outer @ inverse
        if np.linalg.matrix_rank(outer) < len(outer):
            raise FitError(
                f"the S matrix is singular: {len(self.scores)} units, {len(outer)} parameters", do='use covariance="R"'
            )
        return np.linalg.inv(outer)


def evaluate_units(units: Units) -> Compute:
    """Return a compiled function of parameters and data: all that ``Compute`` says."""

    @jax.jit
    def compute(x: Array, data: Any) -> tuple[Array, Array, Array, Array, Array]:
        start = jnp.zeros(units.size)
        found = jax.vmap(lambda one: find_mode(units.joint, units.search, x, start, one))(data)
        modes = jax.lax.stop_gradient(found.position)

        def one_value(at: Array, u: Array, one: Any) -> Array:
            return log_marginal(units.joint, units.expand, at, u, one)

        values, scores = jax.vmap(jax.value_and_grad(one_value), in_axes=(None, 0, 0))(x, modes, data)
        curvatures = jax.vmap(lambda u, one: units.expand(x, u, one)[2])(modes, data)
        return found.converged, values, scores, modes, curvatures

    return compute


def maximise(
    units: Units, start: Float[np.ndarray, " parameter"], names: tuple[str, ...], compute: Compute | None = None
) -> Maximum:
    """Maximise the sum of the units' log marginal likelihoods.

    Parameters
    ----------
    compute
        From ``evaluate_units`` of units that differ only in their data, so that it is compiled once.

    Raises
    ------
    ConvergenceError
        If a unit's mode is not found at the start (the message names the units), or no maximum is reached.
    """
    compute = compute or evaluate_units(units)

    def objective(x: Float[np.ndarray, " parameter"]) -> tuple[float, Float[np.ndarray, " parameter"]]:
        converged, values, scores, _, _ = compute(jnp.asarray(x), units.data)
        if not bool(jnp.all(converged)):
            return float("nan"), np.full(len(x), np.nan)
        return -float(values.sum()), -np.asarray(scores.sum(axis=0))

    converged, values, *_ = compute(jnp.asarray(start), units.data)
    lost = [
        i
        for i, well in zip(units.ids, np.asarray(converged) & np.isfinite(np.asarray(values)), strict=True)
        if not well
    ]
    if lost:
        raise ConvergenceError(
            f"effects cannot be found at the start for {len(lost)} of {len(units.ids)}",
            where=", ".join(lost[:5]),
            do="begin nearer to the data; look for predictions that are negative, zero or not finite",
        )
    found = minimise(objective, start, names=names)
    _, _, scores, modes, precisions = (np.asarray(part) for part in compute(jnp.asarray(found.position), units.data))
    return Maximum(found.position, -found.value, found.hessian, scores, modes, precisions, found.evaluations)
