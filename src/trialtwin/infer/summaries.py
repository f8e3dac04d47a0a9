"""Fits on what trials publish: arm means and differences with standard errors, and effects that differ between trials.

    y_t = m(θ, b_t, trial) + e_t,   b_t ~ N(0, diag τ²),   e_t ~ N(0, D C D)

with D the standard errors and C a known working correlation of a trial's rows. A row without a standard error has
σ/√n, with σ estimated and n its number of patients. Robust fits scale a trial's whole error by a t distribution.
Expensive models, linearised by the caller, are fitted by ``fit_linearised``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float
from scipy.stats import norm

from trialtwin.core.errors import ConvergenceError, DataError
from trialtwin.infer.diagnostics import uninformed
from trialtwin.infer.laplace import exact_expansion
from trialtwin.infer.marginal import Covariance, Maximum, Units, maximise
from trialtwin.infer.model import Theta
from trialtwin.infer.restricted import Linear, Solved, solve_restricted

LOG_2PI = float(np.log(2 * np.pi))

# expected readouts of a trial, given theta and the trial's effects by name, and what the model is told of it
type Mean = Callable[[dict[str, Array], dict[str, Array], Any], Float[Array, " readout"]]


@dataclass(frozen=True, eq=False)
class Trial:
    """What one trial published.

    Parameters
    ----------
    name
        Its name.
    value, error : shape (readout,)
        Readouts and their standard errors; an error of NaN was not published.
    inputs
        What the model is told of the trial; every trial has arrays of the same shapes.
    patients : shape (readout,)
        Numbers of patients, needed where an error is not published.
    correlation : shape (readout, readout)
        Working correlation of the errors; none is independence.

    Raises
    ------
    DataError
        If shapes do not agree, a value is not a number, an error is not positive, or the correlation is not one.
    """

    name: str
    value: Float[np.ndarray, " readout"]
    error: Float[np.ndarray, " readout"]
    inputs: Any
    patients: Float[np.ndarray, " readout"] | None = None
    correlation: Float[np.ndarray, "readout readout"] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot have been published."""
        if len(self.value) != len(self.error):
            raise DataError(f"{len(self.value)} readouts and {len(self.error)} standard errors", where=self.name)
        if not np.isfinite(self.value).all():
            raise DataError("a readout is not a number", where=self.name, do="leave it out")
        if (self.error <= 0).any():
            raise DataError("a standard error is not positive", where=self.name, do="give NaN where none was published")
        if self.patients is None and np.isnan(self.error).any():
            raise DataError("a standard error is missing, and so are the patients", where=self.name)
        if self.correlation is not None and np.linalg.eigvalsh(self.correlation)[0] <= 0:
            raise DataError("the working correlation is not positive definite", where=self.name)


class _Rows(eqx.Module):
    """One trial as arrays, padded to the longest."""

    value: Float[Array, "*trial readout"]
    error: Float[Array, "*trial readout"]
    scale: Float[Array, "*trial readout"]
    unknown: Bool[Array, "*trial readout"]
    present: Bool[Array, "*trial readout"]
    inverse: Float[Array, "*trial readout readout"]
    log_det: Float[Array, "*trial"]
    inputs: Any


def _stack(trials: Sequence[Trial]) -> _Rows:
    """Stack trials; padding has value 0, error 1 and no correlation, and is masked."""
    longest = max(len(t.value) for t in trials)

    def pad(values: Any, fill: float) -> np.ndarray:
        return np.array([np.pad(v, (0, longest - len(v)), constant_values=fill) for v in values])

    inverses, dets = np.zeros((len(trials), longest, longest)), np.zeros(len(trials))
    for k, trial in enumerate(trials):
        n = len(trial.value)
        correlation = np.eye(n) if trial.correlation is None else trial.correlation
        inverses[k, :n, :n] = np.linalg.inv(correlation)
        dets[k] = np.linalg.slogdet(correlation)[1]
    error = [np.asarray(t.error, dtype=float) for t in trials]
    count = [np.ones(len(t.value)) if t.patients is None else np.asarray(t.patients, dtype=float) for t in trials]
    return _Rows(
        jnp.asarray(pad([t.value for t in trials], 0.0)),
        jnp.asarray(pad([np.nan_to_num(e, nan=1.0) for e in error], 1.0)),
        jnp.asarray(pad([1 / np.sqrt(n) for n in count], 1.0)),
        jnp.asarray(pad([np.isnan(e) for e in error], 0.0).astype(bool)),
        jnp.asarray(pad([np.ones(len(e)) for e in error], 0.0).astype(bool)),
        jnp.asarray(inverses),
        jnp.asarray(dets),
        jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *[t.inputs for t in trials]),
    )


