"""What a mechanistic twin must not do: refuse what it can solve, forecast what it cannot, or lean to one side."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alzheimer_patients import (
    DAYS,
    INSTRUMENT,
    MEANS,
    NAMES,
    SCALES,
    SEVERITY,
    alzheimer_patients,
    alzheimer_studies,
    expected_scores,
)
from jaxtyping import Array
from plain_treatment import PlainTreatment

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConvergenceError, TrialTwinError
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.core.variables import Kind, Variable
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.twins.course import declared_covariates
from trialtwin.twins.mechanistic import Mechanistic, MechanisticTwin

KEY = jax.random.key(0)


WAYS = {"synaptic_loss": "multiply", "amyloid_clearance": "add"}


def _acts(numbers: tuple[Array, ...], amount: Array) -> dict[str, Array]:
    """Return a sigmoid effect of the amount."""
    share = amount**2 / (amount**2 + 0.25)
    return {"synaptic_loss": 1 - numbers[0] * share, "amyloid_clearance": numbers[1] * share}


def washout(benefit: float, clearance: float, eliminated: float, *, tolerance: float = 0.05) -> AbstractTreatment:
    """Return a treatment double whose drug is given once, ten times the half-effective amount, and is eliminated."""
    numbers = tuple(map(jnp.asarray, (benefit, clearance, eliminated)))
    return PlainTreatment(
        "washout", _acts, WAYS, numbers=numbers, start=5.0, slope=lambda n, y: -n[2] * y, tolerance=tolerance
    )


@pytest.fixture(scope="module")
def known() -> MechanisticTwin:
    """Return a twin whose population is known, at the prior means."""
    return MechanisticTwin(
        INSTRUMENT,
        tuple(Variable(scale, concept=scale) for scale in SCALES),
        MEANS,
        1e-18 * np.eye(len(MEANS)),
        tuple(m.name for m in Alzheimer().mechanisms),
        (),
        (),
    )


@pytest.fixture(scope="module")
def patients() -> Cohort:
    """Return patients of that population."""
    return alzheimer_patients(np.random.default_rng(1), MEANS, "P")


def effect_of(known: MechanisticTwin, patients: Cohort, drug: AbstractTreatment) -> Trajectories:
    given, without = (known.predict(patients.until(0), arm, DAYS, draws=16, key=KEY) for arm in (drug, NoTreatment()))
    return given.contrast(without)


@pytest.mark.parametrize("per_year", [0.5, 1.4, 5.0])
def test_a_drug_that_clears_amyloid_is_solved(known: MechanisticTwin, patients: Cohort, per_year: float) -> None:
    """From half to 3.5 times lecanemab's removal of amyloid (1.4 a year), the grid is fine enough, and all benefit."""
    effect = effect_of(known, patients, washout(0.0, per_year, 0.0))
    assert (effect.expected[:, -1, 0] < 0).all()


def test_a_drug_that_moves_fast_gets_a_grid_that_follows_it(known: MechanisticTwin, patients: Cohort) -> None:
    """Half gone in 1.4 days: at steps of 28 days the amount would explode, and full effect be forecast."""
    effect = effect_of(known, patients, washout(0.5, 0.0, 0.5))
    assert (np.abs(effect.expected[:, -1, 0]) < 0.1).all()


def test_a_drug_whose_own_state_the_grid_cannot_solve_is_refused(known: MechanisticTwin, patients: Cohort) -> None:
    with pytest.raises(ConvergenceError, match=r"estimated error is too large in washout: amount"):
        effect_of(known, patients, washout(0.5, 0.0, 0.5, tolerance=1e-9))


def test_a_patient_far_from_the_normal_approximation_is_inferred() -> None:
    """Of 37 studies of the model itself, one patient's Hessian is .15 of the information: steps close 15 %."""
    *_, (_, training, others) = alzheimer_studies(37, 302, severity=(-0.5, 0.3))
    twin = Mechanistic(Alzheimer()).fit(training, key=jax.random.key(36))
    course = twin.predict(others.until(200.0), NoTreatment(), DAYS, draws=160, key=jax.random.key(36))
    assert np.isfinite(course.values).all()


