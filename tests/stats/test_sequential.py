"""Group-sequential designs: against closed forms and simulated paths, and what they refuse."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from trialtwin.core.errors import ConfigError, ConvergenceError
from trialtwin.stats.sequential import SequentialDesign, efficacy_boundary, sequential_design
from trialtwin.stats.sequential_analysis import (
    combined_interval,
    conditional_power,
    inverse_normal,
    predictive_power,
    repeated_interval,
    repeated_p,
)
from trialtwin.stats.sequential_process import crossing
from trialtwin.stats.sequential_spending import BOUNDARIES, Boundary

LOOKS = np.array([0.3, 0.6, 1.0])
KINDS = {
    "O'Brien-Fleming": Boundary("O'Brien-Fleming"),
    "Pocock": Boundary("Pocock"),
    "Wang-Tsiatis": Boundary("Wang-Tsiatis", 0.2),
    "O'Brien-Fleming spending": Boundary("O'Brien-Fleming spending"),
    "Pocock spending": Boundary("Pocock spending"),
    "Hwang-Shih-DeCani": Boundary("Hwang-Shih-DeCani", -4.0),
    "power": Boundary("power", 2.0),
}
LDOF = KINDS["O'Brien-Fleming spending"]


def paths(count: int, drift: float, seed: int, fraction: np.ndarray = LOOKS) -> np.ndarray:
    """Return simulated Z at each look."""
    rng = np.random.default_rng(seed)
    steps = np.diff(fraction, prepend=0.0)
    score = np.cumsum(drift * steps + np.sqrt(steps) * rng.normal(size=(count, len(steps))), axis=1)
    return score / np.sqrt(fraction)


def first_crossed(z: np.ndarray, plan: SequentialDesign) -> tuple[np.ndarray, np.ndarray]:
    """Return with which frequency each boundary was crossed first at each look, written plainly."""
    upper, lower = np.zeros(len(plan.upper)), np.zeros(len(plan.upper))
    for path in z:
        for k, value in enumerate(path):
            if value >= plan.upper[k]:
                upper[k] += 1
                break
            if value <= plan.lower[k]:
                lower[k] += 1
                break
    return upper / len(z), lower / len(z)


def test_every_kind_is_tested() -> None:
    assert set(KINDS) == set(BOUNDARIES)


@pytest.mark.law
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sides", [1, 2])
def test_law_the_error_is_what_was_asked_for(kind: str, sides: int) -> None:
    """10,000 paths without effect; the rate of rejection within 3 standard errors, 0.0047 for one side."""
    plan = sequential_design(LOOKS, KINDS[kind], sides=sides)  # type: ignore[arg-type]
    upper, lower = first_crossed(paths(10_000, 0.0, 1), plan)
    rate, wanted = upper.sum() + lower.sum(), 0.025 * sides
    assert abs(rate - wanted) < 3 * np.sqrt(wanted * (1 - wanted) / 10_000)
    assert plan.spent().sum() == pytest.approx(0.025, abs=1e-9)


@pytest.mark.law
@pytest.mark.parametrize("binding", [False, True])
def test_law_power_and_futility_are_what_was_asked_for(binding: bool) -> None:
    """10,000 paths at the design's drift: power and the error below within 3 standard errors, look by look."""
    futility = Boundary("Hwang-Shih-DeCani", -2.0)
    plan = sequential_design(LOOKS, LDOF, futility=futility, binding=binding)
    upper, lower = first_crossed(paths(10_000, plan.drift, 2), plan)
    assert abs(upper.sum() - 0.9) < 3 * np.sqrt(0.09 / 10_000)
    spent = np.diff(futility.spent(LOOKS, 0.1), prepend=0.0)
    assert (np.abs(lower - spent) < 3 * np.sqrt(spent / 10_000)).all()
    null = sum(first_crossed(paths(10_000, 0.0, 3), plan)[0])
    exact = plan.crossing(0.0).upper.sum()
    assert abs(null - exact) < 3 * np.sqrt(exact / 10_000)
    assert exact == pytest.approx(0.025, abs=1e-8) if binding else exact < 0.025


def test_independent_crossing_is_the_multivariate_normal_probability() -> None:
    """P(below both) and P(first crossed at the second look) from scipy's distribution of (Z₁, Z₂)."""
    upper, drift = np.array([2.5, 2.1]), 2.0
    fraction = np.array([0.4, 1.0])
    mean = drift * np.sqrt(fraction)
    r = np.sqrt(0.4)
    below = multivariate_normal(mean, [[1, r], [r, 1]]).cdf(upper)
    found = crossing(upper, np.full(2, -np.inf), fraction, drift)
    assert found.upper[0] == pytest.approx(norm.sf(2.5 - mean[0]), rel=1e-12)
    assert 1 - found.upper.sum() == pytest.approx(below, abs=1e-5)


def test_many_and_uneven_looks_are_as_exact() -> None:
    """Twenty looks, two of them close together: all of the error is spent, and paths agree."""
    fraction = np.sort(np.append(np.arange(1, 20) / 20, [0.501, 1.0]))
    plan = sequential_design(fraction, LDOF)
    assert plan.spent().sum() == pytest.approx(0.025, abs=1e-8)
    spent = np.diff(LDOF.spent(fraction, 0.025), prepend=0.0)
    np.testing.assert_allclose(plan.spent(), spent, atol=1e-8)


