"""The baseline twin: a regularised longitudinal mixed-effects model with covariates, exact in closed form.

For one outcome, patient i at s = t / horizon, with standardised values and covariates,

    y(s) = m(s)ᵀβ + h(s)ᵀ(Γ xᵢ + bᵢ) + ε,   m(s) = (1, s, s²),  h(s) = (1, s)
    β ~ N(0, 10² I),  Γ rows ~ N(0, τ₀² I) and N(0, τ₁² I),  bᵢ ~ N(0, G),  ε ~ N(0, σ²)

Given the six variance components everything else is Gaussian and known in closed form: the evidence, the posterior of
the coefficients, and the prediction for a patient with any history. The components maximise the exact evidence times
weak priors; their Laplace posterior is carried into the predictions.

Where x holds latent factors of blocks, known only as N(x̂ᵢ, Vᵢ), the patient's own effects have covariance
G + E[Γ Vᵢ Γᵀ] (``latent_effects.py``): the less a patient's blocks tell, the wider the forecast.
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
from trialtwin.core.errors import FitError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin, Times, patient_times, require_mechanisms
from trialtwin.core.variables import Variable
from trialtwin.infer.factors import Factors
from trialtwin.infer.optimise import minimise
from trialtwin.twins.features import Encoder, encode, factors_of
from trialtwin.twins.latent_effects import ROUNDS, assumption_of, second_moment, widening
from trialtwin.twins.mixed_effects import Records, conditional, posterior_coefficients, response

enable_float64()

COMPONENTS = (
    "log τ of covariates on level",
    "log τ of covariates on slope",
    "log SD of level",
    "log SD of slope",
    "correlation of level and slope, Fisher z",
    "log residual SD",
)
# weak priors on standardised data: a covariate moves a patient by a few tenths of an SD
PRIOR_MEAN = np.array([-1.5, -1.5, -0.3, -1.0, 0.0, -1.0])
PRIOR_SD = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
COMPONENT_DRAWS = 16
BUCKET = 32


class Curve(eqx.Module):
    """What was learned of one outcome: its standardisation, and the variance components with their uncertainty.

    ``second`` is E[Γ Γᵀ] of the latent factors' effects; ``None`` where there are no factors.
    """

    variable: Variable
    centre: float
    scale: float
    horizon: float
    components: Float[np.ndarray, " component"]
    covariance: Float[np.ndarray, "component component"]
    records: Records
    second: Float[np.ndarray, "2 2 factor factor"] | None = None


@final
class BaselineTwin(AbstractTwin):
    """A fitted mixed-effects model of each outcome, ready to condition on any history."""

    curves: tuple[Curve, ...]
    encoder: Encoder
    mechanisms: tuple[str, ...]
    assumptions: tuple[Assumption, ...]
    learned: tuple[Learned, ...]

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return posterior-predictive trajectories given each patient's covariates and history.

        Draws carry the uncertainty of the variance components (16 draws) and of the coefficients, both shared by all
        patients, each patient's own effects, and measurement error. The coefficients are those of the training
        cohort; a patient's own history informs that patient's effects only. ``expected`` is exact at the estimated
        variance components. Outcomes are independent of each other given the covariates. The model knows nothing of the
        bounds of a scale: draws may leave it. Draws are wider where a block is missing whose factors matter.

        Raises
        ------
        MismatchError
            If the treatment acts on any mechanism: this twin has none.
        """
        require_mechanisms(self, treatment)
        at = jnp.asarray(patient_times(patients, times, draws))
        x = jnp.asarray(encode(self.encoder, patients))
        factors = factors_of(self.encoder, patients)
        expected, values = [], []
        for curve, curve_key in zip(self.curves, jax.random.split(key, len(self.curves)), strict=True):
            history = _records(curve, patients, x, widening(curve.second, factors))
            mean, sample = _predict(curve, history, at / curve.horizon, draws, curve_key)
            expected.append(curve.centre + curve.scale * mean)
            values.append(curve.centre + curve.scale * sample)
        return Trajectories(
            patients.ids,
            tuple(curve.variable for curve in self.curves),
            times,
            np.stack(values, axis=-1),
            np.stack(expected, axis=-1),
        )


