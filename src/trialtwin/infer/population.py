"""Population fits on patients' measurements by FOCEI or Laplace, with standard errors and diagnostics.

The gradient is exact: effects' modes move with the parameters (``laplace.log_marginal``). Fits that did not converge
are errors; parameters of which the data say little are named.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import gammaln
from scipy.stats import norm

from trialtwin.core.errors import DataError
from trialtwin.infer.diagnostics import FLAT, Diagnostic, flattest
from trialtwin.infer.importance import FREEDOM, Proposal, adapt, importance_weights, laplace_proposal, random_points
from trialtwin.infer.likelihood import LOG_2PI, Method, expansion, expected_expansion, log_joint, patient_moments
from trialtwin.infer.marginal import Covariance, Maximum, Units, maximise
from trialtwin.infer.model import Model, Patients

WIDE = 1.0  # SE on the logarithm beyond which a parameter counts as uninformed: its 95 % interval spans a factor of 50


@dataclass(frozen=True)
class Estimated:
    """One parameter: estimate, standard error, relative standard error, and its interval."""

    name: str
    value: float
    se: float
    relative: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Fit:
    """A population fit that converged.

    ``ofv`` is −2 log L without the constant n log 2π of the quantified measurements, as NONMEM and nlmixr2 print it.
    """

    model: Model
    patients: Patients
    method: Method
    maximum: Maximum
    kind: Covariance

    @property
    def log_likelihood(self) -> float:
        """Log likelihood with all its constants."""
        return self.maximum.value

    @property
    def ofv(self) -> float:
        """Objective function value by NONMEM's convention."""
        quantified = int((self.patients.measured & ~self.patients.below).sum())
        return -2 * self.maximum.value - quantified * LOG_2PI

    @property
    def aic(self) -> float:
        """Akaike's criterion, −2 log L + 2 p."""
        return -2 * self.maximum.value + 2 * len(self.model.names)

    @property
    def bic(self) -> float:
        """Schwarz's criterion with the number of measurements, as nlme has it."""
        return -2 * self.maximum.value + len(self.model.names) * float(np.log(self.patients.rows))

    def estimates(self, level: float = 0.95) -> dict[str, Estimated]:
        """Return every parameter with its error: theta, variances and covariances of effects, residual SDs.

        Intervals are made on the scale of the search and brought back, so that none leaves the scale; those of
        covariances are symmetric. Standard errors are by the delta method.
        """
        x = jnp.asarray(self.maximum.position)
        covariance = self.maximum.covariance(self.kind)
        value = np.asarray(self.model.natural(x))
        slope = np.asarray(jax.jacfwd(self.model.natural)(x))
        se = np.sqrt(np.einsum("ij,jk,ik->i", slope, covariance, slope))
        wide = float(norm.ppf(0.5 + level / 2))
        reach = wide * np.sqrt(np.diag(covariance))
        lows, highs = (np.asarray(self.model.natural(x + s * reach)) for s in (-1, 1))
        found = {}
        for k, name in enumerate(self.model.names):
            alone = np.count_nonzero(np.abs(slope[k]) > 1e-12) <= 1
            low, high = (lows[k], highs[k]) if alone else self._joined(name, value[k], se[k], wide)
            relative = abs(se[k] / value[k]) if value[k] != 0 else float("inf")
            found[name] = Estimated(name, float(value[k]), float(se[k]), float(relative), float(low), float(high))
        return found

    def _joined(self, name: str, value: float, se: float, wide: float) -> tuple[float, float]:
        """Return the interval of what depends on several numbers of the search: log-normal for variances."""
        order = list(self.model.omega)
        if name.removeprefix("omega.") in order:
            factor = float(np.exp(wide * se / value))
            return value / factor, value * factor
        return value - wide * se, value + wide * se

    def omega(self) -> Float[np.ndarray, "effect effect"]:
        """Return Ω, effects in the model's order."""
        root = np.asarray(self.model.unpack(jnp.asarray(self.maximum.position))[1])
        return root @ root.T

    def individual_effects(self) -> dict[str, dict[str, float]]:
        """Return the modes of the effects (empirical Bayes estimates) by patient and name, without occasions."""
        root = np.asarray(self.model.unpack(jnp.asarray(self.maximum.position))[1])
        eta = self.maximum.modes[:, : len(root)] @ root.T
        return {
            patient: dict(zip(self.model.omega, map(float, row), strict=True))
            for patient, row in zip(self.patients.ids, eta, strict=True)
        }

    def shrinkage(self) -> dict[str, float]:
        """Return 1 − SD(η̂)/ω of each effect, and 1 − SD(IWRES) as "residual" (Savic and Karlsson 2009)."""
        eta = np.array([list(row.values()) for row in self.individual_effects().values()])
        share = 1 - eta.std(axis=0, ddof=1) / np.sqrt(np.diag(self.omega()))
        shrunk = dict(zip(self.model.omega, map(float, share), strict=True))
        residuals = self.residuals()
        return shrunk | {"residual": float(1 - residuals[np.isfinite(residuals)].std(ddof=1))}

    def predictions(self, *, individual: bool = True) -> Float[np.ndarray, "patient row"]:
        """Return predictions where residuals are normal, at modes or at effects of zero; NaN is padding."""
        x, modes = jnp.asarray(self.maximum.position), jnp.asarray(self.maximum.modes)
        at = modes if individual else jnp.zeros_like(modes)
        location = jax.vmap(lambda u, one: patient_moments(self.model, x, u, one)[0])(at, self.patients)
        return np.where(np.asarray(self.patients.measured), np.asarray(location), np.nan)

    def residuals(self) -> Float[np.ndarray, "patient row"]:
        """Return individual weighted residuals (IWRES); NaN where padded or below the limit of quantification."""
        x = jnp.asarray(self.maximum.position)

        def one_patient(u: Array, one: Patients) -> Array:
            location, log_sd = patient_moments(self.model, x, u, one)
            value = jnp.where(one.measured, one.value, 1.0)
            return (self.model.sigma.transform(value) - location) * jnp.exp(-log_sd)

        z = np.asarray(jax.vmap(one_patient)(jnp.asarray(self.maximum.modes), self.patients))
        return np.where(np.asarray(self.patients.measured & ~self.patients.below), z, np.nan)

    def condition(self) -> tuple[float, tuple[str, ...]]:
        """Return the condition number of the estimates' correlation, and the parameters in its flattest direction."""
        return flattest(self.model.names, self.maximum.covariance("R"))

    def uninformed(self) -> tuple[str, ...]:
        """Name parameters of which the data say little.

        Those on a log or logit scale whose standard error there exceeds 1, and those along a direction whose
        eigenvalue in the estimates' correlation is above 1000 times the smallest.
        """
        se = np.sqrt(np.diag(self.maximum.covariance("R")))
        plain = {n for n, t in self.model.thetas.items() if t.scale == "identity"}
        wide = [n for n, s in zip(self.model.names, se, strict=True) if n not in plain and s > WIDE]
        number, along = self.condition()
        return tuple(dict.fromkeys([*wide, *(along if number > 1 / FLAT else ())]))

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Return what is to be known before the estimates are used."""
        number, along = self.condition()
        lost = self.uninformed()
        shrunk = self.shrinkage()
        most = max(shrunk, key=lambda name: shrunk[name])
        newton = 0.5 * self._gradient() @ np.linalg.solve(self.maximum.hessian, self._gradient())
        return (
            Diagnostic("distance to the maximum", float(newton), bool(newton <= 1e-4), "in log likelihood"),
            Diagnostic("condition number", number, number <= 1 / FLAT, "flattest along " + ", ".join(along)),
            Diagnostic("uninformed parameters", len(lost), not lost, ", ".join(lost) or "none"),
            Diagnostic("shrinkage", shrunk[most], shrunk[most] <= 0.4, f"highest for {most}"),
        )

    def _gradient(self) -> Float[np.ndarray, " parameter"]:
        return self.maximum.scores.sum(axis=0)

    def importance_likelihood(self, points: int = 4096, *, seed: int = 0) -> tuple[float, float]:
        """Return the log likelihood at the estimates by importance sampling, and its Monte-Carlo standard error.

        Each patient's effects are drawn from a t distribution around the mode, once adapted; with
        log-normal weights this is exact in expectation, where FOCEI and Laplace are approximations.
        """
        x, joint = jnp.asarray(self.maximum.position), log_joint(self.model)
        size = self.model.size
        first = random_points(jax.random.key(seed), points, size)
        half = (FREEDOM + size) / 2
        constant = jnp.asarray(gammaln(half) - gammaln(FREEDOM / 2) - size / 2 * np.log(FREEDOM * np.pi))

        def one_patient(u: Array, precision: Array, one: Patients, key: Array) -> tuple[Array, Array]:
            start = laplace_proposal(u, precision)

            def density(v: Array) -> Array:
                return joint(x, v, one)

            fitted = adapt(start, first, importance_weights(density, start, first))
            drawn = random_points(key, points, size)
            heights = jax.vmap(density)(fitted.place(drawn)) - _log_student(fitted, drawn, constant)
            top = jnp.max(heights)
            weight = jnp.exp(heights - top)
            mean = weight.mean()
            return top + jnp.log(mean), weight.var() / (points * mean**2)

        keys = jax.random.split(jax.random.key(seed + 1), len(self.patients.ids))
        modes, precisions = jnp.asarray(self.maximum.modes), jnp.asarray(self.maximum.precisions)
        values, variances = jax.jit(jax.vmap(one_patient))(modes, precisions, self.patients, keys)
        return float(values.sum()), float(jnp.sqrt(variances.sum()))


def _log_student(
    proposal: Proposal, points: Float[Array, "point effect"], constant: Float[Array, ""]
) -> Float[Array, " point"]:
    """Return the log density of a proposal at its placed points."""
    size = points.shape[1]
    spread = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(proposal.root)))) if size else 0.0
    return constant - spread - (FREEDOM + size) / 2 * jnp.log1p(jnp.sum(points**2, axis=1) / FREEDOM)


def fit_population(model: Model, patients: Patients, *, method: Method = "focei", covariance: Covariance = "R") -> Fit:
    """Fit a nonlinear mixed-effects model by maximum likelihood.

    Parameters
    ----------
    model
        What is predicted, theta, omega and sigma.
    patients
        Measurements with what the model is told of each patient.
    method
        "focei": first-order conditional estimation with interaction. "laplace": exact curvature of each patient's
        density, for rows below the limit of quantification and strongly nonlinear models.
    covariance
        Of the estimates: "R" (inverse Hessian), "S" (inverse of the scores' products) or "sandwich" (R⁻¹SR⁻¹,
        NONMEM's default; robust to a wrong model, and noisy with few patients).

    Raises
    ------
    ConvergenceError
        If no maximum is reached; the message names the parameters at fault.
    DataError
        If no patient has a measurement.

    References
    ----------
    Almquist J, Leander J, Jirstrand M (2015), doi:10.1007/s10928-015-9409-1.

    Examples
    --------
    >>> import numpy as np, jax.numpy as jnp
    >>> from trialtwin.infer.model import Model, gather_patients
    >>> from trialtwin.infer.residuals import Proportional
    >>> rng = np.random.default_rng(1)
    >>> ids, time = np.repeat(np.arange(20), 4), np.tile([1.0, 2.0, 4.0, 8.0], 20)
    >>> height = 10 * np.exp(0.3 * rng.normal(size=20))[ids] * np.exp(-0.2 * time)
    >>> value = height * (1 + 0.1 * rng.normal(size=80))
    >>> def decay(theta, eta, one):
    ...     return theta["start"] * jnp.exp(eta["start"] - theta["rate"] * one["time"])
    >>> model = Model(decay, theta={"start": 8.0, "rate": 0.3}, omega={"start": 0.1}, sigma=Proportional(0.2))
    >>> fit = fit_population(model, gather_patients([str(i) for i in ids], value, rows={"time": time}))
    >>> rate = fit.estimates()["rate"]
    >>> bool(rate.low < 0.2 < rate.high)
    True
    """
    if patients.rows == 0:
        raise DataError("no patient has a measurement", do="look at what marks a row as measured")
    search = expected_expansion(model)
    expand = search if method == "focei" else expansion(model, method)
    units = Units(log_joint(model), search, expand, patients, patients.ids, model.size)
    return Fit(model, patients, method, maximise(units, model.start(), model.names), covariance)
