"""What the calibration learns: parameters with their weak priors, spreads between trials, and the file that keeps them.

Priors are wide and centred on round numbers. The published fit of the compact model rests on the same trials; its
standard errors are used nowhere, or the data would count twice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, Self

import numpy as np
from jaxtyping import Float
from pydantic import Field, ValidationError, model_validator

from trialtwin.core.errors import ConfigError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.study.spec import Part

type Scale = Literal["plain", "log", "logit"]

HAND = "set by hand"


@dataclass(frozen=True)
class Parameter:
    """A parameter on a scale without bounds, with its normal prior there, and the step of its difference quotient."""

    name: str
    mean: float
    sd: float
    meaning: str
    source: str
    scale: Scale = "plain"
    step: float = 0.03

    def natural(self, value: float) -> float:
        """Return the value as the model uses it."""
        if self.scale == "log":
            return math.exp(value)
        return 1 / (1 + math.exp(-value)) if self.scale == "logit" else value


CALIBRATED_DRUGS = {"lecanemab": 5.46, "donanemab": 3.33, "aducanumab": 1.63, "gantenerumab": 0.93}
STRETCHED = ("ADAS-Cog", "MMSE", "ADCS-MCI-ADL", "ADCS-iADL")

PARAMETERS = (
    Parameter("kz", math.log(0.3), 0.5, "rate of clinical decline, 1/yr", HAND + " (wide)", "log"),
    Parameter("θ", 1.0, 1.5, "share of the decline that the toxic driver brings", HAND + " (wide)", "logit", 0.1),
    Parameter("κ", 0.5, 1.2, "how much of that share is lost as tau is high", HAND + " (wide)", "logit", 0.1),
    Parameter("γ", 1.0, 0.5, "power of tau in the rate of decline", HAND + " (wide)"),
    *(
        Parameter(
            f"removal by {drug}", math.log(rate), 0.7, "largest removal of amyloid, 1/yr", HAND + " (wide)", "log"
        )
        for drug, rate in CALIBRATED_DRUGS.items()
    ),
    Parameter(
        "EC50 of aducanumab",
        math.log(46.4),
        0.8,
        "µg/mL",
        "Kandadi Muralidharan 2022: 46.4 (SUVR); SD by hand",
        "log",
        0.05,
    ),
    Parameter("K", math.log(98.0), 0.15, "capacity of amyloid, CL", "natural history of amyloid PET", "log", 0.01),
    Parameter("capacity by amyloid", 0.0, 1.0, "tanh of it: correlation of capacity with amyloid at entry", HAND),
    *(
        Parameter(f"stretch of {scale}", 0.0, 0.2, f"of the published link of {scale}", HAND + " (20 %)", "log")
        for scale in STRETCHED
    ),
    *(
        Parameter(
            f"effect on {scale}", 0.0, 0.25, f"factor on a drug's effect on {scale}, beyond its link", HAND, "log"
        )
        for scale in STRETCHED
    ),
    Parameter(
        "response", 0.13, 0.13, "placebo response on ADAS-Cog, units of z", "Holford 1992: −1.42 points, CV 128 %"
    ),
    Parameter(
        "half-life of response", math.log(61 / 7), 0.7, "weeks", "Holford 1992: off in 61 days; SD by hand", "log", 0.05
    ),
    Parameter("APOE4", 0.178, 0.06, "log rate per APOE4 allele", "Conrado 2014: +19.5 %; SD by hand"),
    Parameter("sex", 0.076, 0.076, "log rate, women against men", "Conrado 2014: +7.9 %, not significant; SD by hand"),
    Parameter("age", -0.024, 0.012, "log rate per year of age", "Conrado 2014; SD by hand", step=0.003),
)
NAMES = tuple(parameter.name for parameter in PARAMETERS)


@dataclass(frozen=True)
class Spread:
    """A standard deviation between trials (or arms, or subgroups), with its lognormal prior."""

    name: str
    guess: float
    meaning: str
    source: str


SPREAD_SD = 0.5  # of the log of each spread about its guess
SPREADS = (
    Spread("rate", 0.14, "log rate of decline, between trials", "13 placebo groups"),
    Spread("effect", 0.35, "factor on the clinical effect, between trials", "a judgement"),
    Spread("effect on a scale", 0.2, "factor on the clinical effect, between scales of a trial", HAND),
    Spread("subgroup", 0.35, "factor on the clinical effect, between subgroups of a trial", HAND),
    Spread("removal", 0.12, "log removal of amyloid, between trials", HAND),
    Spread("removal in an arm", 0.12, "log removal of amyloid, between arms of a trial", HAND),
    Spread("new drug", 0.3, "log removal of amyloid by a drug that the calibration has not seen", "a judgement"),
    Spread("drift", 1.5, "change of amyloid on placebo by one year, CL, growing as √t, between trials", HAND),
    Spread("share", 0.3, "logit of the share below 24.1 CL, between trials", HAND),
    Spread("ADAS-Cog", 0.12, "factor on change, between trials", HAND),
    Spread("MMSE", 0.2, "factor on change, between trials", HAND),
    Spread("ADL", 0.15, "factor on change, between trials", HAND),
    Spread("iADRS", 0.12, "factor on change, between trials", HAND),
    Spread("response", 0.1, "placebo response on ADAS-Cog, units of z, between trials", HAND),
    Spread("ARIA", 0.2, "logit of the risk of ARIA, between trials", HAND),
)


class Made(Part):
    """When and from what a calibration was made."""

    date: str
    command: str
    readouts: dict[str, str] = Field(description="SHA-256 of what was read")
    rows: int
    trials: tuple[str, ...]
    seed: int
    patients: int
    software: str


class Calibration(Part):
    """Calibrated parameters: posterior mean and covariance on their scales without bounds, and spreads.

    Raises
    ------
    ValueError
        If names are not those of this version, or the covariance is not a covariance.
    """

    values: dict[str, float]
    covariance: tuple[tuple[float, ...], ...]
    spreads: dict[str, float]
    made: Made

    @model_validator(mode="after")
    def _fits_program(self) -> Self:
        if tuple(self.values) != NAMES or tuple(self.spreads) != tuple(s.name for s in SPREADS):
            raise ValueError(f"parameters must be {', '.join(NAMES)}")
        matrix = self.matrix
        if matrix.shape != (len(NAMES), len(NAMES)) or np.linalg.eigvalsh(matrix).min() <= 0:
            raise ValueError("the covariance is not positive definite")
        return self

    @property
    def vector(self) -> Float[np.ndarray, " parameter"]:
        """Posterior mean."""
        return np.array(list(self.values.values()))

    @property
    def matrix(self) -> Float[np.ndarray, "parameter parameter"]:
        """Posterior covariance."""
        return np.array(self.covariance)

    def natural(self) -> dict[str, float]:
        """Return the posterior mean as the model uses it."""
        return natural(self.vector)

    def learned(self) -> tuple[Learned, ...]:
        """Return what was learned, with priors beside it."""
        sds = np.sqrt(np.diag(self.matrix))
        return tuple(
            Learned(
                name=f"{p.name} ({'as is' if p.scale == 'plain' else p.scale})",
                value=float(value),
                sd=float(sd),
                prior_mean=p.mean,
                prior_sd=p.sd,
            )
            for p, value, sd in zip(PARAMETERS, self.vector, sds, strict=True)
        )

    def assumptions(self) -> tuple[Assumption, ...]:
        """Return the spreads between trials, which are partly judgements."""
        return tuple(
            Assumption(
                name=f"spread: {s.meaning}",
                value=f"{self.spreads[s.name]:.3f}",
                source=f"estimated with prior {s.guess:g} times or divided by {math.exp(SPREAD_SD):.2f} ({s.source})",
                confidence="low",
                provisional=True,
            )
            for s in SPREADS
        )


def natural(vector: Float[np.ndarray, " parameter"]) -> dict[str, float]:
    """Return parameters as the model uses them, by name."""
    return {p.name: p.natural(float(value)) for p, value in zip(PARAMETERS, vector, strict=True)}


def prior() -> tuple[Float[np.ndarray, " parameter"], Float[np.ndarray, " parameter"]]:
    """Return means and SDs of the priors."""
    return np.array([p.mean for p in PARAMETERS]), np.array([p.sd for p in PARAMETERS])


def read_calibration(text: str, *, where: str) -> Calibration:
    """Read a calibration.

    Raises
    ------
    ConfigError
        If it is none, or of another version.
    """
    try:
        return Calibration.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(
            f"not a calibration of this version: {error.errors()[0]['msg']}",
            where=where,
            do="make one with: trialtwin replay --calibrate --readouts FILE",
        ) from error


@cache
def shipped_calibration() -> Calibration:
    """Return the calibration that ships.

    Examples
    --------
    >>> round(shipped_calibration().natural()["kz"], 1)
    0.3
    """
    text = files("trialtwin.study.replay").joinpath("calibrated.json").read_text(encoding="utf-8")
    return read_calibration(text, where="calibrated.json")


def spreads_of(values: Mapping[str, float]) -> Float[np.ndarray, " spread"]:
    """Return spreads in the order of the program."""
    return np.array([values[s.name] for s in SPREADS])
