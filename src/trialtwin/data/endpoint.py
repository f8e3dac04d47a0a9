"""The endpoint of a trial as its ADaM data set marks it: one analysed value a subject, carried forward or measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import polars as pl
from jaxtyping import Float

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import MismatchError
from trialtwin.data.cdisc import TrialTables
from trialtwin.data.cohort import analysed, population_of
from trialtwin.data.layout import Layout
from trialtwin.data.structure import require_numbers, require_unique


@dataclass(frozen=True, eq=False)
class EndpointRows:
    """Analysed values of one parameter at one visit.

    Parameters
    ----------
    ids
        Subjects with a value and a baseline, in the order of ADSL.
    value, base : shape (subject,)
        The value that is analysed, and the baseline.
    dtype
        How the value came about: "" where it was measured, else the derivation, such as "LOCF".
    absent
        Each other subject of the population, and why there is no value.
    """

    ids: tuple[str, ...]
    value: Float[np.ndarray, " subject"]
    base: Float[np.ndarray, " subject"]
    dtype: tuple[str, ...]
    absent: Mapping[str, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", frozen(self.value))
        object.__setattr__(self, "base", frozen(self.base))
        object.__setattr__(self, "absent", MappingProxyType(dict(self.absent)))

    def __len__(self) -> int:
        return len(self.ids)


def endpoint(
    tables: TrialTables,
    layout: Layout,
    *,
    paramcd: str,
    visit: str,
    column: str = "CHG",
    population: tuple[str, str] | None = None,
) -> EndpointRows:
    """Return the values that the trial's analysis takes, rows carried forward included as ADaM marks them.

    Parameters
    ----------
    tables
        Data sets of the trial.
    layout
        Which variables play which role.
    paramcd, visit, column
        The parameter, its visit (AVISIT), and the column that is analysed.
    population
        Column of ADSL and its value, such as ``("EFFFL", "Y")``.

    Raises
    ------
    DataError
        If a subject has two analysed records at the visit or two baselines, is not in ADSL, or a value is no number.
    MismatchError
        If a data set, variable, parameter or visit does not exist.
    """
    subjects = population_of(tables.subjects, layout, population)
    rows = analysed(tables, layout, _dataset(tables, layout, paramcd), paramcd)
    rows.require(column, "BASE", purpose="for the endpoint")
    require_numbers(rows, column, layout.subject)
    require_numbers(rows, "BASE", layout.subject)
    frame = rows.frame.filter(pl.col("AVISIT") == visit)
    if not frame.height:
        known = rows.frame["AVISIT"].unique(maintain_order=True).drop_nulls().to_list()
        raise MismatchError(f"no analysed {paramcd} record at visit {visit!r}", where=rows.source, exists=known)
    require_unique(frame, [layout.subject], f"several {paramcd} records of a subject at {visit}", rows)
    found = _values(frame, layout.subject, column)
    absent: dict[str, str] = {}
    present: list[str] = []
    for who in subjects.frame[layout.subject]:
        if who not in found:
            absent[who] = f"no record at {visit}"
        elif found[who][0] is None or found[who][1] is None:
            absent[who] = f"{column if found[who][1] is not None else 'BASE'} is missing at {visit}"
        else:
            present.append(who)
    return EndpointRows(
        ids=tuple(present),
        value=np.array([found[who][0] for who in present], dtype=float),
        base=np.array([found[who][1] for who in present], dtype=float),
        dtype=tuple(found[who][2] for who in present),
        absent=absent,
    )


def _values(frame: pl.DataFrame, subject: str, column: str) -> dict[str, tuple[float | None, float | None, str]]:
    """Return each subject's value, baseline and derivation."""
    dtype = pl.col("DTYPE") if "DTYPE" in frame.columns else pl.lit(None, pl.String)
    chosen = frame.select(
        pl.col(subject), pl.col(column).alias("_value"), pl.col("BASE").alias("_base"), dtype.alias("_kind")
    )
    return {who: (value, base, kind or "") for who, value, base, kind in chosen.iter_rows()}


def _dataset(tables: TrialTables, layout: Layout, paramcd: str) -> str:
    """Find the data set of a parameter: the layout's where it names one, else the one that has it."""
    for outcome in layout.outcomes:
        if outcome.paramcd == paramcd:
            return outcome.dataset
    for name, table in tables.findings.items():
        if "PARAMCD" in table.frame.columns and paramcd in table.frame["PARAMCD"]:
            return name
    known = sorted({str(code) for table in tables.findings.values() for code in table.frame["PARAMCD"].unique()})
    raise MismatchError(f"no data set has the parameter {paramcd}", exists=known)
