"""The page that asks what a design will do: design, patients, twins good and bad, truths, methods."""

import tomllib
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.study.load import explain
from trialtwin.study.power.population import CourseSpec, Fitted, FittedSpec, Population, PrognosisSpec
from trialtwin.study.spec import Identifier
from trialtwin.trials.design import Design
from trialtwin.trials.design_parts import Part, Share
from trialtwin.trials.enrol import Truth
from trialtwin.trials.methods import find_method
from trialtwin.trials.operating import Cell


class TwinsSpec(Part):
    """Twins to plan with: every combination of quality, drift and scale is simulated.

    ``rho`` is the correlation of score and untreated change, or prognosis; ``drift`` what the score is off by, in the
    outcome's unit; ``scale`` the factor by which its spread differs from the change's.
    """

    rho: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(default=(0.0, 0.3, 0.5, 0.7), min_length=1)
    drift: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    scale: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(1.0,), min_length=1)


class TruthSpec(Part):
    """What is true of the treatment: its effects, how patients differ in them, and when they act.

    ``effects`` are in the endpoint's unit at the last visit; of a binary endpoint log odds ratios, of a count log rate
    ratios, of a time to an event log hazard ratios, each given prognosis. Rates and hazards may have ``shares`` of the
    effect in pieces that meet at ``cuts`` (days): ``cuts = [84]``, ``shares = [0, 1]`` is an effect that is delayed.
    """

    name: Annotated[str, Field(min_length=1)]
    effects: tuple[float, ...] = Field(min_length=1, description="one a treated arm")
    heterogeneity: Annotated[float, Field(ge=0)] = 0.0
    by_score: float = 0.0
    cuts: tuple[Annotated[float, Field(gt=0)], ...] = ()
    shares: tuple[float, ...] = (1.0,)

    @model_validator(mode="after")
    def _pieces(self) -> Self:
        if len(self.shares) != len(self.cuts) + 1:
            raise ValueError(f"{len(self.shares)} shares for {len(self.cuts)} cuts; give one share more than cuts")
        if list(self.cuts) != sorted(set(self.cuts)):
            raise ValueError(f"cuts must rise: {list(self.cuts)}")
        return self


class Twin(NamedTuple):
    """A twin to plan with."""

    rho: float
    drift: float
    scale: float


class SavingsSpec(Part):
    """How the savings certificate is computed.

    The planned ``power``; ``deflation`` and ``inflation`` multiply the score's correlation and the SD; ``tolerated`` is
    the power that the trial should have even if the score disappoints.
    """

    power: Share = 0.9
    deflation: Annotated[float, Field(ge=0, le=1)] = 0.9
    inflation: Annotated[float, Field(ge=1)] = 1.05
    tolerated: Share = 0.8

    @model_validator(mode="after")
    def _below(self) -> Self:
        if self.tolerated > self.power:
            raise ValueError(f"the tolerated power {self.tolerated:g} is above the planned power {self.power:g}")
        return self


class PowerSpec(Part):
    """A question about a design."""

    id: Identifier
    design: Design
    population: Population
    twins: TwinsSpec = TwinsSpec()
    truths: tuple[TruthSpec, ...] = Field(min_length=1)
    savings: SavingsSpec = SavingsSpec()
    methods: tuple[str, ...] = Field(default=("ancova", "procova"), min_length=1)
    trials: Annotated[int, Field(ge=2, le=1_000_000)] = 2000
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_population(self.design, self.population)
        if self.fitted and self.twins != TwinsSpec():
            raise ValueError("the population has a fitted twin; leave out [twins], which plans with others")
        for truth in self.truths:
            if len(truth.effects) != len(self.design.arms) - 1:
                treated = len(self.design.arms) - 1
                raise ValueError(f"truth {truth.name!r} has {len(truth.effects)} effects for {treated} treated arms")
            if truth.cuts and self.design.endpoint.kind not in ("count", "time to event"):
                raise ValueError(f"truth {truth.name!r}: a {self.design.endpoint.kind} endpoint has no pieces of time")
        if len({truth.name for truth in self.truths}) != len(self.truths):
            raise ValueError("two truths have one name")
        for name in self.methods:
            try:
                find_method(name, self.design.endpoint.kind)
            except MismatchError as error:
                raise ValueError(f"{error.what}; methods that do are {', '.join(error.exists)}") from None
        return self

    @property
    def scenarios(self) -> int:
        """How many truths with twins are simulated."""
        twins = self.twins
        each = 1 if self.fitted else len(twins.rho) * len(twins.drift) * len(twins.scale)
        return len(self.truths) * each

    @property
    def fitted(self) -> FittedSpec | None:
        """Where the page's patients are those of a fitted twin: which."""
        return self.population if isinstance(self.population, FittedSpec) else None

    def cells(self, people: Fitted | None = None) -> list[tuple[TruthSpec, Twin, Cell]]:
        """Return every truth with every twin; with the page's fitted twin, where it has one.

        Raises
        ------
        ConfigError
            If the page has a fitted twin and it was not loaded.
        """
        found = []
        if isinstance(self.population, FittedSpec):
            if people is None:
                raise ConfigError("the twin of the page is not loaded", do="load it with load_fitted")
            for truth in self.truths:
                cell = Cell(f"{truth.name}; {people.name}", self.design, people.forecast, Truth(**dict(truth)))
                found.append((truth, Twin(people.rho, 0.0, 1.0), cell))
            return found
        for truth, rho, drift, scale in product(self.truths, self.twins.rho, self.twins.drift, self.twins.scale):
            planned = self.population.people(rho, drift, scale)
            name = f"{truth.name}; ρ = {rho:g}, drift {drift:g}, scale {scale:g}"
            found.append((truth, Twin(rho, drift, scale), Cell(name, self.design, planned, Truth(**dict(truth)))))
        return found


