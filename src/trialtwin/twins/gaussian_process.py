"""The Gaussian-process twin: all outcomes of a patient as one process, so that each tells about the others.

For outcome k of patient i at s = t / horizon, with standardised values and covariates,

    y_k(s) = m(s)ᵀβ_k + h(s)ᵀΓ_k xᵢ + f_ik(s) + ε,   m(s) = (1, s, s²),  h(s) = (1, s),  ε ~ N(0, σ_k²)

f is a Gaussian process with a learned covariance between outcomes (``coregional.py``). Components maximise the exact
evidence times weak priors; their Laplace posterior and that of the coefficients are carried into the draws. The fitted
twin holds the posterior of the coefficients and no patient. References: Bonilla EV, Chai KM, Williams CKI (2008),
NeurIPS 20 (coregionalisation); Rasmussen CE, Williams CKI (2006), doi:10.7551/mitpress/3206.001.0001.
"""

from functools import partial
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.backend import enable_float64
from trialtwin.core.cohort import Cohort
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin, Times, patient_times, require_mechanisms
from trialtwin.core.variables import Variable
from trialtwin.infer.factors import Factors
from trialtwin.infer.optimise import Optimum, minimise
from trialtwin.twins.coregional import FIXED, Rows, conditional, layout, posterior
from trialtwin.twins.features import Encoder, encode, factors_of
from trialtwin.twins.landmarks import Scaling, history_of
from trialtwin.twins.latent_effects import assumption_of

enable_float64()

COMPONENT_DRAWS = 16
BUCKET = 32


class Weights(eqx.Module):
    """The posterior of the coefficients at one set of components: mean, and Cholesky factor of the precision."""

    components: Float[np.ndarray | Array, "*draw component"]
    mean: Float[np.ndarray | Array, "*draw coefficient"]
    root: Float[np.ndarray | Array, "*draw coefficient coefficient"]


@final
class GaussianProcessTwin(AbstractTwin):
    """A fitted process of all outcomes, ready to condition on any history.

    ``best`` is at the components of highest posterior density; ``others`` at draws from their Laplace posterior, with a
    leading axis. ``second`` is E[Γ Γᵀ] of the latent factors' effects; ``None`` where there are no factors.
    """

    outcomes: tuple[Variable, ...]
    best: Weights
    others: Weights
    second: Float[np.ndarray, "effect effect factor factor"] | None
    encoder: Encoder
    scaling: Scaling
    mechanisms: tuple[str, ...]
    assumptions: tuple[Assumption, ...]
    learned: tuple[Learned, ...]

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return posterior-predictive trajectories given each patient's covariates and history of all outcomes.

        Draws carry the uncertainty of the components (16 draws) and of the coefficients, both shared by all patients,
        each patient's own process, and measurement error. ``expected`` is exact at the estimated components. The model
        knows nothing of the bounds of a scale. Draws are wider where a block is missing whose factors matter.

        Raises
        ------
        MismatchError
            If the treatment acts on any mechanism: this twin has none.
        """
        require_mechanisms(self, treatment)
        at = jnp.asarray(patient_times(patients, times, draws) / self.scaling.horizon)
        history = _rows(self.scaling, self.encoder, patients, self.second)
        shape = (*at.shape, len(self.outcomes))
        mean = np.asarray(_expect(self.best, history, at)).reshape(shape)
        keys = jax.random.split(key, COMPONENT_DRAWS)
        sample = np.asarray(_sample(self.others, keys, history, at, -(-draws // COMPONENT_DRAWS)))
        centre, scale = np.array(self.scaling.centres), np.array(self.scaling.scales)
        values = sample.reshape(-1, *shape)[:draws]
        return Trajectories(patients.ids, self.outcomes, times, centre + scale * values, centre + scale * mean)


@final
class GaussianProcess(AbstractModel):
    """A multi-output Gaussian process over each patient's course, with regularised covariate effects.

    Covariates, latent factors of blocks, and baseline values of outcomes that are not followed enter level and slope;
    missing ones enter at the training mean.
    """

    def fit(self, cohort: Cohort, *, key: Array) -> GaussianProcessTwin:
        """Fit to every patient; deterministic, so ``key`` is not used.

        Raises
        ------
        FitError
            If no outcome was measured after baseline in at least four patients, or one is the same for all.
        ConvergenceError
            If the components cannot be found.
        """
        del key
        scaling = Scaling.learn(cohort)
        encoder = Encoder.learn(cohort, modelled=scaling.outcomes)
        rows = _rows(scaling, encoder, cohort, None)
        optimum = _maximise(rows, scaling)
        second = None
        factors = factors_of(encoder, cohort)
        if factors is not None:
            second = _second_moment(optimum, rows, factors)
            rows = _rows(scaling, encoder, cohort, second)
            optimum = _maximise(rows, scaling)
        covariance = np.linalg.inv(optimum.hessian)
        steps = np.random.default_rng(0).normal(size=(COMPONENT_DRAWS, len(covariance)))
        drawn = optimum.position + steps @ np.linalg.cholesky(covariance).T
        return GaussianProcessTwin(
            outcomes=tuple(cohort.outcomes[cohort.outcome(name)] for name in scaling.outcomes),
            best=_weights(optimum.position, _pad(rows)),
            others=_weights(drawn, _pad(rows)),
            second=second,
            encoder=encoder,
            scaling=scaling,
            mechanisms=(),
            assumptions=(*_assumptions(scaling), *assumption_of(encoder.latent)),
            learned=_learned(scaling, optimum.position, covariance),
        )


def _rows(scaling: Scaling, encoder: Encoder, cohort: Cohort, second: np.ndarray | None) -> Rows:
    """Return standardised measurements and covariates, with what uncertain factors add where that is known."""
    history, x = history_of(scaling, cohort), encode(encoder, cohort)
    weight = history.known.astype(float)
    factors = factors_of(encoder, cohort)
    extra = None
    if factors is not None and second is not None:
        extra = jnp.asarray(np.einsum("abjk,njk->nab", second, factors.covariance))
    values = jnp.asarray(history.values)
    return Rows(jnp.asarray(x), jnp.asarray(history.times), values, jnp.asarray(weight), extra)


def _pad(rows: Rows) -> Rows:
    """Add unmeasured patients up to a round number, so that few shapes are compiled."""
    extra = -len(rows.times) % BUCKET
    return jax.tree.map(lambda a: jnp.concatenate([a, jnp.zeros((extra, *a.shape[1:]))]), rows)


def _maximise(rows: Rows, scaling: Scaling) -> Optimum:
    """Return the components of highest posterior density."""
    names, centre, spread = zip(*layout(scaling.outcomes), strict=True)
    padded = _pad(rows)
    mean, sd = jnp.asarray(centre), jnp.asarray(spread)

    def objective(components: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _negative_log_posterior(jnp.asarray(components), padded, mean, sd)
        return float(value), np.asarray(gradient)

    return minimise(objective, np.array(centre), names=names)


@jax.jit
def _negative_log_posterior(components: Array, rows: Rows, mean: Array, sd: Array) -> tuple[Array, Array]:
    """Return minus log evidence and log prior of the components, and the gradient."""

    def value(c: Array) -> Array:
        return -posterior(c, rows)[2] + 0.5 * jnp.sum(((c - mean) / sd) ** 2)

    return jax.value_and_grad(value)(components)


def _weights(components: Float[np.ndarray, "*draw component"], rows: Rows) -> Weights:
    """Return the posterior of the coefficients at one set of components, or at each of several."""
    many = np.atleast_2d(components)
    found = [_coefficients(jnp.asarray(one), rows) for one in many]
    means, roots = (np.stack([np.asarray(one[i]) for one in found]) for i in (0, 1))
    if np.ndim(components) == 1:
        return Weights(np.asarray(components), means[0], roots[0])
    return Weights(many, means, roots)


@jax.jit
def _coefficients(components: Array, rows: Rows) -> tuple[Array, Array]:
    return posterior(components, rows)[:2]


def _second_moment(optimum: Optimum, rows: Rows, factors: Factors) -> Float[np.ndarray, "effect effect factor factor"]:
    """Return E[Γ_aj Γ_bk] of the factors' effects: a, b over (outcome, level or slope), factors the last columns."""
    at_best = _weights(optimum.position, _pad(rows))
    inverse = np.linalg.inv(at_best.root)
    square = inverse.T @ inverse + np.outer(at_best.mean, at_best.mean)
    q, columns, size = rows.values.shape[-1], rows.covariates.shape[1], factors.mean.shape[1]
    starts = np.add.outer((FIXED + 2 * columns) * np.arange(q), FIXED + columns * np.arange(2)).reshape(-1)
    place = starts[:, None] + np.arange(columns - size, columns)
    return square[place[:, None, :, None], place[None, :, None, :]]


