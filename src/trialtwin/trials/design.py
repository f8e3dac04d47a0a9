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
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from trialtwin.core.errors import ConfigError
from trialtwin.core.estimate import Estimand, IntercurrentEvent, Strategy
from trialtwin.trials.design_parts import (
    ArmDesign,
    BoundaryDesign,
    EndpointDesign,
    Intercurrent,
    Interim,
    Leaving,
    Name,
    Part,
    Randomisation,
    require_strategy,
)
from trialtwin.trials.randomise import PermutedBlock, Simple


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
    interims: tuple[Interim, ...] = ()
    boundary: BoundaryDesign = BoundaryDesign()

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

    @property
    def fractions(self) -> tuple[float, ...]:
        """Information at each look over that of the last, which is 1."""
        return (*(one.fraction for one in self.interims), 1.0)

    @property
    def level(self) -> float:
        """The chance to reject without an effect: one-sided where the trial may stop for futility."""
        return self.alpha if self.boundary.futility is None else self.alpha / 2

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
        strata = self.randomisation.strata
        if strata is not None and strata.of == "baseline" and not self.endpoint.measured:
            raise ValueError(f"a {self.endpoint.kind} endpoint has no baseline value; make strata of 'score'")
        return self

    @model_validator(mode="after")
    def _handled(self) -> "Design":
        if len(set(self.event_names)) != len(self.event_names):
            raise ValueError(f"intercurrent events repeat: {', '.join(self.event_names)}")
        for one in self.intercurrent:
            require_strategy(one, self.endpoint)
        for what, chances in (("dropout", self.leaving.dropout), *((e.event, e.chance) for e in self.intercurrent)):
            unknown = set(chances) - set(self.names)
            if unknown:
                raise ValueError(f"{what} names {sorted(unknown)}; arms are {', '.join(self.names)}")
        return self

    @model_validator(mode="after")
    def _looked(self) -> "Design":
        if list(self.fractions) != sorted(set(self.fractions)):
            raise ValueError(f"information must grow from look to look: {', '.join(f'{f:g}' for f in self.fractions)}")
        if self.interims and self.accrual is None:
            raise ValueError("a look comes once enough patients have entered; give accrual, in patients a month")
        if self.interims and self.endpoint.kind == "time to event" and self.endpoint.events is None:
            raise ValueError("information of a time-to-event endpoint is events; give endpoint.events")
        if self.endpoint.events is not None and self.endpoint.events > self.patients:
            raise ValueError(f"an analysis at {self.endpoint.events} events of {self.patients} patients")
        if not self.interims and self.boundary != BoundaryDesign():
            raise ValueError("a boundary is for looks; give [[design.interims]] with their fractions, or leave it out")
        return self


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
