"""The study file: what the data are, what is asked of them, and how it is answered, as one page of TOML."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trialtwin.core.estimate import Estimand
from trialtwin.core.variables import Kind

type Name = Annotated[str, Field(min_length=1)]
type Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
# the models of twins/registry.py, which is not imported here: the study file is checked before anything slow is loaded
type TwinModel = Literal[
    "baseline", "boltzmann", "boosting", "gaussian-process", "sequence", "mechanistic", "hybrid", "stack"
]
type Variance = Literal["model", "HC0", "HC1", "HC2", "HC3", "HC4", "Welch"]
type Statistic = Literal["n", "estimate", "se", "df", "statistic", "p", "lower", "upper"]


class Part(BaseModel):
    """A table of the study file: unknown keys are refused, and nothing can be changed once read."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class About(Part):
    """What the study is called, and the seed of everything random."""

    id: Identifier = Field(description="short name, also that of the run's folder")
    title: Name
    description: str = ""
    seed: int = Field(default=1, ge=0, lt=2**31, description="seed of folds, draws and ties")


class Data(Part):
    """Which data sets to read from the folder given on the command line: file names without their suffix."""

    subjects: Name = Field(default="adsl", description="one row a subject (ADSL)")
    findings: tuple[Name, ...] = Field(min_length=1, description="measurements over time (BDS)")
    events: str | None = Field(default=None, description="adverse events (ADAE)")
    times: str | None = Field(default=None, description="times to events (ADTTE)")
    aliases: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="other file names of a data set: adqsadas = ['adadas']"
    )
    mappings: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="per CSV or Parquet file: CDISC variable = column in the file"
    )


