"""The mechanistic twin: its population is recovered, ignorance is named, and treatments act on paired draws."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConvergenceError, DataError, FitError
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.twins.course import Instrument
from trialtwin.twins.mechanistic import Mechanistic, MechanisticTwin

type Simulate = Callable[..., Cohort]
type Make = Callable[..., AbstractTreatment]
KEY = jax.random.key(5)
AT = np.array([0.0, 182.0, 364.0, 546.0])
DRAWS = 32


def at_means(instrument: Instrument) -> dict[str, float]:
    return {p.name: p.mean for p in instrument.priors}


@pytest.fixture(scope="module")
def twin(instrument: Instrument, simulate: Simulate) -> MechanisticTwin:
    return Mechanistic(Alzheimer()).fit(simulate(100, at_means(instrument)), key=KEY)


@pytest.fixture(scope="module")
def patients(instrument: Instrument, simulate: Simulate) -> Cohort:
    return simulate(200, at_means(instrument)).until(0.0)


def ask(twin: MechanisticTwin, patients: Cohort, treatment: AbstractTreatment, key: jax.Array = KEY) -> Trajectories:
    return twin.predict(patients, treatment, AT, draws=DRAWS, key=key)


def test_the_population_of_an_independent_simulation_is_recovered(
    twin: MechanisticTwin, instrument: Instrument
) -> None:
    """Each parameter lies within 3 standard errors of what the patients were simulated with, the prior mean.

    What the data inform most is found to less than half of the prior's spread.
    """
    truth = np.array(list(at_means(instrument).values()))
    errors = np.sqrt(np.diag(twin.covariance))
    assert (np.abs(twin.population - truth) < 3 * errors).all()
    informed = dict(zip((p.name for p in instrument.priors), errors / [p.sd for p in instrument.priors], strict=True))
    for name in ("mean severity, logit CDR-SB/18", "log error multiplier of CDR-SB", "log SD of severity"):
        assert informed[name] < 0.5, (name, informed[name])


def test_what_was_learned_stands_beside_its_prior(twin: MechanisticTwin, instrument: Instrument) -> None:
    assert [one.name for one in twin.learned] == [p.name for p in instrument.priors]
    np.testing.assert_array_equal([one.value for one in twin.learned], twin.population)
    np.testing.assert_allclose([one.sd for one in twin.learned], np.sqrt(np.diag(twin.covariance)))
    for one, prior in zip(twin.learned, instrument.priors, strict=True):
        assert (one.prior_mean, one.prior_sd) == (prior.mean, prior.sd)
        assert one.sd <= 1.05 * prior.sd


def uninformed(twin: MechanisticTwin) -> set[str]:
    return {one.name for one in twin.learned if not one.informed}


def test_what_the_data_do_not_inform_is_named(
    twin: MechanisticTwin, instrument: Instrument, simulate: Simulate
) -> None:
    """32 patients hardly inform the effect of sex; of one sex, one age and one genotype, they inform none of them."""
    assert "log rate, women against men" in uninformed(twin)
    assert not {"log error multiplier of CDR-SB", "mean severity, logit CDR-SB/18"} & uninformed(twin)
    cohort = simulate(100, at_means(instrument))
    alike = replace(cohort, covariates=np.tile([75.0, 1.0, 1.0], (len(cohort), 1)))
    of_one_kind = Mechanistic(Alzheimer()).fit(alike, key=KEY)
    covariates = {p.name for p in instrument.priors if p.name.startswith(("log rate per", "log rate,"))}
    assert len(covariates) == 4
    assert covariates <= uninformed(of_one_kind)


def test_fixed_points_agree_with_draws_at_the_population_estimate(twin: MechanisticTwin, patients: Cohort) -> None:
    """With the population held, expectations at baseline history lie within 0.35 points of the mean of 1,600 draws.

    That is a tenth of the spread between patients; the Monte-Carlo error of a patient's mean is below 0.08 points of
    CDR-SB. What remains is the error of 256 points.
    """
    held = eqx.tree_at(lambda t: t.covariance, twin, 1e-18 * np.eye(len(twin.population)))
    course = held.predict(patients, NoTreatment(), AT, draws=1600, key=KEY)
    difference = course.expected[..., 0] - course.values[..., 0].mean(axis=0)
    assert np.abs(difference.mean(axis=0)).max() < 0.15
    assert np.sqrt((difference**2).mean()) < 0.35


def test_draws_stay_on_their_scales(twin: MechanisticTwin, patients: Cohort) -> None:
    course = ask(twin, patients, NoTreatment())
    assert course.values.min() >= 0.0
    assert course.values[..., 0].max() <= 18.0
    assert course.values[..., 1].max() <= 30.0


def test_slowing_decline_acts_and_does_more_the_longer_it_lasts(
    twin: MechanisticTwin, patients: Cohort, drug: Make
) -> None:
    """Halved decline: CDR-SB rises less and MMSE falls less in every patient, from nothing at baseline."""
    effect = ask(twin, patients, drug(benefit=0.5)).contrast(ask(twin, patients, NoTreatment()))
    cdr, mmse = effect.expected[..., 0], effect.expected[..., 1]
    np.testing.assert_allclose(effect.expected[:, 0], 0.0, atol=1e-9)
    assert (cdr[:, 1:] < 0).all()
    assert (mmse[:, 1:] > 0).all()
    assert (np.diff(cdr.mean(axis=0)) < 0).all()


def test_the_same_key_gives_paired_counterfactuals(twin: MechanisticTwin, patients: Cohort, drug: Make) -> None:
    """Drawn with one key, an effect has no noise of its own; with two, it has that of two measurements."""
    placebo = ask(twin, patients, NoTreatment())
    treated = ask(twin, patients, drug(benefit=0.5))
    unpaired = ask(twin, patients, drug(benefit=0.5), jax.random.key(6))
    paired_spread = treated.contrast(placebo).values[:, :, 1, 0].std(axis=0).mean()
    unpaired_spread = unpaired.contrast(placebo).values[:, :, 1, 0].std(axis=0).mean()
    assert paired_spread < 0.4 * unpaired_spread
    np.testing.assert_array_equal(treated.values[:, :, 0], placebo.values[:, :, 0])
    assert (treated.contrast(placebo).values[:, :, -1, 0] <= 1e-9).mean() > 0.99


def test_a_drug_without_effect_changes_nothing(twin: MechanisticTwin, patients: Cohort, drug: Make) -> None:
    nothing = ask(twin, patients, drug()).contrast(ask(twin, patients, NoTreatment()))
    np.testing.assert_allclose(nothing.values, 0.0, atol=1e-4)  # the two are solved on different grids


def test_outcomes_that_the_disease_does_not_know_are_left_aside(instrument: Instrument, simulate: Simulate) -> None:
    cohort = simulate(100, at_means(instrument))
    nameless = replace(cohort, outcomes=tuple(replace(v, concept="") for v in cohort.outcomes))
    with pytest.raises(FitError, match="no measured outcome is on a scale of 'alzheimer'") as caught:
        Mechanistic(Alzheimer()).fit(nameless, key=KEY)
    assert "CDR-SB" in caught.value.exists


def test_a_day_before_baseline_cannot_be_asked_for(twin: MechanisticTwin, patients: Cohort) -> None:
    with pytest.raises(DataError, match="0 or later"):
        twin.predict(patients, NoTreatment(), np.array([-1.0, 0.0, 10.0, 20.0]), draws=DRAWS, key=KEY)


def test_a_patient_who_cannot_be_inferred_is_named(twin: MechanisticTwin, patients: Cohort) -> None:
    """An age a million years before birth makes one course impossible; nobody is forecast, the patient is named."""
    covariates = np.array(patients.covariates)
    covariates[4, 0] = -1e6
    with pytest.raises(ConvergenceError, match=r"most probable course .* was not found") as caught:
        ask(twin, replace(patients, covariates=covariates), NoTreatment())
    assert caught.value.where == patients.ids[4]
