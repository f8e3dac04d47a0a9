"""Every judgement is a finding: a title, a verdict, words, a table, a figure drawn from it, and the evidence."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from trialtwin import __version__

type Cell = bool | int | FiniteFloat | str | None


class Verdict(StrEnum):
    """What a finding says about what was examined."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INFO = "info"


class Column(BaseModel):
    """A column of a table: its name in the data, its heading, its unit, and how many decimals a person reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    label: str = ""
    unit: str = ""
    decimals: int | None = Field(default=None, ge=0, le=10)

    @property
    def heading(self) -> str:
        """Label with its unit."""
        words = self.label or self.name
        return f"{words} ({self.unit})" if self.unit else words


class Table(BaseModel):
    """Rows under named columns; the numbers that a figure beside it is drawn from.

    Examples
    --------
    >>> Table(columns=[Column(name="arm"), Column(name="n")], rows=[["Placebo", 86]]).column("n")
    [86]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @model_validator(mode="after")
    def _rows_fit_columns(self) -> Self:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells under {len(self.columns)} columns")
        return self

    def column(self, name: str) -> list[Cell]:
        """Return one column's cells."""
        names = [column.name for column in self.columns]
        index = names.index(name)
        return [row[index] for row in self.rows]


class Figure(BaseModel):
    """How to draw a finding's table: the kind of figure, which column goes where, and the words around it.

    ``encoding`` maps a role of the figure's kind (``x``, ``y``, ``low``, ``high``, ``panel``, ``group``, …) to a
    column name of the table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["fan", "histogram", "interval", "scatter", "bars", "forest", "survival"]
    encoding: dict[str, str]
    x_label: str
    y_label: str
    reference: FiniteFloat | None = Field(default=None, description="where to draw a reference line")
    log: bool = Field(default=False, description="whether estimates of a forest, all above 0, stand on a log scale")
    alt: str = Field(description="the figure in words, for those who cannot see it")


class Evidence(BaseModel):
    """What a finding rests on: hashes of the data, the seed, and the version of the software."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: dict[str, str] = Field(default_factory=dict)
    seed: int | None = None
    software: str = f"trialtwin {__version__}"


class Finding(BaseModel):
    """A judgement with what it rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    section: str = Field(description="the part of a report in which it is shown")
    title: str
    verdict: Verdict
    text: str
    table: Table | None = None
    figure: Figure | None = None
    evidence: Evidence = Field(default_factory=Evidence)

    @model_validator(mode="after")
    def _figure_reads_table(self) -> Self:
        if self.figure is None:
            return self
        if self.table is None:
            raise ValueError(f"finding {self.id!r} has a figure without the table that it is drawn from")
        missing = set(self.figure.encoding.values()) - {column.name for column in self.table.columns}
        if missing:
            raise ValueError(f"the figure of finding {self.id!r} asks for columns {sorted(missing)}")
        return self


class Assumption(BaseModel):
    """Something that a twin takes as given, with its source; provisional ones are marked wherever they are shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: str
    unit: str = ""
    source: str
    confidence: Literal["high", "medium", "low"]
    provisional: bool = False


class Learned(BaseModel):
    """A parameter that a twin learned from a cohort, with its posterior and prior standard deviations.

    Examples
    --------
    >>> Learned(name="rate", value=0.1, sd=0.14, prior_mean=0.0, prior_sd=0.16).informed
    False
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: FiniteFloat
    sd: FiniteFloat = Field(ge=0)
    prior_mean: FiniteFloat
    prior_sd: FiniteFloat = Field(gt=0)

    @property
    def shrinkage(self) -> float:
        """Share of the prior variance that the data took away: 0 where they said nothing, 1 where they said all."""
        return 1 - (self.sd / self.prior_sd) ** 2

    @property
    def informed(self) -> bool:
        """Whether the data took away at least a quarter of the prior variance."""
        return self.shrinkage >= 0.25
