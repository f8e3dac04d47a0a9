"""Pages and data that cannot be analysed: each is an error that says what exists and what to do."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from small_trial import page, repeated, tables, value

from trialtwin.core.errors import ConfigError, DataError, FitError, MismatchError, TrialTwinError
from trialtwin.study.analyse.run import Finished

type Analyse = Callable[..., Finished]


def changed(name: str, *columns: pl.Expr) -> dict[str, pl.DataFrame]:
    return {name: tables()[name].with_columns(*columns)}


def main(**options: Any) -> dict[str, Any]:
    return page(analyses=[page()["analyses"][0] | options])


def total(**options: Any) -> dict[str, Any]:
    return page(endpoints=[page()["endpoints"][0] | options])


ACTIVE = pl.col("USUBJID").is_in([f"S{i:03d}" for i in range(1, 72, 2)])
NORTH = pl.when(pl.col("TRT01P") == "Active").then(pl.lit("North")).otherwise(pl.lit("South"))


@pytest.mark.parametrize(
    ("content", "data", "kind", "words"),
    [
        (total(parameter="TOTAL"), {}, MismatchError, "exists: TOT"),
        (total(visits=["Week 52"]), {}, MismatchError, "exists: Week 4, Week 8, Week 12"),
        (page(arms={"names": ["Placebo", "High"]}), {}, MismatchError, "exists: Placebo, Active"),
        (page(population={"name": "p", "variable": "FASFL", "value": "1"}), {}, MismatchError, "exists: Y, N"),
        (main(covariates=["BMI"]), {}, MismatchError, "no variable 'BMI'"),
        (main(method="cox"), {}, ConfigError, "it admits unadjusted, ancova"),
        (main(covariance="Toeplitz"), {}, ConfigError, "takes no 'covariance'; it takes covariates, variance, level"),
        (main(primary=False), {}, ConfigError, "one analysis is the primary one"),
        (main(covariates=["BASE", "BASE2"]), changed("adsl", pl.lit(3.0).alias("BASE2")), DataError, "same for all"),
        (
            main(covariates=["AGE", "AGEMO"]),
            changed("adsl", (12 * pl.col("AGE")).alias("AGEMO")),
            FitError,
            "AGEMO",
        ),
        (
            page(),
            changed("adqs", pl.when(ACTIVE).then(None).otherwise(pl.col("CHG")).alias("CHG")),
            DataError,
            r"arm\(s\) with fewer than two outcomes: Active \(0\)",
        ),
        (
            repeated(),
            changed("adqs", pl.when(ACTIVE & (pl.col("AVISIT") == "Week 8")).then(None).otherwise("CHG").alias("CHG")),
            DataError,
            "Week 8",
        ),
        (repeated(visits=["Week 8", "Week 4", "Week 12"]), {}, DataError, "in order of time: Week 4, Week 8, Week 12"),
        (
            repeated(),
            changed(
                "adqs", pl.when(pl.col("USUBJID") == "S002").then(100 - pl.col("ADY")).otherwise("ADY").alias("ADY")
            ),
            DataError,
            "falls from a visit to the next in 1 subject.*\n.*S002",
        ),
        (main(method="aipw"), changed("adsl", NORTH.alias("REGION")), DataError, "stratum REGION North"),
        (
            main(covariates=["AGE"]),
            changed("adsl", pl.lit(None, pl.Float64).alias("AGE")),
            DataError,
            "'AGE' is missing",
        ),
        (
            repeated(events=[{"event": "stop", "strategy": "hypothetical"}]),
            {},
            ConfigError,
            "needs the date of the event, or a note",
        ),
    ],
)
def test_bad_input_is_refused(
    analyse: Analyse, content: dict[str, Any], data: dict[str, pl.DataFrame], kind: type[TrialTwinError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        analyse(content, **data)


@pytest.mark.parametrize("method", ["log_rank", "cox"])
def test_a_stratum_with_one_arm_only_is_refused(analyse: Analyse, method: str) -> None:
    content = page(
        randomisation={},
        endpoints=[{"id": "total", "kind": "time to event", "parameter": "DEATH", "records": "adtte"}],
        analyses=[{"id": "main", "primary": True, "endpoint": "total", "method": method, "strata": ["REGION"]}],
    )
    with pytest.raises(DataError, match="hold one arm only"):
        analyse(content, **changed("adsl", NORTH.alias("REGION")))


def test_strata_of_one_arm_are_left_out_where_asked(analyse: Analyse) -> None:
    lone = pl.when(pl.col("USUBJID") == "S000").then(pl.lit("Isle")).otherwise(pl.col("REGION")).alias("REGION")
    endpoint = {"id": "total", "kind": "time to event", "parameter": "DEATH", "records": "adtte"}
    main = {"id": "main", "primary": True, "endpoint": "total", "method": "log_rank", "strata": ["REGION"]}
    left = page(randomisation={}, endpoints=[endpoint], analyses=[main | {"one_arm_strata": "leave out"}])
    done = analyse(left, **changed("adsl", lone))
    only = tables()["adtte"].filter(pl.col("USUBJID") != "S000")
    without = analyse(page(randomisation={}, endpoints=[endpoint], analyses=[main]), adtte=only)
    label = "Active − Placebo"
    assert value(done, "main", label, "statistic") == pytest.approx(value(without, "main", label, "statistic"))


def test_two_records_of_a_visit_are_refused(analyse: Analyse) -> None:
    rows = tables()["adqs"]
    with pytest.raises(DataError, match="several TOT records of a subject"):
        analyse(page(), adqs=pl.concat([rows, rows.head(3)]))
