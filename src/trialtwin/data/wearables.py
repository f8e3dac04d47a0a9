"""A continuous glucose monitor's readings as features, with flags of quality, by the international consensus.

Features are computed from readings at whatever times they came. A day of 14 wanted, and 70 % of the readings that the
sensor's interval allows, are what the consensus asks for; a series with less keeps its features and is flagged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float

from trialtwin.core.arrays import owned
from trialtwin.core.errors import DataError
from trialtwin.data.omics import FeatureMatrix

MGDL_PER_MMOLL = 18.016
"""Molar mass of glucose over 10."""

WANTED_DAYS = 14.0
WANTED_SHARE = 0.7
LOWEST, HIGHEST = 10.0, 1000.0
"""Readings outside are no glucose in mg/dL; sensors report 40 to 500."""

UNITS = {"mg/dL": 1.0, "mmol/L": MGDL_PER_MMOLL}


@dataclass(frozen=True, eq=False)
class Series:
    """One person's readings of a sensor.

    Parameters
    ----------
    times : shape (reading,), days
        When, since baseline or any midnight: whole numbers are midnights. Increasing.
    values : shape (reading,)
        What was read; NaN where the sensor gave none.
    """

    times: Float[np.ndarray, " reading"]
    values: Float[np.ndarray, " reading"]

    def __post_init__(self) -> None:
        if self.times.shape != self.values.shape:
            raise DataError(f"{len(self.times)} times for {len(self.values)} readings")
        if not np.isfinite(self.times).all() or (np.diff(self.times) <= 0).any():
            raise DataError(
                "times of readings are not finite and increasing",
                do="sort the readings, and drop all but one of those at the same time",
            )
        if np.isinf(self.values).any():
            raise DataError("a reading is infinite", do="use NaN where there is none")
        object.__setattr__(self, "times", owned(self.times))
        object.__setattr__(self, "values", owned(self.values))

    @property
    def read(self) -> "Series":
        """The same without the readings that are missing."""
        there = np.isfinite(self.values)
        return Series(self.times[there], self.values[there])


@dataclass(frozen=True)
class Features:
    """Features of a series by name (NaN where they cannot be told), and what is wrong with it, in words."""

    values: Mapping[str, float]
    flags: tuple[str, ...]


def glucose_features(series: Series, *, unit: str, interval: float) -> Features:
    """Return the consensus metrics of continuous glucose monitoring, and flags.

    Shares of readings: ``time in range`` 70–180 mg/dL both included, ``below 70``, ``below 54``, ``above 180``,
    ``above 250`` (each of the wider includes the narrower), ``nights below 70`` (share of nights, 00–06 h, with at
    least two readings in a row below 70). ``mean``, ``SD`` (n − 1) and ``MAGE`` in mg/dL; ``CV`` in %;
    GMI = 3.31 + 0.02392 mean, in %; LBGI and HBGI are means of 10 f² over all readings, f < 0 and f > 0, with
    f = 1.509 (ln(g)^1.084 − 5.381).

    Parameters
    ----------
    unit
        ``"mg/dL"`` or ``"mmol/L"``.
    interval
        Minutes between readings as the sensor is built, such as 5 or 15.

    Raises
    ------
    DataError
        If the unit is unknown, the interval is not positive, or a reading cannot be glucose in that unit.

    References
    ----------
    Battelino T et al. (2019), doi:10.2337/dci19-0028; Bergenstal RM et al. (2018), doi:10.2337/dc18-1581; Kovatchev BP
    et al. (1997), doi:10.2337/diacare.20.11.1655; Service FJ et al. (1970), doi:10.2337/diab.19.9.644.

    Examples
    --------
    >>> import numpy as np
    >>> day = Series(np.arange(96) / 96, np.tile([100.0, 200.0], 48))
    >>> found = glucose_features(day, unit="mg/dL", interval=15)
    >>> found.values["time in range"], found.values["mean"]
    (0.5, 150.0)
    >>> found.flags
    ('1.0 days where 14 are wanted',)
    """
    if unit not in UNITS:
        raise DataError(f"no unit of glucose {unit!r}", exists=UNITS)
    if not interval > 0:
        raise DataError(f"an interval of {interval:g} minutes between readings", do="give minutes, such as 5 or 15")
    read = series.read
    glucose = read.values * UNITS[unit]
    odd = (glucose < LOWEST) | (glucose > HIGHEST)
    if odd.any():
        raise DataError(
            f"{int(odd.sum())} reading(s) cannot be glucose in {unit}, from {read.values.min():g} "
            f"to {read.values.max():g}",
            do="look whether the unit is the other one, and for codes such as 'Lo' and 'Hi'",
        )
    flags = _sufficiency(read.times, interval)
    if len(glucose) < 2:
        return Features(MappingProxyType(dict.fromkeys(GLUCOSE, np.nan)), flags)
    return Features(MappingProxyType(_metrics(read.times, glucose, interval)), flags)


def _metrics(
    times: Float[np.ndarray, " reading"], glucose: Float[np.ndarray, " reading"], interval: float
) -> dict[str, float]:
    """Return the metrics by name, of readings in mg/dL."""
    mean, sd = float(glucose.mean()), float(glucose.std(ddof=1))
    scaled = 1.509 * (np.log(glucose) ** 1.084 - 5.381)
    found = (
        float(((glucose >= 70) & (glucose <= 180)).mean()),
        float((glucose < 70).mean()),
        float((glucose < 54).mean()),
        float((glucose > 180).mean()),
        float((glucose > 250).mean()),
        mean,
        sd,
        100 * sd / mean,
        3.31 + 0.02392 * mean,
        excursions(glucose, sd),
        _nights_below(times, glucose, interval),
        float((10 * np.minimum(scaled, 0) ** 2).mean()),
        float((10 * np.maximum(scaled, 0) ** 2).mean()),
    )
    return dict(zip(GLUCOSE, found, strict=True))


GLUCOSE = (
    "time in range",
    "below 70",
    "below 54",
    "above 180",
    "above 250",
    "mean",
    "SD",
    "CV",
    "GMI",
    "MAGE",
    "nights below 70",
    "LBGI",
    "HBGI",
)


def excursions(values: Float[np.ndarray, " reading"], least: float) -> float:
    """Return the mean amplitude of excursions (MAGE): of swings between turning points larger than ``least``.

    A turning point counts once the series has gone back from it by more than ``least``, so that smaller ripples on the
    way are no swings of their own. Rises and falls count alike; NaN where there is no swing.
    """
    if len(values) == 0 or not least > 0:
        return float("nan")
    turns: list[float] = []
    low = high = float(values[0])
    rising: bool | None = None
    for value in map(float, values):
        if rising is not True:
            low = min(low, value)
        if rising is not False:
            high = max(high, value)
        if rising is not True and value - low > least:
            turns.append(low)
            rising, high = True, value
        elif rising is not False and high - value > least:
            turns.append(high)
            rising, low = False, value
    if rising is not None:
        turns.append(high if rising else low)
    return float(np.abs(np.diff(turns)).mean()) if len(turns) > 1 else float("nan")


def _sufficiency(times: Float[np.ndarray, " reading"], interval: float) -> tuple[str, ...]:
    """Say where the series falls short of 14 days and 70 % of the readings between its first and last."""
    if len(times) < 2:
        return (f"{len(times)} readings: nothing can be told",)
    step = interval / 1440
    span = float(times[-1] - times[0]) + step
    share = min(1.0, len(times) * step / span)
    flags = []
    if span < WANTED_DAYS - 0.5:
        flags.append(f"{span:.1f} days where {WANTED_DAYS:g} are wanted")
    if share < WANTED_SHARE:
        flags.append(f"{share:.0%} of readings where {WANTED_SHARE:.0%} are wanted")
    return tuple(flags)


def _nights_below(
    times: Float[np.ndarray, " reading"], glucose: Float[np.ndarray, " reading"], interval: float
) -> float:
    """Return the share of nights with readings in which two readings in a row lie below 70."""
    night = (times % 1) < 0.25
    day = np.floor(times).astype(int)
    nights = np.unique(day[night])
    low = night & (glucose < 70)
    close = np.diff(times) <= 1.5 * interval / 1440
    pair: Bool[np.ndarray, " pair"] = low[:-1] & low[1:] & close
    return float(np.isin(nights, day[1:][pair]).mean()) if len(nights) else float("nan")


def matrix_of_series(found: Mapping[str, Features], *, flagged: bool = True) -> FeatureMatrix:
    """Return the features of many people as a matrix, ready to ``attach``; without those flagged unless allowed.

    Raises
    ------
    DataError
        If there is nobody, or people have different features.
    """
    kept = {name: one for name, one in found.items() if flagged or not one.flags}
    if not kept:
        raise DataError("nobody has a series good enough for features", exists=[str(len(found)) + " people in all"])
    names = {tuple(one.values) for one in kept.values()}
    if len(names) > 1:
        raise DataError("people have different features: they come from different sensors", do="make a block of each")
    (features,) = names
    values = np.array([[one.values[name] for name in features] for one in kept.values()])
    return FeatureMatrix(tuple(kept), features, values, "wearable series")
