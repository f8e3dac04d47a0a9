"""Mechanistic twins of every disease: patients drawn from the disease itself are learned from and forecast."""

from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConvergenceError
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.variables import Variable
from trialtwin.diseases.registry import DISEASES, find_disease
from trialtwin.twins.course import STEP, longest_step, time_grid
from trialtwin.twins.mechanistic import Mechanistic
from trialtwin.twins.virtual import draw_individuals, simulate_courses

PATIENTS = 32
# days at which these diseases are measured: from an infusion test of three hours to a trial of 18 months
DAYS = MappingProxyType(
    {
        "amyloid-turnover": (0.0, 182.0, 364.0, 546.0),
        "amyloid-turnover-kandadi": (0.0, 182.0, 364.0, 546.0),
        "bergman": (0.0, 0.0035, 0.007, 0.014, 0.03, 0.06, 0.12),
        "diabetes": (0.0, 28.0, 84.0, 168.0, 336.0),
        "hiv": (0.0, 2.0, 4.0, 7.0, 14.0, 28.0, 56.0),
        "tumour": (0.0, 4.0, 8.0, 12.0, 16.0, 20.0),
        "tumour-claret": (0.0, 42.0, 84.0, 126.0, 168.0),
        "tumour-geng": (0.0, 20.0, 40.0, 60.0),
    }
)


def drawn(name: str, seed: int) -> Cohort:
    """Return untreated patients at the disease's prior means, measured on all its scales."""
    disease, rng = find_disease(name), np.random.default_rng(seed)
    covariates = {
        d.concept: d.centre * np.exp(0.15 * rng.normal(size=PATIENTS))
        if d.centre > 2
        else rng.integers(0, 2, PATIENTS).astype(float)
        for d in disease.declared
    }
    people = draw_individuals(disease, {}, rng.normal(size=(PATIENTS, len(disease.effects))), covariates)
    days = np.array(DAYS[name])
    courses = simulate_courses(disease, people, NoTreatment(), days, scales=tuple(disease.scales))
    columns = []
    for concept, scale in disease.scales.items():
        mean = np.asarray(courses.scores[concept])
        noisy = mean + np.asarray(scale.spread(jnp.asarray(mean))) * rng.normal(size=mean.shape)
        columns.append(np.clip(noisy, scale.lower, scale.upper))
    values = np.stack(columns, axis=-1)
    return Cohort(
        ids=tuple(f"{seed}-{i}" for i in range(PATIENTS)),
        variables=tuple(Variable(d.concept, concept=d.concept) for d in disease.declared),
        covariates=np.stack([*covariates.values()], axis=1) if covariates else np.zeros((PATIENTS, 0)),
        outcomes=tuple(Variable(s, lower=d.lower, upper=d.upper, concept=s) for s, d in disease.scales.items()),
        visits=tuple(f"day {day:g}" for day in days),
        nominal=days,
        times=np.tile(days, (PATIENTS, 1)),
        values=values,
        observed=np.isfinite(values),
        treatments=("placebo",),
        received=np.zeros(PATIENTS, dtype=np.int64),
    )


def learn_and_forecast(name: str) -> None:
    """Learn from 32 patients, forecast 32 others from two visits: 90 % intervals hold, and no draw is impossible.

    Coverage over the patients' own averages has a standard error of at most 5 %; four of them are allowed.
    """
    training, others = drawn(name, 0), drawn(name, 1)
    twin = Mechanistic(find_disease(name)).fit(training, key=jax.random.key(0))
    known = others.until(others.nominal[1])
    course = twin.predict(known, NoTreatment(), others.nominal, draws=128, key=jax.random.key(1))
    low, high = np.quantile(course.values, [0.05, 0.95], axis=0)
    inside = ((low <= others.values) & (others.values <= high))[:, 2:].mean(axis=(1, 2))
    assert abs(inside.mean() - 0.9) < 4 * max(inside.std() / np.sqrt(PATIENTS), 0.02), inside.mean()
    assert (course.implausible() == 0).all()


def test_law_amyloid_turnover_is_learned_and_forecast() -> None:
    learn_and_forecast("amyloid-turnover-kandadi")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DAYS))
def test_law_every_disease_is_learned_and_forecast(name: str) -> None:
    learn_and_forecast(name)


def test_every_disease_but_the_stiff_one_has_a_step() -> None:
    """The disease of months keeps 28 days; that of hours gets minutes."""
    assert {*DAYS, "alzheimer", "alzheimer-cao"} == set(DISEASES)
    assert longest_step(find_disease("alzheimer"), 546.0) == STEP
    assert longest_step(find_disease("bergman"), 0.12) < 0.01
    assert 0.05 < longest_step(find_disease("hiv"), 56.0) < 0.5


def test_a_stiff_disease_is_refused_before_long_work() -> None:
    with pytest.raises(ConvergenceError, match=r"would take \d+ steps over 546 days"):
        longest_step(find_disease("alzheimer-cao"), 546.0)


def test_lengths_of_grids_are_rounded_up_to_few() -> None:
    counts = {len(time_grid(float(last), 0.1).asked) for last in np.linspace(10, 100, 200)}
    assert len(counts) < 30
    assert time_grid(84.0).times[-1] == 84.0
