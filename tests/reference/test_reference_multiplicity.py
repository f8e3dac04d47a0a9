"""Multiplicity, Miettinen–Nurminen and CMH against R 4.2.2 (stats, mvtnorm 1.1.3, gsDesign 3.11.0.9003) and SAS."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trialtwin.data.xport import read_xport
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.binary import miettinen_nurminen, one_table, score_statistic
from trialtwin.stats.cmh import cmh_test, mantel_haenszel
from trialtwin.stats.modelmatrix import continuous_columns, factor_columns, intercept, join
from trialtwin.stats.multiplicity import adjusted_p, dunnett_critical_value

pytestmark = pytest.mark.reference


def _flat(nested: Any, path: str = "") -> dict[str, float]:
    if isinstance(nested, dict):
        return {k: v for key, value in nested.items() for k, v in _flat(value, f"{path}.{key}").items()}
    if isinstance(nested, list):
        return {k: v for i, value in enumerate(nested) for k, v in _flat(value, f"{path}.{i}").items()}
    return {path: float(nested)}


def test_reference_multiplicity_and_proportions_r_4_2_2_gsdesign_3_11(
    shared: Path, record_property: Callable[[str, object], None]
) -> None:
    """The case allows 2e-4 for score limits, where R's root finder stops early; its key for them names no path."""
    case = json.loads((shared / "reference" / "multiplicity_binary_public" / "expected.json").read_text())
    allowed = case["tolerance_exceptions"]
    p = np.array([0.012, 0.03, 0.002, 0.047, 0.2])
    table = one_table(34, 80, 22, 78)
    difference, ratio, odds = (miettinen_nurminen(table, m) for m in ("difference", "ratio", "odds ratio"))
    # R fills an array by columns: response × arm × stratum
    strata = np.array([20, 15, 30, 40, 25, 12, 28, 33, 10, 9, 22, 30.0]).reshape(3, 2, 2).transpose(0, 2, 1)
    common, test = mantel_haenszel(strata, "common"), cmh_test(strata)
    got = _flat(
        {
            "p_adjust": {
                name: adjusted_p(p, name if name.isupper() else name.capitalize()).tolist()
                for name in ("bonferroni", "holm", "hochberg", "hommel", "BH", "BY")
            },
            "dunnett": {
                "two_sided_crit_95": dunnett_critical_value(3, 156.0),
                "corr": [[1.0 if i == j else 0.5 for j in range(3)] for i in range(3)],
            },
            "binary": {
                **{
                    key: {"lower": e.lower, "upper": e.upper}
                    for key, e in (("diff_MN", difference), ("rr_MN", ratio), ("or_MN", odds))
                },
                "z_pooled": score_statistic(table, "difference", 0.0, corrected=False),
                "z_MN": difference.statistic,
                "z_noninf_minus10": score_statistic(table, "difference", -0.1),
            },
            "cmh": {
                "common_or": common.value,
                "ci": [common.lower, common.upper],
                "chisq": test.statistic,
                "p": test.p,
            },
        },
    )
    expected = _flat(case["expected"])
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        limits, many = "_MN." in key, key.startswith(".dunnett")
        rel = allowed["dunnett"]["rel"] if many else case["tolerance"]["rel"]
        assert got[key] == pytest.approx(value, rel=rel, abs=allowed["MN_limits"]["abs"] if limits else 1e-8), key
    worst = max(abs(got[key] - value) / abs(value) for key, value in expected.items() if "_MN." not in key)
    record_property("reference", f"multiplicity_binary_public: {len(expected)} of {len(expected)}, worst {worst:.1e}")


@pytest.fixture
def cibic(shared: Path) -> dict[str, np.ndarray]:
    """Return CIBIC+ at week 24 with LOCF in the efficacy population: arm as dose, value, pooled site."""
    table = read_xport(shared / "data" / "cdiscpilot01" / "adam" / "adqscibc.xpt").frame
    flags = pl.all_horizontal(pl.col(flag) == "Y" for flag in ("EFFFL", "ITTFL", "ANL01FL"))
    rows = table.filter(flags & (pl.col("AVISIT") == "Week 24"))
    return {name: rows[name].to_numpy() for name in ("TRTPN", "AVAL", "SITEGR1")}


def test_reference_cibic_table_of_the_cdisc_pilot_sas(cibic: dict[str, np.ndarray]) -> None:
    """SAS printed .960 (dose), .489, .799 and .349 (pairs) from linear models with pooled site.

    CMH's correlation statistic gives .960 as well. The three pairs are no CMH statistics: those of row means give .513,
    .846 and .331.
    """
    dose, y = cibic["TRTPN"].astype(float), cibic["AVAL"].astype(float)
    sites, site = np.unique(cibic["SITEGR1"], return_inverse=True)
    assert [int((dose == d).sum()) for d in (0, 54, 81)] == [79, 81, 74]
    blocks = factor_columns("SITEGR1", tuple(sites), site)
    slope = least_squares(join(intercept(len(y)), continuous_columns({"dose": dose}), blocks), y)
    arms = ("Placebo", "Low", "High")
    fit = least_squares(ArmModel(arms, np.searchsorted([0.0, 54.0, 81.0], dose), blocks).design(), y)
    contrasts = ({"arm[Low]": 1.0}, {"arm[High]": 1.0}, {"arm[High]": 1.0, "arm[Low]": -1.0})
    printed = [slope.estimate({"dose": 1.0}, "dose").p, *(fit.estimate(c, "pair").p for c in contrasts)]
    assert [round(p, 3) for p in printed] == [0.960, 0.489, 0.799, 0.349]

    def tables(chosen: list[float]) -> np.ndarray:
        levels = np.unique(y)
        return np.array(
            [
                [[np.sum((site == s) & (dose == d) & (y == v)) for v in levels] for d in chosen]
                for s in range(len(sites))
            ],
            dtype=float,
        )

    scores = {"column_scores": np.unique(y).tolist()}
    trend = cmh_test(tables([0, 54, 81]), "correlation", row_scores=[0, 54, 81], **scores)
    assert round(trend.p, 3) == 0.960
    pairs = [cmh_test(tables(pair), "row means", **scores).p for pair in ([0, 54], [0, 81], [54, 81])]
    assert [round(p, 3) for p in pairs] == [0.513, 0.846, 0.331]
    overall = cmh_test(tables([0, 54, 81]))
    assert overall.df == 8
    assert round(overall.p, 4) == 0.8685
