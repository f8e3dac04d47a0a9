"""Rubin's rules against mice 3.15.0, and conditional mean imputation against rbmi."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trialtwin.stats.ancova import least_squares
from trialtwin.stats.imputation import pool
from trialtwin.stats.modelmatrix import continuous_columns, intercept, join
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
