"""Other programs' numbers through the command: the xanomeline trial, and reference cases put into the shape of ADaM."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from trialtwin.cli.app import app

pytestmark = pytest.mark.reference
type Numbers = dict[tuple[str, str, str, str], float]

NAMES = {"estimate": "estimate", "se": "SE", "df": "df", "statistic": "t.ratio", "p": "p.value", "upper": "upper.CL"}
XANOMELINE = """
id = "xanomeline"
title = "Xanomeline"
data = {records = "RECORDS"}

[arms]
variable = "TRTP"
names = ["Placebo", "Xanomeline Low Dose", "Xanomeline High Dose"]
labels = ["Placebo", "Low", "High"]
dose = [0, 54, 81]
"""
ADAS = """
[population]
name = "efficacy population"
variable = "EFFFL"

[[endpoints]]
id = "adas"
kind = "repeated"
parameter = "ACTOT"
visits = ["Week 8", "Week 16", "Week 24"]

[[endpoints]]
id = "locf"
kind = "continuous"
parameter = "ACTOT"
visits = ["Week 24"]
derived = true

[[analyses]]
id = "mmrm"
primary = true
endpoint = "adas"
method = "mmrm"
covariates = ["SITEGR1", "BASE"]
by_visit = ["BASE"]

[[analyses]]
id = "ancova"
endpoint = "locf"
method = "ancova"
covariates = ["SITEGR1", "BASE"]

[[analyses]]
id = "dose"
endpoint = "locf"
method = "dose_response"
covariates = ["SITEGR1", "BASE"]
"""
SKIN = """
[[endpoints]]
id = "skin"
kind = "time to event"
parameter = "TTDE"

[[analyses]]
id = "log-rank"
primary = true
endpoint = "skin"
method = "log_rank"
"""


def run(text: str, data: Path, folder: Path) -> Numbers:
    """Run the command on a page, and return numbers by analysis, contrast, visit and statistic."""
    page = folder / "page.toml"
    page.write_text(text, encoding="utf-8")
    ran = CliRunner().invoke(app, ["analyse", str(page), "--data", str(data), "--out", str(folder), "--json"])
    assert ran.exit_code == 0, ran.exception
    rows: list[dict[str, Any]] = json.loads(ran.stdout)["rows"]
    return {(row["analysis"], row["contrast"], row["visit"], row["stat"]): row["value"] for row in rows}


def test_reference_xanomeline_tables_14_3_01_and_14_3_11(shared: Path, tmp_path: Path) -> None:
    adam = shared / "data" / "cdiscpilot01" / "adam"
    found = run(XANOMELINE.replace("RECORDS", "adqsadas") + ADAS, adam, tmp_path)

    def of(analysis: str, contrast: str, stat: str) -> float:
        return round(found[analysis, contrast, "Week 24", stat], 4)

    assert [of("mmrm", arm, "estimate") for arm in ("Placebo", "Low", "High")] == [2.3291, 1.7352, 1.5009]
    assert [of("mmrm", "High − Placebo", stat) for stat in ("estimate", "p")] == [-0.8282, 0.4403]
    assert [of("mmrm", "Low − Placebo", stat) for stat in ("estimate", "p")] == [-0.5939, 0.5600]
    assert [of("ancova", "High − Placebo", stat) for stat in ("estimate", "se")] == [-1.0060, 0.8405]
    assert [of("ancova", "Low − Placebo", stat) for stat in ("estimate", "se")] == [-0.4668, 0.8180]
    (slope,) = (value for key, value in found.items() if key[0] == "dose" and key[3] == "p")
    assert round(slope, 4) == 0.2447


def test_reference_xanomeline_table_14_7(shared: Path, tmp_path: Path) -> None:
    adam = shared / "data" / "cdiscpilot01" / "adam"
    found = run(XANOMELINE.replace("RECORDS", "adtte") + SKIN, adam, tmp_path)
    assert (round(found["log-rank", "all arms", "", "statistic"], 2), found["log-rank", "all arms", "", "df"]) == (
        60.27,
        2,
    )


def test_reference_beeca(shared: Path, tmp_path: Path) -> None:
    """Logistic g-computation with Ge's and Ye's variances."""
    case = shared / "reference" / "gcomp_beeca_trial01"
    rows = pl.read_csv(case / "data.csv", infer_schema=False).with_columns(PARAMCD=pl.lit("RESP"))
    rows = rows.filter(pl.col("aval").is_not_null() & (pl.col("aval") != "NA"))
    rows.write_csv(tmp_path / "adresp.csv")
    page = """
id = "beeca"
title = "beeca"
data = {records = "adresp", mappings = {adresp = {USUBJID = "usubjid", AVAL = "aval"}}, na = ["", "NA"]}
arms = {variable = "trtp", names = ["0", "1"]}

