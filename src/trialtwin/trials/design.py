"""What a randomised trial will be: arms, size, randomisation, visits, endpoint, estimand, and who is expected to leave.

A design is a page of TOML, checked before anything is simulated::

    title = "Active against placebo"
    patients = 200
    visits = [0, 84, 168]          # days; the last is that of the endpoint
    arms = [{name = "Placebo"}, {name = "Active", share = 1}]

    [endpoint]
    name = "ADAS-Cog(11) change"
    unit = "points"
    better = "lower"

    [randomisation]
    scheme = "permuted block"
    block = 4
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trialtwin.core.errors import ConfigError
from trialtwin.core.estimate import Estimand, IntercurrentEvent, Strategy
from trialtwin.trials.randomise import PermutedBlock, Simple

type Name = Annotated[str, Field(min_length=1)]
type Share = Annotated[float, Field(gt=0, lt=1)]
type Chance = Annotated[float, Field(ge=0, lt=1)]


class Part(BaseModel):
    """A table of a design: unknown keys are refused, and nothing can be changed once read."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ArmDesign(Part):
    """An arm and how many patients it gets for each one of the others' shares."""

    name: Name
    share: Annotated[int, Field(ge=1, le=20)] = 1


class EndpointDesign(Part):
    """What is compared between arms.

    "continuous": the change from baseline at the last visit, by the difference in means. "responder": a change beyond
    ``threshold``; "binary": a response at the last visit; both by the risk difference. "count": events up to the last
    visit, by the log rate ratio. "time to event": the first event, by the log hazard ratio, at the last visit of the
    last patient or as soon as ``events`` have happened.
    """

    name: Name
    unit: str = ""
    better: Literal["lower", "higher"] = "higher"
    kind: Literal["continuous", "responder", "binary", "count", "time to event"] = "continuous"
    threshold: float | None = Field(default=None, description="of a responder: the least change that counts")
    events: Annotated[int, Field(ge=4)] | None = Field(default=None, description="at which times are analysed")
    paramcd: Annotated[str, Field(pattern="^[A-Z][A-Z0-9]{0,7}$")] = Field(
        default="ENDPOINT", description="parameter code in ADaM data sets"
    )

    @property
    def measured(self) -> bool:
        """Whether it is made of values that are measured at visits."""
        return self.kind in ("continuous", "responder")

    @property
    def summary(self) -> str:
        """The population-level summary, on the scale of estimates."""
        return {
            "continuous": "difference in means",
            "responder": "risk difference",
            "binary": "risk difference",
            "count": "log rate ratio",
            "time to event": "log hazard ratio",
        }[self.kind]

    def variable(self, last: float) -> str:
        """Return what is measured of each patient, and when, in words."""
        if self.kind == "time to event":
            return f"time to {self.name}"
        threshold = "" if self.threshold is None else f" of {self.threshold:g} {self.unit}".rstrip() + " or better"
        return f"{self.name}{threshold} {'up to' if self.kind == 'count' else 'at'} day {last:g}"

    @model_validator(mode="after")
    def _whole(self) -> "EndpointDesign":
        if (self.kind == "responder") != (self.threshold is not None):
            raise ValueError(
                "a responder needs the threshold of a change that counts"
                if self.threshold is None
                else f"a {self.kind} endpoint has no threshold; leave it out, or use 'responder'"
            )
        if self.events is not None and self.kind != "time to event":
            raise ValueError(f"a {self.kind} endpoint is not analysed at a number of events; leave events out")
        return self


class Strata(Part):
    """Strata of randomisation: patients by baseline value or by score, cut at these values.

    A patient below the first cut is in stratum 0, one at or above the last in the last.
    """

    of: Literal["baseline", "score"] = "baseline"
    cuts: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _rising(self) -> "Strata":
        if list(self.cuts) != sorted(set(self.cuts)):
            raise ValueError(f"cuts must rise: {list(self.cuts)}")
        return self

    def words(self, stratum: int) -> str:
        """Return a stratum in words."""
        low = "" if stratum == 0 else f"{self.cuts[stratum - 1]:g} <= "
        high = "" if stratum == len(self.cuts) else f" < {self.cuts[stratum]:g}"
        return f"{low}{self.of}{high}"


class Randomisation(Part):
    """How patients are put into arms."""

    scheme: Literal["simple", "permuted block"] = "permuted block"
    block: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="patients in a block; a round of shares"
    )
    strata: Strata | None = Field(default=None, description="blocks within each; none if not given")


class Leaving(Part):
    """Who is expected to leave the trial, or to miss a visit.

    ``dropout`` is the chance of it by the last visit, of a patient of average course, by arm; ``dropout_by_state`` the
    log hazard ratio of leaving for one SD of worse last value, which makes the missing values at random given what was
    seen; ``missed`` the chance that a visit is missed for no reason.
    """

    dropout: dict[str, Chance] = Field(default_factory=dict)
    dropout_by_state: Annotated[float, Field(ge=-3, le=3)] = 0.0
    missed: Chance = 0.0


