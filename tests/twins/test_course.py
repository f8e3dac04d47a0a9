"""One patient's course: against scipy under a treatment, its step, its information, and what it is told of patients."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.integrate import solve_ivp
from scipy.special import expit
from scipy.stats import norm

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import DataError
from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.core.variables import Kind, Variable
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.twins.course import METHOD, STEP, Instrument, Observations, declared_covariates, observe, time_grid
from trialtwin.twins.system import Course, Person, dosing_grid

type Make = Callable[..., AbstractTreatment]
YEAR = 365.25
CENTRE = {d.concept: jnp.asarray(d.centre) for d in Alzheimer().declared}
NONE = jnp.zeros(0)


def means(instrument: Instrument) -> Array:
    return jnp.array([p.mean for p in instrument.priors])


@pytest.mark.parametrize(("benefit", "clearance", "per_day"), [(0.5, 0.0, 0.05), (0.0, 1.3, 0.01), (0.3, 5.0, 0.05)])
def test_independent_course_under_treatment(
    instrument: Instrument, drug: Make, benefit: float, clearance: float, per_day: float
) -> None:
    """Disease and drug solved together, scores read off: scipy's LSODA agrees to 1e-3 of a point."""
    effects = jnp.array([0.8, -0.5, 0.3, 0.6, -0.4, 0.7, -1.1])
    population = means(instrument)
    days = np.array([0.0, 40.0, 182.0, 546.0])
    run = eqx.filter_jit(instrument.course)
    treatment = drug(benefit=benefit, clearance=clearance, per_day=per_day)
    scores, _ = run(
        population,
        effects,
        CENTRE,
        jnp.asarray(days),
        dosing_grid(treatment, days[-1:]),
        treatment,
        NONE,
    )
    named = {p.name: float(v) for p, v in zip(instrument.disease.priors, population, strict=False)}
    person = instrument.disease.individual({k: jnp.asarray(v) for k, v in named.items()}, effects[:5], CENTRE)
    rate, K, A, T, z = (float(x) for x in person)

    def derivative(t: float, y: np.ndarray) -> list[float]:
        a, x, tau, _, c = y
        bracket = 0.93 * (1 - 0.77 * tau)
        return [
            0.55 + 0.195 * a * (1 - a / K) - clearance * c * a,
            4 * (a / 90 - x),
            0.25 * (0.6 + 0.4 * x) * tau * (1 - tau),
            (1 - benefit * c) * 0.307 * rate * (tau / 0.35) ** 0.87 * (1 - bracket + bracket * x),
            per_day * YEAR * (1 - c),
        ]

    reference = solve_ivp(
        derivative, (0, 2), [A, A / 90, T, z, 0.0], method="LSODA", t_eval=days / YEAR, rtol=1e-11, atol=1e-11
    ).y[3]
    spreads = np.exp([-0.7, -0.7]) * np.asarray(effects[5:])
    expected = np.column_stack(
        [18 * expit(reference + spreads[0]), 30 * (1 - expit(0.226 + 1.159 * (reference + spreads[1])))]
    )
    np.testing.assert_allclose(scores, expected, atol=1e-3)


