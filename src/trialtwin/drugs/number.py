"""A number of a drug file: value, unit, variability, source, confidence; and its conversion to days, mg and litres."""

import math
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from trialtwin.core.finding import Assumption

_PER_DAY = {"1/s": 86400.0, "1/min": 1440.0, "1/h": 24.0, "1/d": 1.0, "1/wk": 1 / 7, "1/yr": 1 / 365.25}
_TIME = {"min": 1 / 1440, "h": 1 / 24, "d": 1.0, "wk": 7.0, "yr": 365.25}
_VOLUME = {"mL": 1e-3, "L": 1.0}
# factor to the unit in which trialtwin computes: L/day, L, 1/day, day, mg/L (= µg/mL), 1
UNITS: dict[str, dict[str, float]] = {
    "clearance": {f"{v}/{t}": _VOLUME[v] / _TIME[t] for v in _VOLUME for t in ("min", "h", "d")},
    "volume": _VOLUME,
    "rate": _PER_DAY,
    "time": _TIME,
    "concentration": {"µg/mL": 1.0, "mg/L": 1.0, "ng/mL": 1e-3, "µg/L": 1e-3, "U/L": 1.0, "mU/L": 1e-3},
    "dose rate": {"mg/d": 1.0, "U/d": 1.0},
    "molar": {"nmol/L": 1.0, "pmol/L": 1e-3, "µmol/L": 1e3},
    "binding": {"1/(nM h)": 24.0, "1/(pM h)": 24e3, "1/(nM d)": 1.0, "1/(nM s)": 86400.0},
    "molar mass": {"g/mol": 1.0, "kg/mol": 1e3},
    "weeks": {"wk": 7.0},
    "none": {"": 1.0},
}

DRIVERS = ("concentration", "dose rate", "none")


class Fact(BaseModel):
    """Where a number comes from and how far it can be trusted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="a key of [sources]")
    confidence: Literal["high", "medium", "low"]
    provisional: bool = Field(default=False, description="recalled or assumed, not read in the source")


class Number(Fact):
    """A number with its unit and its variability between patients.

    The variability is lognormal: ``omega`` is the standard deviation of the logarithm, ``cv`` the coefficient of
    variation, ω² = ln(1 + cv²). The value is the median over patients, unless ``average``. ``low`` and ``high`` are a
    95 % interval of the number itself, for the reader.

    Examples
    --------
    >>> number = Number(value=0.0154, unit="L/h", cv=0.349, source="majid", confidence="high")
    >>> round(number.spread, 3), round(number.internal("clearance"), 4)
    (0.339, 0.3696)
    """

    value: FiniteFloat
    unit: str = ""
    omega: float | None = Field(default=None, ge=0, le=3)
    cv: float | None = Field(default=None, ge=0, le=5)
    average: bool = Field(default=False, description="the value is the mean over patients, not the median")
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None

    @model_validator(mode="after")
    def _once(self) -> Self:
        if self.omega is not None and self.cv is not None:
            raise ValueError("give omega or cv, not both")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value:g} lies outside its own interval ({self.low:g}, {self.high:g})")
        return self

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithm between patients; 0 where none is given."""
        return self.omega if self.omega is not None else math.sqrt(math.log1p((self.cv or 0.0) ** 2))

    def internal(self, dimension: str) -> float:
        """Return the value in days, mg, litres."""
        return self.value * UNITS[dimension][self.unit]

    @property
    def median_factor(self) -> float:
        """Median over patients divided by the value: 1, or e^(−ω²/2) where the value is the mean."""
        return math.exp(-(self.spread**2) / 2) if self.average else 1.0

    def words(self) -> str:
        """Return the value with its interval and its variability."""
        text = f"{self.value:g}"
        text += f" ({self.low:g} to {self.high:g})" if self.low is not None and self.high is not None else ""
        text += " on average" if self.average and self.spread else ""
        return text + (f", SD of its log between patients {self.spread:.2f}" if self.spread else "")

    def assumption(self, name: str, sources: dict[str, str]) -> Assumption:
        """Return it as a line for a report."""
        return Assumption(
            name=name,
            value=self.words(),
            unit=self.unit,
            source=sources[self.source],
            confidence=self.confidence,
            provisional=self.provisional,
        )


def within(
    dimension: str | None, low: float = -math.inf, high: float = math.inf, *, open_low: bool = True
) -> Callable[[Number], Number]:
    """Return a check that a number has a unit of this dimension and lies in a range.

    Parameters
    ----------
    dimension
        A key of ``UNITS``; ``None`` where the unit is the disease's and is shown as it is written.
    low, high
        Range in the unit that is written.
    open_low
        Whether the lower end itself is refused.
    """

    def check(number: Number) -> Number:
        if dimension is not None and number.unit not in UNITS[dimension]:
            units = ", ".join(repr(unit) for unit in UNITS[dimension])
            raise ValueError(f"unit {number.unit!r} is no unit of {dimension}; there are: {units}")
        above = number.value > low if open_low else number.value >= low
        if not (above and number.value <= high):
            raise ValueError(
                f"{number.value:g} {number.unit}".rstrip()
                + f" lies outside {'(' if open_low else '['}{low:g}, {high:g}{']' if math.isfinite(high) else ')'}"
            )
        return number

    return check


def _driver(number: Number) -> Number:
    """Check a number that is compared with what drives an effect: a concentration, a dose rate, or a share."""
    units = [unit for kind in DRIVERS for unit in UNITS[kind]]
    if number.unit not in units:
        raise ValueError(f"unit {number.unit!r} is no unit of a driver; there are: {', '.join(map(repr, units))}")
    if not number.value > 0:
        raise ValueError(f"{number.value:g} {number.unit}".rstrip() + " is not above zero")
    return number


# what a parameter may be; the ranges refuse what no drug has
type Clearance = Annotated[Number, AfterValidator(within("clearance", 0.0, 1e5))]
type Volume = Annotated[Number, AfterValidator(within("volume", 0.0, 1e6))]
type Rate = Annotated[Number, AfterValidator(within("rate", 0.0, 1e6))]
type Span = Annotated[Number, AfterValidator(within("time", 0.0, 1e5))]
type Concentration = Annotated[Number, AfterValidator(within("concentration", 0.0, 1e7))]
type Molar = Annotated[Number, AfterValidator(within("molar", 0.0, 1e7))]
type Binding = Annotated[Number, AfterValidator(within("binding", 0.0, 1e6))]
type MolarMass = Annotated[Number, AfterValidator(within("molar mass", 0.0, 1e7))]
type Share = Annotated[Number, AfterValidator(within("none", 0.0, 1.0))]
type Hill = Annotated[Number, AfterValidator(within("none", 0.0, 10.0))]
type Positive = Annotated[Number, AfterValidator(within("none", 0.0))]
type Plain = Annotated[Number, AfterValidator(within("none", open_low=False))]
type Driver = Annotated[Number, AfterValidator(_driver)]
type Size = Annotated[Number, AfterValidator(within(None, 0.0, 1e6, open_low=False))]