class Arms(Part):
    """Treatment arms as they stand in the subject data set."""

    variable: Name = Field(default="TRT01P", description="variable of the subject data set that holds the arm")
    control: Name
    treated: tuple[Name, ...] = Field(min_length=1)
    dose: dict[str, float] = Field(default_factory=dict, description="dose of each arm, for dose-response analyses")
    dose_unit: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Arms in order, the control first."""
        return (self.control, *self.treated)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"arms repeat: {', '.join(self.names)}")
        if self.dose and set(self.dose) != set(self.names):
            raise ValueError(f"dose must be given for each arm: {', '.join(self.names)}")
        return self


class Population(Part):
    """The analysis population: subjects with a value of a flag."""

    name: Name
    variable: str = Field(default="", description="flag in the subject data set; empty for everybody")
    value: str = "Y"


class VisitSpec(Part):
    """An analysis visit, its target day and window in study days (day 1 is the first dose)."""

    name: Name
    target: float
    low: float | None = None
    high: float | None = None


class Measured(Part):
    """What outcomes and covariates have in common."""

    name: Name = Field(description="PARAMCD, or a variable of the subject data set")
    label: str = ""
    unit: str = ""
    lower: float | None = Field(default=None, description="lowest plausible value")
    upper: float | None = Field(default=None, description="highest plausible value")
    concept: str = Field(default="", description="name by which a disease knows it, such as ADAS-Cog11, MMSE, age")


class OutcomeSpec(Measured):
    """An outcome over time, or a baseline measurement that stands in the subject data set (``dataset`` empty)."""

    dataset: str = Field(default="", description="file name of the data set, as in [data] findings")


class CovariateSpec(Measured):
    """A baseline covariate of the subject data set."""

    kind: Kind = Kind.CONTINUOUS
    levels: tuple[str, ...] = Field(default=(), description="categories, the reference first; else as found")
    twin: bool = Field(default=True, description="whether twins may use it")
    missing: Literal["refuse", "mean"] = Field(
        default="refuse", description="in analyses: refuse missing values, or put the mean over all arms there"
    )

    @model_validator(mode="after")
    def _mean_exists(self) -> Self:
        if self.missing == "mean" and self.kind is Kind.CATEGORICAL:
            raise ValueError("a categorical covariate has no mean; give its missing values a category of their own")
        return self


class ScaleSpec(Part):
    """A total score and the maxima of its items."""

    paramcd: Name
    items: dict[str, float] = Field(min_length=1)
    most_missing: float = Field(default=0.3, ge=0, lt=1)


class EndpointSpec(Part):
    """The endpoint of the trial."""

    outcome: Name
    visit: Name
    column: Literal["CHG", "AVAL"] = "CHG"
    better: Literal["lower", "higher"] = "lower"
    primary: Name = Field(description="the pre-specified analysis, with which the others are compared")


class TwinSpec(Part):
    """A twin to fit."""

    name: Identifier
    model: TwinModel
    disease: str | None = Field(default=None, description="for mechanistic, hybrid and stacked twins: alzheimer")

    @model_validator(mode="after")
    def _disease_fits(self) -> Self:
        needs, takes = ("mechanistic", "hybrid"), ("mechanistic", "hybrid", "stack")
        if self.disease is None and self.model in needs:
            raise ValueError(f"give disease to a {self.model} twin")
        if self.disease is not None and self.model not in takes:
            raise ValueError(f"a {self.model} twin learns from data alone: give it no disease")
        return self


class Scoring(Part):
    """How twins are fitted and asked."""

    folds: int = Field(default=10, ge=2, description="folds of cross-fitting")
    draws: int = Field(default=512, ge=32, le=100_000, description="posterior-predictive draws a patient")
    history: str | None = Field(
        default=None,
        description="folder, seen from the study file, with the data sets of an earlier trial to learn from",
    )
    score: str | None = Field(default=None, description="twin whose score shows what it bought; else the first")


class AnalysisSpec(Part):
    """An analysis of the endpoint."""

    id: Identifier
    title: str = ""
    method: Literal["unadjusted", "ancova", "dose_response", "procova"]
    covariates: tuple[str, ...] = ()
    variance: Variance = "model"
    level: float = Field(default=0.95, gt=0, lt=1)
    twin: str | None = Field(default=None, description="for procova: the twin that gives the score")
    interaction: bool = Field(default=False, description="for procova: score × arm")

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if (self.method == "procova") != (self.twin is not None):
            raise ValueError("give twin to a procova analysis, and to no other")
        if self.interaction and self.method != "procova":
            raise ValueError("interaction is an option of procova only")
        if self.variance == "Welch" and self.method != "unadjusted":
            raise ValueError("variance Welch belongs to the unadjusted analysis only")
        return self


class PlanSpec(Part):
    """The next trial, sized with and without the score."""

    effect: float = Field(description="difference to detect, in units of the endpoint")
    power: float = Field(default=0.9, gt=0, lt=1)
    alpha: float = Field(default=0.05, gt=0, lt=1, description="two-sided")
    ratio: float = Field(default=1.0, gt=0, description="treated : control")
    deflation: float = Field(default=0.9, gt=0, le=1, description="caution: correlation is multiplied by this")
    inflation: float = Field(default=1.05, ge=1, description="caution: standard deviation is multiplied by this")

    @field_validator("effect")
    @classmethod
    def _some_effect(cls, value: float) -> float:
        if value == 0:
            raise ValueError("an effect of 0 cannot be detected")
        return value


class ExpectedSpec(Part):
    """A number published elsewhere that the run must reproduce to so many decimals."""

    analysis: str
    contrast: str
    stat: Statistic
    value: float
    decimals: int = Field(ge=0, le=10)
    source: str


class QuotedSpec(Part):
    """Accuracy of a forecast that somebody else reported for the same patients and visit."""

    name: Name
    rmse: float = Field(gt=0)
    correlation: float | None = Field(default=None, ge=-1, le=1)
    source: str


class StudySpec(Part):
    """A study file, read and checked."""

    study: About
    data: Data
    arms: Arms
    population: Population
    visits: tuple[VisitSpec, ...] = Field(min_length=2, description="in order; the first is baseline")
    outcomes: tuple[OutcomeSpec, ...] = Field(min_length=1)
    covariates: tuple[CovariateSpec, ...] = ()
    scales: tuple[ScaleSpec, ...] = ()
    terms: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="allowed values of a variable")
    endpoint: EndpointSpec
    estimand: Estimand
    twins: tuple[TwinSpec, ...] = Field(min_length=1)
    scoring: Scoring = Scoring()
    analyses: tuple[AnalysisSpec, ...] = Field(min_length=1)
    plan: PlanSpec | None = None
    expected: tuple[ExpectedSpec, ...] = ()
    quoted: tuple[QuotedSpec, ...] = ()

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        outcomes = [o.name for o in self.outcomes]
        covariates = [c.name for c in self.covariates]
        baseline = [o.name for o in self.outcomes if not o.dataset]
        twins = [t.name for t in self.twins]
        for what, names in (
            ("visits", [v.name for v in self.visits]),
            ("outcomes and covariates", outcomes + covariates),
            ("twins", twins),
            ("analyses", [a.id for a in self.analyses]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} have names that repeat: {', '.join(twice)}")
        later = [v.name for v in self.visits[1:]]
        _require("endpoint.outcome", self.endpoint.outcome, [o for o in outcomes if o not in baseline])
        _require("endpoint.visit", self.endpoint.visit, later)
        _require("endpoint.primary", self.endpoint.primary, [a.id for a in self.analyses])
        for i, outcome in enumerate(self.outcomes):
            if outcome.dataset:
                _require(f"outcomes[{i}].dataset", outcome.dataset, list(self.data.findings))
        for analysis in self.analyses:
            for name in analysis.covariates:
                _require(f"covariates of analysis {analysis.id!r}", name, ["BASE", *covariates, *baseline])
            if analysis.twin is not None:
                _require(f"twin of analysis {analysis.id!r}", analysis.twin, twins)
            if analysis.method == "dose_response" and not self.arms.dose:
                raise ValueError(f"analysis {analysis.id!r} needs [arms] dose, the dose of each arm")
        if self.scoring.score is not None:
            _require("scoring.score", self.scoring.score, twins)
        for i, expected in enumerate(self.expected):
            _require(f"expected[{i}].analysis", expected.analysis, [a.id for a in self.analyses])
        return self


def _require(key: str, name: str, choices: list[str]) -> None:
    if name not in choices:
        raise ValueError(f"{key} = {name!r} does not exist; there is: {', '.join(choices) or 'none'}")
