"""The Analysis Results Dataset: one row a statistic."""

import io
from collections.abc import Sequence

import orjson
import polars as pl

from trialtwin.core.dossier import Result

COLUMNS = (
    "analysis",
    "endpoint",
    "visit",
    "population",
    "method",
    "variance",
    "contrast",
    "stat",
    "value",
    "estimand",
)


def result_rows(results: Sequence[Result]) -> list[dict[str, str | float]]:
    """Return one row a statistic; ``estimand`` holds the five attributes in words."""
    return [
        {
            "analysis": result.analysis,
            "endpoint": result.endpoint,
            "visit": result.visit,
            "population": result.population,
            "method": result.estimate.method,
            "variance": result.estimate.variance,
            "contrast": result.estimate.contrast,
            "stat": stat,
            "value": value,
            "estimand": str(result.estimate.estimand or ""),
        }
        for result in results
        for stat, value in result.estimate.statistics().items()
    ]


def ard_json(results: Sequence[Result]) -> bytes:
    """Write the rows as a JSON array."""
    return orjson.dumps(result_rows(results), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def ard_parquet(results: Sequence[Result]) -> bytes:
    """Write the rows as Parquet."""
    schema = {name: pl.Float64() if name == "value" else pl.String() for name in COLUMNS}
    return parquet(pl.DataFrame(result_rows(results), schema=schema))


def parquet(frame: pl.DataFrame) -> bytes:
    """Write a table as Parquet."""
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()
