"""A small generated trial analysed from page to results, one run for each kind of endpoint, against other programs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
import statsmodels.api as sm
from small_trial import N, page, repeated, tables, value

from trialtwin.core.errors import ConfigError
from trialtwin.stats.binary import miettinen_nurminen, one_table
from trialtwin.stats.logrank import log_rank
from trialtwin.stats.multiple_imputation import multiple_imputation
from trialtwin.stats.reference_imputation import conditional_mean
from trialtwin.study.analyse.run import Finished

type Analyse = Callable[..., Finished]


def analysis(name: str, method: str, **options: Any) -> dict[str, Any]:
    return {"id": name, "endpoint": "total", "method": method} | options


def last() -> pl.DataFrame:
    """Return the records of the last visit with their subjects."""
    known = tables()
    rows = known["adqs"].filter(pl.col("AVISIT") == "Week 12").join(known["adsl"], on="USUBJID", how="left")
    return rows.filter(pl.col("FASFL") == "Y")


def designed(rows: pl.DataFrame) -> np.ndarray:
    arm, region = rows["TRT01P"] == "Active", rows["REGION"] == "South"
    return np.column_stack([np.ones(len(rows)), arm, rows["BASE"], region]).astype(float)


def test_independent_continuous(analyse: Analyse) -> None:
    others = [
        analysis("robust", "ancova", covariates=["BASE", "REGION"], variance="HC3"),
        analysis("score", "procova", covariates=["BASE"]),
        analysis("anhecova", "aipw", covariates=["BASE", "REGION"], interact=True),
    ]
    content = page(analyses=[*page()["analyses"], *others])
    content["endpoints"][0]["score"] = "PROG"
    done = analyse(content)
    rows = last()
    fit = sm.OLS(rows["CHG"].to_numpy(), designed(rows)).fit()
    for stat, expected in (("estimate", fit.params[1]), ("se", fit.bse[1]), ("p", fit.pvalues[1]), ("n", len(rows))):
        assert value(done, "main", "Active − Placebo", stat) == pytest.approx(expected, rel=1e-8)
    at_means = designed(rows).mean(axis=0)
    at_means[[1, 3]] = 0.0, 0.5  # SAS's margins: both regions alike
    assert value(done, "main", "Placebo", "estimate") == pytest.approx(float(at_means @ fit.params), rel=1e-8)
    assert value(done, "robust", "Active − Placebo", "se") == pytest.approx(fit.HC3_se[1], rel=1e-8)
    assert value(done, "score", "Active − Placebo", "se") < value(done, "main", "Active − Placebo", "se")
    bought = next(f.table for f in done.dossier.findings if f.id == "effects.bought.score")
    assert bought is not None
    base = sm.OLS(rows["CHG"].to_numpy(), designed(rows)[:, :3]).fit()
    assert bought.column("se_without") == [pytest.approx(base.bse[1], rel=1e-8)]
    assert 0 < float(bought.column("ratio")[0] or 1) < 1
    written = orjson.loads((done.folder / "ard.json").read_bytes())
    assert written == done.rows
    assert {row["randomisation"] for row in written} == {"permuted block within REGION"}
    assert {row["variance"] for row in written} == {"model", "HC3", "decomposed, permuted block within strata"}
    assert all("difference in means" in row["estimand"] or "mean" in row["estimand"] for row in written)
    assert pl.read_parquet(done.folder / "ard.parquet").to_dicts() == written


def test_repeated_with_a_score_and_imputation(analyse: Analyse) -> None:
    content = repeated(events=[{"event": "stop", "strategy": "treatment policy", "date": "EOTDY"}])
    content["analyses"] += [
        analysis("score", "procova_mmrm", covariates=["BASE"], by_visit=["BASE"], covariance="compound symmetry"),
        analysis("jump", "reference_based", covariates=["BASE"], strategies={"stop": "JR"}),
        analysis(
            "rubin", "reference_based", covariates=["BASE"], strategies={"stop": "JR"}, inference="Rubin", draws=20
        ),
        analysis("tip", "reference_based", covariates=["BASE"], strategies={"stop": "MAR"}, delta={"Active": 2.0}),
    ]
    content["multiplicity"] = {
        "method": "fixed sequence",
        "hypotheses": [
            {"name": "late", "analysis": "main", "visit": "Week 12"},
            {"name": "early", "analysis": "main", "visit": "Week 4"},
        ],
    }
    done = analyse(content)
    label = "Active − Placebo"
    assert value(done, "score", label, "se", "Week 12") < value(done, "main", label, "se", "Week 12")
    p = [value(done, "main", label, "p", visit) for visit in ("Week 12", "Week 4")]
    adjusted = [value(done, "main", label, "adjusted p", visit) for visit in ("Week 12", "Week 4")]
    assert adjusted == [p[0], max(p)]
    assert [f.figure.kind for f in done.dossier.findings if f.figure] == ["forest", *["interval"] * 6]
    known = tables()
    people = known["adsl"].filter(pl.col("FASFL") == "Y")
    wide = known["adqs"].pivot("AVISIT", index=["USUBJID", "BASE"], values="CHG")
    wide = people.join(wide, on="USUBJID", how="left", maintain_order="left")
    y = wide.select("Week 4", "Week 8", "Week 12").to_numpy().astype(float)
    stops = people["EOTDY"].is_not_null().to_numpy()  # on day 40, after Week 4 (day 29) and before Week 8 (day 57)
    active = (people["TRT01P"] == "Active").to_numpy().astype(int)
    jump = {"event": np.where(stops, 1, 3), "strategy": ["JR" if stop else "MAR" for stop in stops]}
    for name, how in (("jump", jump), ("tip", {"delta": 2.0 * active})):
        found = conditional_mean(y, active, wide["BASE"].to_numpy()[:, None], **how)
        for stat, expected in (("estimate", found.effect[2]), ("se", found.effect_se[2])):
            assert value(done, name, label, stat, "Week 12") == pytest.approx(expected, rel=1e-9)
    drawn = multiple_imputation(y, active, wide["BASE"].to_numpy()[:, None], **jump, imputations=20, seed=1)
    assert value(done, "rubin", label, "estimate", "Week 12") == pytest.approx(drawn.effect[2].value, rel=1e-9)
    assert value(done, "rubin", label, "se", "Week 12") > value(done, "jump", label, "se", "Week 12")


def test_a_graph_that_passes_all_on_is_holms_procedure(analyse: Analyse) -> None:
    content = repeated()
    names = [{"name": visit, "analysis": "main", "visit": visit} for visit in ("Week 4", "Week 8", "Week 12")]
    passed = {one["name"]: {other["name"]: 0.5 for other in names if other is not one} for one in names}
    holm = analyse(content | {"multiplicity": {"method": "Holm", "hypotheses": names}})
    weighted = [one | {"weight": 1 / 3} for one in names]
    graph = {"method": "graph", "hypotheses": weighted, "transitions": passed}
    found = [
        [row["value"] for row in done.rows if row["stat"] == "adjusted p"]
        for done in (holm, analyse(content | {"multiplicity": graph}))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert len(set(found[0])) == 3


def test_minimisation_asks_for_its_factors_in_the_model(analyse: Analyse) -> None:
    minimised = {"scheme": "minimisation", "strata": ["REGION"]}
    main = analysis("main", "aipw", covariates=["REGION", "BASE"], interact=True, primary=True)
    done = analyse(page(randomisation=minimised, analyses=[main]))
    assert {row["randomisation"] for row in done.rows} == {"minimisation within REGION"}
    assert value(done, "main", "Active − Placebo", "se") > 0
    with pytest.raises(ConfigError, match="joint strata into the covariates"):
        analyse(page(randomisation=minimised, analyses=[main | {"covariates": ["BASE"]}]))


def test_a_hypothetical_strategy_sets_values_after_the_event_aside(analyse: Analyse) -> None:
    done = analyse(repeated(events=[{"event": "stop", "strategy": "hypothetical", "date": "EOTDY"}]))
    flow = next(f for f in done.dossier.findings if f.id == "patients.total").table
    assert flow is not None
    counts = {str(row[0]): row[-1] for row in flow.rows}
    stopped = tables()["adsl"].filter(pl.col("FASFL") == "Y")["EOTDY"].is_not_null().sum()
    assert counts["With outcomes set aside after an event"] == stopped
    assert counts["With an outcome at Week 8"] == N - 1 - stopped
    assert all("stop: hypothetical" in str(row["estimand"]) for row in done.rows)


def test_independent_binary(analyse: Analyse) -> None:
    endpoint = {"id": "total", "kind": "binary", "parameter": "TOT", "column": "CHG", "visits": ["Week 12"]}
    composite = {"event": "stop", "strategy": "composite variable", "date": "EOTDY"}
    content = page(
        endpoints=[endpoint | {"at_most": -1.0, "missing": "no response", "events": [composite]}],
        analyses=[
            analysis("main", "gcomputation", covariates=["BASE"], variance="model", primary=True),
            analysis("ye", "aipw", covariates=["BASE"]),
            analysis("score", "miettinen_nurminen"),
            analysis("strata", "cmh", strata=["REGION"]),
        ],
    )
    done = analyse(content)
    people = tables()["adsl"].filter(pl.col("FASFL") == "Y")
    rows = people.join(last().select("USUBJID", "CHG"), on="USUBJID", how="left", maintain_order="left")
    good = ((rows["CHG"] <= -1).fill_null(value=False) & rows["EOTDY"].is_null()).to_numpy()
    active = (rows["TRT01P"] == "Active").to_numpy()
    counts = (int(good[active].sum()), int(active.sum()), int(good[~active].sum()), int((~active).sum()))
    expected = miettinen_nurminen(one_table(*counts))
    assert 0 < counts[2] < counts[0] < counts[1]
    for stat, number in (("estimate", expected.value), ("lower", expected.lower), ("p", expected.p)):
        assert value(done, "score", "Active − Placebo", stat) == pytest.approx(number, rel=1e-9)
    base = tables()["adqs"].unique("USUBJID").select("USUBJID", "BASE")
    x = people.join(base, on="USUBJID", how="left", maintain_order="left")["BASE"].to_numpy()
    fit = sm.Logit(good.astype(float), np.column_stack([np.ones(len(x)), active, x])).fit(disp=0)
    each = [fit.predict(np.column_stack([np.ones(len(x)), np.full(len(x), a), x])).mean() for a in (1.0, 0.0)]
    assert value(done, "main", "Active − Placebo", "estimate") == pytest.approx(each[0] - each[1], rel=1e-6)
    ratio = "Active / Placebo (risk ratio)"
    assert value(done, "main", ratio, "estimate") == pytest.approx(each[0] / each[1], rel=1e-6)
    assert value(done, "main", ratio, "lower") > 0
    assert value(done, "strata", "Active − Placebo", "df") == 1


def test_independent_count(analyse: Analyse) -> None:
    endpoint = {"id": "total", "kind": "count", "parameter": "RELAPSE", "records": "adrel", "exposure": "TRTDURY"}
    main = analysis("main", "gcomputation", working="Poisson", variance="HC0", covariates=["AGE"], primary=True)
    done = analyse(page(endpoints=[endpoint], analyses=[main]))
    people = tables()["adsl"].join(tables()["adrel"], on="USUBJID").filter(pl.col("FASFL") == "Y")
    active = (people["TRT01P"] == "Active").to_numpy().astype(float)
    X = np.column_stack([np.ones(len(active)), active, people["AGE"].to_numpy()])
    model = sm.GLM(people["AVAL"].to_numpy(), X, sm.families.Poisson(), exposure=people["TRTDURY"].to_numpy())
    found = value(done, "main", "Active / Placebo (rate ratio)", "estimate")
    assert found == pytest.approx(float(np.exp(model.fit().params[1])), rel=1e-6)


def test_independent_time_to_event(analyse: Analyse) -> None:
    content = page(
        endpoints=[{"id": "total", "kind": "time to event", "parameter": "DEATH", "records": "adtte", "unit": "days"}],
        analyses=[
            analysis("main", "log_rank", primary=True, strata=["REGION"]),
            analysis("curves", "kaplan_meier", at=[90]),
            analysis("cox", "cox", covariates=["AGE"]),
            analysis("adjusted", "adjusted_log_rank", covariates=["AGE", "REGION"]),
            analysis("means", "rmst", horizon=150),
            analysis("combo", "max_combo"),
        ],
    )
    done = analyse(content)
    rows = tables()["adsl"].join(tables()["adtte"], on="USUBJID").filter(pl.col("FASFL") == "Y")
    time, event = rows["AVAL"].to_numpy(), rows["CNSR"].to_numpy() == 0
    arm = (rows["TRT01P"] == "Active").to_numpy().astype(int)
    expected = log_rank(time, event, arm, strata=(rows["REGION"] == "North").to_numpy().astype(int))
    assert value(done, "main", "Active − Placebo", "statistic") == pytest.approx(expected.chi2, rel=1e-12)
    fit = sm.PHReg(time, np.column_stack([arm, rows["AGE"].to_numpy()]), status=event, ties="efron").fit()
    ratio = "Active / Placebo (hazard ratio)"
    assert value(done, "cox", ratio, "estimate") == pytest.approx(float(np.exp(fit.params[0])), rel=1e-6)
    assert value(done, "cox", ratio, "p") == pytest.approx(fit.pvalues[0], rel=1e-5)
    curve = sm.SurvfuncRight(time[arm == 0], event[arm == 0])
    half = int(np.flatnonzero(np.isclose(curve.surv_prob, 0.5))[0])  # 18 of 36: R takes the middle of the flat part
    assert value(done, "curves", "Placebo", "median") == curve.surv_times[half : half + 2].mean()
    assert 0 < value(done, "means", "Active − Placebo", "estimate") < 150
    assert next(f for f in done.dossier.findings if f.figure and f.figure.kind == "survival").table is not None
    assert "log-rank" not in done.dossier.summary[0]
    assert done.dossier.summary[0].startswith("Log-rank")
