"""What twins guarantee: intervals that cover, ranks that are uniform, and scores that keep a trial's level.

A rate is judged by its Monte-Carlo error over simulated studies, since patients of one study share a fitted twin.
The larger versions are marked slow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import equinox as eqx
import jax
import numpy as np
import pytest
from alzheimer_patients import alzheimer_studies
from scipy import stats

from trialtwin.core.cohort import Cohort
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.twin import AbstractModel
from trialtwin.core.variables import Variable
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.trials.analyse import procova
from trialtwin.trials.record import Record
from trialtwin.twins.baseline import Baseline
from trialtwin.twins.crossfit import CrossFit
from trialtwin.twins.mechanistic import Mechanistic, MechanisticTwin

pytestmark = pytest.mark.law

DAYS = np.array([0.0, 84.0, 168.0])
QUESTION = Estimand(
    treatment="active against placebo",
    population="all randomised",
    variable="score at week 24",
    intercurrent_events=(),
    summary="difference in means",
)


def mixed_effects(rng: np.random.Generator, patients: int, prefix: str) -> Cohort:
    """Draw patients from the baseline twin's own model: quadratic mean, two covariates, random level and slope."""
    s = DAYS / DAYS[-1]
    x = rng.normal(size=(patients, 2))
    level, slope = rng.multivariate_normal([0.0, 0.0], [[9.0, 1.8], [1.8, 4.0]], patients).T
    level, slope = level + x @ [1.5, 0.0], slope + x @ [0.5, 1.0]
    y = 20 + 3 * s - s**2 + level[:, None] + slope[:, None] * s + 2.0 * rng.normal(size=(patients, 3))
    return Cohort(
        ids=tuple(f"{prefix}{i}" for i in range(patients)),
        variables=(Variable("X1"), Variable("X2")),
        covariates=x,
        outcomes=(Variable("Y"),),
        visits=("Baseline", "Week 12", "Week 24"),
        nominal=DAYS,
        times=np.tile(DAYS, (patients, 1)),
        values=y[..., None],
        observed=np.ones((patients, 3, 1), dtype=bool),
        treatments=("Placebo", "Active"),
        received=rng.permutation(np.arange(patients) % 2),
    )


@dataclass(frozen=True)
class Ranks:
    """Where the truth lies among the draws, from 0 to 1: for each study, patient and outcome at the last visit."""

    values: np.ndarray

    @property
    def coverage(self) -> tuple[float, float]:
        """Share of truths inside the central 90 % of draws, and its standard error over studies."""
        inside = np.abs(self.values - 0.5) < 0.45
        by_study = inside.reshape(len(inside), -1).mean(axis=1)
        return float(by_study.mean()), float(by_study.std(ddof=1) / np.sqrt(len(by_study)))

    @property
    def uniformity(self) -> float:
        """P-value of ten equal classes, each class's share judged by Student's t over studies."""
        counts = np.stack([np.histogram(study, bins=10, range=(0, 1))[0] / study.size for study in self.values])
        t = (counts.mean(axis=0) - 0.1) / (counts.std(axis=0, ddof=1) / np.sqrt(len(counts)))
        z = stats.norm.isf(stats.t.sf(np.abs(t), len(counts) - 1))
        return float(stats.chi2.sf((z**2).sum() * 9 / 10, 9))


def rank(model: AbstractModel, studies: Iterator[tuple[Cohort, Cohort]], *, known: float, draws: int) -> Ranks:
    """Fit to one cohort and forecast the last visit of another, given what was known on a day, study by study."""
    ranks = []
    for number, (training, others) in enumerate(studies):
        key = jax.random.key(number)
        twin = model.fit(training, key=key)
        course = twin.predict(others.until(known), NoTreatment(), others.nominal, draws=draws, key=key)
        sample, truth = course.values[:, :, -1], others.values[:, -1]
        # ties, at the end of a scale, are broken at random
        below, equal = (sample < truth).sum(axis=0), (sample == truth).sum(axis=0)
        ranks.append((below + np.random.default_rng(number).uniform(size=truth.shape) * (equal + 1)) / (draws + 1))
    return Ranks(np.array(ranks))


def _mixed_studies(studies: int, seed: int) -> Iterator[tuple[Cohort, Cohort]]:
    for k in range(studies):
        rng = np.random.default_rng([seed, k])
        yield mixed_effects(rng, 32, "T"), mixed_effects(rng, 32, "N")


@final
class Recording(AbstractModel):
    """A mechanistic model that keeps the twins that it fitted."""

    model: Mechanistic
    fitted: list[MechanisticTwin] = eqx.field(static=True)

    def fit(self, cohort: Cohort, *, key: jax.Array) -> MechanisticTwin:
        """Fit, and keep."""
        self.fitted.append(self.model.fit(cohort, key=key))
        return self.fitted[-1]


