"""Sample sizes against R: stats 4.2.2 and postcard (adjusted analyses), gsDesign 3.11.0.9003 (the rest)."""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np
import pytest

from trialtwin.stats.samplesize import Size, size_means, size_proportions
from trialtwin.stats.samplesize_prognostic import (
    MarginalPower,
    ancova_variance,
    power_gs,
    power_marginaleffect,
    power_nc,
    reduction_table,
    samplesize_gs,
    size_asymptotic,
    size_procova,
)
from trialtwin.stats.samplesize_survival import schoenfeld_events, size_survival_accrual, size_survival_rate

pytestmark = pytest.mark.reference


def _per_arm(size: Size) -> dict[str, float]:
    return {"n_per_arm": size.control, "n_per_arm_ceiling": size.whole[0]}


def _marginal(result: MarginalPower) -> dict[str, float]:
    return {
        "psi0": result.control_mean,
        "psi1": result.treated_mean,
        "kappa0_sq": result.squared_error,
        "var_bound": result.variance_bound,
        "power": result.power,
    }


def test_reference_procova_power_r_4_2_2_postcard(
    match_all: Callable[[str, Any], None], case_data: Callable[[str, str], dict[str, np.ndarray]]
) -> None:
    """Three inputs are not written in the case; round numbers give all of its digits, see docs/reference-numbers.md.

    They are R = 0.5 (conservative), σ₀ = 6, σ₁ = 6.6, ρ₀ = 0.5, ρ₁ = 0.45 at 1:1 with delta 2 (asymptotic variance),
    and exposure ½, but ⅔ with σ₁² = 1.2 σ₀² and κ₁² = 1.1 κ₀² where inflated (marginal effect).
    """
    case = "procova_power_public"
    history = case_data(case, "hist.csv")
    y, prediction = history["y"], history["pred"]
    rows = reduction_table(2.0, 6.0, [0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    variance = ancova_variance(6.0, 6.6, 0.5, 0.45)
    match_all(
        case,
        {
            "power_gs": power_gs(6.0, 1.0, 200.0, ratio=2.0, margin=0.5),
            "samplesize_gs": samplesize_gs(27.3, 2.0, ratio=2 / 3, margin=-1.0).total,
            "power_nc": power_nc(6.0, 197.0, 1.0, 200.0),
            "by_R": [
                {
                    "R": row.correlation,
                    "variance_factor": row.variance_factor,
                    "sample_size_reduction_pct": row.reduction_percent,
                    "ess_factor": row.ess_factor,
                    **_per_arm(row.size),
                }
                for row in rows
            ],
            "conservative": _per_arm(size_procova(2.0, 6.0, 0.5, deflation=0.9, inflation=1.05)),
            "asymptotic_variance_unequal": variance,
            "n_total_unequal": size_asymptotic(variance, 2.0).total,
            "reduction_vs_unadjusted": 1 - variance / ancova_variance(6.0, 6.6, 0.0, 0.0),
            "power_marginaleffect": {
                "ate": _marginal(power_marginaleffect(y, prediction, 1.0, exposure=0.5)),
                "ate_inflated": _marginal(
                    power_marginaleffect(
                        y,
                        prediction,
                        1.0,
                        exposure=2 / 3,
                        var_treated=lambda control: 1.2 * control,
                        squared_error_treated=lambda control: 1.1 * control,
                    )
                ),
                "rate_ratio": _marginal(power_marginaleffect(y, prediction, 1.4, exposure=0.5, estimand="rate ratio")),
                "rate_ratio_margin08": _marginal(
                    power_marginaleffect(y, prediction, 1.2, exposure=0.5, estimand="rate ratio", margin=0.8)
                ),
            },
        },
    )


def test_reference_fixed_sizes_gsdesign_3_11(match_all: Callable[[str, Any], None]) -> None:
    by_accrual = size_survival_accrual(log(2) / 12, 0.7, accrual_rate=10.0, follow_up=12.0, dropout=0.01)
    by_rate = size_survival_rate(log(2) / 9, 0.65, accrual=20.0, duration=36.0, dropout=0.005)
    match_all(
        "samplesize_fixed_public",
        {
            "nNormal": {"call": "", "n": size_means(0.5, 1.2).total},
            "nNormal_21_unequal": {
                "call": "",
                "n": size_means(0.6, 1.1, sd_treated=1.4, ratio=2.0, power=0.8).total,
            },
            "nBinomial_diff": {"call": "", "n": size_proportions(0.30, 0.45).total},
            "nBinomial_RR": {"n": size_proportions(0.30, 0.45, scale="risk ratio").total},
            "nBinomial_OR": {"n": size_proportions(0.30, 0.45, scale="odds ratio").total},
            "nBinomial_NI": {"call": "", "n": size_proportions(0.2, 0.2, null=0.1).total},
            "nSurv_schoenfeld_events": {"call": "", "events": schoenfeld_events(0.7)},
            "nSurv": {
                "call": "",
                "n": by_accrual.total,
                "d": by_accrual.events,
                "R": by_accrual.accrual,
                "T": by_accrual.duration,
                "gamma": [[by_accrual.accrual_rate]],
            },
            "nSurv_rate": {
                "call": "",
                "n": by_rate.total,
                "d": by_rate.events,
                "gamma": [[by_rate.accrual_rate]],
            },
        },
    )
