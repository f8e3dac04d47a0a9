"""Survival against R: survival 3.5, survRM2 and simtrial 1.0.2."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from trialtwin.data.cdisc import read_xport
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.cox import cox
from trialtwin.stats.logrank import Weighting, fleming_harrington, from_time, log_rank, magirr_burman, max_combo
from trialtwin.stats.modelmatrix import continuous_columns
from trialtwin.stats.proportional_hazards import proportional_hazards
from trialtwin.stats.rmst_regression import rmst_regression
from trialtwin.stats.survival import kaplan_meier, milestone_difference, rmst_difference

pytestmark = pytest.mark.reference
type Columns = dict[str, np.ndarray]


def _one(time: np.ndarray, event: np.ndarray, arm: np.ndarray, weighting: Weighting) -> dict[str, float]:
    found = log_rank(time, event, arm, weighting=weighting)
    return {"estimate": found.score[1], "se": float(np.sqrt(found.covariance[1, 1])), "z": -found.z}


def test_reference_weighted_log_rank(
    match_all: Callable[[str, Any], None], case_data: Callable[[str, str], Columns]
) -> None:
    data = case_data("wlr_maxcombo_delayed_effect", "data.csv")
    time, event, arm = data["time"], data["status"] == 1, data["armn"].astype(int)
    curves = [kaplan_meier(time[arm == a], event[arm == a]) for a in (0, 1)]
    combo = max_combo(time, event, arm, [fleming_harrington(*pair) for pair in ((0, 0), (0, 1), (1, 0))])
    stones = {name: milestone_difference(*curves, 12.0, scale=scale) for name, scale in
              (("milestone_loglog", "log-log"), ("milestone_naive", "plain"))}  # fmt: skip
    mean = rmst_difference(*curves, 20.0, corrected=True)
    weights = {f"fh_{r:g}_{g:g}": fleming_harrington(r, g) for r, g in ((0, 0), (0, 0.5), (0, 1), (1, 0), (1, 1))}
    weights |= {"mb_delay4_wmax2": magirr_burman(4.0, 2.0), "early_zero_4": from_time(4.0)}
    match_all(
        "wlr_maxcombo_delayed_effect",
        {
            **{name: _one(time, event, arm, one) for name, one in weights.items()},
            "maxcombo": {"rho": [0, 0, 1], "gamma": [0, 1, 0], "z": combo.z.tolist(), "p_value": combo.p},
            **{n: {"ms_time": 12, "estimate": s.value, "se": s.se, "z": s.statistic} for n, s in stones.items()},
            "rmst": {"tau": 20, "estimate": mean.value, "se": mean.se, "z": mean.statistic},
        },
    )


def test_reference_xanomeline_time_to_a_skin_event(shared: Path) -> None:
    """Table 14-7 of the CDISC pilot trial: three arms, log-rank χ² 60.27."""
    frame = read_xport(shared / "data" / "cdiscpilot01" / "adam" / "adtte.xpt").frame
    _, arm = np.unique(frame["TRTP"].to_numpy().astype(str), return_inverse=True)
    found = log_rank(frame["AVAL"].to_numpy().astype(float), frame["CNSR"].to_numpy() == 0, arm)
    assert (round(found.chi2, 2), found.df) == (60.27, 2)


def _veteran(shared: Path) -> tuple[list[dict[str, str]], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, times, events, arms and codes of the cell type."""
    raw = (shared / "reference" / "survival_veteran" / "data.csv").read_text().splitlines()
    names = [name.strip('"') for name in raw[0].split(",")]
    rows = [dict(zip(names, (cell.strip('"') for cell in line.split(",")), strict=True)) for line in raw[1:]]
    time, event = np.array([float(r["time"]) for r in rows]), np.array([r["status"] == "1" for r in rows])
    arm = np.array([int(r["arm"]) for r in rows])
    cells = sorted({r["celltype"] for r in rows})
    strata = np.array([cells.index(r["celltype"]) for r in rows])
    return rows, time, event, arm, strata