def test_one_look_is_the_fixed_design() -> None:
    plan = sequential_design(np.array([1.0]), Boundary("Pocock"), alpha=0.05, power=0.8)
    assert plan.upper[0] == pytest.approx(norm.isf(0.05), abs=1e-8)
    assert plan.inflation == pytest.approx(1.0, abs=1e-8)


def test_a_look_at_which_nothing_is_spent_has_no_boundary() -> None:
    early = np.array([0.01, 0.5, 1.0])
    upper = efficacy_boundary(early, LDOF, 0.025)
    assert upper[0] == np.inf
    assert np.isfinite(upper[1:]).all()


def test_conditional_power_with_one_look_left_is_closed_form() -> None:
    plan = sequential_design(np.array([0.5, 1.0]), LDOF)
    for drift in (0.0, 2.0, plan.drift):
        wanted = norm.sf((plan.upper[1] - 1.2 * np.sqrt(0.5)) / np.sqrt(0.5) - drift * np.sqrt(0.5))
        assert conditional_power(plan, 1, 1.2, drift).sum() == pytest.approx(wanted, rel=1e-10)
    certain = predictive_power(plan, 1, 1.2, np.array([plan.drift]), np.ones(1))
    assert certain == pytest.approx(conditional_power(plan, 1, 1.2, plan.drift).sum(), rel=1e-12)


@pytest.mark.law
def test_law_repeated_intervals_hold_at_every_look() -> None:
    """2,000 trials with an effect: the share in which all intervals hold it is at least 95 % (3 standard errors)."""
    plan = sequential_design(LOOKS, LDOF)
    z = paths(2000, 2.0, 4)
    held = 0
    for path in z:
        ends = [repeated_interval(plan, k + 1, path[k] / np.sqrt(LOOKS[k]), 1 / np.sqrt(LOOKS[k])) for k in range(3)]
        held += all(low <= 2.0 <= high for low, high in ends)
    assert held / 2000 > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_a_repeated_p_value_at_the_boundary_is_the_error() -> None:
    plan = sequential_design(LOOKS, LDOF, alpha=0.025)
    for look in (1, 2, 3):
        assert repeated_p(LOOKS, LDOF, look, float(plan.upper[look - 1])) == pytest.approx(0.025, rel=1e-5)


def test_with_one_stage_the_combined_interval_is_the_repeated_one() -> None:
    plan = sequential_design(LOOKS, LDOF)
    alone = combined_interval(plan, np.array([0.3]), np.array([1.4]), np.array([0.5]), np.array([40.0]))
    assert alone == pytest.approx(repeated_interval(plan, 1, 1.4, 0.5, df=40.0), rel=1e-8)


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        ([0.6, 0.3, 1.0], "must grow from look to look: it is 0.3 at look 2"),
        ([0.0, 1.0], "it is 0 at look 1"),
        ([0.5, 0.9], "the last look is at 0.9"),
        ([np.nan, 1.0], "is \\[nan, 1.0\\]"),
    ],
)
def test_fractions_that_do_not_grow_to_one_are_refused(looks: list[float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        sequential_design(np.array(looks), LDOF)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="no boundary 'Haybittle'"):
        Boundary("Haybittle")
    with pytest.raises(ConfigError, match="needs its parameter γ"):
        Boundary("Hwang-Shih-DeCani")
    with pytest.raises(ConfigError, match="has no parameter"):
        Boundary("Pocock", 0.5)
    with pytest.raises(ConfigError, match="does not spend"):
        Boundary("power", -1.0)
    with pytest.raises(ConfigError, match="one-sided error 0"):
        sequential_design(LOOKS, LDOF, alpha=0.6)
    with pytest.raises(ConfigError, match="futility is spent"):
        sequential_design(LOOKS, LDOF, futility=Boundary("Pocock"))
    with pytest.raises(ConfigError, match="lower boundary 3 is above the upper 2"):
        crossing(np.array([2.0, 2.0]), np.array([3.0, 2.0]), np.array([0.5, 1.0]))
    plan = sequential_design(LOOKS, LDOF)
    for call in (
        lambda: conditional_power(plan, 3, 1.0, 0.0),
        lambda: repeated_p(LOOKS, LDOF, 4, 1.0),
        lambda: repeated_interval(plan, 0, 1.0, 1.0),
    ):
        with pytest.raises(ConfigError, match="no look"):
            call()
    with pytest.raises(ConfigError, match="a standard error of -1"):
        repeated_interval(plan, 1, 1.0, -1.0)
    with pytest.raises(ConfigError, match="no probabilities"):
        predictive_power(plan, 1, 1.0, np.array([0.0, 1.0]), np.array([0.9, 0.9]))
    with pytest.raises(ConfigError, match="give a positive weight a stage"):
        inverse_normal(np.array([1.0]), np.array([-1.0]))
    with pytest.raises(ConfigError, match="binding futility needs"):
        sequential_design(LOOKS, Boundary("Pocock"), futility=LDOF, binding=True)
    with pytest.raises(ConvergenceError, match="no repeated p-value"):
        repeated_p(LOOKS, LDOF, 1, -3.0)
