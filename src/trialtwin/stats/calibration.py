"""How well forecasts agree with what happened: error, correlation, calibration line, coverage, PIT and CRPS.

Quantities with a null value worth testing are `Estimate`s; a mean error, which has none, is a `Measure`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import betaincinv, chdtrc, stdtr
from scipy.stats import binomtest

from trialtwin.core.arrays import require_finite, require_length
from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.core.estimate import Estimate
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.modelmatrix import ModelMatrix, continuous_columns, intercept, join
from trialtwin.stats.wald import critical_value, require_level


@dataclass(frozen=True)
class Measure:
    """A quantity with standard error and interval, where no null value is worth a test."""

    name: str
    value: float
    se: float
    lower: float
    upper: float
    n: int
    level: float
    method: str
    unit: str = ""


@dataclass(frozen=True)
class CalibrationLine:
    """Observed = intercept + slope × predicted.

    Each is tested against its value under perfect calibration: intercept 0, slope 1, mean difference
    (observed − predicted, "in the large") 0.
    """

    intercept: Estimate
    slope: Estimate
    in_the_large: Estimate


@dataclass(frozen=True)
class Uniformity:
    """Neyman's smooth test that PIT values are uniform on (0, 1).

    ``components`` are standard normal under uniformity. The first is positive where outcomes lie above their
    forecasts; the second where forecasts are too narrow (too many PIT values near 0 and 1), negative where too wide;
    the third and fourth see skewness and tails. ``statistic`` is the sum of their squares, χ² with ``df`` degrees.
    """

    statistic: float
    df: int
    p: float
    components: tuple[float, ...]
    n: int


def rmse(
    predicted: Float[np.ndarray, " patient"],
    observed: Float[np.ndarray, " patient"],
    *,
    level: float = 0.95,
    unit: str = "",
) -> Measure:
    """Measure the root mean squared error, √(Σ eᵢ² / n).

    The standard error is by the delta method, sd(e²) / (2 RMSE √n); the interval is symmetric for log RMSE, so that
    it stays positive. It describes the sampling of patients, with the forecasts taken as given.

    Raises
    ------
    DataError
        If lengths differ, a value is not finite, or there are fewer than two patients.
    FitError
        If every forecast equals its observation.

    Examples
    --------
    >>> round(rmse(np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 2.0])).value, 3)
    1.291
    """
    squares = (_paired(predicted, observed, least=2)) ** 2
    value = float(np.sqrt(squares.mean()))
    if value == 0:
        raise FitError(
            "every forecast equals its observation: the error is zero",
            do="check that the outcome is not among the predictors",
        )
    n = len(squares)
    se = float(squares.std(ddof=1) / (2 * value * np.sqrt(n)))
    factor = float(np.exp(critical_value(level) * se / value))
    return Measure("RMSE", value, se, value / factor, value * factor, n, level, "delta method, log scale", unit)


def correlation(
    first: Float[np.ndarray, " row"],
    second: Float[np.ndarray, " row"],
    *,
    given: ModelMatrix | None = None,
    label: str = "correlation",
    level: float = 0.95,
) -> Estimate:
    """Estimate Pearson's correlation, or the partial correlation given the columns of a model with an intercept.

    Interval by Fisher's z, tanh(atanh r ± z / √(n − 3 − k)) with k columns given besides the intercept; the p-value
    is exact for normal data, t = r √(df / (1 − r²)) with df = n − 2 − k, as in R's ``cor.test``; the standard error is
    √((1 − r²) / df).

    Raises
    ------
    DataError
        If lengths differ or a value is not finite.
    FitError
        If a variable is constant, or explained by ``given``, the two are proportional, or n ≤ k + 3.

    Examples
    --------
    >>> r = correlation(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([1.0, 3.0, 2.0, 5.0, 4.0]))
    >>> round(r.value, 3), round(r.p, 4)
    (0.8, 0.1041)
    """
    require_level(level)
    require_length("the second variable", second, len(first))
    design = intercept(len(first)) if given is None else given
    n, k = len(first), len(design.names) - 1
    if n <= k + 3:
        raise FitError(f"no interval for {label!r}: {n} patients, {k + 4} are needed")
    a = least_squares(design, first, name="the first variable").residuals
    b = least_squares(design, second, name="the second variable").residuals
    r = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    if 1 - abs(r) < 1e-12:
        raise FitError(f"no interval for {label!r}: the two variables are proportional", do="drop one of them")
    df = n - 2 - k
    se = float(np.sqrt((1 - r**2) / df))
    half = critical_value(level) / np.sqrt(n - 3 - k)
    return Estimate(
        contrast=label,
        value=r,
        se=se,
        lower=min(r, float(np.tanh(np.arctanh(r) - half))),
        upper=max(r, float(np.tanh(np.arctanh(r) + half))),
        statistic=r / se,
        p=min(1.0, 2 * float(stdtr(df, -abs(r / se)))),
        df=float(df),
        n=n,
        level=level,
        method="Pearson correlation" if k == 0 else "partial correlation",
        variance="Fisher z",
    )


def calibration_line(
    predicted: Float[np.ndarray, " patient"],
    observed: Float[np.ndarray, " patient"],
    *,
    variance: str = "HC3",
    level: float = 0.95,
    unit: str = "",
) -> CalibrationLine:
    """Regress what was observed on what was predicted (Cox's calibration line).

    The variance is robust by default, because the spread of outcomes commonly grows with the forecast.

    Raises
    ------
    DataError
        If lengths differ or a value is not finite.
    FitError
        If the forecast is the same for all patients.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> round(calibration_line(x, 2 * x + np.array([0.1, -0.1, 0.0, -0.1, 0.1])).slope.value, 6)
    2.0
    """
    difference = _paired(predicted, observed, least=3)
    n = len(observed)
    fit = least_squares(join(intercept(n), continuous_columns({"predicted": predicted})), observed, name="the outcome")
    shift = least_squares(intercept(n), difference, name="observed − predicted")
    method = "calibration line"
    return CalibrationLine(
        fit.estimate(
            {"(Intercept)": 1.0}, "calibration intercept", variance=variance, level=level, method=method, unit=unit
        ),
        fit.estimate({"predicted": 1.0}, "calibration slope", variance=variance, level=level, null=1.0, method=method),
        shift.estimate({"(Intercept)": 1.0}, "observed − predicted", level=level, method="mean", unit=unit),
    )


def coverage(
    lower: Float[np.ndarray, " patient"],
    upper: Float[np.ndarray, " patient"],
    observed: Float[np.ndarray, " patient"],
    nominal: float,
    *,
    level: float = 0.95,
) -> Estimate:
    """Estimate the share of patients whose outcome fell inside its prediction interval, ends included.

    Interval by Clopper and Pearson (doi:10.1093/biomet/26.4.404), exact and so never too short; the p-value is the
    exact two-sided binomial one against ``nominal`` (outcomes no more probable than the one seen, as in R's
    ``binom.test``); the statistic is the score z. Patients must be independent: one interval each.

    Raises
    ------
    ConfigError
        If ``nominal`` or ``level`` is not between 0 and 1.
    DataError
        If lengths differ, a value is not finite, or an upper end lies below its lower end.

    Examples
    --------
    >>> share = coverage(np.zeros(4), np.ones(4), np.array([0.5, 0.2, 0.9, 1.5]), 0.9)
    >>> share.value, round(share.lower, 4), round(share.upper, 4)
    (0.75, 0.1941, 0.9937)
    """
    require_level(level)
    if not 0 < nominal < 1:
        raise ConfigError(f"nominal coverage {nominal:g} is not between 0 and 1")
    _paired(lower, observed, least=1)
    _paired(upper, observed, least=1)
    if (upper < lower).any():
        raise DataError(f"{int((upper < lower).sum())} prediction interval(s) end below their start")
    inside: Bool[np.ndarray, " patient"] = (lower <= observed) & (observed <= upper)
    n, hits = len(inside), int(inside.sum())
    share, tail = hits / n, (1 - level) / 2
    return Estimate(
        contrast=f"coverage of {nominal:.0%} intervals",
        value=share,
        se=float(np.sqrt(share * (1 - share) / n)),
        lower=float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0,
        upper=float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0,
        statistic=float((share - nominal) / np.sqrt(nominal * (1 - nominal) / n)),
        p=float(binomtest(hits, n, nominal).pvalue),
        n=n,
        level=level,
        method="exact binomial",
        variance="Clopper–Pearson",
    )


def pit(
    draws: Float[np.ndarray, "draw patient"], observed: Float[np.ndarray, " patient"], *, seed: int | None = None
) -> Float[np.ndarray, " patient"]:
    """Return each patient's probability integral transform: where the outcome falls among its m draws.

    With b draws below and t equal to the outcome, u = (b + v (t + 1)) / (m + 1). With a seed, v is uniform on (0, 1)
    and u is exactly uniform where outcome and draws come from one distribution: use this for tests. Without, v = ½
    (mid-rank): the same for everybody who looks, for figures; it is uniform on m + 1 points.

    Raises
    ------
    DataError
        If shapes differ or a value is not finite.

    Examples
    --------
    >>> pit(np.array([[1.0], [2.0], [3.0]]), np.array([2.5])).tolist()
    [0.625]
    """
    _require_draws(draws, observed, least=1)
    below = (draws < observed).sum(axis=0)
    equal = (draws == observed).sum(axis=0)
    place = 0.5 if seed is None else np.random.default_rng(seed).uniform(size=len(observed))
    return (below + place * (equal + 1)) / (len(draws) + 1)


def uniformity(values: Float[np.ndarray, " patient"], *, components: int = 4) -> Uniformity:
    """Test that PIT values are uniform by Neyman's smooth test.

    Component k is n^(−½) Σ √(2k + 1) P_k(2uᵢ − 1) with Legendre polynomials P_k (Neyman 1937,
    doi:10.1080/03461238.1937.10404821). It is more powerful against a wrong centre or spread than Kolmogorov's
    test, and its components say which of the two is wrong. The χ² law is asymptotic.

    Raises
    ------
    DataError
        If a value lies outside [0, 1], or there are fewer than ten.
    ConfigError
        If ``components`` is not between 1 and 8.

    Examples
    --------
    >>> test = uniformity((np.arange(100) + 0.5) / 100)
    >>> test.p > 0.99, test.df
    (True, 4)
    """
    if not 1 <= components <= 8:
        raise ConfigError(f"{components} components", do="give between 1 and 8; 4 see centre, spread, skew and tails")
    require_finite("PIT", values)
    n = len(values)
    if n < 10:
        raise DataError(f"{n} PIT value(s) are too few for a test of uniformity", do="give at least 10")
    if values.min() < 0 or values.max() > 1:
        raise DataError(f"PIT values from {values.min():g} to {values.max():g}", do="they are between 0 and 1")
    polynomials = np.polynomial.legendre.legvander(2 * values - 1, components)[:, 1:]
    scores = polynomials.sum(axis=0) * np.sqrt(2 * np.arange(1, components + 1) + 1) / np.sqrt(n)
    statistic = float(scores @ scores)
    return Uniformity(statistic, components, float(chdtrc(components, statistic)), tuple(map(float, scores)), n)


def crps(
    draws: Float[np.ndarray, "draw patient"], observed: Float[np.ndarray, " patient"]
) -> Float[np.ndarray, " patient"]:
    """Return each patient's continuous ranked probability score, in the unit of the outcome; smaller is better.

    The fair estimator from m draws, mean |xᵢ − y| − Σ_{i<j} |xᵢ − xⱼ| / (m(m − 1)), is unbiased for the score of the
    distribution that the draws come from (Ferro 2014, doi:10.1002/qj.2270). Sorting gives the second term in
    O(m log m): Σ_{i<j} |xᵢ − xⱼ| = Σ (2i − m − 1) x₍ᵢ₎.

    Raises
    ------
    DataError
        If shapes differ, a value is not finite, or there are fewer than two draws.

    Examples
    --------
    >>> crps(np.array([[0.0], [2.0]]), np.array([1.0])).tolist()
    [0.0]
    """
    _require_draws(draws, observed, least=2)
    m = len(draws)
    # Draws about the outcome keep the sums small beside the differences.
    ordered = np.sort(draws - observed, axis=0)
    spread = (2 * np.arange(1, m + 1) - m - 1) @ ordered
    return np.abs(ordered).mean(axis=0) - spread / (m * (m - 1))


def _paired(
    predicted: Float[np.ndarray, " patient"], observed: Float[np.ndarray, " patient"], *, least: int
) -> Float[np.ndarray, " patient"]:
    """Check a forecast against what happened and return observed − predicted."""
    require_length("the observations", observed, len(predicted))
    require_finite("the forecast", predicted)
    require_finite("the observations", observed)
    if len(observed) < least:
        raise DataError(f"{len(observed)} patient(s), at least {least} are needed")
    return observed - predicted


def _require_draws(
    draws: Float[np.ndarray, "draw patient"], observed: Float[np.ndarray, " patient"], *, least: int
) -> None:
    """Check draws against what happened."""
    if draws.shape[1] != len(observed):
        raise DataError(f"draws of {draws.shape[1]} patients beside {len(observed)} observations")
    require_finite("draws", draws)
    require_finite("the observations", observed)
    if len(draws) < least:
        raise DataError(f"{len(draws)} draw(s) a patient, at least {least} are needed")
