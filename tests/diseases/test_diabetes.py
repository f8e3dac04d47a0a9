"""Diabetes: the untreated balance, the published slopes, and what each hook does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from plain_treatment import PlainTreatment
from scipy.integrate import solve_ivp

from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.diseases.diabetes import Diabetes
from trialtwin.engine.adaptive import Adaptive
from trialtwin.twins.virtual import Courses, draw_individuals, simulate_courses

DAYS = np.array([0.0, 96.9, 365.25, 730.5])
SCALES = ("body weight", "FPG", "FSI", "HbA1c")
HOOKS = ("insulin_sensitivity", "beta_cell_function", "weight_input")
METHOD = Adaptive(rtol=1e-9, atol=1e-9)


def acts(numbers: dict[str, Array], y: Array) -> dict[str, Array]:
    """Return the numbers as they are: one function, so that all of them compile once."""
    return {name: value + 0 * y for name, value in numbers.items()}


def treated(**values: float) -> AbstractTreatment:
    numbers = {hook: jnp.asarray(values.get(hook, 1.0)) for hook in HOOKS}
    ways = dict.fromkeys(HOOKS, "multiply")
    return PlainTreatment("hooks", acts, ways, numbers=numbers)


def follow(treatment: AbstractTreatment) -> Courses:
    disease = Diabetes()
    person = draw_individuals(disease, {}, np.zeros((1, len(disease.effects))), {})
    return simulate_courses(disease, person, treatment, DAYS, scales=SCALES, method=METHOD)


@pytest.fixture(scope="module")
def untreated() -> Courses:
    return follow(treated())


def independent_glucose(t: float, weight: float, gain: float = 1.0) -> float:
    """Return fasting glucose as Choy 2016 writes it."""
    sensitivity = 1 / (1 + np.exp(1.1)) * (1 - 0.0514 * (weight - 104))
    cells = gain / (1 + np.exp(-0.446 + 0.209 * t / 365.25))
    return (3.5 + np.sqrt(3.5**2 + 4 * 35.1 / (7.8 * sensitivity * cells))) / 2


def test_reference_untreated_baseline(untreated: Courses) -> None:
    """The published typical patient: 104 kg; glucose, insulin and HbA1c as in type 2 diabetes on diet."""
    first = {name: untreated.scores[name][0, 0] for name in SCALES}
    assert first["body weight"] == pytest.approx(104.0)
    assert first["FPG"] == pytest.approx(independent_glucose(0.0, 104.0), rel=1e-5)
    assert 7.0 < first["FPG"] < 8.5
    assert first["HbA1c"] == pytest.approx((0.0129 * first["FPG"] + 0.0709) * 38.9, rel=1e-6)
    assert 6.3 < first["HbA1c"] < 7.5
    assert 10 < first["FSI"] < 30


def test_untreated_patients_get_worse_as_beta_cells_are_lost(untreated: Courses) -> None:
    np.testing.assert_allclose(untreated.scores["body weight"][0], 104.0)
    want = [independent_glucose(t, 104.0) for t in DAYS]
    np.testing.assert_allclose(untreated.scores["FPG"][0], want, rtol=1e-5)
    assert (np.diff(untreated.scores["HbA1c"][0]) > 0).all()


def test_independent_course_with_less_weight() -> None:
    """The equations typed a second time and solved by scipy's LSODA, with 10 % less weight input: to 1e-5."""

    def slopes(t: float, y: np.ndarray) -> list[float]:
        k = 3 / 38.9
        made = 0.0129 * independent_glucose(t, y[0]) + 0.0709
        return [np.log(2) / 96.9 * (0.9 * 104 - y[0]), made - k * y[1], k * (y[1] - y[2]), k * (y[2] - y[3])]

    part = (0.0129 * independent_glucose(0, 104) + 0.0709) * 38.9 / 3
    solved = solve_ivp(slopes, (0, DAYS[-1]), [104, part, part, part], "LSODA", DAYS, rtol=1e-10, atol=1e-10)
    course = follow(treated(weight_input=0.9))
    np.testing.assert_allclose(course.scores["body weight"][0], solved.y[0], rtol=1e-5)
    np.testing.assert_allclose(course.scores["HbA1c"][0], solved.y[1:].sum(axis=0), rtol=1e-5)
    # half of the way after the half-life
    assert course.scores["body weight"][0, 1] == pytest.approx(104 - 5.2, rel=1e-6)


@pytest.mark.parametrize(("hook", "value"), [("insulin_sensitivity", 1.5), ("beta_cell_function", 1.3)])
def test_hooks_lower_glucose(untreated: Courses, hook: str, value: float) -> None:
    course = follow(treated(**{hook: value}))
    assert (course.scores["FPG"] < untreated.scores["FPG"]).all()
    assert course.scores["HbA1c"][0, -1] < untreated.scores["HbA1c"][0, -1] - 0.2


def test_a_fixed_grid_follows_untreated_patients(untreated: Courses) -> None:
    """The method that is used where none is named, to the states' tolerances, on 50 patients who differ."""
    disease = Diabetes()
    effects = np.random.default_rng(1).normal(size=(50, len(disease.effects)))
    effects[0] = 0
    people = draw_individuals(disease, {}, effects, {})
    course = simulate_courses(disease, people, NoTreatment(), DAYS, scales=("HbA1c",))
    np.testing.assert_allclose(course.scores["HbA1c"][0], untreated.scores["HbA1c"][0], atol=0.006)
    assert np.std(course.scores["HbA1c"][:, 0]) > 0.3
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(people))