def test_forecasts_from_follow_up_are_not_biased(known: MechanisticTwin) -> None:
    """With the population known and one visit of follow-up, 640 patients' mean error at week 78 is within 3 SE of 0.

    At the mode of a skewed posterior alone, CDR-SB was forecast 0.32 ± 0.06 points too high, MMSE 0.79 ± 0.08 too low.
    """
    errors = []
    for k in range(20):
        cohort = alzheimer_patients(np.random.default_rng([7, k]), MEANS, "P")
        course = known.predict(cohort.until(182.0), NoTreatment(), DAYS, draws=256, key=jax.random.key(k))
        errors.append((cohort.values - course.values.mean(axis=0))[:, -1])
    error = np.concatenate(errors)
    assert error.shape == (640, 2)
    assert (np.abs(error.mean(axis=0)) < 3 * error.std(axis=0) / np.sqrt(len(error))).all(), error.mean(axis=0)


def test_scores_at_the_end_of_a_scale_do_not_bias_the_error() -> None:
    """Of mild patients, with up to a sixth of MMSE scores at 30, MMSE's error is found within 3 SE over 6 studies.

    With such scores taken as exact, (estimate − truth) / SE had mean −2.1 over 18 studies.
    """
    mild = MEANS.copy()
    mild[SEVERITY] = -2.5
    z = []
    for k in range(6):
        cohort = alzheimer_patients(np.random.default_rng([8, k]), mild, "P")
        assert (cohort.values[..., 1] == 30.0).mean() > 0.05
        twin = Mechanistic(Alzheimer()).fit(cohort, key=KEY)
        z.append((twin.population[-1] - mild[-1]) / np.sqrt(twin.covariance[-1, -1]))
    assert abs(np.mean(z)) < 3 / np.sqrt(6), z


def test_a_number_of_alleles_is_not_read_from_codes(patients: Cohort) -> None:
    """Levels of a categorical APOE4 stand in any order: their positions are not counts."""
    levels = ("two alleles", "one allele", "none")
    apoe = Variable("APOE", kind=Kind.CATEGORICAL, levels=levels, concept="APOE4")
    with pytest.raises(TrialTwinError, match="APOE"):
        declared_covariates(Alzheimer().declared, replace(patients, variables=(*patients.variables[:2], apoe)))


def test_an_infinite_covariate_is_refused(known: MechanisticTwin, patients: Cohort) -> None:
    """An infinite age would make the rate of decline 0."""
    x = np.array(patients.covariates)
    x[4, 0] = np.inf
    with pytest.raises(TrialTwinError):
        known.predict(replace(patients, covariates=x).until(0), NoTreatment(), DAYS, draws=16, key=KEY)


def test_every_number_of_a_scale_is_listed_with_its_source() -> None:
    """Intercepts, slopes and errors of measurement are among the disease's constants."""
    told = " ".join(f"{c.name} {c.value:g}" for c in Alzheimer().constants)
    assert [c for c in Alzheimer().scales if f"measurement error of {c} " not in told] == []
    assert "0.73" in told
    assert "0.589" in told


def test_the_placebo_arm_that_the_constants_were_fitted_to_is_reproduced() -> None:
    """CLARITY-AD's placebo arm at the prior means: CDR-SB 3.22 at baseline, change +1.66 at week 78."""
    rng = np.random.default_rng(0)
    population = MEANS.copy()
    population[SEVERITY] = np.log(3.05 / 14.95)
    population[NAMES.index("log spread of CDR-SB, units of z")] = -20.0
    effects = rng.normal(size=(4000, INSTRUMENT.dimension))
    x = np.column_stack(
        [rng.normal(71, 7.8, 4000), rng.random(4000) < 0.53, rng.choice(3, 4000, p=[0.318, 0.535, 0.147])]
    ).astype(float)
    mean = np.asarray(expected_scores(jnp.asarray(population), jnp.asarray(effects), jnp.asarray(x)))[..., 0]
    assert mean[:, 0].mean() == pytest.approx(3.22, abs=0.15)
    assert (mean[:, -1] - mean[:, 0]).mean() == pytest.approx(1.66, abs=0.35)
