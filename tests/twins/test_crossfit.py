"""Cross-fitting: nobody is scored by a twin that has seen them, which a model that keeps count can tell."""

from dataclasses import replace
from typing import final

import equinox as eqx
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import FitError, MismatchError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin, Times
from trialtwin.core.variables import Variable
from trialtwin.twins.crossfit import CrossFit, CrossFitTwin, assign_folds

KEY = jax.random.key(4)
AT = np.array([0.0, 84.0])


@final
class Witness(AbstractTwin):
    """A twin that says of each patient whether it learned from them, from how many it learned, and which day it is."""

    seen: frozenset[str]
    mechanisms: tuple[str, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    learned: tuple[Learned, ...] = ()

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return three outcomes: seen or not, how many were learned from, and the time asked about."""
        own = np.broadcast_to(times, (len(patients), np.shape(times)[-1]))
        known = np.array([float(name in self.seen) for name in patients.ids])[:, None]
        told = np.stack([known + 0 * own, np.full(own.shape, float(len(self.seen))), own], axis=-1)
        noise = np.random.default_rng(np.asarray(jax.random.key_data(key))).normal(size=(draws, *told.shape))
        names = (Variable("seen"), Variable("learned from"), Variable("day"))
        return Trajectories(patients.ids, names, times, told + noise, told)


@final
class WitnessModel(AbstractModel):
    """A model that remembers whom it learned from."""

    log: list[frozenset[str]] = eqx.field(static=True, default_factory=list)

    def fit(self, cohort: Cohort, *, key: Array) -> Witness:
        """Remember."""
        self.log.append(frozenset(cohort.ids))
        return Witness(frozenset(cohort.ids))


def cohort(
    patients: int, arms: tuple[str, ...] = ("Placebo", "Low", "High"), seed: int = 0, prefix: str = "P"
) -> Cohort:
    values = np.zeros((patients, 2, 1))
    return Cohort(
        ids=tuple(f"{prefix}{i}" for i in range(patients)),
        variables=(),
        covariates=np.zeros((patients, 0)),
        outcomes=(Variable("Y"),),
        visits=("Baseline", "Week 12"),
        nominal=AT,
        times=np.tile(AT, (patients, 1)),
        values=values,
        observed=np.isfinite(values),
        treatments=arms,
        received=np.random.default_rng(seed).integers(0, len(arms), patients),
    )


TRIAL = cohort(50)


def fit(folds: int = 5, train_on: tuple[str, ...] = (), key: Array = KEY) -> tuple[CrossFitTwin, list[frozenset[str]]]:
    model = WitnessModel([])
    return CrossFit(model, folds=folds, train_on=train_on).fit(TRIAL, key=key), model.log


def ask(twin: CrossFitTwin, patients: Cohort, times: np.ndarray = AT) -> Trajectories:
    return twin.predict(patients, NoTreatment(), times, draws=3, key=KEY)


@pytest.mark.parametrize("train_on", [(), ("Placebo",), ("Placebo", "Low")])
def test_nobody_is_scored_by_a_twin_that_saw_them(train_on: tuple[str, ...]) -> None:
    twin, _ = fit(train_on=train_on)
    assert not ask(twin, TRIAL).score("seen", 84.0).any()


def test_the_witness_can_tell() -> None:
    """The same twin without cross-fitting would have been found out."""
    assert (
        WitnessModel([]).fit(TRIAL, key=KEY).predict(TRIAL, NoTreatment(), AT, draws=1, key=KEY).expected[..., 0].all()
    )


@pytest.mark.parametrize("train_on", [(), ("Placebo",), ("Placebo", "Low")])
def test_only_the_arms_named_teach(train_on: tuple[str, ...]) -> None:
    _, log = fit(train_on=train_on)
    allowed = np.any([TRIAL.arm(name) for name in train_on or TRIAL.treatments], axis=0)
    teachers = {name for name, may in zip(TRIAL.ids, allowed, strict=True) if may}
    assert log[-1] == teachers
    assert all(seen < teachers for seen in log[:-1])


def test_each_teacher_is_left_out_once() -> None:
    """There are as many fits as folds and one more; the parts left out are the folds, and together everybody."""
    _, log = fit(folds=5, train_on=("Placebo",))
    assert len(log) == 6
    left_out = [log[-1] - seen for seen in log[:-1]]
    assert sum(map(len, left_out)) == len(log[-1])
    assert frozenset().union(*left_out) == log[-1]


def test_patients_of_all_arms_in_a_fold_are_scored_by_the_same_twin() -> None:
    twin, log = fit(train_on=("Placebo",))
    learned_from = ask(twin, TRIAL).score("learned from", 84.0)
    for name, number in zip(TRIAL.ids, learned_from, strict=True):
        assert number == len(log[twin.fold[name]])


@settings(deadline=None, max_examples=10)
@given(patients=st.sampled_from([2, 5, 9, 40, 60]), folds=st.integers(2, 10), seed=st.integers(0, 50))
def test_folds_are_of_equal_size_within_each_arm_and_overall(patients: int, folds: int, seed: int) -> None:
    trial = cohort(patients, seed=seed)
    if folds > patients:
        with pytest.raises(FitError, match=f"cannot make {folds} folds of {patients} patients"):
            assign_folds(trial, folds, key=KEY)
        return
    fold = assign_folds(trial, folds, key=jax.random.key(seed))
    for members in [np.ones(patients, bool), *(trial.received == arm for arm in range(3))]:
        sizes = np.bincount(fold[members], minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_one_fold_is_refused() -> None:
    with pytest.raises(FitError, match="cannot make 1 folds"):
        assign_folds(TRIAL, 1, key=KEY)


def test_the_key_decides_the_folds() -> None:
    first, again, other = (assign_folds(TRIAL, 5, key=jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_patients_of_another_cohort_are_asked_of_the_whole() -> None:
    """A historical cohort is the same call: whoever was not in the trial goes to the twin fitted to all."""
    twin, log = fit(train_on=("Placebo",))
    stranger = cohort(7, prefix="H")
    assert (ask(twin, stranger).score("learned from", 84.0) == len(log[-1])).all()
    mixed = replace(TRIAL.take(range(7)), ids=(*TRIAL.ids[:4], "H1", "H2", "H3"))
    learned_from = ask(twin, mixed).score("learned from", 84.0)
    assert (learned_from[4:] == len(log[-1])).all()
    assert (learned_from[:4] < len(log[-1])).all()


def test_the_order_of_patients_and_their_own_times_are_kept() -> None:
    twin, _ = fit()
    shuffled = TRIAL.take(np.random.default_rng(1).permutation(50))
    own = AT + np.arange(50)[:, None]
    course = ask(twin, shuffled, own)
    assert course.ids == shuffled.ids
    np.testing.assert_array_equal(course.expected[..., 2], own)
    assert not course.expected[..., 0].any()


def test_patients_have_draws_of_their_own_and_the_same_key_repeats_them() -> None:
    twin, _ = fit()
    first, again = ask(twin, TRIAL), ask(twin, TRIAL)
    assert first.values.tobytes() == again.values.tobytes()
    noise = first.values - first.expected
    assert len(np.unique(noise)) == noise.size


@final
class Picky(AbstractModel):
    """A model of Y, and of W where it learned from some patients, as where each outcome needs follow-up."""

    needed: frozenset[str]

    def fit(self, cohort: Cohort, *, key: Array) -> "PickyTwin":
        """Learn W where all that are needed for it are there."""
        names = ("Y", "W") if self.needed <= set(cohort.ids) else ("Y",)
        return PickyTwin(names)


@final
class PickyTwin(AbstractTwin):
    """A twin that predicts 1 for the first of its outcomes, and 2 for the second."""

    names: tuple[str, ...]
    mechanisms: tuple[str, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    learned: tuple[Learned, ...] = ()

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return the number of each outcome."""
        told = np.broadcast_to(1.0 + np.arange(len(self.names)), (len(patients), np.shape(times)[-1], len(self.names)))
        draws_of_it = np.broadcast_to(told, (draws, *told.shape))
        return Trajectories(patients.ids, tuple(map(Variable, self.names)), times, draws_of_it, told)


@pytest.mark.parametrize("who", [TRIAL.ids, ("H1", *TRIAL.ids[:6]), (*TRIAL.ids[:6], "H1")])
def test_folds_that_model_different_outcomes_are_refused(who: tuple[str, ...]) -> None:
    """Arrays of one outcome would be copied into two without an error, and Y be handed out as W.

    W needs patient P0: the twin without P0's fold models Y alone, and the others, and the one fitted to all, both.
    """
    twin = CrossFit(Picky(frozenset({"P0"})), folds=3).fit(TRIAL, key=KEY)
    patients = replace(TRIAL.take(range(len(who))), ids=who)
    with pytest.raises(FitError, match=r"folds' twins predict different outcomes[^\n]*\n  where: Y; Y, W"):
        ask(twin, patients)


def test_folds_that_model_the_same_outcomes_keep_each_in_its_place() -> None:
    twin = CrossFit(Picky(frozenset()), folds=3).fit(TRIAL, key=KEY)
    course = ask(twin, TRIAL)
    assert (course.score("Y", 84.0) == 1.0).all()
    assert (course.score("W", 84.0) == 2.0).all()


def test_each_fit_is_reported() -> None:
    calls: list[tuple[int, int]] = []
    CrossFit(WitnessModel([]), folds=3, on_fit=lambda done, total: calls.append((done, total))).fit(TRIAL, key=KEY)
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_arm_that_does_not_exist_is_refused() -> None:
    with pytest.raises(MismatchError, match="exists: Placebo, Low, High"):
        fit(train_on=("Placbo",))


def test_a_fold_that_leaves_nobody_is_refused() -> None:
    lonely = replace(TRIAL, received=np.where(np.arange(50) == 7, 0, 1))
    with pytest.raises(FitError, match=r"fold \d of 2 leaves nobody to learn from"):
        CrossFit(WitnessModel([]), folds=2, train_on=("Placebo",)).fit(lonely, key=KEY)
