"""What is asked of a comparison: which models of which disease, on whom, and how."""

from dataclasses import dataclass
from typing import Any

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.core.twin import AbstractModel
from trialtwin.diseases.base import AbstractDisease
from trialtwin.diseases.registry import find_disease
from trialtwin.study.spec import StudySpec
from trialtwin.twins.compare.plan import By, Plan
from trialtwin.twins.registry import MODELS, build_model, find_entry


@dataclass(frozen=True)
class Asked:
    """A checked question: models by name, the disease that some are built around, and the plan."""

    models: tuple[str, ...]
    disease: str | None
    plan: Plan
    seed: int

    def build(self) -> dict[str, AbstractModel]:
        """Return the unfitted models by name."""
        return {name: build_model(name, self._of(name)) for name in self.models}

    def told(self) -> dict[str, str]:
        """Return, by model, what it knows besides the data."""
        return {
            name: "the data alone"
            if self._of(name) is None
            else f"equations, constants and priors of {self.disease!r}, from the literature"
            for name in self.models
        }

    def bounds(self, cohort: Cohort) -> dict[str, tuple[float, float]]:
        """Return, by outcome, the ends of the disease's scale of it."""
        if self.disease is None:
            return {}
        scales = find_disease(self.disease).scales
        known = [(v.name, scales[v.concept]) for v in cohort.outcomes if v.concept in scales]
        return {name: (float(scale.lower), float(scale.upper)) for name, scale in known}

    def _of(self, name: str) -> AbstractDisease | None:
        needed = self.disease is not None and find_entry(name).takes_disease
        return find_disease(str(self.disease)) if needed else None


def make_plan(by: str, **settings: Any) -> Plan:
    """Return a plan from words as they come from a command line.

    Raises
    ------
    ConfigError
        If there is no such way to compare, or settings contradict each other.
    """
    ways: tuple[By, ...] = ("patient", "site", "time")
    way = next((one for one in ways if one == by), None)
    if way is None:
        raise ConfigError(f"comparison by {by!r}", exists=ways, do="choose one of these")
    return Plan(by=way, **settings)


def ask(spec: StudySpec, models: tuple[str, ...], disease: str | None, plan: Plan, seed: int | None) -> Asked:
    """Check a question, filling in from the study file what it leaves open.

    The disease is that of the study's mechanistic twins; the models are all that there are, those that need a disease
    only where one is known.

    Raises
    ------
    ConfigError
        If a model needs a disease and none is known, or a model is named twice.
    MismatchError
        If there is no such model or disease.
    """
    own = [twin.disease for twin in spec.twins if twin.disease is not None]
    disease = disease or (own[0] if own else None)
    if disease is not None:
        find_disease(disease)
    twice = sorted({name for name in models if models.count(name) > 1})
    if twice:
        raise ConfigError(f"model {twice[0]!r} is named twice", do="name each once")
    chosen = models or tuple(name for name, entry in MODELS.items() if disease is not None or not entry.needs_disease)
    for name in chosen:
        if find_entry(name).needs_disease and disease is None:
            raise MismatchError(
                f"model {name!r} is built around a disease, and the study names none", do="give --disease"
            )
    return Asked(chosen, disease, plan, spec.study.seed if seed is None else seed)
