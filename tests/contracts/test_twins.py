"""What every twin promises, whatever the model: each registered one is asked, plain and cross-fitted."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from jaxtyping import Array
from plain_treatment import PlainTreatment

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import DataError, FitError, MismatchError
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin
from trialtwin.diseases.registry import DISEASES, find_disease
from trialtwin.twins.card import make_card
from trialtwin.twins.crossfit import CrossFit
from trialtwin.twins.registry import MODELS as REGISTERED
from trialtwin.twins.registry import build_model
from trialtwin.twins.saving import load_twin, save_twin

# the patients of these tests have these scores; twins of other diseases need patients of their own
OF_THESE = [name for name in DISEASES if {"CDR-SB", "MMSE"} <= set(find_disease(name).scales)]
# the hybrid is asked about one of them: it promises the same for any disease, and compiles the corrected one anew
ASKED = {"hybrid": ["alzheimer"]}
PLAIN: dict[str, Callable[[], AbstractModel]] = {}
for kind, entry in REGISTERED.items():
    if entry.needs_disease:
        PLAIN |= {f"{kind} {d}": lambda k=kind, d=d: build_model(k, find_disease(d)) for d in ASKED.get(kind, OF_THESE)}
    else:
        PLAIN[kind] = lambda k=kind: build_model(k)
MODELS = PLAIN | {f"{name}, cross-fitted": lambda f=f: CrossFit(f(), folds=2) for name, f in PLAIN.items()}
KEY = jax.random.key(20)
DRAWS = 32
AT = np.array([0.0, 182.0, 364.0, 546.0])


@cache
def model(name: str) -> AbstractModel:
    """Return one model a name, so that what was compiled for it is found again."""
    return MODELS[name]()


@cache
def fitted(name: str, training: Cohort) -> AbstractTwin:
    return model(name).fit(training, key=KEY)


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    """Return each model's name in turn."""
    return request.param


@pytest.fixture(params=PLAIN)
def plain(request: pytest.FixtureRequest) -> str:
    """Return each model's name in turn, for what cross-fitting only repeats."""
    return request.param


@pytest.fixture
def twin(name: str, training: Cohort) -> AbstractTwin:
    """Return the model fitted to the training patients."""
    return fitted(name, training)


def ask(
    twin: AbstractTwin, patients: Cohort, times: np.ndarray = AT, *, draws: int = DRAWS, key: Array = KEY
) -> Trajectories:
    return twin.predict(patients, NoTreatment(), times, draws=draws, key=key)


@cache
def at_baseline(name: str, training: Cohort, patients: Cohort) -> Trajectories:
    """Return the forecast that many tests compare with."""
    return ask(fitted(name, training), patients.until(0))


@pytest.fixture
def forecast(name: str, training: Cohort, others: Cohort) -> Trajectories:
    """Return each model's forecast of unseen patients at baseline."""
    return at_baseline(name, training, others)


def unknown(cohort: Cohort) -> Cohort:
    """Return patients of whom nothing is known: no covariate, no measurement."""
    nothing = np.zeros_like(cohort.observed)
    return replace(
        cohort,
        covariates=np.full_like(cohort.covariates, np.nan),
        observed=nothing,
        values=np.full_like(cohort.values, np.nan),
    )


def test_trajectories_have_the_patients_times_and_outcomes_that_were_asked_for(
    forecast: Trajectories, others: Cohort
) -> None:
    assert forecast.ids == others.ids
    np.testing.assert_array_equal(forecast.times, AT)
    assert [v.name for v in forecast.outcomes] == ["CDRSB", "MMSETOT"]
    assert forecast.values.shape == (DRAWS, 32, 4, 2)


@pytest.mark.parametrize("draws", [17, 31])
def test_as_many_draws_as_were_asked_for(twin: AbstractTwin, others: Cohort, draws: int) -> None:
    assert len(ask(twin, others.until(0), draws=draws).values) == draws


def test_the_same_key_gives_the_same_bits(plain: str, training: Cohort, others: Cohort) -> None:
    """Fitted again and asked again."""
    first = at_baseline(plain, training, others)
    second = ask(model(plain).fit(training, key=KEY), others.until(0))
    assert first.values.tobytes() == second.values.tobytes()
    assert first.expected.tobytes() == second.expected.tobytes()


def test_another_key_gives_other_draws_of_the_same_expectation(
    twin: AbstractTwin, forecast: Trajectories, others: Cohort
) -> None:
    second = ask(twin, others.until(0), key=jax.random.key(21))
    assert (forecast.values != second.values).mean() > 0.5
    np.testing.assert_array_equal(forecast.expected, second.expected)


def test_draws_lie_around_the_expectation(forecast: Trajectories) -> None:
    """The mean of 32 draws is off by 0.18 SD of itself; more than 0.6 of an SD on average would be another centre."""
    off = (forecast.values.mean(axis=0) - forecast.expected) / forecast.values.std(axis=0)
    assert np.sqrt((off**2).mean()) < 0.6


