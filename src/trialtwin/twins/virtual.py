"""Virtual patients: their courses under a disease and a treatment, many at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.diseases.base import AbstractDisease
from trialtwin.engine.adaptive import Adaptive
from trialtwin.engine.ensemble import solve_ensemble
from trialtwin.engine.fixed import Fixed
from trialtwin.engine.grid import align
from trialtwin.engine.method import AbstractMethod, Solution, accurate, require_solved
from trialtwin.engine.stiff import Stiff
from trialtwin.twins.system import Course, Person, dosing_grid, typical

# of each step: measured errors at the end are a tenth of the states' tolerances or less
RTOL, SHARE = 1e-3, 0.1
MOST = 20_000  # steps, after which a course counts as stiff
LOCKSTEP = 32  # patients solved together, who wait for the slowest among them


class Courses(eqx.Module):
    """Courses of virtual patients at common times.

    Parameters
    ----------
    ids
        Patients.
    times : shape (time,), days
        When.
    states
        By name, the states of the disease and of the treatment, of shape (patient, time).
    scores
        By concept, expected scores on the disease's scales, of shape (patient, time).
    given : shape (patient,)
        Share of the planned doses that were given.
    """

    ids: tuple[str, ...] = eqx.field(static=True)
    times: Float[np.ndarray, " time"]
    states: dict[str, Float[np.ndarray, "patient time"]]
    scores: dict[str, Float[np.ndarray, "patient time"]]
    given: Float[np.ndarray, " patient"]


def complete(
    disease: AbstractDisease,
    treatment: AbstractTreatment,
    covariates: Mapping[str, Float[np.ndarray, " patient"]],
    n: int,
) -> dict[str, Array]:
    """Return every covariate that a disease and a treatment use, missing ones as they enter.

    Raises
    ------
    DataError
        If a covariate does not have a value a patient.
    """
    centres = {d.concept: d.centre for d in (*treatment.declared, *disease.declared)}
    found = {}
    for concept, centre in centres.items():
        column = np.asarray(covariates.get(concept, np.full(n, np.nan)), dtype=float)
        if column.shape != (n,):
            raise DataError(f"covariate {concept!r} has shape {column.shape} for {n} patients")
        found[concept] = jnp.asarray(np.where(np.isnan(column), centre, column))
    return found


def draw_individuals(
    disease: AbstractDisease,
    population: Mapping[str, float],
    effects: Float[np.ndarray, "patient effect"],
    covariates: Mapping[str, Float[np.ndarray, " patient"]],
) -> Any:
    """Return patients' own parameters of a disease, with a leading patient axis.

    Parameters
    ----------
    population
        Values by name; those not named are at the mean of their prior.
    effects : shape (patient, effect)
        Standard-normal random effects.
    covariates
        By concept; NaN or absent where missing.

    Raises
    ------
    MismatchError
        If a population value is not one of the disease's.
    """
    values = {prior.name: prior.mean for prior in disease.priors}
    unknown = [name for name in population if name not in values]
    if unknown:
        raise MismatchError(f"{disease.name!r} has no population parameter {unknown[0]!r}", exists=values)
    named = {name: jnp.asarray(float(value)) for name, value in (values | dict(population)).items()}
    known = typical(disease.declared)
    n = len(effects)
    own = {}
    for concept, centre in known.items():
        column = np.asarray(covariates.get(concept, np.full(n, np.nan)), dtype=float)
        own[concept] = jnp.where(jnp.isnan(column), centre, column)
    return _individuals(disease, named, jnp.asarray(effects), own)


def simulate_courses(
    disease: AbstractDisease,
    individuals: Any,
    treatment: AbstractTreatment,
    times: Float[np.ndarray, " time"],
    *,
    effects: Float[np.ndarray, "patient effect"] | None = None,
    covariates: Mapping[str, Float[np.ndarray, " patient"]] | None = None,
    scales: Sequence[str] = (),
    offsets: Mapping[str, Float[np.ndarray, " patient"]] | None = None,
    ids: tuple[str, ...] | None = None,
    routes: Sequence[str] | None = None,
    models: AbstractDisease | None = None,
    method: AbstractMethod | None = None,
) -> Courses:
    """Solve the courses of virtual patients under a treatment.

    Parameters
    ----------
    disease, individuals
        From ``draw_individuals``, or the disease's own way of entering patients; leading patient axis.
    times : shape (time,), days
        Increasing, 0 or later; read before the dose of that day.
    effects : shape (patient, effect)
        Random effects of the treatment; zeros where not given.
    covariates
        By concept, for the treatment; missing ones as it declares.
    scales
        Concepts of the scores wanted.
    offsets
        By concept, how much worse each patient looks on a scale than the state says.
    routes
        Where given, only these carry the treated patient's signal, the others that of the same patient untreated.
    models
        The disease with arrays of a leading patient axis, where its constants differ between patients.
    method
        Where not given: fixed steps without a treatment, each patient's own under one, stiff where those get small.

    Raises
    ------
    MismatchError
        If the treatment, a scale or a route does not fit the disease.
    DataError
        If numbers of patients disagree, or a state leaves its physiological range.
    ConvergenceError
        If a patient cannot be solved.
    """
    n, at = len(jax.tree.leaves(individuals)[0]), np.asarray(times, dtype=float)
    names = ids or tuple(f"patient {i + 1}" for i in range(n))
    _require_known("scale", scales, disease.scales)
    _require_known("route", routes or (), [route.name for route in disease.routes])
    course = Course(disease, treatment, routed=routes is not None)
    known = complete(disease, treatment, covariates or {}, n)
    open_ = () if routes is None else tuple(jnp.full(n, float(r.name in routes)) for r in disease.routes)
    people = Person(individuals, _treated(treatment, _own_effects(treatment, effects, n), known), open_, models)
    solved = _solve(course, people, treatment, at, names, method)
    looks = {name: jnp.asarray((offsets or {}).get(name, np.zeros(n)), dtype=float) for name in scales}
    states, scores = jax.tree.map(np.asarray, _read(course, people, solved, jnp.asarray(at), looks))
    _require_plausible(disease, states, at, names)
    return Courses(names, frozen(at), states, scores, np.asarray(solved.given))


def _own_effects(
    treatment: AbstractTreatment, effects: Float[np.ndarray, "patient effect"] | None, n: int
) -> Float[Array, "patient effect"]:
    """Return a treatment's random effects of n patients, zeros where not given."""
    own = np.zeros((n, len(treatment.effects))) if effects is None else np.asarray(effects)
    if own.shape != (n, len(treatment.effects)):
        raise DataError(f"effects of shape {own.shape}", do=f"give shape {(n, len(treatment.effects))}")
    return jnp.asarray(own)


