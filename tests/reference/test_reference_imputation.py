"""Rubin's rules against mice 3.15.0."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trialtwin.stats.ancova import least_squares
from trialtwin.stats.imputation import pool
from trialtwin.stats.modelmatrix import continuous_columns, intercept, join

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
