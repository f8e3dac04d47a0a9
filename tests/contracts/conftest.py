"""Cohorts for the contract of twins, made by no model of the house; one shape throughout, so that it compiles once."""

import numpy as np
import pytest
from scipy.special import expit

from trialtwin.core.cohort import Cohort
from trialtwin.core.variables import Kind, Variable

VISITS = np.array([0.0, 182.0, 364.0, 546.0])
VARIABLES = (
    Variable("AGE", unit="years", concept="age"),
    Variable("SEX", kind=Kind.CATEGORICAL, levels=("M", "F"), concept="sex"),
    Variable("APOE", concept="APOE4"),
    Variable("SITE", kind=Kind.CATEGORICAL, levels=("north", "south", "west")),
)
OUTCOMES = (
    Variable("CDRSB", unit="points", lower=0.0, upper=18.0, concept="CDR-SB"),
    Variable("MMSETOT", unit="points", lower=0.0, upper=30.0, concept="MMSE"),
)


def decline(seed: int, prefix: str, patients: int = 32) -> Cohort:
    """Return patients who decline along a logistic line of their own, with rounding, noise and a few gaps."""
    rng = np.random.default_rng(seed)
    years = VISITS / 365.25
    start, rate = rng.normal(-1.3, 0.5, (patients, 1)), np.exp(rng.normal(-1.0, 0.6, (patients, 1)))
    z = start + rate * years
    cdr = 18 * expit(z) + rng.normal(0, 0.6, z.shape)
    mmse = 30 * expit(-0.2 - 1.1 * z) + rng.normal(0, 1.5, z.shape)
    values = np.stack([np.round(np.clip(cdr, 0, 18) * 2) / 2, np.round(np.clip(mmse, 0, 30))], axis=-1)
    values[rng.random(values.shape) < 0.08] = np.nan
    covariates = np.column_stack(
        [
            rng.normal(74, 7, patients),
            rng.integers(0, 2, patients),
            rng.integers(0, 3, patients),
            np.arange(patients) % 3,
        ]
    ).astype(float)
    covariates[rng.random(covariates.shape) < 0.05] = np.nan
    return Cohort(
        ids=tuple(f"{prefix}-{i:02d}" for i in range(patients)),
        variables=VARIABLES,
        covariates=covariates,
        outcomes=OUTCOMES,
        visits=("Baseline", "Week 26", "Week 52", "Week 78"),
        nominal=VISITS,
        times=VISITS + np.where(VISITS > 0, np.round(rng.normal(0, 4, z.shape)), 0.0),
        values=values,
        observed=np.isfinite(values),
        treatments=("Placebo", "Active"),
        received=np.arange(patients) % 2,
    )


@pytest.fixture(scope="session")
def training() -> Cohort:
    """Return the patients that twins learn from."""
    return decline(1, "T")


@pytest.fixture(scope="session")
def others() -> Cohort:
    """Return patients that no twin has seen."""
    return decline(2, "N")
