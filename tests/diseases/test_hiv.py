"""HIV: the untreated balance, and the published closed form of the fall of virus under a perfect inhibitor."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from plain_treatment import PlainTreatment

from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.diseases.hiv import Hiv
from trialtwin.drugs.registry import find_drug
from trialtwin.drugs.therapy import prescribe
from trialtwin.engine.adaptive import Adaptive
from trialtwin.twins.virtual import Courses, draw_individuals, simulate_courses

DAYS = np.array([0.0, 0.5, 2.0, 7.0, 14.0, 20.0])
METHOD = Adaptive(rtol=1e-10, atol=1e-8)
DELTA, CLEARANCE = 0.5, 3.0


def acts(numbers: dict[str, Array], y: Array) -> dict[str, Array]:
    """Return the numbers as they are: one function, so that all of them compile once."""
    return {name: value + 0 * y for name, value in numbers.items()}


def inhibitor(infection: float, production: float) -> AbstractTreatment:
    numbers = {"infection": jnp.asarray(infection), "virion_production": jnp.asarray(production)}
    ways = dict.fromkeys(numbers, "multiply")
    return PlainTreatment("inhibitor", acts, ways, numbers=numbers)


def follow(treatment: AbstractTreatment) -> Courses:
    disease = Hiv()
    person = draw_individuals(disease, {}, np.zeros((1, len(disease.effects))), {})
    return simulate_courses(disease, person, treatment, DAYS, scales=("HIV-RNA", "CD4"), method=METHOD)


def test_closed_form_of_the_untreated_balance() -> None:
    """T* = c/(kN), I* = cV*/(Nδ); it stays there."""
    course = follow(NoTreatment())
    want = (CLEARANCE / (3.43e-8 * 480), CLEARANCE * 1.34e5 / (480 * DELTA), 1.34e5)
    for name, value in zip(Hiv().states, want, strict=True):
        np.testing.assert_allclose(course.states[name][0], value, rtol=1e-6)
    assert course.scores["CD4"][0, 0] == pytest.approx(184, abs=1)


def test_closed_form_when_nothing_is_infected_any_more() -> None:
    """Two phases, V(t) = V* [c e^(−δ t) − δ e^(−c t)] / (c − δ); at last the slope of log V is −δ."""
    virus = follow(inhibitor(0.0, 1.0)).states["virus"][0]
    closed = 1.34e5 * (CLEARANCE * np.exp(-DELTA * DAYS) - DELTA * np.exp(-CLEARANCE * DAYS)) / (CLEARANCE - DELTA)
    np.testing.assert_allclose(virus, closed, rtol=1e-6)
    assert np.log(virus[-1] / virus[-2]) / (DAYS[-1] - DAYS[-2]) == pytest.approx(-DELTA, rel=1e-6)


def test_closed_form_when_no_virus_is_made_any_more() -> None:
    """V(t) = V* e^(−c t); the assay stops at its limit."""
    course = follow(inhibitor(1.0, 0.0))
    np.testing.assert_allclose(course.states["virus"][0], 1.34e5 * np.exp(-CLEARANCE * DAYS), rtol=1e-6, atol=1e-4)
    assert course.scores["HIV-RNA"][0, -1] == pytest.approx(1.3)


def test_the_example_drug_of_the_library_lowers_virus_and_raises_cells() -> None:
    disease = Hiv()
    people = draw_individuals(disease, {}, np.random.default_rng(2).normal(size=(8, len(disease.effects))), {})
    therapy = prescribe(find_drug("antiretroviral-example"), until=60.0)
    course = simulate_courses(disease, people, therapy, np.array([0.0, 14.0, 60.0]), scales=("HIV-RNA", "CD4"))
    assert (course.scores["HIV-RNA"][:, 1] < course.scores["HIV-RNA"][:, 0] - 1).all()
    assert (course.scores["CD4"][:, -1] > course.scores["CD4"][:, 0]).all()