@dataclass(frozen=True)
class Summaries:
    """A model of trials' readouts.

    Parameters
    ----------
    mean
        Differentiable expectation of a trial's readouts; those beyond a shorter trial's own are not looked at.
    theta
        Parameters by name, as in a population model.
    tau
        SDs of the effects between trials, where the search begins.
    prior
        SDs of normal priors around the starts, on the scales of the search: of thetas by name, of every log τ by
        "tau". What is not named has none.
    sigma
        Start of the SD of one patient, used by rows without a standard error.
    freedom
        Degrees of freedom of a robust fit (each trial's readouts follow a multivariate t); none is normal.
    """

    mean: Mean
    theta: Mapping[str, Theta | float]
    tau: Mapping[str, float]
    prior: Mapping[str, float] = field(default_factory=dict)
    sigma: float | None = None
    freedom: float | None = None

    @property
    def thetas(self) -> dict[str, Theta]:
        """Parameters, plain numbers made into ``Theta``."""
        return {n: t if isinstance(t, Theta) else Theta(float(t)) for n, t in self.theta.items()}

    @property
    def free(self) -> tuple[str, ...]:
        """Parameters that are estimated."""
        return tuple(n for n, t in self.thetas.items() if not t.fixed)

    @property
    def names(self) -> tuple[str, ...]:
        """All that is estimated, in the order of the search."""
        return (*self.free, *(f"tau.{n}" for n in self.tau), *(() if self.sigma is None else ("sigma",)))

    def start(self) -> Float[np.ndarray, " parameter"]:
        """Return where the search begins."""
        thetas = [self.thetas[n].free(self.thetas[n].start) for n in self.free]
        return np.array(
            thetas + [np.log(t) for t in self.tau.values()] + ([] if self.sigma is None else [np.log(self.sigma)])
        )

    def unpack(self, x: Float[Array, " parameter"]) -> tuple[dict[str, Array], Array, Array]:
        """Return theta by name, τ, and σ (1 where there is none)."""
        moving = dict(zip(self.free, x[: len(self.free)], strict=True))
        theta = {
            n: jnp.asarray(t.start) if t.fixed else jnp.asarray(t.natural(moving[n])) for n, t in self.thetas.items()
        }
        place = len(self.free)
        tau = jnp.exp(x[place : place + len(self.tau)])
        return theta, tau, jnp.ones(()) if self.sigma is None else jnp.exp(x[-1])

    def natural(self, x: Float[Array, " parameter"]) -> Float[Array, " parameter"]:
        """Return theta, τ and σ in the order of ``names``."""
        theta, tau, sigma = self.unpack(x)
        rest = [] if self.sigma is None else [sigma]
        return jnp.array([theta[n] for n in self.free] + [tau[k] for k in range(len(self.tau))] + rest)

    def prior_sds(self) -> Float[np.ndarray, " parameter"]:
        """Return the SDs of priors in the order of the search, infinite where there is none."""
        return np.array(
            [self.prior.get("tau" if name.startswith("tau.") else name, float("inf")) for name in self.names]
        )

    def expected(self, x: Array, u: Array, inputs: Any) -> Float[Array, " readout"]:
        """Return a trial's expected readouts at a point of the search and standard normal effects."""
        theta, tau, _ = self.unpack(x)
        return self.mean(theta, {name: tau[k] * u[k] for k, name in enumerate(self.tau)}, inputs)

    def log_joint(self, x: Array, u: Array, one: Any) -> Float[Array, ""]:
        """Return log p(readouts, effects | θ) of one trial."""
        _, _, sigma = self.unpack(x)
        error = jnp.where(one.unknown, sigma * one.scale, one.error)
        z = jnp.where(one.present, (one.value - self.expected(x, u, one.inputs)) / error, 0.0)
        distance = z @ one.inverse @ z
        constant = -jnp.sum(jnp.where(one.present, jnp.log(error), 0.0)) - 0.5 * one.log_det
        n = jnp.sum(one.present)
        if self.freedom is None:
            rows = constant - 0.5 * (n * LOG_2PI + distance)
        else:
            f = self.freedom
            rows = constant + gammaln((f + n) / 2) - gammaln(f / 2) - n / 2 * jnp.log(f * jnp.pi)
            rows = rows - (f + n) / 2 * jnp.log1p(distance / f)
        return rows - 0.5 * jnp.sum(u**2 + LOG_2PI)


