"""The card of a twin: what it was learned from, what it is for, how good it was on unseen patients, its limits.

Its parts follow the model cards of Mitchell et al. 2019 (doi:10.1145/3287560.3287596).
"""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from trialtwin.core.cohort import Cohort
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.twin import AbstractTwin
from trialtwin.core.variables import Kind, Variable
from trialtwin.twins.registry import Architecture

PURPOSE = (
    "Forecast the course of patients like those it was learned from, from what is known of each. Not for decisions on a"
    " patient's care, and no evidence by itself of what a treatment does."
)


class Measure(BaseModel):
    """How good a twin was, as one number with its interval, its unit, and on how many patients it rests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: FiniteFloat
    lower: FiniteFloat | None = None
    upper: FiniteFloat | None = None
    unit: str = ""
    n: int = Field(ge=1)
    how: str = Field(description="on which patients, known up to when, asked for what")


class Quantity(BaseModel):
    """A quantity of the cohort learned from: how often it was known, and where its values lay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    unit: str = ""
    known: float = Field(ge=0, le=1, description="share of patients (covariates) or of visits (outcomes)")
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    levels: tuple[str, ...] = ()


class Card(BaseModel):
    """What a user must know of a twin before believing it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    architecture: Architecture
    summary: str
    purpose: str = PURPOSE
    patients: int = Field(ge=1)
    visits: int = Field(ge=1)
    horizon: float = Field(ge=0, description="days of the last measurement learned from")
    cohort: str = Field(description="SHA-256 of the cohort learned from")
    seed: int | None = None
    outcomes: tuple[Quantity, ...]
    covariates: tuple[Quantity, ...]
    blocks: tuple[Quantity, ...] = ()
    mechanisms: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    limits: tuple[str, ...]
    assumptions: tuple[Assumption, ...] = ()
    learned: tuple[Learned, ...] = ()

    def markdown(self, sha: str = "") -> str:
        """Return the card as a page that a person reads."""
        lines = [f"# Twin: {self.name}", "", f"{self.summary[:1].upper()}{self.summary[1:]} ({self.architecture}).", ""]
        lines += [f"Twin SHA-256: `{sha}`", ""] if sha else []
        lines += ["## Purpose", "", self.purpose, "", "## Learned from", ""]
        lines += [f"{self.patients} patients, {self.visits} visits, up to day {self.horizon:g}."]
        lines += [f"Cohort SHA-256: `{self.cohort}`." + (f" Seed {self.seed}." if self.seed is not None else ""), ""]
        for title, fields in (("Outcome", self.outcomes), ("Covariate", self.covariates), ("Block", self.blocks)):
            lines += _table_of(title, fields)
        lines += ["## How good it was", "", *_measured(self.measures), "", "## Limits", ""]
        lines += [f"- {limit}" for limit in self.limits] + ["", "## Taken as given", ""]
        for one in self.assumptions:
            mark = " **(provisional)**" if one.provisional else ""
            unit = f" {one.unit}" if one.unit else ""
            lines.append(f"- {one.name}: {one.value}{unit} – {one.source}; confidence {one.confidence}{mark}")
        lines += ["", "## Learned", "", "| Parameter | Value | SD | Prior | Share of prior variance taken away |"]
        lines += ["|---|---:|---:|---:|---:|"]
        for part in self.learned:
            prior = f"{part.prior_mean:.3g} ± {part.prior_sd:.3g}"
            lines.append(f"| {part.name} | {part.value:.4g} | {part.sd:.3g} | {prior} | {part.shrinkage:.2f} |")
        return "\n".join(lines) + "\n"


def make_card(
    twin: AbstractTwin,
    cohort: Cohort,
    *,
    name: str,
    architecture: Architecture,
    summary: str,
    seed: int | None = None,
    measures: Sequence[Measure] = (),
    keeps_patients: bool = False,
    limits: Sequence[str] = (),
) -> Card:
    """Return the card of a twin that was fitted to a cohort; what is known of its limits is told with it.

    Parameters
    ----------
    keeps_patients
        Whether the twin holds data of the patients it was learned from, so that its file is to be kept as they are.
    limits
        Further limits in words, such as what the comparison found.
    """
    seen = cohort.observed.any(axis=2)
    horizon = float(np.max(cohort.times, where=seen, initial=0.0))
    known = _limits(twin, cohort, horizon, keeps_patients=keeps_patients)
    return Card(
        name=name,
        architecture=architecture,
        summary=summary,
        patients=len(cohort),
        visits=int(seen.sum()),
        horizon=horizon,
        cohort=cohort.digest(),
        seed=seed,
        outcomes=tuple(
            _field(variable, cohort.values[seen, k], float(cohort.observed[..., k].mean()))
            for k, variable in enumerate(cohort.outcomes)
        ),
        covariates=tuple(
            _field(variable, column, float(np.isfinite(column).mean()))
            for variable, column in zip(cohort.variables, cohort.covariates.T, strict=True)
        ),
        blocks=tuple(
            Quantity(name=f"{block} ({len(one.features)} features)", known=float(one.present.mean()))
            for block, one in cohort.blocks.items()
        ),
        mechanisms=twin.mechanisms,
        measures=tuple(measures),
        limits=(*known, *limits),
        assumptions=twin.assumptions,
        learned=twin.learned,
    )


def _limits(twin: AbstractTwin, cohort: Cohort, horizon: float, *, keeps_patients: bool) -> list[str]:
    """Return what a twin and its cohort tell of the twin's limits."""
    extent = (
        f"Learned from {len(cohort)} patients followed up to day {horizon:g}: later days, and patients outside the"
        " ranges above, are extrapolation."
    )
    known = [extent]
    if keeps_patients:
        known.append("Holds standardised data of the patients it was learned from: keep the file as you keep theirs.")
    if not twin.mechanisms:
        known.append("Knows no mechanism: it forecasts the course without a new treatment, and no effect of one.")
    uninformed = [one.name for one in twin.learned if not one.informed]
    if uninformed:
        known.append(f"The cohort said little of {len(uninformed)} parameter(s): {', '.join(uninformed[:12])}.")
    provisional = [one.name for one in twin.assumptions if one.provisional]
    if provisional:
        known.append(f"Provisional, to be replaced: {', '.join(provisional)}.")
    return known


