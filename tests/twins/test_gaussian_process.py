"""The Gaussian-process twin against its law where it is known, one dense Gaussian, and scikit-learn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_courses import BETWEEN, DAYS, LEVEL, NOISE, SLOPE, YEAR, courses, oracle
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

from trialtwin.core.cohort import Cohort
from trialtwin.core.treatment import NoTreatment
from trialtwin.twins.baseline import Baseline
from trialtwin.twins.coregional import FLAT, Rows, conditional, layout, posterior, unpack
from trialtwin.twins.gaussian_process import GaussianProcess, GaussianProcessTwin

KEY = jax.random.key(5)
TRAINING, OTHERS = courses(1, 300, "T"), courses(2, 600, "N", gaps=0.0)
AT = DAYS[3:]


@pytest.fixture(scope="module")
def twin() -> GaussianProcessTwin:
    return GaussianProcess().fit(TRAINING, key=KEY)


def components(q: int, seed: int = 0) -> np.ndarray:
    _, mean, sd = zip(*layout(tuple("abc"[:q])), strict=True)
    return np.array(mean) + 0.5 * np.array(sd) * np.random.default_rng(seed).normal(size=len(mean))


def some_rows(q: int, patients: int = 4) -> Rows:
    rng = np.random.default_rng(7)
    times = np.sort(rng.uniform(0, 1, (patients, 3)), axis=1)
    weight = (rng.random((patients, 3, q)) < 0.7).astype(float)
    values = rng.normal(size=(patients, 3, q)) * weight
    return Rows(*(jnp.asarray(a) for a in (rng.normal(size=(patients, 2)), times, values, weight)))


def by_hand(c: np.ndarray, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return values and covariance of everybody's measurements, term by term from the definition."""
    q = rows.values.shape[-1]
    parts = unpack(jnp.asarray(c), q)
    tau, effects, wander, noise = (np.asarray(a) for a in (parts.tau, parts.effects, parts.wander, parts.noise))
    seen = [(i, v, k) for i, v, k in np.ndindex(rows.values.shape) if rows.weight[i, v, k] > 0]
    covariance = np.zeros((len(seen), len(seen)))
    for a, (i, v, k) in enumerate(seen):
        for b, (j, w, m) in enumerate(seen):
            s, u = float(rows.times[i, v]), float(rows.times[j, w])
            if k == m:
                inner = float(rows.covariates[i] @ rows.covariates[j])
                covariance[a, b] += FLAT**2 * (1 + s * u + s**2 * u**2)
                covariance[a, b] += tau[k, 0] ** 2 * inner + tau[k, 1] ** 2 * s * u * inner
            if i == j:
                d = np.sqrt(3) * abs(s - u) / float(parts.length)
                block = effects[2 * k : 2 * k + 2, 2 * m : 2 * m + 2]
                covariance[a, b] += np.array([1, s]) @ block @ np.array([1, u]) + wander[k, m] * (1 + d) * np.exp(-d)
            covariance[a, b] += noise[k] * (a == b)
    return np.array([float(rows.values[one]) for one in seen]), covariance


@pytest.mark.parametrize("q", [1, 2, 3])
def test_the_evidence_is_that_of_one_dense_gaussian(q: int) -> None:
    rows, c = some_rows(q), components(q)
    values, covariance = by_hand(c, rows)
    wanted = stats.multivariate_normal(np.zeros(len(values)), covariance).logpdf(values)
    np.testing.assert_allclose(float(posterior(jnp.asarray(c), rows)[2]), wanted, rtol=1e-9)


def test_one_patient_is_forecast_as_scikit_learn_does() -> None:
    """One outcome, no covariates and no mean: GaussianProcessRegressor with the same kernel."""
    c = components(1)
    c[-1] = 0.0  # level and slope independent: scikit-learn's kernels add up to no other
    parts = unpack(jnp.asarray(c), 1)
    level, slope = float(parts.effects[0, 0]), float(parts.effects[1, 1])
    kernel = ConstantKernel(level) + slope * DotProduct(sigma_0=1e-6)
    kernel += float(parts.wander[0, 0]) * Matern(float(parts.length), nu=1.5) + WhiteKernel(float(parts.noise[0]))
    s, y, u = np.array([0.0, 0.3, 0.7]), np.array([1.0, 0.2, -0.4]), np.array([0.5, 0.9, 1.4])
    regressor = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0).fit(s[:, None], y)
    mean, covariance = regressor.predict(u[:, None], return_cov=True)
    weight = jnp.ones((1, 3, 1))
    history = Rows(jnp.zeros((1, 0)), jnp.asarray(s[None]), jnp.asarray(y[None, :, None]), weight)
    found = conditional(jnp.asarray(c), jnp.zeros(3), history, jnp.asarray(u[None]))
    np.testing.assert_allclose(found.mean[0], mean, rtol=1e-7)
    np.testing.assert_allclose(found.covariance[0], covariance, rtol=1e-6, atol=1e-8)


