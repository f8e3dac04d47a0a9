"""The page that asks what a design will do: design, patients, twins good and bad, truths, methods."""

import tomllib
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, Field, ValidationError, model_validator

from trialtwin.core.errors import ConfigError
from trialtwin.study.load import explain
from trialtwin.study.spec import Identifier
from trialtwin.trials.design import Design, Part
from trialtwin.trials.methods import METHODS
from trialtwin.trials.operating import Cell
from trialtwin.trials.simulate import Truth
from trialtwin.trials.virtual_population import Normal


class PopulationSpec(Part):
    """Untreated patients: mean and SD at each visit, and how visits correlate.

    ``correlation`` is a number, for all pairs of visits alike, or the whole matrix.
    """

    mean: tuple[float, ...] = Field(min_length=2)
    sd: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=2)
    correlation: float | tuple[tuple[float, ...], ...]

    def covariance(self) -> np.ndarray:
        """Return the covariance of the visits."""
        n, sd = len(self.sd), np.array(self.sd)
        given = self.correlation
        matrix = np.full((n, n), given) if isinstance(given, float) else np.array(given)
        if isinstance(given, float):
            np.fill_diagonal(matrix, 1.0)
        return matrix * np.outer(sd, sd)

    @model_validator(mode="after")
    def _square(self) -> Self:
        n = len(self.mean)
        if len(self.sd) != n:
            raise ValueError(f"{n} means and {len(self.sd)} SDs")
        if not isinstance(self.correlation, float):
            matrix = self.correlation
            if len(matrix) != n or any(len(row) != n for row in matrix):
                raise ValueError(f"the correlation of {n} visits must have {n} rows of {n}")
            if any(matrix[i][i] != 1 for i in range(n)):
                raise ValueError("a correlation matrix has 1 on its diagonal")
        return self


class TwinsSpec(Part):
    """Twins to plan with: every combination of quality, drift and scale is simulated.

    ``rho`` is the correlation of score and untreated change; ``drift`` what the score is off by, in the outcome's unit;
    ``scale`` the factor by which its spread differs from the change's.
    """

    rho: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(default=(0.0, 0.3, 0.5, 0.7), min_length=1)
    drift: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    scale: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(1.0,), min_length=1)


class TruthSpec(Part):
    """What is true of the treatment: its effect at the last visit, and how patients differ in it."""

    name: Annotated[str, Field(min_length=1)]
    effects: tuple[float, ...] = Field(min_length=1, description="one a treated arm")
    heterogeneity: Annotated[float, Field(ge=0)] = 0.0
    by_score: float = 0.0


class PowerSpec(Part):
    """A question about a design."""

    id: Identifier
    design: Design
    population: PopulationSpec
    twins: TwinsSpec = TwinsSpec()
    truths: tuple[TruthSpec, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(default=("ancova", "procova"), min_length=1)
    trials: Annotated[int, Field(ge=2, le=1_000_000)] = 2000
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.population.mean) != len(self.design.visits):
            raise ValueError(f"{len(self.population.mean)} means for {len(self.design.visits)} visits of the design")
        for truth in self.truths:
            if len(truth.effects) != len(self.design.arms) - 1:
                treated = len(self.design.arms) - 1
                raise ValueError(f"truth {truth.name!r} has {len(truth.effects)} effects for {treated} treated arms")
        if len({truth.name for truth in self.truths}) != len(self.truths):
            raise ValueError("two truths have one name")
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            raise ValueError(f"no method {unknown[0]!r}; methods are {', '.join(METHODS)}")
        return self

    def cells(self) -> list[tuple[TruthSpec, Normal, Cell]]:
        """Return every truth with every twin."""
        covariance, mean = self.population.covariance(), np.array(self.population.mean)
        found = []
        for truth, rho, drift, scale in product(self.truths, self.twins.rho, self.twins.drift, self.twins.scale):
            people = Normal(mean, covariance, rho=rho, drift=drift, scale=scale)
            name = f"{truth.name}; ρ = {rho:g}, drift {drift:g}, scale {scale:g}"
            what = Truth(truth.name, truth.effects, truth.heterogeneity, truth.by_score)
            found.append((truth, people, Cell(name, self.design, people, what)))
        return found


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
name = "change in ADAS-Cog(11)"
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

[[truths]]
name = "no effect"
effects = [0]

[[truths]]
name = "effect"
effects = [-2.2]
"""