def _field(variable: Variable, values: np.ndarray, known: float) -> Quantity:
    """Describe a quantity by ranges that name no single patient: the 5th and 95th percentile."""
    there = values[np.isfinite(values)]
    if variable.kind is Kind.CATEGORICAL:
        levels = tuple(level for i, level in enumerate(variable.levels) if (there == i).any())
        return Quantity(name=variable.name, unit=variable.unit, known=known, levels=levels)
    if len(there) == 0:
        return Quantity(name=variable.name, unit=variable.unit, known=known)
    low, high = np.quantile(there, [0.05, 0.95]).tolist()
    return Quantity(name=variable.name, unit=variable.unit, known=known, low=low, high=high)


def _table_of(title: str, fields: Sequence[Quantity]) -> list[str]:
    if not fields:
        return []
    lines = [f"| {title} | Unit | Known | 5 % to 95 % |", "|---|---|---:|---|"]
    for one in fields:
        span = ", ".join(one.levels) if one.levels else "" if one.low is None else f"{one.low:.4g} to {one.high:.4g}"
        lines.append(f"| {one.name} | {one.unit or '–'} | {one.known:.0%} | {span} |")
    return [*lines, ""]


def _measured(measures: Sequence[Measure]) -> list[str]:
    if not measures:
        return ["Not measured on patients that it had not seen: do not believe it yet."]
    lines = ["| Measure | Value | 95 % interval | n | How |", "|---|---:|---|---:|---|"]
    for one in measures:
        unit = f" {one.unit}" if one.unit else ""
        span = "–" if one.lower is None or one.upper is None else f"{one.lower:.4g} to {one.upper:.4g}"
        lines.append(f"| {one.name} | {one.value:.4g}{unit} | {span} | {one.n} | {one.how} |")
    return lines