def test_reference_veteran_curves_and_log_rank(
    shared: Path,
) -> None:
    """Of the veteran case: Kaplan–Meier, log-rank (also stratified and Peto's), and RMST without covariates."""
    _, time, event, arm, strata = _veteran(shared)
    expected = json.loads((shared / "reference" / "survival_veteran" / "expected.json").read_text())["expected"]
    curves = [kaplan_meier(time[arm == a], event[arm == a]) for a in (0, 1)]
    at = np.array([30.0, 90.0, 180.0, 365.0])

    def both(function: Callable[[Any], np.ndarray]) -> list[float]:
        return np.concatenate([function(c) for c in curves]).tolist()

    plain, split = log_rank(time, event, arm), log_rank(time, event, arm, strata=strata)
    peto = log_rank(time, event, arm, weighting=fleming_harrington(1.0))
    within = [log_rank(time[strata == s], event[strata == s], arm[strata == s]) for s in range(4)]
    order = [expected["logrank_stratified"]["obs"], expected["logrank_stratified"]["exp"]]
    found = {
        "km": {
            "surv": both(lambda c: c.at(at)),
            "greenwood_se": both(lambda c: c.se(at)),
            "loglog_lower": both(lambda c: c.interval(at).lower),
            "loglog_upper": both(lambda c: c.interval(at).upper),
            "log_lower": both(lambda c: c.interval(at, scale="log").lower),
            "log_upper": both(lambda c: c.interval(at, scale="log").upper),
            "median_loglog": [list(c.quantile()) for c in curves],
        },
        "logrank": {"chisq": plain.chi2, "obs": plain.observed.tolist(), "exp": plain.expected.tolist(), "p": plain.p},
        "logrank_stratified": {"chisq": split.chi2, "p": split.p},
        "peto_rho1": {"chisq": peto.chi2, "obs": peto.observed.tolist(), "exp": peto.expected.tolist(), "p": peto.p},
    }
    for part, numbers in found.items():
        for name, value in numbers.items():
            np.testing.assert_allclose(value, expected[part][name], rtol=1e-5, atol=1e-8, err_msg=f"{part}.{name}")
    assert sorted(order[0]) == sorted(np.concatenate([one.observed for one in within]).tolist())
    np.testing.assert_allclose(sorted(order[1]), sorted(np.concatenate([one.expected for one in within])), rtol=1e-5)
    told = expected["rmst"]
    for a, name in enumerate(("arm0", "arm1")):
        value, se = curves[a].rmst(365.0)
        assert (value, se) == pytest.approx((told[name]["RMST"]["Est."], told[name]["RMST"]["se"]), rel=1e-5)
    for measure, name in (
        ("difference", "RMST (arm=1)-(arm=0)"),
        ("ratio", "RMST (arm=1)/(arm=0)"),
        ("ratio of time lost", "RMTL (arm=1)/(arm=0)"),
    ):
        one = rmst_difference(*curves, 365.0, measure=measure)  # type: ignore[arg-type]
        back = (lambda v: v) if measure == "difference" else np.exp
        got = (back(one.value), back(one.lower), back(one.upper), one.p)
        wanted = told["unadjusted"][name]
        assert got == pytest.approx([wanted[k] for k in ("Est.", "lower .95", "upper .95", "p")], rel=1e-5), name


