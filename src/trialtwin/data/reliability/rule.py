"""What a reliability rule is: a question to the raw tables, and the answer as counts examined and violations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import cached_property

import polars as pl

from trialtwin.core.finding import Figure, Table
from trialtwin.data.cdisc import TrialTables
from trialtwin.data.dataset import DTYPES, DataSet, Storage
from trialtwin.data.layout import Layout, Outcome
from trialtwin.data.reliability.standard import storage_of

VIOLATION = pl.Schema(dict.fromkeys(("subject", "dataset", "variable", "visit", "value", "detail"), pl.String()))
EXAMINED = pl.Schema({"subject": pl.String(), "examined": pl.Int64()})

type Frames = Mapping[str, pl.DataFrame]


class Severity(StrEnum):
    """How much a violation matters.

    ``error``: the records contradict themselves or a definition, and an analysis that used them would be wrong.
    ``warning``: the records may be right, and need a query. ``note``: worth knowing, no fault.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, eq=False)
class Summary:
    """What a descriptive rule shows instead of a list of violations: words, a table, a figure drawn from it."""

    text: str
    table: Table
    figure: Figure | None = None


@dataclass(frozen=True, eq=False)
class Examination:
    """What a rule looked at and what it found.

    Parameters
    ----------
    examined
        Units examined of each subject; the subject ``""`` stands for the data set as a whole.
    violations
        One row a violation: subject, dataset, variable, visit, value, detail.
    skipped
        What could not be examined, and why.
    summary
        For descriptive rules: the table and figure to show.
    """

    examined: pl.DataFrame
    violations: pl.DataFrame
    skipped: tuple[str, ...] = ()
    summary: Summary | None = None


@dataclass(frozen=True)
class Rule:
    """A question to the raw tables.

    Parameters
    ----------
    id
        Such as ``"REL-D01"``.
    title
        A few words.
    severity
        How much a violation matters.
    examines
        What is counted as examined, in the plural.
    check
        The function that answers it.
    states
        What holds in good data, as a sentence; or what is described.
    """

    id: str
    title: str
    severity: Severity
    examines: str
    check: "Callable[[Trial], Examination]"
    states: str


def rule(
    id: str,  # noqa: A002
    severity: Severity,
    *,
    title: str,
    examines: str,
    states: str,
) -> "Callable[[Callable[[Trial], Examination]], Rule]":
    """Make a rule of the function that answers it."""
    return lambda check: Rule(id, title, severity, examines, check, states)


@dataclass(frozen=True, eq=False)
class Trial:
    """The raw tables and the layout, as rules ask for them; ``cutoff`` is the last possible date.

    A variable that is stored otherwise than its name promises is set aside: rules see a data set without it, and the
    rule on storage, which looks at the tables themselves, reports it.
    """

    tables: TrialTables
    layout: Layout
    cutoff: date | None = None

    @property
    def subject(self) -> str:
        """Name of the variable that identifies subjects."""
        return self.layout.subject

    @cached_property
    def subjects(self) -> pl.DataFrame:
        """ADSL."""
        return self._usable(self.tables.subjects)

    @cached_property
    def adsl(self) -> Frames:
        """ADSL by its name."""
        return {self.tables.subjects.name: self.subjects}

    @cached_property
    def findings(self) -> Frames:
        """BDS data sets by the names that the layout knows them by, in capitals."""
        return {name.upper(): self._usable(dataset) for name, dataset in self.tables.findings.items()}

    @cached_property
    def events(self) -> Frames:
        """Adverse events by name; empty where there are none."""
        return {} if self.tables.events is None else {self.tables.events.name: self._usable(self.tables.events)}

    @cached_property
    def times(self) -> Frames:
        """Times to event by name; empty where there are none."""
        return {} if self.tables.times is None else {self.tables.times.name: self._usable(self.tables.times)}

    @property
    def raw(self) -> Frames:
        """Every data set as it was read, nothing set aside."""
        named = {name.upper(): dataset for name, dataset in self.tables.findings.items()}
        others = [self.tables.subjects, self.tables.events, self.tables.times]
        named |= {dataset.name: dataset for dataset in others if dataset is not None}
        return {name: dataset.frame for name, dataset in named.items()}

    @property
    def records(self) -> Frames:
        """Every data set but ADSL."""
        return {**self.findings, **self.events, **self.times}

    @property
    def everything(self) -> Frames:
        """Every data set."""
        return {**self.adsl, **self.records}

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Outcomes that are parameters of a data set that exists, its name in capitals."""
        named = [replace(outcome, dataset=outcome.dataset.upper()) for outcome in self.layout.outcomes]
        return tuple(o for o in named if o.paramcd and o.dataset in self.findings)

    @cached_property
    def arms(self) -> pl.DataFrame:
        """Columns ``subject`` and ``arm`` of the patients in an arm of the layout, one row a patient."""
        if self.layout.arm not in self.subjects.columns:
            return pl.DataFrame(schema={"subject": pl.String(), "arm": pl.String()})
        pairs = self.subjects.select(subject=self.subject, arm=self.layout.arm)
        return pairs.filter(pl.col("arm").is_in(list(self.layout.arms))).unique("subject", maintain_order=True)

    def analysed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return rows that carry the record flag; all of them where the data set has no such flag."""
        flag = self.layout.record_flag
        return frame.filter(pl.col(flag).eq_missing("Y")) if flag in frame.columns else frame

    def storage(self, name: str) -> Storage | None:
        """Tell how a variable should be stored, by its role in the layout or by its name."""
        layout = self.layout
        roles = (layout.subject, layout.arm, layout.site, layout.record_flag)
        return Storage.CHAR if name in roles else storage_of(name)

    def _usable(self, dataset: DataSet) -> pl.DataFrame:
        """Return the frame without the variables that are stored otherwise than they should be."""
        wanted = {name: self.storage(name) for name in dataset.frame.columns}
        odd = [
            name
            for name, storage in wanted.items()
            if storage is not None and dataset.frame.schema[name] != DTYPES[storage]
        ]
        return dataset.frame.drop(odd)


