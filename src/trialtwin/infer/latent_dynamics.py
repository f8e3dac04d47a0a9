"""Patients followed by a few hidden states, of which some obey known equations and others are learned.

Patient i has states x(t) = (known, extra), with

    known′ = f(t, known, inputs) [+ 0.3 known · tanh r(x, signal)],   extra′ = g(x, signal)
    x(0) = start(uᵢ),  uᵢ ~ N(0, I),   y(t) = C (x(t), 1) + ε,   ε ~ N(0, diag σ²)

where f is given, g (and r, where the known equations are to be corrected: relative to the state and bounded, so that
none changes its sign or runs away) is a network with one hidden layer of tanh units, and C and σ are learned. Weights
of the network have standard normal priors, rows of C N(0, 3²), which with few patients hold the learned part near
nothing and leave the known equations. Everything is estimated jointly with the patients' starts at the maximum of the
posterior density; a patient forecast later has a posterior of the start given whatever was measured
(``latent_forecast``). Known equations with learned states after Qian et al. 2021 (latent hybrid model, NeurIPS 34,
arXiv:2106.02875); the inference here is by optimisation and importance sampling, with no encoder.
"""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from trialtwin.core.backend import enable_float64
from trialtwin.core.errors import ConfigError, ConvergenceError, FitError

enable_float64()

# known flow: time, known states, one patient's inputs
type Flow = Callable[[Float[Array, ""], Float[Array, " known"], Any], Float[Array, " known"]]
# what learned parts see of the inputs: time, one patient's inputs
type Signal = Callable[[Float[Array, ""], Any], Float[Array, " signal"]]

COEFFICIENT_SD = 3.0  # of C, on standardised measurements
NOISE_MEAN, NOISE_SD = -1.0, 1.0  # of log σ, on standardised measurements
RESIDUAL = 0.3  # per unit of time: the largest correction of the known equations, relative to the state
RATE = 0.03
SETTLED = 0.02  # of the number of measurements: what the last tenth of the search may still gain, in log density


def no_signal(t: Float[Array, ""], inputs: Any) -> Float[Array, " signal"]:
    """Return nothing: learned parts see the states alone."""
    del t, inputs
    return jnp.zeros(0)


class Structure(eqx.Module):
    """What is known of the states, and what is to be learned.

    Parameters
    ----------
    flow
        The known equations; ``None`` where nothing is known.
    known, extra
        Numbers of known and of learned states.
    hidden
        Units of the network.
    residual
        Whether the network corrects the known equations as well.
    signal, signals
        What the network sees of the inputs, and how many numbers that is.
    start
        ``"exponential"``: initial states are exponential with mean ``scale``; ``"normal"``: normal with SD ``scale``.
    substeps
        Runge–Kutta steps from one time to the next.
    ceiling
        Size that no known state reaches: equations are not followed beyond it, where trial weights would send a patient
        to infinity.
    """

    flow: Flow | None = eqx.field(static=True)
    known: int = eqx.field(static=True)
    extra: int = eqx.field(static=True)
    hidden: int = eqx.field(static=True, default=8)
    residual: bool = eqx.field(static=True, default=False)
    signal: Signal = eqx.field(static=True, default=no_signal)
    signals: int = eqx.field(static=True, default=0)
    start: Literal["exponential", "normal"] = eqx.field(static=True, default="normal")
    scale: float = eqx.field(static=True, default=1.0)
    substeps: int = eqx.field(static=True, default=6)
    ceiling: float = eqx.field(static=True, default=1e6)

    def __check_init__(self) -> None:
        """Refuse a structure without states, or with known states and no equations."""
        if (self.flow is None) != (self.known == 0) or self.states == 0:
            raise ConfigError(
                f"{self.known} known states, {self.extra} learned, and {'no ' * (self.flow is None)}known equations",
                do="give equations of the known states, and at least one state",
            )

    @property
    def states(self) -> int:
        """Number of states."""
        return self.known + self.extra

    @property
    def learned(self) -> int:
        """Number of flows that the network gives."""
        return self.extra + self.known * self.residual


