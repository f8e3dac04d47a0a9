"""Rubin's rules against mice 3.15.0; conditional means and approximate Bayes against rbmi."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import stdtrit

from trialtwin.stats.ancova import least_squares
from trialtwin.stats.imputation import pool
from trialtwin.stats.modelmatrix import continuous_columns, intercept, join
from trialtwin.stats.multiple_imputation import MultiplyImputed, multiple_imputation
from trialtwin.stats.reference_imputation import conditional_mean
from trialtwin.stats.wald import wald_estimate

pytestmark = pytest.mark.reference
type Columns = dict[str, np.ndarray]


def test_reference_rubin(match_all: Callable[[str, Any], None]) -> None:
    found = pool(
        np.array([-2.31, -2.05, -2.62, -1.98, -2.44]),
        np.array([0.93, 0.95, 0.91, 0.97, 0.94]) ** 2,
        df_complete=116,
    )
    effect = found.estimate("a − b", n=120, method="given")
    match_all(
        "rubin_public",
        {
            "m": found.imputations,
            "qbar": found.value,
            "ubar": found.within,
            "b": found.between,
            "total_var": found.total,
            "df_barnard_rubin": found.df,
            "r": found.increase,
            "fmi": found.missing,
            "df_rubin_1987": found.df_large,
            "fmi_inf": found.missing_large,
            "ci95": [effect.lower, effect.upper],
            "p": effect.p,
        },
    )


def test_reference_stacked_ancova(
    match_all: Callable[[str, Any], None], case_data: Callable[[str, str], Columns]
) -> None:
    data = case_data("mi_stacked_ancova", "stacked.csv")
    fits = []
    for k in range(1, 11):
        own = data[".imp"] == k
        columns = continuous_columns({name: data[name][own] for name in ("trt", "x")})
        fits.append(least_squares(join(intercept(int(own.sum())), columns), data["y"][own]))
    pooled, detail = [], []
    for name in fits[0].names:
        effects = [fit.estimate({name: 1.0}, name) for fit in fits]
        found = pool(np.array([e.value for e in effects]), np.array([e.se**2 for e in effects]), df_complete=fits[0].df)
        one = found.estimate(name, n=fits[0].n, method="ANCOVA")
        pooled.append(
            {
                "term": name,
                "estimate": one.value,
                "std.error": one.se,
                "statistic": one.statistic,
                "df": one.df,
                "p.value": one.p,
                "X2.5..": one.lower,
                "X97.5..": one.upper,
            }
        )
        detail.append(
            {
                "term": name,
                "m": found.imputations,
                "estimate": found.value,
                "ubar": found.within,
                "b": found.between,
                "t": found.total,
                "dfcom": fits[0].df,
                "df": found.df,
                "riv": found.increase,
                "lambda": 1 - found.within / found.total,
                "fmi": found.missing,
            }
        )
    match_all("mi_stacked_ancova", {"pooled": pooled, "pool_detail": detail})


def _trial(
    folder: Path, table: str, names: tuple[str, str, str, str, str], visits: tuple[str, ...], other: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return changes by patient and visit, arm (1 is ``other``), baseline, and the visits of the ICE file.

    ``names`` are the columns of patient, visit, arm, baseline and change.
    """
    patient, visit, group, baseline, change = names
    long, ice = (pl.read_csv(folder / name, infer_schema=False) for name in (table, "ice.csv"))
    ids = sorted(long[patient].unique())
    y, base, arm = np.full((len(ids), len(visits)), np.nan), np.zeros(len(ids)), np.zeros(len(ids), dtype=int)
    for row in long.iter_rows(named=True):
        i = ids.index(row[patient])
        base[i], arm[i] = float(row[baseline]), int(row[group] == other)
        value = row[change]
        y[i, visits.index(row[visit])] = float("nan") if value in (None, "", "NA") else float(value)
    event = np.full(len(ids), len(visits))
    for row in ice.iter_rows(named=True):
        event[ids.index(row[patient])] = visits.index(row[visit])
    return y, arm, base[:, None], event


