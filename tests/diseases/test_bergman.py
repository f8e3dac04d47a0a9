"""Bergman's minimal model: basal balance, closed forms, and clamps."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from plain_treatment import PlainTreatment
from scipy.integrate import solve_ivp

from trialtwin.core.treatment import AbstractTreatment
from trialtwin.diseases.bergman import Bergman
from trialtwin.engine.stiff import Stiff
from trialtwin.twins.virtual import Courses, draw_individuals, simulate_courses

MINUTES = np.array([0.0, 30.0, 120.0, 1440.0])
METHOD = Stiff(rtol=1e-9, atol=1e-10)


def acts(numbers: dict[str, Array], y: Array) -> dict[str, Array]:
    """Return the numbers as they are: one function, so that all of them compile once."""
    return {name: value + 0 * y for name, value in numbers.items()}


def given(insulin: float, glucose: float) -> AbstractTreatment:
    numbers = {"insulin_input": jnp.asarray(insulin), "glucose_input": jnp.asarray(glucose)}
    ways = dict.fromkeys(numbers, "add")
    return PlainTreatment("clamp", acts, ways, numbers=numbers)


def follow(insulin: float, glucose: float) -> Courses:
    disease = Bergman()
    person = draw_individuals(disease, {}, np.zeros((1, len(disease.effects))), {})
    return simulate_courses(
        disease, person, given(insulin, glucose), MINUTES / 1440, scales=("glucose", "insulin"), method=METHOD
    )


def test_basal_values_are_an_equilibrium() -> None:
    course = follow(0.0, 0.0)
    np.testing.assert_allclose(course.scores["glucose"][0], 92.0, rtol=1e-9)
    np.testing.assert_allclose(course.scores["insulin"][0], 10.0, rtol=1e-9)


def test_closed_form_of_an_insulin_infusion() -> None:
    """I(t) = Ib + r/n (1 − e^(−n t)), and at last G = SG Gb / (SG + SI r/n): glucose falls, so nothing is secreted."""
    course = follow(0.7, 0.0)
    np.testing.assert_allclose(course.scores["insulin"][0], 10 + 5 * (1 - np.exp(-0.14 * MINUTES)), rtol=1e-6)
    assert course.scores["glucose"][0, -1] == pytest.approx(0.025 * 92 / (0.025 + 5e-4 * 5), rel=1e-6)


def test_independent_glucose_infusion() -> None:
    """The equations typed a second time in minutes, scipy's LSODA: to 1e-6."""

    def slopes(t: float, y: np.ndarray) -> list[float]:
        return [
            -(0.025 + y[1]) * y[0] + 0.025 * 92 + 4,
            -0.025 * y[1] + 0.025 * 5e-4 * (y[2] - 10),
            -0.14 * (y[2] - 10) + 0.02 * max(y[0] - 92, 0),
        ]

    solved = solve_ivp(slopes, (0, 1440), [92, 0, 10], "LSODA", MINUTES, rtol=1e-11, atol=1e-12)
    course = follow(0.0, 4.0)
    np.testing.assert_allclose([course.states[n][0] for n in Bergman().states], solved.y, rtol=1e-6, atol=1e-9)
