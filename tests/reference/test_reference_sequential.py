"""Group-sequential designs against gsDesign 3.11.0 and rpact 3.3.4."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from trialtwin.stats.sequential import SequentialDesign, sequential_design
from trialtwin.stats.sequential_analysis import (
    combined_interval,
    conditional_power,
    inverse_normal,
    predictive_power,
    repeated_interval,
    repeated_p,
)
from trialtwin.stats.sequential_final import final_inference
from trialtwin.stats.sequential_spending import Boundary
from trialtwin.stats.sequential_survival import sequential_survival

pytestmark = pytest.mark.reference

THIRDS = np.array([1, 2, 3]) / 3
QUARTERS = np.array([1, 2, 3, 4]) / 4
OBF, POCOCK = Boundary("O'Brien-Fleming"), Boundary("Pocock")
LDOF, LDP = Boundary("O'Brien-Fleming spending"), Boundary("Pocock spending")


def _gsdesign(plan: SequentialDesign, kind: int) -> dict[str, Any]:
    both = [plan.crossing(0.0), plan.crossing(plan.drift)]
    found: dict[str, Any] = {
        "k": len(plan.fraction),
        "test.type": kind,
        "alpha": plan.alpha,
        "beta": 1 - plan.power,
        "timing": plan.fraction.tolist(),
        "n_I_inflation": (plan.inflation * plan.fraction).tolist(),
        "upper_z": plan.upper.tolist(),
        "upper_spend": plan.spent().tolist(),
        "upper_nominal_p": plan.nominal().tolist(),
        "theta": [0.0, plan.fixed_drift],
        "upper_prob": np.stack([one.upper for one in both], axis=1).tolist(),
        "expected_n_under_theta": [plan.expected_information(drift) for drift in (0.0, plan.drift)],
    }
    if np.isfinite(plan.lower).all():
        found["lower_z"] = plan.lower.tolist()
        spent = both[1 if kind == 4 else 0].lower
        found["lower_spend"] = spent.tolist()
        found["lower_prob"] = np.stack([one.lower for one in both], axis=1).tolist()
    return found


def test_reference_gsdesign(match_all: Callable[[str, Any], None]) -> None:
    hsd = [Boundary("Hwang-Shih-DeCani", gamma) for gamma in (-4.0, -2.0)]
    fifths, uneven = np.arange(1, 6) / 5, np.array([0.4, 0.75, 1.0])
    match_all(
        "gsd_gsdesign_public",
        {
            "obf_k4_onesided": _gsdesign(sequential_design(QUARTERS, OBF), 1),
            "pocock_k4_onesided": _gsdesign(sequential_design(QUARTERS, POCOCK), 1),
            "obf_k3_twosided": _gsdesign(sequential_design(THIRDS, OBF, power=0.8, sides=2), 2),
            "ldof_k3": _gsdesign(sequential_design(THIRDS, LDOF), 1),
            "ldpocock_unequal": _gsdesign(sequential_design(uneven, LDP), 1),
            "hsd_default_asym_nonbinding": _gsdesign(sequential_design(THIRDS, hsd[0], futility=hsd[1]), 4),
            "wang_tsiatis_0.25": _gsdesign(sequential_design(fifths, Boundary("Wang-Tsiatis", 0.25), sides=2), 2),
        },
    )


def _rpact(plan: SequentialDesign) -> dict[str, Any]:
    real = plan.crossing(plan.drift)
    return {
        "design": {
            "criticalValues": plan.upper.tolist(),
            "stageLevels": plan.nominal().tolist(),
            "alphaSpent": (plan.sides * plan.spent()).cumsum().tolist(),
            "informationRates": plan.fraction.tolist(),
            "futilityBounds": [-6] * (len(plan.fraction) - 1),
        },
        "characteristics": {
            "inflationFactor": plan.inflation,
            "nFixed": plan.fixed_drift**2,
            "shift": plan.drift**2,
            "asn_H1": plan.expected_information(plan.drift),
            "asn_H0": plan.expected_information(0.0),
            "power": (real.upper + (real.lower if plan.sides == 2 else 0.0)).cumsum().tolist(),
        },
    }


def test_reference_rpact(match_all: Callable[[str, Any], None]) -> None:
    """Rpact says −6 where it has no futility boundary."""
    match_all(
        "gsd_rpact_public",
        {
            "OF_k3": _rpact(sequential_design(THIRDS, OBF, power=0.8)),
            "P_k3": _rpact(sequential_design(THIRDS, POCOCK, power=0.8)),
            "asOF_2sided": _rpact(sequential_design(QUARTERS, LDOF, power=0.8, sides=2)),
            "asP_irr": _rpact(sequential_design(np.array([0.25, 0.6, 1.0]), LDP, power=0.8)),
        },
    )


def test_reference_conditional_power(match_all: Callable[[str, Any], None]) -> None:
    """GsDesign speaks of θ in units of a fixed design's n = 1: the drift is θ √(largest n)."""
    plan = sequential_design(np.array([0.5, 0.75, 1.0]), LDOF)
    z, size = 1.6, np.sqrt(plan.inflation)
    thetas = [z / np.sqrt(plan.inflation * 0.5), 0.0, plan.fixed_drift]
    power = np.stack([conditional_power(plan, 1, z, theta * size) for theta in thetas], axis=1)
    left = plan.fraction[1:] - 0.5
    bounds = (plan.upper[1:] * np.sqrt(plan.fraction[1:]) - z * np.sqrt(0.5)) / np.sqrt(left)
    even = np.array([0.5, 0.5])
    match_all(
        "conditional_power_gsdesign_public",
        {
            "delta": plan.fixed_drift,
            "n_I": (plan.inflation * plan.fraction).tolist(),
            "upper": plan.upper.tolist(),
            "cp_at_thetahat_0_delta": power.tolist(),
            "theta_used": thetas,
            "bound_cond": bounds.tolist(),
            "gsCPz_all_remaining": power[:, 0].sum(),
            "predictive_power_equal_weights": predictive_power(plan, 1, z, np.array([0.0, plan.drift]), even),
            "b_value": z * np.sqrt(0.5),
            "gsCP_at_delta": power[:, 2].sum(),
        },
    )