def _solve(
    course: Course,
    people: Person,
    treatment: AbstractTreatment,
    times: Float[np.ndarray, " time"],
    ids: tuple[str, ...],
    method: AbstractMethod | None,
) -> Solution:
    """Solve, and refuse what is not accurate."""
    if isinstance(method, Fixed) or (method is None and not treatment.states):
        grid = dosing_grid(treatment, times)
        solved = solve_ensemble(course, people, grid, method or Fixed())
        if method is not None or accurate(solved, course.tolerances):
            require_solved(solved, course.states, ids, course.tolerances)
            return solved
    # an adaptive method holds each step to its tolerance; what adds up is not compared with it
    unbounded = tuple(np.inf for _ in course.states)
    grid = align(treatment.doses if treatment.inputs else None, times, inputs=len(treatment.inputs), longest=np.inf)
    share = tuple(SHARE * tolerance for tolerance in course.tolerances)
    own = method or Adaptive(rtol=RTOL, atol=share, most=MOST)
    solved = solve_ensemble(course, people, grid, own, block=LOCKSTEP)
    if method is None and not bool(solved.ok.all()):
        solved = solve_ensemble(course, people, grid, Stiff(rtol=RTOL, atol=share), block=LOCKSTEP)
    require_solved(solved, course.states, ids, unbounded)
    return solved


@eqx.filter_jit
def _individuals(disease: AbstractDisease, population: Any, effects: Array, covariates: Any) -> Any:
    return jax.vmap(lambda u, x: disease.individual(population, u, x))(effects, covariates)


@eqx.filter_jit
def _treated(treatment: AbstractTreatment, effects: Array, covariates: Any) -> Any:
    return jax.vmap(treatment.individual)(effects, covariates)


@eqx.filter_jit
def _read(
    course: Course, people: Person, solved: Solution, times: Array, offsets: dict[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return states and expected scores, of shape (patient, time)."""
    disease = course.disease

    def at(t: Array, state: Any, person: Person, looks: dict[str, Array]) -> dict[str, Array]:
        seen = course.apparent(t, state, person)
        return {concept: disease.scales[concept].expected(seen, offset) for concept, offset in looks.items()}

    over_time = jax.vmap(at, in_axes=(0, 0, None, None))
    scores = jax.vmap(over_time, in_axes=(None, 0, 0, 0))(times, solved.values, people, offsets)
    return dict(zip(course.states, solved.values, strict=True)), scores


def _require_known(what: str, names: Sequence[str], exists: Any) -> None:
    unknown = [name for name in names if name not in exists]
    if unknown:
        raise MismatchError(f"no {what} {unknown[0]!r}", exists=exists)


def _require_plausible(
    disease: AbstractDisease, states: Mapping[str, np.ndarray], times: Float[np.ndarray, " time"], ids: tuple[str, ...]
) -> None:
    """Refuse a state outside its physiological range: which, when, and in which patient."""
    for name, (low, high) in zip(disease.states, disease.ranges, strict=True):
        values = np.asarray(states[name])
        out = ~((values >= low) & (values <= high))
        if out.any():
            i, k = (int(axis[0]) for axis in np.nonzero(out))
            raise DataError(
                f"{name} = {values[i, k]:.4g} leaves its physiological range, {low:g} to {high:g}",
                where=f"{ids[i]}, day {times[k]:g}; {int(out.any(axis=1).sum())} patient(s) in all",
                do="look at this patient's parameters, or at the treatment's dose",
            )