@pytest.mark.reference
def test_reference_step_of_four_weeks() -> None:
    """Diffrax 0.7.2, Tsit5 at 1e-10, over 5 years, for patients at ±3 SD of each effect and of all, untreated.

    The solver's own estimate lies above the error for every patient and state; what is left at days between grid points
    is the interpolation's.
    """
    years, disease = 5.0, Alzheimer()
    population = {p.name: jnp.asarray(p.mean) for p in disease.priors}
    grid = time_grid(years * YEAR)
    at = jnp.concatenate([grid.times, jnp.linspace(0.0, years * YEAR, 41)])
    at = jnp.sort(at[at <= years * YEAR])
    assert STEP == 28.0
    corners = 3 * np.random.default_rng(0).choice([-1.0, 1.0], (8, 5))
    effects = jnp.asarray(np.concatenate([3 * np.eye(5), -3 * np.eye(5), corners]))
    system = Course(disease, NoTreatment())

    def both(u: Array) -> tuple[Any, Any, Any]:
        person = Person(disease.individual(population, u, CENTRE), ())
        reference = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: system.flow(t, y, (), person)),
            diffrax.Tsit5(),
            0.0,
            years * YEAR,
            1.0,
            system.initial(person),
            saveat=diffrax.SaveAt(ts=at),
            stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-12),
        )
        ours = METHOD.follow(system, person, grid, at)
        return jnp.stack(ours.values), jnp.stack(ours.error), jnp.stack(reference.ys)

    ours, estimate, reference = jax.jit(jax.vmap(both))(effects)
    error = np.abs(np.asarray(ours - reference))
    on_grid = np.isin(np.asarray(at), np.asarray(grid.times))
    assert (np.asarray(estimate) + 1e-9 >= error[..., on_grid].max(axis=2)).all()
    assert (np.asarray(estimate) < 0.05 * np.array(disease.tolerances)).all()
    assert (error.max(axis=2) < 0.1 * np.array(disease.tolerances)).all()


