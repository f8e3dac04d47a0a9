"""The efficient hazard ratio: programmed twice, invariances, laws by simulation, and what is refused."""

import numpy as np
import pytest

from trialtwin.core.errors import DataError, FitError
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.cox import cox
from trialtwin.stats.efficient_hazard_ratio import efficient_hazard_ratio
from trialtwin.stats.modelmatrix import continuous_columns

ARMS = ("control", "active")


def trial(n: int, seed: int, *, tied: bool = False, told: float = 0.0) -> tuple[ArmModel, np.ndarray, np.ndarray]:
    """Return arms with two covariates that tell of survival (and censoring), times without effect, and events."""
    rng = np.random.default_rng(seed)
    x, arm = rng.normal(size=(n, 2)), rng.integers(0, 2, n)
    time = rng.exponential(10 * np.exp(-0.8 * x[:, 0] - 0.3 * x[:, 1]))
    stop = rng.exponential(15 * np.exp(told * x[:, 1]))
    seen = np.minimum(time, stop)
    return ArmModel(ARMS, arm, continuous_columns({"age": 60 + 9 * x[:, 0], "score": x[:, 1]})), (
        np.ceil(seen) if tied else seen
    ), time <= stop  # fmt: skip


def martingale(model: ArmModel, time: np.ndarray, event: np.ndarray, beta: float) -> np.ndarray:
    """Return each patient's part in the score by loops."""
    risk, found = np.exp(beta * model.arm), np.zeros(model.n)
    for t in np.unique(time[event]):
        at_risk = time >= t
        share = (risk * model.arm)[at_risk].sum() / risk[at_risk].sum()
        hazard = (event & (time == t)).sum() / risk[at_risk].sum()
        found += (event & (time == t)) * (model.arm - share) - at_risk * (model.arm - share) * risk * hazard
    return found


def test_independent_programmed_twice_with_ties() -> None:
    model, time, event = trial(60, 3, tied=True)
    assert model.covariates is not None
    x, arm, p = model.covariates.values, model.arm, model.arm.mean()
    h = np.zeros_like(x)
    for a in (0, 1):
        own, free = arm == a, 1.0
        for u in np.unique(time[own & ~event]):
            at_risk, drawn = own & (time >= u), own & ~event & (time == u)
            before, free = free, free * (1 - drawn.sum() / at_risk.sum())
            k = free if free > 0 else before / 2
            centred = x - x[at_risk].mean(axis=0)
            h += drawn[:, None] * centred / k - at_risk[:, None] * centred * drawn.sum() / (k * at_risk.sum())
    first = cox(continuous_columns({"arm": arm.astype(float)}), time, event).coefficient("arm")
    m = martingale(model, time, event, first)
    w = np.column_stack([np.ones(60), x])
    f = w @ np.linalg.solve(p * (1 - p) * w.T @ w, w.T @ ((arm - p) * m))
    g = h @ np.linalg.solve(h.T @ h, h.T @ m)
    found = efficient_hazard_ratio(model, time, event)
    left = martingale(model, time, event, found.value) - (arm - p) * f - g
    assert left.sum() == pytest.approx(0, abs=1e-8)
    share = [np.exp(found.value) * np.sum(arm[time >= t]) for t in time[event]]
    share = [s / (s + np.sum(1 - arm[time >= t])) for s, t in zip(share, time[event], strict=True)]
    information = sum(s * (1 - s) for s in share)
    assert found.se == pytest.approx(np.sqrt((left**2).sum()) / information, rel=1e-9)


def test_the_zero_and_the_unit_of_covariates_do_not_matter_nor_one_that_depends_on_others() -> None:
    model, time, event = trial(120, 4)
    assert model.covariates is not None
    x = model.covariates.values
    moved = continuous_columns({"a": 1e3 * (x[:, 0] - x[:, 1]) + 5, "b": x[:, 1], "c": x[:, 0] + 2 * x[:, 1]})
    first, second = (
        efficient_hazard_ratio(ArmModel(ARMS, model.arm, c), time, event) for c in (model.covariates, moved)
    )
    assert (first.value, first.se) == pytest.approx((second.value, second.se), rel=1e-8)
    swapped = efficient_hazard_ratio(ArmModel(ARMS, 1 - model.arm, model.covariates), time, event)
    assert (swapped.value, swapped.se) == pytest.approx((-first.value, first.se), rel=1e-8)


def test_what_cannot_be_compared_is_refused() -> None:
    model, time, event = trial(40, 5)
    with pytest.raises(DataError, match="no covariates to gain from"):
        efficient_hazard_ratio(ArmModel(ARMS, model.arm), time, event)
    with pytest.raises(DataError, match="two arms, not 3"):
        efficient_hazard_ratio(ArmModel(("a", "b", "c"), np.arange(40) % 3, model.covariates), time, event)
    with pytest.raises(FitError, match="nobody had the event"):
        efficient_hazard_ratio(model, time, np.zeros(40, dtype=bool))


SIZES = [pytest.param(400, id="400 trials"), pytest.param(10_000, id="10,000 trials", marks=pytest.mark.slow)]


@pytest.mark.law
@pytest.mark.parametrize("trials", SIZES)
def test_law_intervals_cover_and_are_shorter_than_coxs(trials: int) -> None:
    """Trials of 250 without effect: 95 % within 3.5 Monte-Carlo standard errors and a point for large-sample formulas.

    In 10,000 trials it is 93.9 %. Where the covariates tell of censoring as well, intervals are too short: about 92 %
    at 250, 90 % at 1,000 patients.
    """
    held, other, shorter = 0, 0, []
    for seed in range(trials):
        model, time, event = trial(250, seed)
        found = efficient_hazard_ratio(model, time, event)
        held += found.lower <= 0 <= found.upper
        found = efficient_hazard_ratio(*trial(250, seed, told=0.4))
        other += found.lower <= 0 <= found.upper
        if seed < 100:
            plain = cox(continuous_columns({"arm": model.arm.astype(float)}), time, event)
            shorter.append(efficient_hazard_ratio(model, time, event).se / np.sqrt(plain.covariance()[0, 0]))
    rates = np.array([held, other]) / trials
    print(f"\n{trials} trials: coverage, the same informed, length to Cox's {rates} {np.mean(shorter):.3f}")  # noqa: T201
    assert abs(rates[0] - 0.95) < 3.5 * np.sqrt(0.05 * 0.95 / trials) + 0.01
    assert np.mean(shorter) < 0.95
    if trials > 1000:
        assert 0.9 < rates[1] < 0.93
