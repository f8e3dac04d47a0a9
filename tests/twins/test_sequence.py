"""The sequence twin's filter against plain normal algebra, what it learns of known patients, and what it refuses."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from neural_patients import courses, crps

from trialtwin.core.errors import ConfigError
from trialtwin.core.treatment import NoTreatment
from trialtwin.twins.baseline import Baseline
from trialtwin.twins.panel import Panel
from trialtwin.twins.sequence import Sequence
from trialtwin.twins.sequence_filter import Law, backward, filtered, law, log_density, start_net

KEY = jax.random.key(3)
TIMES = np.array([0.0, 0.1, 0.1, 0.45, 0.5, 1.3])
SEEN = np.array([[1, 1], [0, 1], [1, 0], [0, 0], [1, 1], [0, 0]], dtype=float)


def patient_law() -> Law:
    rng = np.random.default_rng(4)
    functions = Law(
        mean=rng.normal(size=(6, 2)),
        noise=np.exp(rng.normal(-1, 0.3, (6, 2))),
        loading=rng.normal(size=(2, 4)),
        rate=np.array([0.02, -0.7, 3.0, 0.0]),
        start=np.array([1.0, 0.3, 0.2, 0.5]),
        drive=np.array([0.1, 0.2, 2.0, 0.4]),
    )
    return Law(*map(jnp.asarray, functions))


def dense(at: Law, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return covariance of the states at all times, and the read-out, from the integral of the equation."""
    p, q, rate, loading = (np.asarray(a) for a in (at.start, at.drive, at.rate, at.loading))
    early = np.minimum.outer(times, times)
    total = np.add.outer(times, times)
    blocks = []
    for j in range(len(p)):
        slow = abs(rate[j]) < 1e-9
        drawn = q[j] * (early if slow else (np.exp(2 * rate[j] * early) - 1) / (2 * rate[j]))
        blocks.append(np.exp(-rate[j] * total) * (p[j] + drawn))
    K = np.zeros((len(times), len(p), len(times), len(p)))
    for j, block in enumerate(blocks):
        K[:, j, :, j] = block
    H = np.kron(np.eye(len(times)), loading)
    return K.reshape(len(times) * len(p), -1), H


def test_independent_the_filter_has_the_density_of_the_joint_normal_law() -> None:
    at, y = patient_law(), np.random.default_rng(5).normal(size=(6, 2))
    K, H = dense(at, TIMES)
    seen = SEEN.ravel() > 0
    V = (H @ K @ H.T + np.diag(np.asarray(at.noise).ravel() ** 2))[np.ix_(seen, seen)]
    r = (y - np.asarray(at.mean)).ravel()[seen]
    wanted = -0.5 * (r @ np.linalg.solve(V, r) + np.linalg.slogdet(V)[1] + len(r) * np.log(2 * np.pi))
    _, found = filtered(at, jnp.asarray(TIMES), jnp.asarray(np.where(SEEN > 0, y, 0.0)), jnp.asarray(SEEN))
    assert float(found) == pytest.approx(wanted, rel=1e-10)


def test_independent_smoother_and_draws_have_the_conditional_law() -> None:
    """Mean to 1e-7; the covariance of 40,000 draws within 5 standard errors of each element."""
    at, y = patient_law(), np.random.default_rng(5).normal(size=(6, 2))
    K, H = dense(at, TIMES)
    seen = SEEN.ravel() > 0
    V = (H @ K @ H.T + np.diag(np.asarray(at.noise).ravel() ** 2))[np.ix_(seen, seen)]
    gain = np.linalg.solve(V, (H @ K)[seen]).T
    mean = gain @ (y - np.asarray(at.mean)).ravel()[seen]
    left = K - gain @ (H @ K)[seen]
    known, _ = filtered(at, jnp.asarray(TIMES), jnp.asarray(np.where(SEEN > 0, y, 0.0)), jnp.asarray(SEEN))
    n = 40_000
    found, drawn = backward(known, jax.random.normal(KEY, (n, 6, 4)))
    np.testing.assert_allclose(np.asarray(found).ravel(), mean, atol=1e-7)
    sample = np.asarray(drawn).reshape(n, -1)
    sd = np.sqrt(np.maximum(np.diag(left), 1e-12))
    error = np.sqrt((np.outer(sd, sd) ** 2 + left**2) / n)
    assert (np.abs(np.cov(sample.T) - left) < 5 * error + 1e-8).all()
    assert (np.abs(sample.mean(axis=0) - mean) < 5 * sd / np.sqrt(n) + 1e-6).all()


def unit() -> tuple[object, Panel]:
    """Return a unit with random weights and one patient of five visits."""
    rng = np.random.default_rng(9)
    net = start_net(KEY, 3, 2, 2, states=4, width=5)
    net = jax.tree.map(lambda a: a + jnp.asarray(rng.normal(0, 0.3, a.shape)), net)
    times = np.sort(rng.random((1, 5)), axis=1)
    phi = np.stack([np.ones_like(times), times], axis=-1)
    rows = (rng.normal(size=(1, 3)), phi, times, rng.normal(size=(1, 5, 2)), np.ones((1, 5, 2)))
    return net, Panel(*map(jnp.asarray, rows))


