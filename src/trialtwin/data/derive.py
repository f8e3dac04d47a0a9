r"""What ADaM derives from raw measurements: analysis visits, the record that counts, baseline, change, and LOCF.

The rules are those that reproduce the ADAS-Cog data set of the CDISC pilot (``tests/data/test_derive.py``):

- a record belongs to the visit whose window holds its study day; AWTDIFF = \|ADY − AWTARGET\|;
- of several records of a subject, parameter and visit the one closest to the target day counts (ANL01FL = "Y"); of two
  that are equally close the later one, then the one further down the file (the pilot has no such pair);
- baseline is the record that counts at the first visit; BASE stands on every row, CHG = AVAL − BASE and
  PCHG = 100 (CHG / BASE) on all rows after baseline;
- for the parameters named, a later visit without a value gets a copy of the last record that has one before the window
  opens, whether or not that record counts at its own visit, with DTYPE = "LOCF" and its own day and date.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise

import polars as pl

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage
from trialtwin.data.layout import Visit
from trialtwin.data.structure import require_findings, require_numbers, shorten

_DERIVED = (
    Field("AVISIT", Storage.CHAR, "Analysis Visit"),
    Field("AVISITN", Storage.NUM, "Analysis Visit (N)"),
    Field("BASE", Storage.NUM, "Baseline Value"),
    Field("CHG", Storage.NUM, "Change from Baseline"),
    Field("PCHG", Storage.NUM, "Percent Change from Baseline"),
    Field("ABLFL", Storage.CHAR, "Baseline Record Flag", 1),
    Field("ANL01FL", Storage.CHAR, "Analysis Record Flag 01", 1),
    Field("DTYPE", Storage.CHAR, "Derivation Type"),
    Field("AWRANGE", Storage.CHAR, "Analysis Window Valid Relative Range"),
    Field("AWTARGET", Storage.NUM, "Analysis Window Target"),
    Field("AWTDIFF", Storage.NUM, "Analysis Window Diff from Target"),
    Field("AWLO", Storage.NUM, "Analysis Window Beginning Timepoint"),
    Field("AWHI", Storage.NUM, "Analysis Window Ending Timepoint"),
    Field("AWU", Storage.CHAR, "Analysis Window Unit"),
)
DERIVED = tuple(field.name for field in _DERIVED)
"""Columns that ``derive`` adds, or replaces where they exist."""

_ROW = "_row"
_VISIT = "_visit"


def derive(
    raw: DataSet,
    visits: Sequence[Visit],
    *,
    numbers: Sequence[float] | None = None,
    carry: Collection[str] = (),
    subject: str = "USUBJID",
) -> DataSet:
    """Derive analysis visits, the record that counts, baseline, change, and rows carried forward.

    Rows come out by subject and parameter in the order in which they first occur, then by visit and day.

    Parameters
    ----------
    raw
        Records with subject, PARAMCD, AVAL and ADY, or ADT and TRTSDT in place of ADY.
    visits
        Windows in order of time, the first one baseline; study days, no day 0.
    numbers
        AVISITN of each visit; 0, 1, 2, … without it.
    carry
        Parameters whose missing later visits are filled by the last observation (LOCF).
    subject
        Column of the subject identifier.

    Raises
    ------
    ConfigError
        If windows overlap, are not in order, or do not hold their targets.
    DataError
        If AVAL is no number, a record has no day, lies in no window or is derived itself, or a parameter to carry does
        not exist.
    MismatchError
        If a column is missing.

    Examples
    --------
    >>> fields = (Field("USUBJID", Storage.CHAR), Field("PARAMCD", Storage.CHAR), Field("ADY", Storage.NUM),
    ...           Field("AVAL", Storage.NUM))
    >>> frame = pl.DataFrame({"USUBJID": ["1", "1"], "PARAMCD": ["X", "X"], "ADY": [1.0, 50.0], "AVAL": [10.0, 12.0]})
    >>> windows = [Visit("Baseline", 1.0, None, 1.0), Visit("Week 8", 56.0, 2.0, 84.0), Visit("Week 16", 112.0, 85.0)]
    >>> done = derive(DataSet("ADQS", fields, frame), windows, carry=["X"])
    >>> done.frame.select("AVISIT", "ADY", "CHG", "DTYPE").rows()
    [('Baseline', 1.0, None, None), ('Week 8', 50.0, 2.0, None), ('Week 16', 50.0, 2.0, 'LOCF')]
    """
    _check_windows(visits, numbers)
    require_findings(raw, subject)
    require_numbers(raw, "AVAL", subject)
    _refuse_derived(raw)
    with_days = add_study_day(raw, subject)
    _check_carry(with_days, carry)
    frame = _visits(with_days, visits, subject).drop(DERIVED, strict=False)
    keys = [subject, "PARAMCD"]
    measured = _flag(frame.with_columns(pl.lit(None, pl.String).alias("DTYPE")), visits, keys)
    carried = _carry(measured.filter(pl.col("PARAMCD").is_in(list(carry))), visits, keys)
    table = _baseline(pl.concat([measured, carried]), keys)
    table = _windows(table, visits, numbers or [float(index) for index in range(len(visits))])
    fields = tuple(field for field in with_days.fields if field.name not in DERIVED) + _DERIVED
    ordered = _sort(table, keys).select(pl.col(field.name).cast(DTYPES[field.storage]) for field in fields)
    return replace(raw, fields=fields, frame=ordered, source=f"derived from {raw.source or raw.name}", sha256="")


def add_study_day(dataset: DataSet, subject: str = "USUBJID") -> DataSet:
    """Add ADY where it is missing, from ADT and TRTSDT: ADT − TRTSDT, plus one from the first dose on (no day 0).

    Raises
    ------
    DataError
        If a row has no date to count from.
    MismatchError
        If neither ADY nor both dates exist.
    """
    if "ADY" in dataset.frame.columns:
        done = dataset
    else:
        dataset.require("ADT", "TRTSDT", purpose="to count study days, as there is no ADY")
        days = (pl.col("ADT") - pl.col("TRTSDT")).dt.total_days().cast(pl.Float64)
        frame = dataset.frame.with_columns((days + (days >= 0).cast(pl.Float64)).alias("ADY"))
        field = Field("ADY", Storage.NUM, "Analysis Relative Day")
        done = replace(dataset, fields=(*dataset.fields, field), frame=frame)
    blank = done.frame["ADY"].is_null()
    if blank.any():
        raise DataError(
            f"{int(blank.sum())} row(s) of {dataset.name} have no study day",
            where=f"{dataset.source}: {shorten(done.frame[subject].filter(blank).to_list())}",
            do="give ADY, or ADT and TRTSDT, on every row",
        )
    return done


def _check_windows(visits: Sequence[Visit], numbers: Sequence[float] | None) -> None:
    """Refuse windows that overlap, are out of order, or do not hold their targets."""
    if not visits:
        raise ConfigError("no analysis visits are given")
    if numbers is not None and len(numbers) != len(visits):
        raise ConfigError(f"{len(numbers)} visit numbers for {len(visits)} visits")
    names = [visit.name for visit in visits]
    if len(set(names)) < len(names):
        raise ConfigError("analysis visits repeat", exists=names)
    for visit in visits:
        low, high = _limits(visit)
        if not low <= visit.target <= high:
            raise ConfigError(f"the window of {visit.name} ({_range(visit)}) does not hold its target {visit.target:g}")
    for before, after in pairwise(visits):
        if before.high is None or after.low is None or before.high >= after.low:
            raise ConfigError(
                f"the windows of {before.name} ({_range(before)}) and {after.name} ({_range(after)}) overlap",
                do="give them in order of time; only the first may be open below and only the last above",
            )


def _refuse_derived(raw: DataSet) -> None:
    """Refuse rows that were themselves derived: they are no measurements."""
    if "DTYPE" in raw.frame.columns:
        kinds = raw.frame["DTYPE"].drop_nulls()
        if len(kinds):
            raise DataError(
                f"{len(kinds)} row(s) of {raw.name} are derived already (DTYPE)",
                where=raw.source or raw.name,
                exists=kinds.unique(maintain_order=True).to_list(),
                do="leave them out, so that only what was measured is derived from",
            )


def _check_carry(dataset: DataSet, carry: Collection[str]) -> None:
    """Refuse to carry parameters that are not there."""
    known = dataset.frame["PARAMCD"].unique(maintain_order=True).drop_nulls().to_list()
    strange = [name for name in carry if name not in known]
    if strange:
        raise DataError(
            f"no parameter {', '.join(strange)} to carry forward", where=dataset.source or dataset.name, exists=known
        )


def _limits(visit: Visit) -> tuple[float, float]:
    """Return a window's ends as numbers."""
    low = float("-inf") if visit.low is None else visit.low
    return low, float("inf") if visit.high is None else visit.high


