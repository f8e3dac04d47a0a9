"""Tumours: closed forms of growth and kill, and the limits that the publications give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from plain_treatment import PlainTreatment
from scipy.integrate import quad
from scipy.stats import truncnorm

from trialtwin.core.treatment import AbstractTreatment
from trialtwin.diseases.base import AbstractDisease
from trialtwin.diseases.tumour import Tumour
from trialtwin.diseases.tumour_claret import ClaretTumour
from trialtwin.diseases.tumour_geng import ALPHA_MEAN, ALPHA_SD, CAPACITY, RHO_MEAN, RHO_SD, GengTumour
from trialtwin.drugs.registry import find_drug
from trialtwin.drugs.therapy import prescribe
from trialtwin.engine.adaptive import Adaptive
from trialtwin.twins.virtual import Courses, draw_individuals, simulate_courses

METHOD = Adaptive(rtol=1e-9, atol=1e-10)


def acts(numbers: dict[str, Array], y: Array) -> dict[str, Array]:
    """Return the numbers as they are: one function, so that all of them compile once."""
    return {name: value + 0 * y for name, value in numbers.items()}


def killing(**values: float) -> AbstractTreatment:
    numbers = {name: jnp.asarray(value) for name, value in values.items()}
    ways = dict.fromkeys(values, "add")
    return PlainTreatment("kill", acts, ways, numbers=numbers)


def follow(disease: AbstractDisease, treatment: AbstractTreatment, days: np.ndarray) -> Courses:
    person = draw_individuals(disease, {}, np.zeros((1, len(disease.effects))), {})
    return simulate_courses(disease, person, treatment, days, scales=tuple(disease.scales), method=METHOD)


@pytest.fixture(scope="module")
def growing() -> tuple[np.ndarray, np.ndarray]:
    """Return Simeoni's growth without treatment: days and weights."""
    days = np.array([0.0, 2.0, 6.0, 10.0, 20.0, 30.0])
    return days, follow(Tumour(), killing(cell_kill=0.0), days).scores["tumour weight"][0]


def test_closed_form_limits_of_simeoni_growth(growing: tuple[np.ndarray, np.ndarray]) -> None:
    """Far below λ1/λ0 growth is exponential, w0 e^(λ0 t); far above it is linear, λ1 g a day."""
    days, weight = growing
    np.testing.assert_allclose(weight[:3], 0.1 * np.exp(0.273 * days[:3]), rtol=1e-6)
    assert weight[-1] - weight[-2] == pytest.approx(0.814 * 10, rel=1e-6)


def test_independent_simeoni_growth(growing: tuple[np.ndarray, np.ndarray]) -> None:
    """The time to a weight by quadrature of dw / growth(w), through the change from exponential to linear."""
    days, weight = growing
    for day, end in zip(days[1:], weight[1:], strict=True):
        time, _ = quad(lambda w: (1 + (0.273 * w / 0.814) ** 20) ** 0.05 / (0.273 * w), 0.1, end, points=[0.814 / 0.273]
                       if end > 0.814 / 0.273 else None, limit=200)  # fmt: skip
        assert time == pytest.approx(day, rel=1e-6)


def test_closed_form_of_dying_cells() -> None:
    """A kill that is far above growth: the cells that it hits pass out through three stages, a gamma distribution."""
    disease = Tumour()
    days = np.array([0.0, 1.0, 3.0, 6.0])
    kill, k1 = 1e4, 0.968
    left = follow(disease, killing(cell_kill=kill), days).scores["tumour weight"][0]
    stages = np.exp(-k1 * days) * (1 + k1 * days + (k1 * days) ** 2 / 2)
    np.testing.assert_allclose(left[1:], 0.1 * stages[1:], rtol=1e-3)


def test_a_cytotoxic_drug_of_the_library_slows_growth(growing: tuple[np.ndarray, np.ndarray]) -> None:
    days, weight = growing
    therapy = prescribe(find_drug("cytotoxic-example"), until=30.0)
    person = draw_individuals(Tumour(), {}, np.zeros((1, len(Tumour().effects))), {})
    course = simulate_courses(Tumour(), person, therapy, days, scales=("tumour weight",))
    treated = course.scores["tumour weight"][0]
    assert (treated[2:] < 0.8 * weight[2:]).all()
    assert treated[-1] > treated[-2]


def test_closed_form_of_claret() -> None:
    """y(t) = y(0) exp[kL t − κ/λ (1 − e^(−λ t))] with κ .07 per day, and regrowth later."""
    weeks = np.array([0.0, 6.0, 24.0, 104.0])
    size = follow(ClaretTumour(), killing(cell_kill=0.07 / 7), weeks * 7).states["size"][0]
    closed = 80 * np.exp(0.021 * weeks - 0.07 / 0.057 * (1 - np.exp(-0.057 * weeks)))
    np.testing.assert_allclose(size, closed, rtol=1e-7)
    assert size[1] < size[0] < size[-1]


def test_closed_form_of_geng() -> None:
    """Gompertz, V(t) = K (V0/K)^exp(−ρ t); with a constant kill κ, log V tends to log K − κ/ρ in the same way."""
    disease = GengTumour()
    person = draw_individuals(disease, {}, np.zeros((1, len(disease.effects))), {})
    rho, alpha, start = float(person["ρ"][0]), float(person["α"][0]), np.pi / 6 * 4.0**3
    days = np.array([0.0, 30.0, 365.0])
    for chemo, gray in ((0.0, 0.0), (0.02, 0.0), (0.0, 0.1)):
        kill = chemo + 1.2 * alpha * gray
        end = np.log(CAPACITY) - kill / rho
        closed = np.exp(end + (np.log(start) - end) * np.exp(-rho * days))
        volume = follow(disease, killing(cell_kill=chemo, radiation=gray), days).states["volume"][0]
        np.testing.assert_allclose(volume, closed, rtol=1e-6)


def test_independent_geng_parameters_are_cut_off_normals() -> None:
    """20,000 patients against scipy's truncated normal: quantiles within 4 Monte-Carlo errors, correlation high."""
    disease, n = GengTumour(), 20_000
    people = draw_individuals(disease, {}, np.random.default_rng(5).normal(size=(n, len(disease.effects))), {})
    for name, mean, sd in (("ρ", RHO_MEAN, RHO_SD), ("α", ALPHA_MEAN, ALPHA_SD)):
        want = truncnorm(-mean / sd, np.inf, loc=mean, scale=sd)
        values = np.asarray(people[name])
        assert values.min() > 0
        np.testing.assert_allclose(values.mean(), want.mean(), atol=4 * want.std() / np.sqrt(n))
        np.testing.assert_allclose(np.mean(values < want.median()), 0.5, atol=4 * 0.5 / np.sqrt(n))
    assert 0.75 < np.corrcoef(people["ρ"], people["α"])[0, 1] < 0.87
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(people))
