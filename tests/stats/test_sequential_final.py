"""Inference after a group-sequential trial: closed forms, independent simulation, and what is refused."""

import numpy as np
import pytest
from scipy.stats import norm, t

from trialtwin.core.errors import ConfigError
from trialtwin.stats.sequential import sequential_design
from trialtwin.stats.sequential_final import final_inference, stagewise_p
from trialtwin.stats.sequential_spending import Boundary

LOOKS = np.array([0.3, 0.6, 1.0])
PLANS = {
    "one-sided": sequential_design(LOOKS, Boundary("O'Brien-Fleming spending")),
    "two-sided": sequential_design(LOOKS, Boundary("Pocock"), sides=2),
    "binding futility": sequential_design(
        LOOKS, Boundary("Hwang-Shih-DeCani", -4.0), futility=Boundary("Hwang-Shih-DeCani", -2.0), binding=True
    ),
    "futility": sequential_design(
        LOOKS, Boundary("Hwang-Shih-DeCani", -4.0), futility=Boundary("Hwang-Shih-DeCani", -2.0)
    ),
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("look", [1, 2, 3])
def test_independent_on_the_boundary_p_is_the_error_spent(name: str, look: int) -> None:
    plan = PLANS[name]
    spent = plan.spent()[:look].sum()
    assert stagewise_p(plan, look, float(plan.upper[look - 1])) == pytest.approx(spent, rel=1e-6)
    found = final_inference(plan, look, float(plan.upper[look - 1]), 1.0, level=1 - 2 * spent)
    assert found.lower == pytest.approx(0.0, abs=1e-5)


def test_at_the_first_look_it_is_the_inference_of_a_fixed_trial() -> None:
    found = final_inference(PLANS["one-sided"], 1, 8.0, 2.0, level=0.9)
    assert found.p == pytest.approx(norm.sf(4.0), rel=1e-9)
    assert (found.median_unbiased, found.naive) == pytest.approx((8.0, 8.0))
    assert (found.lower, found.upper) == pytest.approx((8 - 2 * norm.ppf(0.95), 8 + 2 * norm.ppf(0.95)))
    students = final_inference(PLANS["one-sided"], 1, 9.0, 2.0, df=20.0, null=-1.0)
    assert students.p == pytest.approx(t.sf(5.0, 20), rel=1e-9)
    assert final_inference(PLANS["two-sided"], 1, -8.0, 2.0).p_two_sided == pytest.approx(2 * norm.sf(4.0), rel=1e-9)


def test_two_sided_inference_is_symmetric() -> None:
    up, down = (final_inference(PLANS["two-sided"], 3, sign * 2.6, 1.0) for sign in (1.0, -1.0))
    assert up.median_unbiased == pytest.approx(-down.median_unbiased, abs=1e-6)
    assert (up.lower, up.upper) == pytest.approx((-down.upper, -down.lower), abs=1e-6)
    assert up.p_two_sided == pytest.approx(down.p_two_sided, rel=1e-6)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize(("look", "z"), [(2, 3.1), (3, 2.4), (3, 0.5)])
def test_independent_by_simulated_paths(name: str, look: int, z: float) -> None:
    """400,000 paths under a drift of 1.5, ordered as written; within 4 binomial errors."""
    plan, drift, count = PLANS[name], 1.5, 400_000
    steps = np.diff(LOOKS, prepend=0.0)
    noise = np.random.default_rng(7).normal(size=(count, 3))
    paths = np.cumsum(drift * steps + np.sqrt(steps) * noise, axis=1) / np.sqrt(LOOKS)
    lower = plan.lower if name in ("two-sided", "binding futility") else np.full(3, -np.inf)
    going, extreme = np.ones(count, bool), np.zeros(count, bool)
    for k in range(look - 1):
        extreme |= going & (paths[:, k] >= plan.upper[k])
        going &= (paths[:, k] < plan.upper[k]) & (paths[:, k] > lower[k])
    extreme |= going & (paths[:, look - 1] >= z)
    rate = extreme.mean()
    assert stagewise_p(plan, look, z, drift) == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / count))


def test_the_estimate_is_below_the_naive_one_after_an_early_stop_and_makes_an_estimate() -> None:
    plan = PLANS["two-sided"]
    found = final_inference(plan, 2, 3.0, 1.0)
    assert found.lower < found.median_unbiased < 3.0 < found.upper
    one = found.estimate("active − control", n=120, method="ANCOVA")
    assert one.value == found.median_unbiased
    assert one.p == found.p_two_sided
    assert one.method == "ANCOVA, stage-wise ordering at look 2"
    # the interval of level 1 − 2α excludes 0 just if the trial rejects
    last = float(plan.upper[2])
    assert final_inference(plan, 3, last + 0.01, 1.0).lower > 0 > final_inference(plan, 3, last - 0.01, 1.0).lower


def test_a_trial_that_goes_on_has_no_final_inference() -> None:
    plan = PLANS["futility"]
    with pytest.raises(ConfigError, match="the trial goes on at look 1"):
        final_inference(plan, 1, 0.5, 1.0)
    assert final_inference(plan, 1, float(plan.lower[0]) - 0.1, 1.0).p > 0.5
    with pytest.raises(ConfigError, match="no look 4"):
        final_inference(plan, 4, 0.5, 1.0)
    with pytest.raises(ConfigError, match=r"an estimate of 0\.5 with a standard error of 0"):
        final_inference(plan, 3, 0.5, 0.0)
    with pytest.raises(ConfigError, match="an estimate of nan"):
        final_inference(plan, 3, np.nan, 1.0)
