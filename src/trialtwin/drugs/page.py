"""What a drug's file may say, as a schema: one page of TOML with source and confidence beside every number."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from trialtwin.drugs.number import (
    Binding,
    Clearance,
    Driver,
    Fact,
    Hill,
    Molar,
    MolarMass,
    Number,
    Plain,
    Positive,
    Rate,
    Share,
    Size,
    Span,
    Volume,
)

type Route = Literal["IV", "SC", "PO", "TD", "IM"]
type Way = Literal["multiply", "add"]


class Part(BaseModel):
    """A table of the file; keys that it does not know are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def numbers(self) -> Iterator[tuple[str, Number]]:
        """Yield the numbers of this table with their keys."""
        for key in type(self).model_fields:
            value = getattr(self, key)
            if isinstance(value, Number):
                yield key, value


class Covariate(Fact):
    """How a covariate x changes a parameter, as a factor.

    ``power`` (x/centre)^b, ``exponential`` e^(b (x − centre)), ``level`` b^(x − centre), where x is 1 for the level.
    """

    of: str = Field(description="the parameter")
    concept: str = Field(description="the covariate, such as weight, age, sex or APOE4")
    form: Literal["power", "exponential", "level"]
    value: FiniteFloat
    centre: FiniteFloat = Field(default=0.0, description="where its factor is 1")
    missing: FiniteFloat | None = Field(default=None, description="what a missing value enters as; else the centre")
    level: str = Field(default="", description="the level that enters as 1, such as F for sex")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.form == "level" and not (self.level and self.value > 0):
            raise ValueError("a level needs its name in 'level', and a factor above zero")
        if self.form == "power" and self.centre <= 0:
            raise ValueError("a power needs a centre above zero")
        if self.form != "level" and self.level:
            raise ValueError(f"'level' has no place in form {self.form!r}")
        return self


class Correlation(Fact):
    """Correlation of the random effects of two parameters."""

    of: tuple[str, str]
    value: float = Field(ge=-1, le=1)


class Varying(Part):
    """A table with parameters that vary between patients."""

    covariate: tuple[Covariate, ...] = ()
    correlation: tuple[Correlation, ...] = ()

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        known = [key for key, _ in self.numbers()]
        named = [c.of for c in self.covariate] + [name for c in self.correlation for name in c.of]
        for name in named:
            if name not in known:
                raise ValueError(f"no parameter {name!r} here; there are: {', '.join(known)}")
        return self


class OneCompartment(Varying):
    """One compartment; with a depot for SC, PO and TD."""

    model: Literal["one-compartment"]
    CL: Clearance
    V: Volume
    ka: Rate | None = None
    F: Share | None = None


class TwoCompartment(Varying):
    """Two compartments; with a depot for SC, PO and TD."""

    model: Literal["two-compartment"]
    CL: Clearance
    V1: Volume
    Q: Clearance
    V2: Volume
    ka: Rate | None = None
    F: Share | None = None


class DoseRate(Varying):
    """No concentrations are known: the driver is the dose per day, smoothed with the drug's half-life."""

    model: Literal["dose-rate"]
    half_life: Span


class FullTarget(Varying):
    """A target that binds the drug, with rates of binding."""

    model: Literal["full"]
    site: Literal["blood", "site"] = "blood"
    molar_mass: MolarMass
    R0: Molar
    kdeg: Rate
    kint: Rate
    kon: Binding
    koff: Rate
    q_in: Clearance | None = None
    q_out: Clearance | None = None
    V_site: Volume | None = None

    @model_validator(mode="after")
    def _site_has_flows(self) -> Self:
        _require_flows(self)
        return self


class QuasiTarget(Varying):
    """A target that binds the drug in quasi-steady state."""

    model: Literal["quasi-steady-state"]
    site: Literal["blood", "site"] = "blood"
    molar_mass: MolarMass
    R0: Molar
    kdeg: Rate
    kint: Rate
    Kss: Molar
    q_in: Clearance | None = None
    q_out: Clearance | None = None
    V_site: Volume | None = None

    @model_validator(mode="after")
    def _site_has_flows(self) -> Self:
        _require_flows(self)
        return self


def _require_flows(target: FullTarget | QuasiTarget) -> None:
    given = [name for name in ("q_in", "q_out", "V_site") if getattr(target, name) is not None]
    if len(given) != (3 if target.site == "site" else 0):
        raise ValueError("q_in, q_out and V_site belong to site = 'site', all three, and to it only")


class Acting(Varying):
    """What all effects say: the mechanism, the disease model that it is for, direction, driver and delay."""

    mechanism: str
    disease: str = Field(default="", description="disease model; else the drug's own")
    way: Way | None = Field(default=None, description="only for a disease that trialtwin does not know")
    direction: Literal["raises", "lowers"]
    driver: Literal["concentration", "site", "occupancy", "suppression"] = "concentration"
    onset: Span | None = Field(default=None, description="half-life of the delay")
    indirect: Literal["stimulate production", "inhibit production", "stimulate loss", "inhibit loss"] | None = None
    kout: Rate | None = None

    @model_validator(mode="after")
    def _turnover_has_a_rate(self) -> Self:
        if (self.indirect is None) != (self.kout is None):
            raise ValueError("'indirect' and 'kout' go together")
        return self


class LinearEffect(Acting):
    """E = slope · C."""

    model: Literal["linear"]
    slope: Size


class PowerEffect(Acting):
    """E = slope · C^h."""

    model: Literal["power"]
    slope: Size
    h: Hill