def test_a_mechanism_makes_impossible_draws_impossible(plain: str, training: Cohort, others: Cohort) -> None:
    """None of 102,400 draws of a mechanistic or hybrid twin lies outside its scale; of others the share is reported."""
    course = ask(fitted(plain, training), others.until(0), draws=400)
    assert course.values.size == 102_400
    share = course.implausible()
    assert ((share >= 0) & (share < 0.2)).all(), share
    if REGISTERED[plain.split(maxsplit=1)[0]].architecture in ("mechanistic", "hybrid"):
        assert (share == 0).all(), share


def test_the_order_of_patients_is_kept(twin: AbstractTwin, forecast: Trajectories, others: Cohort) -> None:
    backward = ask(twin, others.until(0).take(np.arange(32)[::-1]))
    assert backward.ids == forecast.ids[::-1]
    np.testing.assert_allclose(backward.expected[::-1], forecast.expected, rtol=1e-6)


def test_one_patient_alone_is_expected_as_among_others(
    twin: AbstractTwin, forecast: Trajectories, others: Cohort
) -> None:
    np.testing.assert_allclose(ask(twin, others.until(0).take([5])).expected[0], forecast.expected[5], rtol=1e-6)


def test_times_as_a_matrix_are_each_patients_own(twin: AbstractTwin, others: Cohort) -> None:
    known = others.until(0)
    own = AT + np.arange(32)[:, None]
    course = ask(twin, known, own)
    assert course.times.shape == (32, 4)
    for i in (0, 7):
        np.testing.assert_allclose(course.expected[i], ask(twin, known, AT + float(i)).expected[i], rtol=1e-9)


def test_what_comes_later_is_not_seen(twin: AbstractTwin, others: Cohort) -> None:
    """Two futures of the same patients, hidden by ``until``, give the same forecast to the last bit."""
    later = others.observed & (others.times > 182.0)[..., None]
    other_future = replace(others, values=np.where(later, 9.0, others.values))
    first, second = ask(twin, others.until(182.0)), ask(twin, other_future.until(182.0))
    assert first.values.tobytes() == second.values.tobytes()


def test_more_history_makes_forecasts_narrower_and_closer(twin: AbstractTwin, others: Cohort) -> None:
    last = [ask(twin, others.until(day)) for day in (-1.0, 0.0, 186.0, 376.0)]
    widths = np.array([course.values[:, :, -1].std(axis=0).mean(axis=0) for course in last])
    assert (np.diff(widths, axis=0) < 0).all(), widths
    errors = np.array([np.nanmean(np.abs(c.expected[:, -1] - others.values[:, -1]), axis=0) for c in last])
    assert (errors[-1] < 0.8 * errors[0]).all(), errors


def test_missing_values_anywhere_are_no_obstacle(twin: AbstractTwin, others: Cohort) -> None:
    """A covariate, all of them, baseline, an outcome, everything: all is finite, others' forecasts are unchanged."""
    full = ask(twin, others.until(186.0)).expected
    covariates, values = np.array(others.covariates), np.array(others.values)
    covariates[0, 0] = covariates[1, :] = np.nan
    values[2, 0] = values[3, :, 0] = values[4] = np.nan
    covariates[4] = np.nan
    gaps = replace(others, covariates=covariates, values=values, observed=np.isfinite(values))
    found = ask(twin, gaps.until(186.0))
    np.testing.assert_allclose(found.expected[5:], full[5:], rtol=1e-6)


def test_of_unknown_patients_the_average_course_is_expected(twin: AbstractTwin, training: Cohort) -> None:
    """With no covariate and no measurement all patients are alike, spread as widely as patients are."""
    nobody = replace(unknown(training), ids=tuple(f"U{i}" for i in range(32)))
    course = ask(twin, nobody)
    np.testing.assert_allclose(course.expected, np.broadcast_to(course.expected[0], (32, 4, 2)), rtol=1e-6)
    mean, sd = np.nanmean(training.values, axis=0), np.nanstd(training.values, axis=0)
    assert (np.abs(course.expected[0] - mean) < 0.6 * sd).all()
    spread = course.values.std(axis=(0, 1)) / sd
    assert ((spread > 0.6) & (spread < 1.8)).all(), spread


def test_gaps_in_training_are_no_obstacle(plain: str, training: Cohort, others: Cohort) -> None:
    """Half of all measurements and of all covariates are missing, and one patient has nothing at all."""
    rng = np.random.default_rng(6)
    values = np.where(rng.random(training.values.shape) < 0.5, np.nan, training.values)
    values[0] = np.nan
    covariates = np.where(rng.random(training.covariates.shape) < 0.5, np.nan, training.covariates)
    sparse = replace(training, values=values, observed=np.isfinite(values), covariates=covariates)
    ask(model(plain).fit(sparse, key=KEY), others.until(0))


