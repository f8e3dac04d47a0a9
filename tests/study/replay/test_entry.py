"""Patients at entry: their means, SDs, cuts and correlations are those that the trial describes."""

import numpy as np
import pytest
from scipy import special, stats

from trialtwin.core.errors import ConfigError
from trialtwin.study.replay.entry import TAU_SEVERITY, complete, draw_entry, quantiles
from trialtwin.study.replay.load import shipped_trials
from trialtwin.study.replay.spec import Apoe4, Law, Population, Tau

INVERT = {"CDR-SB": lambda score: special.logit(np.clip(score, 0.1, 17.9) / 18)}
COUNT = 512


def _entry(population: Population, seed: int = 3, count: int = COUNT):  # type: ignore[no-untyped-def]
    return draw_entry(complete(population), count, seed=seed, where="x", invert=INVERT)


@pytest.mark.parametrize("trial", shipped_trials(), ids=lambda trial: trial.id)
def test_law_entry_values_are_reproduced(trial) -> None:  # type: ignore[no-untyped-def]
    """Means within 0.02 SD and SDs within 2 %: Sobol errors; independent draws would be off by 0.04 SD and 3 %."""
    population = complete(trial.population)
    entry = _entry(trial.population)
    laws = {"age": (entry.age, population.age), "amyloid": (entry.amyloid, population.amyloid)}
    for values, law in laws.values():
        assert abs(values.mean() - law.mean) < 0.02 * law.sd
        assert abs(values.std() / law.sd - 1) < 0.02
        assert law.min is None or values.min() >= law.min
        assert law.max is None or values.max() <= law.max
    cdr, law = 18 * special.expit(entry.severity), population.scores["CDR-SB"]
    assert abs(cdr.mean() - law.mean) < max(0.02 * law.sd, 0.02)  # A4 stands at the floor of the logit
    assert trial.id == "A4" or abs(cdr.std() / law.sd - 1) < 0.02
    for place, share in enumerate(population.apoe4.shares):
        assert abs((entry.alleles == place).mean() - share) < 2 / COUNT
    assert abs(entry.female.mean() - population.female) < 2 / COUNT


def test_law_correlations_at_entry() -> None:
    """Without criteria: tau–severity 0.35, amyloid–tau 0.15, within 0.02 at 8,192 patients (SE of draws 0.011)."""
    scores = {"CDR-SB": Law(mean=3.3, sd=1.4, min=0.5)}
    entry = _entry(Population(scores=scores, amyloid=Law(mean=90, sd=30)), count=8192)
    correlation = np.corrcoef(entry.severity, entry.tau)[0, 1]
    # severity of this population spreads as much as the reference's only about: the slope is what is fixed
    slope = np.polyfit((entry.severity + 1.5) / 0.55, entry.tau, 1)[0]
    assert abs(slope - TAU_SEVERITY) < 0.02
    assert 0.25 < correlation < 0.45
    assert abs(np.corrcoef(entry.amyloid, entry.tau)[0, 1] - 0.15) < 0.02


def test_law_tau_criteria_cut_the_conditional_law() -> None:
    """With severity near a point, low/medium tau has the mean of the normal law cut at both ends (SE 0.004)."""
    scores = {"CDR-SB": Law(mean=3.3, sd=0.02)}
    entry = _entry(Population(scores=scores, tau=Tau(criterion="low/medium")), count=8192)
    centre = TAU_SEVERITY * (special.logit(3.3 / 18) + 1.5) / 0.55
    spread = np.sqrt(1 - TAU_SEVERITY**2)
    exact = stats.truncnorm((-0.67 - centre) / spread, (0.71 - centre) / spread, centre, spread)
    assert entry.tau.min() >= -0.67
    assert entry.tau.max() <= 0.71
    assert abs(entry.tau.mean() - exact.mean()) < 0.01


def test_independent_cut_law_by_rejection() -> None:
    """Normal draws thrown away outside the cut have the distribution of the quantiles (Kolmogorov–Smirnov)."""
    law = Law(mean=3.7, sd=2.04, min=0.5)
    middle = (np.arange(2000) + 0.5) / 2000
    drawn = quantiles(law, middle, (0.0, 18.0), "x")
    rng = np.random.default_rng(1)
    # the normal law before the cut, found by hand: truncnorm(mean 3.12, sd 2.56) on [0.5, 18]
    from scipy.optimize import fsolve

    def miss(p):  # type: ignore[no-untyped-def]
        a, b = (0.5 - p[0]) / p[1], (18 - p[0]) / p[1]
        mean, variance = stats.truncnorm.stats(a, b, p[0], p[1])
        return float(mean) - 3.7, float(variance) ** 0.5 - 2.04

    centre, spread = fsolve(miss, [3.0, 2.4])
    tried = rng.normal(centre, spread, 200_000)
    kept = tried[(tried >= 0.5) & (tried <= 18)]
    assert stats.ks_2samp(drawn, kept).pvalue > 0.01


def test_the_same_seed_gives_the_same_patients_and_another_seed_others() -> None:
    """Deterministic, and scrambled anew by the seed."""
    population = Population(scores={"CDR-SB": Law(mean=3.0, sd=1.2, min=0.5)}, apoe4=Apoe4(carrier=0.6))
    first, again, other = (_entry(population, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.severity, again.severity)
    assert np.abs(first.severity - other.severity).max() > 0.01


def test_impossible_laws_are_refused() -> None:
    """The message names the quantity and the ends."""
    with pytest.raises(ConfigError, match="no bell-shaped law between 20 and 28") as caught:
        quantiles(Law(mean=22.3, sd=3.9, min=20, max=28), np.array([0.5]), (0.0, 30.0), "X: scores.MMSE")
    assert caught.value.where == "X: scores.MMSE"
    with pytest.raises(ConfigError, match="does not say how severe"):
        _entry(Population())
