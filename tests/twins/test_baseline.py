"""The baseline twin against the same model written out as one dense Gaussian over everybody's measurements."""

from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import FitError
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.variables import Variable
from trialtwin.twins.baseline import (
    COMPONENTS,
    PRIOR_MEAN,
    PRIOR_SD,
    Baseline,
    BaselineTwin,
    _negative_log_evidence,
)
from trialtwin.twins.mixed_effects import posterior_coefficients

KEY = jax.random.key(3)
DAYS = np.array([0.0, 84.0, 168.0])


def cohort(seed: int, patients: int, prefix: str, gaps: float = 0.2) -> Cohort:
    """Return patients with two covariates, times that differ between patients, and gaps."""
    rng = np.random.default_rng(seed)
    x = rng.normal([70.0, 25.0], [8.0, 4.0], (patients, 2))
    times = DAYS + np.where(DAYS > 0, rng.normal(0, 5, (patients, 3)), 0.0)
    s = times / 168
    level = 20 + 3 * rng.normal(size=(patients, 1)) + 0.15 * (x[:, :1] - 70)
    slope = 2 + 1.5 * rng.normal(size=(patients, 1)) + 0.2 * (x[:, 1:] - 25)
    y = level + slope * s + 1.5 * rng.normal(size=times.shape)
    y[rng.random(y.shape) < gaps] = np.nan
    values = y[..., None]
    return Cohort(
        ids=tuple(f"{prefix}{i}" for i in range(patients)),
        variables=(Variable("AGE"), Variable("BMI")),
        covariates=x,
        outcomes=(Variable("Y"),),
        visits=("Baseline", "Week 12", "Week 24"),
        nominal=DAYS,
        times=times,
        values=values,
        observed=np.isfinite(values),
        treatments=("placebo",),
        received=np.zeros(patients, dtype=np.int64),
    )


TRAINING, NEW = cohort(1, 20, "T"), cohort(2, 5, "N")


@pytest.fixture(scope="module")
def twin() -> BaselineTwin:
    return Baseline().fit(TRAINING, key=KEY)


@dataclass(frozen=True)
class Dense:
    """Measurements of many patients as one Gaussian vector, everything standardised as the twin did."""

    patient: np.ndarray
    s: np.ndarray
    x: np.ndarray
    y: np.ndarray
    components: np.ndarray

    def prior(self) -> np.ndarray:
        """Return the prior covariance of (β, Γ level, Γ slope)."""
        p = self.x.shape[1]
        level, slope = np.exp(2 * self.components[:2])
        return np.diag([100.0] * 3 + [level] * p + [slope] * p)

    def design(self) -> np.ndarray:
        """Return one row a measurement."""
        s = self.s[:, None]
        return np.hstack([s**0, s, s**2, self.x, s * self.x])

    def own(self) -> np.ndarray:
        """Return the covariance that patients' own effects and the error make, between all pairs of measurements."""
        a, b, r = np.exp(self.components[2]), np.exp(self.components[3]), np.tanh(self.components[4])
        pairs = a**2 + r * a * b * (self.s[:, None] + self.s) + b**2 * np.outer(self.s, self.s)
        same = self.patient[:, None] == self.patient
        return np.where(same, pairs, 0.0) + np.exp(2 * self.components[5]) * np.eye(len(self.s))


def dense(twin: BaselineTwin, patients: Cohort, components: np.ndarray) -> Dense:
    """Flatten what was measured of a cohort, standardised by hand."""
    seen = TRAINING.values[..., 0][TRAINING.observed[..., 0]]
    x = (patients.covariates - TRAINING.covariates.mean(0)) / TRAINING.covariates.std(0)
    i, v = np.nonzero(patients.observed[..., 0])
    y = (patients.values[i, v, 0] - seen.mean()) / seen.std()
    return Dense(i, patients.times[i, v] / twin.curves[0].horizon, x[i], y, components)


ASKED = [PRIOR_MEAN, np.array([-0.5, -2.0, 0.2, -0.3, 0.6, -1.5]), np.array([-2.5, -0.2, -1.5, 0.4, -1.2, -0.2])]