def _range(visit: Visit) -> str:
    """Write a window as AWRANGE does, in whole days: "<=1", "2-84", ">140"."""
    if visit.low is None:
        return "all" if visit.high is None else f"<={visit.high:g}"
    return f">{visit.low - 1:g}" if visit.high is None else f"{visit.low:g}-{visit.high:g}"


def _visits(dataset: DataSet, visits: Sequence[Visit], subject: str) -> pl.DataFrame:
    """Give each record the position of its visit, and refuse records that lie in no window."""
    day = pl.col("ADY")
    place = pl.lit(None, pl.Int64)
    for index, visit in enumerate(visits):
        low, high = _limits(visit)
        place = pl.when(day.is_between(low, high)).then(pl.lit(index, pl.Int64)).otherwise(place)
    frame = dataset.frame.with_row_index(_ROW).with_columns(place.alias(_VISIT))
    outside = frame.filter(pl.col(_VISIT).is_null())
    if outside.height:
        shown = [f"{row[0]} day {row[1]:g}" for row in outside.select(subject, "ADY").head(10).rows()]
        raise DataError(
            f"{outside.height} record(s) lie in no analysis window",
            where=f"{dataset.source or dataset.name}: {', '.join(shown)}",
            exists=[f"{visit.name} ({_range(visit)})" for visit in visits],
            do="widen the windows, or leave the records out by name",
        )
    return frame


