"""Models by name: adding one is a file beside this one and a line here; contract tests and comparisons find it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.core.twin import AbstractModel
from trialtwin.diseases.base import AbstractDisease
from trialtwin.twins.baseline import Baseline
from trialtwin.twins.boltzmann import Boltzmann
from trialtwin.twins.boosting import Boosting
from trialtwin.twins.gaussian_process import GaussianProcess
from trialtwin.twins.hybrid import Hybrid
from trialtwin.twins.mechanistic import Mechanistic
from trialtwin.twins.sequence import Sequence
from trialtwin.twins.stacking import Stack

type Architecture = Literal["data-driven", "mechanistic", "hybrid", "ensemble"]


@dataclass(frozen=True)
class Entry:
    """A kind of twin: its architecture, how to build it (from a disease, where it has one), and what it is in words.

    ``keeps_patients`` says whether the fitted twin holds data of the patients it was learned from.
    """

    architecture: Architecture
    build: Callable[[], AbstractModel] | Callable[[AbstractDisease], AbstractModel]
    summary: str
    keeps_patients: bool = False

    @property
    def needs_disease(self) -> bool:
        """Whether it cannot be built without a disease."""
        return self.architecture in ("mechanistic", "hybrid")

    @property
    def takes_disease(self) -> bool:
        """Whether it can be built around a disease."""
        return self.architecture != "data-driven"


STACKED = (
    "baseline",
    "boosting",
    "mechanistic",
)  # members of the stack; those built around a disease only where there is one


def _stack(disease: AbstractDisease | None = None) -> Stack:
    """Return the stack of the models named in ``STACKED``."""
    names = tuple(name for name in STACKED if disease is not None or not MODELS[name].needs_disease)
    own = [disease if MODELS[name].takes_disease else None for name in names]
    return Stack(names, tuple(build_model(name, one) for name, one in zip(names, own, strict=True)))


MODELS: Mapping[str, Entry] = MappingProxyType(
    {
        "baseline": Entry(
            "data-driven", Baseline, "mixed-effects model with regularised covariate effects", keeps_patients=True
        ),
        "boltzmann": Entry("data-driven", Boltzmann, "neural Boltzmann machine of whole courses of all outcomes"),
        "boosting": Entry("data-driven", Boosting, "gradient boosting on a linear base, conformal predictive laws"),
        "gaussian-process": Entry("data-driven", GaussianProcess, "one process of all outcomes, exact to condition"),
        "sequence": Entry(
            "data-driven", Sequence, "continuous recurrent unit over visits at any gaps, exact to condition"
        ),
        "mechanistic": Entry("mechanistic", Mechanistic, "disease model with population and patients inferred"),
        "hybrid": Entry("hybrid", Hybrid, "disease model whose patients are steered by their covariates"),
        "stack": Entry("ensemble", _stack, "kinds of twins weighed by their held-out log score", keeps_patients=True),
    }
)


def find_entry(name: str) -> Entry:
    """Return the entry of a model.

    Raises
    ------
    MismatchError
        With the models that exist.
    """
    if name not in MODELS:
        raise MismatchError(f"no model {name!r}", exists=MODELS)
    return MODELS[name]


def build_model(name: str, disease: AbstractDisease | None = None) -> AbstractModel:
    """Return an unfitted model by name, with default settings.

    Raises
    ------
    MismatchError
        If there is no such model.
    ConfigError
        If the model needs a disease and none is given, or can do nothing with one.

    Examples
    --------
    >>> type(build_model("baseline")).__name__
    'Baseline'
    """
    entry = find_entry(name)
    if entry.needs_disease and disease is None:
        raise ConfigError(f"model {name!r} is built around a disease", do="give it one")
    if disease is not None and not entry.takes_disease:
        raise ConfigError(f"model {name!r} learns from data alone", do="give it no disease")
    return entry.build() if disease is None else entry.build(disease)  # type: ignore[call-arg]
