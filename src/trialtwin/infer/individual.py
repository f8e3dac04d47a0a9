"""Posteriors of new patients' effects under a known population, compiled once: mode, mean, covariance and a check.

A patient's density is followed to its mode; a t distribution there, adapted once, is weighted by the exact density.
The effective number of points says how far the normal approximation can be relied upon.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.errors import ConvergenceError, DataError
from trialtwin.infer.importance import adapt, effective_size, importance_weights, laplace_proposal, student_points
from trialtwin.infer.laplace import find_mode
from trialtwin.infer.likelihood import expected_expansion, log_joint
from trialtwin.infer.model import Model, Patients

TRUST = 0.1  # of the points: an effective number below this share is refused


class Individual(eqx.Module):
    """Posteriors of patients' standard normal numbers u (effects are L u), and of the effects by name."""

    mode: Float[Array, "patient effect"]
    mean: Float[Array, "patient effect"]
    covariance: Float[Array, "patient effect effect"]
    share: Float[Array, " patient"]
    converged: Bool[Array, " patient"]
    eta: dict[str, Array]


class Individuals:
    """The population with which new patients are judged; calling it with patients gives their posteriors.

    The first call with a number of patients and rows compiles (seconds); later ones take a few milliseconds.

    Parameters
    ----------
    model
        The population's description.
    position : shape (parameter,)
        Where it was fitted: ``fit.maximum.position``.
    points
        Weighted points a patient, a power of 2.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from trialtwin.infer.model import Model, gather_patients
    >>> from trialtwin.infer.residuals import Additive
    >>> def flat(theta, eta, one):
    ...     return theta["a"] + eta["a"] + 0 * one["time"]
    >>> level = Model(flat, {"a": 5.0}, {"a": 4.0}, Additive(2.0))
    >>> judge = Individuals(level, level.start())
    >>> found = judge(gather_patients(["new"], [9.0], rows={"time": [0.0]}))
    >>> round(float(found.eta["a"][0]), 3)
    2.0
    """

    def __init__(self, model: Model, position: Float[np.ndarray, " parameter"], *, points: int = 256) -> None:
        self.model = model
        self.position = jnp.asarray(position)
        self.points = jnp.asarray(student_points(points, model.size))
        self._compiled: Callable[[Array, Patients], Individual] = jax.jit(self._judge)

    def __call__(self, patients: Patients) -> Individual:
        """Return the posteriors of patients.

        Raises
        ------
        DataError
            If a measurement is not a number.
        ConvergenceError
            If a mode was not found, or fewer than a tenth of the weighted points count; the message names patients.
        """
        if not np.isfinite(np.asarray(patients.value)).all():
            raise DataError("a measurement is not a number", do="leave missing rows out")
        anonymous = Patients(("",), patients.value, patients.measured, patients.below, patients.inputs)
        found = self._compiled(self.position, anonymous)
        well = np.asarray(found.converged) & (np.asarray(found.share) >= TRUST)
        if not well.all():
            bad = [i for i, good in zip(patients.ids, well, strict=True) if not good]
            raise ConvergenceError(
                f"the posterior was not found for {len(bad)} of {len(well)} patients",
                where=", ".join(bad[:5]),
                do="look at these patients' measurements, or draw from their posteriors with NUTS",
            )
        return found

    def _judge(self, x: Array, patients: Patients) -> Individual:
        joint, expand = log_joint(self.model), expected_expansion(self.model)

        def one_patient(one: Any) -> tuple[Array, Array, Array, Array, Array]:
            mode = find_mode(joint, expand, x, jnp.zeros(self.model.size), one)

            def density(u: Array) -> Array:
                return joint(x, u, one)

            first = laplace_proposal(mode.position, mode.precision)
            better = adapt(first, self.points, importance_weights(density, first, self.points))
            weights = importance_weights(density, better, self.points)
            placed = better.place(self.points)
            mean = weights @ placed
            gap = placed - mean
            share = effective_size(weights) / len(weights)
            return mode.position, mean, (gap * weights[:, None]).T @ gap, share, mode.converged

        mode, mean, covariance, share, converged = jax.vmap(one_patient)(patients)
        _, root, between, _ = self.model.unpack(x)
        eta = jax.vmap(lambda u: self.model.effects(root, between, u))(mean)
        return Individual(mode, mean, covariance, share, converged, eta)