def _antidepressant(shared: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the antidepressant trial; arm 1 is PLACEBO."""
    columns = ("PATIENT", "VISIT", "THERAPY", "BASVAL", "CHANGE")
    folder = shared / "reference" / "rbmi_antidepressant_condmean"
    return _trial(folder, "antidepressant_long.csv", columns, ("4", "5", "6", "7"), "PLACEBO")


def _rows(visits: tuple[str, ...], parts: dict[str, tuple[np.ndarray, np.ndarray]], n: int) -> dict[str, Any]:
    """Return normal inference for estimates and errors by visit, as rbmi's pool does."""
    result = {}
    for name, (values, ses) in parts.items():
        for visit, value, se in zip(visits, values.tolist(), ses.tolist(), strict=True):
            one = wald_estimate(value, se, contrast=name, n=n, method="m", variance="v")
            result[f"{name}_{visit}"] = {
                "est": one.value,
                "se": one.se,
                "lci": one.lower,
                "uci": one.upper,
                "pval": one.p,
            }
    return result


def test_reference_rbmi_conditional_mean(match_all: Callable[[str, Any], None], shared: Path) -> None:
    """The first level of THERAPY is DRUG; patients on DRUG jump to PLACEBO's mean, and PLACEBO is its own reference."""
    y, arm, base, event = _antidepressant(shared)

    def told(**how: Any) -> dict[str, Any]:
        found = conditional_mean(y, arm, base, reference=1, **how)
        # rbmi's effect is second level minus first: PLACEBO − DRUG, and "ref" is DRUG
        parts = {
            "trt": (-found.effect, found.effect_se),
            "lsm_ref": (found.other_mean, found.other_se),
            "lsm_alt": (found.reference_mean, found.reference_se),
        }
        return _rows(("4", "5", "6", "7"), parts, len(y))

    match_all(
        "rbmi_antidepressant_condmean",
        {
            "MAR": told(),
            "MAR_delta_1": told(delta=1.0),
            "MAR_delta_3": told(delta=3.0),
            "JR": told(event=event, strategy="JR"),
        },
    )


def test_reference_rbmi_conditional_mean_of_a_small_trial(match_all: Callable[[str, Any], None], shared: Path) -> None:
    """60 patients, three visits; CTL is the first level and the reference, so that the effect is ACT − CTL."""
    columns, visits = ("USUBJID", "AVISIT", "ARM", "BASE", "CHG"), ("W4", "W8", "W12")
    y, arm, base, event = _trial(shared / "reference" / "rbmi_sim_small_public", "data.csv", columns, visits, "ACT")

    def told(strategy: str) -> dict[str, Any]:
        found = conditional_mean(y, arm, base, event=event, strategy=strategy)
        parts = {
            "trt": (found.effect, found.effect_se),
            "lsm_ref": (found.reference_mean, found.reference_se),
            "lsm_alt": (found.other_mean, found.other_se),
        }
        return _rows(visits, parts, len(y))

    match_all("rbmi_sim_small_public", {name: told(name) for name in ("JR", "CIR")})


def _by_draws(shared: Path, strategy: str, imputations: int) -> MultiplyImputed:
    y, arm, base, event = _antidepressant(shared)
    return multiple_imputation(
        y, arm, base, event=event, strategy=strategy, reference=1, imputations=imputations, seed=1
    )


@pytest.mark.parametrize("strategy", ["JR", "MAR"])
def test_reference_rbmi_approximate_bayes(strategy: str, shared: Path) -> None:
    """Both by 250 draws, of other random numbers: estimates within .15 and errors within 8 %, as the case asks.

    Then ours by 1,000 draws: what is left must be Monte-Carlo error, √(B/250 + B/1000) of an estimate and
    B √(2/249 + 2/999) / (2 SE) of a standard error, B the variance between imputations; 3.5 of them are allowed.
    """
    case = json.loads((shared / "reference" / "rbmi_antidepressant_approxbayes" / "expected.json").read_text())
    few, many = _by_draws(shared, strategy, 250), _by_draws(shared, strategy, 1000)
    assert few.failed == many.failed == 0
    # rbmi's effect is PLACEBO − DRUG, and "ref" is DRUG; here PLACEBO is the reference and DRUG the other
    parts = {"trt": ("effect", -1), "lsm_ref": ("other_mean", 1), "lsm_alt": ("reference_mean", 1)}
    compared = 0
    for name, (field, sign) in parts.items():
        for k, visit in enumerate(("4", "5", "6", "7")):
            expected = case["expected"][strategy][f"{name}_{visit}"]
            ours, limit = getattr(few, field)[k], getattr(many, field)[k]
            assert sign * ours.value == pytest.approx(expected["est"], abs=case["tolerance"]["abs_est"])
            assert np.sqrt(ours.total) == pytest.approx(expected["se"], rel=case["tolerance"]["rel_se"])
            # Barnard and Rubin's degrees of freedom, as far as an interval shows them
            half = (expected["uci"] - expected["lci"]) / 2 / expected["se"]
            assert stdtrit(limit.df, 0.975) == pytest.approx(half, rel=2e-3)
            between, se = limit.between, float(np.sqrt(limit.total))
            noise = np.sqrt(between / 250 + between / 1000)
            assert abs(sign * limit.value - expected["est"]) < 3.5 * noise + 1e-9
            noise = between * np.sqrt(2 / 249 + 2 / 999) / (2 * se)
            assert abs(se - expected["se"]) < 3.5 * noise + 1e-9
            compared += 1
    assert compared == 12
    if strategy == "JR":
        assert np.sqrt(many.effect[3].total) == pytest.approx(1.12, abs=0.02)


def test_reference_rbmi_bootstrap_and_jackknife_agree(shared: Path) -> None:
    """Standard errors of jump to reference over trials: .858 by rbmi's jackknife; the bootstrap's is near it.

    Its own Monte-Carlo error is √(1 / (2 · 1000)), 2.2 %; and the bootstrap within arms leaves out what the jackknife
    adds for the size of the sample, about 1 in 85.
    """
    y, arm, base, event = _antidepressant(shared)
    found = conditional_mean(y, arm, base, event=event, strategy="JR", reference=1, resampling="bootstrap", seed=2)
    assert found.effect_se[3] == pytest.approx(0.858, rel=3.5 * 0.022 + 1 / 85)
    low, high = found.percentile_interval(3)
    assert low < found.effect[3] < high
