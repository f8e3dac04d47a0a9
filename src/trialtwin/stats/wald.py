"""From a value and its standard error to an `Estimate`: statistic, p-value and interval."""

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from trialtwin.core.errors import ConfigError, FitError
from trialtwin.core.estimate import Estimand, Estimate


def require_level(level: float) -> None:
    """Refuse a confidence level that is not inside (0, 1).

    Raises
    ------
    ConfigError
        With the level that was given.
    """
    if not 0 < level < 1:
        raise ConfigError(f"confidence level {level:g} is not between 0 and 1", do="give 0.95 for a 95 % interval")


def critical_value(level: float, df: float | None = None) -> float:
    """Return the two-sided critical value of the t distribution, or of the normal one where ``df`` is ``None``.

    Examples
    --------
    >>> round(critical_value(0.95), 4), round(critical_value(0.95, df=10.0), 4)
    (1.96, 2.2281)
    """
    require_level(level)
    upper = 0.5 + level / 2
    return float(ndtri(upper) if df is None else stdtrit(df, upper))


def wald_estimate(
    value: float,
    se: float,
    *,
    contrast: str,
    n: int,
    method: str,
    variance: str,
    df: float | None = None,
    null: float = 0.0,
    level: float = 0.95,
    unit: str = "",
    estimand: Estimand | None = None,
) -> Estimate:
    """Build an estimate whose statistic, (value − null) / se, has a t or a normal distribution under the null value.

    The p-value is two-sided; the interval is value ± critical value × se.

    Raises
    ------
    FitError
        If the standard error is not a positive number, or there are no degrees of freedom.
    ConfigError
        If the level is not between 0 and 1.

    Examples
    --------
    >>> wald_estimate(1.0, 0.5, contrast="A − B", n=20, method="z test", variance="known").p < 0.05
    True
    """
    if not (np.isfinite(value) and np.isfinite(se) and se > 0):
        raise FitError(
            f"no inference for {contrast!r}: estimate {value:g} with standard error {se:g}",
            do="check that the endpoint varies within the arms",
        )
    if df is not None and not df > 0:
        raise FitError(f"no inference for {contrast!r}: {df:g} degrees of freedom", do="use fewer terms")
    statistic = (value - null) / se
    half = critical_value(level, df) * se
    tail = ndtr(-abs(statistic)) if df is None else stdtr(df, -abs(statistic))
    return Estimate(
        contrast=contrast,
        value=float(value),
        se=float(se),
        lower=float(value - half),
        upper=float(value + half),
        statistic=float(statistic),
        p=min(1.0, 2 * float(tail)),
        df=None if df is None else float(df),
        n=n,
        level=level,
        method=method,
        variance=variance,
        unit=unit,
        estimand=estimand,
    )
