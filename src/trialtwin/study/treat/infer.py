"""Patients inferred from what is known of them at entry: draws of their own parameters, the population's included."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from trialtwin.core.cohort import Cohort
from trialtwin.core.variables import Declared
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.diseases.base import AbstractDisease
from trialtwin.infer.importance import Proposal
from trialtwin.study.replay.parameters import NAMES, natural, shipped_calibration
from trialtwin.study.treat.patients import GENOTYPES
from trialtwin.twins.course import Instrument, Observations, declared_covariates, observe, time_grid
from trialtwin.twins.posterior import infer, propose, require_inferred, require_worth, sample_effects

POPULATIONS = 16  # draws of the population, shared by all patients
FITTED = ("kz", "θ", "κ", "γ")
# the law of virtual patients, where a trial enrols early disease; what is not named is at its prior
ENTRY_MEAN, ENTRY_SD = -1.5, 0.55


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of every patient, laid out draw by draw: a lane is a draw of a patient.

    ``individuals`` and ``models`` (the disease with the constants of the lane's draw of the population) have a leading
    axis of lanes; ``offsets`` are how much worse each lane looks on a scale; ``world`` is its draw of the population.
    """

    disease: AbstractDisease
    models: AbstractDisease | None
    individuals: Any
    covariates: Mapping[str, Float[np.ndarray, " lane"]]
    offsets: Mapping[str, Float[np.ndarray, " lane"]]
    world: Int[np.ndarray, " lane"]

    def first(self, lanes: int) -> "Draws":
        """Return the first lanes."""
        return Draws(
            self.disease,
            None if self.models is None else jax.tree.map(lambda x: x[:lanes], self.models),
            jax.tree.map(lambda x: x[:lanes], self.individuals),
            {name: column[:lanes] for name, column in self.covariates.items()},
            {name: column[:lanes] for name, column in self.offsets.items()},
            self.world[:lanes],
        )


