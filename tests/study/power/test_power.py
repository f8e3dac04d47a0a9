"""A design from its page to rows, findings and a report."""

import tomllib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trialtwin.core.dossier import Dossier
from trialtwin.core.errors import ConfigError
from trialtwin.core.finding import Verdict
from trialtwin.study.power.run import Simulated, run_power
from trialtwin.study.power.spec import EXAMPLE, PowerSpec, check_power, load_power


def page(**changes: Any) -> dict[str, Any]:
    return tomllib.loads(EXAMPLE) | {"trials": 200} | changes


def run(folder: Path, **changes: Any) -> Simulated:
    return run_power(PowerSpec.model_validate(page(**changes)), folder, render=lambda dossier: dossier.title)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return run(tmp_path_factory.mktemp("power") / "run", methods=["ancova", "procova", "believed score"])


def test_every_truth_twin_and_method_is_a_row(done: Simulated) -> None:
    assert len(done.rows) == 2 * 4 * 2 * 3
    assert done.rows.select("scenario", "rho", "drift", "method").is_duplicated().sum() == 0
    assert done.rows.filter(pl.col("scenario") == "effect")["truth"].max() < -1.9
    read = pl.read_parquet(done.folder / "operating.parquet")
    assert read.equals(done.rows)


def test_the_findings_say_level_power_and_bias(done: Simulated) -> None:
    level, power, estimation, _ = done.dossier.findings
    assert level.verdict is Verdict.INFO
    assert "believed score with ρ = " in level.text
    assert "believed score" not in power.text
    assert "procova" in power.text
    assert estimation.table is not None
    assert len(estimation.table.rows) == len(done.rows)
    assert Dossier.model_validate_json((done.folder / "dossier.json").read_text()) == done.dossier


def test_honest_methods_alone_pass(tmp_path: Path) -> None:
    found = run(tmp_path / "run", twins={"rho": [0.5]}, methods=["procova"]).dossier.findings[0]
    assert found.verdict is Verdict.PASS
    assert "kept its level of 5.0%" in found.text


def test_a_design_without_a_null_scenario_fails(tmp_path: Path) -> None:
    truths = [{"name": "effect", "effects": [-2.0]}]
    found = run(tmp_path / "run", truths=truths, twins={"rho": [0.5]}).dossier.findings[0]
    assert found.verdict is Verdict.FAIL
    assert "the type I error is not known" in found.text


def test_the_same_page_gives_the_same_bytes(done: Simulated, tmp_path: Path) -> None:
    again = run(tmp_path / "run", methods=["ancova", "procova", "believed score"])
    for name in ("operating.parquet", "dossier.json", "report.html"):
        assert (again.folder / name).read_bytes() == (done.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ["magic"]}, "no method 'magic' for simulated trials; methods that do are unadjusted"),
        ({"methods": ["cox"]}, "'cox' does not analyse a continuous endpoint; methods that do are unadjusted"),
        ({"population": {"risk": 0.3}}, "is that of a binary endpoint, and the design's is continuous"),
        ({"population": {"risk": 0.3, "rate": 1.0}}, "give one of risk, rate and hazard, not risk and rate"),
        ({"population": {"risk": 0.3, "dispersion": 1.0}}, "a risk has no dispersion"),
        ({"population": {"rate": 0.3, "dispersion": -1.0}}, "greater than or equal to 0"),
        ({"population": {"hazard": [0.3], "cuts": [9]}}, "1 hazards for 1 cuts"),
        ({"truths": [{"name": "a", "effects": [0], "cuts": [9], "shares": [0, 1]}]}, "has no pieces of time"),
        ({"truths": [{"name": "a", "effects": [0], "cuts": [9]}]}, "1 shares for 1 cuts"),
        ({"population": {"mean": [1, 2], "sd": [1, 1], "correlation": 0.5}}, "2 means for 4 visits"),
        ({"population": {"mean": [1, 2, 3, 4], "sd": [1, 1], "correlation": 0.5}}, "4 means and 2 SDs"),
        (
            {"population": {"mean": [1, 2, 3, 4], "sd": [1] * 4, "correlation": [[1.0]]}},
            "must have 4 rows of 4",
        ),
        ({"population": {"mean": [1, 2, 3, 4], "sd": [1] * 4, "correlation": -0.9}}, "is no covariance"),
        ({"truths": [{"name": "a", "effects": [1, 2]}]}, "has 2 effects for 1 treated arms"),
        ({"truths": [{"name": "a", "effects": [0]}] * 2}, "two truths have one name"),
        ({"twins": {"rho": [1.5]}}, "less than or equal to 1"),
        ({"wish": 1}, "wish: no such key"),
    ],
)
def test_a_page_that_asks_for_what_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_power(page(**change), where="here")


