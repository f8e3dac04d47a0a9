"""Every patient under every candidate: paired courses, risks, and what each route carries."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.cohort import Cohort
from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.core.variables import Declared
from trialtwin.diseases.base import AbstractDisease
from trialtwin.drugs.combination import risks
from trialtwin.drugs.safety import AbstractHazard
from trialtwin.explain.pathway import Decomposition, decompose
from trialtwin.study.treat.infer import POPULATIONS, Draws, draw_patients
from trialtwin.study.treat.spec import TreatSpec, visit_days
from trialtwin.twins.virtual import Courses, complete, simulate_courses

PATHWAY_DRAWS = 16  # of each patient, that are followed with each subset of routes open: one a population

type Advance = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Simulated:
    """Draws of every patient: the endpoint's course untreated and under each candidate, and risks.

    Parameters
    ----------
    times : shape (time,), days
    untreated : shape (draw, patient, time)
    treated
        By candidate, of the same shape; a draw is the same patient in the same world under every candidate.
    excess
        By candidate and event, the probability by the end beyond that without the drug, of shape (draw, patient).
    risk
        By candidate and event, the probability by the end on the drug, of shape (draw, patient).
    given
        By candidate, the mean share of planned doses that were given, of shape (patient,).
    pathways
        By candidate, the change of the endpoint at the end by route, of shape (draw, patient), fewer draws.
    """

    times: Float[np.ndarray, " time"]
    untreated: Float[np.ndarray, "draw patient time"]
    treated: Mapping[str, Float[np.ndarray, "draw patient time"]]
    excess: Mapping[str, Mapping[str, Float[np.ndarray, "draw patient"]]]
    risk: Mapping[str, Mapping[str, Float[np.ndarray, "draw patient"]]]
    given: Mapping[str, Float[np.ndarray, " patient"]]
    pathways: Mapping[str, Decomposition]


def simulate(
    cohort: Cohort,
    disease: AbstractDisease,
    candidates: Mapping[str, AbstractTreatment],
    spec: TreatSpec,
    advance: Advance | None = None,
) -> Simulated:
    """Simulate every patient untreated and under every candidate.

    The same draws of patient, population and drug serve every candidate, so that differences are effects.
    """
    times, endpoint, n = np.array(visit_days(spec.weeks)), spec.endpoint_of(disease), len(cohort)
    also = tuple(d for t in candidates.values() for d in (*t.declared, *_risk_covariates(t)))
    total, done = 1 + len(candidates) * (2 if spec.pathways else 1), 1
    drawn = draw_patients(cohort, disease, also, draws=spec.draws, seed=spec.seed)
    lanes = len(drawn.world)
    some = min(lanes, n * PATHWAY_DRAWS)
    world = _Asked(drawn, times, endpoint, cohort.ids)
    base = world.course(NoTreatment(), np.zeros((lanes, 0))).scores[endpoint]
    treated, excess, risk, given, pathways = {}, {}, {}, {}, {}
    for name, treatment in candidates.items():
        own = _effects(treatment, spec.seed, lanes)
        factor = _factors(treatment, spec)[drawn.world]
        course = world.course(treatment, own)
        scores = base + factor[:, None] * (course.scores[endpoint] - base)
        treated[name] = scores.reshape(-1, n, len(times))
        risk[name], excess[name] = _risks(treatment, drawn, own, times[-1], n)
        given[name] = course.given.reshape(-1, n).mean(axis=0)
        done += 1
        if spec.pathways:
            pathways[name] = world.first(some).pathway(treatment, own[:some], factor[:some])
            done += 1
        if advance is not None:
            advance(done, total)
    return Simulated(times, base.reshape(-1, n, len(times)), treated, excess, risk, given, pathways)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Draws of patients with what is asked of their courses."""

    drawn: Draws
    times: Float[np.ndarray, " time"]
    endpoint: str
    ids: tuple[str, ...]

    def first(self, lanes: int) -> "_Asked":
        """Return the first lanes, at the start and the end only."""
        return _Asked(self.drawn.first(lanes), self.times[[0, -1]], self.endpoint, self.ids)

    def course(
        self,
        treatment: AbstractTreatment,
        effects: Float[np.ndarray, "lane effect"],
        routes: Sequence[str] | None = None,
    ) -> Courses:
        """Return the courses of all lanes under a treatment."""
        return simulate_courses(
            self.drawn.disease,
            self.drawn.individuals,
            treatment,
            self.times,
            effects=effects,
            covariates=self.drawn.covariates,
            scales=(self.endpoint,),
            offsets=self.drawn.offsets,
            ids=tuple(self.ids[i % len(self.ids)] for i in range(len(effects))),
            routes=routes,
            models=self.drawn.models,
        )

    def pathway(
        self,
        treatment: AbstractTreatment,
        effects: Float[np.ndarray, "lane effect"],
        factor: Float[np.ndarray, " lane"],
    ) -> Decomposition:
        """Decompose the change of the endpoint at the end over the disease's routes."""
        names = [route.name for route in self.drawn.disease.routes]

        def value(routes: frozenset[str]) -> Float[np.ndarray, "draw patient"]:
            course = self.course(treatment, effects, [name for name in names if name in routes])
            return (factor * course.scores[self.endpoint][:, -1]).reshape(-1, len(self.ids))

        return decompose(names, value)


