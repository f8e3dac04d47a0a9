"""The alternating algorithm of Lindstrom and Bates, as R's nlme has it, to compare with fits that were made so.

Its answer is a fixed point: the mixed model linearised at modes and parameters is fitted exactly, and linearised anew.
Since slopes are held while each linear model is fitted, this is not the maximum of the FOCE likelihood; where the two
differ, ``fit_population`` has the higher likelihood.
"""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from trialtwin.core.errors import ConfigError, ConvergenceError
from trialtwin.infer.laplace import find_mode
from trialtwin.infer.likelihood import expected_expansion, log_joint
from trialtwin.infer.marginal import Units, evaluate_units, maximise
from trialtwin.infer.model import Model, Patients, Theta
from trialtwin.infer.population import Fit
from trialtwin.infer.residuals import Additive


def fit_alternating(model: Model, patients: Patients, *, rounds: int = 60, settled: float = 1e-4) -> Fit:
    """Fit a model with additive error as nlme does (maximum likelihood).

    The result's log likelihood is that of the last linear mixed model, which nlme prints.

    Raises
    ------
    ConfigError
        If the residual error is not additive, or the model has occasions.
    ConvergenceError
        If the parameters still move after the last round.

    References
    ----------
    Lindstrom MJ, Bates DM (1990), doi:10.2307/2532087.
    """
    if not isinstance(model.sigma, Additive) or model.occasions or bool(patients.below.any()):
        raise ConfigError("the alternating algorithm takes additive errors, no occasions and no censored rows")
    line = _linear(model)
    joint, expand = log_joint(line), expected_expansion(line)
    units = Units(joint, expand, expand, patients, patients.ids, model.size)
    compute = evaluate_units(units)
    count = len(model.free_names)
    linearise = _linearise(model, count)
    x = model.start()
    for _ in range(rounds):
        inputs = linearise(jnp.asarray(x), patients)
        found = maximise(replace(units, data=replace_inputs(patients, inputs)), x, line.names, compute)
        moved = float(np.abs(found.position - x).max())
        x = found.position
        if moved < settled:
            return Fit(model, patients, "focei", found, "R")
    raise ConvergenceError(
        f"the alternating algorithm still moves by {moved:.2g} after {rounds} rounds",
        do="use fit_population, whose objective has a maximum",
    )


def replace_inputs(patients: Patients, inputs: dict[str, Array]) -> Patients:
    """Return the same measurements with other inputs."""
    return Patients(patients.ids, patients.value, patients.measured, patients.below, inputs)


def _linear(model: Model) -> Model:
    """Return the linear model with the same names: offset + X θ + Z η, θ on the scale of the search."""
    names, effects = model.free_names, list(model.omega)

    def predict(theta: dict[str, Array], eta: dict[str, Array], one: dict[str, Array]) -> Array:
        fixed = sum((one["X"][:, k] * theta[n] for k, n in enumerate(names)), one["offset"])
        return sum((one["Z"][:, k] * eta[n] for k, n in enumerate(effects)), fixed)

    theta = {n: Theta(model.thetas[n].free(model.thetas[n].start), "identity") for n in names}
    return replace(model, predict=predict, theta=theta)


def _linearise(model: Model, count: int) -> Callable[[Array, Patients], dict[str, Array]]:
    """Return a compiled function of parameters and patients: offset, X and Z at the modes."""
    joint, expand = log_joint(model), expected_expansion(model)

    def one_patient(x: Array, one: Patients) -> dict[str, Array]:
        u = find_mode(joint, expand, x, jnp.zeros(model.size), one).position
        eta = model.unpack(x)[1] @ u

        def mean(free: Array, effects: Array) -> Array:
            theta = model.unpack(jnp.concatenate([free, x[count:]]))[0]
            return model.predict(theta, dict(zip(model.omega, effects, strict=True)), one.inputs)

        at = mean(x[:count], eta)
        X, Z = jax.jacfwd(mean, argnums=(0, 1))(x[:count], eta)
        return {"offset": at - X @ x[:count] - Z @ eta, "X": X, "Z": Z}

    compiled: Callable[[Array, Patients], dict[str, Array]] = jax.jit(jax.vmap(one_patient, in_axes=(None, 0)))
    return compiled
