"""The page that asks for analyses of a finished trial: data, arms, population, endpoints, methods, hypotheses."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from trialtwin.core.errors import ConfigError
from trialtwin.core.estimate import IntercurrentEvent, Strategy
from trialtwin.stats.multiplicity import ADJUSTMENTS
from trialtwin.study.analyse.methods import METHODS, options_of
from trialtwin.study.load import explain
from trialtwin.study.spec import Identifier, Name, Part

EXAMPLE_FILE = "example.toml"
type Kind = Literal["continuous", "repeated", "binary", "count", "time to event"]
type Level = Annotated[float, Field(gt=0, lt=1)]


class DataSpec(Part):
    """Which data sets to read, by file name without suffix, and how records are chosen."""

    folder: str = Field(default=".", description="relative to the page; --data takes its place")
    records: Name = Field(description="measurements (BDS) or times to events (ADTTE)")
    subjects: str = Field(default="", description="one row a subject (ADSL); without it, the records hold everything")
    join: tuple[Name, ...] = Field(default=(), description="further data sets of one row a subject, such as scores")
    subject: Name = "USUBJID"
    start: Name = Field(default="TRTSDT", description="date of study day 1, where events are given as dates")
    factors: tuple[Name, ...] = Field(default=(), description="numeric columns that are categories")
    missing: Literal["refuse", "mean"] = Field(
        default="refuse", description="missing baseline covariates: an error, or the mean of all arms"
    )
    mappings: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="per CSV or Parquet file: CDISC variable = column in the file"
    )
    na: tuple[str, ...] = Field(default=("",), description="texts that stand for a missing value in CSV")


class ArmsSpec(Part):
    """Treatment arms: the column, its values in order (control first), and names to show."""

    variable: Name = "TRT01P"
    names: tuple[Name, ...] = Field(min_length=2)
    labels: tuple[Name, ...] = Field(default=(), description="shorter names, one an arm")
    contrasts: Literal["control", "all"] = Field(default="control", description="with the control, or every pair")
    dose: tuple[float, ...] = Field(default=(), description="dose of each arm, for dose_response")
    dose_unit: str = ""

    @property
    def shown(self) -> tuple[str, ...]:
        """Names to show."""
        return self.labels or self.names

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, given in (("labels", self.labels), ("dose", self.dose)):
            if given and len(given) != len(self.names):
                raise ValueError(f"{len(given)} {what} for {len(self.names)} arms")
        if len(set(self.names)) < len(self.names) or len(set(self.shown)) < len(self.shown):
            raise ValueError(f"arms repeat: {', '.join(self.shown)}")
        return self


class PopulationSpec(Part):
    """The analysis population: subjects with a value of a flag."""

    name: Name = "all subjects"
    variable: str = Field(default="", description="flag; empty for everybody")
    value: str = "Y"


class RandomisationSpec(Part):
    """How patients were randomised: it decides variances that know of it, and is said in every row."""

    scheme: Literal["simple", "permuted block", "minimisation"] = "simple"
    strata: tuple[Name, ...] = Field(default=(), description="factors that were balanced; none for one stratum")


class EventSpec(IntercurrentEvent):
    """An intercurrent event, its strategy, and where the data say when it happened.

    Without ``date`` the data carry the strategy out already, and ``note`` says how.
    """

    date: str = Field(default="", description="column with its date or study day; records after it are after the event")
    flag: str = Field(default="", description="'Y' for subjects with the event; all with a date if empty")

    @model_validator(mode="after")
    def _said(self) -> Self:
        if not self.date and self.strategy is not Strategy.TREATMENT_POLICY and not self.note:
            raise ValueError(
                f"the strategy {self.strategy.value!r} needs the date of the event, or a note that says how the data"
                " carry it out"
            )
        if self.date and self.strategy in (Strategy.WHILE_ON_TREATMENT, Strategy.PRINCIPAL_STRATUM):
            raise ValueError(
                f"{self.strategy.value!r} cannot be carried out from a date here: mark the records that count, leave"
                " the date out and say so in the note"
            )
        return self


class EndpointSpec(Part):
    """What is analysed: parameter, visits, column, and the intercurrent events of its estimand."""

    id: Identifier
    kind: Kind
    parameter: Name = Field(description="PARAMCD")
    records: str = Field(default="", description="data set, if another than [data] records")
    label: str = Field(default="", description="in words, for tables and the estimand")
    unit: str = ""
    column: str = Field(default="", description="analysed: CHG if continuous or repeated, else AVAL")
    visits: tuple[Name, ...] = Field(default=(), description="AVISIT, in order; one unless repeated")
    record_flag: str | None = Field(
        default=None, description="records with 'Y' count, empty for all; ANL01FL, or empty for a time to an event"
    )
    derived: bool = Field(default=False, description="whether records with a DTYPE, such as LOCF, count")
    day: str = Field(default="ADY", description="study day, to check the order of visits; empty for no check")
    response: str = Field(default="", description="binary: the value that is a response; 1 if empty")
    at_least: float | None = Field(default=None, description="binary: a response from this value on")
    at_most: float | None = Field(default=None, description="binary: a response up to this value")
    missing: Literal["leave out", "no response"] = Field(default="leave out", description="binary: without a record")
    exposure: str = Field(default="", description="count: column with the time at risk")
    score: str = Field(default="", description="column with the prognostic score, by subject or by record")
    better: Literal["lower", "higher"] | None = None
    events: tuple[EventSpec, ...] = ()

    @property
    def words(self) -> str:
        """What it is called."""
        return self.label or f"{self.column_name} of {self.parameter}"

    @property
    def flag_name(self) -> str:
        """The record flag, empty where all records count."""
        if self.record_flag is None:
            return "" if self.kind == "time to event" else "ANL01FL"
        return self.record_flag

    @property
    def column_name(self) -> str:
        """The column that is analysed."""
        return self.column or ("CHG" if self.kind in ("continuous", "repeated") else "AVAL")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        n = len(self.visits)
        if len(set(self.visits)) < n:
            raise ValueError(f"visits repeat: {', '.join(self.visits)}")
        if self.kind == "repeated" and n < 2:
            raise ValueError("a repeated endpoint needs two visits or more, in order")
        if self.kind in ("continuous", "binary", "count") and n > 1:
            raise ValueError(f"a {self.kind} endpoint is of one visit; with {n}, its kind is 'repeated'")
        if self.kind == "time to event" and n:
            raise ValueError("a time to an event has no visits")
        _only(self, "binary", "response", "at_least", "at_most")
        _only(self, "count", "exposure")
        if self.missing != "leave out" and self.kind != "binary":
            raise ValueError("only a binary endpoint counts a missing record as no response")
        if sum((bool(self.response), self.at_least is not None, self.at_most is not None)) > 1:
            raise ValueError("say what a response is once: response, at_least or at_most")
        if self.score and self.kind not in ("continuous", "repeated"):
            raise ValueError(f"a {self.kind} endpoint takes the prognostic score as a covariate: name it there")
        for event in self.events:
            if event.date and event.strategy is Strategy.COMPOSITE and self.kind != "binary":
                raise ValueError("a composite from a date is for binary endpoints: there it counts as no response")
            if event.date and self.kind in ("count", "time to event"):
                raise ValueError(f"a {self.kind} endpoint carries its strategies out in the data: say how in the note")
        return self


def _only(endpoint: EndpointSpec, kind: str, *keys: str) -> None:
    given = [key for key in keys if getattr(endpoint, key) not in ("", None)]
    if given and endpoint.kind != kind:
        raise ValueError(f"{given[0]} is for {kind} endpoints, and this one is {endpoint.kind}")


class AnalysisSpec(Part):
    """One analysis: an endpoint, a method that its kind admits, and the options that the method takes."""

    id: Identifier
    title: str = ""
    endpoint: Name
    method: Name
    primary: bool = False
    level: Level | None = Field(default=None, description="of the intervals; the page's if not given")
    covariates: tuple[Name, ...] | None = None
    by_visit: tuple[Name, ...] | None = Field(default=None, description="covariates whose effect differs by visit")
    strata: tuple[Name, ...] | None = None
    one_arm_strata: Literal["refuse", "leave out"] | None = None
    variance: str | None = None
    df: str | None = None
    covariance: str | None = None
    by_arm: bool | None = Field(default=None, description="covariance parameters of its own for each arm")
    likelihood: Literal["REML", "ML"] | None = None
    margins: Literal["equal", "observed"] | None = None
    interaction: bool | None = Field(default=None, description="score × arm")
    interact_covariates: bool | None = None
    working: str | None = Field(default=None, description="working model")
    interact: bool | None = Field(default=None, description="covariates × arm in the working model")
    measures: tuple[str, ...] | None = None
    weights: Literal["CMH", "size"] | None = None
    corrected: bool | None = None
    kind: str | None = Field(default=None, description="statistic of CMH")
    at: tuple[float, ...] | None = Field(default=None, description="times at which survival is compared")
    scale: Literal["log-log", "log", "plain"] | None = None
    rho: float | None = None
    gamma: float | None = None
    weightings: tuple[tuple[float, float], ...] | None = None
    ties: Literal["Efron", "Breslow", "exact"] | None = None
    horizon: float | None = None
    strategies: dict[str, str] | None = Field(default=None, description="imputation after each intercurrent event")
    inference: Literal["jackknife", "bootstrap", "Rubin"] | None = Field(default=None, description="after imputation")
    draws: Annotated[int, Field(ge=2, le=10_000)] | None = Field(default=None, description="samples or imputations")
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    delta: dict[str, float] | None = Field(default=None, description="shift of imputed values, by arm")

    def options(self) -> dict[str, Any]:
        """Return the options that were given."""
        own = ("id", "title", "endpoint", "method", "primary")
        given = {name: getattr(self, name) for name in type(self).model_fields if name not in own}
        return {name: value for name, value in given.items() if value is not None}


class HypothesisSpec(Part):
    """A null hypothesis: no effect in one contrast of one analysis."""

    name: Name
    analysis: Name
    contrast: str = Field(default="", description="such as 'High − Placebo'; needed where there are several")
    visit: str = ""
    weight: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, description="share of α, for 'graph'")


class MultiplicitySpec(Part):
    """How many hypotheses are tested together, and by what procedure."""

    method: str = Field(description=f"{', '.join(ADJUSTMENTS)}, fixed sequence, or graph")
    alpha: Level = 0.05
    hypotheses: tuple[HypothesisSpec, ...] = Field(min_length=1)
    transitions: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="graph: share of α that goes from a rejected hypothesis to another"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = (*ADJUSTMENTS, "fixed sequence", "graph")
        if self.method not in known:
            raise ValueError(f"no procedure {self.method!r}; procedures are {', '.join(known)}")
        names = [h.name for h in self.hypotheses]
        if len(set(names)) < len(names):
            raise ValueError(f"hypotheses repeat: {', '.join(names)}")
        if (self.method == "graph") != all(h.weight is not None for h in self.hypotheses):
            raise ValueError("each hypothesis of a graph has a weight, and of no other procedure")
        stray = {*self.transitions, *(to for row in self.transitions.values() for to in row)} - set(names)
        if stray:
            raise ValueError(f"transitions name {sorted(stray)[0]!r}; hypotheses are {', '.join(names)}")
        return self


class AnalyseSpec(Part):
    """Analyses of a finished trial."""

    id: Identifier
    title: Name
    level: Level = 0.95
    data: DataSpec
    arms: ArmsSpec
    population: PopulationSpec = PopulationSpec()
    randomisation: RandomisationSpec = RandomisationSpec()
    endpoints: tuple[EndpointSpec, ...] = Field(min_length=1)
    analyses: tuple[AnalysisSpec, ...] = Field(min_length=1)
    multiplicity: MultiplicitySpec | None = None

    def endpoint(self, name: str) -> EndpointSpec:
        """Return an endpoint by name."""
        return next(one for one in self.endpoints if one.id == name)

    @property
    def primary(self) -> AnalysisSpec:
        """The analysis that was declared primary."""
        return next(one for one in self.analyses if one.primary)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for what, names in (
            ("endpoints", [e.id for e in self.endpoints]),
            ("analyses", [a.id for a in self.analyses]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"{what} repeat: {', '.join(names)}")
        primary = [one.id for one in self.analyses if one.primary]
        if len(primary) != 1:
            raise ValueError(f"one analysis is the primary one (primary = true), and {len(primary)} are declared")
        for analysis in self.analyses:
            _require_method(self, analysis)
        for hypothesis in self.multiplicity.hypotheses if self.multiplicity else ():
            known = [one.id for one in self.analyses]
            if hypothesis.analysis not in known:
                raise ValueError(
                    f"hypothesis {hypothesis.name!r} is of analysis {hypothesis.analysis!r}; analyses are"
                    f" {', '.join(known)}"
                )
        return self


def _require_method(spec: AnalyseSpec, analysis: AnalysisSpec) -> None:
    known = [one.id for one in spec.endpoints]
    if analysis.endpoint not in known:
        raise ValueError(f"analysis {analysis.id!r} is of {analysis.endpoint!r}; endpoints are {', '.join(known)}")
    kind = spec.endpoint(analysis.endpoint).kind
    if analysis.method not in METHODS[kind]:
        raise ValueError(
            f"analysis {analysis.id!r}: a {kind} endpoint does not admit the method {analysis.method!r};"
            f" it admits {', '.join(METHODS[kind])}"
        )
    known_options = options_of(METHODS[kind][analysis.method])
    stray = [name for name in analysis.options() if name not in known_options]
    if stray:
        raise ValueError(
            f"analysis {analysis.id!r}: the method {analysis.method!r} takes no {stray[0]!r}; it takes"
            f" {', '.join(known_options)}"
        )
    if analysis.method == "rmst" and analysis.horizon is None:
        raise ValueError(f"analysis {analysis.id!r}: restricted means need a horizon")
    if analysis.method.startswith("procova") and not spec.endpoint(analysis.endpoint).score:
        raise ValueError(f"analysis {analysis.id!r}: endpoint {analysis.endpoint!r} has no score: name its column")


def load_analyse(path: Path) -> AnalyseSpec:
    """Read and check the page.

    Raises
    ------
    ConfigError
        If the file is missing, is no TOML, or asks for what does not exist: with every key that is wrong.
    """
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", where=getattr(error, "strerror", None) or str(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the file is not valid TOML: {error}", where=str(path), do="correct that line") from error
    return check_analyse(content, where=str(path))


def check_analyse(content: dict[str, Any], *, where: str) -> AnalyseSpec:
    """Check the content of the page.

    Raises
    ------
    ConfigError
        Naming every key that is wrong, up to ten.
    """
    try:
        return AnalyseSpec.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            "the file does not describe analyses of a trial:\n" + explain(error, AnalyseSpec),
            where=where,
            do="correct these keys; 'trialtwin analyse FILE' on a new name writes one that runs",
        ) from error


def example_page() -> str:
    """Return the page that analyses the example trial, with its comments."""
    return files("trialtwin.study.analyse").joinpath(EXAMPLE_FILE).read_text(encoding="utf-8")
