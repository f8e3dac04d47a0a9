"""The average hazard ratio: closed forms, quadrature programmed twice, simulated power, and what is refused."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from trialtwin.core.errors import ConfigError
from trialtwin.stats.logrank import fleming_harrington, log_rank
from trialtwin.stats.samplesize_ahr import AverageHazardRatio, average_hazard_ratio, weighted_hazard_ratio
from trialtwin.stats.samplesize_survival import expected_events


def _trial(starts: list[float], ratio: list[float]) -> AverageHazardRatio:
    return average_hazard_ratio(
        30.0,
        enrolled_for=np.array([12.0]),
        enrolled_rate=np.array([20.0]),
        starts=np.array(starts),
        hazard=np.full(len(starts), 0.07),
        ratio=np.array(ratio),
        dropout=0.01,
    )


def test_proportional_hazards_give_their_ratio_and_the_closed_form_of_events() -> None:
    found = _trial([0.0, 4.0], [0.7, 0.7])
    assert found.value == pytest.approx(0.7, rel=1e-12)
    closed = sum(expected_events(hazard=h, dropout=0.01, rate=10.0, accrual=12.0, duration=30.0) for h in (0.07, 0.049))
    assert found.events == pytest.approx(closed, rel=1e-10)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="start at 0"):
        _trial([0.0, 4.0, 3.0], [0.7, 0.7, 0.7])
    with pytest.raises(ConfigError, match="above 0"):
        _trial([0.0], [-0.7])
    with pytest.raises(ConfigError, match="no benefit"):
        _trial([0.0], [1.0]).sized()
    for exponents in ((-1.0, 0.0), (0.0, -0.5)):
        with pytest.raises(ConfigError, match="give 0 or more"):
            weighted_hazard_ratio(30.0, rho=exponents[0], gamma=exponents[1], **DELAYED)
    with pytest.raises(ConfigError, match="no benefit"):
        weighted_hazard_ratio(30.0, rho=0.0, gamma=1.0, **(DELAYED | {"ratio": np.array([1.0, 1.2])})).sized()


@pytest.mark.parametrize("change", [{"hazard": 0.0}, {"dropout": -0.1}, {"rate": -1.0}, {"duration": 11.0}])
def test_events_of_a_trial_that_cannot_be_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="do: give"):
        expected_events(**({"hazard": 0.1, "dropout": 0.0, "rate": 1.0, "accrual": 12.0, "duration": 24.0} | change))


DELAYED: dict[str, Any] = {
    "enrolled_for": np.array([5.0, 7.0]),
    "enrolled_rate": np.array([10.0, 20.0]),
    "starts": np.array([0.0, 4.0]),
    "hazard": np.array([0.09, 0.06]),
    "ratio": np.array([1.0, 0.5]),
    "dropout": 0.01,
    "treated": 0.6,
}


@pytest.mark.parametrize(("rho", "gamma"), [(0.0, 0.0), (0.0, 0.5), (1.0, 0.0), (1.0, 1.0)])
def test_independent_weighted_integrals_by_adaptive_quadrature(rho: float, gamma: float) -> None:
    def alive(t: float, treated: bool, mixed: bool) -> float:
        first, second = (0.09, 0.06 * (0.4 + 0.6 * 0.5)) if mixed else (0.09, 0.06 * (0.5 if treated else 1.0))
        return float(np.exp(-first * min(t, 4.0) - second * max(t - 4.0, 0.0)))

    def hazard(t: float, treated: bool, mixed: bool) -> float:
        return 0.09 if t < 4 else 0.06 * (0.7 if mixed else 0.5 if treated else 1.0)

    def enrolled(x: float) -> float:
        return 10 * min(x, 5.0) + 20 * min(max(x - 5, 0.0), 7.0)

    def integral(power: int, mixed: bool, difference: bool) -> float:
        def f(t: float) -> float:
            r = [share * alive(t, a, mixed) * np.exp(-0.01 * t) * enrolled(30 - t) for a, share in ((0, 0.4), (1, 0.6))]
            pooled = 0.4 * alive(t, False, mixed) + 0.6 * alive(t, True, mixed)
            lam = [hazard(t, a, mixed) for a in (False, True)]
            last = (r[0] + r[1]) * (lam[1] - lam[0]) if difference else r[0] * lam[0] + r[1] * lam[1]
            return float((pooled**rho * (1 - pooled) ** gamma) ** power * r[0] * r[1] / (r[0] + r[1]) ** 2 * last)

        edges = (0.0, 4.0, 18.0, 25.0, 30.0 - 1e-9)
        return sum(quad(f, a, b, epsrel=1e-10)[0] for a, b in pairwise(edges))

    found = weighted_hazard_ratio(30.0, rho=rho, gamma=gamma, **DELAYED)
    shift, one, two = integral(1, False, True), integral(1, False, False), integral(2, False, False)
    assert (found.value, found.effect, found.information, found.information_null) == pytest.approx(
        (np.exp(shift / one), -shift / two, two, integral(2, True, False)), rel=1e-7
    )


SIZES = [pytest.param(200, id="200 trials"), pytest.param(10_000, id="10,000 trials", marks=pytest.mark.slow)]


@pytest.mark.law
@pytest.mark.parametrize("trials", SIZES)
def test_law_a_weighted_test_has_the_power_it_was_sized_for(trials: int) -> None:
    """FH(0, 0.5), a delayed effect: 83.2 % in 10,000 trials; two points are allowed for large-sample formulas."""
    trial = DELAYED | {"treated": 0.5}
    n = round(weighted_hazard_ratio(30.0, rho=0.0, gamma=0.5, **trial).sized(power=0.85).patients / 2) * 2
    rng, hits = np.random.default_rng(11), 0
    for _ in range(trials):
        step = rng.choice(2, n, p=np.array([50, 140]) / 190)
        entry = np.array([0.0, 5.0])[step] + rng.random(n) * np.array([5.0, 7.0])[step]
        arm = np.arange(n) % 2
        gone = rng.exponential(size=n)  # cumulative hazard at the event
        time = np.where(gone < 0.36, gone / 0.09, 4 + (gone - 0.36) / (0.06 * np.where(arm == 1, 0.5, 1.0)))
        stop = np.minimum(rng.exponential(100, n), 30 - entry)
        test = log_rank(np.minimum(time, stop), time <= stop, arm, weighting=fleming_harrington(0, 0.5))
        hits += test.z < -1.959964
    print(f"\n{n} patients, {trials} trials: power {hits / trials:.4f}")  # noqa: T201
    assert abs(hits / trials - 0.85) < 3.5 * np.sqrt(0.85 * 0.15 / trials) + 0.02
