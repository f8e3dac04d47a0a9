"""Virtual patients of a trial's arm, given its regimen and followed to its visits by the engine.

Arms of a population have the same virtual patients, with the same random effects, so that differences between arms are
those of the drug alone. Courses are kept by the parameters that they depend on: difference quotients ask for most of
them again and again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import special

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.core.finding import Assumption
from trialtwin.core.treatment import AbstractTreatment, NoTreatment, no_doses
from trialtwin.diseases.alzheimer import Alzheimer, Patient
from trialtwin.diseases.base import AbstractDisease, LogisticScale
from trialtwin.drugs.registry import find_drug
from trialtwin.drugs.safety import AbstractHazard
from trialtwin.drugs.therapy import Therapy, prescribe
from trialtwin.engine.ensemble import solve_ensemble
from trialtwin.engine.fixed import Fixed
from trialtwin.engine.grid import Grid
from trialtwin.engine.method import require_solved
from trialtwin.study.replay.endpoints import endpoint_names
from trialtwin.study.replay.entry import Entry, complete, draw_entry
from trialtwin.study.replay.expected import REMOVAL
from trialtwin.study.replay.observe import Courses, Link
from trialtwin.study.replay.parameters import CALIBRATED_DRUGS
from trialtwin.study.replay.readouts import MAIN
from trialtwin.study.replay.spec import Arm, Trial
from trialtwin.twins.system import FINEST, Course, Person, dosing_grid

PATHWAY = "amyloid_clearance"
RATE_SD, CAPACITY_SD = 0.75, 0.25  # between patients, lognormal (set by hand; the mean rate is 1)
TAU_MEAN, TAU_SD = -0.6, 0.8  # logit of neocortical tau
APOE4_CENTRE, AGE_CENTRE = 0.72, 75.0
AMYLOID_CENTRE, AMYLOID_SPREAD = 80.0, 38.0  # CL: about which capacity goes with amyloid at entry
COUNTS = (4, 8, 16, 32, 64)  # of output times, so that few lengths are compiled
KEPT = 4000  # courses
_DISEASE_KEYS = ("kz", "θ", "κ", "γ", "K", "capacity by amyloid", "APOE4", "sex", "age")
_ARIA = endpoint_names("aria")


class Virtual(NamedTuple):
    """Patients of an arm as arrays: their own parameters of the disease, and covariates by concept."""

    people: Any
    covariates: dict[str, Float[np.ndarray, " patient"]]


@dataclass(eq=False)
class Plan:
    """What some genotypes of an arm are given, and how finely the engine must step to follow it.

    ``grids`` is filled as the steps are found that keep the solver's error within tolerance.
    """

    genotypes: tuple[int, ...]
    treatment: AbstractTreatment
    finer: int = 2
    grids: dict[tuple[float, ...], Grid] = field(default_factory=dict)

    def grid(self, times: Float[np.ndarray, " time"]) -> Grid:
        """Return the grid for output times, at the present fineness."""
        key = (float(self.finer), *times)
        if key not in self.grids:
            self.grids[key] = dosing_grid(self.treatment, times, finer=self.finer)
        return self.grids[key]


class EngineSimulator:
    """Simulates arms with the disease model, drugs of the library or the user's, and the engine.

    Parameters
    ----------
    seed, patients
        Of the virtual patients: scrambling of their sequence, and how many in each arm.
    folders
        By trial, the folder in which drug files named in it are looked for.
    """

    def __init__(self, *, seed: int, patients: int, folders: Mapping[str, Path] | None = None) -> None:
        self._seed, self._patients = seed, patients
        self._folders = dict(folders or {})
        self._entries: dict[tuple[str, str, str], Entry] = {}
        self._kept: dict[tuple[object, ...], Courses] = {}
        self._plans: dict[tuple[str, str], list[Plan]] = {}
        self._chances: dict[tuple[object, ...], dict[str, Float[np.ndarray, " patient"]]] = {}

    def assumptions(self) -> tuple[Assumption, ...]:
        """Return what the disease model takes as given, but for what is calibrated."""
        calibrated = ("kz", "θ", "κ", "γ", "K")
        return tuple(c.assumption() for c in Alzheimer().constants if c.name not in calibrated)

    def links(self, values: Mapping[str, float]) -> dict[str, Link]:
        """Return the links of the clinical scales at parameter values."""
        found = {}
        for name in endpoint_names("score"):
            scale = Alzheimer().scales[name]
            if not isinstance(scale, LogisticScale):  # all scores are
                continue
            parts = ("ADAS-Cog", "ADCS-iADL") if name == "iADRS" else ("ADAS-Cog" if "ADAS" in name else name,)
            stretch = tuple(values.get(f"stretch of {part}", 1.0) for part in parts)
            response = tuple(values["response"] * (part == "ADAS-Cog") for part in parts)
            found[name] = Link(scale.terms, scale.constant, stretch, response, values["half-life of response"])
        return found

    def courses(self, trial: Trial, population: str, arm: Arm, values: Mapping[str, float]) -> Courses:
        """Return the courses of the patients of a population in an arm; ``check`` the trial first.

        Raises
        ------
        ConvergenceError
            If the solver fails; the message names the patients.
        """
        relevant = [values[key] for key in _DISEASE_KEYS]
        if arm.drug:
            relevant += [values.get(f"removal by {arm.drug}", 0.0), values.get(REMOVAL, 0.0)]
            relevant += [values["EC50 of aducanumab"]] * (arm.drug == "aducanumab")
        key = (trial.id, population, arm.name, *relevant)
        if key not in self._kept:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[key] = self._simulate(trial, population, arm, values)
        return self._kept[key]

    def events(self, trial: Trial, arm: Arm) -> frozenset[str]:
        """Return which kinds of ARIA are known of an arm; without a drug, of the placebo of any drug of the trial."""
        return frozenset(hazard.event for hazard in self._hazards(trial, arm if arm.drug else None))

    def check(self, trial: Trial) -> None:
        """Refuse a trial that cannot be simulated, before any work.

        Raises
        ------
        ConfigError
            If it names a disease that cannot be replayed, a population that fits no law, or a regimen that cannot be
            read.
        MismatchError
            If a drug does not exist, or acts on nothing that the disease has.
        """
        if trial.disease != "alzheimer":
            raise ConfigError(
                f"a trial of {trial.disease!r} cannot be replayed", where=f"{trial.id}: disease", exists=("alzheimer",)
            )
        for arm in trial.arms:
            for population in (MAIN, *(part.name for part in trial.subpopulations)):
                self.entry(trial, population, arm)
            for plan in self._plans_of(trial, arm, 7 * max(trial.visits)):
                Course(Alzheimer(), plan.treatment)

    def entry(self, trial: Trial, population: str, arm: Arm) -> Entry:
        """Return the patients of a population in an arm, as they enter."""
        own = arm.name if arm.population.model_fields_set else ""
        key = (trial.id, population, own)
        if key not in self._entries:
            part = trial.subpopulation(population)
            layers = [trial.population, *([part.population] if part else []), arm.population]
            where = trial.id if population == MAIN else f"{trial.id}, {population}"
            self._entries[key] = draw_entry(
                complete(*layers), self._patients, seed=self._seed, where=where, invert=_INVERSES
            )
        return self._entries[key]

    def _simulate(self, trial: Trial, population: str, arm: Arm, values: Mapping[str, float]) -> Courses:
        entry = self.entry(trial, population, arm)
        weeks = np.array([0.0, *sorted(trial.visits)])
        virtual = _virtual(entry, values)
        disease = disease_at(values)
        last = 7 * float(weeks[-1])
        amyloid, severity = (np.zeros((len(entry), len(weeks))) for _ in range(2))
        aria = {event: np.zeros(len(entry)) for event in self.events(trial, arm)}
        for plan in self._plans_of(trial, arm, last):
            mine = np.isin(entry.alleles, plan.genotypes)
            individual = _individual(plan.treatment, entry, virtual, arm.drug, values)
            found = _solve(disease, plan, virtual.people, individual, 7 * weeks)
            for whole, part in zip((amyloid, severity), found, strict=True):
                whole[mine] = part[mine]
            key = (trial.id, population, arm.name, *plan.genotypes)
            if key not in self._chances:  # they do not depend on what is calibrated
                self._chances[key] = self._aria(trial, plan.treatment, individual, virtual, last)
            for event, chance in self._chances[key].items():
                aria[event][mine] = chance[mine]
        symptomatic = any("symptoms" in plan.treatment.targets for plan in self._plans_of(trial, arm, last))
        return Courses(entry, weeks, amyloid, severity, aria, trial.cl_per_suvr, symptomatic)

    def _plans_of(self, trial: Trial, arm: Arm, last: float) -> list[Plan]:
        """Return what each genotype is given."""
        key = (trial.id, arm.name)
        if key not in self._plans:
            given = arm.regimen if isinstance(arm.regimen, dict) else {"": arm.regimen}
            self._plans[key] = [
                Plan(_GENOTYPES[who], self._therapy(trial, arm, words, last) if arm.drug else NoTreatment())
                for who, words in given.items()
            ]
        return self._plans[key]

    def _therapy(self, trial: Trial, arm: Arm, plan: str, last: float) -> Therapy:
        where: Path | str = arm.drug
        if arm.drug.endswith(".toml"):
            where = self._folders.get(trial.id, Path()) / arm.drug
        therapy = prescribe(find_drug(where), plan or None, disease=trial.disease, until=last)
        if arm.intensity != 1:
            therapy = eqx.tree_at(lambda t: t.doses.amount, therapy, therapy.doses.amount * arm.intensity)
        return therapy

    def _aria(
        self, trial: Trial, treatment: AbstractTreatment, individual: Any, virtual: Virtual, last: float
    ) -> dict[str, Float[np.ndarray, " patient"]]:
        """Return each patient's probability of ARIA by the last visit; untreated, that of the first drug's placebo."""
        if isinstance(treatment, Therapy):
            exposure = jax.vmap(treatment.exposure)(individual)
            return {
                hazard.event: np.asarray(
                    jax.vmap(lambda c, e, h=hazard: h.incidence(c, e, last))(virtual.covariates, exposure)
                )
                for hazard in treatment.hazards
                if hazard.event in _ARIA
            }
        found: dict[str, Float[np.ndarray, " patient"]] = {}
        for hazard in self._hazards(trial):
            if hazard.event not in found:
                chance = jax.vmap(lambda c, h=hazard: h.placebo(c, last))(virtual.covariates)
                found[hazard.event] = np.asarray(chance)
        return found

    def _hazards(self, trial: Trial, arm: Arm | None = None) -> list[AbstractHazard]:
        """Return the risks of ARIA in the file of an arm's drug, or of all drugs of a trial."""
        arms = [a for a in trial.arms if a.drug] if arm is None else [arm]
        plans = [self._plans_of(trial, a, 7 * max(trial.visits))[0] for a in arms]
        return [h for plan in plans for h in getattr(plan.treatment, "hazards", ()) if h.event in _ARIA]