def test_an_outcome_that_does_not_vary_is_refused_or_forecast_where_it_is(plain: str, training: Cohort) -> None:
    flat = replace(training, values=np.where(training.observed, 5.0, np.nan))
    try:
        course = ask(model(plain).fit(flat, key=KEY), flat.until(0))
    except FitError:
        return
    np.testing.assert_allclose(course.expected[:, 0], 5.0, atol=0.5)


def test_one_patient_is_too_few_or_gives_a_forecast(plain: str, training: Cohort, others: Cohort) -> None:
    """A refusal says so; a twin that is made all the same forecasts finite numbers (else `Trajectories` refuses)."""
    try:
        course = ask(model(plain).fit(training.take([3]), key=KEY), others.until(0))
    except FitError:
        return
    assert course.values[..., 0].std(axis=0).min() > 0.05


def test_a_category_that_was_never_seen_counts_as_unknown(twin: AbstractTwin, others: Cohort) -> None:
    place = [v.name for v in others.variables].index("SITE")
    wider = replace(others.variables[place], levels=(*others.variables[place].levels, "east"))
    variables = (*others.variables[:place], wider, *others.variables[place + 1 :])
    abroad, nowhere = np.array(others.covariates), np.array(others.covariates)
    abroad[:, place], nowhere[:, place] = 3.0, np.nan
    found = [ask(twin, replace(others.until(0), variables=variables, covariates=c)) for c in (abroad, nowhere)]
    np.testing.assert_allclose(found[0].expected, found[1].expected, rtol=1e-9)


def test_saved_and_read_back_it_forecasts_the_same_bits(
    name: str, twin: AbstractTwin, training: Cohort, forecast: Trajectories, others: Cohort, tmp_path: Path
) -> None:
    card = make_card(twin, training, name=name, architecture="data-driven", summary="a test")
    sha = save_twin(twin, tmp_path / "twin", card)
    back, read = load_twin(tmp_path / "twin")
    assert read == card
    again = ask(back, others.until(0))
    assert again.values.tobytes() == forecast.values.tobytes()
    assert again.expected.tobytes() == forecast.expected.tobytes()
    assert save_twin(back, tmp_path / "second", read) == sha


def test_nobody_to_learn_from_is_an_error(name: str, training: Cohort) -> None:
    with pytest.raises(FitError, match=r"after baseline|on a scale"):
        model(name).fit(training.until(0), key=KEY)


def test_nobody_to_forecast_is_an_error(twin: AbstractTwin, others: Cohort) -> None:
    with pytest.raises(DataError, match="no patients to predict"):
        ask(twin, others.take([]))


def test_no_draws_are_an_error(twin: AbstractTwin, others: Cohort) -> None:
    with pytest.raises(DataError, match="0 draws"):
        ask(twin, others.until(0), draws=0)


def test_times_of_another_number_of_patients_are_refused(twin: AbstractTwin, others: Cohort) -> None:
    with pytest.raises(DataError, match="times of 5 patients were given for 32"):
        ask(twin, others.until(0), np.zeros((5, 4)))


@pytest.mark.parametrize("day", [-1.0, np.nan, np.inf])
def test_a_day_that_cannot_be_asked_for_is_refused(twin: AbstractTwin, others: Cohort, day: float) -> None:
    """Before baseline, unknown, or without end."""
    with pytest.raises(DataError, match="days since baseline, 0 or later"):
        ask(twin, others.until(0), np.append(AT[:-1], day))


def test_patients_without_the_outcome_are_refused(twin: AbstractTwin, others: Cohort) -> None:
    renamed = replace(others, outcomes=(replace(others.outcomes[0], name="OTHER", concept=""), others.outcomes[1]))
    with pytest.raises(MismatchError, match="exists: OTHER, MMSETOT"):
        ask(twin, renamed.until(0))


def test_a_treatment_that_the_twin_cannot_carry_is_refused(twin: AbstractTwin, others: Cohort) -> None:
    magic = PlainTreatment("magic", lambda _, y: {"wishes": 1 + 0 * y}, {"wishes": "multiply"})
    with pytest.raises(MismatchError, match=r"'magic' acts on \['wishes'\], which this twin does not have"):
        twin.predict(others.until(0), magic, AT, draws=DRAWS, key=KEY)


def test_what_is_taken_as_given_is_told_with_its_source(twin: AbstractTwin) -> None:
    assert twin.assumptions
    for line in twin.assumptions:
        assert line.name
        assert line.value
        assert line.source


def test_what_was_learned_is_told_with_its_prior(twin: AbstractTwin) -> None:
    assert twin.learned
    assert len({one.name for one in twin.learned}) == len(twin.learned)
    assert any(one.informed for one in twin.learned)