def draw_patients(
    cohort: Cohort, disease: AbstractDisease, also: tuple[Declared, ...], *, draws: int, seed: int
) -> Draws:
    """Draw patients' own parameters given what is known of them, over 16 draws of the population in turn.

    A patient of whom little is known is drawn from the population; every score at entry narrows the draws by Bayes'
    rule, by importance sampling around the most probable values. An unknown APOE4 genotype is drawn as trials enrol;
    other unknown covariates enter as their typical value.

    Raises
    ------
    ConvergenceError
        If a patient's posterior is not found; the message names the patients.
    """
    scales = tuple(v.concept for v in cohort.outcomes)
    instrument = Instrument(disease, scales)
    covariates = declared_covariates((*also, *disease.declared), cohort)
    rng = np.random.default_rng([seed, 1])
    means = np.array([prior.mean for prior in instrument.priors])
    sds = np.array([prior.sd for prior in instrument.priors])
    _as_enrolled(disease, means, sds)
    found = _locate(instrument, cohort, means) if scales else None
    per, n, k = -(-draws // POPULATIONS), len(cohort), len(disease.effects)
    worlds = means + sds * rng.normal(size=(POPULATIONS, len(means)))
    effects = []
    for j, population in enumerate(worlds):
        if found is None:
            effects.append(rng.normal(size=(per, n, instrument.dimension)))
            continue
        data, proposal = found
        key = jax.random.fold_in(jax.random.key(seed), j)
        drawn = sample_effects(instrument, jnp.asarray(population), proposal, data, time_grid(0.0), key, per)
        effects.append(np.asarray(drawn)[:, :n])
    # draws in turn of the populations, so that the first few draws see many of them
    lanes = np.stack(effects, axis=1).reshape(per * POPULATIONS * n, instrument.dimension)
    world = np.tile(np.repeat(np.arange(POPULATIONS), n), per)
    known = {concept: np.tile(column, per * POPULATIONS) for concept, column in covariates.items()}
    if "APOE4" in known:
        known["APOE4"] = _genotypes(cohort, known["APOE4"].reshape(-1, n), seed).ravel()
    models = _calibrated(disease, rng, world)
    named = {p.name: jnp.asarray(worlds[world, i]) for i, p in enumerate(disease.priors)}
    own = {d.concept: jnp.asarray(known[d.concept]) for d in disease.declared}
    individuals = _individuals(disease, named, jnp.asarray(lanes[:, :k]), own)
    offsets = {}
    for s, concept in enumerate(scales):
        shift, log_spread, _ = worlds[world][:, len(disease.priors) + 3 * s :][:, :3].T
        offsets[concept] = shift + np.exp(log_spread) * lanes[:, k + s]
    return Draws(disease, models, individuals, known, offsets, world)


def _genotypes(cohort: Cohort, alleles: Float[np.ndarray, "draw patient"], seed: int) -> np.ndarray:
    """Give patients of unknown APOE4 a genotype a draw, with the shares of trials: risk is no straight line in it."""
    given = next(
        (column for v, column in zip(cohort.variables, cohort.covariates.T, strict=True) if v.concept == "APOE4"), None
    )
    unknown = np.ones(len(cohort), dtype=bool) if given is None else np.isnan(given)
    rng = np.random.default_rng([seed, 4])
    draws = len(alleles)
    order = rng.permuted(np.tile(np.arange(draws), (len(cohort), 1)), axis=1).T  # even shares in each patient
    drawn = np.searchsorted(np.cumsum(GENOTYPES)[:2], (order + rng.random(order.shape)) / draws)
    return np.where(unknown, drawn, alleles)


@eqx.filter_jit
def _individuals(disease: AbstractDisease, population: Any, effects: Array, covariates: Any) -> Any:
    return jax.vmap(disease.individual)(population, effects, covariates)


def _locate(
    instrument: Instrument, cohort: Cohort, means: Float[np.ndarray, " prior"]
) -> tuple[Observations, Proposal]:
    """Find every patient's posterior at the typical population."""
    data = observe(instrument, cohort, cohort.outcomes, pad=True)
    grid = time_grid(0.0)
    population = jnp.asarray(means)
    start = jnp.zeros((len(data.times), instrument.dimension))
    mode = infer(instrument, population, start, data, grid)
    require_inferred(mode, cohort.ids)
    proposal, size = propose(instrument, population, mode, data, grid)
    require_worth(size, cohort.ids)
    return data, proposal


def _as_enrolled(
    disease: AbstractDisease, means: Float[np.ndarray, " prior"], sds: Float[np.ndarray, " prior"]
) -> None:
    """Give the mean and spread of severity the values of trials in early disease: nothing here is to be learned."""
    if not isinstance(disease, Alzheimer):
        return
    names = [prior.name for prior in disease.priors]
    for name, mean, sd in (
        ("mean severity, logit CDR-SB/18", ENTRY_MEAN, 0.1),
        ("log SD of severity", float(np.log(ENTRY_SD)), 0.1),
    ):
        means[names.index(name)], sds[names.index(name)] = mean, sd


def _calibrated(
    disease: AbstractDisease, rng: np.random.Generator, world: Int[np.ndarray, " lane"]
) -> AbstractDisease | None:
    """Return the disease with its constants drawn from the shipped calibration, where there is one for it."""
    if not isinstance(disease, Alzheimer):
        return None
    calibration = shipped_calibration()
    at = [NAMES.index(name) for name in FITTED]
    root = np.linalg.cholesky(calibration.matrix[np.ix_(at, at)])
    drawn = []
    for _ in range(POPULATIONS):
        vector = calibration.vector
        vector[at] += root @ rng.normal(size=len(at))
        drawn.append([natural(vector)[name] for name in FITTED])
    kz, theta, kappa, gamma = np.array(drawn)[world].T
    return Alzheimer(kz=kz, theta=theta, kappa=kappa, gamma=gamma)