class Network(eqx.Module):
    """One hidden layer of tanh units: V tanh(W x + b) + c."""

    inner: Float[Array, "hidden input"]
    shift: Float[Array, " hidden"]
    outer: Float[Array, "learned hidden"]
    constant: Float[Array, " learned"]

    def __call__(self, x: Float[Array, " input"]) -> Float[Array, " learned"]:
        """Return the learned flows."""
        return self.outer @ jnp.tanh(self.inner @ x + self.shift) + self.constant


class Parameters(eqx.Module):
    """What is learned from a cohort: the network, the observation map with its offset, and log σ by output."""

    network: Network
    coefficients: Float[Array, "output state_and_one"]
    log_noise: Float[Array, " output"]


class Panel(eqx.Module):
    """Measurements of patients at times 0, 1, 2, …, standardised, with what drives each patient.

    ``inputs`` is any tree of arrays with a leading patient axis; values that were not observed count for nothing.
    """

    values: Float[Array, "patient time output"]
    observed: Bool[Array, "patient time output"]
    inputs: Any

    def take(self, index: Any) -> "Panel":
        """Return the chosen patients."""
        return jax.tree.map(lambda a: a[index], self)


class Fit(eqx.Module):
    """A fitted structure, and the log posterior density along the search."""

    structure: Structure
    parameters: Parameters
    effects: Float[Array, "patient state"]
    path: Float[np.ndarray, " step"]


def initial_states(structure: Structure, effects: Float[Array, " state"]) -> Float[Array, " state"]:
    """Return the states at time 0 of standard normal effects."""
    if structure.start == "exponential":
        return -structure.scale * jax.scipy.special.log_ndtr(-effects)
    return structure.scale * effects


def follow(
    structure: Structure, network: Network, effects: Float[Array, " state"], inputs: Any, times: int
) -> Float[Array, "time state"]:
    """Return a patient's states at times 0, 1, …, by Runge and Kutta's method of order 4.

    Inputs may jump at whole times: no step reaches across one.
    """
    h = 1.0 / structure.substeps

    def slope(t: Array, x: Array) -> Array:
        learned = network(jnp.concatenate([x, structure.signal(t, inputs)])) if structure.learned else jnp.zeros(0)
        if structure.flow is None:
            return learned
        held = jnp.clip(x[: structure.known], -structure.ceiling, structure.ceiling)
        known = structure.flow(t, held, inputs)
        if structure.residual:
            own = RESIDUAL * held * jnp.tanh(learned[: structure.known])
            return jnp.concatenate([known + own, learned[structure.known :]])
        return jnp.concatenate([known, learned])

    def step(x: Array, t: Array) -> tuple[Array, None]:
        first = slope(t, x)
        second = slope(t + h / 2, x + h / 2 * first)
        third = slope(t + h / 2, x + h / 2 * second)
        # the end of a step belongs to it, not to what begins there
        last = slope(t + h * (1 - 1e-9), x + h * third)
        return x + h / 6 * (first + 2 * second + 2 * third + last), None

    def unit(x: Array, t: Array) -> tuple[Array, Array]:
        x, _ = jax.lax.scan(step, x, t + h * jnp.arange(structure.substeps))
        return x, x

    start = initial_states(structure, effects)
    _, rest = jax.lax.scan(unit, start, jnp.arange(times - 1.0))
    return jnp.concatenate([start[None], rest])


def expected(parameters: Parameters, states: Float[Array, "*batch state"]) -> Float[Array, "*batch output"]:
    """Return what is expected to be measured of states."""
    return states @ parameters.coefficients[:, :-1].T + parameters.coefficients[:, -1]


def log_likelihood(
    parameters: Parameters,
    mean: Float[Array, "time output"],
    values: Float[Array, "time output"],
    observed: Bool[Array, "time output"],
) -> Float[Array, ""]:
    """Return the log density of one patient's measurements."""
    gap = (values - mean) / jnp.exp(parameters.log_noise)
    return jnp.where(observed, -0.5 * gap**2 - parameters.log_noise - 0.5 * jnp.log(2 * jnp.pi), 0.0).sum()