@final
class Baseline(AbstractModel):
    """A regularised mixed-effects model for each outcome that was measured after baseline.

    Covariates of the cohort, and the baseline values of outcomes that were measured at baseline only, enter level and
    slope; missing ones enter at the training mean. References: Laird NM, Ware JH (1982), doi:10.2307/2529876; evidence:
    MacKay DJC (1992), doi:10.1162/neco.1992.4.3.415.
    """

    def fit(self, cohort: Cohort, *, key: Array) -> BaselineTwin:
        """Fit to every patient; deterministic, so ``key`` is not used.

        Raises
        ------
        FitError
            If no outcome was measured after baseline in at least four patients, or one is the same for all.
        ConvergenceError
            If the variance components cannot be found.
        """
        del key
        followed = tuple(k for k in range(len(cohort.outcomes)) if _followed(cohort, k))
        if not followed:
            raise FitError(
                "no outcome was measured after baseline in at least four patients",
                where=f"{len(cohort)} patients, outcomes {', '.join(v.name for v in cohort.outcomes) or 'none'}",
                do="give the twin a cohort with follow-up to learn from",
            )
        encoder = Encoder.learn(cohort, modelled=tuple(cohort.outcomes[k].name for k in followed))
        x = jnp.asarray(encode(encoder, cohort))
        factors = factors_of(encoder, cohort)
        curves = tuple(_fit_curve(cohort, k, x, factors) for k in followed)
        shape = Assumption(
            name="shape of the baseline twin",
            value="quadratic mean, linear covariate effects, normal random level and slope, constant error",
            source="chosen for exactness; checked by the calibration findings",
            confidence="medium",
        )
        priors = Assumption(
            name="priors of the variance components, standardised data",
            value="; ".join(f"{n} N({m:g}, {s:g}²)" for n, m, s in zip(COMPONENTS, PRIOR_MEAN, PRIOR_SD, strict=True)),
            source="set by hand, weak: a covariate moves a patient by a few tenths of an SD",
            confidence="low",
            provisional=True,
        )
        learned = tuple(piece for curve in curves for piece in _learned(curve))
        taken = (shape, priors, *assumption_of(encoder.latent))
        return BaselineTwin(curves=curves, encoder=encoder, mechanisms=(), assumptions=taken, learned=learned)


def _followed(cohort: Cohort, k: int) -> bool:
    later = cohort.observed[..., k] & (cohort.times > 0)
    return int(later.any(axis=1).sum()) >= 4


def _learned(curve: Curve) -> list[Learned]:
    sd = np.sqrt(np.diag(curve.covariance))
    found = zip(COMPONENTS, curve.components.tolist(), sd.tolist(), PRIOR_MEAN, PRIOR_SD, strict=True)
    return [
        Learned(name=f"{curve.variable.name}: {name}", value=value, sd=error, prior_mean=mean, prior_sd=spread)
        for name, value, error, mean, spread in found
    ]


def _fit_curve(cohort: Cohort, k: int, x: Array, factors: Factors | None) -> Curve:
    """Standardise one outcome and maximise its evidence, again with what uncertain factors add where there are any."""
    curve = _maximise(_shell(cohort, k, x), cohort, x, None)
    if factors is None:
        return curve
    for _ in range(ROUNDS):
        mean, root, _ = posterior_coefficients(jnp.asarray(curve.components), curve.records)
        second = second_moment(np.asarray(mean), np.asarray(root), x.shape[1], factors.mean.shape[1])
        curve = _maximise(eqx.tree_at(lambda c: c.second, curve, second, is_leaf=_is_none), cohort, x, factors)
    return curve


def _is_none(leaf: object) -> bool:
    return leaf is None


def _shell(cohort: Cohort, k: int, x: Array) -> Curve:
    """Standardise one outcome."""
    seen = cohort.values[..., k][cohort.observed[..., k]]
    spread = float(np.std(seen))
    if spread < 1e-9 * max(1.0, float(np.max(np.abs(seen)))):
        raise FitError(
            f"outcome {cohort.outcomes[k].name} is {seen[0]:g} for all patients at all visits",
            do="leave it out: there is nothing to forecast",
        )
    return Curve(
        variable=cohort.outcomes[k],
        centre=float(np.mean(seen)),
        scale=spread,
        horizon=float(np.max(cohort.times[cohort.observed[..., k]])),
        components=PRIOR_MEAN,
        covariance=np.eye(len(PRIOR_MEAN)),
        records=Records(x, jnp.zeros((0, 0)), jnp.zeros((0, 0)), jnp.zeros((0, 0))),
    )


