"""The patients of the page: courses of values, a prognosis behind a risk, rate or hazard, or a fitted twin's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from trialtwin.trials.design_parts import Part
from trialtwin.trials.virtual_population import AbstractPopulation, Forecast, Normal, Prognosis

type Positive = Annotated[float, Field(gt=0)]


class CourseSpec(Part):
    """Untreated patients of a measured endpoint: mean and SD at each visit, and how visits correlate.

    ``correlation`` is a number, for all pairs of visits alike, or the whole matrix.
    """

    mean: tuple[float, ...] = Field(min_length=2)
    sd: tuple[Positive, ...] = Field(min_length=2)
    correlation: float | tuple[tuple[float, ...], ...]

    def covariance(self) -> np.ndarray:
        """Return the covariance of the visits."""
        n, sd = len(self.sd), np.array(self.sd)
        given = self.correlation
        matrix = np.full((n, n), given) if isinstance(given, float) else np.array(given)
        if isinstance(given, float):
            np.fill_diagonal(matrix, 1.0)
        return matrix * np.outer(sd, sd)

    def people(self, rho: float, drift: float, scale: float) -> AbstractPopulation:
        """Return the population with a twin."""
        return Normal(np.array(self.mean), self.covariance(), rho=rho, drift=drift, scale=scale)

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


class PrognosisSpec(Part):
    """Patients under control, of an endpoint that is not measured at visits.

    Of a patient of average prognosis, the ``risk`` of a response; or the ``rate`` of events a year, with ``dispersion``
    (its variance between patients of one prognosis over its square: 0 is Poisson, else negative binomial); or the
    ``hazard`` a year, in pieces that meet at ``cuts`` (days). ``prognosis`` is what one SD of prognosis adds to the log
    odds, log rate or log hazard.
    """

    risk: Annotated[float, Field(gt=0, lt=1)] | None = None
    rate: Positive | None = None
    dispersion: Annotated[float, Field(ge=0)] = 0.0
    hazard: tuple[Positive, ...] | None = None
    cuts: tuple[Positive, ...] = ()
    prognosis: float = 0.0

    @property
    def kind(self) -> str:
        """The endpoint that it is for."""
        return "binary" if self.risk is not None else "count" if self.rate is not None else "time to event"

    def people(self, rho: float, drift: float, scale: float) -> AbstractPopulation:
        """Return the population with a twin."""
        if self.risk is not None:
            base = np.array([np.log(self.risk / (1 - self.risk))])
        else:
            base = np.log(np.array([self.rate] if self.rate is not None else self.hazard))
        return Prognosis(base, self.prognosis, np.array(self.cuts), self.dispersion, rho=rho, drift=drift, scale=scale)

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("risk", "rate", "hazard") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of risk, rate and hazard, not {' and '.join(given) or 'none'}")
        if self.dispersion and self.rate is None:
            raise ValueError(f"a {given[0]} has no dispersion; leave it out")
        if self.cuts and self.hazard is None:
            raise ValueError(f"a {given[0]} has no pieces; leave cuts out")
        if self.hazard is not None and len(self.hazard) != len(self.cuts) + 1:
            raise ValueError(f"{len(self.hazard)} hazards for {len(self.cuts)} cuts; give one hazard more than cuts")
        if list(self.cuts) != sorted(set(self.cuts)):
            raise ValueError(f"cuts must rise: {list(self.cuts)}")
        return self


class FittedSpec(Part):
    """Patients of a saved twin, asked at baseline: paths start from the folder of the page.

    ``twin`` is the folder of a saved twin; ``study`` and ``data`` say whose patients; ``outcome`` is the twin's, by the
    name that the study file has for it; ``draws`` how many courses of each patient are kept.
    """

    twin: str
    study: str
    data: str
    outcome: str
    draws: Annotated[int, Field(ge=32, le=10_000)] = 256


@dataclass(frozen=True, eq=False)
class Fitted:
    """A population of a twin's own forecasts.

    ``rho`` is the correlation of score and untreated change over its patients and draws; ``patients`` how many it
    draws from, ``left_out`` how many of the study's had no value at baseline; ``data`` hashes of twin and patients.
    """

    name: str
    forecast: Forecast
    rho: float
    patients: int
    left_out: int
    data: Mapping[str, str]


def _kind(content: Any) -> str:
    """Tell which description a table is."""
    keys = set(content) if isinstance(content, dict) else set(type(content).model_fields)
    if "twin" in keys:
        return "fitted"
    return "prognosis" if keys & {"risk", "rate", "hazard"} else "course"


type Population = Annotated[
    Annotated[CourseSpec, Tag("course")]
    | Annotated[PrognosisSpec, Tag("prognosis")]
    | Annotated[FittedSpec, Tag("fitted")],
    Discriminator(_kind),
]