def test_independent_expansion(instrument: Instrument) -> None:
    """Value and gradient are those of the log joint; the curvature is the mean of minus its Hessian over measurements.

    The log density is quadratic in each measurement, so that the mean over two measurements, one SD above and one SD
    below what is expected, is exact.
    """
    population, grid = means(instrument), time_grid(84.0)
    u = jnp.array([0.5, -0.3, 0.2, 0.4, -0.6, 0.3, -0.2])
    times = jnp.array([0.0, 30.0, 80.0])
    observed = jnp.array([[True, True], [True, False], [True, True]])

    @jax.jit
    def compute(effects: Array) -> tuple[Any, Any]:
        expected, _ = instrument.course(population, effects, CENTRE, times, grid, NoTreatment(), NONE)
        spread = instrument.spread(population, expected)
        density = jax.value_and_grad(instrument.log_joint, argnums=1)

        def at(values: Array) -> tuple[Any, Array, Any]:
            data = (Observations(CENTRE, times, values, observed), grid)
            minus_hessian = -jax.hessian(instrument.log_joint, argnums=1)(population, effects, data)
            return density(population, effects, data), minus_hessian, instrument.expand(population, effects, data)

        (value, gradient), hessians, expansion = jax.vmap(at)(jnp.stack([expected + spread, expected - spread]))
        return (value, gradient, jnp.broadcast_to(hessians.mean(axis=0), hessians.shape)), expansion

    for found, wanted in zip(*compute(u), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_independent_log_joint(instrument: Instrument) -> None:
    """Normal densities of what was measured and of the effects, by scipy; what was not measured does not count."""
    population, grid, times = means(instrument), time_grid(84.0), jnp.array([0.0, 30.0, 80.0])
    u = jnp.array([0.5, -0.3, 0.2, 0.4, -0.6, 0.3, -0.2])
    expected, _ = eqx.filter_jit(instrument.course)(population, u, CENTRE, times, grid, NoTreatment(), NONE)
    values = np.array([[3.0, 26.0], [3.5, 0.0], [2.0, 25.0]])
    observed = np.array([[True, True], [True, False], [True, True]])
    sd = np.column_stack([np.hypot(0.52, 0.16 * np.asarray(expected)[:, 0]), np.full(3, 1.5)])
    by_scipy = norm.logpdf(values, expected, sd)[observed].sum() + norm.logpdf(u).sum()
    data = (Observations(CENTRE, times, jnp.asarray(values), jnp.asarray(observed)), grid)
    assert float(eqx.filter_jit(instrument.log_joint)(population, u, data)) == pytest.approx(by_scipy, rel=1e-12)


@pytest.mark.parametrize(("last", "points"), [(0.0, 4), (1.0, 4), (84.0, 4), (84.1, 7), (546.0, 22)])
def test_a_grid_reaches_the_last_day_in_few_lengths(last: float, points: int) -> None:
    grid = np.asarray(time_grid(last).times)
    assert len(grid) == points
    assert grid[0] == 0
    assert grid[-1] >= last
    np.testing.assert_allclose(np.diff(grid), STEP)


def test_declared_covariates_are_found_by_concept_and_missing_ones_are_at_their_centre(
    simulate: Callable[..., Cohort],
) -> None:
    disease = Alzheimer()
    cohort = simulate(1, {p.name: p.mean for p in Instrument(disease, ("CDR-SB", "MMSE")).priors})
    covariates = np.array(cohort.covariates)
    covariates[0] = np.nan
    found = declared_covariates(disease.declared, replace(cohort, covariates=covariates))
    rows = np.column_stack([*found.values()])
    np.testing.assert_array_equal(rows[0], [75.0, 0.5, 0.72, 0.0])
    np.testing.assert_array_equal(rows[1:, :3], cohort.covariates[1:])
    bare = replace(cohort, variables=(), covariates=np.zeros((len(cohort), 0)))
    found = declared_covariates(disease.declared, bare)
    np.testing.assert_array_equal(np.column_stack([*found.values()]), np.tile([75.0, 0.5, 0.72, 0.0], (len(cohort), 1)))


def test_a_sex_without_the_level_that_is_declared_is_refused(simulate: Callable[..., Cohort]) -> None:
    disease = Alzheimer()
    cohort = simulate(1, {p.name: p.mean for p in Instrument(disease, ("CDR-SB", "MMSE")).priors})
    words = Variable("SEX", kind=Kind.CATEGORICAL, levels=("male", "female"), concept="sex")
    other = replace(cohort, variables=(cohort.variables[0], words, cohort.variables[2]))
    with pytest.raises(DataError, match=r"SEX \(sex\) has no level 'F'\n  exists: male, female"):
        declared_covariates(disease.declared, other)


def test_a_number_is_not_read_from_the_codes_of_a_category(simulate: Callable[..., Cohort]) -> None:
    """Positions of levels are no numbers of alleles; here they would run backwards."""
    disease = Alzheimer()
    cohort = simulate(1, {p.name: p.mean for p in Instrument(disease, ("CDR-SB", "MMSE")).priors})
    levels = ("two alleles", "one allele", "none")
    apoe = Variable("APOE", kind=Kind.CATEGORICAL, levels=levels, concept="APOE4")
    words = replace(cohort, variables=(*cohort.variables[:2], apoe))
    with pytest.raises(DataError, match=r"APOE \(APOE4\) must be a number and is categorical"):
        declared_covariates(disease.declared, words)


def test_a_measurement_outside_its_scale_is_refused_with_subject_and_visit(
    instrument: Instrument, simulate: Callable[..., Cohort]
) -> None:
    cohort = simulate(1, {p.name: p.mean for p in instrument.priors})
    values = np.array(cohort.values)
    values[3, 2, 1] = 31.0
    with pytest.raises(DataError, match=r"MMSETOT = 31 lies outside MMSE, 0 to 30") as caught:
        observe(instrument, replace(cohort, values=values), cohort.outcomes, pad=True)
    assert caught.value.where == f"subject {cohort.ids[3]}, Week 52; 1 value(s) in all"


def test_padding_has_nothing_observed(instrument: Instrument, simulate: Callable[..., Cohort]) -> None:
    cohort = simulate(1, {p.name: p.mean for p in instrument.priors}).take(range(5))
    data = observe(instrument, cohort, cohort.outcomes, pad=True)
    assert data.values.shape == (32, 4, 2)
    assert not data.observed[5:].any()
    np.testing.assert_array_equal(data.values[:5], cohort.values)
