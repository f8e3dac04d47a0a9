"""The trial file: who entered a trial, what each arm was given, what was measured, and what was observed, as TOML."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from trialtwin.study.replay.endpoints import CL_PER_SUVR, canonical, endpoint_names
from trialtwin.study.spec import Name, Part

type Share = Annotated[float, Field(ge=0, le=1)]
type Stat = Literal["change", "diff_vs_placebo", "diff_vs_external", "relative_slowing", "proportion"]
type Trust = Literal["high", "medium-high", "medium", "low-medium", "low"]
type Genotype = Literal["noncarrier", "heterozygote", "homozygote", "carrier"]


class Law(Part):
    """How a quantity is spread over the patients who entered: mean and SD as tables of baseline print them.

    With ``min`` or ``max``, entry criteria cut the law; mean and SD remain those of the patients who entered.
    """

    mean: FiniteFloat
    sd: FiniteFloat = Field(gt=0)
    min: FiniteFloat | None = Field(default=None, description="entry criterion: lowest value")
    max: FiniteFloat | None = Field(default=None, description="entry criterion: highest value")

    @model_validator(mode="after")
    def _inside(self) -> Self:
        low, high = self.min, self.max
        if low is not None and high is not None and low >= high:
            raise ValueError(f"min {low:g} is not below max {high:g}")
        if (low is not None and self.mean <= low) or (high is not None and self.mean >= high):
            raise ValueError(f"mean {self.mean:g} is not inside the entry criterion")
        return self


class Apoe4(Part):
    """Shares of APOE4 genotypes: all three, or ``carrier`` alone (split as in CLARITY-AD: 22 % homozygous)."""

    noncarrier: Share | None = None
    heterozygote: Share | None = None
    homozygote: Share | None = None
    carrier: Share | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        three = (self.noncarrier, self.heterozygote, self.homozygote)
        if self.carrier is not None and all(share is None for share in three):
            return self
        given = [share for share in three if share is not None]
        if self.carrier is not None or len(given) != len(three) or abs(sum(given) - 1) > 0.015:
            raise ValueError(
                "give carrier alone, or noncarrier, heterozygote and homozygote as shares that add up to 1"
            )
        return self

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares with 0, 1 and 2 alleles."""
        if self.carrier is not None:
            return 1 - self.carrier, 0.78 * self.carrier, 0.22 * self.carrier
        three = [share or 0.0 for share in (self.noncarrier, self.heterozygote, self.homozygote)]
        return three[0] / sum(three), three[1] / sum(three), three[2] / sum(three)


class Tau(Part):
    """Neocortical tau at entry, in SD of amyloid-positive patients with early symptoms (their mean is 0).

    ``criterion`` names usual requirements; ``min`` and ``max`` cut at any place. ``shift`` moves the whole law, for
    populations at another stage (cognitively normal: about −1.5).
    """

    criterion: Literal["none", "positive", "low/medium", "high"] = "none"
    min: float | None = None
    max: float | None = None
    shift: float = 0.0


class Population(Part):
    """Patients at entry; what is left out comes from the trial's main population, then from stated assumptions.

    ``scores`` holds the clinical scales by name. The first of CDR-SB, MMSE, ADAS-Cog and the ADL scales that is given
    sets how severe patients are; the others set the level from which their own scale starts.
    """

    age: Law | None = None
    weight: Law | None = None
    female: Share | None = None
    apoe4: Apoe4 | None = None
    amyloid: Law | None = Field(default=None, description="amyloid PET, Centiloid")
    tau: Tau | None = None
    scores: dict[str, Law] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_scores(self) -> Self:
        for name in self.scores:
            if canonical(name) not in endpoint_names("score"):
                raise ValueError(f"no scale {name!r}; there are: {', '.join(endpoint_names('score'))}")
        return self


