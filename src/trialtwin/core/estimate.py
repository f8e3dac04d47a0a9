"""A statistic with its error, and the estimand that it estimates (ICH E9(R1)); both go to JSON and back."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from trialtwin import __version__


class Strategy(StrEnum):
    """How an intercurrent event enters the question, in the words of ICH E9(R1)."""

    TREATMENT_POLICY = "treatment policy"
    HYPOTHETICAL = "hypothetical"
    COMPOSITE = "composite variable"
    WHILE_ON_TREATMENT = "while on treatment"
    PRINCIPAL_STRATUM = "principal stratum"


class IntercurrentEvent(BaseModel):
    """An event after the start of treatment that affects what is measured or what it means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: str = Field(description="what happens, such as 'treatment discontinuation'")
    strategy: Strategy
    note: str = Field(default="", description="how the analysis carries the strategy out")


class Estimand(BaseModel):
    """The question of a trial by its five attributes (ICH E9(R1), 2019).

    Examples
    --------
    >>> question = Estimand(
    ...     treatment="active against placebo", population="all randomised", variable="change at week 24",
    ...     summary="difference in means",
    ...     intercurrent_events=[{"event": "treatment discontinuation", "strategy": "treatment policy"}],
    ... )
    >>> Estimand.model_validate_json(question.model_dump_json()) == question
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    treatment: str = Field(description="the conditions that are compared")
    population: str = Field(description="the patients whom the question is about")
    variable: str = Field(description="what is measured of each patient, and when")
    intercurrent_events: tuple[IntercurrentEvent, ...] = Field(description="each with its strategy")
    summary: str = Field(description="population-level summary, such as 'difference in means'")

    def __str__(self) -> str:
        events = "; ".join(f"{e.event}: {e.strategy}" for e in self.intercurrent_events) or "none"
        return f"{self.summary} in {self.variable}, {self.treatment}, {self.population} (intercurrent: {events})"


class Estimate(BaseModel):
    """One estimated quantity with standard error, interval and p-value, and how it was come by.

    Parameters are fields; ``df`` is ``None`` for a normal reference distribution. Values must be finite: an
    analysis that did not converge raises an error and makes no estimate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    contrast: str = Field(description="what is estimated, such as 'High − Placebo'")
    value: FiniteFloat
    se: Annotated[FiniteFloat, Field(ge=0)]
    lower: FiniteFloat
    upper: FiniteFloat
    statistic: FiniteFloat
    p: Annotated[FiniteFloat, Field(ge=0, le=1)]
    df: FiniteFloat | None = None
    n: Annotated[int, Field(ge=1)]
    level: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.95
    method: str
    variance: str = Field(description="variance estimator, such as 'model' or 'HC3'")
    unit: str = ""
    estimand: Estimand | None = None
    software: str = f"trialtwin {__version__}"

    @model_validator(mode="after")
    def _interval_holds_value(self) -> Self:
        if not self.lower <= self.value <= self.upper:
            raise ValueError(f"interval [{self.lower}, {self.upper}] does not hold the estimate {self.value}")
        return self

    def statistics(self) -> dict[str, float]:
        """Return the statistics by their names in an Analysis Results Dataset; those without a value are left out."""
        named = {
            "n": float(self.n),
            "estimate": self.value,
            "se": self.se,
            "df": self.df,
            "statistic": self.statistic,
            "p": self.p,
            "lower": self.lower,
            "upper": self.upper,
        }
        return {name: value for name, value in named.items() if value is not None}