def _require_population(design: Design, population: CourseSpec | PrognosisSpec | FittedSpec) -> None:
    """Refuse patients that do not go with the endpoint."""
    kind = design.endpoint.kind
    if isinstance(population, FittedSpec):
        if not design.endpoint.measured:
            raise ValueError(f"a twin forecasts values at visits, and a {kind} endpoint is not made of them")
        return
    if isinstance(population, CourseSpec):
        if not design.endpoint.measured:
            wanted = {"binary": "risk", "count": "rate", "time to event": "hazard"}[kind]
            raise ValueError(f"a {kind} endpoint needs a population with {wanted}, not with mean, sd and correlation")
        if len(population.mean) != len(design.visits):
            raise ValueError(f"{len(population.mean)} means for {len(design.visits)} visits of the design")
    elif population.kind != kind:
        raise ValueError(f"the population is that of a {population.kind} endpoint, and the design's is {kind}")


def load_power(path: Path) -> PowerSpec:
    """Read and check the page.

    Raises
    ------
    ConfigError
        If the file is missing, is no TOML, or asks for what does not exist: with every key that is wrong.
    """
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}", where=error.strerror, do="write one with: trialtwin design FILE"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the file is not valid TOML: {error}", where=str(path), do="correct that line") from error
    return check_power(content, where=str(path))


def check_power(content: dict[str, Any], *, where: str) -> PowerSpec:
    """Check the content of the page.

    Raises
    ------
    ConfigError
        Naming every key that is wrong, up to ten.
    """
    model: type[BaseModel] = PowerSpec
    try:
        spec = PowerSpec.model_validate(content)
        if spec.fitted is None:
            spec.cells()
    except ValidationError as error:
        raise ConfigError(
            "the file does not describe a design to simulate:\n" + explain(error, model),
            where=where,
            do="correct these keys; 'trialtwin design FILE' writes one that runs",
        ) from error
    return spec


EXAMPLE = """\
# What will this design do, with a twin that is good, weak or wrong?   trialtwin power FILE
id = "power"
trials = 2000
seed = 1
methods = ["ancova", "procova", "mmrm", "procova mmrm"]

[design]
title = "Active against placebo in early Alzheimer's disease"
patients = 200
visits = [0, 84, 168, 252]                        # days; the last is that of the endpoint
arms = [{name = "Placebo"}, {name = "Active"}]    # share = 2 for two patients to each one of the others
accrual = 20                                      # patients a month

[design.endpoint]
name = "ADAS-Cog(11)"
unit = "points"
better = "lower"

[design.randomisation]
scheme = "permuted block"
block = 4

[design.leaving]
dropout = {Placebo = 0.15, Active = 0.20}         # chance of it by the last visit
dropout_by_state = 0.3                            # log hazard ratio for one SD worse
missed = 0.03

[[design.intercurrent]]                           # one for each event that the estimand has to handle
event = "treatment discontinuation"
does = "stop"                                     # or "rescue" (with effect, onset) or "death"
chance = {Active = 0.10}                          # by the last visit; by_state = 0.3: the worse sooner
strategy = "treatment policy"                     # or "hypothetical", "while on treatment", "composite" (with value)

[population]                                      # untreated patients
mean = [20, 20.8, 21.9, 23]
sd = [6, 6.5, 7, 7.5]
correlation = 0.75

[twins]                                           # every combination is simulated
rho = [0, 0.3, 0.5, 0.7]                          # correlation of the score with the untreated change
drift = [0, 1.5]                                  # what its forecasts are off by, in points

[savings]                                         # patients, controls and months that the twin would save
power = 0.9
deflation = 0.9                                   # of the score's correlation; inflation = 1.05 of the SD

[[truths]]
name = "no effect"
effects = [0]

[[truths]]
name = "effect"
effects = [-2.2]
"""
