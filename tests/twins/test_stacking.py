"""The stack: weights that maximise the held-out log score, draws of the mixture, and members that disagree."""

import jax
import numpy as np
import pytest
from known_law import Law, lines
from scipy.optimize import minimize

from trialtwin.core.errors import ConfigError, FitError
from trialtwin.core.treatment import NoTreatment
from trialtwin.twins.compare.plan import Plan
from trialtwin.twins.compare.run import compare
from trialtwin.twins.stacking import DISAGREE, Stack, StackTwin, stacking_weights

KEY = jax.random.key(8)
AT = np.array([100.0, 300.0])


def stack(**members: Law) -> Stack:
    return Stack(tuple(members), tuple(members.values()))


@pytest.fixture(scope="module")
def twin() -> StackTwin:
    """Return a stack of the truth and two wrong laws."""
    return stack(law=Law(), off=Law(bias=2.0), blind=Law(factor=0.0, sd=2.5)).fit(lines(1), key=KEY)


def test_the_truth_gets_nearly_all_the_weight(twin: StackTwin) -> None:
    assert twin.weights[0, 0] > 0.9
    np.testing.assert_allclose(twin.weights.sum(axis=1), 1)


@pytest.mark.reference
def test_reference_weights_are_those_that_a_general_optimiser_finds() -> None:
    """Scipy 1.17, SLSQP on the simplex, from another start."""
    rng = np.random.default_rng(2)
    density = rng.normal(0, 1.0, (80, 3)) + np.array([0.2, 0.0, -0.1])

    def loss(w: np.ndarray) -> float:
        return -float(np.log(np.exp(density) @ w).sum() + np.log(w).sum())

    theirs = minimize(
        loss,
        np.array([0.1, 0.2, 0.7]),
        bounds=[(1e-6, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14},
    )
    assert theirs.success
    np.testing.assert_allclose(stacking_weights(density), theirs.x, atol=1e-5)


def test_two_halves_of_a_law_are_better_than_either() -> None:
    """Patients come from one of two laws, half each: the stack forecasts the mixture."""
    from dataclasses import replace

    cohort = lines(3, 120)
    values = np.array(cohort.values)
    values[::2, 1:] += 4.0
    mixed = replace(cohort, values=values)
    members = {"low": Law(), "high": Law(bias=4.0)}
    twin = stack(**members).fit(mixed, key=KEY)
    assert abs(twin.weights[0, 0] - 0.5) < 0.1
    found = compare(mixed, members | {"stack": stack(**members)}, Plan(folds=3, draws=200), key=KEY)
    assert found.winner == "stack"
    score = {one.model: one for one in found.scores()}
    assert score["stack"].log_score.value > score["low"].log_score.value + 1


def test_draws_are_shared_out_by_the_weights(twin: StackTwin) -> None:
    half = StackTwin(
        twin.names, twin.members, twin.outcomes, np.array([[0.25, 0.75, 0.0]]), (), twin.assumptions, twin.learned
    )
    course = half.predict(lines(2).until(0), NoTreatment(), AT, draws=400, key=KEY)
    law, off = (m.predict(lines(2).until(0), NoTreatment(), AT, draws=32, key=KEY).expected for m in twin.members[:2])
    np.testing.assert_allclose(course.expected, 0.25 * law + 0.75 * off)
    np.testing.assert_allclose((course.values - law).mean(), 1.5, atol=0.02)
    assert abs((course.values - law).var() - (1 + 4 * 0.25 * 0.75)) < 0.1


def test_disagreement_is_the_share_of_variance_between_members(twin: StackTwin) -> None:
    even = StackTwin(
        twin.names, twin.members, twin.outcomes, np.array([[0.5, 0.5, 0.0]]), (), twin.assumptions, twin.learned
    )
    share = even.disagreement(lines(2).until(0), NoTreatment(), AT, draws=4000, key=KEY)
    assert share.shape == (60, 2, 1)
    np.testing.assert_allclose(share, 0.5, atol=0.03)  # B = 1, W = 1
    alone = StackTwin(
        twin.names, twin.members, twin.outcomes, np.array([[1.0, 0.0, 0.0]]), (), twin.assumptions, twin.learned
    )
    assert alone.disagreement(lines(2).until(0), NoTreatment(), AT, draws=32, key=KEY).max() == 0 < DISAGREE


def test_weights_are_told_with_their_uncertainty_and_members_with_theirs(twin: StackTwin) -> None:
    names = [one.name for one in twin.learned]
    assert names == ["Y: weight of law", "Y: weight of off", "Y: weight of blind"]
    assert twin.learned[0].informed
    assert twin.assumptions[0].name == "weights of the stack"


def test_a_member_that_cannot_be_fitted_is_named() -> None:
    with pytest.raises(FitError, match="bad, a member of the stack: it never can"):
        stack(law=Law(), bad=Law(refuses=True)).fit(lines(1), key=KEY)


def test_members_need_names_of_their_own() -> None:
    with pytest.raises(ConfigError, match="a name of its own"):
        Stack(("a", "a"), (Law(), Law()))
    with pytest.raises(ConfigError, match="a stack of 0"):
        Stack((), ())
