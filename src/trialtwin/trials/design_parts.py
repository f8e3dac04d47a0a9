"""The parts of a design: arms, endpoint, randomisation, who leaves, intercurrent events, looks and boundaries."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trialtwin.core.errors import ConfigError
from trialtwin.stats.sequential_spending import Boundary

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
    """What is compared between arms; ``name`` is that of what is measured or counted.

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
        # a name may say itself that it is a change
        change = "change in " if self.measured and not self.name.casefold().startswith("change") else ""
        return f"{change}{self.name}{threshold} {'up to' if self.kind == 'count' else 'at'} day {last:g}"

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


class Interim(Part):
    """An interim analysis, by the share of the final information at which it is done.

    Information is patients who have reached the last visit, or events of a time-to-event endpoint.
    """

    fraction: Annotated[float, Field(gt=0, lt=1)]


class BoundaryDesign(Part):
    """How the error is spent over the looks, and whether the trial stops for futility.

    ``efficacy`` and ``futility`` are kinds of ``stats.sequential_spending``, with their parameters. Without futility
    the test is two-sided, with α/2 on either side; with it one-sided, of level α/2, and 1 − ``power`` is spent below.
    A futility boundary that is ``binding`` is relied on, which lowers the other one; simulated trials obey it anyway.
    """

    efficacy: str = "O'Brien-Fleming spending"
    parameter: float | None = None
    futility: str | None = None
    futility_parameter: float | None = None
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    binding: bool = False

    def above(self) -> Boundary:
        """Return the boundary of efficacy."""
        return Boundary(self.efficacy, self.parameter)

    def below(self) -> Boundary | None:
        """Return the boundary of futility."""
        return None if self.futility is None else Boundary(self.futility, self.futility_parameter)

    @model_validator(mode="after")
    def _exist(self) -> "BoundaryDesign":
        try:
            above, below = self.above(), self.below()
        except ConfigError as error:
            have = f"; there are {', '.join(error.exists)}" if error.exists else ""
            raise ValueError(f"{error.what}{have}") from None
        if below is not None and not below.spends:
            raise ValueError(f"futility is spent by a spending function, and {below.kind!r} is none")
        if below is None and (self.binding or self.futility_parameter is not None):
            raise ValueError("there is no futility boundary to be binding or to have a parameter; name one in futility")
        if self.binding and not above.spends:
            raise ValueError(f"a binding futility boundary needs efficacy that is spent, and {above.kind!r} is not")
        return self


def require_strategy(one: Intercurrent, endpoint: EndpointDesign) -> None:
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
