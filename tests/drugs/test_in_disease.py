"""Drugs in the Alzheimer's model through the engine: what their numbers were set from comes out again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dosed_course import follow

from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.drugs.registry import find_drug
from trialtwin.drugs.therapy import prescribe
from trialtwin.twins.virtual import Courses, draw_individuals, simulate_courses

DISEASE = Alzheimer()
N = 600
DAYS = np.array([0.0, 168.0, 182.0, 364.0, 532.0, 728.0])
PEOPLE = draw_individuals(DISEASE, {}, np.random.default_rng(0).standard_normal((N, len(DISEASE.effects))), {})


def course(treatment: AbstractTreatment, **options: np.ndarray) -> Courses:
    return simulate_courses(DISEASE, PEOPLE, treatment, DAYS, scales=("CDR-SB", "ADAS-Cog11"), **options)


def drawn(treatment: AbstractTreatment) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((N, len(treatment.effects)))


@pytest.fixture(scope="module")
def untreated() -> Courses:
    return course(NoTreatment())


def test_reference_verubecestat_harms_as_in_its_trial(untreated: Courses) -> None:
    """APECS: +0.44 CDR-SB points (0.04, 0.84) at 40 mg over 104 weeks in early disease; here within 0.06 of it."""
    therapy = prescribe(find_drug("verubecestat"), "40 mg qd", until=728.0)
    treated = course(therapy, effects=drawn(therapy))
    before = untreated.scores["CDR-SB"][:, 0]
    early = (before > 1.5) & (before < 4.0)
    harm = (treated.scores["CDR-SB"] - untreated.scores["CDR-SB"])[early, -1]
    assert early.sum() > 100
    assert harm.mean() == pytest.approx(0.44, abs=0.06)
    assert np.all(treated.states["amyloid"][:, -1] <= untreated.states["amyloid"][:, -1])


def test_reference_donepezil_shifts_symptoms_and_not_the_disease(untreated: Courses) -> None:
    """Cochrane: ADAS-Cog −2.67 (−3.31, −2.02) at 24 weeks on 10 mg in mild to moderate disease; the disease goes on."""
    therapy = prescribe(find_drug("donepezil"), "10 mg qd", until=728.0)
    treated = course(therapy, effects=drawn(therapy))
    before = untreated.scores["ADAS-Cog11"][:, 0]
    moderate = (before > 20) & (before < 34)
    shift = (treated.scores["ADAS-Cog11"] - untreated.scores["ADAS-Cog11"])[moderate]
    assert -3.31 < shift[:, 1].mean() < -2.02
    np.testing.assert_allclose(treated.states["severity"], untreated.states["severity"], atol=1e-3)


def test_independent_donanemab_by_scipy() -> None:
    """The engine against scipy, dose by dose, with the stopping rule: amyloid within its tolerance in 2 patients."""
    days = np.array([168.0, 280.0])
    therapy = prescribe(find_drug("donanemab"), until=280.0)
    effects = drawn(therapy)
    treated = simulate_courses(DISEASE, PEOPLE, therapy, days, effects=effects)
    neutral = {mechanism.name: mechanism.neutral for mechanism in DISEASE.mechanisms}

    @jax.jit
    def flow(t, state, own, modulation):
        signals = DISEASE.signals(t, tuple(state), own, modulation)
        return jnp.stack(DISEASE.flow(t, tuple(state), own, modulation, signals))

    stopped = np.flatnonzero(treated.given < 1)[:1]
    for i in (*stopped, int(np.argmax(treated.given))):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], PEOPLE)
        start = dict(zip(DISEASE.states, (float(s) for s in DISEASE.initial(own)), strict=True))

        def slope(t, y, modulation, own=own):
            return np.asarray(flow(t, y, own, neutral | modulation))

        expected, _ = follow(therapy, days, effects=effects[i], start=start, disease=slope, rtol=1e-6)
        found = np.stack([treated.states[name][i] for name in DISEASE.states], axis=1)
        np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=3 * DISEASE.tolerances[0])
        np.testing.assert_allclose(found[:, -1], expected[:, -1], atol=3 * DISEASE.tolerances[-1])
    assert len(stopped) == 1