def _maximise(curve: Curve, cohort: Cohort, x: Array, factors: Factors | None) -> Curve:
    """Return the curve with the components of highest evidence."""
    records = _pad(_records(curve, cohort, x, widening(curve.second, factors)))

    def objective(components: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _negative_log_evidence(jnp.asarray(components), records)
        return float(value), np.asarray(gradient)

    optimum = minimise(objective, PRIOR_MEAN, names=COMPONENTS)
    return eqx.tree_at(
        lambda c: (c.components, c.covariance, c.records),
        curve,
        (optimum.position, np.linalg.inv(optimum.hessian), records),
    )


def _records(curve: Curve, cohort: Cohort, x: Array, extra: np.ndarray | None) -> Records:
    """Return one outcome of a cohort, standardised as the curve was."""
    k = cohort.outcome(curve.variable.name)
    seen = cohort.observed[..., k]
    values = np.where(seen, (cohort.values[..., k] - curve.centre) / curve.scale, 0.0)
    times, weight = jnp.asarray(cohort.times / curve.horizon), jnp.asarray(seen.astype(float))
    return Records(x, times, jnp.asarray(values), weight, None if extra is None else jnp.asarray(extra))


def _pad(records: Records) -> Records:
    """Add unmeasured patients up to a round number, so that few shapes are compiled."""
    extra = -len(records.times) % BUCKET
    return jax.tree.map(lambda a: jnp.concatenate([a, jnp.zeros((extra, *a.shape[1:]))]), records)


@jax.jit
def _negative_log_evidence(components: Array, records: Records) -> tuple[Array, Array]:
    """Return minus log evidence and log prior of the variance components, and the gradient."""

    def value(c: Array) -> Array:
        prior = -0.5 * jnp.sum(((c - PRIOR_MEAN) / PRIOR_SD) ** 2)
        return -posterior_coefficients(c, records)[2] - prior

    return jax.value_and_grad(value)(components)


def _predict(curve: Curve, history: Records, at: Array, draws: int, key: Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact mean at the estimate, and draws that carry all uncertainty, both standardised."""
    component_key, error_key, *block_keys = jax.random.split(key, 2 + COMPONENT_DRAWS)
    root = np.linalg.cholesky(curve.covariance)
    steps = np.asarray(jax.random.normal(component_key, (COMPONENT_DRAWS, len(curve.components))))
    components = jnp.asarray(curve.components + steps @ root.T)
    per = -(-draws // COMPONENT_DRAWS)
    blocks = np.array(_sample(components, jnp.stack(block_keys), curve.records, history, at, per))
    # measurement errors are most of the numbers drawn; single precision is ample for them, and NumPy draws them in a
    # fifth of the time
    rng = np.random.default_rng(np.asarray(jax.random.bits(error_key, (4,), dtype=jnp.uint32)))
    for block, sd in zip(blocks, np.exp(np.asarray(components)[:, 5]).tolist(), strict=True):
        np.add(block, np.float32(sd) * rng.standard_normal(block.shape, dtype=np.float32), out=block)
    mean = _expect(jnp.asarray(curve.components), curve.records, history, at)
    return np.asarray(mean), blocks.reshape(-1, *mean.shape)[:draws]


@jax.jit
def _expect(components: Array, training: Records, history: Records, at: Array) -> Float[Array, "patient time"]:
    """Return each patient's expected future at the mean of the coefficients."""
    mean, _ = conditional(components, posterior_coefficients(components, training)[0], history, at)
    return mean


@partial(jax.jit, static_argnames="draws")
def _sample(
    components: Float[Array, "block component"],
    keys: Array,
    training: Records,
    history: Records,
    at: Array,
    draws: int,
) -> Float[Array, "block draw patient time"]:
    """Draw coefficients, shared by all patients, and each patient's course, for each draw of the components."""

    def block(one: Array, key: Array) -> Array:
        coefficient_key, own_key = jax.random.split(key)
        centre, precision_root, _ = posterior_coefficients(one, training)
        normal = jax.random.normal(coefficient_key, (len(centre), draws))
        shift = jax.scipy.linalg.solve_triangular(precision_root.T, normal, lower=False)
        location, root = conditional(one, centre, history, at)
        own = jnp.einsum("nik,dnk->dni", root, jax.random.normal(own_key, (draws, len(at), 2)))
        # the mean is linear in the coefficients, so that shifting them shifts it by a fixed matrix
        return location + jnp.einsum("nip,pd->dni", response(one, history, at), shift) + own

    return jax.vmap(block)(components, keys)