@pytest.mark.parametrize("components", ASKED, ids=["prior means", "correlated", "anticorrelated"])
def test_independent_evidence_and_coefficients(twin: BaselineTwin, components: np.ndarray) -> None:
    """Evidence by scipy's multivariate normal; posterior mean and covariance by conditioning: to 1e-8."""
    told = dense(twin, TRAINING, components)
    D, P = told.design(), told.prior()
    covariance = D @ P @ D.T + told.own()
    evidence = stats.multivariate_normal(np.zeros(len(told.y)), covariance).logpdf(told.y)
    gain = P @ D.T @ np.linalg.inv(covariance)
    mean, root, found = posterior_coefficients(jnp.asarray(components), twin.curves[0].records)
    assert float(found) == pytest.approx(evidence, rel=1e-8)
    np.testing.assert_allclose(mean, gain @ told.y, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(np.linalg.inv(root @ root.T), P - gain @ D @ P, rtol=1e-8, atol=1e-8)


def test_independent_gradient_of_the_evidence(twin: BaselineTwin) -> None:
    records, at, h = twin.curves[0].records, ASKED[1], 1e-4
    _, gradient = _negative_log_evidence(jnp.asarray(at), records)
    prior = (at - PRIOR_MEAN) / PRIOR_SD**2

    def evidence(c: np.ndarray) -> float:
        told = dense(twin, TRAINING, c)
        covariance = told.design() @ told.prior() @ told.design().T + told.own()
        return float(stats.multivariate_normal(np.zeros(len(told.y)), covariance).logpdf(told.y))

    differences = [(evidence(at + h * e) - evidence(at - h * e)) / (2 * h) for e in np.eye(6)]
    np.testing.assert_allclose(gradient, prior - differences, rtol=1e-5, atol=1e-5)


def test_the_components_are_at_the_maximum(twin: BaselineTwin) -> None:
    """The gradient vanishes in units of the posterior spread, and the covariance is positive definite."""
    curve = twin.curves[0]
    _, gradient = _negative_log_evidence(jnp.asarray(curve.components), curve.records)
    assert 0.5 * np.asarray(gradient) @ curve.covariance @ np.asarray(gradient) < 1e-4
    assert np.linalg.eigvalsh(curve.covariance).min() > 0


def _prediction(twin: BaselineTwin, patients: Cohort, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of what would be measured of all patients at given days, by conditioning alone.

    Coefficients are those of the training cohort; a patient's history informs that patient's effects.
    """
    components = twin.curves[0].components
    told = dense(twin, TRAINING, components)
    D, P = told.design(), told.prior()
    gain = P @ D.T @ np.linalg.inv(D @ P @ D.T + told.own())
    coefficients, uncertain = gain @ told.y, P - gain @ D @ P
    known = dense(twin, patients, components)
    n, t = len(patients), len(at)
    x = (patients.covariates - TRAINING.covariates.mean(0)) / TRAINING.covariates.std(0)
    future = Dense(
        np.repeat(np.arange(n), t),
        np.tile(at / twin.curves[0].horizon, n),
        np.repeat(x, t, axis=0),
        np.zeros(n * t),
        components,
    )
    both = Dense(
        np.r_[known.patient, future.patient],
        np.r_[known.s, future.s],
        np.vstack([known.x, future.x]),
        np.r_[known.y, future.y],
        components,
    )
    k = len(known.y)
    own = both.own()
    weights = own[k:, :k] @ np.linalg.inv(own[:k, :k])
    response = future.design() - weights @ known.design()
    mean = future.design() @ coefficients + weights @ (known.y - known.design() @ coefficients)
    covariance = own[k:, k:] - weights @ own[:k, k:] + response @ uncertain @ response.T
    seen = TRAINING.values[..., 0][TRAINING.observed[..., 0]]
    return seen.mean() + seen.std() * mean, seen.var() * covariance


AT = np.array([0.0, 100.0, 168.0, 200.0])
DRAWS = 16_000


@pytest.mark.parametrize("day", [-1.0, 0.0, 120.0], ids=["no history", "baseline", "two visits"])
def test_independent_expectation(twin: BaselineTwin, day: float) -> None:
    """Of unseen patients with no, some and more history, gaps among them: to 1e-8."""
    known = NEW.until(day)
    mean, _ = _prediction(twin, known, AT)
    found = twin.predict(known, NoTreatment(), AT, draws=DRAWS, key=KEY).expected[..., 0]
    np.testing.assert_allclose(found, mean.reshape(5, 4), rtol=1e-8)


def test_independent_spread_of_draws(twin: BaselineTwin) -> None:
    """With the components held, the covariance of 16,000 draws is the dense one, between patients too.

    Within 5 standard errors of a covariance, √((σᵢᵢ σⱼⱼ + σᵢⱼ²)/16,000).
    """
    curve = eqx.tree_at(lambda c: c.covariance, twin.curves[0], 1e-18 * np.eye(6))
    held = eqx.tree_at(lambda t: t.curves, twin, (curve,))
    known, draws = NEW.until(0.0), DRAWS
    mean, covariance = _prediction(twin, known, AT)
    sample = held.predict(known, NoTreatment(), AT, draws=draws, key=KEY).values.reshape(draws, -1)
    variance = np.diag(covariance)
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / draws)
    assert (np.abs(np.cov(sample.T) - covariance) < 5 * error).all()
    assert (np.abs(sample.mean(axis=0) - mean) < 5 * np.sqrt(variance / draws)).all()
    assert np.abs(covariance[:4, 4:8]).max() > 10 * error.min()


def test_draws_carry_the_uncertainty_of_the_components(twin: BaselineTwin) -> None:
    """Between 16 draws of the components the spread of patients differs, which it does not where they are held."""
    known = NEW.until(-1.0)
    values = twin.predict(known, NoTreatment(), AT, draws=DRAWS, key=KEY).values
    by_component = values.reshape(16, DRAWS // 16, -1).std(axis=1).mean(axis=1)
    assert by_component.std() / by_component.mean() > 0.05


def test_components_are_recovered() -> None:
    """From 320 patients each component lies within 4 posterior SDs of the truth that they were simulated with.

    Truth in units of the outcome: level SD 3, slope SD 1.5, error SD 1.5, no correlation.
    """
    many = Baseline().fit(cohort(9, 320, "M", gaps=0.05), key=KEY)
    curve = many.curves[0]
    scale = np.log(curve.scale)
    stretch = curve.horizon / 168
    truth = np.array([np.log(3.0) - scale, np.log(1.5 * stretch) - scale, 0.0, np.log(1.5) - scale])
    found, sd = curve.components[2:], np.sqrt(np.diag(curve.covariance))[2:]
    assert (np.abs(found - truth) < 4 * sd).all(), (found, truth, sd)
    assert sd.max() < 0.35


def test_a_bare_cohort_needs_no_covariates() -> None:
    bare = replace(TRAINING, variables=(), covariates=np.zeros((20, 0)))
    fitted = Baseline().fit(bare, key=KEY)
    assert fitted.encoder.names == ()
    assert fitted.curves[0].records.covariates.shape[1] == 0


def test_an_outcome_without_follow_up_is_a_covariate_and_not_forecast() -> None:
    only_baseline = np.where(np.arange(3)[None, :] == 0, NEW.values.mean(where=NEW.observed) + TRAINING.times, np.nan)
    values = np.concatenate([TRAINING.values, only_baseline[..., None]], axis=-1)
    values[:, 0, 1] += np.arange(20)
    two = replace(TRAINING, outcomes=(Variable("Y"), Variable("W")), values=values, observed=np.isfinite(values))
    fitted = Baseline().fit(two, key=KEY)
    assert [curve.variable.name for curve in fitted.curves] == ["Y"]
    assert fitted.encoder.names == ("AGE", "BMI", "W")


def test_a_planned_visit_that_nobody_had_changes_nothing() -> None:
    """Time is counted in units of the last measurement, whatever was planned after it."""
    values = np.where(np.arange(3)[:, None] < 2, TRAINING.values, np.nan)
    short = replace(TRAINING, values=values, observed=np.isfinite(values))
    planned = replace(short, times=np.where(np.arange(3) < 2, TRAINING.times, 3650.0))
    found, wanted = (Baseline().fit(cohort, key=KEY).curves[0] for cohort in (planned, short))
    assert found.horizon == wanted.horizon == TRAINING.times[:, 1][TRAINING.observed[:, 1, 0]].max()
    np.testing.assert_allclose(found.components, wanted.components, rtol=1e-9)
    known = NEW.until(0.0)
    forecasts = [
        Baseline().fit(cohort, key=KEY).predict(known, NoTreatment(), AT, draws=DRAWS, key=KEY).expected
        for cohort in (planned, short)
    ]
    np.testing.assert_allclose(*forecasts, rtol=1e-9)


@pytest.mark.parametrize("level", [0.0, 7.0, 1000.0])
def test_an_outcome_that_is_the_same_for_all_is_refused_by_name(level: float) -> None:
    """Its error would be fitted as small as the search happens to go."""
    flat = np.where(TRAINING.observed, level, np.nan)
    with pytest.raises(FitError, match=f"outcome Y is {level:g} for all patients"):
        Baseline().fit(replace(TRAINING, values=flat), key=KEY)


def test_too_few_patients_after_baseline_is_an_error() -> None:
    few = np.where((np.arange(20) < 3)[:, None, None] | (np.arange(3) == 0)[None, :, None], TRAINING.values, np.nan)
    with pytest.raises(FitError, match="at least four patients"):
        Baseline().fit(replace(TRAINING, values=few, observed=np.isfinite(few)), key=KEY)


def test_what_was_learned_is_told(twin: BaselineTwin) -> None:
    curve = twin.curves[0]
    assert [one.name for one in twin.learned] == [f"Y: {c}" for c in COMPONENTS]
    np.testing.assert_array_equal([one.value for one in twin.learned], curve.components)
    np.testing.assert_allclose([one.sd for one in twin.learned], np.sqrt(np.diag(curve.covariance)))
    assert [(one.prior_mean, one.prior_sd) for one in twin.learned] == list(zip(PRIOR_MEAN, PRIOR_SD, strict=True))
    assert twin.learned[-1].informed
