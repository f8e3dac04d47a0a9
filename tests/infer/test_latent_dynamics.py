"""Known equations with learned states beside them: the solver, what is recovered, and how well forecasts cover."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.integrate import solve_ivp

from trialtwin.core.errors import ConfigError, ConvergenceError, FitError
from trialtwin.infer.latent_dynamics import (
    Fit,
    Network,
    Panel,
    Structure,
    fit_latent_dynamics,
    follow,
    initial_states,
)
from trialtwin.infer.latent_forecast import forecast_latent_dynamics

KEY = jax.random.key(4)
TIMES, SEEN, OUTPUTS = 9, 4, 6


def decay(t: Array, x: Array, inputs: Any) -> Array:
    """Return first-order loss, at a patient's own rate, of what is infused from time 2 on."""
    return inputs["dose"] * (t >= 2) - inputs["rate"] * x


KNOWN = Structure(decay, 1, 1, hidden=4, start="exponential", scale=1.0)


def simulate(patients: int, seed: int, *, hidden: float = 1.0) -> tuple[Panel, np.ndarray]:
    """Draw patients with one known state and one that accumulates its tanh, and return what is expected of them."""
    rng = np.random.default_rng(seed)
    inputs = {"dose": jnp.asarray(rng.uniform(0, 2, patients)), "rate": jnp.asarray(rng.uniform(0.3, 0.8, patients))}
    truth = Network(jnp.array([[1.0, 0.0]]), jnp.array([-0.5]), jnp.array([[hidden]]), jnp.zeros(1))
    effects = jnp.asarray(rng.normal(size=(patients, 2)))
    states = jax.vmap(lambda u, one: follow(KNOWN, truth, u, one, TIMES))(effects, inputs)
    weights = np.random.default_rng(99).normal(size=(OUTPUTS, 2))
    clean = np.asarray(states) @ weights.T
    observed = rng.random(clean.shape) < 0.6
    return Panel(jnp.asarray(clean + rng.normal(0, 0.3, clean.shape)), jnp.asarray(observed), inputs), clean


def until(panel: Panel, time: int) -> Panel:
    return Panel(panel.values[:, :time], panel.observed[:, :time], panel.inputs)


@pytest.fixture(scope="module")
def fitted() -> Fit:
    return fit_latent_dynamics(KNOWN, simulate(40, 0)[0], key=KEY, steps=800)