def _holds(ranks: Ranks) -> None:
    """Check that coverage lies within 3 standard errors of 90 %, and that ranks are uniform."""
    share, error = ranks.coverage
    assert error < 0.03
    assert abs(share - 0.9) < 3 * error, (share, error)
    assert ranks.uniformity > 0.001


@pytest.mark.parametrize(
    ("known", "studies"),
    [(0.0, 30), *(pytest.param(day, 500, marks=pytest.mark.slow) for day in (0.0, 84.0))],
)
def test_law_baseline_intervals_cover(known: float, studies: int) -> None:
    """Learned from 32 patients of its own model, 90 % intervals of 32 new ones cover 90 %, and ranks are uniform.

    Measured over 500 studies: 89.6 ± 0.3 % at baseline, 89.3 ± 0.3 % with a visit of follow-up.
    """
    _holds(rank(Baseline(), _mixed_studies(studies, seed=301), known=known, draws=160))


@pytest.mark.parametrize("studies", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_law_mechanistic_population_is_recovered_and_intervals_cover(studies: int) -> None:
    """The same at baseline, two scales, of populations drawn from the prior; 5 % of scores at an end of their scale.

    Measured over 60 studies: 89.6 ± 0.6 %, ranks uniform (p .94). (Estimate − truth) / SE of the 13 parameters is
    centred with SD 1: measured −0.04 and 1.10.
    """
    truths = [population for population, _, _ in alzheimer_studies(studies, seed=302)]
    model = Recording(Mechanistic(Alzheimer()), [])
    pairs = ((training, others) for _, training, others in alzheimer_studies(studies, seed=302))
    _holds(rank(model, pairs, known=0.0, draws=160))
    found = [
        (twin.population - truth) / np.sqrt(np.diag(twin.covariance))
        for twin, truth in zip(model.fitted, truths, strict=True)
    ]
    z = np.array(found)
    assert z.shape == (studies, 14)
    assert 0.8 < np.sqrt((z**2).mean()) < 1.4
    assert abs(z.mean()) < 0.35


def test_law_a_wrong_spread_is_found() -> None:
    """The same judgement refuses draws whose spread is wrong by a third: it can fail."""
    rng = np.random.default_rng(305)
    for spread in (0.75, 1.33):
        truth = rng.normal(size=(30, 32))
        sample = spread * rng.normal(size=(160, 30, 32))
        share, error = Ranks(((sample < truth).sum(axis=0) + 0.5) / 161).coverage
        assert abs(share - 0.9) > 3 * error


def _null_trial(seed: int, trial: int, patients: int) -> Estimate:
    """Return PROCOVA of a trial without effect, its score from a twin cross-fitted to the trial's own placebo arm."""
    rng = np.random.default_rng([seed, trial])
    cohort = mixed_effects(rng, patients, "P")
    key = jax.random.key(trial)
    twin = CrossFit(Baseline(), folds=2, train_on=("Placebo",)).fit(cohort, key=key)
    course = twin.predict(cohort.until(0.0), NoTreatment(), DAYS, draws=1, key=key)
    record = Record(
        ids=cohort.ids,
        arms=cohort.treatments,
        arm=np.array(cohort.received),
        value=np.array(cohort.values[:, -1, 0]),
        endpoint="Y",
        visit="Week 24",
        population="all randomised",
        unit="points",
        estimand=QUESTION,
    )
    return procova(record, score=course.score("Y", 168.0))[0]


@pytest.mark.parametrize(("trials", "patients"), [(40, 64), pytest.param(2000, 64, marks=pytest.mark.slow)])
def test_law_procova_keeps_its_level_with_a_cross_fitted_twin(trials: int, patients: int) -> None:
    """Under no effect t² has mean df/(df − 2), and 5 % of trials reject, each within 3 standard errors.

    The scores come from the trial itself, so that they depend on the outcomes of other patients: what cross-fitting
    must make harmless. 40 trials show a variance that is wrong by two thirds; 2,000 show 5 % ± 1.5 %.
    """
    found = [_null_trial(303, trial, patients) for trial in range(trials)]
    squares = np.array([e.statistic**2 for e in found])
    df = found[0].df
    assert df == patients - 3
    assert abs(squares.mean() - df / (df - 2)) < 3 * np.sqrt(2.0 / trials) * 1.1
    rejected = np.mean([e.p < 0.05 for e in found])
    assert abs(rejected - 0.05) < 3 * np.sqrt(0.05 * 0.95 / trials)