[[endpoints]]
id = "response"
kind = "binary"
parameter = "RESP"
record_flag = ""
"""
    for name, variance in (("Ge.model-based", "model"), ("Ge.HC1", "HC1"), ("Ye.HC0", "Ye")):
        page += f"""
[[analyses]]
id = "{name}"
primary = {str(name == "Ye.HC0").lower()}
endpoint = "response"
method = "gcomputation"
variance = "{variance}"
covariates = ["bl_cov"]
"""
    found = run(page, tmp_path, tmp_path)
    expected = json.loads((case / "expected.json").read_text())["expected"]
    for name in ("Ge.model-based", "Ge.HC1", "Ye.HC0"):
        numbers = expected[name]
        assert found[name, "1 − 0", "", "estimate"] == pytest.approx(numbers["diff"]["estimate"][0], rel=1e-6)
        assert found[name, "1 − 0", "", "se"] == pytest.approx(numbers["diff"]["se"][0], rel=1e-6)
        for label, key in (("risk ratio", "rr"), ("odds ratio", "or")):
            contrast = f"1 / 0 ({label})"
            assert found[name, contrast, "", "estimate"] == pytest.approx(numbers[key]["estimate"][0], rel=1e-6)
            assert found[name, contrast, "", "se"] == pytest.approx(numbers[key]["se"][0], rel=1e-6)
            log = np.log(found[name, contrast, "", "upper"] / found[name, contrast, "", "estimate"]) / 1.959964
            assert log == pytest.approx(numbers[f"log{key}"]["se"][0], rel=1e-6)


def test_reference_rbmi_jump_to_reference(shared: Path, tmp_path: Path) -> None:
    """The antidepressant trial; patients jump to the control after the last day on which they were seen."""
    case = shared / "reference" / "rbmi_antidepressant_condmean"
    long = pl.read_csv(case / "antidepressant_long.csv", schema_overrides={"PATIENT": pl.String, "VISIT": pl.String})
    ice = pl.read_csv(case / "ice.csv", infer_schema=False)
    rows = long.select(
        pl.col("PATIENT").alias("USUBJID"),
        pl.col("VISIT").alias("AVISIT"),
        pl.col("RELDAYS").cast(pl.Float64).alias("ADY"),
        pl.col("BASVAL").cast(pl.Float64).alias("BASE"),
        pl.col("CHANGE").cast(pl.Float64).alias("CHG"),
        pl.col("HAMDTL17").cast(pl.Float64).alias("AVAL"),
        pl.lit("HAMD").alias("PARAMCD"),
        pl.col("THERAPY").alias("TRT01P"),
    )
    rows.write_csv(tmp_path / "adqs.csv")
    seen = rows.filter(pl.col("CHG").is_not_null()).group_by("USUBJID").agg(pl.col("ADY").max().alias("LASTDY"))
    people = rows.select("USUBJID", "TRT01P").unique(maintain_order=True).join(seen, on="USUBJID", how="left")
    stopped = people["USUBJID"].is_in(ice["PATIENT"].to_list())
    flags = stopped.replace_strict({True: "Y", False: "N"}).alias("ICEFL")
    people.with_columns(flags).write_csv(tmp_path / "adsl.csv")
    page = """
id = "rbmi"
title = "rbmi"
data = {records = "adqs", subjects = "adsl"}
arms = {names = ["PLACEBO", "DRUG"]}

[[endpoints]]
id = "hamd"
kind = "repeated"
parameter = "HAMD"
visits = ["4", "5", "6", "7"]
record_flag = ""
events = [{event = "stop", strategy = "treatment policy", date = "LASTDY", flag = "ICEFL"}]

[[analyses]]
id = "JR"
primary = true
endpoint = "hamd"
method = "reference_based"
covariates = ["BASE"]
strategies = {stop = "JR"}
"""
    found = run(page, tmp_path, tmp_path)
    expected = json.loads((case / "expected.json").read_text())["expected"]["JR"]
    for visit in ("4", "5", "6", "7"):
        # rbmi's effect is PLACEBO − DRUG
        assert found["JR", "DRUG − PLACEBO", visit, "estimate"] == pytest.approx(
            -expected[f"trt_{visit}"]["est"], rel=1e-3
        )
        assert found["JR", "DRUG − PLACEBO", visit, "se"] == pytest.approx(expected[f"trt_{visit}"]["se"], rel=2e-3)
        assert found["JR", "DRUG", visit, "estimate"] == pytest.approx(expected[f"lsm_ref_{visit}"]["est"], rel=1e-3)


def test_reference_robincar_survival(shared: Path, tmp_path: Path) -> None:
    """Covariate-adjusted log-rank and hazard ratio, stratified, after permuted blocks."""
    case = shared / "reference" / "covadj_logrank_lung"
    rows = pl.read_csv(case / "data.csv", schema_overrides={"ph": pl.String})
    rows.with_columns(
        pl.format("S{}", pl.int_range(pl.len())).alias("USUBJID"),
        (1 - pl.col("status")).alias("CNSR"),
        pl.lit("OS").alias("PARAMCD"),
    ).write_csv(tmp_path / "adtte.csv")
    page = """
