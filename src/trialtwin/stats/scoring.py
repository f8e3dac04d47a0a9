"""Proper scores of forecasts, one a case: from draws, from quantiles, from a normal's moments, from densities.

Smaller is better for all but the log densities, where larger is. Each is proper: nobody scores better on average by a
forecast other than what they believe (Gneiting and Raftery 2007, doi:10.1198/016214506000001437). The fair CRPS of a
forecast known by draws is `calibration.crps`.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp, ndtr

from trialtwin.core.arrays import require_finite, require_length
from trialtwin.core.errors import ConfigError, DataError, FitError

type Cases = Float[np.ndarray, " case"]
type Draws = Float[np.ndarray, "draw case"]

LOG_ROOT_TWO_PI = 0.5 * float(np.log(2 * np.pi))


def crps_ensemble(draws: Draws, observed: Cases) -> Cases:
    """Return the CRPS of the draws taken as the whole forecast: the empirical distribution with steps of 1/m.

    CRPS = mean |xᵢ − y| − Σ_{i<j} |xᵢ − xⱼ| / m². It is what an ensemble itself scores, and so larger than the fair
    score of what its members were drawn from (`calibration.crps`) by Σ_{i<j} |xᵢ − xⱼ| / (m²(m − 1)). Unit: the
    outcome's. Source: Hersbach 2000, doi:10.1175/1520-0434(2000)015<0559:DOTCRP>2.0.CO;2.

    Raises
    ------
    DataError
        If shapes differ, a value is not finite, or there are no draws.

    Examples
    --------
    >>> crps_ensemble(np.array([[0.0], [2.0]]), np.array([1.0])).tolist()
    [0.5]
    """
    _require_draws(draws, observed, least=1)
    m = len(draws)
    ordered = np.sort(draws - observed, axis=0)
    return np.abs(ordered).mean(axis=0) - (2 * np.arange(1, m + 1) - m - 1) @ ordered / m**2


def crps_normal(mean: Cases, sd: Cases, observed: Cases) -> Cases:
    """Return the CRPS of normal forecasts in closed form.

    With z = (y − μ)/σ, CRPS = σ [z (2Φ(z) − 1) + 2φ(z) − 1/√π] (Gneiting et al. 2005, doi:10.1175/MWR2904.1), in the
    unit of the outcome.

    Raises
    ------
    DataError
        If lengths differ, a value is not finite, or an SD is not above zero.

    Examples
    --------
    >>> round(float(crps_normal(np.array([0.0]), np.array([1.0]), np.array([0.0]))[0]), 6)
    0.233695
    """
    z = _standard(mean, sd, observed)
    return sd * (z * (2 * ndtr(z) - 1) + 2 * np.exp(-0.5 * z**2 - LOG_ROOT_TWO_PI) - 1 / np.sqrt(np.pi))


def crps_quantiles(
    quantiles: Float[np.ndarray, "level case"], levels: Float[np.ndarray, " level"], observed: Cases
) -> Cases:
    """Return the CRPS of the distribution whose quantile function is the straight lines between the quantiles given.

    CRPS = 2 ∫₀¹ ρ_τ(y − q(τ)) dτ with the pinball loss ρ, integrated without error over each line; below the first
    level and above the last the quantile function is flat. Unit: the outcome's. Source: Laio and Tamea 2007,
    doi:10.5194/hess-11-1267-2007.

    Raises
    ------
    DataError
        If shapes differ, a value is not finite, or quantiles decrease.
    ConfigError
        If levels do not increase, or lie outside [0, 1].

    Examples
    --------
    The uniform distribution on (0, 1) and the outcome ½ give 1/12.

    >>> levels = np.array([0.0, 1.0])
    >>> round(float(crps_quantiles(np.array([[0.0], [1.0]]), levels, np.array([0.5]))[0]), 6)
    0.083333
    """
    _require_draws(quantiles, observed, least=1)
    require_length("levels", levels, len(quantiles))
    if not (levels.min() >= 0 and levels.max() <= 1 and (np.diff(levels) > 0).all()):
        raise ConfigError(f"quantile levels {levels.tolist()}", do="give levels that increase, within [0, 1]")
    if (np.diff(quantiles, axis=0) < 0).any():
        raise DataError("quantiles decrease as their level grows", do="sort them, and say so")
    ends = [levels[:1] * 0, levels, levels[-1:] * 0 + 1]
    tau = np.concatenate(ends)[:, None]
    q = np.concatenate([quantiles[:1], quantiles, quantiles[-1:]]) - observed
    lower, upper, low, high = tau[:-1], tau[1:], q[:-1], q[1:]
    # where the line crosses the outcome, as a share of its length: up to there q − y is negative
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = np.where(high > low, np.clip(-low / (high - low), 0.0, 1.0), (high <= 0).astype(float))
    middle, at = lower + cross * (upper - lower), low + cross * (high - low)
    # below the outcome the loss is −τ q, above it (1 − τ) q; both are products of two lines
    below = _line_product(lower, middle, low, at)
    above = _line_product(1 - middle, 1 - upper, at, high, length=upper - middle)
    return 2 * (above - below).sum(axis=0)


def _line_product(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, *, length: np.ndarray | None = None
) -> np.ndarray:
    """Integrate the product of a line from a to b and one from c to d over an interval, of length b − a by default."""
    span = b - a if length is None else length
    return span * (2 * a * c + 2 * b * d + a * d + b * c) / 6


def pinball(quantile: Cases, level: float, observed: Cases) -> Cases:
    """Return the quantile (pinball) score, (1{y < q} − τ)(q − y), in the unit of the outcome.

    Raises
    ------
    ConfigError
        If the level is not between 0 and 1.
    DataError
        If lengths differ or a value is not finite.

    Examples
    --------
    >>> pinball(np.array([1.0, 1.0]), 0.9, np.array([2.0, 0.0])).round(12).tolist()
    [0.9, 0.1]
    """
    _require_share("level", level)
    _require_cases(observed, quantile=quantile)
    return ((observed < quantile) - level) * (quantile - observed)


def interval_score(lower: Cases, upper: Cases, level: float, observed: Cases) -> Cases:
    """Return the interval score: width plus 2/α times what the outcome misses by, α = 1 − level.

    Unit: the outcome's. Source: Gneiting and Raftery 2007, doi:10.1198/016214506000001437, equation 43.

    Raises
    ------
    ConfigError
        If the level is not between 0 and 1.
    DataError
        If lengths differ, a value is not finite, or an interval ends below its start.

    Examples
    --------
    >>> interval_score(np.zeros(3), np.ones(3), 0.8, np.array([0.5, 1.5, -0.1])).round(12).tolist()
    [1.0, 6.0, 2.0]
    """
    _require_share("level", level)
    _require_cases(observed, lower=lower, upper=upper)
    if (upper < lower).any():
        raise DataError(f"{int((upper < lower).sum())} prediction interval(s) end below their start")
    miss = np.maximum(lower - observed, 0) + np.maximum(observed - upper, 0)
    return upper - lower + 2 / (1 - level) * miss


def log_density_normal(mean: Cases, sd: Cases, observed: Cases) -> Cases:
    """Return the log density of each outcome under a normal forecast; larger is better.

    Raises
    ------
    DataError
        If lengths differ, a value is not finite, or an SD is not above zero.

    Examples
    --------
    >>> round(float(log_density_normal(np.array([0.0]), np.array([1.0]), np.array([0.0]))[0]), 6)
    -0.918939
    """
    z = _standard(mean, sd, observed)
    return -0.5 * z**2 - np.log(sd) - LOG_ROOT_TWO_PI


def log_density_moments(draws: Draws, observed: Cases) -> Cases:
    """Return the log density of each outcome under the normal with its draws' mean and SD; larger is better.

    The score of the first two moments (Dawid and Sebastiani 1999, doi:10.1214/aos/1018031101, in the form of a log
    density): proper for mean and SD, blind to everything else.

    Raises
    ------
    DataError
        If shapes differ, a value is not finite, or there are fewer than two draws.
    FitError
        If all draws of a case are equal: a forecast without spread has no density.

    Examples
    --------
    >>> round(float(log_density_moments(np.array([[-1.0], [0.0], [1.0]]), np.array([0.0]))[0]), 6)
    -0.918939
    """
    _require_draws(draws, observed, least=2)
    return log_density_normal(draws.mean(axis=0), _spread(draws), observed)


def log_density_kernel(draws: Draws, observed: Cases, *, least: Cases | float = 0.0) -> Cases:
    """Return the log density of each outcome under a Gaussian kernel estimate from its draws; larger is better.

    Bandwidth by Silverman's rule of thumb, 0.9 min(SD, IQR/1.34) m^(−1/5) (1986, ISBN 978-0-412-24620-3, equation
    3.31), of the SD alone where more than half of the draws are equal. It sees skewness and several peaks, and needs
    draws: with a few hundred the log density of a normal's centre is off by a few hundredths, and far outside the
    draws it falls as the kernel does.

    Parameters
    ----------
    least
        The narrowest bandwidth, in the unit of the outcome: of outcomes that move in steps, so that a step on which
        many draws lie is no point of endless density.

    Raises
    ------
    DataError
        If shapes differ, a value is not finite, or there are fewer than ten draws.
    FitError
        If all draws of a case are equal, and there is no narrowest bandwidth.

    Examples
    --------
    >>> draws = np.random.default_rng(0).normal(size=(4000, 1))
    >>> round(float(log_density_kernel(draws, np.array([0.0]))[0]), 2)
    -0.99
    """
    _require_draws(draws, observed, least=10)
    sd = draws.std(axis=0, ddof=1) if np.all(np.asarray(least) > 0) else _spread(draws)
    low, high = np.quantile(draws, [0.25, 0.75], axis=0)
    robust = (high - low) / 1.34
    width = 0.9 * np.where(robust > 0, np.minimum(sd, robust), sd) * len(draws) ** -0.2
    width = np.maximum(width, least)
    kernels = -0.5 * ((observed - draws) / width) ** 2
    return logsumexp(kernels, axis=0) - np.log(len(draws)) - np.log(width) - LOG_ROOT_TWO_PI


def energy_score(
    draws: Float[np.ndarray, "draw case dimension"], observed: Float[np.ndarray, "case dimension"]
) -> Cases:
    """Return the energy score of joint forecasts: the CRPS for several quantities, or several times, at once.

    The fair estimator from m draws, mean ‖xᵢ − y‖ − Σ_{i<j} ‖xᵢ − xⱼ‖ / (m(m − 1)). Bring the quantities to a common
    scale first: the norm is Euclidean. O(m²) a case. Source: Gneiting and Raftery 2007,
    doi:10.1198/016214506000001437, equation 22.

    Raises
    ------
    DataError
        If shapes differ, a value is not finite, or there are fewer than two draws.

    Examples
    --------
    >>> energy_score(np.array([[[0.0, 0.0]], [[6.0, 8.0]]]), np.array([[3.0, 4.0]])).tolist()
    [0.0]
    """
    if draws.shape[1:] != observed.shape:
        raise DataError(f"draws of shape {draws.shape} beside observations of shape {observed.shape}")
    require_finite("draws", draws)
    require_finite("the observations", observed)
    m = len(draws)
    if m < 2:
        raise DataError(f"{m} draw(s) a case, at least 2 are needed")
    error = np.linalg.norm(draws - observed, axis=-1).mean(axis=0)
    # by lag, so that no more than one difference a draw is held at a time
    spread = sum(np.linalg.norm(draws[lag:] - draws[:-lag], axis=-1).sum(axis=0) for lag in range(1, m))
    return error - spread / (m * (m - 1))


def _standard(mean: Cases, sd: Cases, observed: Cases) -> Cases:
    _require_cases(observed, mean=mean, sd=sd)
    if len(sd) and sd.min() <= 0:
        raise DataError(f"a forecast with an SD of {sd.min():g}", do="an SD is above zero")
    return (observed - mean) / sd


def _spread(draws: Draws) -> Cases:
    """Return the SD of each case's draws, refusing cases whose draws are all the same."""
    sd = draws.std(axis=0, ddof=1)
    flat = sd <= 1e-12 * np.maximum(1.0, np.abs(draws).max(axis=0))
    if flat.any():
        raise FitError(
            f"{int(flat.sum())} forecast(s) of which all draws are equal have no density",
            where=f"first case {int(np.flatnonzero(flat)[0])}",
            do="score them by CRPS",
        )
    return sd


def _require_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{name} {value:g} is not between 0 and 1")


def _require_cases(observed: Cases, **others: Cases) -> None:
    require_finite("the observations", observed)
    for name, array in others.items():
        require_length(name, array, len(observed))
        require_finite(name, array)


def _require_draws(draws: Draws, observed: Cases, *, least: int) -> None:
    if draws.shape[1] != len(observed):
        raise DataError(f"draws of {draws.shape[1]} cases beside {len(observed)} observations")
    require_finite("draws", draws)
    require_finite("the observations", observed)
    if len(draws) < least:
        raise DataError(f"{len(draws)} draw(s) a case, at least {least} are needed")
