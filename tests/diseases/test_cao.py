"""The Cao 2026 model: programmed twice, its published check values, and what it says under lecanemab."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_treatment import PlainTreatment
from scipy.integrate import solve_ivp

from trialtwin.core.errors import ConvergenceError, DataError
from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.diseases.cao import MONOMER, NEURONS, RATES, SPREADS, Cao, Patient
from trialtwin.diseases.cao_entry import enter
from trialtwin.engine.stiff import Stiff
from trialtwin.twins.virtual import Courses, simulate_courses

DAYS = np.array([0.0, 0.5, 1.0, 1.5]) * 365.25
METHOD = Stiff(rtol=1e-7, atol=1e-4)


def independent_slopes(y: np.ndarray, k: dict[str, float]) -> list[float]:
    """Return the derivative per year, from the published equations, typed a second time."""
    A, O, F, P, N, I0, I1, I2, _, TS, TP = y  # noqa: E741
    a, T = F + P, F + 0.39 * P
    n01 = k["tN"] * N * (1 + k["sN1"] * T) + k["β"] * N * TS * (1 + k["sN2"] * T)
    g01 = k["tI01"] * I0 * (1 + k["e01"] * T + k["ρ01"] * TS)
    g12, g2d = k["tI12"] * I1 * (1 + k["e12"] * T), k["dI2"] * I2 * (1 + k["e2d"] * T)
    return [
        k["pNA"] * (N + I0 + I1 + I2) - k["kAO"] * A * (1 + k["sA"] * a) + k["kOA"] * O - k["cA"] * A,
        k["kAO"] * A * (1 + k["sA"] * a) - k["kOF"] * O * (1 + k["sO"] * a) + k["kFO"] * F - k["kOA"] * O - k["cO"] * O,
        k["kOF"] * O * (1 + k["sO"] * a) - k["kFP"] * F * (1 + k["sF"] * a) + k["kPF"] * P - k["kFO"] * F - k["cF"] * F,
        k["kFP"] * F * (1 + k["sF"] * a) - k["kPF"] * P - k["cP"] * P,
        -n01 + k["rI0"] * I0,
        n01 - g01 - k["rI0"] * I0 + k["rI1"] * I1,
        g01 - g12 + k["rI2"] * I2 - k["rI1"] * I1,
        g12 - g2d - k["rI2"] * I2,
        g2d,
        (k["pSI0"] * I0 + k["pSI1"] * I1 + k["pSI2"] * I2) * (1 + k["sTauS"] * T) - k["cTS"] * TS,
        (k["pPI0"] * I0 + k["pPI1"] * I1 + k["pPI2"] * I2) * (1 + k["sTauP"] * T) + k["pPN"] * N - k["cTP"] * TP,
    ]


def lecanemab(css: float, age: float) -> AbstractTreatment:
    """Return lecanemab at a steady concentration, as the published model has it."""
    effects = {"protofibril_clearance": 1 + 0.068 * css, "plaque_clearance": 1 + 0.0015 * np.exp(0.041 * age) * css}
    ways = dict.fromkeys(effects, "multiply")
    return PlainTreatment("lecanemab", lambda _, y: {k: v + 0 * y for k, v in effects.items()}, ways)


def follow(person: Patient, treatment: AbstractTreatment) -> Courses:
    one = jax.tree.map(lambda x: jnp.asarray(x)[None], person)
    return simulate_courses(Cao(), one, treatment, DAYS, scales=("CDR-SB", "amyloid-PET"), method=METHOD)


@pytest.fixture(scope="module")
def person() -> Patient:
    """Return the patient of the published check."""
    return enter(cdr_sb=3.2, centiloid=91.0, age=72.0)


@pytest.fixture(scope="module")
def untreated(person: Patient) -> Courses:
    """Return that patient's course without treatment."""
    return follow(person, NoTreatment())


def test_independent_state_at_entry(person: Patient) -> None:
    """Scipy's LSODA at 1e-10 from onset, with the equations typed a second time: to 1e-5 of each state."""
    rates: dict[str, Any] = dict(RATES) | {"kAO": RATES["kAO"] * float(person.own["kAO"])}
    start = np.zeros(11)
    start[[0, 4]] = MONOMER, NEURONS
    solved = solve_ivp(
        lambda t, y: independent_slopes(y, rates),
        (0, float(person.years)),
        start,
        method="LSODA",
        rtol=1e-10,
        atol=1e-9,
    )
    np.testing.assert_allclose([float(y) for y in Cao().initial(person)], solved.y[:, -1], rtol=1e-5)


@pytest.mark.reference
def test_reference_check_values_untreated(untreated: Courses) -> None:
    """The project's science notes, an implementation of its own: CDR-SB +1.28 in 18 months, within 2 %."""
    score = untreated.scores["CDR-SB"][0]
    assert score[0] == pytest.approx(3.2, abs=1e-4)
    assert score[-1] - score[0] == pytest.approx(1.28, rel=0.02)


@pytest.mark.reference
def test_reference_check_values_under_lecanemab(person: Patient) -> None:
    """At 135 µg/mL: −34.7, −55.8, −68.2 CL at 6, 12 and 18 months, CDR-SB +0.79, each within 2 %."""
    treated = follow(person, lecanemab(135.0, 72.0))
    amyloid = treated.scores["amyloid-PET"][0]
    assert amyloid[0] == pytest.approx(91.0, abs=1e-3)
    np.testing.assert_allclose(amyloid[1:] - amyloid[0], [-34.7, -55.8, -68.2], rtol=0.02)
    score = treated.scores["CDR-SB"][0]
    assert score[-1] - score[0] == pytest.approx(0.79, rel=0.02)


def test_neurons_are_conserved(untreated: Courses) -> None:
    """Healthy, injured and dead neurons add up to what there was at onset."""
    cells = ("healthy neurons", "injured neurons 0", "injured neurons 1", "injured neurons 2", "dead neurons")
    np.testing.assert_allclose(sum(untreated.states[name] for name in cells), NEURONS, rtol=1e-6)


def test_correlations_of_random_effects_are_the_published_ones() -> None:
    """αCDR with kAO −.24 and with pNA −.32; 200,000 patients, 4 Monte-Carlo standard errors."""
    disease = Cao()
    population = {p.name: jnp.asarray(p.mean) for p in disease.priors}
    centre = {d.concept: jnp.asarray(d.centre) for d in disease.declared}
    effects = jnp.asarray(np.random.default_rng(3).normal(size=(200_000, len(disease.effects))))
    own = jax.vmap(lambda u: disease.individual(population, u, centre))(effects).own
    logs = np.log([own["αCDR"], own["kAO"], own["pNA"]])
    error = 4 / np.sqrt(200_000)
    np.testing.assert_allclose(np.corrcoef(logs)[0, 1:], [-0.24, -0.32], atol=error)
    for name, sd in SPREADS.items():
        assert np.std(np.log(own[name])) == pytest.approx(sd, rel=0.02), name


@pytest.mark.parametrize("cdr_sb", [0.5, 18.0])
def test_a_score_that_the_model_cannot_show_is_refused(cdr_sb: float) -> None:
    with pytest.raises(DataError, match="at entry"):
        enter(cdr_sb=cdr_sb, centiloid=91.0, age=72.0)


def test_a_patient_who_does_not_exist_is_refused() -> None:
    """Without amyloid the published map reads 4 CL, and no patient less."""
    with pytest.raises(ConvergenceError, match=r"no typical patient has CDR-SB 3\.2 with -20 CL"):
        enter(cdr_sb=3.2, centiloid=-20.0, age=72.0)