def test_reference_veteran_cox(shared: Path) -> None:
    """Of the veteran case: Cox with Efron's, Breslow's and exact ties, strata and robust errors."""
    rows, time, event, arm, strata = _veteran(shared)
    expected = json.loads((shared / "reference" / "survival_veteran" / "expected.json").read_text())["expected"]
    more = {name: np.array([float(r[name]) for r in rows]) for name in ("karno", "age")}
    cells = {
        f"celltype{name}": np.array([float(r["celltype"] == name) for r in rows])
        for name in ("large", "smallcell", "squamous")
    }
    models = {
        "cox_unadjusted": ({"arm": arm.astype(float)}, None),
        "cox_adjusted": ({"arm": arm.astype(float)} | more | cells, None),
        "cox_stratified": ({"arm": arm.astype(float), "karno": more["karno"]}, strata),
    }
    compared = 0
    for part, (columns, within) in models.items():
        for ties in ("Efron", "Breslow", "exact"):
            if ties.lower() not in expected[part]:
                continue
            wanted = expected[part][ties.lower()]
            fit = cox(continuous_columns(columns), time, event, strata=within, ties=ties)
            one = {name: fit.estimate({name: 1.0}, name) for name in columns}
            found = {
                "coef": {name: e.value for name, e in one.items()},
                "se": {name: e.se for name, e in one.items()},
                "lower": {name: np.exp(e.lower) for name, e in one.items()},
                "upper": {name: np.exp(e.upper) for name, e in one.items()},
            }
            told = {
                "coef": wanted["coef"],
                "se": wanted["se"],
                "lower": {name: row["lower .95"] for name, row in wanted["hr_ci95"].items()},
                "upper": {name: row["upper .95"] for name, row in wanted["hr_ci95"].items()},
            }
            for kind, numbers in told.items():
                for name, number in numbers.items():
                    assert found[kind][name] == pytest.approx(number, rel=1e-5), (part, ties, kind, name)
                    compared += 1
            assert (fit.log_likelihood_null, fit.log_likelihood) == pytest.approx(wanted["loglik"], rel=1e-8)
            assert fit.score.statistic == pytest.approx(wanted["score_test"], rel=1e-5)
            assert fit.likelihood_ratio.statistic == pytest.approx(wanted["lr_test"], rel=1e-5)
            assert round(fit.wald.statistic, 2) == wanted["wald"]
        if "efron_robust_se" in expected[part]:
            fit = cox(continuous_columns(columns), time, event, strata=within)
            for name, number in expected[part]["efron_robust_se"].items():
                assert fit.estimate({name: 1.0}, name, variance="robust").se == pytest.approx(number, rel=1e-5), name
                compared += 1
    assert compared == 4 * (1 + 6) * 3 + 4 * 2 + 7


def test_reference_veteran_proportional_hazards(shared: Path) -> None:
    """Of the veteran case: cox.zph of arm, Karnofsky score and age with transformed time 1 − Ŝ."""
    rows, time, event, arm, _ = _veteran(shared)
    told = json.loads((shared / "reference" / "survival_veteran" / "expected.json").read_text())["expected"]
    columns = {"arm": arm.astype(float)} | {name: np.array([float(r[name]) for r in rows]) for name in ("karno", "age")}
    found = proportional_hazards(continuous_columns(columns), time, event)
    for name, wanted in told["ph_test_km_transform"].items():
        got = found.overall if name == "GLOBAL" else found.terms[name]
        assert tuple(got) == pytest.approx((wanted["chisq"], wanted["df"], wanted["p"]), rel=1e-5), name


def test_reference_veteran_adjusted_restricted_mean(shared: Path) -> None:
    """Of the veteran case: survRM2's regressions on Karnofsky score and age, every number of all three."""
    rows, time, event, arm, _ = _veteran(shared)
    told = json.loads((shared / "reference" / "survival_veteran" / "expected.json").read_text())["expected"]
    covariates = continuous_columns({name: np.array([float(r[name]) for r in rows]) for name in ("karno", "age")})
    model = ArmModel(("0", "1"), arm, covariates)
    compared = 0
    measures: dict[Literal["difference", "ratio", "ratio of time lost"], tuple[str, str]] = {
        "difference": ("difference_model", "RMST (arm=1)-(arm=0)"),
        "ratio": ("ratio_model", "RMST (arm=1)/(arm=0)"),
        "ratio of time lost": ("rmtl_ratio_model", "RMTL (arm=1)/(arm=0)"),
    }
    for measure, (table, row) in measures.items():
        fit = rmst_regression(model, time, event, 365.0, measure=measure)
        back = (lambda v: v) if measure == "difference" else np.exp
        for name, wanted in zip(fit.names, told["rmst_adjusted"][table].values(), strict=True):
            one = fit.estimate({name: 1.0}, name)
            got = {
                "coef": one.value,
                "se(coef)": one.se,
                "z": one.statistic,
                "p": one.p,
                "exp(coef)": np.exp(one.value),
                "lower .95": back(one.lower),
                "upper .95": back(one.upper),
            }
            for key, number in wanted.items():
                assert got[key] == pytest.approx(number, rel=1e-5, abs=1e-8), (measure, name, key)
                compared += 1
        one, wanted = fit.estimate({"arm[1]": 1.0}, "arm"), told["rmst_adjusted"]["adjusted"][row]
        got = (back(one.value), back(one.lower), back(one.upper), one.p)
        assert got == pytest.approx([wanted[k] for k in ("Est.", "lower .95", "upper .95", "p")], rel=1e-5), row
    assert compared == 4 * 6 + 2 * 4 * 7