@dataclass(frozen=True, eq=False)
class SummaryFit:
    """A fit to trials that converged, with predictive distributions for trials that took no part."""

    model: Summaries
    trials: tuple[Trial, ...]
    maximum: Maximum
    kind: Covariance

    def estimates(self, level: float = 0.95) -> dict[str, tuple[float, float, float]]:
        """Return estimate, low and high of each parameter; intervals are made on the scale of the search."""
        x = self.maximum.position
        reach = float(norm.ppf(0.5 + level / 2)) * np.sqrt(np.diag(self.maximum.covariance(self.kind)))
        three = [np.asarray(self.model.natural(jnp.asarray(x + s * reach))) for s in (0, -1, 1)]
        return {n: (float(three[0][k]), float(three[1][k]), float(three[2][k])) for k, n in enumerate(self.model.names)}

    def uninformed(self) -> tuple[str, ...]:
        """Name parameters that are no better known than before: posterior as wide as prior, or log SE above 1."""
        sd = np.sqrt(np.diag(self.maximum.covariance("R")))
        prior = self.model.prior_sds()
        held = np.isfinite(prior)
        names = np.array(self.model.names)
        as_before = uninformed(tuple(names[held]), prior[held], sd[held])
        spreads = np.array([n == "sigma" or n.startswith("tau.") for n in names])
        return (*as_before, *map(str, names[~held & spreads & (sd > 1.0)]))

    def predict(self, trial: Trial, *, draws: int = 1000, seed: int = 0) -> Float[np.ndarray, "draw readout"]:
        """Return draws of what a new trial would publish: of parameters, of its effects, and of its sampling error."""
        rng = np.random.default_rng(seed)
        x = rng.multivariate_normal(self.maximum.position, self.maximum.covariance(self.kind), size=draws)
        u = rng.normal(size=(draws, len(self.model.tau)))
        mean = jax.vmap(lambda a, b: self.model.expected(a, b, trial.inputs))(jnp.asarray(x), jnp.asarray(u))
        n = len(trial.value)
        sigma = np.asarray(jax.vmap(lambda a: self.model.unpack(a)[2])(jnp.asarray(x)))
        count = np.ones(n) if trial.patients is None else trial.patients
        error = np.where(np.isnan(trial.error), sigma[:, None] / np.sqrt(count), trial.error)
        root = np.linalg.cholesky(np.eye(n) if trial.correlation is None else trial.correlation)
        noise = rng.normal(size=(draws, n)) @ root.T
        if self.model.freedom is not None:
            noise = noise * np.sqrt(self.model.freedom / rng.chisquare(self.model.freedom, size=(draws, 1)))
        return np.asarray(mean)[:, :n] + error * noise