def _t(n: list[int], mean: list[float], sd: list[float]) -> tuple[float, float, float]:
    """Return difference, standard error and degrees of freedom of two groups, one variance."""
    df = sum(n) - 2
    pooled = sum((m - 1) * s**2 for m, s in zip(n, sd, strict=True)) / df
    return mean[0] - mean[1], float(np.sqrt(pooled * sum(1 / m for m in n))), float(df)


def _together(n: list[int], mean: list[float], sd: list[float]) -> tuple[int, float, float]:
    """Return size, mean and SD of stages put together."""
    whole = sum(n)
    middle = sum(m * x for m, x in zip(n, mean, strict=True)) / whole
    squares = sum((m - 1) * s**2 + m * (x - middle) ** 2 for m, x, s in zip(n, mean, sd, strict=True))
    return whole, middle, float(np.sqrt(squares / (whole - 1)))


def test_reference_adaptive_means(match_all: Callable[[str, Any], None]) -> None:
    """Two stages of three analysed; the third is to have 80 patients, effect 4, SD 10."""
    n, mean, sd = [[40, 42], [40, 41]], [[6.1, 5.0], [1.9, 1.2]], [[9.8, 10.4], [10.1, 9.6]]
    plan = sequential_design(THIRDS, LDOF)
    stages = [_t([n[0][s], n[1][s]], [mean[0][s], mean[1][s]], [sd[0][s], sd[1][s]]) for s in (0, 1)]
    both = [_together(n[g], mean[g], sd[g]) for g in (0, 1)]
    overall = [stages[0], _t(*([one[k] for one in both] for k in range(3)))]  # type: ignore[arg-type]
    p_overall = [float(stats.t.sf(value / se, df)) for value, se, df in overall]
    p_stage = [float(stats.t.sf(value / se, df)) for value, se, df in stages]
    z_gs = [float(-special.ndtri(p)) for p in p_overall]
    z_stage = -special.ndtri(np.array(p_stage))
    z_in = [float(z_stage[0]), inverse_normal(z_stage, THIRDS[[0, 0]])]
    shift = 0.4 * np.sqrt(80 / 4) / np.sqrt(1 / 3)

    def told(z: list[float], ends: list[tuple[float, float]]) -> dict[str, Any]:
        return {
            "RCI_lower": [*(low for low, _ in ends), None],
            "RCI_upper": [*(high for _, high in ends), None],
            "repeated_p": [*(repeated_p(THIRDS, LDOF, k + 1, z[k]) for k in (0, 1)), None],
            "conditional_power": [None, None, conditional_power(plan, 2, z[1], shift).sum()],
            "crp": [*(conditional_power(plan, k + 1, z[k], 0.0).sum() for k in (0, 1)), None],
        }

    value, se, df = (np.array(column) for column in zip(*stages, strict=True))
    combined = [combined_interval(plan, THIRDS[[0] * k], value[:k], se[:k], df[:k]) for k in (1, 2)]
    match_all(
        "adaptive_means_rpact_public",
        {
            "overall_test_stat": [*(one / error for one, error, _ in overall), None],
            "overall_p": [*p_overall, None],
            "stage_p": [*p_stage, None],
            "effect": [*(one for one, _, _ in overall), None],
            "gs": told(z_gs, [repeated_interval(plan, k + 1, *overall[k]) for k in (0, 1)]),
            "inverse_normal": told(z_in, combined),
        },
    )


