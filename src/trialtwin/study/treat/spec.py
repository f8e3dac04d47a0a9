"""What a treatment question asks: a disease, candidates, an endpoint, and how benefit and harm are weighed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from trialtwin.core.errors import ConfigError
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.diseases.base import AbstractDisease, LogisticScale
from trialtwin.diseases.registry import DISEASES, find_disease
from trialtwin.drugs.combination import combine
from trialtwin.drugs.drug import Drug
from trialtwin.drugs.registry import find_drug
from trialtwin.drugs.therapy import prescribe
from trialtwin.study.spec import Part
from trialtwin.twins.system import require_acts

NONE = "no treatment"
DAYS_PER_WEEK = 7.0
ENDPOINTS = {"alzheimer": "CDR-SB", "alzheimer-cao": "CDR-SB", "diabetes": "HbA1c"}
HIGHER = ("Aβ42/40", "CD4")  # measurements that fall as the disease goes on


class Dose(Part):
    """A drug of the library (or a drug file) on a regimen; without one, the drug's usual one."""

    drug: Annotated[str, Field(min_length=1)]
    regimen: str = ""


class Candidate(Part):
    """What a patient could be given: one drug, or several at once."""

    doses: tuple[Dose, ...] = Field(min_length=1)
    label: str = ""

    @property
    def name(self) -> str:
        """Label, or the drugs with their regimens."""
        return self.label or " + ".join(f"{d.drug}: {d.regimen}" if d.regimen else d.drug for d in self.doses)


class TreatSpec(Part):
    """A treatment question.

    Examples
    --------
    >>> spec = TreatSpec(candidates=[parse_candidate("donepezil: 10 mg qd")])
    >>> spec.endpoint_of(find_disease("alzheimer"))
    'CDR-SB'
    """

    disease: str = Field(default="alzheimer", description="a registered disease")
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    weeks: float = Field(default=78.0, gt=0, le=520)
    endpoint: str = Field(default="", description="a scale of the disease; CDR-SB for Alzheimer's")
    better: Literal["auto", "lower", "higher"] = Field(default="auto", description="which way of the endpoint is good")
    threshold: float = Field(default=0.5, gt=0, description="benefit that counts as meaningful, points of the endpoint")
    weights: dict[str, float] = Field(
        default_factory=dict,
        description="points of benefit that one certain event is worth, such as 'ARIA-E' = 0.5; 0 where absent",
    )
    draws: int = Field(default=64, ge=16, le=4096, description="draws of each patient")
    seed: int = Field(default=1, ge=0, lt=2**31)
    effect_spread: float = Field(
        default=0.35, ge=0, le=1, description="SD between trials of the factor on a drug's clinical effect; provisional"
    )
    pathways: bool = Field(default=True, description="tell by which route each candidate's benefit runs")

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "TreatSpec":
        names = [candidate.name for candidate in self.candidates]
        if len(set(names)) != len(names) or NONE in names:
            raise ValueError(f"candidates need names of their own, and none is {NONE!r}: {', '.join(names)}")
        for event, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {event} is {weight:g}: give 0 or more")
        return self

    def endpoint_of(self, disease: AbstractDisease) -> str:
        """Return the endpoint, checked against the disease's scales."""
        name = self.endpoint or ENDPOINTS.get(disease.name, next(iter(disease.scales)))
        if name not in disease.scales:
            raise ConfigError(f"{disease.name!r} has no scale {name!r}", where="endpoint", exists=disease.scales)
        return name

    def higher_is_better(self, disease: AbstractDisease) -> bool:
        """Tell which way of the endpoint is good: as said, or as the scale's link to severity goes.

        A measurement that is no function of severity is better lower, but for those named in ``HIGHER``.
        """
        if self.better != "auto":
            return self.better == "higher"
        scale = disease.scales[self.endpoint_of(disease)]
        if isinstance(scale, LogisticScale):
            return sum(weight for weight, _, _ in scale.terms) < 0
        return self.endpoint_of(disease) in HIGHER


def parse_candidate(text: str) -> Candidate:
    """Read a candidate from the command line: ``drug``, ``drug: regimen``, or several joined by `` + ``.

    Raises
    ------
    ConfigError
        If a drug's name is missing.

    Examples
    --------
    >>> parse_candidate("lecanemab: 10 mg/kg over 1h q2w + donepezil").name
    'lecanemab: 10 mg/kg over 1h q2w + donepezil'
    """
    doses = []
    for part in text.split(" + "):
        drug, _, regimen = part.partition(":")
        if not drug.strip():
            raise ConfigError(f"no drug in {text!r}", do="write for example: 'lecanemab: 10 mg/kg over 1h q2w'")
        doses.append(Dose(drug=drug.strip(), regimen=regimen.strip()))
    return Candidate(doses=tuple(doses))


def make_spec(**content: object) -> TreatSpec:
    """Return a checked question.

    Raises
    ------
    ConfigError
        Naming the key, and what it may be.
    """
    try:
        return TreatSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{first['msg']}", where=where or "the question", exists=() if where else TreatSpec.model_fields
        ) from error


def treatments(spec: TreatSpec, disease: AbstractDisease, folder: Path | None = None) -> dict[str, AbstractTreatment]:
    """Return each candidate as a treatment of the disease, checked before any long work.

    Raises
    ------
    ConfigError, MismatchError
        If a drug does not exist, a regimen cannot be read, or a drug acts on what the disease does not have.
    """
    found = {}
    last = spec.weeks * DAYS_PER_WEEK
    for candidate in spec.candidates:
        parts = [
            prescribe(_drug(d.drug, folder), d.regimen or None, disease=spec.disease, until=last)
            for d in candidate.doses
        ]
        treatment = combine(*parts) if len(parts) > 1 else parts[0]
        require_acts(disease.mechanisms, treatment, disease.name)
        found[candidate.name] = treatment
    return found


def drugs_of(spec: TreatSpec, folder: Path | None = None) -> dict[str, Drug]:
    """Return the drugs of all candidates, each once."""
    return {dose.drug: _drug(dose.drug, folder) for candidate in spec.candidates for dose in candidate.doses}


def disease_of(spec: TreatSpec) -> AbstractDisease:
    """Return the disease.

    Raises
    ------
    MismatchError
        With the diseases that exist.
    """
    return find_disease(spec.disease)


def treat_schema() -> str:
    """Return the JSON Schema of a question."""
    content = TreatSpec.model_json_schema()
    content["properties"]["disease"]["enum"] = sorted(DISEASES)
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _drug(name: str, folder: Path | None) -> Drug:
    """Find a drug of the library by name, or read a drug file."""
    if name.endswith(".toml"):
        return find_drug((folder or Path()) / name)
    return find_drug(name)


def visit_days(weeks: float) -> Sequence[float]:
    """Return the days at which courses are read: every 13 weeks, and the end.

    Examples
    --------
    >>> visit_days(30.0)
    (0.0, 91.0, 182.0, 210.0)
    """
    step, last = 13 * DAYS_PER_WEEK, weeks * DAYS_PER_WEEK
    inner = [step * i for i in range(int(last // step) + 1) if step * i < last]
    return (*inner, last)