class Intercurrent(Part):
    """An intercurrent event, what it does to the course, and the strategy that the estimand has for it.

    Parameters
    ----------
    event
        Its name.
    does
        "stop": treatment ends and its effect wears off; "rescue": other medication adds an effect, in either arm;
        "death": nothing is measured any more.
    chance
        Of having it by the last visit, of a patient of average course, by arm.
    by_state
        Log hazard ratio for one SD of worse value at the visit before.
    strategy
        As in ICH E9(R1).
    value
        What a composite strategy assigns: a change from baseline, or a response of 0 or 1; none for a time to an event,
        where the intercurrent event counts as the event.
    effect, onset
        What rescue adds to the value, the log odds, the log rate or the log hazard, and after how many days all of it.
    """

    event: Name
    does: Literal["stop", "rescue", "death"]
    chance: dict[str, Chance] = Field(min_length=1)
    by_state: Annotated[float, Field(ge=-3, le=3)] = 0.0
    strategy: Literal["treatment policy", "hypothetical", "composite", "while on treatment", "principal stratum"]
    value: float | None = None
    effect: float = 0.0
    onset: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _possible(self) -> "Intercurrent":
        if self.strategy == "principal stratum":
            raise ValueError(
                "a principal stratum (patients who would have the event under either arm) is not seen in a trial, and"
                " no method here estimates an effect in it; ask for another strategy"
            )
        if self.does == "death" and self.strategy == "treatment policy":
            raise ValueError("there are no values after death for a treatment policy to use; use 'composite'")
        if self.value is not None and self.strategy != "composite":
            raise ValueError(f"{self.strategy} assigns no value; leave value out, or use 'composite'")
        if self.does == "rescue" and self.effect == 0:
            raise ValueError("rescue that adds no effect; give effect, in the endpoint's unit")
        if self.does != "rescue" and (self.effect or self.onset):
            raise ValueError(f"effect and onset are for rescue, and this event is a {self.does}")
        return self


class Design(Part):
    """A randomised trial with one endpoint.

    The first arm is the control. Each intercurrent event is handled by the strategy that it comes with.

    Raises
    ------
    ValidationError
        From pydantic, where the file does not describe a trial; ``load_design`` turns it into a ``ConfigError``.

    Examples
    --------
    >>> trial = Design(
    ...     title="B against A", patients=120, visits=(0.0, 84.0, 168.0), arms=({"name": "A"}, {"name": "B"}),
    ...     endpoint={"name": "change", "unit": "points"},
    ... )
    >>> trial.sizes()
    (60, 60)
    """

    title: Name
    patients: Annotated[int, Field(ge=8, le=100_000)]
    visits: tuple[float, ...] = Field(min_length=2, description="days; 0 is baseline, the last that of the endpoint")
    arms: tuple[ArmDesign, ...] = Field(min_length=2)
    endpoint: EndpointDesign
    randomisation: Randomisation = Randomisation()
    leaving: Leaving = Leaving()
    intercurrent: tuple[Intercurrent, ...] = ()
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = Field(default=0.05, description="two-sided")
    accrual: Annotated[float, Field(gt=0)] | None = Field(default=None, description="patients a month")

    @property
    def names(self) -> tuple[str, ...]:
        """Arms in order, the control first."""
        return tuple(arm.name for arm in self.arms)

    @property
    def event_names(self) -> tuple[str, ...]:
        """Intercurrent events in order."""
        return tuple(one.event for one in self.intercurrent)

    @property
    def event_effects(self) -> tuple[str, ...]:
        """What each intercurrent event does to the course, in the same order."""
        return tuple(one.does for one in self.intercurrent)

    @property
    def block(self) -> int:
        """Patients in a block: as given, or one round of the shares."""
        return self.randomisation.block or sum(arm.share for arm in self.arms)

    def sizes(self) -> tuple[int, ...]:
        """Return the planned number of patients in each arm; what does not divide goes to the first arms."""
        shares = [arm.share for arm in self.arms]
        exact = [self.patients * share / sum(shares) for share in shares]
        sizes = [int(size) for size in exact]
        order = sorted(range(len(sizes)), key=lambda k: (sizes[k] - exact[k], k))
        for k in order[: self.patients - sum(sizes)]:
            sizes[k] += 1
        return tuple(sizes)

    def scheme(self) -> Simple | PermutedBlock:
        """Return the randomisation, at the arms' shares."""
        ratio = tuple(arm.share for arm in self.arms)
        return Simple(ratio) if self.randomisation.scheme == "simple" else PermutedBlock((self.block,), ratio)

    def months(self) -> float | None:
        """Return months from the first patient in to the last visit of the last, where accrual is known."""
        return None if self.accrual is None else self.patients / self.accrual + self.visits[-1] / 30.4375

    def estimand(self) -> Estimand:
        """Return the question by the five attributes of ICH E9(R1)."""
        return Estimand(
            treatment=" against ".join((*self.names[1:], self.names[0])),
            population="all randomised",
            variable=self.endpoint.variable(self.visits[-1]),
            intercurrent_events=tuple(_words(one, self.endpoint.unit) for one in self.intercurrent),
            summary=self.endpoint.summary,
        )

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, content: Any) -> Any:
        leaving = content.get("leaving") if isinstance(content, dict) else None
        if isinstance(content, dict) and (
            "stops" in content or (isinstance(leaving, dict) and "discontinuation" in leaving)
        ):
            raise ValueError(
                "stops and leaving.discontinuation are now an event of [[design.intercurrent]]: event = 'treatment"
                " discontinuation', does = 'stop', chance = {ARM = 0.1}, strategy = 'treatment policy'"
            )
        return content

    @model_validator(mode="after")
    def _consistent(self) -> "Design":
        if list(self.visits) != sorted(set(self.visits)) or self.visits[0] != 0:
            raise ValueError(f"visits must begin at 0 and rise: {list(self.visits)}")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"arms repeat: {', '.join(self.names)}")
        round_ = sum(arm.share for arm in self.arms)
        if self.randomisation.scheme == "simple" and self.randomisation.block is not None:
            raise ValueError("simple randomisation has no blocks; use 'permuted block'")
        if self.randomisation.scheme == "simple" and self.randomisation.strata is not None:
            raise ValueError("simple randomisation has no strata; use 'permuted block'")
        if self.block % round_:
            raise ValueError(f"a block of {self.block} cannot hold shares that add up to {round_}")
        if len(set(self.event_names)) != len(self.event_names):
            raise ValueError(f"intercurrent events repeat: {', '.join(self.event_names)}")
        for one in self.intercurrent:
            _require_strategy(one, self.endpoint)
        strata = self.randomisation.strata
        if strata is not None and strata.of == "baseline" and not self.endpoint.measured:
            raise ValueError(f"a {self.endpoint.kind} endpoint has no baseline value; make strata of 'score'")
        for what, chances in (("dropout", self.leaving.dropout), *((e.event, e.chance) for e in self.intercurrent)):
            unknown = set(chances) - set(self.names)
            if unknown:
                raise ValueError(f"{what} names {sorted(unknown)}; arms are {', '.join(self.names)}")
        return self