_GENOTYPES: Mapping[str, tuple[int, ...]] = {
    "": (0, 1, 2),
    "noncarrier": (0,),
    "heterozygote": (1,),
    "homozygote": (2,),
    "carrier": (1, 2),
}


def disease_at(values: Mapping[str, float]) -> Alzheimer:
    """Return the disease model at parameter values.

    Examples
    --------
    >>> from trialtwin.study.replay.parameters import shipped_calibration
    >>> disease_at(shipped_calibration().natural()).name
    'alzheimer'
    """
    kz, theta, kappa, gamma = (jnp.asarray(values[name]) for name in ("kz", "θ", "κ", "γ"))
    return Alzheimer(kz=kz, theta=theta, kappa=kappa, gamma=gamma)


def _virtual(entry: Entry, values: Mapping[str, float]) -> Virtual:
    """Return patients' own parameters of the disease; the mean rate is 1 before covariates."""
    log_rate = RATE_SD * entry.rate - RATE_SD**2 / 2
    log_rate = log_rate + values["APOE4"] * (entry.alleles - APOE4_CENTRE) + values["sex"] * (entry.female - 0.5)
    log_rate = log_rate + values["age"] * (entry.age - AGE_CENTRE)
    tie = math.tanh(values["capacity by amyloid"])
    with_amyloid = np.clip((entry.amyloid - AMYLOID_CENTRE) / AMYLOID_SPREAD, -3, 3)
    score = tie * with_amyloid + math.sqrt(1 - tie**2) * entry.capacity
    people = Patient(
        rate=jnp.asarray(np.exp(log_rate)),
        capacity=jnp.asarray(values["K"] * np.exp(CAPACITY_SD * score)),
        amyloid=jnp.asarray(np.maximum(entry.amyloid, 0.0)),
        tau=jnp.asarray(special.expit(TAU_MEAN + TAU_SD * entry.tau)),
        severity=jnp.asarray(entry.severity),
    )
    covariates = {"age": entry.age, "weight": entry.weight, "sex": entry.female, "APOE4": entry.alleles}
    return Virtual(people, covariates)


