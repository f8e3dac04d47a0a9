"""The hybrid twin: covariates steer as far as the evidence pays, and far from the data the mechanism forecasts."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from driven_patients import driven_patients
from scipy import stats

from trialtwin.core.cohort import Cohort
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.twin import AbstractTwin
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.twins.hybrid import Hybrid, HybridTwin
from trialtwin.twins.hybrid_network import Messages, learn_network, log_likelihood
from trialtwin.twins.mechanistic import Mechanistic

KEY = jax.random.key(9)
AT = np.array([0.0, 182.0, 364.0, 546.0])
DRIVE = 0.8


def ask(twin: AbstractTwin, patients: Cohort, draws: int = 64) -> Trajectories:
    return twin.predict(patients, NoTreatment(), AT, draws=draws, key=KEY)


@pytest.fixture(scope="module")
def training() -> Cohort:
    return driven_patients(64, 1, DRIVE)


@pytest.fixture(scope="module")
def others() -> Cohort:
    return driven_patients(64, 2, DRIVE, "N")


@pytest.fixture(scope="module")
def twin(training: Cohort) -> HybridTwin:
    return Hybrid(Alzheimer()).fit(training, key=KEY)


@pytest.fixture(scope="module")
def forecast(twin: HybridTwin, others: Cohort) -> Trajectories:
    return ask(twin, others.until(-1.0))


def messages(rng: np.random.Generator, effects: np.ndarray, information: float) -> Messages:
    """Return what one measurement of each effect says, its error variance 1 / information."""
    n, k = effects.shape
    seen = effects + rng.normal(size=effects.shape) / np.sqrt(information)
    return Messages(jnp.asarray(np.tile(information * np.eye(k), (n, 1, 1))), jnp.asarray(information * seen))


def test_effects_are_integrated_out_exactly() -> None:
    """Against the normal density of measurements: y = u + e has mean g and variance s² + 1/Λ."""
    rng = np.random.default_rng(0)
    x, seen = rng.normal(size=(40, 3)), rng.normal(size=(40, 1))
    flat = 0.2 * rng.normal(size=3 + 4 + 12 + 4)
    of = Messages(jnp.full((40, 1, 1), 2.0), jnp.asarray(2.0 * seen))
    linear, outer, inner, constant = flat[:3], flat[3:7], flat[7:19].reshape(4, 3), flat[19:]
    g = x @ linear + (np.tanh(x @ inner.T + constant) - np.tanh(constant)) @ outer
    left = 1 - np.mean(g**2)
    exact = stats.norm(g, np.sqrt(left + 0.5)).logpdf(seen[:, 0]) - stats.norm(0, np.sqrt(0.5)).logpdf(seen[:, 0])
    np.testing.assert_allclose(log_likelihood(jnp.asarray(flat), jnp.asarray(x), of), exact.sum(), rtol=1e-10)


def test_the_network_finds_lines_and_bends_and_says_how_sure_it_is() -> None:
    rng = np.random.default_rng(1)
    x, new = rng.normal(size=(500, 4)), rng.normal(size=(400, 4))

    def truth(rows: np.ndarray) -> np.ndarray:
        return np.column_stack([0.6 * rows[:, 0], 0.8 * np.tanh(2 * rows[:, 1])])

    effects = truth(x) + rng.normal(size=(500, 2)) * np.sqrt(1 - np.mean(truth(x) ** 2, axis=0))
    network = learn_network(messages(rng, effects, 4.0), x)
    error = network.shift(new) - truth(new)
    assert (np.sqrt(np.mean(error**2, axis=0)) < 0.3).all()
    assert network.tau[1, 1] > 0.1, "the hidden layer is not used"
    np.testing.assert_allclose(network.left, 1 - np.mean(truth(x) ** 2, axis=0), atol=0.12)
    ratio = np.mean(error**2 / network.doubt(new))
    assert 0.2 < ratio < 4.0


def test_an_effect_is_not_moved_by_more_than_it_varies() -> None:
    """Where each patient's measurements say little of an effect, and all of them that it varies by five SD."""
    x = np.random.default_rng(5).normal(size=(300, 3))
    information = np.diag([1.0, 0.02])
    score = np.column_stack([0.5 * x[:, 1], 5.0 * x[:, 0]]) @ information
    network = learn_network(Messages(jnp.asarray(np.tile(information, (300, 1, 1))), jnp.asarray(score)), x)
    shift = network.shift(x)
    size = np.mean(shift**2, axis=0)
    assert 0.9 < size[1] < 0.95 + 1e-9
    np.testing.assert_allclose(network.left, 1 - size, rtol=1e-9)
    assert np.corrcoef(shift[:, 1], x[:, 0])[0, 1] > 0.95


