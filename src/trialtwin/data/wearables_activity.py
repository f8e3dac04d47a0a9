"""A wearable's counts and heart rate as features: daily totals, wear, rest, variability and gaps, with flags.

A day is valid with at least ten hours of wear, a series with at least four valid days (Troiano RP et al. (2008),
doi:10.1249/mss.0b013e31815a51b3). Wear is where readings come; a run of 60 minutes or more of zeros in a count is none.
"""

from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float

from trialtwin.core.errors import DataError
from trialtwin.data.wearables import Features, Series

WEAR_HOURS = 10.0
VALID_DAYS = 4
STILL_MINUTES = 60.0

COUNTS = ("valid days", "wear hours", "daily total", "SD of daily total", "CV of daily total", "longest gap hours")
PULSE = ("valid days", "wear hours", "mean", "resting", "SD", "night minus day", "longest gap hours")


def count_features(series: Series, *, interval: float) -> Features:
    """Return features of a count (steps, actigraphy): means over valid days.

    ``wear hours`` and ``daily total`` are per valid day; ``longest gap hours`` is the longest time without a reading.

    Parameters
    ----------
    interval
        Minutes between readings as the device is built.

    Raises
    ------
    DataError
        If a count is negative, or the interval is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> days = np.arange(4 * 24) / 24
    >>> found = count_features(Series(days, np.full(96, 100.0)), interval=60)
    >>> found.values["daily total"], found.flags
    (2400.0, ())
    """
    read = _checked(series, interval)
    if (read.values < 0).any():
        raise DataError(f"{int((read.values < 0).sum())} count(s) are negative", do="use NaN where there is no reading")
    worn = ~_still(read, interval)
    days, hours, valid = _days(read, worn, interval)
    if not valid.any():
        return _empty(COUNTS, read, interval)
    totals = np.bincount(days, weights=np.where(worn, read.values, 0.0), minlength=len(hours))[valid]
    mean = float(totals.mean())
    spread = float(totals.std(ddof=1)) if len(totals) > 1 else float("nan")
    found = (
        float(valid.sum()),
        float(hours[valid].mean()),
        mean,
        spread,
        100 * spread / mean if mean > 0 else float("nan"),
        _longest_gap(read),
    )
    return Features(MappingProxyType(dict(zip(COUNTS, found, strict=True))), _flags(valid, read, interval))


def pulse_features(series: Series, *, interval: float) -> Features:
    """Return features of a heart rate in beats a minute, over valid days.

    ``resting`` is the mean over days of the day's 5th percentile; ``SD`` is over all readings of valid days;
    ``night minus day`` is the mean from 00 to 06 h less that from 06 to 24 h.

    Parameters
    ----------
    interval
        Minutes between readings as the device is built.

    Raises
    ------
    DataError
        If a reading lies outside 20 to 300 beats a minute, or the interval is not positive.
    """
    read = _checked(series, interval)
    odd = (read.values < 20) | (read.values > 300)
    if odd.any():
        raise DataError(
            f"{int(odd.sum())} heart rate(s) lie outside 20 to 300 beats a minute",
            do="use NaN where there is no reading",
        )
    days, hours, valid = _days(read, np.ones(len(read.times), dtype=bool), interval)
    if not valid.any():
        return _empty(PULSE, read, interval)
    kept = valid[days]
    rate, night = read.values[kept], (read.times[kept] % 1) < 0.25
    rest = [np.percentile(read.values[days == day], 5) for day in np.flatnonzero(valid)]
    apart = rate[night].mean() - rate[~night].mean() if night.any() and (~night).any() else np.nan
    found = (
        float(valid.sum()),
        float(hours[valid].mean()),
        float(rate.mean()),
        float(np.mean(rest)),
        float(rate.std(ddof=1)),
        float(apart),
        _longest_gap(read),
    )
    return Features(MappingProxyType(dict(zip(PULSE, found, strict=True))), _flags(valid, read, interval))


def _checked(series: Series, interval: float) -> Series:
    if not interval > 0:
        raise DataError(f"an interval of {interval:g} minutes between readings", do="give minutes, such as 1")
    return series.read


def _still(read: Series, interval: float) -> Bool[np.ndarray, " reading"]:
    """Tell which readings lie in a run of zeros of an hour or more without a gap: the device lay somewhere."""
    still = np.zeros(len(read.times), dtype=bool)
    start = 0
    for i in range(1, len(read.times) + 1):
        ends = i == len(read.times) or read.values[i] != read.values[start] or _apart(read, i, interval)
        if ends:
            if read.values[start] == 0 and (i - start) * interval >= STILL_MINUTES:
                still[start:i] = True
            start = i
    return still


def _apart(read: Series, i: int, interval: float) -> bool:
    return bool(read.times[i] - read.times[i - 1] > 1.5 * interval / 1440)


def _days(
    read: Series, worn: Bool[np.ndarray, " reading"], interval: float
) -> tuple[np.ndarray, Float[np.ndarray, " day"], Bool[np.ndarray, " day"]]:
    """Return the day of each reading, counted from the first, and each day's hours of wear and whether it is valid."""
    days = np.floor(read.times).astype(int)
    days = days - days.min(initial=days[0]) if len(days) else days
    hours = np.bincount(days[worn], minlength=int(days.max(initial=-1)) + 1) * interval / 60
    return days, hours, hours >= WEAR_HOURS


def _longest_gap(read: Series) -> float:
    return float(np.diff(read.times).max() * 24) if len(read.times) > 1 else float("nan")


def _flags(valid: Bool[np.ndarray, " day"], read: Series, interval: float) -> tuple[str, ...]:
    flags = []
    if valid.sum() < VALID_DAYS:
        flags.append(f"{int(valid.sum())} valid days where {VALID_DAYS} are wanted")
    if len(read.times) > 1 and _longest_gap(read) > 24 + interval / 60:
        flags.append(f"a gap of {_longest_gap(read):.0f} hours")
    return tuple(flags)


def _empty(names: tuple[str, ...], read: Series, interval: float) -> Features:
    values = dict.fromkeys(names, float("nan")) | {"valid days": 0.0}
    return Features(MappingProxyType(values), _flags(np.zeros(0, dtype=bool), read, interval))