def _individual(
    treatment: AbstractTreatment, entry: Entry, virtual: Virtual, drug: str, values: Mapping[str, float]
) -> Any:
    """Return patients' own parameters of a treatment, its removal of amyloid as calibrated."""
    count = len(treatment.effects)
    if count > entry.treatment.shape[1]:
        raise MismatchError(
            f"{treatment.name} has {count} random effects", do=f"a replay can follow {entry.treatment.shape[1]}"
        )
    if not count and not treatment.states:
        return ()
    effects = jnp.asarray(entry.treatment[:, :count])
    bare = eqx.tree_at(lambda t: t.doses, treatment, no_doses())  # other doses are to compile nothing anew
    individual = _own(bare, effects, {k: jnp.asarray(v) for k, v in virtual.covariates.items()})
    if not isinstance(treatment, Therapy):
        return individual
    acts = []
    for act, own in zip(treatment.acts, individual.acts, strict=True):
        if act.mechanism == PATHWAY:
            factor = math.exp(values.get(REMOVAL, 0.0))
            if drug in CALIBRATED_DRUGS:
                factor *= values[f"removal by {drug}"] / _emax(drug)
            half = jnp.full_like(own.half, values["EC50 of aducanumab"]) if drug == "aducanumab" else own.half
            acts.append(own._replace(size=own.size * factor, half=half))
        else:
            acts.append(own)
    return individual._replace(acts=tuple(acts))


