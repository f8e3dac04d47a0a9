"""Patients with a genome, a transcriptome and a proteome, of whom a controlled share of the course is written in each.

Four latent factors: the first is in all three blocks, the second in transcriptome and proteome, the third in the
proteome alone, the fourth in the transcriptome alone and without consequence. Rate of
decline = age + the first three + chance.
"""

from dataclasses import dataclass, replace

import numpy as np

from trialtwin.core.cohort import Block, Cohort
from trialtwin.core.variables import Variable

DAYS = np.array([0.0, 182.0, 364.0])
WIDTHS = {"genome": 60, "transcriptome": 150, "proteome": 50}
IN_BLOCK = {"genome": (1, 0, 0, 0), "transcriptome": (1, 1, 0, 1), "proteome": (1, 1, 1, 0)}


@dataclass(frozen=True)
class World:
    """What is the same for all patients of one repetition: loadings, and how the factors act on the course."""

    loadings: dict[str, np.ndarray]
    weights: np.ndarray
    noise: float = 1.0
    chance: float = 1.0


def make_world(seed: int, *, signal: float = 1.0) -> World:
    """Draw loadings; ``signal`` is the SD of decline that the factors make, chance making an SD of 1."""
    rng = np.random.default_rng(seed)
    loadings = {name: 0.5 * rng.normal(size=(width, 4)) * IN_BLOCK[name] for name, width in WIDTHS.items()}
    return World(loadings, signal * np.array([1.0, 1.0, 1.0, 0.0]) / np.sqrt(3))


def simulate(world: World, patients: int, seed: int, prefix: str) -> Cohort:
    """Draw patients who have every block."""
    rng = np.random.default_rng(seed)
    z, age = rng.normal(size=(patients, 4)), rng.normal(70, 8, patients)
    blocks = {}
    for name, w in world.loadings.items():
        values = z @ w.T + world.noise * rng.normal(size=(patients, len(w)))
        if name == "genome":
            # two alleles, each there where a liability passes its threshold
            values = (values > 0.3).astype(float) + (values + 0.5 * rng.normal(size=values.shape) > 0.8)
        features = tuple(f"{name}{j}" for j in range(len(w)))
        blocks[name] = Block(features, values, np.ones(patients, dtype=bool))
    slope = -1.0 - 0.3 * (age - 70) / 8 + z @ world.weights + world.chance * rng.normal(size=patients)
    level = 20 + 2 * rng.normal(size=patients)
    y = level[:, None] + 3 * slope[:, None] * DAYS / DAYS[-1] + rng.normal(size=(patients, len(DAYS)))
    return Cohort(
        ids=tuple(f"{prefix}{i}" for i in range(patients)),
        variables=(Variable("AGE", unit="years", concept="age"),),
        covariates=age[:, None],
        outcomes=(Variable("Y", unit="points"),),
        visits=("Baseline", "Week 26", "Week 52"),
        nominal=DAYS,
        times=np.tile(DAYS, (patients, 1)),
        values=y[..., None],
        observed=np.ones((patients, len(DAYS), 1), dtype=bool),
        treatments=("placebo",),
        received=np.zeros(patients, dtype=np.int64),
        blocks=blocks,
    )


def lose(cohort: Cohort, name: str, share: float, seed: int, *, by_age: bool = False) -> Cohort:
    """Take a block away from a share of patients: by chance, or mostly from the older ones."""
    rng = np.random.default_rng(seed)
    age = cohort.covariate("AGE")
    score = rng.random(len(cohort)) + (0.15 * (age - 70) / 8 if by_age else 0.0)
    block = cohort.blocks[name]
    present = block.present & (np.argsort(np.argsort(score)) < round(len(cohort) * (1 - share)))
    values = np.where(present[:, None], block.values, np.nan)
    return replace(cohort, blocks=dict(cohort.blocks) | {name: Block(block.features, values, present)})


def drop(cohort: Cohort, name: str) -> Cohort:
    """Return the cohort without a block."""
    return replace(cohort, blocks={other: block for other, block in cohort.blocks.items() if other != name})