@pytest.mark.reference
def test_reference_courses_are_those_of_scipy() -> None:
    """SciPy's DOP853 from one whole time to the next, with an input that jumps at 2."""
    network = Network(jnp.array([[0.7, -0.4]]), jnp.array([0.1]), jnp.array([[0.8]]), jnp.array([0.05]))
    inputs = {"dose": jnp.asarray(1.5), "rate": jnp.asarray(0.6)}
    effects = jnp.array([0.3, -0.7])
    ours = np.asarray(follow(KNOWN, network, effects, inputs, TIMES))
    state = np.asarray(initial_states(KNOWN, effects))
    for whole in range(TIMES - 1):

        def slope(t: float, y: np.ndarray, whole: int = whole) -> list[float]:
            drug = 1.5 * (whole >= 2) - 0.6 * y[0]
            return [drug, 0.8 * np.tanh(0.7 * y[0] - 0.4 * y[1] + 0.1) + 0.05]

        state = solve_ivp(slope, (whole, whole + 1), state, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
        np.testing.assert_allclose(ours[whole + 1], state, rtol=2e-5)


def test_starts_have_the_law_that_is_declared() -> None:
    effects = jnp.asarray(np.random.default_rng(0).normal(size=(4000, 2)))
    starts = np.asarray(jax.vmap(lambda u: initial_states(KNOWN, u))(effects))
    assert starts.min() > 0
    assert abs(starts.mean() - 1) < 0.05
    assert abs(starts.std() - 1) < 0.08


def test_a_hidden_state_that_is_there_is_learned(fitted: Fit) -> None:
    """Forecasts of unseen patients miss the truth by less than the noise, and less than without the learned state."""
    panel, clean = simulate(60, 1)
    alone = fit_latent_dynamics(
        Structure(decay, 1, 0, start="exponential", scale=1.0), simulate(40, 0)[0], key=KEY, steps=800
    )
    off = []
    for fit in (fitted, alone):
        found = forecast_latent_dynamics(fit, until(panel, SEEN), times=TIMES, draws=64, key=KEY)
        off.append(np.sqrt(np.mean((found.expected[:, SEEN:] - clean[:, SEEN:]) ** 2)))
    assert off[0] < 0.5 * off[1], off


@pytest.mark.law
def test_law_intervals_of_forecasts_cover(fitted: Fit) -> None:
    """90 % intervals of 80 unseen patients; patients are clusters, and weights and map are held fixed: 3 SE and 3 %."""
    panel, _ = simulate(80, 2)
    found = forecast_latent_dynamics(fitted, until(panel, SEEN), times=TIMES, draws=400, key=KEY)
    low, high = np.quantile(found.draws[:, :, SEEN:], (0.05, 0.95), axis=0)
    later = np.asarray(panel.values)[:, SEEN:]
    inside = ((low <= later) & (later <= high)).mean(axis=(1, 2))
    assert abs(inside.mean() - 0.9) < 3 * inside.std(ddof=1) / np.sqrt(80) + 0.03, inside.mean()


def test_what_is_not_known_yet_makes_no_difference_and_the_key_moves_draws_alone(fitted: Fit) -> None:
    panel, _ = simulate(5, 3)
    known = until(panel, SEEN)
    one = forecast_latent_dynamics(fitted, known, times=TIMES, draws=16, key=KEY)
    hidden = Panel(jnp.where(known.observed, known.values, 1e6), known.observed, known.inputs)
    other = forecast_latent_dynamics(fitted, hidden, times=TIMES, draws=16, key=jax.random.key(5))
    np.testing.assert_allclose(one.expected, other.expected, rtol=1e-10)
    assert (one.draws != other.draws).mean() > 0.9
    assert np.median(one.size) > 100


def test_a_correction_keeps_the_sign_of_a_known_state() -> None:
    corrected = Structure(decay, 1, 0, residual=True, start="exponential", scale=1.0)
    strong = Network(jnp.array([[3.0]]), jnp.zeros(1), jnp.array([[0.0]]), jnp.array([-9.0]))
    inputs = {"dose": jnp.asarray(0.0), "rate": jnp.asarray(0.3)}
    course = np.asarray(follow(corrected, strong, jnp.array([1.0]), inputs, TIMES))
    start = course[0, 0]
    assert (course > 0).all()
    assert course[-1, 0] == pytest.approx(start * np.exp(-(0.3 + 0.3) * (TIMES - 1)), rel=0.05)


def test_the_same_key_gives_the_same_fit() -> None:
    panel, _ = simulate(6, 4)
    fits = [fit_latent_dynamics(KNOWN, panel, key=KEY, steps=400) for _ in range(2)]
    for one, two in zip(jax.tree.leaves(fits[0].parameters), jax.tree.leaves(fits[1].parameters), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


def test_what_cannot_be_learned_is_refused() -> None:
    panel, _ = simulate(6, 4)
    with pytest.raises(FitError, match="nothing was observed"):
        fit_latent_dynamics(KNOWN, Panel(panel.values, jnp.zeros_like(panel.observed), panel.inputs), key=KEY)
    with pytest.raises(ConvergenceError, match="still gain"):
        fit_latent_dynamics(KNOWN, panel, key=KEY, steps=20)
    with pytest.raises(ConfigError, match="give equations of the known states"):
        Structure(None, 2, 1)
    with pytest.raises(ConfigError, match="0 known states, 0 learned"):
        Structure(None, 0, 0)