class EmaxEffect(Acting):
    """E = emax · C/(ec50 + C)."""

    model: Literal["emax"]
    emax: Size
    ec50: Driver


class SigmoidEffect(Acting):
    """E = emax · C^h/(ec50^h + C^h)."""

    model: Literal["sigmoid"]
    emax: Size
    ec50: Driver
    h: Hill


class ThresholdEffect(Acting):
    """E = emax · σ(ln(C/ec50)/width): nothing below a concentration, everything above it."""

    model: Literal["threshold"]
    emax: Size
    ec50: Driver
    width: Positive


class Scale(Part):
    """The scale in whose points a symptomatic effect is given: upper · σ(intercept + slope z), around z = ``at``."""

    name: str
    upper: Positive
    intercept: Plain
    slope: Positive
    at: Plain


class SymptomaticEffect(Acting):
    """A shift of symptoms, in points of a scale at a reference exposure.

    E = points · (1 + half) u/(half + u), with u = C/reference.
    """

    model: Literal["symptomatic"]
    points: Size
    reference: Driver
    half: Positive
    scale: Scale


class AmyloidStop(Part):
    """A rule that ends treatment when a state is low at a scan: at the first dose at or after its week."""

    state: str = Field(description="the disease's state that the scan reads")
    scans: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1, description="weeks")
    below: Number = Field(description="one scan below it ends treatment")
    twice_below: Number = Field(description="two scans in a row below it end treatment")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if list(self.scans) != sorted(set(self.scans)):
            raise ValueError("scans must be weeks in increasing order")
        if not self.below.value <= self.twice_below.value:
            raise ValueError("'below' must not exceed 'twice_below'")
        return self


class LogitHazard(Part):
    """Probability over a trial on a logit: intercept + slope · exposure + het + hom, and the same without the drug.

    ``early`` is the share of the drug's excess that comes within ``early_by``; it saturates exponentially.
    """

    event: str
    model: Literal["logit"]
    intercept: Plain
    het: Plain | None = None
    hom: Plain | None = None
    slope: Size | None = Field(default=None, description="per µg/mL of Cmax at steady state")
    placebo: Plain
    placebo_het: Plain | None = None
    placebo_hom: Plain | None = None
    follow_up: Span
    early: Share
    early_by: Span
    resolution: Span | None = Field(default=None, description="median time to resolution")

    @model_validator(mode="after")
    def _early_is_early(self) -> Self:
        if self.early_by.internal("time") >= self.follow_up.internal("time") or self.early.value >= 1:
            raise ValueError("'early_by' must come before 'follow_up', and 'early' be below 1")
        return self


class RateHazard(Part):
    """A constant hazard: the placebo rate plus excess · exposure/reference."""

    event: str
    model: Literal["rate"]
    placebo: Rate
    excess: Rate
    reference: Driver | None = None
    resolution: Span | None = None


type Disposition = Annotated[OneCompartment | TwoCompartment | DoseRate, Field(discriminator="model")]
type Target = Annotated[FullTarget | QuasiTarget, Field(discriminator="model")]
type AnyEffect = Annotated[
    LinearEffect | PowerEffect | EmaxEffect | SigmoidEffect | ThresholdEffect | SymptomaticEffect,
    Field(discriminator="model"),
]
type AnyHazard = Annotated[LogitHazard | RateHazard, Field(discriminator="model")]


class Page(Part):
    """A drug file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    label: str
    kind: str = Field(description="class of drug, in words")
    disease: str = "alzheimer"
    route: Route
    unit: Literal["mg", "U"] = "mg"
    regimen: str = Field(description="the usual prescription")
    detail: Literal["full", "averaged"] = Field(default="full", description="how daily doses are followed by default")
    notes: tuple[str, ...] = Field(default=(), description="weaknesses that a reader must know")
    sources: dict[str, str]
    pk: Disposition
    target: Target | None = None
    effect: tuple[AnyEffect, ...] = Field(min_length=1)
    hazard: tuple[AnyHazard, ...] = ()
    stop: AmyloidStop | None = None

    def facts(self) -> Iterator[tuple[tuple[str | int, ...], str, Fact]]:
        """Yield everything that has a source: its place in the file, a name for a reader, and itself."""
        tables: list[tuple[tuple[str | int, ...], str, Part]] = [(("pk",), "", self.pk)]
        if self.target is not None:
            tables.append((("target",), "target ", self.target))
        for i, effect in enumerate(self.effect):
            of_disease = f" ({effect.disease})" if effect.disease not in ("", self.disease) else ""
            tables.append((("effect", i), f"{effect.mechanism}{of_disease} ", effect))
            if isinstance(effect, SymptomaticEffect):
                tables.append((("effect", i, "scale"), f"{effect.mechanism} scale ", effect.scale))
        tables += [(("hazard", i), f"{hazard.event} ", hazard) for i, hazard in enumerate(self.hazard)]
        if self.stop is not None:
            tables.append((("stop",), "stop ", self.stop))
        for place, words, table in tables:
            for key, number in table.numbers():
                yield (*place, key), f"{words}{key}", number
            if isinstance(table, Varying):
                for j, covariate in enumerate(table.covariate):
                    name = f"{words}{covariate.of} by {covariate.level or covariate.concept}"
                    yield (*place, "covariate", j), name, covariate
                for j, pair in enumerate(table.correlation):
                    yield (*place, "correlation", j), f"{words}correlation {pair.of[0]}–{pair.of[1]}", pair