def test_reference_gssurv(match_all: Callable[[str, Any], None]) -> None:
    plan = sequential_design(
        np.array([0.5, 0.75, 1.0]), LDOF, futility=Boundary("Hwang-Shih-DeCani", -2.0), alpha=0.025, power=0.9
    )
    trial = sequential_survival(
        plan,
        np.log(2) / 12,
        0.7,
        enrolled_for=np.array([6.0, 12.0]),
        enrolled_rate=np.array([5.0, 10.0]),
        duration=36.0,
        dropout=0.01,
    )
    match_all(
        "gssurv_public",
        {
            "n_final": trial.total,
            "events": trial.events.tolist(),
            "timing_months": trial.times.tolist(),
            "upper": plan.upper.tolist(),
            "lower": plan.lower.tolist(),
            "hr_at_upper": trial.ratio_at_upper.tolist(),
        },
    )


def test_reference_rpact_final_inference_of_means() -> None:
    """One sample in stages of 20, 30, 30 with means 45, 51, 45, null 10: stopped at look 3 of 4.

    Numbers of getAnalysisResults in rpact's own unit tests, Wang–Tsiatis .4 with binding futility at .5244.
    """
    upper, none = np.array([2.4958485, 2.328709, 2.2361766, 2.1727623]), -np.inf
    plan = SequentialDesign(
        QUARTERS, upper, np.array([0.5244, 0.5244, 0.5244, none]), 0.025, 0.8, 3.0, binding=True, sides=1
    )
    found = final_inference(plan, 3, 47.25, 128.66279 / np.sqrt(80), df=79.0, null=10.0)
    assert found.p == pytest.approx(0.016174263, rel=1e-6)
    assert found.median_unbiased == pytest.approx(44.987662, rel=1e-6)
    assert (found.lower, found.upper) == pytest.approx((13.147855, 77.032138), rel=1e-6)


def test_reference_rpact_final_inference_of_survival() -> None:
    """Log-rank 1.52, 1.38, 2.9 at 8, 15, 29 events: stopped at look 3 of 4; futility is not binding.

    Numbers of getAnalysisResults in rpact's own unit tests; the log hazard ratio has error 2/√29.
    """
    plan = sequential_design(np.array([0.2, 0.4, 0.6, 1.0]), Boundary("Wang-Tsiatis", 0.45))
    np.testing.assert_allclose(plan.upper, [2.4878815, 2.4031352, 2.3549063, 2.2955206], rtol=1e-6)
    found = final_inference(plan, 3, 2.9 * 2 / np.sqrt(29), 2 / np.sqrt(29))
    assert found.p == pytest.approx(0.013371274, rel=1e-6)
    assert np.exp(found.median_unbiased) == pytest.approx(2.632639, rel=1e-6)
    assert np.exp([found.lower, found.upper]) == pytest.approx([1.1294538, 5.6956842], rel=1e-6)