def _flag(frame: pl.DataFrame, visits: Sequence[Visit], keys: list[str]) -> pl.DataFrame:
    """Flag the record of each visit that counts: one with a value, closest to the target, then the later one."""
    target = pl.col(_VISIT).replace_strict({i: float(visit.target) for i, visit in enumerate(visits)})
    frame = frame.with_columns((pl.col("ADY") - target).abs().alias("AWTDIFF"))
    order = frame.sort(
        pl.col("AVAL").is_null(), "AWTDIFF", pl.col("ADY"), pl.col(_ROW), descending=[False, False, True, True]
    )
    first = order.unique([*keys, _VISIT], keep="first", maintain_order=True)[_ROW]
    flag = pl.when(pl.col(_ROW).is_in(first.to_list())).then(pl.lit("Y"))
    return frame.with_columns(flag.alias("ANL01FL"))


def _carry(measured: pl.DataFrame, visits: Sequence[Visit], keys: list[str]) -> pl.DataFrame:
    """Copy the last record with a value to each later visit that has none."""
    rows = [measured.clear()]
    valued = measured.filter(pl.col("AVAL").is_not_null())
    for index, visit in enumerate(visits[1:], start=1):
        have = valued.filter(pl.col(_VISIT) == index).select(keys)
        last = (
            valued.filter(pl.col("ADY") < _limits(visit)[0])
            .join(have, on=keys, how="anti")
            .sort("ADY", _ROW, maintain_order=True)
            .unique(keys, keep="last", maintain_order=True)
        )
        rows.append(
            last.with_columns(
                pl.lit(index, pl.Int64).alias(_VISIT),
                pl.lit("LOCF").alias("DTYPE"),
                pl.lit("Y").alias("ANL01FL"),
                (pl.col("ADY") - visit.target).abs().alias("AWTDIFF"),
            )
        )
    return pl.concat(rows)


def _baseline(table: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Add baseline, changes, and the baseline flag; a carried value leaves a missing one beside it uncounted."""
    filled = table.filter(pl.col("DTYPE") == "LOCF").select(*keys, _VISIT, pl.lit(value=True).alias("_filled"))
    table = table.join(filled, on=[*keys, _VISIT], how="left", nulls_equal=True)
    counts = pl.col("_filled").is_null() | (pl.col("DTYPE") == "LOCF").fill_null(value=False)
    table = table.with_columns(pl.when(counts).then(pl.col("ANL01FL")).alias("ANL01FL"))
    first = (pl.col(_VISIT) == 0) & (pl.col("ANL01FL") == "Y") & pl.col("DTYPE").is_null()
    base = table.filter(first).select(*keys, pl.col("AVAL").alias("BASE"))
    change = pl.col("AVAL") - pl.col("BASE")
    return (
        table.join(base, on=keys, how="left", nulls_equal=True)
        .with_columns(
            pl.when(first).then(pl.lit("Y")).alias("ABLFL"),
            pl.when(pl.col(_VISIT) > 0).then(change).alias("CHG"),
        )
        .with_columns(pl.when(pl.col("BASE") != 0).then(100 * (pl.col("CHG") / pl.col("BASE"))).alias("PCHG"))
    )


def _windows(table: pl.DataFrame, visits: Sequence[Visit], numbers: Sequence[float]) -> pl.DataFrame:
    """Add the names, numbers and windows of the visits."""
    described = pl.DataFrame(
        {
            _VISIT: list(range(len(visits))),
            "AVISIT": [visit.name for visit in visits],
            "AVISITN": [float(number) for number in numbers],
            "AWRANGE": [_range(visit) for visit in visits],
            "AWTARGET": [float(visit.target) for visit in visits],
            "AWLO": pl.Series([visit.low for visit in visits], dtype=pl.Float64, strict=False),
            "AWHI": pl.Series([visit.high for visit in visits], dtype=pl.Float64, strict=False),
            "AWU": ["DAYS"] * len(visits),
        }
    )
    return table.join(described, on=_VISIT, how="left")


def _sort(table: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Order rows by the first occurrence of subject and of subject and parameter, then by visit and day."""
    by_subject = pl.col(_ROW).min().over(keys[0]).alias("_subject")
    by_parameter = pl.col(_ROW).min().over(keys).alias("_parameter")
    return table.with_columns(by_subject, by_parameter).sort("_subject", "_parameter", _VISIT, "ADY", _ROW)