def test_the_mean_moves_with_the_coefficients_as_is_said() -> None:
    c, rows, at = jnp.asarray(components(2)), some_rows(2), jnp.asarray(np.full((4, 2), [0.4, 1.2]))
    first = jnp.asarray(np.random.default_rng(1).normal(size=14))
    zero = conditional(c, jnp.zeros(14), rows, at)
    np.testing.assert_allclose(conditional(c, first, rows, at).mean, zero.mean + zero.response @ first, rtol=1e-9)


def log_score(values: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    return np.array(
        [stats.multivariate_normal(m, v).logpdf(y) for y, m, v in zip(values, mean, covariance, strict=True)]
    )


@pytest.mark.law
@pytest.mark.parametrize("day", [-1.0, 5.0, 200.0])
def test_it_forecasts_nearly_as_well_as_who_knows_the_law(twin: GaussianProcessTwin, day: float) -> None:
    """The joint log score of two visits of two outcomes is at most 0.1 below the law's; its coverage is nominal."""
    known, truth = OTHERS.until(day), OTHERS.values[:, 3:]
    course = twin.predict(known, NoTreatment(), AT, draws=800, key=KEY)
    drawn = course.values.reshape(800, 600, 4)
    covariance = np.stack([np.cov(drawn[:, i].T) for i in range(600)])
    own = log_score(truth.reshape(600, 4), course.expected.reshape(600, 4), covariance)
    mean, exact = oracle(known, AT)
    loss = log_score(truth.reshape(600, 4), mean.reshape(600, 4), exact) - own
    assert loss.mean() < 0.1, loss.mean()
    low, high = course.quantiles([0.05, 0.95])
    covered = ((truth >= low) & (truth <= high)).mean(axis=0)
    assert np.abs(covered - 0.9).max() < 3 * np.sqrt(2 * 0.09 / 600), covered


def test_the_law_is_recovered(twin: GaussianProcessTwin) -> None:
    """Level, slope and noise SDs in points and per year, and the correlation of the levels of 300 patients."""
    parts = unpack(jnp.asarray(twin.best.components), 2)
    scale, years = np.array(twin.scaling.scales), twin.scaling.horizon / YEAR
    sd = np.sqrt(np.diag(np.asarray(parts.effects))).reshape(2, 2)
    np.testing.assert_allclose(sd[:, 0] * scale, LEVEL, rtol=0.15)
    np.testing.assert_allclose(sd[:, 1] * scale / years, SLOPE, rtol=0.25)
    np.testing.assert_allclose(np.sqrt(parts.noise) * scale, NOISE, rtol=0.15)
    levels = float(parts.effects[0, 2]) / (sd[0, 0] * sd[1, 0])
    assert abs(levels - BETWEEN[0, 1]) < 0.12


def test_outcomes_inform_each_other_as_they_do_not_in_the_baseline_twin(twin: GaussianProcessTwin) -> None:
    """Of who shows outcome B alone, outcome A is forecast better than from the covariate."""
    values = np.array(OTHERS.values)
    values[..., 0] = np.nan
    hidden = replace(OTHERS, values=values, observed=np.isfinite(values))

    def error(one: GaussianProcessTwin, known: Cohort) -> float:
        expected = one.predict(known, NoTreatment(), AT, draws=1, key=KEY).expected
        return float(np.sqrt(((expected[..., 0] - OTHERS.values[:, 3:, 0]) ** 2).mean()))

    assert error(twin, hidden.until(200.0)) < 0.88 * error(twin, hidden.until(-1.0))
    baseline = Baseline().fit(TRAINING, key=KEY)
    courses_of = [
        baseline.predict(hidden.until(day), NoTreatment(), AT, draws=1, key=KEY).expected for day in (200.0, -1.0)
    ]
    np.testing.assert_allclose(courses_of[0][..., 0], courses_of[1][..., 0])


def test_it_keeps_no_patient(twin: GaussianProcessTwin) -> None:
    sizes = {size for leaf in jax.tree.leaves(twin) for size in np.shape(leaf)}
    assert 300 not in sizes
    assert 320 not in sizes
