"""A small generated trial in the shape of ADaM, and pages that analyse it."""

from typing import Any

import numpy as np
import polars as pl

from trialtwin.study.analyse.run import Finished

VISITS = ("Week 4", "Week 8", "Week 12")
N = 72


def tables(seed: int = 5) -> dict[str, pl.DataFrame]:
    """Return ADSL, a BDS data set and ADTTE of 72 patients in two arms, two strata of randomisation."""
    rng = np.random.default_rng(seed)
    arm, stratum = np.arange(N) % 2, np.arange(N) // 2 % 2
    age, base, score = rng.normal(60, 8, N), rng.normal(20, 4, N), rng.normal(size=N)
    ids = [f"S{i:03d}" for i in range(N)]
    stops = np.array([i % 9 == 4 for i in range(N)])
    subjects = pl.DataFrame(
        {
            "USUBJID": ids,
            "TRT01P": np.where(arm == 1, "Active", "Placebo"),
            "FASFL": ["N" if i == N - 1 else "Y" for i in range(N)],
            "REGION": np.where(stratum == 1, "North", "South"),
            "AGE": age,
            "PROG": score,
            "EOTDY": np.where(stops, 40.0, np.nan),
            "TRTDURY": rng.uniform(0.5, 1.5, N),
        }
    ).with_columns(pl.col("EOTDY").fill_nan(None))
    rows = []
    for i, who in enumerate(ids):
        own = rng.normal(0, 2)
        for k, visit in enumerate(VISITS):
            change = own + 1.5 * score[i] - 0.8 * (k + 1) * arm[i] - 0.1 * (base[i] - 20) + rng.normal(0, 1.5)
            if not (k == 2 and i % 8 == 3):
                rows.append((who, visit, 4.0 * (k + 1), 28.0 * (k + 1) + 1, base[i], base[i] + change, change))
    names = ("USUBJID", "AVISIT", "AVISITN", "ADY", "BASE", "AVAL", "CHG")
    scores = pl.DataFrame(rows, schema=names, orient="row").with_columns(PARAMCD=pl.lit("TOT"), ANL01FL=pl.lit("Y"))
    relapses = rng.poisson(np.where(arm == 1, 1.0, 2.0)).astype(float)
    counts = pl.DataFrame({"USUBJID": ids, "PARAMCD": ["RELAPSE"] * N, "AVAL": relapses, "ANL01FL": ["Y"] * N})
    time = rng.exponential(np.where(arm == 1, 200.0, 120.0))
    events = pl.DataFrame(
        {
            "USUBJID": ids,
            "PARAMCD": ["DEATH"] * N,
            "AVAL": np.minimum(time, 180.0).round() + 1,
            "CNSR": (time > 180).astype(float),
        }
    )
    return {"adsl": subjects, "adqs": scores, "adrel": counts, "adtte": events}


def page(**changes: Any) -> dict[str, Any]:
    """Return a page with one continuous endpoint, changed."""
    content: dict[str, Any] = {
        "id": "small",
        "title": "A small trial",
        "data": {"records": "adqs", "subjects": "adsl"},
        "arms": {"names": ["Placebo", "Active"]},
        "population": {"name": "full analysis set", "variable": "FASFL"},
        "randomisation": {"scheme": "permuted block", "strata": ["REGION"]},
        "endpoints": [
            {"id": "total", "kind": "continuous", "parameter": "TOT", "visits": ["Week 12"], "unit": "points"}
        ],
        "analyses": [
            {"id": "main", "primary": True, "endpoint": "total", "method": "ancova", "covariates": ["BASE", "REGION"]}
        ],
    }
    return content | changes


def repeated(**endpoint: Any) -> dict[str, Any]:
    """Return a page with an endpoint over visits and a mixed model, the endpoint changed."""
    total = {"id": "total", "kind": "repeated", "parameter": "TOT", "visits": list(VISITS), "score": "PROG"} | endpoint
    mmrm = {"id": "main", "primary": True, "endpoint": "total", "method": "mmrm", "covariates": ["BASE", "REGION"]}
    return page(endpoints=[total], analyses=[mmrm | {"by_visit": ["BASE"]}])


def value(done: Finished, analysis: str, contrast: str, stat: str, visit: str | None = None) -> float:
    """Return one statistic of the results."""
    match = [
        row["value"]
        for row in done.rows
        if (row["analysis"], row["contrast"], row["stat"]) == (analysis, contrast, stat)
        and visit in (None, row["visit"])
    ]
    assert len(match) == 1, (match, analysis, contrast, stat)
    return float(match[0])