id = "lung"
title = "lung"
data = {records = "adtte", mappings = {adtte = {AVAL = "time", PH = "ph"}}, factors = ["PH"]}
arms = {variable = "sex", names = ["Female", "Male"]}

[randomisation]
scheme = "permuted block"
strata = ["PH"]

[[endpoints]]
id = "os"
kind = "time to event"
parameter = "OS"

[[analyses]]
id = "adjusted"
primary = true
endpoint = "os"
method = "adjusted_log_rank"
covariates = ["age", "meal.cal"]
strata = ["PH"]
"""
    found = run(page, tmp_path, tmp_path)
    numbers = json.loads((case / "expected.json").read_text())["expected"]["covariate_adjusted_stratified"]
    ratio = numbers["log_hr"]["Male v.s. Female"]
    log = np.log(found["adjusted", "Male / Female (hazard ratio)", "", "estimate"])
    assert log == pytest.approx(ratio["Estimate"], rel=2e-4)
    assert found["adjusted", "Male − Female", "", "statistic"] == pytest.approx(
        numbers["logrank"]["Male v.s. Female"]["Test Stat."], rel=1e-6
    )


def test_reference_mmrm_with_a_prognostic_score(shared: Path, tmp_path: Path) -> None:
    """R mmrm: score, baseline and arm by visit, Kenward–Roger in both forms and Satterthwaite."""
    case = shared / "reference" / "mmrm_sim_procova_4visit"
    rows = pl.read_csv(case / "data.csv", null_values=["NA"])
    rows.with_columns(PARAMCD=pl.lit("X"), AVAL=pl.col("CHG")).write_csv(tmp_path / "adqs.csv")
    page = """
id = "procova"
title = "procova"
data = {records = "adqs"}
arms = {variable = "ARM", names = ["PBO", "ACT"]}

[[endpoints]]
id = "change"
kind = "repeated"
parameter = "X"
visits = ["V1", "V2", "V3", "V4"]
record_flag = ""
score = "PROG"
"""
    forms = {
        "Kenward-Roger-linear": "Kenward-Roger|Kenward-Roger-Linear",
        "Kenward-Roger": "Kenward-Roger|default",
        "Satterthwaite": "Satterthwaite|default",
    }
    for df in forms:
        page += f"""
[[analyses]]
id = "{df}"
primary = {str(df == "Satterthwaite").lower()}
endpoint = "change"
method = "procova_mmrm"
covariates = ["BASE"]
by_visit = ["BASE"]
df = "{df}"
"""
    found = run(page, tmp_path, tmp_path)
    expected = json.loads((case / "expected.json").read_text())["expected"]
    for df, name in forms.items():
        for contrast in expected[name]["lsm"]["contrasts_vs_control"]:
            for stat, key in NAMES.items():
                number = found[df, "ACT − PBO", contrast["AVISIT"], stat]
                assert number == pytest.approx(contrast[key], rel=1e-4), (df, stat)


def test_reference_robincar_counts(shared: Path, tmp_path: Path) -> None:
    """Rate ratio and difference by AIPW with Poisson and negative binomial working models."""
    case = shared / "reference" / "robincar2_sim_count"
    rows = pl.read_csv(case / "data.csv").with_columns(PARAMCD=pl.lit("RELAPSE"))
    rows.with_columns(pl.format("S{}", "id").alias("id")).write_csv(tmp_path / "adrel.csv")
    page = """
id = "counts"
title = "counts"
data = {records = "adrel", mappings = {adrel = {USUBJID = "id", AVAL = "relapses"}}}
arms = {variable = "treatment", names = ["ctl", "act"]}

[[endpoints]]
id = "relapses"
kind = "count"
parameter = "RELAPSE"
record_flag = ""
"""
    for name, working in (("poisson", "Poisson"), ("negbin", "negative binomial")):
        page += f"""
[[analyses]]
id = "{name}"
primary = {str(name == "poisson").lower()}
endpoint = "relapses"
method = "aipw"
working = "{working}"
covariates = ["prog"]
"""
    found = run(page, tmp_path, tmp_path)
    expected = json.loads((case / "expected.json").read_text())["expected"]
    for name in ("poisson", "negbin"):
        log, difference = expected[f"{name}.log_risk_ratio"], expected[f"{name}.difference"]
        assert np.log(found[name, "act / ctl (rate ratio)", "", "estimate"]) == pytest.approx(
            log["contrast"][0], rel=1e-5
        )
        assert found[name, "act − ctl", "", "estimate"] == pytest.approx(difference["contrast"][0], rel=1e-5)
        assert found[name, "act − ctl", "", "se"] ** 2 == pytest.approx(difference["contrast_vcov"][0][0], rel=1e-5)