def measured(frame: pl.DataFrame) -> pl.DataFrame:
    """Return rows that were measured: not derived by imputation (DTYPE blank), and with a value."""
    rows = frame.filter(pl.col("AVAL").is_not_null())
    return rows.filter(pl.col("DTYPE").is_null()) if "DTYPE" in rows.columns else rows


def date_of(frame: pl.DataFrame) -> str:
    """Return the name of the column that dates a BDS record: ADT, else ADY, else none (empty)."""
    return next((name for name in ("ADT", "ADY") if name in frame.columns), "")


def judge(
    frame: pl.DataFrame,
    bad: pl.Expr,
    *,
    dataset: str,
    subject: str | None,
    variable: str | pl.Expr,
    detail: str | pl.Expr,
    visit: str | None = None,
    value: pl.Expr | None = None,
) -> Examination:
    """Examine every row of a frame; rows where ``bad`` holds are violations.

    ``subject`` is a column, or ``None`` where rows belong to the data set as a whole. A null in ``bad`` does not
    violate: leave rows that cannot be judged out of the frame, so that they are not counted as examined.

    Examples
    --------
    >>> ages = pl.DataFrame({"USUBJID": ["1", "2"], "AGE": [71.0, 171.0]})
    >>> old = judge(
    ...     ages, pl.col("AGE") > 120, dataset="ADSL", subject="USUBJID", variable="AGE", value=pl.col("AGE"),
    ...     detail="older than anybody",
    ... )
    >>> old.violations.row(0), old.examined["examined"].sum()
    (('2', 'ADSL', 'AGE', None, '171', 'older than anybody'), 2)
    """
    who = pl.lit("") if subject is None else pl.col(subject).fill_null("")
    rows = frame.filter(bad)
    found = rows.select(
        who.alias("subject"),
        pl.lit(dataset).alias("dataset"),
        (pl.lit(variable) if isinstance(variable, str) else variable).alias("variable"),
        (pl.col(visit) if visit and visit in frame.columns else pl.lit(None, pl.String)).alias("visit"),
        (pl.lit(None, pl.String) if value is None else value).alias("value"),
        (pl.lit(detail) if isinstance(detail, str) else detail).alias("detail"),
    )
    found = found.with_columns(_written(found["value"])).match_to_schema(VIOLATION)
    counts = frame.group_by(who.alias("subject"), maintain_order=True).agg(pl.len().cast(pl.Int64).alias("examined"))
    return Examination(counts if len(frame) else pl.DataFrame(schema=EXAMINED), found)


def skip(reason: str) -> Examination:
    """Say that something could not be examined."""
    return Examination(pl.DataFrame(schema=EXAMINED), pl.DataFrame(schema=VIOLATION), (reason,))


def merge(*parts: Examination, summary: Summary | None = None) -> Examination:
    """Add up what was examined and found."""
    if not parts:
        return Examination(pl.DataFrame(schema=EXAMINED), pl.DataFrame(schema=VIOLATION), (), summary)
    counts = pl.concat([part.examined for part in parts])
    return Examination(
        counts.group_by("subject", maintain_order=True).agg(pl.col("examined").sum()),
        pl.concat([part.violations for part in parts]),
        tuple(reason for part in parts for reason in part.skipped),
        summary,
    )


def examine_each(
    frames: Frames,
    needs: tuple[str, ...],
    examine: Callable[[str, pl.DataFrame], Examination],
    *,
    kind: str = "data set",
) -> Examination:
    """Examine each data set that has the variables needed, and say of the others why not."""
    if not frames:
        return skip(f"there is no {kind}")
    parts = []
    for name, frame in frames.items():
        reason = lacks(name, frame, *needs)
        parts.append(skip(reason) if reason else examine(name, frame))
    return merge(*parts)


def lacks(dataset: str, frame: pl.DataFrame, *names: str) -> str:
    """Say which variables a data set lacks; empty if none."""
    absent = [name for name in names if name not in frame.columns]
    return f"{dataset} has no usable {', '.join(absent)}" if absent else ""


def _written(values: pl.Series) -> pl.Series:
    """Write values as a person reads them: four decimals at most, none where there are none."""
    if values.dtype.is_float():
        values = values.round(4).cast(pl.String).str.strip_suffix(".0")
    return values.cast(pl.String)
