"""What the CDISC pilot's primary analysis says where carried totals are replaced by those measured on the same day.

Nineteen patients answered all items of the ADAS-Cog at a visit at which the published data set carries an older total
forward (rule REL-T02 of ``trialtwin check``). Run with the folder of the ADaM files::

    uv run python examples/cdiscpilot01_sensitivity.py FOLDER
"""

import sys
from dataclasses import replace
from pathlib import Path

import polars as pl

from trialtwin.study.load import load_study
from trialtwin.study.prepare import Prepared, read_study
from trialtwin.study.results import run_analyses

spec = load_study(Path(__file__).with_name("cdiscpilot01.toml"))
spec = spec.model_copy(update={"analyses": tuple(a for a in spec.analyses if a.method != "procova")})
study = read_study(spec, Path(sys.argv[1]))
table = study.tables.findings["adqsadas"]
items = table.frame.filter(pl.col("PARAMCD").is_in(list(spec.scales[0].items)) & pl.col("DTYPE").is_null())
most = pl.col("PARAMCD").replace_strict(spec.scales[0].items, return_dtype=pl.Float64)
day = (
    items.drop_nulls("AVAL")
    .unique(["USUBJID", "ADT", "PARAMCD"])
    .group_by("USUBJID", "ADT")
    .agg(total=pl.col("AVAL").sum() * 70 / most.sum(), answered=most.sum())
)
carried = (pl.col("PARAMCD") == "ACTOT") & (pl.col("DTYPE") == "LOCF") & (pl.col("answered") >= 49)
frame = (
    table.frame.join(day, on=["USUBJID", "ADT"], how="left")
    .with_columns(AVAL=pl.when(carried).then("total").otherwise("AVAL"))
    .with_columns(CHG=pl.when(carried).then(pl.col("AVAL") - pl.col("BASE")).otherwise("CHG"))
)
corrected = replace(table, frame=frame.select(table.frame.columns))
other = Prepared(spec, replace(study.tables, findings={"adqsadas": corrected}))
print(int((study.rows.value != other.rows.value).sum()), "endpoint values of", len(study.rows), "change")
for result in run_analyses(spec, other.record, {}):
    e = result.estimate
    print(f"{result.analysis}: {e.contrast} {e.value:.4f} ({e.se:.4f}) p {e.p:.4f}")
