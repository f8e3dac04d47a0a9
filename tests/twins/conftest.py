"""Patients simulated from the Alzheimer model by a program of their own, and a treatment to give them."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from plain_treatment import PlainTreatment
from scipy.special import expit

from trialtwin.core.cohort import Cohort
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.variables import Kind, Variable
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.twins.course import Instrument

DAYS = np.array([0.0, 182.0, 364.0, 546.0])
PATIENTS = 32
type Simulate = Callable[..., Cohort]


@pytest.fixture(scope="session")
def instrument() -> Instrument:
    """Return the disease with the two scales that all tests use, so that it compiles once."""
    return Instrument(Alzheimer(), ("CDR-SB", "MMSE"))


def derivative(y: np.ndarray, rate: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return the untreated course's derivative, per year, with a leading patient axis."""
    A, X, T, _ = y.T
    bracket = 0.93 * (1 - 0.77 * T)
    return np.column_stack(
        [
            0.55 + 0.195 * A * (1 - A / K),
            4.0 * (A / 90.0 - X),
            0.25 * (0.6 + 0.4 * X) * T * (1 - T),
            0.307 * rate * (T / 0.35) ** 0.87 * (1 - bracket + bracket * X),
        ]
    )


def simulated(seed: int, population: Mapping[str, float], prefix: str = "S") -> Cohort:
    """Return 32 untreated patients: equations, correlations, scales and errors written here a second time."""
    rng = np.random.default_rng(seed)
    p = population
    age, woman = rng.normal(75, 7, PATIENTS), rng.integers(0, 2, PATIENTS)
    alleles = rng.choice(3, PATIENTS, p=[0.4, 0.48, 0.12])
    rate_sd = np.exp(p["log SD of log rate"])
    rates = p["log rate shift of the study"] - rate_sd**2 / 2 + rate_sd * rng.normal(size=PATIENTS)
    rates += p["log rate per year of age above 75"] * (age - 75)
    rates += p["log rate, women against men"] * (woman - 0.5)
    rates += p["log rate per APOE4 allele"] * (alleles - 0.72)
    # severity, tau, amyloid
    correlation = np.array([[1, 0.35, 0.05], [0.35, 1, 0.15], [0.05, 0.15, 1]])
    latent = rng.multivariate_normal(np.zeros(3), correlation, PATIENTS)
    z = p["mean severity, logit CDR-SB/18"] + np.exp(p["log SD of severity"]) * latent[:, 0]
    K = 98 * np.exp(0.25 * rng.normal(size=PATIENTS))
    A = K * expit(1.7 + 1.3 * latent[:, 2])
    y = np.column_stack([A, A / 90, expit(-0.6 + 0.8 * latent[:, 1]), z])
    severity, h = [z], 2 / 365.25
    for day in range(2, int(DAYS[-1]) + 1, 2):
        k1 = derivative(y, np.exp(rates), K)
        k2 = derivative(y + h / 2 * k1, np.exp(rates), K)
        k3 = derivative(y + h / 2 * k2, np.exp(rates), K)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + derivative(y + h * k3, np.exp(rates), K))
        if day in DAYS:
            severity.append(y[:, 3])
    course = np.stack(severity, axis=1)
    columns = []
    for scale, score, additive, proportional, top in (
        ("CDR-SB", lambda s: 18 * expit(s), 0.52, 0.16, 18.0),
        ("MMSE", lambda s: 30 * (1 - expit(0.226 + 1.159 * s)), 1.5, 0.0, 30.0),
    ):
        offset = p[f"shift of {scale}, units of z"]
        offset = offset + np.exp(p[f"log spread of {scale}, units of z"]) * rng.normal(size=(PATIENTS, 1))
        mean = score(course + offset)
        sd = np.exp(p[f"log error multiplier of {scale}"]) * np.sqrt(additive**2 + (proportional * mean) ** 2)
        columns.append(np.clip(mean + sd * rng.normal(size=mean.shape), 0.0, top))
    values = np.stack(columns, axis=-1)
    return Cohort(
        ids=tuple(f"{prefix}{seed}-{i}" for i in range(PATIENTS)),
        variables=(
            Variable("AGE", concept="age"),
            Variable("SEX", kind=Kind.CATEGORICAL, levels=("M", "F"), concept="sex"),
            Variable("APOE", concept="APOE4"),
        ),
        covariates=np.column_stack([age, woman, alleles]).astype(float),
        outcomes=(Variable("CDRSB", concept="CDR-SB"), Variable("MMSETOT", concept="MMSE")),
        visits=("Baseline", "Week 26", "Week 52", "Week 78"),
        nominal=DAYS,
        times=np.tile(DAYS, (PATIENTS, 1)),
        values=values,
        observed=np.isfinite(values),
        treatments=("placebo",),
        received=np.zeros(PATIENTS, dtype=np.int64),
    )


@pytest.fixture(scope="session")
def simulate() -> Simulate:
    """Return the simulator."""
    return simulated


WAYS = {"synaptic_loss": "multiply", "amyloid_clearance": "add"}


def _acts(numbers: tuple[Array, ...], amount: Array) -> dict[str, Array]:
    return {"synaptic_loss": 1.0 - numbers[0] * amount, "amyloid_clearance": numbers[1] * amount}


def _slope(numbers: tuple[Array, ...], amount: Array) -> Array:
    return numbers[2] * (1.0 - amount)


@pytest.fixture(scope="session")
def drug() -> Callable[..., AbstractTreatment]:
    """Return a function that makes a treatment double, a concentration that builds up to 1 and acts on two mechanisms.

    ``benefit`` is the share of decline that is taken away at full concentration; ``clearance`` the removal of amyloid
    that is added, per year. Its numbers are arrays, so that it compiles once.
    """

    def make(*, benefit: float = 0.0, clearance: float = 0.0, per_day: float = 0.05) -> AbstractTreatment:
        numbers = tuple(map(jnp.asarray, (benefit, clearance, per_day)))
        return PlainTreatment("drug", _acts, WAYS, numbers=numbers, slope=_slope)

    return make