@pytest.mark.parametrize(("patients", "cohorts"), [(10, 20), (100, 2)])
def test_covariates_that_say_nothing_get_no_say(patients: int, cohorts: int) -> None:
    """On average over cohorts, what is said of new patients is small beside the unit variance of an effect."""
    said = []
    for seed in range(cohorts):
        rng = np.random.default_rng([2, seed])
        network = learn_network(messages(rng, rng.normal(size=(patients, 3)), 3.0), rng.normal(size=(patients, 5)))
        said.append(np.mean(network.shift(rng.normal(size=(200, 5))) ** 2))
    assert np.mean(said) < 0.08


def test_far_from_the_patients_learned_from_the_mechanism_forecasts(twin: HybridTwin, others: Cohort) -> None:
    far = replace(others, covariates=others.covariates + 30.0)
    assert (twin.handed_over(far) == 1.0).all()
    assert np.mean(twin.handed_over(others)) < 0.05
    for known in (far.until(-1.0), far.until(182.0)):
        hybrid, mechanism = ask(twin, known, 256), ask(twin.mechanism(), known, 256)
        np.testing.assert_allclose(hybrid.expected, mechanism.expected, rtol=1e-6)
        # draws differ in their random numbers only
        spread = np.mean(mechanism.values.std(axis=0), axis=0)
        np.testing.assert_allclose(np.mean(hybrid.values.std(axis=0), axis=0), spread, rtol=0.05)


def test_it_hands_over_smoothly_on_the_way_out(twin: HybridTwin, others: Cohort) -> None:
    one = others.take([0] * 1)
    steps = [replace(one, covariates=np.array([[d, 0.0, 0.0]])) for d in np.linspace(0.0, 12.0, 121)]
    weights = np.array([twin.handed_over(step)[0] for step in steps])
    assert weights[0] == 0.0
    assert weights[-1] == 1.0
    assert (np.diff(weights) >= 0).all()
    assert np.diff(weights).max() < 0.06


def test_a_marker_that_is_missing_makes_the_forecast_wider(twin: HybridTwin, others: Cohort) -> None:
    gone = replace(others, covariates=np.full_like(others.covariates, np.nan)).until(-1.0)
    known, unknown = ask(twin, others.until(-1.0)), ask(twin, gone)
    narrow, wide = (course.values[:, :, -1].std(axis=0).mean(axis=0) for course in (known, unknown))
    assert (narrow < 0.97 * wide).all()


def test_no_draw_leaves_a_scale(twin: HybridTwin, others: Cohort) -> None:
    """Of 1e5 draws none, from very ill patients too."""
    course = ask(twin, others.until(-1.0), draws=400)
    assert course.values.size >= 1e5
    assert (course.implausible() == 0).all()


def crps(course: Trajectories, truth: np.ndarray) -> np.ndarray:
    """Return the CRPS of the last visit's draws, by patient and outcome."""
    draws = np.sort(course.values[:, :, -1], axis=0)
    n = len(draws)
    weights = (2 * np.arange(1, n + 1) - n - 1)[:, None, None]
    return np.abs(draws - truth).mean(axis=0) - (weights * draws).sum(axis=0) / n**2


def gain(hybrid: AbstractTwin, mechanistic: AbstractTwin, others: Cohort) -> tuple[float, float]:
    """Return how much lower the hybrid's CRPS is, in SD of the outcome, and its standard error over patients."""
    truth, known = others.values[:, -1], others.until(-1.0)
    less = (crps(ask(mechanistic, known), truth) - crps(ask(hybrid, known), truth)) / truth.std(axis=0)
    each = less.mean(axis=1)
    return float(each.mean()), float(each.std() / np.sqrt(len(each)))


def test_it_beats_the_mechanism_where_markers_drive_patients(
    twin: HybridTwin, training: Cohort, others: Cohort
) -> None:
    less, error = gain(twin, Mechanistic(Alzheimer()).fit(training, key=KEY), others)
    assert less > 2 * error
    assert any(1 - left > 0.2 for left in twin.steering.network.left)
