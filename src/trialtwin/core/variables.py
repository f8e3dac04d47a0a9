"""What a measured quantity is: its name, unit, kind, plausible range, and the concept that a model knows it by."""

from dataclasses import dataclass
from enum import StrEnum

from trialtwin.core.errors import ConfigError, MismatchError


class Kind(StrEnum):
    """Measurement level of a variable."""

    CONTINUOUS = "continuous"
    ORDINAL = "ordinal"
    BINARY = "binary"
    CATEGORICAL = "categorical"
    COUNT = "count"


@dataclass(frozen=True)
class Variable:
    """A measured quantity with its unit and the range that is physiologically plausible.

    Parameters
    ----------
    name
        Name in the data, such as ``"ACTOT"``.
    label
        Words for a table heading.
    unit
        Unit of measurement, ``""`` where there is none.
    kind
        Measurement level.
    lower, upper
        Plausible range, both ends included; ``None`` where there is no limit.
    levels
        Categories in order; codes in a cohort are positions in this tuple. For categorical variables only.
    concept
        Name by which a disease model knows it, such as ``"ADAS-Cog11"``, ``"MMSE"`` or ``"age"``.
    source
        Where values come from: data set and variable, instrument, or paper.

    Raises
    ------
    ConfigError
        If the range is empty, or levels and kind contradict each other.

    Examples
    --------
    >>> adas = Variable("ACTOT", "ADAS-Cog (11)", unit="points", lower=0.0, upper=70.0, concept="ADAS-Cog11")
    >>> adas.plausible(71.0)
    False
    """

    name: str
    label: str = ""
    unit: str = ""
    kind: Kind = Kind.CONTINUOUS
    lower: float | None = None
    upper: float | None = None
    levels: tuple[str, ...] = ()
    concept: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ConfigError(
                f"variable {self.name!r} has an empty plausible range [{self.lower}, {self.upper}]",
                do="set lower below upper",
            )
        if (self.kind is Kind.CATEGORICAL) != bool(self.levels):
            raise ConfigError(
                f"variable {self.name!r} is {self.kind} and has {len(self.levels)} levels",
                do="give levels to categorical variables, and to them only",
            )

    @property
    def title(self) -> str:
        """Label with its unit, ready for an axis."""
        words = self.label or self.name
        return f"{words} ({self.unit})" if self.unit else words

    def plausible(self, value: float) -> bool:
        """Tell whether a value lies in the plausible range."""
        above = self.lower is None or value >= self.lower
        return above and (self.upper is None or value <= self.upper)


@dataclass(frozen=True)
class Declared:
    """A covariate that a disease or a treatment knows by concept.

    With ``level``, the covariate is categorical and enters as 1 for that level and 0 for any other. A missing value
    enters as ``centre``.
    """

    concept: str
    centre: float
    level: str = ""


def position(variables: tuple[Variable, ...], name: str, *, what: str = "variable") -> int:
    """Find a variable by name, else by concept, or say which there are.

    Raises
    ------
    MismatchError
        If no variable has that name or concept.
    """
    for known in ([v.name for v in variables], [v.concept for v in variables]):
        if name and name in known:
            return known.index(name)
    raise MismatchError(f"no {what} {name!r}", exists=[variable.name for variable in variables])