def test_a_page_that_is_missing_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write one with: trialtwin design"):
        load_power(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("id = [")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_power(tmp_path / "bad.toml")


OTHERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "binary": ({"risk": 0.4, "prognosis": 1.0}, ["proportions", "procova logistic"]),
    "count": ({"rate": 2.0, "dispersion": 0.5, "prognosis": 0.5}, ["rates", "procova rates"]),
    "time to event": ({"hazard": [0.8, 0.4], "cuts": [90], "prognosis": 0.8}, ["log-rank", "cox", "procova cox"]),
}


@pytest.mark.parametrize("kind", list(OTHERS))
def test_other_endpoints_run_from_the_page_to_the_report(tmp_path: Path, kind: str) -> None:
    population, methods = OTHERS[kind]
    design = tomllib.loads(EXAMPLE)["design"]
    design["endpoint"] = {"name": "relapse", "kind": kind, "better": "lower"}
    changes: dict[str, Any] = {
        "design": design,
        "population": population,
        "methods": methods,
        "truths": [{"name": "no effect", "effects": [0]}, {"name": "effect", "effects": [-0.6]}],
        "twins": {"rho": [0.6]},
    }
    found = run(tmp_path / "run", **changes)
    assert len(found.rows) == 2 * len(methods)
    assert found.rows["null"].sum() == len(methods)
    unknown = found.rows.filter(pl.col("truth").is_null() & ~pl.col("null"))["method"].to_list()
    assert unknown == (["log-rank", "procova cox"] if kind == "time to event" else [])
    assert Dossier.model_validate_json((found.folder / "dossier.json").read_text()) == found.dossier


def test_an_endpoint_asks_for_patients_of_its_own() -> None:
    design = tomllib.loads(EXAMPLE)["design"]
    design["endpoint"] |= {"kind": "count"}
    with pytest.raises(ConfigError, match="a count endpoint needs a population with rate"):
        check_power(page(design=design, methods=["rates"]), where="here")


def test_looks_are_rows_and_a_finding(tmp_path: Path) -> None:
    """Two looks, futility: a row a truth, twin, method and look; expected size below the planned one."""
    design = tomllib.loads(EXAMPLE)["design"] | {
        "interims": [{"fraction": 0.5}],
        "accrual": 5,
        "boundary": {"futility": "O'Brien-Fleming spending"},
    }
    found = run(tmp_path / "run", design=design, methods=["ancova", "procova"], twins={"rho": [0.6]})
    looks = pl.read_parquet(found.folder / "looks.parquet")
    assert len(looks) == 2 * 2 * 2
    whole = looks.group_by("scenario", "method").agg(pl.col("rejected").sum())
    for row in whole.iter_rows(named=True):
        same = (pl.col("scenario") == row["scenario"]) & (pl.col("method") == row["method"])
        assert found.rows.filter(same)["rejected"].item() == pytest.approx(row["rejected"])
    assert found.rows["size"].max() < 200
    assert (found.rows["months"] < 200 / 5 + 252 / 30.4375).any()
    stops = next(one for one in found.dossier.findings if one.id == "operating.looks")
    assert "Trials that end before the last look" in stops.text
    assert found.dossier.study["Level"] == "0.025, one-sided"
    run(tmp_path / "run", methods=["ancova"], twins={"rho": [0.6]})
    assert not (tmp_path / "run" / "looks.parquet").exists()


def test_information_that_decreases_is_refused_on_the_page() -> None:
    design = tomllib.loads(EXAMPLE)["design"] | {"interims": [{"fraction": 0.7}, {"fraction": 0.5}]}
    with pytest.raises(ConfigError, match=r"information must grow from look to look: 0\.7, 0\.5, 1"):
        check_power(page(design=design), where="here")


def test_events_that_differ_by_arm_are_an_effect_by_themselves(tmp_path: Path) -> None:
    """Treatment does nothing, but fewer of the treated are rescued: under treatment policy they end worse."""
    design = tomllib.loads(EXAMPLE)["design"]
    design["intercurrent"] = [
        {
            "event": "rescue",
            "does": "rescue",
            "chance": {"Placebo": 0.4, "Active": 0.1},
            "effect": -3.0,
            "strategy": "treatment policy",
        }
    ]
    truths = [{"name": "no effect", "effects": [0]}]
    found = run(tmp_path / "run", design=design, truths=truths, twins={"rho": [0.5]}, methods=["ancova"])
    assert found.rows["truth"].item() == pytest.approx(0.3 * 3, rel=0.05)
    assert not found.rows["null"].item()
    assert "intercurrent events have other chances by arm" in found.dossier.findings[0].text