@jax.jit
def _expect(best: Weights, history: Rows, at: Array) -> Float[Array, "patient row"]:
    """Return each patient's expected future at the mean of the coefficients."""
    return conditional(jnp.asarray(best.components), jnp.asarray(best.mean), history, at).mean


@partial(jax.jit, static_argnames="draws")
def _sample(
    others: Weights, keys: Array, history: Rows, at: Array, draws: int
) -> Float[Array, "block draw patient row"]:
    """Draw coefficients, shared by all patients, and each patient's measurements, for each draw of the components."""

    def block(given: tuple[Weights, Array]) -> Array:
        one, key = given
        coefficient_key, noise_key = jax.random.split(key)
        future = conditional(jnp.asarray(one.components), jnp.asarray(one.mean), history, at)
        normal = jax.random.normal(coefficient_key, (len(one.mean), draws))
        shift = jax.scipy.linalg.solve_triangular(one.root.T, normal, lower=False)
        white = jax.random.normal(noise_key, (draws, *future.mean.shape))
        own = jnp.einsum("nij,dnj->dni", jnp.linalg.cholesky(future.covariance), white)
        return future.mean + jnp.einsum("nrc,cd->dnr", future.response, shift) + own

    return jax.lax.map(block, (jax.tree.map(jnp.asarray, others), keys))


def _assumptions(scaling: Scaling) -> tuple[Assumption, ...]:
    priors = "; ".join(f"{name} N({mean:g}, {sd:g}²)" for name, mean, sd in layout(scaling.outcomes))
    return (
        Assumption(
            name="shape of the Gaussian-process twin",
            value="quadratic mean, linear covariate effects, normal level and slope, Matérn 3/2 course, normal error",
            source="chosen so that conditioning is exact; checked by the calibration findings",
            confidence="medium",
        ),
        Assumption(
            name="priors of the components, standardised data",
            value=priors,
            source="set by hand, weak: a covariate moves a patient by a few tenths of an SD",
            confidence="low",
            provisional=True,
        ),
    )


def _learned(scaling: Scaling, components: np.ndarray, covariance: np.ndarray) -> tuple[Learned, ...]:
    found = zip(layout(scaling.outcomes), components.tolist(), np.sqrt(np.diag(covariance)).tolist(), strict=True)
    return tuple(
        Learned(name=name, value=value, sd=error, prior_mean=mean, prior_sd=sd)
        for (name, mean, sd), value, error in found
    )