def _effects(treatment: AbstractTreatment, seed: int, lanes: int) -> Float[np.ndarray, "lane effect"]:
    """Draw a treatment's random effects, each by its own name: a drug is the same at any dose, and beside others."""
    columns = [
        np.random.default_rng([seed, 2, zlib.crc32(name.encode())]).normal(size=lanes) for name in treatment.effects
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((lanes, 0))


def _factors(treatment: AbstractTreatment, spec: TreatSpec) -> Float[np.ndarray, " world"]:
    """Draw factors by which a drug's clinical effect differs from what the calibration says, never below 0."""
    rng = np.random.default_rng([spec.seed, 3, zlib.crc32(treatment.name.encode())])
    return np.maximum(0.0, rng.normal(1.0, spec.effect_spread, POPULATIONS))


def events_of(treatment: AbstractTreatment) -> tuple[str, ...]:
    """Return the adverse events that a treatment carries."""
    return tuple(hazard.event for hazard in _hazards(treatment))


def _risk_covariates(treatment: AbstractTreatment) -> tuple[Declared, ...]:
    return tuple(d for hazard in _hazards(treatment) for d in hazard.declared)


def _hazards(treatment: AbstractTreatment) -> tuple[AbstractHazard, ...]:
    own = treatment.individual(jnp.zeros(len(treatment.effects)), {})
    return tuple(hazard for hazard, _ in risks(treatment, own))


def _risks(
    treatment: AbstractTreatment, drawn: Draws, effects: Float[np.ndarray, "lane effect"], last: float, n: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the probability of each event by the end, on the drug and beyond that without it: (draw, patient)."""
    known = complete(drawn.disease, treatment, drawn.covariates, len(effects))
    known |= {c: jnp.asarray(v) for c, v in drawn.covariates.items() if c not in known}
    on, off = _incidence(treatment, jnp.asarray(effects), known, jnp.asarray(last))
    return (
        {event: np.asarray(value).reshape(-1, n) for event, value in on.items()},
        {event: np.asarray(on[event] - off[event]).reshape(-1, n) for event in on},
    )


@eqx.filter_jit
def _incidence(
    treatment: AbstractTreatment, effects: Array, covariates: Any, last: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the probability of each event on the drug and without it; of a combination, that of any part's."""

    def one(u: Array, x: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        on: dict[str, Array] = {}
        off: dict[str, Array] = {}
        for hazard, exposure in risks(treatment, treatment.individual(u, x)):
            spared = 1 - hazard.incidence(x, exposure, last)
            on[hazard.event] = 1 - (1 - on.get(hazard.event, jnp.zeros(()))) * spared
            off[hazard.event] = jnp.maximum(off.get(hazard.event, jnp.zeros(())), hazard.placebo(x, last))
        return on, off

    return jax.vmap(one)(effects, covariates)
