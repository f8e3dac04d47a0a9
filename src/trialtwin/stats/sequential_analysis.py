r"""What a group-sequential trial says at a look: conditional and predictive power, repeated intervals and p-values.

Given z at look i of a design with boundaries u_k at fractions t_k, what is left is a group-sequential test with
information t_k − t_i and boundaries (u_k √t_k − z √t_i) / √(t_k − t_i). The repeated p-value is the smallest error with
which the design would have rejected by then; a repeated interval holds its level whenever the trial is looked at or
stopped.

Stages of an adaptive trial are combined by the inverse normal method, z = Σ w_s z_s / √(Σ w_s²), with weights fixed in
advance: √ of the planned information of each stage.

Sources: Jennison C, Turnbull BW (1989), doi:10.1111/j.2517-6161.1989.tb01433.x (repeated intervals); Lehmacher W,
Wassmer G (1999), doi:10.1111/j.0006-341X.1999.01286.x (inverse normal); Spiegelhalter DJ et al. (1986),
doi:10.1016/0197-2456(86)90003-6 (predictive power).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from trialtwin.core.errors import ConfigError, ConvergenceError
from trialtwin.stats.sequential import Looks, SequentialDesign, efficacy_boundary
from trialtwin.stats.sequential_process import crossing
from trialtwin.stats.sequential_spending import Boundary

_SMALLEST = 1e-10


def conditional_power(design: SequentialDesign, look: int, z: float, drift: float) -> Float[np.ndarray, " later"]:
    """Return the probability to reject first at each later look, given z at a look.

    Parameters
    ----------
    look
        Number of looks that were taken, from 1.
    z
        Statistic at that look.
    drift
        Mean of the last Z from now on: 0 for the null, ``z / √fraction`` for the trend seen.

    Raises
    ------
    ConfigError
        If there is no such look, or none after it.

    Examples
    --------
    >>> from trialtwin.stats.sequential import sequential_design
    >>> plan = sequential_design(np.array([0.5, 1.0]), Boundary("O'Brien-Fleming"))
    >>> round(float(conditional_power(plan, 1, 1.6, plan.drift).sum()), 3)
    0.865
    """
    if not 1 <= look < len(design.fraction):
        raise ConfigError(f"no look after look {look}", exists=[str(k + 1) for k in range(len(design.fraction) - 1)])
    now, left = design.fraction[look - 1], design.fraction[look:] - design.fraction[look - 1]

    def conditional(bound: Looks) -> Float[np.ndarray, " later"]:
        return np.asarray((bound[look:] * np.sqrt(design.fraction[look:]) - z * np.sqrt(now)) / np.sqrt(left))

    return crossing(conditional(design.upper), conditional(design.lower), left, drift).upper


def predictive_power(
    design: SequentialDesign,
    look: int,
    z: float,
    drifts: Float[np.ndarray, " point"],
    weights: Float[np.ndarray, " point"],
) -> float:
    """Return the power to come, averaged over what is believed of the drift given z.

    Parameters
    ----------
    drifts, weights : shape (point,)
        Prior of the mean of the last Z, as points and their probabilities.

    Raises
    ------
    ConfigError
        If weights are negative or do not add up to 1, or there is no such look.
    """
    if (weights < 0).any() or abs(weights.sum() - 1) > 1e-8:
        raise ConfigError(f"prior weights {weights.tolist()} are no probabilities")
    density = weights * np.exp(-0.5 * (z - drifts * np.sqrt(design.fraction[look - 1])) ** 2)
    posterior = density / density.sum()
    return float(posterior @ [conditional_power(design, look, z, drift).sum() for drift in drifts.tolist()])


def inverse_normal(stage_z: Float[np.ndarray, " stage"], weights: Float[np.ndarray, " stage"]) -> float:
    """Return the combined statistic of independent stages; weights are the planned information of each.

    Examples
    --------
    >>> round(inverse_normal(np.array([1.0, 2.0]), np.array([0.5, 0.5])), 4)
    2.1213
    """
    if len(stage_z) != len(weights) or (weights <= 0).any():
        raise ConfigError(f"{len(stage_z)} stages with weights {weights.tolist()}", do="give a positive weight a stage")
    root = np.sqrt(weights)
    return float(root @ stage_z / np.sqrt(weights.sum()))


def repeated_p(fraction: Looks, boundary: Boundary, look: int, z: float) -> float:
    """Return the repeated one-sided p-value: the smallest error at which the design rejects with z at a look.

    Raises
    ------
    ConfigError
        If there is no such look.
    """
    _require_look(fraction, look)

    def margin(log_alpha: float) -> float:
        return float(efficacy_boundary(fraction, boundary, float(np.exp(log_alpha)))[look - 1] - z)

    return float(np.exp(_root(margin, np.log(_SMALLEST), np.log(0.4999), "repeated p-value")))


def repeated_interval(
    design: SequentialDesign, look: int, value: float, se: float, df: float | None = None
) -> tuple[float, float]:
    """Return the repeated confidence interval of level 1 − 2α of a normal or t-distributed estimate.

    A t statistic has its boundary at the same nominal level: t_{1−p}(df), p = 1 − Φ(u).

    Raises
    ------
    ConfigError
        If there is no such look, or the standard error is not positive.
    """
    _require_look(design.fraction, look)
    if not se > 0:
        raise ConfigError(f"a standard error of {se:g}")
    level = ndtr(-design.upper[look - 1])
    half = se * float(-ndtri(level) if df is None else -stdtrit(df, level))
    return value - half, value + half


def combined_interval(
    design: SequentialDesign,
    weights: Float[np.ndarray, " stage"],
    values: Float[np.ndarray, " stage"],
    ses: Float[np.ndarray, " stage"],
    dfs: Float[np.ndarray, " stage"],
) -> tuple[float, float]:
    """Return the repeated interval of the inverse normal method, from the estimates of stages that were analysed apart.

    It holds the values δ that are rejected neither above nor below: |z(δ)| < u, z(δ) combined from the stages'
    one-sided p-values of (value − δ) / se.

    Raises
    ------
    ConvergenceError
        If an end of the interval is not found.
    """
    u = float(design.upper[len(values) - 1])

    def z(delta: float) -> float:
        t = (values - delta) / ses
        return inverse_normal(np.where(t > 0, -ndtri(stdtr(dfs, -np.abs(t))), ndtri(stdtr(dfs, -np.abs(t)))), weights)

    middle, wide = float(np.mean(values)), 50.0 * float(ses.max())
    low = _root(lambda delta: z(delta) - u, middle - wide, middle + wide, "lower end")
    high = _root(lambda delta: z(delta) + u, middle - wide, middle + wide, "upper end")
    return low, high


def _require_look(fraction: Looks, look: int) -> None:
    if not 1 <= look <= len(fraction):
        raise ConfigError(f"no look {look}", exists=[str(k + 1) for k in range(len(fraction))])


def _root(function: Callable[[float], float], low: float, high: float, what: str) -> float:
    first, last = function(low), function(high)
    if np.isnan([first, last]).any() or first * last > 0:
        raise ConvergenceError(f"no {what} between {low:g} and {high:g}")
    return float(brentq(function, low, high, xtol=1e-11, rtol=1e-12))