def test_the_order_in_which_visits_are_written_changes_nothing() -> None:
    net, panel = unit()
    turned = Panel(panel.x, *(a[:, ::-1] for a in panel[1:]))
    assert float(log_density(net, panel)[0]) == pytest.approx(float(log_density(net, turned)[0]), rel=1e-12)


def test_the_next_visit_is_foretold_by_the_chain_rule() -> None:
    """The gain log p(y₁…y₅) − log p(y₁…y₄) is the log density of y₅ under the law that the filter foretells."""
    net, panel = unit()
    fewer = panel._replace(weight=panel.weight.at[:, -1].set(0.0))
    gained = float(log_density(net, panel)[0] - log_density(net, fewer)[0])
    row: Panel = jax.tree.map(lambda a: a[0], panel)
    at = law(net, row.x, row.phi)
    known, _ = filtered(at, row.times, row.values, row.weight.at[-1].set(0.0))
    centre = at.mean[-1] + at.loading @ known.foretold[-1]
    V = at.loading @ known.foretold_spread[-1] @ at.loading.T + jnp.diag(at.noise[-1] ** 2)
    wanted = jax.scipy.stats.multivariate_normal.logpdf(row.values[-1], centre, V)
    assert gained == pytest.approx(float(wanted), rel=1e-9)


@pytest.fixture(scope="module")
def bimodal() -> Array:
    """Return the CRPS after day 400 of sequence and baseline twins, and of the sequence twin at entry."""
    training, others = courses(240, seed=1, kind="bimodal"), courses(200, seed=2, kind="bimodal")
    found = []
    for model, day in ((Sequence(), 400.0), (Baseline(), 400.0), (Sequence(), 0.0)):
        course = model.fit(training, key=KEY).predict(
            others.until(day), NoTreatment(), others.times, draws=200, key=KEY
        )
        found.append(crps(course, others, 400.0))
    return np.array(found)


def test_it_learns_from_the_history_of_both_outcomes(bimodal: np.ndarray) -> None:
    """Far better after two visits; the second outcome, a noisy copy of the first, better than from its own alone."""
    assert (bimodal[0] < 0.85 * bimodal[2]).all(), bimodal
    assert bimodal[0, 1] < 0.93 * bimodal[1, 1], bimodal


def test_law_intervals_hold_future_measurements() -> None:
    """80 % intervals of 200 unseen patients after day 200: coverage within 6 points (SE about 1.7)."""
    training, others = courses(240, seed=1), courses(200, seed=2)
    twin = Sequence().fit(training, key=KEY)
    course = twin.predict(others.until(200.0), NoTreatment(), others.times, draws=400, key=KEY)
    low, high = np.quantile(course.values, [0.1, 0.9], axis=0)
    ahead = others.observed & (others.times > 201.0)[..., None]
    inside = ((others.values >= low) & (others.values <= high))[ahead]
    assert abs(inside.mean() - 0.8) < 0.06, inside.mean()


def test_a_binary_outcome_is_drawn_as_0_or_1_and_expected_as_its_probability() -> None:
    training, others = courses(200, seed=1, kind="event"), courses(200, seed=2, kind="event")
    twin = Sequence().fit(training, key=KEY)
    course = twin.predict(others.until(0.0), NoTreatment(), others.times, draws=200, key=KEY)
    assert set(np.unique(course.values[..., 1])) == {0.0, 1.0}
    chance = course.expected[..., 1]
    assert chance.min() >= 0
    assert chance.max() <= 1
    ahead = others.observed[..., 1] & (others.times > 1.0)
    event, foretold = others.values[..., 1][ahead], chance[ahead]
    assert np.mean((event - foretold) ** 2) < 0.9 * event.var()
    assert abs(event.mean() - foretold.mean()) < 0.06


def test_a_day_between_visits_is_held_by_both() -> None:
    """Known up to day 1000, day 500 is told more narrowly than the end of the same patients known to day 400."""
    training, others = courses(120, seed=1, kind="bimodal"), courses(30, seed=2, kind="bimodal")
    twin = Sequence().fit(training, key=KEY)
    ask = np.array([500.0, 900.0])
    widths = [
        twin.predict(others.until(day), NoTreatment(), ask, draws=300, key=KEY).values.std(axis=0).mean(axis=0)
        for day in (400.0, 1020.0)
    ]
    assert (widths[1] < widths[0]).all()


@pytest.mark.parametrize("change", [{"states": 0}, {"width": 0}, {"members": 1}])
def test_a_number_out_of_range_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least one state, width 1 and two members"):
        replace(Sequence(), **change)