@eqx.filter_jit
def _own(treatment: AbstractTreatment, effects: Any, covariates: Any) -> Any:
    return jax.vmap(treatment.individual)(effects, covariates)


def _emax(drug: str) -> float:
    """Return the largest removal of amyloid in a library file, 1/yr."""
    page = find_drug(drug).page
    sizes = [getattr(effect, "emax", None) for effect in page.effect if effect.mechanism == PATHWAY]
    return next(float(size.value) for size in sizes if size is not None)


def _solve(
    disease: AbstractDisease,
    plan: Plan,
    people: Any,
    individual: Any,
    days: Float[np.ndarray, " time"],
) -> tuple[Float[np.ndarray, "patient time"], Float[np.ndarray, "patient time"]]:
    """Return amyloid and apparent severity of each patient at days."""
    treatment = plan.treatment
    system = Course(disease, treatment)
    times = _filled(days)
    persons = Person(people, individual)
    ids = tuple(f"virtual {i + 1}" for i in range(len(people.severity)))
    while True:
        solution = solve_ensemble(system, persons, plan.grid(times), Fixed())
        error = np.array([np.max(np.asarray(e)) for e in solution.error])
        if plan.finer == FINEST or (np.asarray(solution.ok).all() and (error <= np.array(system.tolerances)).all()):
            break
        plan.finer += 1
    require_solved(solution, system.states, ids, system.tolerances)
    wanted = np.searchsorted(times, days - 1e-6)
    values = tuple(jnp.asarray(np.asarray(value)[:, wanted]) for value in solution.values)
    amyloid, severity = (disease.states.index(name) for name in ("amyloid", "severity"))
    if "symptoms" not in treatment.targets:
        return np.asarray(values[amyloid]), np.asarray(values[severity])

    def seen(state: Any, person: Person) -> Any:
        return jax.vmap(lambda t, s: system.apparent(t, s, person)[severity])(jnp.asarray(days), state)

    return np.asarray(values[amyloid]), np.asarray(jax.vmap(seen)(values, persons))


def _filled(days: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """Add times in the widest gaps until there are as many as one of the usual counts."""
    times = list(days)
    wanted = next((count for count in COUNTS if count >= len(times)), len(times))
    while len(times) < wanted:
        gaps = np.diff(times)
        widest = int(np.argmax(gaps))
        times.insert(widest + 1, float(np.round(times[widest] + gaps[widest] / 2)))
    return np.array(times)


def _inverse(name: str) -> Any:
    """Return the function from scores of a scale to severity, by its published link (a table, inverted)."""
    scale = Alzheimer().scales[name]
    grid = np.linspace(-7.0, 6.0, 1301)
    link = Link(scale.terms, scale.constant, (1.0,) * len(scale.terms), (0.0,) * len(scale.terms), 1.0)  # type: ignore[attr-defined]
    scores = link.score(grid, 0.0, 0.0)
    if scores[0] > scores[-1]:
        return lambda score: np.interp(-np.asarray(score), -scores, grid)
    return lambda score: np.interp(np.asarray(score), scores, grid)


_INVERSES = {name: _inverse(name) for name in endpoint_names("score")}