def fit_summaries(model: Summaries, trials: Sequence[Trial], *, covariance: Covariance = "R") -> SummaryFit:
    """Fit a model to trials' readouts by Laplace's method over the effects of trials.

    Raises
    ------
    ConvergenceError
        If no maximum is reached; the message names the parameters that the trials do not inform.
    DataError
        If there are no trials, or an error is missing and the model has no sigma.

    Examples
    --------
    >>> import numpy as np
    >>> def mean(theta, b, one):
    ...     return theta["d"] + b["d"] + 0 * one["x"]
    >>> effect = Summaries(mean, {"d": Theta(0.0, "identity")}, {"d": 0.3})
    >>> found = [0.1, 0.9, 0.4, -0.3, 0.6, 1.2]
    >>> trials = [Trial(str(k), np.array([y]), np.array([0.1]), {"x": np.zeros(1)}) for k, y in enumerate(found)]
    >>> round(fit_summaries(effect, trials).estimates()["d"][0], 2)
    0.48
    """
    if not trials:
        raise DataError("there are no trials", do="give at least one")
    if model.sigma is None and any(np.isnan(t.error).any() for t in trials):
        raise DataError("a standard error is missing", do="give the model a sigma, the SD of one patient")
    prior, centre = model.prior_sds(), model.start()

    def joint(x: Any, u: Array, one: Any) -> Array:
        off = (x - centre) / prior
        # each trial carries its share of the prior, so that scores of trials sum to the whole gradient
        return model.log_joint(x, u, one) - 0.5 * jnp.sum(off**2) / len(trials)

    def expand(x: Any, u: Array, one: Any) -> tuple[Array, Array, Array]:
        value, gradient = jax.value_and_grad(joint, argnums=1)(x, u, one)
        slope = jax.jacfwd(lambda v: model.expected(x, v, one.inputs))(u)
        error = jnp.where(one.unknown, model.unpack(x)[2] * one.scale, one.error)
        scaled = jnp.where(one.present[:, None], slope / error[:, None], 0.0)
        return value, gradient, scaled.T @ one.inverse @ scaled + jnp.eye(len(u))

    rows = _stack(trials)
    ids = tuple(t.name for t in trials)
    units = Units(joint, expand, exact_expansion(joint), rows, ids, len(model.tau))
    return SummaryFit(model, tuple(trials), maximise(units, centre, model.names), covariance)


def leave_one_out(
    model: Summaries, trials: Sequence[Trial], *, draws: int = 1000, seed: int = 0
) -> dict[str, Float[np.ndarray, "draw readout"]]:
    """Return, for each trial, draws of its readouts from a fit to the others."""
    return {
        left.name: fit_summaries(model, [t for t in trials if t is not left]).predict(left, draws=draws, seed=seed + k)
        for k, left in enumerate(trials)
    }


def fit_linearised(
    linearise: Callable[[Float[np.ndarray, " parameter"]], Linear],
    start: Float[np.ndarray, " parameter"],
    names: Sequence[str],
    *,
    settled: float = 0.01,
    rounds: int = 30,
) -> tuple[Solved, int]:
    """Fit an expensive model by Gauss-Newton: the caller linearises it, restricted likelihood solves.

    A parameter that turns back goes half as far. The end is where none moves by more than ``settled`` of its
    posterior SD.

    Raises
    ------
    ConvergenceError
        If parameters still move after the last round; the message names them.

    Examples
    --------
    >>> import numpy as np
    >>> def linearise(at):
    ...     wide, same = np.array([10.0]), np.full((3, 1), 1e-6)
    ...     time = np.arange(3.0)
    ...     mean = np.exp(-at[0] * time)
    ...     return Linear(np.exp(-0.5 * time), mean, -(time * mean)[:, None], at, np.ones(1), wide, 1e-4 * np.eye(3),
    ...         same, np.zeros(1, dtype=int), np.ones(1), np.ones(1))
    >>> round(float(fit_linearised(linearise, np.ones(1), ["rate"])[0].parameters[0]), 3)
    0.5
    """
    at, length, before = start, np.ones(len(start)), np.zeros(len(start))
    for done in range(rounds):
        solved = solve_restricted(linearise(at))
        step = solved.parameters - at
        moved = np.abs(step) / np.sqrt(np.diag(solved.covariance))
        if moved.max() < settled:
            return solved, done + 1
        length = np.where(step * before < 0, 0.5 * length, np.minimum(1.2 * length, 1.0))
        before, at = step, at + length * step
    worst = np.argsort(-moved)[:3]
    raise ConvergenceError(
        f"the fit did not settle in {rounds} rounds",
        where="; ".join(f"{names[i]} moves by {moved[i]:.2g} SD" for i in worst),
        do="begin nearer, give tighter priors, or allow more rounds",
    )