class Arm(Part):
    """An arm: what it was given, how many patients, and how many left.

    Without ``drug`` nothing is given. ``drug`` is a name in the library or the path of a drug file beside the trial
    file. ``regimen`` is a prescription ("10 mg/kg over 1h q2w x 39", titration with "then"), the drug's own where it
    is left out, or a table of prescriptions by APOE4 genotype.
    """

    name: Name
    n: int = Field(ge=1, description="patients analysed")
    drug: str = ""
    regimen: str | dict[Genotype, str] = ""
    compare: str = Field(default="", description="arm that it is compared with; the trial's control where left out")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="share without a value at the last visit")
    intensity: float = Field(default=1.0, gt=0, le=2, description="share of the prescribed doses that was given")
    aliases: tuple[str, ...] = Field(default=(), description="other names of the arm in tables of readouts")
    population: Population = Population()

    @model_validator(mode="after")
    def _regimen_of_a_drug(self) -> Self:
        if self.regimen and not self.drug:
            raise ValueError("a regimen without a drug")
        if isinstance(self.regimen, dict):
            keys = set(self.regimen)
            if keys not in ({"noncarrier", "carrier"}, {"noncarrier", "heterozygote", "homozygote"}):
                raise ValueError("give regimens for noncarrier and carrier, or for all three genotypes")
        return self


class Subpopulation(Part):
    """Patients of the trial who are described by a table of their own, such as those with low or medium tau."""

    name: Name
    n: dict[str, int] = Field(description="patients analysed, by arm")
    population: Population


class Readout(Part):
    """A published number, as in the columns of a table of readouts."""

    arm: Name
    population: str = "all"
    endpoint: Name
    week: FiniteFloat = Field(gt=0)
    stat: Stat
    value: float
    se: float | None = Field(default=None, gt=0)
    low: float | None = Field(default=None, description="lower end of the 95 % interval")
    high: float | None = Field(default=None, description="upper end of the 95 % interval")
    n: int | None = Field(default=None, ge=1)
    source: str = ""
    confidence: Trust = "medium"
    use: str = Field(
        default="prediction",
        description=(
            "'calibration', a part of it such as 'calibration(PD only: amyloid)', or 'prediction' for rows that"
            " no fit may see"
        ),
    )

    @model_validator(mode="after")
    def _interval_in_order(self) -> Self:
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self


class Trial(Part):
    """A trial: title and sources, population, arms, visits, endpoints, and what was observed."""

    id: Name = Field(description="name of the trial, as in tables of readouts")
    title: Name
    source: str = ""
    notes: str = ""
    aliases: tuple[str, ...] = Field(default=(), description="other names of the trial in tables of readouts")
    group: str = Field(default="", description="trials of one group share their trial-level random effects")
    disease: str = "alzheimer"
    control: str = Field(description="arm against which differences are taken")
    visits: tuple[Annotated[FiniteFloat, Field(gt=0)], ...] = Field(min_length=1, description="weeks")
    endpoints: tuple[Name, ...] = Field(min_length=1)
    pet: Share = Field(default=1.0, description="share of patients with amyloid PET, where readouts do not say n")
    cl_per_suvr: float = Field(default=CL_PER_SUVR, gt=0, description="Centiloid per SUVR of the trial's tracer")
    population: Population
    arms: tuple[Arm, ...] = Field(min_length=1)
    subpopulations: tuple[Subpopulation, ...] = ()
    readouts: tuple[Readout, ...] = ()

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise ValueError(f"arms repeat: {', '.join(names)}")
        for key, name in (("control", self.control), *(("compare", a.compare) for a in self.arms if a.compare)):
            if name not in names:
                raise ValueError(f"{key} = {name!r} is no arm; there are: {', '.join(names)}")
        for part in self.subpopulations:
            if set(part.n) != set(names):
                raise ValueError(f"n of subpopulation {part.name!r} must name each arm: {', '.join(names)}")
        if len(set(self.visits)) != len(self.visits):
            raise ValueError(f"visits repeat: {', '.join(f'{week:g}' for week in self.visits)}")
        for place, readout in enumerate(self.readouts):
            if not math.isfinite(readout.value):
                raise ValueError(f"readouts[{place}].value is {readout.value:g}: leave out what was not published")
        for name in self.endpoints:
            if canonical(name) not in endpoint_names():
                raise ValueError(f"no endpoint {name!r}; there are: {', '.join(endpoint_names())}")
        return self

    @property
    def family(self) -> str:
        """Name under which trial-level random effects are shared."""
        return self.group or self.id

    def arm(self, name: str) -> Arm | None:
        """Return the arm of a name or alias."""
        return next((arm for arm in self.arms if name == arm.name or name in arm.aliases), None)

    def subpopulation(self, name: str) -> Subpopulation | None:
        """Return the subpopulation of a name."""
        return next((part for part in self.subpopulations if part.name == name), None)

    def counterpart(self, arm: Arm) -> Arm:
        """Return the arm that an arm is compared with."""
        found = self.arm(arm.compare or self.control)
        return arm if found is None else found