def _require_strategy(one: Intercurrent, endpoint: EndpointDesign) -> None:
    """Refuse a strategy that has no meaning for the endpoint."""
    kind, what = endpoint.kind, f"{one.event!r}: {one.strategy} "
    if one.strategy == "while on treatment" and kind in ("binary", "time to event"):
        raise ValueError(f"{what}has no value of a {kind} endpoint before the event; use 'hypothetical' or 'composite'")
    if one.strategy == "composite" and kind == "count":
        raise ValueError(f"{what}has no number of events to assign; use 'while on treatment' or 'hypothetical'")
    if one.strategy == "composite" and kind == "time to event" and one.value is not None:
        raise ValueError(f"{what}makes the event one of the endpoint's: leave value out")
    if one.strategy == "composite" and endpoint.measured and one.value is None:
        raise ValueError(f"{what}assigns a change: give its value")
    if one.strategy == "composite" and kind == "binary" and one.value not in (0, 1):
        raise ValueError(f"{what}assigns a response: give a value of 0 or 1")
    if one.onset and kind in ("count", "time to event"):
        raise ValueError(f"{one.event!r}: rescue acts on a {kind} endpoint at once; leave onset out")


def _words(one: Intercurrent, unit: str) -> IntercurrentEvent:
    note = "" if one.value is None else f"{one.value:g}{f' {unit}' if unit else ''} is assigned"
    strategy = Strategy.COMPOSITE if one.strategy == "composite" else Strategy(one.strategy)
    return IntercurrentEvent(event=one.event, strategy=strategy, note=note)


def load_design(path: Path) -> Design:
    """Read and check a design.

    Raises
    ------
    ConfigError
        If the file is missing, is no TOML, or does not describe a trial: with every key that is wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the design {path}", where=error.strerror, do="name a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the design is not valid TOML: {error}", where=str(path), do="correct that line") from error
    try:
        return Design.model_validate(content)
    except ValidationError as error:
        lines = [
            f"  - {'.'.join(map(str, one['loc'])) or 'design'}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors(include_url=False)
        ]
        raise ConfigError(
            "the file does not describe a trial:\n" + "\n".join(lines), where=str(path), do="correct these keys"
        ) from error