def log_prior(parameters: Parameters) -> Float[Array, ""]:
    """Return the log density of the priors, up to a constant."""
    weights = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(parameters.network)])
    noise = (parameters.log_noise - NOISE_MEAN) / NOISE_SD
    scaled = parameters.coefficients[:, :-1] / COEFFICIENT_SD
    return -0.5 * (jnp.sum(weights**2) + jnp.sum(noise**2) + jnp.sum(scaled**2))


def fit_latent_dynamics(structure: Structure, panel: Panel, *, key: Array, steps: int = 1500) -> Fit:
    """Estimate network, observation map, noise and the patients' starts at the maximum of the posterior density.

    By Adam with a decaying rate, from random weights; the result depends on the key where the density has several
    maxima.

    Raises
    ------
    FitError
        If nothing was observed.
    ConvergenceError
        If the density is not a number, or still rises at the end.
    """
    if not bool(panel.observed.any()):
        raise FitError("nothing was observed to learn the dynamics from", do="give measurements")
    start = _start(structure, panel, key)
    (parameters, effects), climbed = _climb(structure, panel, start, steps)
    path = np.asarray(climbed)
    if not np.isfinite(path[-1]):
        raise ConvergenceError("the posterior density of latent dynamics is not a number", do="try another key")
    gain, allowed = path[-1] - path[-max(2, steps // 10)], SETTLED * float(panel.observed.sum())
    if gain > allowed:
        raise ConvergenceError(
            f"latent dynamics still gain {gain:.3g} in log density at the end of {steps} steps",
            where=f"{allowed:.3g} are allowed",
            do="allow more steps",
        )
    return Fit(structure, parameters, effects, path)


def _start(structure: Structure, panel: Panel, key: Array) -> tuple[Parameters, Array]:
    """Return random weights, a small observation map, and starts in the middle of their prior."""
    keys = jax.random.split(key, 4)
    width, outputs = structure.states + structure.signals, panel.values.shape[-1]
    corrects = (jnp.arange(structure.learned) < structure.known * structure.residual)[:, None]
    network = Network(
        0.5 * jax.random.normal(keys[0], (structure.hidden, width)),
        jnp.zeros(structure.hidden),
        # corrections begin near nothing: known equations may amplify what they are given
        jnp.where(corrects, 0.02, 0.5) * jax.random.normal(keys[1], (structure.learned, structure.hidden)),
        jnp.zeros(structure.learned),
    )
    coefficients = 0.1 * jax.random.normal(keys[2], (outputs, structure.states + 1))
    effects = 0.1 * jax.random.normal(keys[3], (len(panel.values), structure.states))
    return Parameters(network, coefficients, jnp.full(outputs, NOISE_MEAN)), effects


@eqx.filter_jit
def _climb(
    structure: Structure, panel: Panel, start: tuple[Parameters, Array], steps: int
) -> tuple[tuple[Parameters, Array], Array]:
    times = panel.values.shape[1]

    def loss(both: tuple[Parameters, Array]) -> Array:
        parameters, effects = both

        def patient(u: Array, one: Panel) -> Array:
            mean = expected(parameters, follow(structure, parameters.network, u, one.inputs, times))
            return log_likelihood(parameters, mean, one.values, one.observed) - 0.5 * jnp.sum(u**2)

        return -jax.vmap(patient)(effects, panel).sum() - log_prior(parameters)

    optimiser = optax.adam(optax.cosine_decay_schedule(RATE, steps, 0.02))

    def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], Array]:
        both, state = carry
        value, gradient = jax.value_and_grad(loss)(both)
        update, state = optimiser.update(gradient, state, both)
        return (optax.apply_updates(both, update), state), -value

    (both, _), path = jax.lax.scan(step, (start, optimiser.init(start)), None, length=steps)
    return both, path
